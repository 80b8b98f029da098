//! Asks the processor to fetch memory that will be needed soon. Without effect where there is no such instruction.

/// Fetches the cache line where `place` begins.
#[inline(always)]
#[allow(unsafe_code, reason = "the instruction has no safe form")]
pub(super) fn read<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and changes nothing that can be seen, whatever the address; this one is even
    // that of a live reference. SSE, which has the instruction, is part of every x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_leaves_memory_as_it_is() {
        let value = [7u64; 8];
        super::read(&value);
        assert_eq!(value, [7; 8]);
    }
}
