//! Values as `DUMP` and `RESTORE` carry them: the format of Redis's own files, with its footer.
//!
//! ```text
//! type │ value │ version u16 │ CRC-64 u64 of all before          both little-endian
//!
//! value   string  length, bytes     or an integer, or compressed
//!         list    length, strings   or packed nodes
//!         …
//! ```
//!
//! Written are the plain forms, which every Redis from version 4 on reads (streams: from 7.0 on; hashes with fields that expire: from 7.4 on). Read are also the packed ones that Redis writes for small
//! values: ziplists, listpacks, integer sets. What comes in is a stranger's, checksum or not: nothing here trusts a length.

mod stream;

use super::value::list::End;
use super::value::times::Times;
use super::value::{Hash, List, Set, Value, Zset};
use super::{Entry, ValueRef};
use crate::id::UnixMs;
use crate::limits::{BULK_BYTES_MAX, FIELD_TIME_MS_MAX};

/// Why a payload cannot be a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RdbError {
    /// It is of a newer Redis, or it is damaged.
    Footer,
    /// It is not what it says it is, or of a type that is not known.
    Format,
}

/// The format that is written: the oldest in which scores are doubles.
const VERSION_WRITTEN: u16 = 8;

/// The format of a stream: the oldest in which it knows its past.
const VERSION_WRITTEN_STREAM: u16 = 10;

/// The newest format that is read, of Redis 7.4.
const VERSION_MAX: u16 = 12;

const FOOTER_BYTES: usize = 10;

/// The format of a hash with fields that expire: the oldest that has such.
const VERSION_WRITTEN_TIMES: u16 = 12;

/// The types that are written, and read.
const STRING: u8 = 0;
const LIST: u8 = 1;
const SET: u8 = 2;
const HASH: u8 = 4;
const ZSET: u8 = 5;
/// A hash with fields that expire: the first of their times, then each field with its time from there on, 0 for none.
const HASH_TIMES: u8 = 24;
/// The types that are only read.
const ZSET_OF_TEXT: u8 = 3;
const LIST_ZIPLIST: u8 = 10;
const SET_INTEGERS: u8 = 11;
const ZSET_ZIPLIST: u8 = 12;
const HASH_ZIPLIST: u8 = 13;
const LIST_OF_ZIPLISTS: u8 = 14;
const HASH_LISTPACK: u8 = 16;
const ZSET_LISTPACK: u8 = 17;
const LIST_OF_NODES: u8 = 18;
const SET_LISTPACK: u8 = 20;
const HASH_TIMES_LISTPACK: u8 = 25;

/// The value of `entry` as a payload.
pub fn encode(entry: &Entry<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match entry.value() {
        ValueRef::Str(bytes) => {
            out.push(STRING);
            put_string(bytes, &mut out);
        }
        ValueRef::Boxed(Value::Str(bytes)) => {
            out.push(STRING);
            put_string(bytes, &mut out);
        }
        ValueRef::Boxed(Value::List(list)) => {
            put_head(LIST, list.len(), &mut out);
            list.iter().for_each(|element| put_string(element, &mut out));
        }
        ValueRef::Boxed(Value::Set(set)) => {
            put_head(SET, set.len(), &mut out);
            set.iter().for_each(|member| put_string(member, &mut out));
        }
        ValueRef::Boxed(Value::Hash(hash)) if hash.times().is_some() => put_hash_with_times(hash, &mut out),
        ValueRef::Boxed(Value::Hash(hash)) => {
            put_head(HASH, hash.len(), &mut out);
            for (field, value) in hash.iter() {
                put_string(field, &mut out);
                put_string(value, &mut out);
            }
        }
        ValueRef::Boxed(Value::Stream(value)) => {
            out.push(stream::STREAM);
            stream::put(value, &mut out);
        }
        ValueRef::Boxed(Value::Zset(zset)) => {
            put_head(ZSET, zset.len(), &mut out);
            for (member, score) in zset.iter() {
                put_string(member, &mut out);
                out.extend_from_slice(&score.to_le_bytes());
            }
        }
    }
    let version = match out[0] {
        stream::STREAM => VERSION_WRITTEN_STREAM,
        HASH_TIMES => VERSION_WRITTEN_TIMES,
        _ => VERSION_WRITTEN,
    };
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&checksum(&out).to_le_bytes());
    out
}

