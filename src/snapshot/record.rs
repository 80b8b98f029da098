//! The bytes of a dumped key. A codec only: it knows no store and allocates nothing on a length it was told.
//!
//! ```text
//! record   kind u8 │ expiry u64 LE, if bit 7 of kind │ key bytes │ value
//! bytes    length varint │ that many bytes
//! varint   7 bits a byte, the least significant first; bit 7: another byte follows
//!
//! kind 1   string      bytes
//! kind 2   hash        count varint │ count × (field bytes │ value bytes)
//! kind 3   list        count varint │ count × bytes, from the head
//! kind 4   set         count varint │ count × bytes
//! kind 5   sorted set  count varint │ count × (member bytes │ score f64 LE)
//! kind 6   stream      counters │ count varint │ count × entry │ count varint │ count × group
//!
//! bit 5 of kind, of a hash: some of these fields expire; behind them count varint │ count × (field bytes │ time u64 LE)
//!
//! bit 6 of kind: the next piece of a value whose first piece was a record without that bit; the expiry is the key's as of now
//! kind 1   string      position varint │ bytes: these are there now
//! kind 6   stream      counters as of now, entries and parts of groups that are to be put there
//! others               members or fields that are to be put there, elements that follow at the tail
//! ```
//!
//! A payload is records one after another, with nothing before, between or after them.

use crate::id::UnixMs;

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A string of bytes.
    String = 1,
    /// Fields with values.
    Hash = 2,
    /// Elements in an order.
    List = 3,
    /// Distinct members.
    Set = 4,
    /// Distinct members with scores.
    Zset = 5,
    /// Entries by rising ids, with those who read them.
    Stream = 6,
}

impl Kind {
    const HAS_EXPIRY: u8 = 0x80;
    const IS_MORE: u8 = 0x40;
    const HAS_TIMES: u8 = 0x20;

    fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            1 => Kind::String,
            2 => Kind::Hash,
            3 => Kind::List,
            4 => Kind::Set,
            5 => Kind::Zset,
            6 => Kind::Stream,
            _ => return None,
        })
    }
}

/// What stands before a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// The type of the value.
    pub kind: Kind,
    /// When the key expires, if it does.
    pub expiry: Option<UnixMs>,
    /// The key.
    pub key: &'a [u8],
    /// Whether the value is not the whole or its first piece, but a piece that follows.
    pub is_more: bool,
    /// Whether it is a hash, and times of its fields stand behind them.
    pub has_times: bool,
}

impl<'a> Head<'a> {
    /// Appends the head to `out`. The value is to follow.
    #[inline]
    pub fn encode(self, out: &mut Vec<u8>) {
        let code = self.kind as u8
            | if self.is_more { Kind::IS_MORE } else { 0 }
            | if self.has_times { Kind::HAS_TIMES } else { 0 };
        match self.expiry {
            None => out.push(code),
            Some(at) => {
                out.push(code | Kind::HAS_EXPIRY);
                out.extend_from_slice(&at.get().to_le_bytes());
            }
        }
        put_bytes(self.key, out);
    }

    /// Reads a head. The value follows it in `reader`.
    ///
    /// # Errors
    /// If the kind is unknown or the payload ends.
    #[inline]
    pub fn decode(reader: &mut Reader<'a>) -> Result<Head<'a>, RecordError> {
        let code = reader.byte()?;
        let has_times = code & Kind::HAS_TIMES != 0;
        let known = Kind::from_code(code & !(Kind::HAS_EXPIRY | Kind::IS_MORE | Kind::HAS_TIMES));
        let Some(kind) = known.filter(|kind| !has_times || *kind == Kind::Hash) else {
            return Err(RecordError { what: "a kind of value that is not known", at: reader.at - 1 });
        };
        let expiry = match code & Kind::HAS_EXPIRY {
            0 => None,
            _ => Some(UnixMs::new(u64::from_le_bytes(reader.array()?))),
        };
        Ok(Head { kind, expiry, key: reader.bytes()?, is_more: code & Kind::IS_MORE != 0, has_times })
    }
}

/// Why a payload is not records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct RecordError {
    /// What is wrong.
    pub what: &'static str,
    /// Where in the payload, in bytes.
    pub at: usize,
}

/// Appends `number` as a varint.
#[inline]
pub fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends `bytes` with its length before it.
#[inline]
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a score.
#[inline]
pub fn put_f64(number: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_bits().to_le_bytes());
}

