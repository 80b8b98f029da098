//! A list: elements in an order, reached from both ends. It is a row of nodes of bounded size, so that no step on a long list is
//! long: a push makes or copies one node at most.
//!
//! ```text
//! List   node ── node ── node …                      ≤ 16 KiB or ≤ 1,024 elements each; a larger element is alone in its node
//! Node   │ room │ element │ element │ … │            side by side; `starts` says where each begins
//! ```
//!
//! A [`Frozen`] list shares the nodes, and keeps what they hold: a write clones the one node that it changes. Its nodes go to
//! [`Thawed`], which frees them in steps: they may be the last of a list that is gone.

use std::collections::VecDeque;
use std::ops::DerefMut;
use std::sync::{Arc, PoisonError};

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
    /// None is empty.
    nodes: VecDeque<Link>,
    len: usize,
    /// Bytes of memory of the nodes.
    memory: usize,
    /// Bytes of all elements.
    bytes: usize,
}

/// A node, and how many elements it has: most searches need no more of it.
#[derive(Debug)]
struct Link {
    node: Arc<Node>,
    len: usize,
    /// The digest of its elements, kept current: that of a million elements is there after a look at each node.
    sequence: Sequence,
}

/// Some elements of a list side by side.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Room for more at the front, then the elements. Short enough for `starts`, unless there is only one element.
    bytes: Vec<u8>,
    /// Where each element begins.
    starts: VecDeque<u16>,
}

/// Bytes of the elements of a node, unless it has only one.
const NODE_BYTES: usize = 16 << 10;

/// Elements of a node.
const NODE_ELEMENTS: usize = 1_024;

/// Unused bytes that a small node may have.
const NODE_SLACK_BYTES: usize = 64;

const _: () =
    assert!(3 * NODE_BYTES <= u16::MAX as usize, "elements and the room before them can be counted in 16 bits");

/// What a node counts for, in members, when a list is released.
const NODE_MEMBERS: usize = 16;

/// A list as it was at one moment.
#[derive(Debug)]
pub struct Frozen {
    /// Those that are not written yet, from the head.
    nodes: VecDeque<Arc<Node>>,
    /// The next element to be written, in the first node.
    next: usize,
    /// Where the nodes go if they are not written.
    thawed: Thawed,
}

/// Nodes of frozen lists that nobody is going to write. A frozen list may be dropped anywhere, also in the middle of a turn that has
/// no store at hand; so both hold this.
#[allow(
    clippy::disallowed_types,
    reason = "shared within a shard: a lock that is always free, for a cursor that may be sent"
)]
#[derive(Clone, Debug, Default)]
pub struct Thawed(Arc<std::sync::Mutex<Vec<VecDeque<Arc<Node>>>>>);

impl List {
    /// A list without elements.
    pub fn new() -> List {
        List::default()
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Element number `index` from the head.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (number, at) = self.locate(index)?;
        Some(self.nodes[number].node.get(at))
    }

    /// The elements from number `first` on, up to `end`, which must not be beyond the length.
    pub fn range(&self, first: usize, end: usize) -> impl Iterator<Item = &[u8]> {
        let (number, at) = self.locate(first).unwrap_or((self.nodes.len(), 0));
        let elements = self.nodes.range(number..).flat_map(|link| link.node.iter());
        elements.skip(at).take(end.saturating_sub(first))
    }

