//! HyperLogLogs: about how many distinct elements were added, in a string whose bytes are those of Redis, so that either reads the
//! other's. A codec and an estimate; it knows no keys.
//!
//! ```text
//! "HYLL" │ form u8 │ 0 0 0 │ cached count u64 LE, bit 63: it is not valid │ registers
//!
//! dense    16,384 registers of 6 bits, the least significant bits first: 12,288 bytes
//! sparse   runs:  00llllll            l + 1 registers of 0
//!                 01llllll llllllll   l + 1 registers of 0, the high bits first
//!                 1vvvvvll            l + 1 registers of v + 1
//! ```
//!
//! An element's hash names a register, and a rank for it: how many zeros end the rest of the hash, and one. A register keeps the
//! highest rank. The estimate from the registers is that of Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog
//! sketches" (2017), with the same floating-point operations as in Redis: the counts are equal, not only close.

use std::borrow::Cow;

use crate::limits::SPARSE_SKETCH_BYTES_MAX;

const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a hash that a rank is made of.
const RANK_BITS: u32 = 64 - INDEX_BITS;

const HEADER_BYTES: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const FORM_AT: usize = 4;
/// The byte of the header whose highest bit says that the cached count is not valid.
const CACHE_FLAG_AT: usize = 15;
const CACHE_FLAG: u8 = 0x80;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * 6 / 8;

/// The highest rank and the longest runs that the sparse form has.
const SPARSE_RANK_MAX: u8 = 32;
const SPARSE_RUN_MAX: usize = 4;
const SPARSE_ZEROS_SHORT_MAX: usize = 64;

/// Why a string is no HyperLogLog.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It does not begin like one.
    Foreign,
    /// It begins like one, and what follows is wrong.
    Corrupt,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Dense = 0,
    Sparse = 1,
}

/// What the header of a string says.
fn form_of(bytes: &[u8]) -> Result<Form, Flaw> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return Err(Flaw::Foreign);
    }
    match bytes[FORM_AT] {
        0 if bytes.len() == DENSE_BYTES => Ok(Form::Dense),
        1 => Ok(Form::Sparse),
        _ => Err(Flaw::Foreign),
    }
}

/// Which register an element has, and what it puts there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    index: usize,
    rank: u8,
}

impl Mark {
    fn of(element: &[u8]) -> Mark {
        let hash = murmur64a(element, 0xadc8_3b19);
        // A bit at the end, so that there is one.
        let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
        Mark { index: hash as usize % REGISTERS, rank: rest.trailing_zeros() as u8 + 1 }
    }
}

/// A HyperLogLog that may be changed; it is copied when it is.
#[derive(Debug)]
pub struct Sketch<'a> {
    bytes: Cow<'a, [u8]>,
    form: Form,
}

impl Default for Sketch<'_> {
    fn default() -> Self {
        Sketch::new()
    }
}