/// Reads a payload from the front; what it gives is borrowed from it.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    payload: &'a [u8],
    /// First byte not yet read; at most the length.
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the front of `payload`.
    pub fn new(payload: &'a [u8]) -> Reader<'a> {
        Reader { payload, at: 0 }
    }

    /// How many bytes have been read.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.payload.len() - self.at
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// If the payload ends.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, RecordError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    /// If the payload ends.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let Some((array, _)) = self.payload[self.at..].split_first_chunk() else {
            return Err(self.error("the payload ends inside a number"));
        };
        self.at += N;
        Ok(*array)
    }

    /// Reads a varint.
    ///
    /// # Errors
    /// If the payload ends, or the number does not fit 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, RecordError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.error("a number that does not fit 64 bits"))
    }

    /// Reads a count of things that take at least one byte each: more than what is left is refused here, so that
    /// nobody makes room for a count that was only claimed.
    ///
    /// # Errors
    /// If the payload ends, or cannot hold that many.
    #[inline]
    pub fn count(&mut self) -> Result<usize, RecordError> {
        let count = self.varint()?;
        if count > self.remaining() as u64 {
            return Err(self.error("a count larger than the payload"));
        }
        Ok(count as usize)
    }

    /// Reads a length and the bytes behind it.
    ///
    /// # Errors
    /// If the payload ends.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let len = self.varint()?;
        if len > self.remaining() as u64 {
            return Err(self.error("a length beyond the end of the payload"));
        }
        let bytes = &self.payload[self.at..self.at + len as usize];
        self.at += len as usize;
        Ok(bytes)
    }

    /// Reads a score.
    ///
    /// # Errors
    /// If the payload ends.
    #[inline]
    pub fn f64(&mut self) -> Result<f64, RecordError> {
        Ok(f64::from_bits(u64::from_le_bytes(self.array()?)))
    }

    /// An error about what stands here.
    #[cold]
    pub fn error(&self, what: &'static str) -> RecordError {
        RecordError { what, at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_with_an_expiry_has_these_bytes() {
        let mut out = Vec::new();
        Head {
            kind: Kind::String,
            expiry: Some(UnixMs::new(0x0102_0304)),
            key: b"key",
            is_more: false,
            has_times: false,
        }
        .encode(&mut out);
        put_bytes(b"value", &mut out);
        assert_eq!(out, b"\x81\x04\x03\x02\x01\0\0\0\0\x03key\x05value");

        let mut reader = Reader::new(&out);
        let head = Head::decode(&mut reader).unwrap();
        assert_eq!((head.kind, head.expiry, head.key), (Kind::String, Some(UnixMs::new(0x0102_0304)), &b"key"[..]));
        assert_eq!(reader.bytes().unwrap(), b"value");
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn a_sorted_set_has_these_bytes() {
        let mut out = Vec::new();
        Head { kind: Kind::Zset, expiry: None, key: b"z", is_more: false, has_times: false }.encode(&mut out);
        put_varint(1, &mut out);
        put_bytes(b"m", &mut out);
        put_f64(-1.5, &mut out);
        assert_eq!(out, b"\x05\x01z\x01\x01m\0\0\0\0\0\0\xf8\xbf");
    }

    #[test]
    fn a_piece_of_a_string_has_these_bytes() {
        let mut out = Vec::new();
        Head { kind: Kind::String, expiry: Some(UnixMs::new(7)), key: b"k", is_more: true, has_times: false }
            .encode(&mut out);
        put_varint(200, &mut out);
        put_bytes(b"part", &mut out);
        assert_eq!(out, b"\xc1\x07\0\0\0\0\0\0\0\x01k\xc8\x01\x04part");
        let head = Head::decode(&mut Reader::new(&out)).unwrap();
        assert!(head.is_more && head.kind == Kind::String && head.expiry == Some(UnixMs::new(7)));
    }

    #[test]
    fn varints_come_back_and_stop_at_64_bits() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(number, &mut out);
            assert_eq!(Reader::new(&out).varint(), Ok(number));
        }
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(Reader::new(&too_large).varint().unwrap_err().what, "a number that does not fit 64 bits");
    }

    #[test]
    fn a_payload_cut_anywhere_is_an_error_and_never_more_than_that() {
        let mut out = Vec::new();
        Head { kind: Kind::String, expiry: Some(UnixMs::new(7)), key: b"key", is_more: false, has_times: false }
            .encode(&mut out);
        put_bytes(&[b'v'; 200], &mut out);
        for end in 0..out.len() {
            let mut reader = Reader::new(&out[..end]);
            assert!(Head::decode(&mut reader).and_then(|_| reader.bytes()).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_count_that_is_only_claimed_is_refused() {
        let mut out = Vec::new();
        put_varint(1 << 40, &mut out);
        assert_eq!(Reader::new(&out).count().unwrap_err().what, "a count larger than the payload");
    }
}