    /// All elements, from the head.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.nodes.iter().flat_map(|link| link.node.iter())
    }

    /// Adds an element at one end.
    pub fn push(&mut self, end: End, element: &[u8]) {
        let link = match end {
            End::Head => self.nodes.front(),
            End::Tail => self.nodes.back(),
        };
        if link.is_some_and(|link| link.node.fits(element)) {
            let number = if end == End::Head { 0 } else { self.nodes.len() - 1 };
            self.change(number, |node, sequence| match end {
                End::Head => {
                    node.push_front(element);
                    sequence.push_front(element);
                }
                End::Tail => {
                    node.push_back(element);
                    sequence.push_back(element);
                }
            });
        } else {
            let number = if end == End::Head { 0 } else { self.nodes.len() };
            self.put_node(number, Node::of(element));
        }
    }

    /// Takes the element at one end.
    pub fn pop(&mut self, end: End) -> Option<Box<[u8]>> {
        let number = if end == End::Head { 0 } else { self.nodes.len().checked_sub(1)? };
        let link = self.nodes.get(number)?;
        let at = if end == End::Head { 0 } else { link.len - 1 };
        if link.len > 1 {
            return Some(self.change(number, |node, sequence| {
                let element = node.remove(at);
                match end {
                    End::Head => sequence.pop_front(&element),
                    End::Tail => sequence.pop_back(&element),
                }
                element
            }));
        }
        let element = link.node.get(0).into();
        self.drop_node(number);
        Some(element)
    }

    /// Puts `element` where number `index` is. `false`: there is no such place.
    pub fn set(&mut self, index: usize, element: &[u8]) -> bool {
        let Some((number, at)) = self.locate(index) else { return false };
        let node = &self.nodes[number].node;
        let old = node.get(at).len();
        if node.used() - old + element.len() <= NODE_BYTES {
            self.change(number, |node, sequence| {
                sequence.replace(at, node.get(at), element);
                node.splice(at, at + 1, Some(element));
            });
            return true;
        }
        match self.nodes[number].len {
            1 => self.drop_node(number),
            _ => self.change_within(number, |node| node.splice(at, at + 1, None)),
        }
        self.insert(index, element);
        true
    }

    /// Puts `element` before number `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, element: &[u8]) {
        let Some((number, at)) = self.locate(index) else { return self.push(End::Tail, element) };
        if self.nodes[number].node.fits(element) {
            return self.change_within(number, |node| node.splice(at, at, Some(element)));
        }
        if at > 0 {
            let upper = self.change_within(number, |node| node.split_off(at));
            self.put_node(number + 1, upper);
            if self.nodes[number].node.fits(element) {
                return self.change_within(number, |node| node.push_back(element));
            }
            return self.put_node(number + 1, Node::of(element));
        }
        self.put_node(number, Node::of(element));
    }

    /// Removes up to `limit` elements equal to `element`, beginning at one end, and returns how many.
    pub fn remove_equal(&mut self, from: End, element: &[u8], limit: usize) -> usize {
        let equal = self.iter().filter(|e| *e == element).count();
        let removed = equal.min(limit);
        // From the tail on: the first ones stay.
        let mut skip = if from == End::Tail { equal - removed } else { 0 };
        let mut left = removed;
        for number in (0..self.nodes.len()).take_while(|_| removed > 0) {
            let found = self.nodes[number].node.iter().filter(|e| *e == element).count();
            let (stay, go) = (found.min(skip), found.saturating_sub(skip).min(left));
            skip -= stay;
            left -= go;
            if go > 0 {
                self.change_within(number, |node| node.remove_equal(element, stay, go));
            }
        }
        if removed > 0 {
            self.tighten();
        }
        removed
    }

    /// Keeps the elements from number `first` up to `end` (at most the length), and nothing else.
    pub fn keep(&mut self, first: usize, end: usize) {
        let mut over = self.len - end.max(first).min(self.len);
        while let Some(link) = self.nodes.back()
            && over > 0
        {
            let (number, len, gone) = (self.nodes.len() - 1, link.len, link.len.min(over));
            match gone == len {
                true => self.drop_node(number),
                false => self.change_within(number, |node| node.splice(len - gone, len, None)),
            }
            over -= gone;
        }
        let mut over = first.min(self.len);
        while let Some(link) = self.nodes.front()
            && over > 0
        {
            let gone = link.len.min(over);
            match gone == link.len {
                true => self.drop_node(0),
                false => self.change_within(0, |node| node.splice(0, gone, None)),
            }
            over -= gone;
        }
    }

    /// Bytes of memory outside the value itself. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Link>() + self.memory
    }

    /// What it adds to a digest: the elements in their order.
    pub fn digest(&self) -> u64 {
        let mut all = Sequence::default();
        self.nodes.iter().for_each(|link| all.append(link.sequence));
        all.digest()
    }

    /// Appends its record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.len() as u64, out);
        self.nodes.iter().for_each(|link| link.node.encode(out));
    }

    /// Adds what a record has at the tail.
    ///
    /// # Errors
    /// If the record is malformed or has no element.
    pub fn extend(&mut self, reader: &mut Reader<'_>) -> Result<(), RecordError> {
        for _ in 0..super::members(reader)? {
            self.push(End::Tail, reader.bytes()?);
        }
        Ok(())
    }

    /// The list as it is now, whatever is written to it later. Costs some 30 ns a node, so 0.4 ms for 200 MB; what is left of it
    /// when it is dropped goes to `thawed`.
    pub fn freeze(&self, thawed: &Thawed) -> Frozen {
        let nodes = self.nodes.iter().map(|link| Arc::clone(&link.node)).collect();
        Frozen { nodes, next: 0, thawed: thawed.clone() }
    }

    /// Frees nodes that count for about `members` elements. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        for _ in 0..members.div_ceil(NODE_MEMBERS) {
            if self.nodes.pop_back().is_none() {
                return true;
            }
        }
        self.nodes.is_empty()
    }

    /// The node of element `index`, and its place there.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        let mut before = index;
        if index <= self.len / 2 {
            for (number, link) in self.nodes.iter().enumerate() {
                if before < link.len {
                    return Some((number, before));
                }
                before -= link.len;
            }
            return None;
        }
        let mut behind = self.len - index;
        for (number, link) in self.nodes.iter().enumerate().rev() {
            if behind <= link.len {
                return Some((number, link.len - behind));
            }
            behind -= link.len;
        }
        None
    }

    /// Changes one node somehow.
    fn change_within<R>(&mut self, number: usize, change: impl FnOnce(&mut Node) -> R) -> R {
        self.change(number, |node, sequence| {
            let result = change(node);
            *sequence = Sequence::of(node.iter());
            result
        })
    }

    /// Changes one node and its digest; a clone of it, where somebody keeps what it was.
    fn change<R>(&mut self, number: usize, change: impl FnOnce(&mut Node, &mut Sequence) -> R) -> R {
        let link = &mut self.nodes[number];
        let (memory, bytes) = (link.node.memory(), link.node.used());
        let node = Arc::make_mut(&mut link.node);
        let result = change(node, &mut link.sequence);
        node.tighten();
        self.len = self.len + node.len() - link.len;
        link.len = node.len();
        self.memory = self.memory + node.memory() - memory;
        self.bytes = self.bytes + node.used() - bytes;
        result
    }

    fn put_node(&mut self, number: usize, node: Node) {
        self.len += node.len();
        self.memory += node.memory();
        self.bytes += node.used();
        let sequence = Sequence::of(node.iter());
        self.nodes.insert(number, Link { len: node.len(), node: Arc::new(node), sequence });
    }

    fn drop_node(&mut self, number: usize) {
        let Some(link) = self.nodes.remove(number) else { return };
        self.len -= link.len;
        self.memory -= link.node.memory();
        self.bytes -= link.node.used();
        if self.nodes.capacity() > 64 && self.nodes.len() * 8 < self.nodes.capacity() {
            self.nodes.shrink_to(self.nodes.len() * 2);
        }
    }

    /// After elements were removed anywhere: empty nodes go, and small neighbours become one.
    fn tighten(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        (self.len, self.memory, self.bytes) = (0, 0, 0);
        for link in nodes.into_iter().filter(|link| link.len > 0) {
            let joins = self.nodes.back().is_some_and(|last| {
                last.len + link.len <= NODE_ELEMENTS && last.node.used() + link.node.used() <= NODE_BYTES
            });
            if joins {
                let last = self.nodes.len() - 1;
                self.change_within(last, |node| link.node.iter().for_each(|element| node.push_back(element)));
            } else {
                self.len += link.len;
                self.memory += link.node.memory();
                self.bytes += link.node.used();
                self.nodes.push_back(link);
            }
        }
    }
}