impl<'a> Sketch<'a> {
    /// One without elements.
    pub fn new() -> Sketch<'a> {
        let mut bytes = MAGIC.to_vec();
        bytes.resize(HEADER_BYTES, 0);
        bytes[FORM_AT] = Form::Sparse as u8;
        put_zeros(REGISTERS, &mut bytes);
        let mut sketch = Sketch { bytes: bytes.into(), form: Form::Sparse };
        sketch.forget_count();
        sketch
    }

    /// The one in a string.
    ///
    /// # Errors
    /// If it does not begin like one. What follows is looked at when it is needed.
    pub fn open(bytes: &'a [u8]) -> Result<Sketch<'a>, Flaw> {
        Ok(Sketch { bytes: bytes.into(), form: form_of(bytes)? })
    }

    /// Adds an element. `true`: that changed something.
    ///
    /// # Errors
    /// If the string is corrupt.
    pub fn add(&mut self, element: &[u8]) -> Result<bool, Flaw> {
        let is_changed = self.mark(Mark::of(element))?;
        if is_changed {
            self.forget_count();
        }
        Ok(is_changed)
    }

    /// Adds what is in `registers`; where one of those they come from is dense, it is dense, too.
    ///
    /// # Errors
    /// If the string is corrupt.
    pub fn join(&mut self, registers: &Registers) -> Result<(), Flaw> {
        if registers.has_dense {
            self.make_dense()?;
        }
        for (index, &rank) in registers.ranks.iter().enumerate().filter(|(_, rank)| **rank > 0) {
            self.mark(Mark { index, rank })?;
        }
        self.forget_count();
        Ok(())
    }

    /// The string.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_owned()
    }

    fn forget_count(&mut self) {
        if self.bytes[CACHE_FLAG_AT] & CACHE_FLAG == 0 {
            self.bytes.to_mut()[CACHE_FLAG_AT] |= CACHE_FLAG;
        }
    }

    fn mark(&mut self, mark: Mark) -> Result<bool, Flaw> {
        match self.form {
            Form::Dense => Ok(self.mark_dense(mark)),
            Form::Sparse => self.mark_sparse(mark),
        }
    }

    fn mark_dense(&mut self, Mark { index, rank }: Mark) -> bool {
        // Four registers in three bytes.
        let at = HEADER_BYTES + index / 4 * 3;
        let shift = index % 4 * 6;
        let four = u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], 0]);
        if (four >> shift & 63) as u8 >= rank {
            return false;
        }
        let four = four & !(63 << shift) | u32::from(rank) << shift;
        self.bytes.to_mut()[at..at + 3].copy_from_slice(&four.to_le_bytes()[..3]);
        true
    }

    fn mark_sparse(&mut self, mark: Mark) -> Result<bool, Flaw> {
        let Mark { index, rank } = mark;
        // The run that has the register, and the one before it.
        let (mut before, mut at, mut first) = (None, HEADER_BYTES, 0);
        let run = loop {
            let run = Run::at(&self.bytes, at).ok_or(Flaw::Corrupt)?;
            if index < first + run.len {
                break run;
            }
            before = Some(at);
            at += run.bytes;
            first += run.len;
        };
        if run.rank >= rank {
            return Ok(false);
        }
        let mut runs = Vec::with_capacity(5);
        put_run(run.rank, index - first, &mut runs);
        if rank <= SPARSE_RANK_MAX {
            put_run(rank, 1, &mut runs);
        }
        put_run(run.rank, first + run.len - index - 1, &mut runs);
        let is_longer = runs.len() > run.bytes;
        if rank > SPARSE_RANK_MAX || is_longer && self.bytes.len() + runs.len() - run.bytes > SPARSE_SKETCH_BYTES_MAX {
            self.make_dense()?;
            return Ok(self.mark_dense(mark));
        }
        let bytes = self.bytes.to_mut();
        bytes.splice(at..at + run.bytes, runs);
        merge_runs(bytes, before.unwrap_or(HEADER_BYTES));
        Ok(true)
    }

    fn make_dense(&mut self) -> Result<(), Flaw> {
        if self.form == Form::Dense {
            return Ok(());
        }
        let mut registers = Registers::new();
        registers.join(&self.bytes)?;
        let mut bytes = self.bytes[..HEADER_BYTES].to_vec();
        bytes[FORM_AT] = Form::Dense as u8;
        bytes.resize(DENSE_BYTES, 0);
        *self = Sketch { bytes: bytes.into(), form: Form::Dense };
        for (index, &rank) in registers.ranks.iter().enumerate() {
            self.mark_dense(Mark { index, rank });
        }
        Ok(())
    }
}

/// A run of the sparse form.
#[derive(Clone, Copy, Debug)]
struct Run {
    rank: u8,
    /// Registers that it has, at least one.
    len: usize,
    /// Bytes that it takes.
    bytes: usize,
}

impl Run {
    #[inline]
    fn at(bytes: &[u8], at: usize) -> Option<Run> {
        let code = *bytes.get(at)?;
        Some(match code >> 6 {
            0 => Run { rank: 0, len: usize::from(code & 0x3f) + 1, bytes: 1 },
            1 => {
                let low = *bytes.get(at + 1)?;
                Run { rank: 0, len: (usize::from(code & 0x3f) << 8 | usize::from(low)) + 1, bytes: 2 }
            }
            _ => Run { rank: (code >> 2 & 0x1f) + 1, len: usize::from(code & 3) + 1, bytes: 1 },
        })
    }
}

