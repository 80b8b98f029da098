//! Commands on strings as rows of bits. Bit 0 is the highest bit of byte 0. What they write is said as the bytes that changed:
//!
//! ```text
//! SETBIT k 9 1   ─▶  SETRANGE k 1 "\x40"
//! ```

use super::number;
use super::recreate::replace;
use super::refusal::{NOT_AN_INTEGER, Refusal, SYNTAX};
use super::string::{integer, read, set_range};
use super::{Context, NOTHING, Outcome, group};
use crate::limits::BULK_BYTES_MAX;
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::Value;
use crate::wire::{Argv, Command, Effects};

const BAD_OFFSET: Refusal = Refusal::Text("ERR bit offset is not an integer or out of range");

/// The number of a bit, within the longest string.
fn bit_offset(text: &[u8]) -> Result<usize, Refusal> {
    let offset = number::integer(text).and_then(|offset| usize::try_from(offset).ok());
    offset.filter(|offset| offset / 8 < BULK_BYTES_MAX).ok_or(BAD_OFFSET)
}

/// Writes bytes into a string, and says so.
fn write(context: &mut Context<'_>, at: Located, key: &[u8], first: usize, bytes: &[u8]) -> Result<Command, Refusal> {
    set_range(context.store, at.into(), key, first, bytes)?;
    Ok(Command::new(&[b"SETRANGE", key, itoa::Buffer::new().format(first).as_bytes(), bytes]))
}

pub(super) fn setbit(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, offset) = (argv.arg(1), bit_offset(argv.arg(2))?);
    let bit = match argv.arg(3) {
        b"0" => 0,
        b"1" => 1,
        _ => return Err(Refusal::Text("ERR bit is not an integer or out of range")),
    };
    let before = read(context, at[0], key)?.and_then(|bytes| bytes.get(offset / 8)).copied();
    let mask = 0x80 >> (offset % 8);
    let old = before.unwrap_or(0);
    let new = if bit == 1 { old | mask } else { old & !mask };
    let effects = match before == Some(new) {
        true => Effects::None,
        false => Effects::One(write(context, at[0], key, offset / 8, &[new])?),
    };
    reply.integer(i64::from(old & mask != 0));
    Ok(effects)
}

pub(super) fn getbit(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let offset = bit_offset(argv.arg(2))?;
    let bytes = read(context, at[0], argv.arg(1))?.unwrap_or_default();
    let byte = bytes.get(offset / 8).copied().unwrap_or(0);
    reply.integer(i64::from(byte >> (7 - offset % 8) & 1));
    NOTHING
}

// ── counting and searching ──────────────────────────────────────────────────────────────────────────────────────────

/// In what a range is said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(word: Option<&[u8]>) -> Result<Unit, Refusal> {
        match word {
            None => Ok(Unit::Byte),
            Some(word) if word.eq_ignore_ascii_case(b"BYTE") => Ok(Unit::Byte),
            Some(word) if word.eq_ignore_ascii_case(b"BIT") => Ok(Unit::Bit),
            Some(_) => Err(SYNTAX),
        }
    }
}

/// The bits from `start` to `end`, both inclusive and negative ones from the back, of a string of `len` bytes, half-open; `None`
/// where there are none.
fn bit_range(start: i64, end: i64, unit: Unit, len: usize) -> Option<(usize, usize)> {
    let total = match unit {
        Unit::Byte => len,
        Unit::Bit => len * 8,
    } as i64;
    let from_front = |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
    // An end before the beginning is the beginning.
    let (start, end) = (from_front(start), from_front(end).min(total - 1));
    if start > end {
        return None;
    }
    let (start, end) = (start as usize, end as usize + 1);
    Some(match unit {
        Unit::Byte => (start * 8, end * 8),
        Unit::Bit => (start, end),
    })
}

/// The bits of byte number `index` that lie in the range `first..end`.
fn mask(index: usize, first: usize, end: usize) -> u8 {
    let mut mask = 0xff;
    if index == first / 8 {
        mask &= 0xff >> (first % 8);
    }
    if index == (end - 1) / 8 {
        mask &= 0xff << (7 - (end - 1) % 8);
    }
    mask
}