impl Frozen {
    /// Appends a record of the next elements, of about `room` bytes. `true`: that was the last of them.
    pub fn encode(&mut self, room: usize, out: &mut Vec<u8>) -> bool {
        let mut encoded = Vec::new();
        let mut count = 0;
        while let Some(node) = self.nodes.front()
            && (encoded.len() < room || count == 0)
        {
            put_bytes(node.get(self.next), &mut encoded);
            count += 1;
            self.next += 1;
            if self.next == node.len() {
                // What the list has replaced meanwhile is given back at once.
                self.nodes.pop_front();
                self.next = 0;
            }
        }
        put_varint(count, out);
        out.extend_from_slice(&encoded);
        self.nodes.is_empty()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if !self.nodes.is_empty() {
            self.thawed.lock().push(std::mem::take(&mut self.nodes));
        }
    }
}

impl Thawed {
    /// Frees nodes that count for about `members` elements. `true`: none is left.
    pub fn release(&self, members: usize) -> bool {
        let mut lists = self.lock();
        for _ in 0..members.div_ceil(NODE_MEMBERS) {
            let Some(nodes) = lists.last_mut() else { return true };
            nodes.pop_back();
            if nodes.is_empty() {
                lists.pop();
            }
        }
        lists.is_empty()
    }

    fn lock(&self) -> impl DerefMut<Target = Vec<VecDeque<Arc<Node>>>> {
        // A list of what is to be freed cannot be half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// A node with one element.
    fn of(element: &[u8]) -> Node {
        Node { bytes: element.to_vec(), starts: VecDeque::from([0]) }
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    fn start(&self, at: usize) -> usize {
        self.starts.get(at).map_or(self.bytes.len(), |start| usize::from(*start))
    }

    fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.start(at + 1)]
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Bytes of the elements.
    fn used(&self) -> usize {
        self.bytes.len() - self.start(0)
    }

    fn memory(&self) -> usize {
        size_of::<Node>() + 2 * size_of::<usize>() + self.bytes.capacity() + self.starts.capacity() * size_of::<u16>()
    }

    /// Whether one more element may be added.
    fn fits(&self, element: &[u8]) -> bool {
        self.len() < NODE_ELEMENTS && self.used() + element.len() <= NODE_BYTES
    }

    fn push_back(&mut self, element: &[u8]) {
        if self.bytes.len() + element.len() > 2 * NODE_BYTES {
            self.set_room(0);
        }
        self.starts.push_back(self.bytes.len() as u16);
        self.bytes.extend_from_slice(element);
    }

    fn push_front(&mut self, element: &[u8]) {
        if self.start(0) < element.len() {
            // As much again as there is: a byte is moved a bounded number of times.
            let more = self.used().max(NODE_SLACK_BYTES / 2).min(NODE_BYTES - element.len());
            self.set_room(element.len() + more);
        }
        let start = self.start(0) - element.len();
        self.bytes[start..start + element.len()].copy_from_slice(element);
        self.starts.push_front(start as u16);
    }

    /// Takes an element at either end.
    fn remove(&mut self, at: usize) -> Box<[u8]> {
        let element = self.get(at).into();
        self.splice(at, at + 1, None);
        element
    }

    /// Puts one element, or none, in the place of those from `first` up to `end`.
    fn splice(&mut self, first: usize, end: usize, element: Option<&[u8]>) {
        let (from, to) = (self.start(first), self.start(end));
        if first == 0 && element.is_none() {
            // They become room.
            self.starts.drain(..end);
            return;
        }
        let len = element.map_or(0, <[u8]>::len);
        if to - from == len {
            self.bytes[from..to].copy_from_slice(element.unwrap_or_default());
        } else if to == self.bytes.len() {
            self.bytes.truncate(from);
            self.bytes.extend_from_slice(element.unwrap_or_default());
        } else {
            if self.bytes.len() + len - (to - from) > 2 * NODE_BYTES {
                self.set_room(0);
                return self.splice(first, end, element);
            }
            self.bytes.splice(from..to, element.unwrap_or_default().iter().copied());
        }
        let moved = len.wrapping_sub(to - from) as u16;
        self.starts.range_mut(end..).for_each(|start| *start = start.wrapping_add(moved));
        match element {
            Some(_) if first == end => self.starts.insert(first, from as u16),
            Some(_) => _ = self.starts.drain(first + 1..end),
            None => _ = self.starts.drain(first..end),
        }
    }

    /// The elements from `at` on, taken away.
    fn split_off(&mut self, at: usize) -> Node {
        let start = self.start(at);
        let starts = self.starts.split_off(at).into_iter().map(|s| s - start as u16).collect();
        let upper = Node { bytes: self.bytes[start..].to_vec(), starts };
        self.bytes.truncate(start);
        upper
    }

    /// Removes `go` elements equal to `element` behind the first `stay` of them.
    fn remove_equal(&mut self, element: &[u8], stay: usize, go: usize) {
        let mut kept = Node::default();
        let mut equal = 0;
        for at in 0..self.len() {
            let this = self.get(at);
            equal += usize::from(this == element);
            if this != element || equal <= stay || equal > stay + go {
                kept.push_back(this);
            }
        }
        *self = kept;
    }

    /// Moves the elements so that there are `room` bytes before them.
    fn set_room(&mut self, room: usize) {
        let old = self.start(0);
        let mut bytes = Vec::with_capacity(room + self.used());
        bytes.resize(room, 0);
        bytes.extend_from_slice(&self.bytes[old..]);
        self.bytes = bytes;
        let moved = room.wrapping_sub(old) as u16;
        self.starts.iter_mut().for_each(|start| *start = start.wrapping_add(moved));
    }

    /// Gives memory back once most of it is unused.
    fn tighten(&mut self) {
        if self.start(0) > 2 * self.used() + NODE_SLACK_BYTES {
            self.set_room(0);
        }
        if self.bytes.capacity() > 4 * self.bytes.len() + NODE_SLACK_BYTES {
            self.bytes.shrink_to(2 * self.bytes.len());
        }
        if self.starts.capacity() > 64 && self.len() * 8 < self.starts.capacity() {
            self.starts.shrink_to(self.len() * 2);
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|element| put_bytes(element, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(elements: &str) -> List {
        let mut list = List::new();
        elements.bytes().for_each(|b| list.push(End::Tail, &[b]));
        list
    }

    fn text(list: &List) -> String {
        list.iter().map(|e| String::from_utf8_lossy(e).into_owned()).collect()
    }

    fn decoded(records: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut list = List::new();
        records.iter().for_each(|record| list.extend(&mut Reader::new(record)).unwrap());
        list.iter().map(<[u8]>::to_vec).collect()
    }

    fn invariants(list: &List) {
        assert_eq!(list.len, list.iter().count());
        assert_eq!(list.bytes, list.iter().map(<[u8]>::len).sum::<usize>());
        assert_eq!(list.digest(), Sequence::of(list.iter()).digest());
        assert_eq!(list.memory, list.nodes.iter().map(|link| link.node.memory()).sum::<usize>());
        for Link { node, len, sequence } in &list.nodes {
            assert_eq!(*sequence, Sequence::of(node.iter()));
            assert!(*len > 0 && *len == node.len() && *len <= NODE_ELEMENTS);
            assert!(*len == 1 || node.used() <= NODE_BYTES && node.bytes.len() <= 3 * NODE_BYTES);
            assert!(node.starts.iter().is_sorted());
        }
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
            invariants(&l);
        }
    }

    #[test]
    fn an_element_that_fills_its_node_may_come_anywhere() {
        for used in 0..64 {
            for len in NODE_BYTES - 64..=NODE_BYTES - used {
                let (small, large) = (vec![1; used], vec![2; len]);
                let in_order = |list: &List, expected: &[&[u8]]| {
                    invariants(list);
                    assert!(list.iter().eq(expected.iter().copied()), "{used} and {len} bytes");
                };
                for end in [End::Head, End::Tail] {
                    let mut pushed = List::new();
                    pushed.push(end, &small);
                    pushed.push(end, &large);
                    let expected: [&[u8]; 2] = if end == End::Head { [&large, &small] } else { [&small, &large] };
                    in_order(&pushed, &expected);
                    assert_eq!(pushed.nodes.len(), 1);
                }
                let mut inserted = List::new();
                inserted.push(End::Tail, &small);
                inserted.push(End::Tail, b"");
                inserted.insert(1, &large);
                in_order(&inserted, &[&small, &large, b""]);
                inserted.insert(0, b"");
                inserted.set(3, &small[..used.min(NODE_BYTES - used - len)]);
                assert_eq!(inserted.len(), 4);
                invariants(&inserted);
            }
        }
    }

    #[test]
    fn what_is_left_of_a_frozen_list_is_freed_in_steps() {
        const NODES_A_STEP: usize = 4;
        let thawed = Thawed::default();
        let mut list = List::new();
        (0..100).for_each(|n| list.push(End::Tail, &vec![n; NODE_BYTES]));
        let nodes: Vec<_> = list.nodes.iter().map(|link| Arc::downgrade(&link.node)).collect();
        let held = || nodes.iter().filter(|node| node.strong_count() > 0).count();
        let (mut first, second) = (list.freeze(&thawed), list.freeze(&thawed));
        while !list.release(NODE_MEMBERS) {}
        drop(list);
        assert!(!first.encode(10 * NODE_BYTES, &mut Vec::new()));
        assert_eq!(held(), 100);
        drop(second);
        assert_eq!(held(), 100);
        drop(first);
        let (mut before, mut steps) = (held(), 0);
        assert_eq!(before, 100, "nothing is freed where a list is dropped");
        while !thawed.release(NODES_A_STEP * NODE_MEMBERS) {
            assert!(before - held() <= NODES_A_STEP, "{before}, then {}", held());
            (before, steps) = (held(), steps + 1);
        }
        assert_eq!((held(), steps), (0, (100 + 90) / NODES_A_STEP));
    }

    #[test]
    fn the_order_counts_in_a_digest() {
        assert_ne!(list("ab").digest(), list("ba").digest());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(End, Vec<u8>, usize),
        Pop(End, usize),
        Set(usize, Vec<u8>),
        Insert(usize, Vec<u8>),
        RemoveEqual(End, u8, usize),
        Keep(usize, usize),
        Freeze,
        Thaw,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let end = || prop_oneof![Just(End::Head), Just(End::Tail)];
        let len = || prop_oneof![8 => 0..12usize, 2 => 1_000..6_000usize, 1 => 15_000..40_000usize];
        let element = || (any::<u8>(), len()).prop_map(|(byte, len)| vec![byte % 4; len]);
        let op = prop_oneof![
            6 => (end(), element(), 1..600usize).prop_map(|(end, element, times)| Op::Push(end, element, times)),
            3 => (end(), 1..700usize).prop_map(|(end, times)| Op::Pop(end, times)),
            3 => (any::<usize>(), element()).prop_map(|(index, element)| Op::Set(index, element)),
            3 => (any::<usize>(), element()).prop_map(|(index, element)| Op::Insert(index, element)),
            1 => (end(), 0..4u8, 0..900usize).prop_map(|(end, byte, limit)| Op::RemoveEqual(end, byte, limit)),
            1 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Op::Keep(a, b)),
            1 => Just(Op::Freeze),
            1 => Just(Op::Thaw),
        ];
        proptest::collection::vec(op, 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_holds_what_a_vector_holds_and_what_is_frozen_stays(ops in ops()) {
            let mut list = List::new();
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            let mut frozen: Option<(Frozen, Vec<Vec<u8>>)> = None;
            for op in ops {
                match op {
                    Op::Push(end, element, times) => for n in 0..times.min(200_000 / (element.len() + 1)) {
                        let element = [&element[..], &[n as u8][..n % 2]].concat();
                        list.push(end, &element);
                        if end == End::Head { model.push_front(element) } else { model.push_back(element) }
                    },
                    Op::Pop(end, times) => for _ in 0..times {
                        let expected = if end == End::Head { model.pop_front() } else { model.pop_back() };
                        prop_assert_eq!(list.pop(end).map(Vec::from), expected);
                    },
                    Op::Set(index, element) => {
                        let index = index % (model.len() + 1);
                        prop_assert_eq!(list.set(index, &element), index < model.len());
                        if let Some(old) = model.get_mut(index) {
                            *old = element;
                        }
                    }
                    Op::Insert(index, element) => {
                        let index = index % (model.len() + 1);
                        list.insert(index, &element);
                        model.insert(index, element);
                    }
                    Op::RemoveEqual(end, byte, limit) => {
                        let element = model.iter().find(|e| e.first() == Some(&byte)).cloned().unwrap_or_default();
                        let removed = list.remove_equal(end, &element, limit);
                        for _ in 0..removed {
                            let mut equal = model.iter();
                            let at = if end == End::Head { equal.position(|e| *e == element) } else { equal.rposition(|e| *e == element) };
                            model.remove(at.unwrap());
                        }
                        prop_assert!(removed == limit || !model.contains(&element));
                    }
                    Op::Keep(a, b) => {
                        let first = a % (model.len() + 1);
                        let end = first + b % (model.len() - first + 1);
                        list.keep(first, end);
                        model.truncate(end);
                        model.drain(..first);
                    }
                    Op::Freeze => frozen = Some((list.freeze(&Thawed::default()), model.iter().cloned().collect())),
                    Op::Thaw => if let Some((mut frozen, held)) = frozen.take() && !held.is_empty() {
                        let mut records = Vec::new();
                        loop {
                            let mut record = Vec::new();
                            let last = frozen.encode(5_000, &mut record);
                            prop_assert!(record.len() < 5_020 + held.iter().map(Vec::len).max().unwrap());
                            records.push(record);
                            if last { break }
                        }
                        prop_assert_eq!(decoded(&records.iter().map(Vec::as_slice).collect::<Vec<_>>()), held);
                    },
                }
                invariants(&list);
            }
            prop_assert!(list.iter().eq(model.iter().map(Vec::as_slice)));
            prop_assert!(list.iter().rev().eq(model.iter().rev().map(Vec::as_slice)));
            for index in (0..model.len()).step_by(97) {
                prop_assert_eq!(list.get(index), Some(&model[index][..]));
                let end = (index + 50).min(model.len());
                prop_assert!(list.range(index, end).eq(model.range(index..end).map(Vec::as_slice)));
            }
            if !list.is_empty() {
                let mut record = Vec::new();
                list.encode(&mut record);
                prop_assert_eq!(decoded(&[&record]), Vec::from(model));
            }
        }
    }

    #[test]
    fn a_list_of_a_few_elements_is_small_and_a_queue_stays_so() {
        let mut queue = list("abc");
        for n in 0..10_000u32 {
            queue.push(End::Tail, &n.to_le_bytes());
            queue.pop(End::Head);
        }
        assert!(queue.heap_bytes() < 600, "{} bytes", queue.heap_bytes());
        let mut long = List::new();
        for n in 0..100_000u32 {
            long.push(if n % 2 == 0 { End::Head } else { End::Tail }, &n.to_le_bytes());
        }
        assert!(long.heap_bytes() < 100_000 * 12, "{} bytes", long.heap_bytes());
    }
}