/// Appends a run, if it has a register; only one of zeros may be longer than [`SPARSE_RUN_MAX`].
fn put_run(rank: u8, len: usize, out: &mut Vec<u8>) {
    match (rank, len) {
        (_, 0) => {}
        (0, _) => put_zeros(len, out),
        _ => out.push(0x80 | (rank - 1) << 2 | (len - 1) as u8),
    }
}

fn put_zeros(len: usize, out: &mut Vec<u8>) {
    debug_assert!((1..=REGISTERS).contains(&len));
    if len > SPARSE_ZEROS_SHORT_MAX {
        out.push(0x40 | ((len - 1) >> 8) as u8);
    }
    out.push((len - 1) as u8);
}

/// Makes one of neighbouring runs of the same rank, as far as Redis looks: five runs from the one at `at` on.
fn merge_runs(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..5 {
        let Some(run) = Run::at(bytes, at) else { return };
        if run.rank > 0
            && let Some(next) = Run::at(bytes, at + 1)
            && next.rank == run.rank
            && run.len + next.len <= SPARSE_RUN_MAX
        {
            bytes.remove(at);
            bytes[at] += run.len as u8;
        } else {
            at += run.bytes;
        }
    }
}

/// The registers of several HyperLogLogs, the highest ranks of all.
#[derive(Debug)]
pub struct Registers {
    ranks: Box<[u8; REGISTERS]>,
    has_dense: bool,
}

impl Default for Registers {
    fn default() -> Self {
        Registers::new()
    }
}

impl Registers {
    /// Of none.
    pub fn new() -> Registers {
        Registers { ranks: Box::new([0; REGISTERS]), has_dense: false }
    }

    /// Adds those of a string.
    ///
    /// # Errors
    /// If it is no HyperLogLog.
    pub fn join(&mut self, bytes: &[u8]) -> Result<(), Flaw> {
        if form_of(bytes)? == Form::Dense {
            self.has_dense = true;
            for (four, ranks) in bytes[HEADER_BYTES..].chunks_exact(3).zip(self.ranks.chunks_exact_mut(4)) {
                let of_four = u32::from_le_bytes([four[0], four[1], four[2], 0]);
                for (n, rank) in ranks.iter_mut().enumerate() {
                    *rank = (*rank).max((of_four >> (n * 6) & 63) as u8);
                }
            }
            return Ok(());
        }
        let (mut at, mut first) = (HEADER_BYTES, 0);
        while at < bytes.len() {
            let run = Run::at(bytes, at).ok_or(Flaw::Corrupt)?;
            let ranks = self.ranks.get_mut(first..first + run.len).ok_or(Flaw::Corrupt)?;
            ranks.iter_mut().for_each(|rank| *rank = (*rank).max(run.rank));
            at += run.bytes;
            first += run.len;
        }
        if first == REGISTERS { Ok(()) } else { Err(Flaw::Corrupt) }
    }

    /// About how many distinct elements were added.
    pub fn count(&self) -> u64 {
        let mut histogram = [0; 64];
        self.ranks.iter().for_each(|rank| histogram[usize::from(*rank)] += 1);
        estimate(&histogram)
    }
}

/// About how many distinct elements were added to the HyperLogLog in a string: what it says itself, if that is valid.
///
/// # Errors
/// If it is none.
pub fn count(bytes: &[u8]) -> Result<u64, Flaw> {
    form_of(bytes)?;
    if let (Some(cached), true) = (bytes[8..].first_chunk(), bytes[CACHE_FLAG_AT] & CACHE_FLAG == 0) {
        return Ok(u64::from_le_bytes(*cached));
    }
    let mut registers = Registers::new();
    registers.join(bytes)?;
    Ok(registers.count())
}

