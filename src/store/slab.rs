//! Memory for many small things of a few sizes, named by 32-bit handles instead of pointers: half the size, and safe.
//! It does not know what it holds, and it gives nothing back to the system: an empty run serves any size next.
//!
//! ```text
//! blocks   1 MiB each, never moved, filled from the front as runs are needed
//! runs     16 KiB each, of one size:  │item│item│ -> │item│ -> │...not yet used │
//! handle   number of a unit, counted over all blocks: block │ run │ unit
//! ```
//!
//! The units of a freed item hold the link to the next free item of its run.

/// What a slab is made of: the smallest thing that a handle can name.
pub(super) trait Unit: Copy + Default {
    /// The number kept here by [`set_link`](Self::set_link).
    fn link(&self) -> u32;
    /// Keeps a number in a unit that is not in use.
    fn set_link(&mut self, link: u32);
}

/// Eight bytes of an entry.
pub(super) type Word = [u8; 8];

impl Unit for Word {
    #[inline]
    fn link(&self) -> u32 {
        u32::from_le_bytes([self[0], self[1], self[2], self[3]])
    }

    #[inline]
    fn set_link(&mut self, link: u32) {
        self[..4].copy_from_slice(&link.to_le_bytes());
    }
}

/// An item of a [`Slab`]: the number of its first unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Handle(pub u32);

/// Items of `1..=ITEM_UNITS_MAX` units.
#[derive(Debug)]
pub(super) struct Slab<U> {
    /// Each with the capacity of a block, so that it never moves; all but the last one full.
    blocks: Vec<Vec<U>>,
    /// Every run there is, in the order of its handles.
    runs: Vec<Run>,
    /// Runs without an item, good for any size.
    empty: Vec<u32>,
    /// By units of an item: the first run of that size that has room, or [`NONE`].
    roomy: Box<[u32]>,
    /// Units of all items in use.
    used: usize,
}

#[derive(Debug)]
struct Run {
    /// Units of one item here.
    units: u16,
    /// Items in use.
    live: u16,
    /// Units from the front that were ever handed out.
    carved: u16,
    /// The first free item, as a unit of this run, or [`NONE`].
    free: u32,
    /// Neighbours in the list of runs with room; without meaning in a full run.
    before: u32,
    after: u32,
}

impl Run {
    #[inline]
    fn is_full(&self, run_units: usize) -> bool {
        self.free == NONE && usize::from(self.carved) + usize::from(self.units) > run_units
    }
}

const NONE: u32 = u32::MAX;
const RUN_BYTES: usize = 16 << 10;
const BLOCK_BYTES: usize = 1 << 20;

impl<U: Unit> Slab<U> {
    const RUN_UNITS: usize = RUN_BYTES / size_of::<U>();
    const BLOCK_UNITS: usize = BLOCK_BYTES / size_of::<U>();
    const SIZES_ARE_POWERS_OF_TWO: () = assert!(size_of::<U>().is_power_of_two() && size_of::<U>() <= RUN_BYTES);

    /// An empty slab for items of at most `units_max` units, which must fit a run.
    pub fn new(units_max: usize) -> Slab<U> {
        let () = Self::SIZES_ARE_POWERS_OF_TWO;
        assert!(units_max <= Self::RUN_UNITS, "an item lies in one run");
        Slab {
            blocks: Vec::new(),
            runs: Vec::new(),
            empty: Vec::new(),
            roomy: vec![NONE; units_max + 1].into_boxed_slice(),
            used: 0,
        }
    }

    /// Bytes of all items in use.
    pub fn used_bytes(&self) -> usize {
        self.used * size_of::<U>()
    }

    /// Bytes taken from the system.
    pub fn reserved_bytes(&self) -> usize {
        self.runs.len() * RUN_BYTES
    }

    /// Makes an item. What its units hold is left over from earlier.
    ///
    /// # Panics
    /// If the slab is full (32 GiB of words), or `units` is 0 or above the largest.
    #[inline]
    pub fn alloc(&mut self, units: usize) -> Handle {
        debug_assert!(units > 0);
        let mut r = self.roomy[units];
        if r == NONE {
            r = self.open_run(units);
        }
        let run = &mut self.runs[r as usize];
        let first = r as usize * Self::RUN_UNITS;
        let at = if run.free != NONE {
            let at = first + run.free as usize;
            run.free = self.blocks[at / Self::BLOCK_UNITS][at % Self::BLOCK_UNITS].link();
            at
        } else {
            let at = first + usize::from(run.carved);
            run.carved += units as u16;
            at
        };
        run.live += 1;
        self.used += units;
        if run.is_full(Self::RUN_UNITS) {
            self.unlink(r);
        }
        Handle(at as u32)
    }

    /// Gives an item up.
    #[inline]
    pub fn free(&mut self, handle: Handle) {
        let at = handle.0 as usize;
        let r = (at / Self::RUN_UNITS) as u32;
        let run = &mut self.runs[r as usize];
        assert!(run.live > 0, "only an item in use is freed");
        let was_full = run.is_full(Self::RUN_UNITS);
        self.blocks[at / Self::BLOCK_UNITS][at % Self::BLOCK_UNITS].set_link(run.free);
        run.free = (at % Self::RUN_UNITS) as u32;
        run.live -= 1;
        self.used -= usize::from(run.units);
        if run.live == 0 {
            if !was_full {
                self.unlink(r);
            }
            self.empty.push(r);
        } else if was_full {
            self.link(r);
        }
    }