pub(super) fn bitcount(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (start, end, unit) = match argv.len() {
        2 => (0, -1, Unit::Byte),
        4 | 5 => (integer(argv.arg(2))?, integer(argv.arg(3))?, Unit::parse(argv.get(4))?),
        _ => return Err(SYNTAX),
    };
    let bytes = read(context, at[0], argv.arg(1))?.unwrap_or_default();
    let is_turned = start < 0 && end < 0 && start > end;
    let range = if is_turned { None } else { bit_range(start, end, unit, bytes.len()) };
    let count = range.map_or(0, |(first, end)| {
        let (head, tail) = (first / 8, (end - 1) / 8);
        let within = |index: usize| u64::from((bytes[index] & mask(index, first, end)).count_ones());
        if head == tail {
            return within(head);
        }
        within(head) + within(tail) + ones(&bytes[head + 1..tail])
    });
    reply.integer(count as i64);
    NOTHING
}

fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum::<u64>()
        + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

pub(super) fn bitpos(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let bit = match integer(argv.arg(2))? {
        0 => false,
        1 => true,
        _ => return Err(Refusal::Text("ERR The bit argument must be 1 or 0.")),
    };
    if argv.len() > 6 {
        return Err(SYNTAX);
    }
    let start = argv.get(3).map_or(Ok(0), integer)?;
    let unit = Unit::parse(argv.get(5))?;
    let end = argv.get(4).map(integer).transpose()?;
    let Some(bytes) = read(context, at[0], argv.arg(1))? else {
        reply.integer(if bit { -1 } else { 0 });
        return NOTHING;
    };
    let Some((first, stop)) = bit_range(start, end.unwrap_or(-1), unit, bytes.len()) else {
        reply.integer(-1);
        return NOTHING;
    };
    match position(bytes, bit, first, stop) {
        Some(place) => reply.count(place),
        // Behind a string that is all ones, zeros are thought to follow, unless the end was said.
        None if !bit && end.is_none() => reply.count(bytes.len() * 8),
        None => reply.integer(-1),
    }
    NOTHING
}

/// The first bit of this kind from `first` on, before `end`.
fn position(bytes: &[u8], bit: bool, first: usize, end: usize) -> Option<usize> {
    let (head, tail) = (first / 8, (end - 1) / 8);
    let boring = if bit { 0 } else { 0xff };
    let within = |index: usize| {
        // What lies outside the range is made boring.
        let inside = mask(index, first, end);
        let byte = if bit { bytes[index] & inside } else { bytes[index] | !inside };
        (byte != boring).then(|| index * 8 + (byte ^ boring).leading_zeros() as usize)
    };
    if let Some(place) = within(head) {
        return Some(place);
    }
    if head == tail {
        return None;
    }
    match bytes[head + 1..tail].iter().position(|byte| *byte != boring) {
        Some(offset) => {
            let index = head + 1 + offset;
            Some(index * 8 + (bytes[index] ^ boring).leading_zeros() as usize)
        }
        None => within(tail),
    }
}