/// The value that a payload carries.
///
/// # Errors
/// If it carries none.
pub fn decode(payload: &[u8]) -> Result<Value, RdbError> {
    let (body, footer) = payload.split_last_chunk::<FOOTER_BYTES>().ok_or(RdbError::Footer)?;
    let [v0, v1, crc @ ..] = footer;
    let is_sound = u16::from_le_bytes([*v0, *v1]) <= VERSION_MAX
        && u64::from_le_bytes(*crc) == checksum(&payload[..body.len() + size_of::<u16>()]);
    if !is_sound {
        return Err(RdbError::Footer);
    }
    let mut input = Input(body);
    let value = input.value().ok_or(RdbError::Format)?;
    let is_whole = input.0.is_empty() && (!value.is_empty() || matches!(value, Value::Str(_)));
    if is_whole { Ok(value) } else { Err(RdbError::Format) }
}

fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Redis, bytes)
}

fn put_head(kind: u8, count: usize, out: &mut Vec<u8>) {
    out.push(kind);
    put_len(count, out);
}

fn put_hash_with_times(hash: &Hash, out: &mut Vec<u8>) {
    let first = hash.times().and_then(Times::first).map_or(0, UnixMs::get);
    out.push(HASH_TIMES);
    out.extend_from_slice(&first.to_le_bytes());
    put_len(hash.len(), out);
    for (field, value) in hash.iter() {
        put_len(hash.time_of(field).map_or(0, |at| (at.get() - first) as usize + 1), out);
        put_string(field, out);
        put_string(value, out);
    }
}

