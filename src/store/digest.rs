//! The mixing behind digests: 64 bits that are the same in every process, on every machine and in every build, because
//! two nodes compare them. It is XXH3 (a published format) and a folded multiplication; for lists, arithmetic modulo a prime.
//! Not for hash tables: whoever chooses the keys can compute it.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// The digest of elements in an order, kept current while elements come and go at both ends: their numbers as the digits of
/// one number, modulo a prime. Every operation costs the same for every length but for [`replace`](Sequence::replace), which
/// takes the logarithm of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequence {
    /// The sum of `element i × BASE^i`.
    sum: u64,
    /// `BASE` to the number of elements.
    power: u64,
}

/// A Mersenne prime: reducing by it is a shift and an addition.
const PRIME: u64 = (1 << 61) - 1;
/// Any number below the prime with no small order; digits of pi.
const BASE: u64 = 0x0243_f6a8_885a_308d;
/// By which a place is undone, by Fermat.
const BASE_INVERSE: u64 = power_of(BASE, PRIME - 2);

const _: () = assert!(times(BASE, BASE_INVERSE) == 1);

const fn plus(a: u64, b: u64) -> u64 {
    let sum = a + b;
    if sum >= PRIME { sum - PRIME } else { sum }
}

const fn minus(a: u64, b: u64) -> u64 {
    plus(a, PRIME - b)
}

const fn times(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    plus(product as u64 & PRIME, (product >> 61) as u64)
}

const fn power_of(base: u64, mut exponent: u64) -> u64 {
    let (mut result, mut square) = (1, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    result
}

impl Default for Sequence {
    fn default() -> Sequence {
        Sequence { sum: 0, power: 1 }
    }
}

impl Sequence {
    /// The elements of a whole sequence, in order.
    pub fn of<'a>(elements: impl Iterator<Item = &'a [u8]>) -> Sequence {
        let mut sequence = Sequence::default();
        elements.for_each(|element| sequence.push_back(element));
        sequence
    }

    #[inline]
    fn digit(element: &[u8]) -> u64 {
        let mixed = bytes(4, element);
        plus(mixed & PRIME, mixed >> 61)
    }

    /// An element comes behind the last one.
    #[inline]
    pub fn push_back(&mut self, element: &[u8]) {
        self.sum = plus(self.sum, times(Sequence::digit(element), self.power));
        self.power = times(self.power, BASE);
    }

    /// An element comes before the first one.
    #[inline]
    pub fn push_front(&mut self, element: &[u8]) {
        self.sum = plus(times(self.sum, BASE), Sequence::digit(element));
        self.power = times(self.power, BASE);
    }

    /// The last element, this one, goes.
    #[inline]
    pub fn pop_back(&mut self, element: &[u8]) {
        self.power = times(self.power, BASE_INVERSE);
        self.sum = minus(self.sum, times(Sequence::digit(element), self.power));
    }

    /// The first element, this one, goes.
    #[inline]
    pub fn pop_front(&mut self, element: &[u8]) {
        self.power = times(self.power, BASE_INVERSE);
        self.sum = times(minus(self.sum, Sequence::digit(element)), BASE_INVERSE);
    }

    /// Element number `index`, `old`, becomes `new`.
    pub fn replace(&mut self, index: usize, old: &[u8], new: &[u8]) {
        let difference = minus(Sequence::digit(new), Sequence::digit(old));
        self.sum = plus(self.sum, times(difference, power_of(BASE, index as u64)));
    }

    /// The elements of another sequence come behind these.
    pub fn append(&mut self, other: Sequence) {
        self.sum = plus(self.sum, times(other.sum, self.power));
        self.power = times(self.power, other.power);
    }

    /// What the elements add to a digest.
    pub fn digest(self) -> u64 {
        pair(self.sum, self.power)
    }
}

/// The mix of some bytes. The same bytes under another `seed` give an independent number.
#[inline]
pub fn bytes(seed: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// The mix of bytes that come one part after the other: what [`bytes()`] gives of all of them.
pub struct Parts(Box<Xxh3>);

impl Parts {
    /// Nothing so far.
    pub fn new(seed: u64) -> Parts {
        Parts(Box::new(Xxh3::with_seed(seed)))
    }

    /// The next part.
    pub fn push(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The mix.
    pub fn digest(&self) -> u64 {
        self.0.digest()
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

/// The mix of two numbers, in this order.
#[inline]
pub fn pair(a: u64, b: u64) -> u64 {
    // Odd constants of no meaning (digits of pi) keep a zero on one side from wiping out the other.
    let product = u128::from(a ^ 0x243f_6a88_85a3_08d3) * u128::from(b ^ 0x1319_8a2e_0370_7345);
    let folded = (product as u64) ^ ((product >> 64) as u64);
    (folded ^ a.rotate_left(29) ^ b.rotate_left(47)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_these_in_every_build() {
        assert_eq!(bytes(0, b""), 0x2d06_8005_38d3_94c2, "XXH3 of nothing, as its specification has it");
        assert_eq!(pair(1, 2), 0xa7d5_2e55_a20e_8ee8, "computed by hand");
        assert_ne!(pair(1, 2), pair(2, 1));
        let sequence = Sequence::of([&b"a"[..], b"b"].into_iter());
        assert_eq!(sequence.digest(), 9_843_169_410_790_033_104, "of two elements");
    }

    #[test]
    fn a_sequence_is_what_its_elements_are_however_they_came() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut model: std::collections::VecDeque<Vec<u8>> = Default::default();
        let mut sequence = Sequence::default();
        for step in 0..5_000u32 {
            let element = random.u8(..4).to_string().into_bytes();
            match random.u8(..6) {
                0 | 1 => {
                    sequence.push_back(&element);
                    model.push_back(element);
                }
                2 => {
                    sequence.push_front(&element);
                    model.push_front(element);
                }
                3 => model.pop_front().iter().for_each(|gone| sequence.pop_front(gone)),
                4 => model.pop_back().iter().for_each(|gone| sequence.pop_back(gone)),
                _ if model.is_empty() => {}
                _ => {
                    let index = random.usize(..model.len());
                    sequence.replace(index, &model[index], &element);
                    model[index] = element;
                }
            }
            assert_eq!(sequence, Sequence::of(model.iter().map(Vec::as_slice)), "step {step}");
        }
        let of = |elements: &[&[u8]]| Sequence::of(elements.iter().copied()).digest();
        assert_ne!(of(&[b"a", b"b"]), of(&[b"b", b"a"]), "the order counts");
        assert_ne!(of(&[]), of(&[b""]), "an empty element counts");
    }
}