    /// The units of an item, and what follows it in its block.
    #[inline]
    pub fn from(&self, handle: Handle) -> &[U] {
        let at = handle.0 as usize;
        &self.blocks[at / Self::BLOCK_UNITS][at % Self::BLOCK_UNITS..]
    }

    /// The first `units` units of an item.
    #[inline]
    pub fn get(&self, handle: Handle, units: usize) -> &[U] {
        &self.from(handle)[..units]
    }

    /// The first `units` units of an item.
    #[inline]
    pub fn get_mut(&mut self, handle: Handle, units: usize) -> &mut [U] {
        let at = handle.0 as usize;
        let at_block = at % Self::BLOCK_UNITS;
        &mut self.blocks[at / Self::BLOCK_UNITS][at_block..at_block + units]
    }

    /// How many units an item has.
    #[inline]
    pub fn units_of(&self, handle: Handle) -> usize {
        usize::from(self.runs[handle.0 as usize / Self::RUN_UNITS].units)
    }

    #[cold]
    fn open_run(&mut self, units: usize) -> u32 {
        let r = self.empty.pop().unwrap_or_else(|| self.new_run());
        self.runs[r as usize] = Run { units: units as u16, live: 0, carved: 0, free: NONE, before: NONE, after: NONE };
        self.link(r);
        r
    }

    fn new_run(&mut self) -> u32 {
        if self.blocks.last().is_none_or(|block| block.len() == Self::BLOCK_UNITS) {
            self.blocks.push(Vec::with_capacity(Self::BLOCK_UNITS));
        }
        let Some(block) = self.blocks.last_mut() else { unreachable!("a block was just pushed") };
        block.resize(block.len() + Self::RUN_UNITS, U::default());
        let r = self.runs.len();
        assert!((r + 1) * Self::RUN_UNITS <= NONE as usize, "handles of a slab have 32 bits");
        self.runs.push(Run { units: 0, live: 0, carved: 0, free: NONE, before: NONE, after: NONE });
        r as u32
    }

    fn link(&mut self, r: u32) {
        let units = usize::from(self.runs[r as usize].units);
        let after = std::mem::replace(&mut self.roomy[units], r);
        if after != NONE {
            self.runs[after as usize].before = r;
        }
        self.runs[r as usize].before = NONE;
        self.runs[r as usize].after = after;
    }

    fn unlink(&mut self, r: u32) {
        let Run { units, before, after, .. } = self.runs[r as usize];
        match before {
            NONE => self.roomy[usize::from(units)] = after,
            before => self.runs[before as usize].after = after,
        }
        if after != NONE {
            self.runs[after as usize].before = before;
        }
    }

    /// Asserts what must hold between calls.
    #[cfg(test)]
    pub fn invariants(&self) {
        let mut used = 0;
        for (r, run) in self.runs.iter().enumerate() {
            let is_empty = self.empty.contains(&(r as u32));
            assert_eq!(run.live == 0, is_empty, "run {r}");
            used += usize::from(run.live) * usize::from(run.units);
            if !is_empty {
                let mut free = 0;
                let mut at = run.free;
                while at != NONE {
                    free += 1;
                    let unit = r * Self::RUN_UNITS + at as usize;
                    at = self.blocks[unit / Self::BLOCK_UNITS][unit % Self::BLOCK_UNITS].link();
                }
                assert_eq!(usize::from(run.carved), (usize::from(run.live) + free) * usize::from(run.units));
            }
        }
        assert_eq!(used, self.used);
        for (units, &first) in self.roomy.iter().enumerate() {
            let (mut before, mut r) = (NONE, first);
            while r != NONE {
                let run = &self.runs[r as usize];
                assert!(!run.is_full(Self::RUN_UNITS) && run.live > 0);
                assert_eq!((usize::from(run.units), run.before), (units, before));
                (before, r) = (r, run.after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_do_not_overlap_and_empty_runs_serve_other_sizes() {
        let mut slab = Slab::<Word>::new(128);
        let mut held: Vec<(Handle, usize, u64)> = Vec::new();
        let mut random = 1u64;
        for step in 0..20_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if random >> 63 == 0 || held.is_empty() {
                let units = (random >> 33) as usize % 128 + 1;
                let handle = slab.alloc(units);
                slab.get_mut(handle, units).fill(step.to_le_bytes());
                held.push((handle, units, step));
            } else {
                let (handle, units, stamp) = held.swap_remove((random >> 33) as usize % held.len());
                assert!(slab.get(handle, units).iter().all(|word| *word == stamp.to_le_bytes()));
                assert_eq!(slab.units_of(handle), units);
                slab.free(handle);
            }
        }
        slab.invariants();
        for (handle, units, stamp) in held.drain(..) {
            assert!(slab.get(handle, units).iter().all(|word| *word == stamp.to_le_bytes()));
            slab.free(handle);
        }
        slab.invariants();
        assert_eq!(slab.used_bytes(), 0);
        let reserved = slab.reserved_bytes();
        for _ in 0..reserved / 1024 {
            slab.alloc(128);
        }
        assert_eq!(slab.reserved_bytes(), reserved, "every run was taken again, at another size");
    }
}
