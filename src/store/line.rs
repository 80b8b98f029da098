//! A cache line of a table: twelve one-byte tags and twelve handles of entries; and lines as an open-addressed table.
//!
//! ```text
//! bytes   0           12       16                                   64
//!         │ 12 tags   │ passed │ 12 handles of 4 bytes              │
//! ```
//!
//! A key belongs to its *home* line; if that is full it goes to the next one with room, around the end, and every line
//! that it goes past counts it in `passed`. So a search ends at the first line that nothing has gone past, a key never
//! moves while its table stands, and there are no tombstones.

use super::slab::{Handle, Unit};
use super::tags;

/// Twelve places for entries. Default: all empty.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line {
    /// Tags in the low 12 bytes, 0 for an empty place; above them, how many keys went past.
    head: u128,
    handles: [Handle; PLACES],
}

const _: () = assert!(size_of::<Line>() == 64);

/// Places of a line.
pub(super) const PLACES: usize = 12;

const PASSED_SHIFT: u32 = 96;

/// All places of a line, a bit each.
const ALL: u16 = (1 << PLACES) - 1;

impl Default for Line {
    #[inline]
    fn default() -> Line {
        Line { head: 0, handles: [Handle(0); PLACES] }
    }
}

impl Unit for Line {
    #[inline]
    fn link(&self) -> u32 {
        self.handles[0].0
    }

    #[inline]
    fn set_link(&mut self, link: u32) {
        self.handles[0] = Handle(link);
    }
}

/// What a line keeps of the hash of a key. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tag(u8);

impl Tag {
    /// The tag of a key with this hash.
    #[inline]
    pub fn of(hash: u64) -> Tag {
        Tag((hash as u8).max(1))
    }
}

impl Line {
    #[inline]
    fn passed(&self) -> u32 {
        (self.head >> PASSED_SHIFT) as u32
    }

    /// Places whose tag is this, a bit each.
    #[inline]
    fn places_with(&self, tag: u8) -> u16 {
        tags::equal(self.head, tag) & ALL
    }

    /// Handles of the entries with this tag.
    #[inline]
    pub fn candidates(&self, tag: Tag) -> impl Iterator<Item = (usize, Handle)> {
        places(self.places_with(tag.0)).map(|place| (place, self.handles[place]))
    }

    /// All entries of this line, with the places that they are at.
    #[inline]
    pub fn entries(&self) -> impl Iterator<Item = (usize, Handle)> {
        let taken = !self.places_with(0) & ALL;
        places(taken).map(|place| (place, self.handles[place]))
    }

    #[cfg(test)]
    fn tag_at(&self, place: usize) -> Tag {
        Tag((self.head >> (8 * place)) as u8)
    }

    #[inline]
    fn set(&mut self, place: usize, tag: u8, handle: Handle) {
        let shift = 8 * place;
        self.head = (self.head & !(0xff << shift)) | (u128::from(tag) << shift);
        self.handles[place] = handle;
    }
}

#[inline]
fn places(mut marks: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if marks == 0 {
            return None;
        }
        let place = marks.trailing_zeros() as usize;
        marks &= marks - 1;
        Some(place)
    })
}

/// Where an entry's handle lies in its table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Number of the line.
    pub line: usize,
    /// Place in the line.
    pub place: usize,
    /// What stands there.
    pub handle: Handle,
}

#[inline]
fn next(lines: &[Line], line: usize) -> usize {
    if line + 1 == lines.len() { 0 } else { line + 1 }
}

/// The first entry on the way from `home` that has this tag and that `is_it` takes.
#[inline]
pub(super) fn find(lines: &[Line], home: usize, tag: Tag, mut is_it: impl FnMut(Handle) -> bool) -> Option<Found> {
    let mut line = home;
    loop {
        for (place, handle) in lines[line].candidates(tag) {
            if is_it(handle) {
                return Some(Found { line, place, handle });
            }
        }
        if lines[line].passed() == 0 {
            return None;
        }
        line = next(lines, line);
        if line == home {
            return None;
        }
    }
}