fn estimate(histogram: &[u32; 64]) -> u64 {
    let m = REGISTERS as f64;
    let highest = RANK_BITS as usize;
    let mut z = m * tau((m - f64::from(histogram[highest + 1])) / m);
    for count in histogram[1..=highest].iter().rev() {
        z += f64::from(*count);
        z *= 0.5;
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    /// 1 / (2 ln 2).
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    (ALPHA * m * m / z).round() as u64
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Austin Appleby's MurmurHash64A.
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, tail) = bytes.as_chunks();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ k >> R).wrapping_mul(M);
        hash = (hash ^ k).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> R).wrapping_mul(M);
    hash ^ hash >> R
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of<'a>(elements: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
        let mut sketch = Sketch::new();
        elements.into_iter().for_each(|element| _ = sketch.add(element.as_bytes()).unwrap());
        sketch.into_bytes()
    }

    #[test]
    fn it_has_the_bytes_that_redis_writes() {
        let expected = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80`\xf3\x80P\xb1\x84K\xfb\x80BZ";
        assert_eq!(of(["a", "b", "c"]), expected);
        assert_eq!(count(expected), Ok(3));
        assert_eq!(
            count(b"HYLL\x01\0\0\0\x07\0\0\0\0\0\0\0`\xf3\x80P\xb1\x84K\xfb\x80BZ"),
            Ok(7),
            "what it says itself"
        );
    }

    #[test]
    fn it_counts_what_redis_counts() {
        let mut sketch = Sketch::new();
        // From `PFADD h e0`, `PFADD h e1` … of redis-server 7.0.
        let expected = [
            (1, 1),
            (10, 10),
            (100, 100),
            (500, 506),
            (900, 906),
            (1000, 1008),
            (1500, 1509),
            (2000, 2000),
            (5000, 4968),
            (20000, 19901),
            (100000, 100853),
            (200000, 200859),
        ];
        for number in 0..=200_000u32 {
            sketch.add(format!("e{number}").as_bytes()).unwrap();
            if let Some((_, of_redis)) = expected.iter().find(|(elements, _)| *elements == number + 1) {
                assert_eq!(count(&sketch.bytes), Ok(*of_redis), "of {number}");
            }
        }
        assert_eq!(sketch.form, Form::Dense);
    }

    #[test]
    fn what_is_none_is_refused() {
        let good = of(["a"]);
        assert_eq!(count(b""), Err(Flaw::Foreign));
        assert_eq!(count(&good[..15]), Err(Flaw::Foreign));
        assert_eq!(count(&good[..good.len() - 1]), Err(Flaw::Corrupt));
        let mut foreign = good.clone();
        foreign[FORM_AT] = 0;
        assert_eq!(count(&foreign), Err(Flaw::Foreign), "dense ones have one length");
        let mut long = good.clone();
        long.push(0);
        assert_eq!(count(&long), Err(Flaw::Corrupt));
        let mut cut = Sketch::open(&good[..HEADER_BYTES]).unwrap();
        assert_eq!(cut.add(b"x"), Err(Flaw::Corrupt));
    }

    proptest! {
        #[test]
        fn sparse_and_dense_forms_say_the_same(elements in proptest::collection::vec(0u32..3_000, 0..900)) {
            let texts: Vec<String> = elements.iter().map(u32::to_string).collect();
            let sparse = of(texts.iter().map(String::as_str));
            let mut dense = Sketch::open(&sparse).unwrap();
            dense.make_dense().unwrap();
            prop_assert_eq!(count(&dense.bytes), count(&sparse));
            let mut union = Registers::new();
            let (some, others) = texts.split_at(texts.len() / 3);
            for part in [some, others] {
                union.join(&of(part.iter().map(String::as_str))).unwrap();
            }
            let mut joined = Sketch::new();
            joined.join(&union).unwrap();
            prop_assert_eq!(count(&joined.bytes), count(&sparse));
        }

        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), form in 0u8..3) {
            let mut bytes = b"HYLL\0\0\0\0\0\0\0\0\0\0\0\x80".to_vec();
            bytes[FORM_AT] = form;
            bytes.extend(tail);
            let _ = count(&bytes);
            if let Ok(mut sketch) = Sketch::open(&bytes) {
                let _ = (sketch.add(b"a"), sketch.add(b"b"), sketch.make_dense());
            }
        }
    }
}
