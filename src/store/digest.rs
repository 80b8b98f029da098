//! The mixing behind digests: 64 bits that are the same in every process, on every machine and in every build, because
//! two nodes compare them. It is XXH3 (a published format) and a folded multiplication. Not for hash tables: whoever
//! chooses the keys can compute it.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The mix of some bytes. The same bytes under another `seed` give an independent number.
#[inline]
pub fn bytes(seed: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed)
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
    }
}