/// Puts an entry into the first empty place on the way from `home`. There must be one.
#[inline]
pub(super) fn insert(lines: &mut [Line], home: usize, tag: Tag, handle: Handle) {
    let mut line = home;
    loop {
        if let Some(place) = places(lines[line].places_with(0)).next() {
            lines[line].set(place, tag.0, handle);
            return;
        }
        lines[line].head += 1 << PASSED_SHIFT;
        line = next(lines, line);
        assert!(line != home, "a table is never filled to its last place");
    }
}

/// Lets another handle stand for an entry.
#[inline]
pub(super) fn set_handle(lines: &mut [Line], at: Found, handle: Handle) {
    lines[at.line].handles[at.place] = handle;
}

/// Takes the entry at `at`, whose home is `home`, out.
#[inline]
pub(super) fn remove(lines: &mut [Line], home: usize, at: Found) {
    lines[at.line].set(at.place, 0, Handle(0));
    let mut line = home;
    while line != at.line {
        lines[line].head -= 1 << PASSED_SHIFT;
        line = next(lines, line);
    }
}

/// Shows every entry whose home is `home`. `home_of` is asked about those that might have come from elsewhere.
#[inline]
pub(super) fn for_each_of_home(
    lines: &[Line],
    home: usize,
    home_of: impl Fn(Handle) -> usize,
    mut show: impl FnMut(Handle),
) {
    let before = if home == 0 { lines.len() - 1 } else { home - 1 };
    let pure = lines[before].passed() == 0;
    for (_, handle) in lines[home].entries() {
        if pure || home_of(handle) == home {
            show(handle);
        }
    }
    let mut line = home;
    while lines[line].passed() > 0 {
        line = next(lines, line);
        if line == home {
            return;
        }
        for (_, handle) in lines[line].entries() {
            if home_of(handle) == home {
                show(handle);
            }
        }
    }
}

/// Asserts that every line counts exactly the keys that went past it.
#[cfg(test)]
pub(super) fn invariants(lines: &[Line], hash_of: impl Fn(Handle) -> u64, home_of: impl Fn(Handle) -> usize) {
    let mut passed = vec![0; lines.len()];
    for (at, line) in lines.iter().enumerate() {
        for (place, handle) in line.entries() {
            assert_eq!(line.tag_at(place), Tag::of(hash_of(handle)));
            let mut way = home_of(handle);
            while way != at {
                passed[way] += 1;
                way = next(lines, way);
            }
        }
    }
    for (line, passed) in lines.iter().zip(passed) {
        assert_eq!(line.passed(), passed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_home_are_found_and_removed_wherever_they_went() {
        let mut lines = [Line::default(); 3];
        let home = |handle: Handle| if handle.0 < 30 { 2 } else { 0 };
        for n in 0..34u32 {
            insert(&mut lines, home(Handle(n)), Tag::of(u64::from(n % 5)), Handle(n));
        }
        invariants(&lines, |h| u64::from(h.0 % 5), home);
        for of in [0, 1, 2] {
            let mut shown = Vec::new();
            for_each_of_home(&lines, of, home, |h| shown.push(h.0));
            shown.sort_unstable();
            assert_eq!(shown, (0..34).filter(|n| home(Handle(*n)) == of).collect::<Vec<_>>());
        }
        for n in (0..34u32).rev() {
            let tag = Tag::of(u64::from(n % 5));
            let at = find(&lines, home(Handle(n)), tag, |h| h.0 == n).expect("it was put in");
            remove(&mut lines, home(Handle(n)), at);
            assert!(find(&lines, home(Handle(n)), tag, |h| h.0 == n).is_none());
            invariants(&lines, |h| u64::from(h.0 % 5), home);
        }
        assert!(lines.iter().all(|line| line.head == 0));
    }
}