// ── combining ───────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn bitop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    enum Operation {
        And,
        Or,
        Xor,
        Not,
    }
    let operation = match argv.arg(1).to_ascii_uppercase().as_slice() {
        b"AND" => Operation::And,
        b"OR" => Operation::Or,
        b"XOR" => Operation::Xor,
        b"NOT" => Operation::Not,
        _ => return Err(SYNTAX),
    };
    if matches!(operation, Operation::Not) && argv.len() != 4 {
        return Err(Refusal::Text("ERR BITOP NOT must be called with a single source key."));
    }
    let sources = at[1..].iter().zip(argv.iter().skip(3));
    let sources: Vec<&[u8]> =
        sources.map(|(&at, key)| Ok(read(context, at, key)?.unwrap_or_default())).collect::<Result<_, Refusal>>()?;
    let len = sources.iter().map(|bytes| bytes.len()).max().unwrap_or(0);
    let mut result = sources[0].to_vec();
    result.resize(len, 0);
    for source in &sources[1..] {
        // A shorter one goes on with zeros.
        let zeros = std::iter::repeat_n(&0, len - source.len());
        let pairs = result.iter_mut().zip(source.iter().chain(zeros));
        match operation {
            Operation::And => pairs.for_each(|(a, b)| *a &= b),
            Operation::Or => pairs.for_each(|(a, b)| *a |= b),
            Operation::Xor => pairs.for_each(|(a, b)| *a ^= b),
            Operation::Not => {}
        }
    }
    if matches!(operation, Operation::Not) {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let (place, destination) = (at[0], argv.arg(2));
    let effects = if len > 0 {
        replace(context.store, context.room, place, destination, Value::Str(result.into()), None)?
    } else if context.store.remove(place, destination) {
        Effects::One(super::del(destination))
    } else {
        Effects::None
    };
    reply.count(len);
    Ok(effects)
}

// ── numbers in a row of bits ────────────────────────────────────────────────────────────────────────────────────────

/// An integer of some bits.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    bits: u32,
    offset: usize,
}

/// What becomes of a number that does not fit.
#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// One step of a `BITFIELD`.
#[derive(Clone, Copy)]
enum Step {
    Get(Field),
    Set(Field, i64, Overflow),
    Add(Field, i64, Overflow),
}

impl Field {
    fn parse(kind: &[u8], offset: &[u8]) -> Result<Field, Refusal> {
        let bad = Refusal::Text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (signed, digits) = match kind {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => return Err(bad),
        };
        let most = if signed { 64 } else { 63 };
        let bits = number::integer(digits).filter(|bits| (1..=most).contains(bits)).ok_or(bad)? as u32;
        let (counted, digits) = match offset {
            [b'#', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        let offset = number::integer(digits).and_then(|offset| usize::try_from(offset).ok()).ok_or(BAD_OFFSET)?;
        let offset = if counted { offset.checked_mul(bits as usize).ok_or(BAD_OFFSET)? } else { offset };
        if offset / 8 >= BULK_BYTES_MAX || (offset + bits as usize - 1) / 8 >= BULK_BYTES_MAX {
            return Err(BAD_OFFSET);
        }
        Ok(Field { signed, bits, offset })
    }

    /// The bytes that it lies in, half-open.
    fn bytes(self) -> (usize, usize) {
        (self.offset / 8, (self.offset + self.bits as usize - 1) / 8 + 1)
    }

    fn get(self, bytes: &[u8]) -> i64 {
        let raw = (self.offset..self.offset + self.bits as usize).fold(0u64, |number, bit| {
            let byte = bytes.get(bit / 8).copied().unwrap_or(0);
            number << 1 | u64::from(byte >> (7 - bit % 8) & 1)
        });
        if self.signed { (raw << (64 - self.bits)) as i64 >> (64 - self.bits) } else { raw as i64 }
    }

    /// Writes the low bits of a number into `bytes`, which begin at byte `first` of the string.
    fn put(self, number: i64, bytes: &mut [u8], first: usize) {
        for place in 0..self.bits as usize {
            let bit = self.offset + place;
            let byte = &mut bytes[bit / 8 - first];
            let mask = 0x80 >> (bit % 8);
            let is_one = number as u64 >> (self.bits as usize - 1 - place) & 1 == 1;
            *byte = if is_one { *byte | mask } else { *byte & !mask };
        }
    }

    fn least(self) -> i128 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    fn most(self) -> i128 {
        if self.signed { (1 << (self.bits - 1)) - 1 } else { (1 << self.bits) - 1 }
    }

    /// The number as it fits; `None` where that is a failure.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        if (self.least()..=self.most()).contains(&number) {
            return Some(number as i64);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(number.clamp(self.least(), self.most()) as i64),
            Overflow::Wrap => {
                let raw = number & ((1 << self.bits) - 1);
                Some(if raw > self.most() { raw - (1 << self.bits) } else { raw } as i64)
            }
        }
    }
}

