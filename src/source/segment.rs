//! A contiguous piece of memory that one writer appends to while any number of readers hold what is written already.
//!
//! ```text
//! |■■■■■■■■■■■■■■■■■■■■■■■■■■|░░░░░░░░░░░░░░░░░░|
//! 0   published: shared,    len   spare: only the   capacity
//!     never changed again         writer's
//! ```
//!
//! `BytesMut` can do this as well, but what it has frozen piece by piece cannot be read as one contiguous run again,
//! and one contiguous run is what a large send needs.

#![allow(unsafe_code, reason = "one allocation is written at its end and read at its beginning at the same time")]

use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use bytes::Bytes;

/// The writer's end of a segment. There is one; it cannot be cloned.
#[derive(Debug)]
pub struct Segment {
    memory: Arc<Memory>,
    /// Bytes published; only grows, but for [`recycle`](Self::recycle).
    len: usize,
}

/// The allocation. Bytes below the writer's `len` are immutable; those above are touched by the writer alone.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: `Memory` owns its allocation. It is written only through `Segment::spare`, which takes the one writer by
// `&mut`, and only above `len`; it is read only through ranges below `len` (asserted in `Segment::slice`). The two
// never overlap, so sending or sharing the handle between threads cannot make a data race; that a reader on another
// thread sees the bytes follows from whatever handed it the `Bytes`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `start` and `capacity` are those of the boxed slice that `Segment::new` leaked, and the last
        // handle is being dropped.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.capacity)) });
    }
}

/// A published range, as `Bytes` owns it.
struct Published {
    memory: Arc<Memory>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Published {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Segment::slice` asserted that the range lies below the published length, which lies within the
        // allocation; the allocation lives as long as `memory`; nobody writes there: a segment is reset only by
        // `recycle`, which first proves that no `Published` exists.
        unsafe { slice::from_raw_parts(self.memory.start.as_ptr().add(self.range.start), self.range.len()) }
    }
}

impl Segment {
    /// An empty segment. Its memory is zeroed lazily by the system, so that nothing is touched before it is used.
    pub fn new(capacity: usize) -> Segment {
        let memory: &'static mut [u8] = Box::leak(vec![0u8; capacity].into_boxed_slice());
        let start = NonNull::from(memory).cast();
        Segment { memory: Arc::new(Memory { start, capacity }), len: 0 }
    }

    /// Bytes published.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes it can hold.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// What is not written yet.
    #[inline]
    pub fn spare(&mut self) -> &mut [u8] {
        // SAFETY: `len..capacity` is inside the allocation and initialised; no `Published` reaches above `len`, and
        // `&mut self` is the only writer, so the slice is exclusive for as long as it borrows `self`.
        unsafe { slice::from_raw_parts_mut(self.memory.start.as_ptr().add(self.len), self.memory.capacity - self.len) }
    }

    /// Publishes the first `written` bytes of what [`spare`](Self::spare) gave.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub fn publish(&mut self, written: usize) {
        assert!(written <= self.memory.capacity - self.len);
        self.len += written;
    }

    /// A shared view of a published range; no copy.
    ///
    /// # Panics
    /// If the range is not published.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        assert!(range.start <= range.end && range.end <= self.len);
        if range.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(Published { memory: Arc::clone(&self.memory), range })
    }

    /// All that is published.
    #[inline]
    pub fn published(&self) -> &[u8] {
        // SAFETY: `0..len` is inside the allocation and initialised, and no writer can be at work while `self` is
        // borrowed.
        unsafe { slice::from_raw_parts(self.memory.start.as_ptr(), self.len) }
    }

    /// Empties the segment for another use, unless a view of it is still held somewhere.
    ///
    /// # Errors
    /// The segment itself, if one is.
    pub fn recycle(mut self) -> Result<Segment, Segment> {
        if Arc::get_mut(&mut self.memory).is_some() {
            self.len = 0;
            Ok(self)
        } else {
            Err(self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_stays_while_more_is_written() {
        let mut segment = Segment::new(16);
        segment.spare()[..5].copy_from_slice(b"first");
        segment.publish(5);
        let first = segment.slice(0..5);
        segment.spare()[..6].copy_from_slice(b"second");
        segment.publish(6);
        let reader = std::thread::spawn({
            let first = first.clone();
            move || first.to_vec()
        });
        segment.spare()[..5].fill(b'x');
        assert_eq!(&first[..], b"first");
        assert_eq!(&segment.slice(0..11)[..], b"firstsecond");
        assert_eq!(segment.published(), b"firstsecond");
        assert_eq!(reader.join().unwrap(), b"first");
    }

    #[test]
    fn a_segment_is_reused_only_when_nobody_reads_it() {
        let mut segment = Segment::new(8);
        segment.spare()[..3].copy_from_slice(b"abc");
        segment.publish(3);
        let view = segment.slice(1..3);
        let segment = segment.recycle().unwrap_err();
        drop(segment);
        assert_eq!(&view[..], b"bc", "a view outlives its segment");

        let mut segment = Segment::new(8);
        segment.publish(3);
        drop(segment.slice(0..3));
        assert_eq!(segment.recycle().unwrap().len(), 0);
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn what_is_not_published_cannot_be_shared() {
        let mut segment = Segment::new(8);
        segment.publish(3);
        let _ = segment.slice(0..4);
    }
}
