//! Which of sixteen bytes are a given one: how a line is searched. One compare and one move where the processor has them.

/// The bytes of `bytes`, the lowest first, that are `byte`: a bit each.
#[inline(always)]
#[cfg_attr(target_arch = "x86_64", allow(unsafe_code, reason = "the instructions have no safe form"))]
pub(super) fn equal(bytes: u128, byte: u8) -> u16 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2, which has all of them, is part of every x86-64; they work on values alone.
    unsafe {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
        let bytes = _mm_set_epi64x((bytes >> 64) as i64, bytes as i64);
        _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8))) as u16
    }
    #[cfg(not(target_arch = "x86_64"))]
    bytes.to_le_bytes().iter().rev().fold(0, |marks, b| marks << 1 | u16::from(*b == byte))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_place_is_told_apart() {
        let bytes: [u8; 16] = std::array::from_fn(|i| (i as u8).wrapping_mul(37) | 0x80 >> (i % 3));
        for byte in 0..=u8::MAX {
            let wanted = (0..16).filter(|i| bytes[*i] == byte).fold(0, |marks, i| marks | 1 << i);
            assert_eq!(super::equal(u128::from_le_bytes(bytes), byte), wanted, "byte {byte}");
        }
        assert_eq!(super::equal(0, 0), u16::MAX);
    }
}