fn steps(argv: Argv<'_>) -> Result<Vec<Step>, Refusal> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut index = 2;
    while let Some(word) = argv.get(index) {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let left = argv.len() - index - 1;
        if is(b"OVERFLOW") && left >= 1 {
            overflow = match argv.arg(index + 1).to_ascii_uppercase().as_slice() {
                b"WRAP" => Overflow::Wrap,
                b"SAT" => Overflow::Saturate,
                b"FAIL" => Overflow::Fail,
                _ => return Err(Refusal::Text("ERR Invalid OVERFLOW type specified")),
            };
            index += 2;
        } else if is(b"GET") && left >= 2 {
            steps.push(Step::Get(Field::parse(argv.arg(index + 1), argv.arg(index + 2))?));
            index += 3;
        } else if (is(b"SET") || is(b"INCRBY")) && left >= 3 {
            let field = Field::parse(argv.arg(index + 1), argv.arg(index + 2))?;
            let number = number::integer(argv.arg(index + 3)).ok_or(NOT_AN_INTEGER)?;
            steps.push(if is(b"SET") {
                Step::Set(field, number, overflow)
            } else {
                Step::Add(field, number, overflow)
            });
            index += 4;
        } else {
            return Err(SYNTAX);
        }
    }
    Ok(steps)
}

pub(super) fn bitfield(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (at, key) = (at[0], argv.arg(1));
    let steps = steps(argv)?;
    let len = read(context, at, key)?.map_or(0, <[u8]>::len);
    let writes = steps.iter().filter(|step| !matches!(step, Step::Get(_))).count();
    // Each says the key again; a position has 10 digits, and what is not at the bounds of bytes reaches into 9.
    context.room.take_times(writes + 1, [8, key.len(), 10, 9])?;
    let mut effects = Vec::new();
    // A string is as long as the furthest number that is to be written, even if it does not fit then.
    let needed = steps.iter().filter_map(|step| match step {
        Step::Get(_) => None,
        Step::Set(field, ..) | Step::Add(field, ..) => Some(field.bytes().1),
    });
    if let Some(needed) = needed.max().filter(|needed| *needed > len) {
        effects.push(write(context, at, key, needed - 1, &[0])?);
    }
    reply.array(steps.len());
    for step in steps {
        let bytes = read(context, at, key)?.unwrap_or_default();
        let (field, new, answer) = match step {
            Step::Get(field) => {
                reply.integer(field.get(bytes));
                continue;
            }
            Step::Set(field, number, overflow) => {
                let number = if field.signed { i128::from(number) } else { i128::from(number as u64) };
                (field, field.fit(number, overflow), Some(field.get(bytes)))
            }
            Step::Add(field, by, overflow) => {
                let new = field.fit(i128::from(field.get(bytes)) + i128::from(by), overflow);
                (field, new, new)
            }
        };
        let (Some(new), Some(answer)) = (new, answer) else {
            reply.null();
            continue;
        };
        reply.integer(answer);
        let (first, end) = field.bytes();
        let mut patch = bytes[first..end].to_vec();
        field.put(new, &mut patch, first);
        if patch != bytes[first..end] {
            effects.push(write(context, at, key, first, &patch)?);
        }
    }
    Ok(group(effects))
}

pub(super) fn bitfield_ro(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let steps = steps(argv)?;
    let fields = steps.into_iter().map(|step| match step {
        Step::Get(field) => Ok(field),
        Step::Set(..) | Step::Add(..) => Err(Refusal::Text("ERR BITFIELD_RO only supports the GET subcommand")),
    });
    let fields: Vec<Field> = fields.collect::<Result<_, _>>()?;
    let bytes = read(context, at[0], argv.arg(1))?.unwrap_or_default();
    reply.array(fields.len());
    fields.into_iter().for_each(|field| reply.integer(field.get(bytes)));
    NOTHING
}