fn put_string(bytes: &[u8], out: &mut Vec<u8>) {
    put_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    match len {
        0..0x40 => out.push(len as u8),
        0x40..0x4000 => out.extend_from_slice(&(len as u16 | 0x4000).to_be_bytes()),
        _ => match u32::try_from(len) {
            Ok(len) => {
                out.push(0x80);
                out.extend_from_slice(&len.to_be_bytes());
            }
            Err(_) => {
                out.push(0x81);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        },
    }
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

/// A length, or how a string is written instead.
enum Length {
    Plain(usize),
    Special(u8),
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn length(&mut self) -> Option<Length> {
        let first = self.byte()?;
        Some(match (first >> 6, first & 0x3f) {
            (0, low) => Length::Plain(low.into()),
            (1, low) => Length::Plain(usize::from(low) << 8 | usize::from(self.byte()?)),
            (2, 0) => Length::Plain(u32::from_be_bytes(self.array()?) as usize),
            (2, 1) => Length::Plain(usize::try_from(u64::from_be_bytes(self.array()?)).ok()?),
            (2, _) => return None,
            (_, special) => Length::Special(special),
        })
    }

    fn count(&mut self) -> Option<usize> {
        match self.length()? {
            Length::Plain(count) => Some(count),
            Length::Special(_) => None,
        }
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        let integer = |number: i64| itoa::Buffer::new().format(number).as_bytes().to_vec();
        Some(match self.length()? {
            Length::Plain(len) => self.take(len)?.to_vec(),
            Length::Special(0) => integer(i8::from_le_bytes(self.array()?).into()),
            Length::Special(1) => integer(i16::from_le_bytes(self.array()?).into()),
            Length::Special(2) => integer(i32::from_le_bytes(self.array()?).into()),
            Length::Special(3) => {
                let (packed, len) = (self.count()?, self.count()?);
                decompress(self.take(packed)?, len)?
            }
            Length::Special(_) => return None,
        })
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.byte()? {
            STRING => Value::Str(self.string()?.into()),
            LIST => {
                let mut list = List::new();
                for _ in 0..self.count()? {
                    list.push(End::Tail, &self.string()?);
                }
                Value::List(list)
            }
            SET => {
                let mut set = Set::new();
                for _ in 0..self.count()? {
                    set.insert(&self.string()?).then_some(())?;
                }
                Value::Set(set)
            }
            HASH => {
                let mut hash = Hash::new();
                for _ in 0..self.count()? {
                    hash.set(&self.string()?, &self.string()?).then_some(())?;
                }
                Value::Hash(hash)
            }
            kind @ (ZSET | ZSET_OF_TEXT) => {
                let mut pairs = Vec::new();
                for _ in 0..self.count()? {
                    let member = self.string()?;
                    let score = if kind == ZSET { f64::from_le_bytes(self.array()?) } else { self.score_text()? };
                    pairs.push((member, score));
                }
                zset(pairs.into_iter())?
            }
            LIST_ZIPLIST => list(ziplist(&self.string()?)?),
            LIST_OF_ZIPLISTS => {
                let mut elements = Vec::new();
                for _ in 0..self.count()? {
                    elements.extend(ziplist(&self.string()?)?);
                }
                list(elements)
            }
            LIST_OF_NODES => {
                let mut elements = Vec::new();
                for _ in 0..self.count()? {
                    match self.count()? {
                        1 => elements.push(self.string()?),
                        2 => elements.extend(listpack(&self.string()?)?),
                        _ => return None,
                    }
                }
                list(elements)
            }
            SET_INTEGERS => set(integers(&self.string()?)?)?,
            SET_LISTPACK => set(listpack(&self.string()?)?)?,
            HASH_TIMES => {
                let first = u64::from_le_bytes(self.array()?);
                let mut hash = Hash::new();
                for _ in 0..self.count()? {
                    let behind = self.count()?.checked_sub(1);
                    let time = behind.map(|behind| first.saturating_add(behind as u64));
                    put_field(&mut hash, &self.string()?, &self.string()?, time)?;
                }
                Value::Hash(hash)
            }
            HASH_TIMES_LISTPACK => {
                // The first of the times stands in the items, too.
                self.array::<{ size_of::<u64>() }>()?;
                let items = listpack(&self.string()?)?;
                let (fields, rest) = items.as_chunks::<3>();
                let mut hash = Hash::new();
                for [field, value, time] in fields {
                    let time: u64 = std::str::from_utf8(time).ok()?.parse().ok()?;
                    put_field(&mut hash, field, value, Some(time).filter(|time| *time > 0))?;
                }
                rest.is_empty().then_some(Value::Hash(hash))?
            }
            HASH_ZIPLIST => hash(&ziplist(&self.string()?)?)?,
            HASH_LISTPACK => hash(&listpack(&self.string()?)?)?,
            ZSET_ZIPLIST => scored(&ziplist(&self.string()?)?)?,
            ZSET_LISTPACK => scored(&listpack(&self.string()?)?)?,
            kind @ (stream::STREAM | stream::STREAM_OLD | stream::STREAM_NEW) => Value::Stream(self.stream(kind)?),
            _ => return None,
        })
    }

    fn score_text(&mut self) -> Option<f64> {
        match self.byte()? {
            253 => None,
            254 => Some(f64::INFINITY),
            255 => Some(f64::NEG_INFINITY),
            len => score(self.take(len.into())?),
        }
    }
}

/// Puts a field that is not there yet.
fn put_field(hash: &mut Hash, field: &[u8], value: &[u8], time: Option<u64>) -> Option<()> {
    let is_sound = hash.set(field, value) && time.is_none_or(|time| time <= FIELD_TIME_MS_MAX);
    hash.set_time(field, time.map(UnixMs::new));
    is_sound.then_some(())
}

fn score(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn list(elements: Vec<Vec<u8>>) -> Value {
    let mut list = List::new();
    elements.iter().for_each(|element| list.push(End::Tail, element));
    Value::List(list)
}

fn set(members: Vec<Vec<u8>>) -> Option<Value> {
    let mut set = Set::new();
    members.iter().all(|member| set.insert(member)).then_some(Value::Set(set))
}

fn hash(items: &[Vec<u8>]) -> Option<Value> {
    let (pairs, rest) = items.as_chunks::<2>();
    let mut hash = Hash::new();
    let is_sound = rest.is_empty() && pairs.iter().all(|[field, value]| hash.set(field, value));
    is_sound.then_some(Value::Hash(hash))
}

fn scored(items: &[Vec<u8>]) -> Option<Value> {
    let (pairs, rest) = items.as_chunks::<2>();
    let pairs: Vec<_> =
        pairs.iter().map(|[member, text]| Some((member.clone(), score(text)?))).collect::<Option<_>>()?;
    if rest.is_empty() { zset(pairs.into_iter()) } else { None }
}

fn zset(pairs: impl Iterator<Item = (Vec<u8>, f64)>) -> Option<Value> {
    let mut zset = Zset::new();
    for (member, score) in pairs {
        if score.is_nan() || zset.insert(&member, score) != super::value::zset::Inserted::Added {
            return None;
        }
    }
    Some(Value::Zset(zset))
}

/// The members of an integer set: bytes of each, their number, the integers.
fn integers(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut input = Input(bytes);
    let width = u32::from_le_bytes(input.array()?);
    let count = u32::from_le_bytes(input.array()?);
    let mut members = Vec::new();
    for _ in 0..count {
        let number = match width {
            2 => i16::from_le_bytes(input.array()?).into(),
            4 => i32::from_le_bytes(input.array()?).into(),
            8 => i64::from_le_bytes(input.array()?),
            _ => return None,
        };
        members.push(text_of(number));
    }
    input.0.is_empty().then_some(members)
}

fn text_of(number: i64) -> Vec<u8> {
    itoa::Buffer::new().format(number).as_bytes().to_vec()
}

fn int24([a, b, c]: [u8; 3]) -> i64 {
    i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)
}

/// The items of a ziplist: each with the length of the one before it, its encoding, its bytes; 0xff at the end.
fn ziplist(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut input = Input(bytes);
    let total = u32::from_le_bytes(input.array()?) as usize;
    // The place of the last item, and their number.
    input.take(6)?;
    let mut items = Vec::new();
    while *input.0.first()? != 0xff {
        if input.byte()? == 0xfe {
            input.take(4)?;
        }
        let first = input.byte()?;
        items.push(match first {
            0x00..0x40 => input.take(first.into())?.to_vec(),
            0x40..0x80 => {
                let len = usize::from(first & 0x3f) << 8 | usize::from(input.byte()?);
                input.take(len)?.to_vec()
            }
            0x80..0xc0 => {
                let len = u32::from_be_bytes(input.array()?) as usize;
                input.take(len)?.to_vec()
            }
            0xc0 => text_of(i16::from_le_bytes(input.array()?).into()),
            0xd0 => text_of(i32::from_le_bytes(input.array()?).into()),
            0xe0 => text_of(i64::from_le_bytes(input.array()?)),
            0xf0 => text_of(int24(input.array()?)),
            0xfe => text_of(i8::from_le_bytes(input.array()?).into()),
            0xf1..=0xfd => text_of(i64::from(first & 0x0f) - 1),
            _ => return None,
        });
    }
    (total == bytes.len() && input.0.len() == 1).then_some(items)
}

/// The items of a listpack: each with its encoding, its bytes, and its own length; 0xff at the end.
fn listpack(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut input = Input(bytes);
    let total = u32::from_le_bytes(input.array()?) as usize;
    // Their number.
    input.take(2)?;
    let mut items = Vec::new();
    while *input.0.first()? != 0xff {
        let before = input.0.len();
        let first = input.byte()?;
        items.push(match first {
            0x00..0x80 => text_of(first.into()),
            0x80..0xc0 => input.take(usize::from(first & 0x3f))?.to_vec(),
            0xc0..0xe0 => {
                let raw = i16::from(first & 0x1f) << 8 | i16::from(input.byte()?);
                // The sign of thirteen bits.
                text_of((raw << 3 >> 3).into())
            }
            0xe0..0xf0 => {
                let len = usize::from(first & 0x0f) << 8 | usize::from(input.byte()?);
                input.take(len)?.to_vec()
            }
            0xf0 => {
                let len = u32::from_le_bytes(input.array()?) as usize;
                input.take(len)?.to_vec()
            }
            0xf1 => text_of(i16::from_le_bytes(input.array()?).into()),
            0xf2 => text_of(int24(input.array()?)),
            0xf3 => text_of(i32::from_le_bytes(input.array()?).into()),
            0xf4 => text_of(i64::from_le_bytes(input.array()?)),
            _ => return None,
        });
        let len_bytes = match before - input.0.len() {
            0..=127 => 1,
            128..=16_382 => 2,
            16_383..=2_097_150 => 3,
            2_097_151..=268_435_454 => 4,
            _ => 5,
        };
        input.take(len_bytes)?;
    }
    (total == bytes.len() && input.0.len() == 1).then_some(items)
}

/// What LZF made smaller: runs of plain bytes, and references to what came before.
fn decompress(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > BULK_BYTES_MAX {
        return None;
    }
    let mut input = Input(packed);
    let mut out = Vec::new();
    while let Some(control) = input.byte() {
        if control < 0x20 {
            out.extend_from_slice(input.take(usize::from(control) + 1)?);
        } else {
            let mut run = usize::from(control >> 5);
            if run == 7 {
                run += usize::from(input.byte()?);
            }
            let back = (usize::from(control & 0x1f) << 8 | usize::from(input.byte()?)) + 1;
            let from = out.len().checked_sub(back)?;
            // It may reach into what it writes itself.
            for at in from..from + run + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::value::Stream;
    use crate::store::value::stream::{StreamId, Words};
    use crate::store::{KeyspaceStore, hash};
    use proptest::prelude::*;

    fn seal(body: &[u8]) -> Vec<u8> {
        let mut payload = [body, &9u16.to_le_bytes()].concat();
        payload.extend_from_slice(&checksum(&payload).to_le_bytes());
        payload
    }

    /// A value as text, members in order.
    fn text(value: &Value) -> String {
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let mut members: Vec<String> = match value {
            Value::Str(bytes) => vec![show(bytes)],
            Value::List(list) => return list.iter().map(show).collect::<Vec<_>>().join(" "),
            Value::Set(set) => set.iter().map(show).collect(),
            Value::Hash(hash) => hash.iter().map(|(field, value)| format!("{}={}", show(field), show(value))).collect(),
            Value::Zset(zset) => zset.iter().map(|(member, score)| format!("{}={score}", show(member))).collect(),
            Value::Stream(stream) => vec![format!("{stream:?}")],
        };
        members.sort();
        members.join(" ")
    }

    #[test]
    fn the_checksum_is_the_one_of_redis() {
        assert_eq!(checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn an_entry_that_no_command_could_add_is_refused() {
        for (words, is_fine) in [(0, false), (2, true), (crate::limits::ARGS_MAX, false)] {
            let mut made = Stream::new();
            made.add(StreamId::new(1, 0), &Words::new(vec![b"f".as_slice(); words].into_iter()));
            let mut body = vec![stream::STREAM];
            stream::put(&made, &mut body);
            assert_eq!(decode(&seal(&body)).is_ok(), is_fine, "{words} words");
        }
    }

    /// Payloads that redis-server 7.0.15 made.
    #[test]
    fn what_redis_dumps_is_read() {
        for (hex, expected) in REDIS_DUMPS {
            let payload: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            let value = decode(&payload).unwrap_or_else(|error| panic!("{expected}: {error:?}"));
            assert_eq!(text(&value), *expected);
        }
    }

    /// As Redis 7.4 has them: the first time, then each field with its own from there on; or a listpack of threes.
    #[test]
    fn a_hash_with_times_is_read_and_comes_back_from_what_is_written() {
        let first = 1_700_000_000_000u64.to_le_bytes();
        let table = [&[24][..], &first, b"\x03\x00\x01a\x011\x01\x01b\x012\x40\x65\x01c\x013"].concat();
        let listpack = b"\x2c\0\0\0\x09\0\x81a\x02\x01\x01\0\x01\x81b\x02\x02\x01\xf4\0\x68\xe5\xcf\x8b\x01\0\0\x09\x81c\x02\x03\x01\xf4\x64\x68\xe5\xcf\x8b\x01\0\0\x09\xff";
        let listpack = [&[25][..], &first, &[listpack.len() as u8], listpack].concat();
        for body in [table, listpack] {
            let Ok(Value::Hash(hash)) = decode(&seal(&body)) else { panic!("{}", body.escape_ascii()) };
            let times = [b"a", b"b", b"c"].map(|field| hash.time_of(field).map(UnixMs::get));
            assert_eq!(times, [None, Some(1_700_000_000_000), Some(1_700_000_000_100)]);
            assert_eq!([b"a", b"b", b"c"].map(|field| hash.get(field)), [Some(&b"1"[..]), Some(b"2"), Some(b"3")]);
            let (digest, mut store) = (hash.digest(), KeyspaceStore::new());
            store.set_value(hash::locate(b"k"), b"k", Box::new(Value::Hash(hash)), None);
            let payload = encode(&store.get(hash::locate(b"k"), b"k").unwrap());
            assert_eq!(payload[payload.len() - FOOTER_BYTES..][..2], [12, 0]);
            let Ok(Value::Hash(again)) = decode(&payload) else { panic!("{}", payload.escape_ascii()) };
            assert_eq!(again.digest(), digest);
        }
        let too_late = [&[24][..], &u64::MAX.to_le_bytes(), b"\x01\x01\x01a\x011"].concat();
        assert_eq!(decode(&seal(&too_late)).unwrap_err(), RdbError::Format);
    }

    const REDIS_DUMPS: &[(&str, &str)] = &[
        ("000568656c6c6f0a006372df766534200a", "hello"),
        ("00c0fb0a0049c4c6f4d7263f68", "-5"),
        ("00c1e8030a0089d1478ebac4b764", "1000"),
        ("00c26079feff0a00a1ca8470cc216d9d", "-100000"),
        ("000b31323334353637383930310a00304e52d727176510", "12345678901"),
        (
            "00c30a407802616261e06a010161620a00b288708c530716d2",
            "abababababababababababababababababababababababababababababababababababababababababababababababababababababababababababab",
        ),
        (
            "120102c33440741f7400000009008161020101dff902c12c02f178ec03f2a0860104f3c0ab76ff0505f400f2052a01402402e04678e03c000148ff0a00abc1bece47722aed",
            "a 1 -7 300 -5000 100000 -9000000 5000000000 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ),
        ("0b0e0200000003000000ffff02002c010a0088687c462b86833d", "-1 2 300"),
        ("0b10040000000200000007000000a08601000a00c296f750d23fd089", "100000 7"),
        ("0b1808000000020000000100000000000000001a7118020000000a00b936a2e8c22f9457", "1 9000000000"),
        ("0202016201610a0075d99d835ef85f65", "a b"),
        ("10121200000004008166028176028167020c01ff0a00de133993f783817e", "f=v g=12"),
        ("111d1d0000000600816102842d696e660581620283312e35048163020301ff0a007a38cac0f5d934d0", "a=-inf b=1.5 c=3"),
        ("0402016601760167c00c0a00af6cb00de84bdd1d", "f=v g=12"),
        ("0503016300000000000008400162000000000000f83f0161000000000000f0ff0a00d78edadebbd403e3", "a=-inf b=1.5 c=3"),
        ("1203020a0a0000000100816102ff020a0a0000000100816202ff02090900000001000701ff0a003170265e7d25478e", "a b 7"),
    ];

    fn bytes_of(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// Four entries, of which one was deleted, a group with two consumers and one without any, of redis-server 7.0.15.
    const REDIS_STREAM: &str = "13011000000000000000010000000000000001405d5d0000001f00030101010201816102816202000102010001000101018374776f040501030100010401c12c02f178ec03050100010201dfff020101856f74686572068178020601020108010101f400f2052a01000000098179020501ff0309020101010504020167030081ffffffffffffffff0200000000000000010000000000000001e8030000000000000400000000000000030000000000000000e80300000000000001020163c54a4408a20100000200000000000000010000000000000001000000000000000300000000000000000164a54a4408a2010000000168090281ffffffffffffffff00000a00672d0c3cbf94ff2d";

    #[test]
    fn a_stream_of_redis_is_read_and_comes_back_from_what_is_written() {
        let Ok(Value::Stream(stream)) = decode(&bytes_of(REDIS_STREAM)) else { panic!("it is a stream") };
        let entries = stream.range(StreamId::MIN, StreamId::MAX).map(|entry| {
            let words: Vec<_> = entry.words().map(String::from_utf8_lossy).collect();
            format!("{} {}", entry.id(), words.join(" "))
        });
        assert_eq!(entries.collect::<Vec<_>>(), ["1-1 a 1 b two", "3-0 other x", "9-2 a 5000000000 b y"]);
        let (counters, id) = (stream.counters(), StreamId::new);
        assert_eq!((counters.last_id, counters.max_deleted_id, counters.entries_added), (id(9, 2), id(1, 5), 4));
        let group = stream.group(b"g").unwrap();
        assert_eq!((group.last_id(), group.entries_read(), group.consumers().len()), (id(3, 0), None, 2));
        let pending = group.get(id(1, 1)).unwrap();
        assert_eq!((pending.consumer(), pending.delivered.get(), pending.count), (&b"c"[..], 1_000, 4));
        assert_eq!(stream.group(b"h").map(|group| group.last_id()), Some(id(9, 2)));

        let digest = stream.digest();
        let mut store = KeyspaceStore::new();
        store.set_value(hash::locate(b"k"), b"k", Box::new(Value::Stream(stream)), None);
        let payload = encode(&store.get(hash::locate(b"k"), b"k").unwrap());
        assert_eq!(decode(&payload).unwrap().digest(), super::super::digest::pair(6, digest));
    }

    #[test]
    fn what_is_no_payload_is_refused() {
        for body in [
            b"".as_slice(),
            b"\x00\x05abc",
            b"\x00\x01ab",
            b"\x01\x00",
            b"\x02\x02\x01a\x01a",
            b"\x05\x01\x01a\x00\x00\x00\x00\x00\x00\xf8\x7f",
            b"\x09\x01a",
            b"\x0f\x01a",
            b"\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x00\xc3\x02\x05\x20\x00",
            b"\x00\xc3\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x00",
        ] {
            assert_eq!(decode(&seal(body)).unwrap_err(), RdbError::Format, "{}", body.escape_ascii());
        }
        let mut damaged = seal(b"\x00\x01a");
        damaged[2] ^= 1;
        assert_eq!(decode(&damaged).unwrap_err(), RdbError::Footer);
        assert_eq!(decode(b"short").unwrap_err(), RdbError::Footer);
    }

    proptest! {
        #[test]
        fn a_value_survives(members in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..300), -50i32..50), 1..150), kind in 0u8..5) {
            let value = match kind {
                0 => Value::Str(members[0].0.repeat(members.len()).into()),
                1 => list(members.iter().map(|(member, _)| member.clone()).collect()),
                2 => {
                    let mut set = Set::new();
                    members.iter().for_each(|(member, _)| _ = set.insert(member));
                    Value::Set(set)
                }
                3 => {
                    let mut hash = Hash::new();
                    members.iter().for_each(|(member, n)| _ = hash.set(member, n.to_string().as_bytes()));
                    Value::Hash(hash)
                }
                _ => {
                    let mut zset = Zset::new();
                    members.iter().for_each(|(member, n)| _ = zset.insert(member, f64::from(*n) / 7.0));
                    Value::Zset(zset)
                }
            };
            let expected = text(&value);
            let mut store = KeyspaceStore::new();
            match value {
                Value::Str(bytes) => store.set_string(hash::locate(b"k"), b"k", &bytes, None),
                value => store.set_value(hash::locate(b"k"), b"k", Box::new(value), None),
            }
            let payload = encode(&store.get(hash::locate(b"k"), b"k").unwrap());
            prop_assert_eq!(text(&decode(&payload).unwrap()), expected);
        }

        #[test]
        fn no_bytes_break_it(body in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..22) {
            let _ = decode(&seal(&[&[kind], &body[..]].concat()));
        }

        #[test]
        fn no_packed_bytes_break_it(body in proptest::collection::vec(any::<u8>(), 0..60), kind in 10u8..21) {
            let packed = [&((body.len() + 7) as u32).to_le_bytes()[..], &[0, 0], &body, &[0xff]].concat();
            let mut value = vec![kind];
            if kind == LIST_OF_NODES || kind == LIST_OF_ZIPLISTS {
                value.push(1);
            }
            if kind == LIST_OF_NODES {
                value.push(2);
            }
            put_string(&packed, &mut value);
            let _ = decode(&seal(&value));
        }
    }
}
