//! Short byte strings one after the other in one buffer, each with its length before it, as a dump writes them. What
//! makes small aggregates small: one allocation, and a dump is a copy.
//!
//! ```text
//! length varint │ bytes │ length varint │ bytes …
//! ```

use crate::snapshot::record::put_bytes;

/// Byte strings side by side, found by walking. Kept to a few kilobytes by its owners.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    bytes: Vec<u8>,
    count: u32,
}

impl Packed {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the items with their lengths.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The items as a dump writes them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of memory.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends an item.
    pub fn push(&mut self, item: &[u8]) {
        put_bytes(item, &mut self.bytes);
        self.count += 1;
    }

    /// The place of the first item equal to `item` among those whose number is a multiple of `step`.
    pub fn find(&self, item: &[u8], step: usize) -> Option<usize> {
        let mut at = 0;
        while at < self.bytes.len() {
            let (start, end) = self.span(at);
            if self.bytes[start..end] == *item {
                return Some(at);
            }
            at = end;
            for _ in 1..step {
                at = self.after(at);
            }
        }
        None
    }

    /// The item at the place `at`.
    pub fn item(&self, at: usize) -> &[u8] {
        let (start, end) = self.span(at);
        &self.bytes[start..end]
    }

    /// The place behind the item at `at`.
    pub fn after(&self, at: usize) -> usize {
        self.span(at).1
    }

    /// Puts `item` where another one is.
    pub fn replace(&mut self, at: usize, item: &[u8]) {
        let (start, end) = self.span(at);
        if end - start == item.len() {
            return self.bytes[start..end].copy_from_slice(item);
        }
        let mut encoded = Vec::with_capacity(item.len() + 2);
        put_bytes(item, &mut encoded);
        self.bytes.splice(at..end, encoded);
    }

    /// Removes `count` items from the place `at` on.
    pub fn remove(&mut self, at: usize, count: u32) {
        let end = (0..count).fold(at, |place, _| self.after(place));
        self.bytes.drain(at..end);
        self.count -= count;
    }

    /// All items in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at == self.bytes.len() {
                return None;
            }
            let (start, end) = self.span(at);
            at = end;
            Some(&self.bytes[start..end])
        })
    }

    /// All items, two by two.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut items = self.iter();
        std::iter::from_fn(move || Some((items.next()?, items.next()?)))
    }

    /// Where the item at the place `at` begins and ends.
    #[inline]
    fn span(&self, at: usize) -> (usize, usize) {
        let mut len = 0usize;
        let mut shift = 0;
        let mut start = at;
        loop {
            let byte = self.bytes[start];
            len |= usize::from(byte & 0x7f) << shift;
            start += 1;
            if byte < 0x80 {
                return (start, start + len);
            }
            shift += 7;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_found_replaced_and_removed() {
        let mut packed = Packed::default();
        for item in [b"a".as_slice(), b"b", b"b", b"", &[7; 300]] {
            packed.push(item);
        }
        assert_eq!(packed.find(b"b", 1), Some(2));
        assert_eq!(packed.find(b"b", 2), Some(4), "only every second item is looked at");
        packed.replace(2, &[8; 200]);
        packed.remove(0, 1);
        let items: Vec<&[u8]> = packed.iter().collect();
        assert_eq!(items, [[8; 200].as_slice(), b"b", b"", &[7; 300]]);
        assert_eq!((packed.len(), packed.pairs().count()), (4, 2));
    }
}
