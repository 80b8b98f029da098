//! A list: elements in an order, reached from both ends.

use std::collections::VecDeque;

use crate::snapshot::record::{Reader, RecordError, put_bytes, put_varint};
use crate::store::digest::Sequence;

/// Which end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The left end, index 0.
    Head,
    /// The right end, index -1.
    Tail,
}

/// Elements in an order.
#[derive(Debug, Default)]
pub struct List {
    elements: VecDeque<Box<[u8]>>,
    /// Bytes of all elements.
    bytes: usize,
    /// Their digest, kept current: that of a million elements is there at once.
    sequence: Sequence,
}

impl List {
    /// A list without elements.
    pub fn new() -> List {
        List::default()
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Element number `index` from the head.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.elements.get(index).map(|element| &**element)
    }

    /// The elements from number `first` on, up to `end`, which must not be beyond the length.
    pub fn range(&self, first: usize, end: usize) -> impl Iterator<Item = &[u8]> {
        self.elements.range(first..end).map(|element| &**element)
    }

    /// All elements, from the head.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.elements.iter().map(|element| &**element)
    }

    /// Adds an element at one end.
    pub fn push(&mut self, end: End, element: &[u8]) {
        self.bytes += element.len();
        match end {
            End::Head => {
                self.sequence.push_front(element);
                self.elements.push_front(element.into());
            }
            End::Tail => {
                self.sequence.push_back(element);
                self.elements.push_back(element.into());
            }
        }
    }

    /// Takes the element at one end.
    pub fn pop(&mut self, end: End) -> Option<Box<[u8]>> {
        let element = match end {
            End::Head => self.elements.pop_front(),
            End::Tail => self.elements.pop_back(),
        }?;
        match end {
            End::Head => self.sequence.pop_front(&element),
            End::Tail => self.sequence.pop_back(&element),
        }
        self.bytes -= element.len();
        self.tighten();
        Some(element)
    }

    /// Puts `element` where number `index` is. `false`: there is no such place.
    pub fn set(&mut self, index: usize, element: &[u8]) -> bool {
        let Some(old) = self.elements.get_mut(index) else { return false };
        self.bytes = self.bytes + element.len() - old.len();
        self.sequence.replace(index, old, element);
        *old = element.into();
        true
    }

    /// Puts `element` before number `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, element: &[u8]) {
        self.bytes += element.len();
        self.elements.insert(index, element.into());
        self.digest_anew();
    }

    /// Removes up to `limit` elements equal to `element`, beginning at one end, and returns how many.
    pub fn remove_equal(&mut self, from: End, element: &[u8], limit: usize) -> usize {
        let equal = self.elements.iter().filter(|e| ***e == *element).count();
        let removed = equal.min(limit);
        // From the tail on: the first ones stay.
        let mut skip = if from == End::Tail { equal - removed } else { 0 };
        let mut left = removed;
        self.elements.retain(|e| {
            if left == 0 || **e != *element {
                return true;
            }
            if skip > 0 {
                skip -= 1;
                return true;
            }
            left -= 1;
            false
        });
        self.bytes -= removed * element.len();
        if removed > 0 {
            self.digest_anew();
        }
        self.tighten();
        removed
    }

    /// Keeps the elements from number `first` up to `end` (at most the length), and nothing else.
    pub fn keep(&mut self, first: usize, end: usize) {
        for gone in self.elements.drain(end..).rev() {
            self.bytes -= gone.len();
            self.sequence.pop_back(&gone);
        }
        for gone in self.elements.drain(..first) {
            self.bytes -= gone.len();
            self.sequence.pop_front(&gone);
        }
        self.tighten();
    }

    /// Bytes of memory outside the value itself. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        self.elements.capacity() * size_of::<Box<[u8]>>() + self.bytes
    }

    /// What it adds to a digest: the elements in their order.
    pub fn digest(&self) -> u64 {
        self.sequence.digest()
    }

    /// Appends its record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.len() as u64, out);
        self.iter().for_each(|element| put_bytes(element, out));
    }

    /// Reads its record.
    ///
    /// # Errors
    /// If the record is malformed or has no element.
    pub fn decode(reader: &mut Reader<'_>) -> Result<List, RecordError> {
        let count = super::members(reader)?;
        let mut list = List::new();
        for _ in 0..count {
            list.push(End::Tail, reader.bytes()?);
        }
        Ok(list)
    }

    /// Frees up to `members` elements. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        self.elements.truncate(self.len().saturating_sub(members));
        self.is_empty()
    }

    /// After a change in the middle, which costs the length anyway.
    fn digest_anew(&mut self) {
        self.sequence = Sequence::of(self.elements.iter().map(|element| &**element));
    }

    /// Gives memory back once most of it is unused.
    fn tighten(&mut self) {
        if self.elements.capacity() > 64 && self.len() * 8 < self.elements.capacity() {
            self.elements.shrink_to(self.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(elements: &str) -> List {
        let mut list = List::new();
        elements.bytes().for_each(|b| list.push(End::Tail, &[b]));
        list
    }

    fn text(list: &List) -> String {
        list.iter().map(|e| String::from_utf8_lossy(e).into_owned()).collect()
    }

    #[test]
    fn equal_elements_are_removed_from_either_end() {
        let cases = [
            (End::Head, 2, "bcba", 2),
            (End::Tail, 2, "abcb", 2),
            (End::Head, 9, "bcb", 3),
            (End::Tail, 0, "abcaba", 0),
        ];
        for (from, limit, expected, removed) in cases {
            let mut l = list("abcaba");
            assert_eq!(l.remove_equal(from, b"a", limit), removed);
            assert_eq!(text(&l), expected, "{limit} from {from:?}");
            assert_eq!(l.bytes, l.len());
            assert_eq!(l.digest(), list(expected).digest());
        }
    }

    #[test]
    fn a_range_is_kept_and_bytes_are_counted() {
        let mut l = list("abcdef");
        l.keep(1, 4);
        assert_eq!(text(&l), "bcd");
        l.insert(1, b"xy");
        assert!(l.set(0, b"longer"));
        assert!(!l.set(9, b""));
        assert_eq!(text(&l), "longerxycd");
        assert_eq!(l.bytes, 10);
        assert_eq!(l.sequence, Sequence::of(l.iter()));
        let mut record = Vec::new();
        l.encode(&mut record);
        assert_eq!(text(&List::decode(&mut Reader::new(&record)).unwrap()), "longerxycd");
        assert_ne!(list("ab").digest(), list("ba").digest(), "the order counts");
    }
}
