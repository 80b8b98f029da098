//! Memory for many small things of a few sizes, named by 32-bit handles instead of pointers: half the size, and safe.
//! It does not know what it holds, and it gives nothing back to the system: an empty run serves any size next. Where much lies unused
//! and yet a run is opened, it asks for sparse ones to be emptied, by whoever knows where handles are kept.
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
    /// By units of an item.
    sizes: Box<[Size]>,
    /// Units of all items in use.
    used: usize,
    /// Runs that are to be emptied.
    owed: u32,
    /// Where it is looked for them next.
    hand: usize,
}

/// The runs of one size.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// The first one that has room, or [`NONE`].
    roomy: u32,
    /// How many there are.
    runs: u32,
    /// Items in use in all of them.
    live: u32,
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
    /// Whether it is being emptied: it takes no item, and is in no list.
    is_closed: bool,
    /// Neighbours in the list of runs with room; without meaning in a full run.
    before: u32,
    after: u32,
}

impl Run {
    const NEW: Run = Run { units: 0, live: 0, carved: 0, free: NONE, is_closed: false, before: NONE, after: NONE };

    #[inline]
    fn is_full(&self, run_units: usize) -> bool {
        self.free == NONE && usize::from(self.carved) + usize::from(self.units) > run_units
    }
}

const NONE: u32 = u32::MAX;
const RUN_BYTES: usize = 16 << 10;
const RUN_ITEMS_MAX: usize = RUN_BYTES / size_of::<Word>();
const BLOCK_BYTES: usize = 1 << 20;

/// Of the units of all runs with items, the share in use from which on a run is opened without others being emptied for it: seven of
/// eight.
const DENSE: (usize, usize) = (7, 8);

/// The share of a run's units in use above which emptying it gains too little: three quarters.
const SPARSE: (usize, usize) = (3, 4);

/// Runs among which the sparsest is chosen.
const RUNS_CONSIDERED: usize = 64;

/// Empty runs from which on no more are made.
const EMPTY_ENOUGH: usize = 64;

/// Runs that are owed at most: each takes a fraction of a millisecond, and what cannot be emptied is not tried for ever.
const OWED_MAX: u32 = 4;

impl<U: Unit> Slab<U> {
    const RUN_UNITS: usize = RUN_BYTES / size_of::<U>();
    const BLOCK_UNITS: usize = BLOCK_BYTES / size_of::<U>();
    const ITEMS_FIT: () = assert!(Self::RUN_UNITS <= RUN_ITEMS_MAX);
    const SIZES_ARE_POWERS_OF_TWO: () = assert!(size_of::<U>().is_power_of_two() && size_of::<U>() <= RUN_BYTES);

    /// An empty slab for items of at most `units_max` units, which must fit a run.
    pub fn new(units_max: usize) -> Slab<U> {
        let () = Self::SIZES_ARE_POWERS_OF_TWO;
        let () = Self::ITEMS_FIT;
        assert!(units_max <= Self::RUN_UNITS, "an item lies in one run");
        Slab {
            blocks: Vec::new(),
            runs: Vec::new(),
            empty: Vec::new(),
            sizes: vec![Size { roomy: NONE, runs: 0, live: 0 }; units_max + 1].into_boxed_slice(),
            used: 0,
            owed: 0,
            hand: 0,
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
        let mut r = self.sizes[units].roomy;
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
        self.sizes[units].live += 1;
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
        let size = &mut self.sizes[usize::from(run.units)];
        size.live -= 1;
        self.used -= usize::from(run.units);
        if run.live == 0 {
            size.runs -= 1;
            let is_listed = !was_full && !run.is_closed;
            run.is_closed = false;
            if is_listed {
                self.unlink(r);
            }
            self.empty.push(r);
        } else if was_full {
            self.link(r);
        }
    }

    /// Whether a run is to be emptied, by [`close_sparse`](Self::close_sparse).
    #[inline]
    pub fn is_owed(&self) -> bool {
        self.owed > 0
    }

    /// Chooses a run that has few items, whose others have room for them, and lets it take no more; `out` gets its items. Whoever moves
    /// them, each to a new item, calls [`open_again`](Self::open_again) afterwards. `None`: there is none that is worth it.
    pub fn close_sparse(&mut self, out: &mut Vec<Handle>) -> Option<u32> {
        self.owed = self.owed.saturating_sub(1);
        let mut chosen: Option<(u32, usize)> = None;
        for _ in 0..RUNS_CONSIDERED.min(self.runs.len()) {
            self.hand = (self.hand + 1) % self.runs.len();
            let run = &self.runs[self.hand];
            let used = usize::from(run.live) * usize::from(run.units);
            // One that never was full is on its way there.
            let was_full = usize::from(run.carved) + usize::from(run.units) > Self::RUN_UNITS;
            let is_sparse = used > 0 && was_full && used * SPARSE.1 <= Self::RUN_UNITS * SPARSE.0;
            if is_sparse && chosen.is_none_or(|(_, least)| used < least) {
                chosen = Some((self.hand as u32, used));
            }
        }
        let (r, _) = chosen.filter(|(r, _)| self.others_have_room(*r))?;
        self.unlink(r);
        let run = &mut self.runs[r as usize];
        run.is_closed = true;
        let (units, first) = (usize::from(run.units), r as usize * Self::RUN_UNITS);
        let mut is_free = [false; RUN_ITEMS_MAX];
        let mut at = run.free;
        while at != NONE {
            is_free[at as usize / units] = true;
            at = self.blocks[(first + at as usize) / Self::BLOCK_UNITS][(first + at as usize) % Self::BLOCK_UNITS]
                .link();
        }
        let items = (0..usize::from(self.runs[r as usize].carved)).step_by(units);
        out.extend(items.filter(|at| !is_free[at / units]).map(|at| Handle((first + at) as u32)));
        Some(r)
    }

    /// What could not be moved out of a run stays there, and others join it.
    pub fn open_again(&mut self, r: u32) {
        let run = &mut self.runs[r as usize];
        if std::mem::take(&mut run.is_closed) {
            self.link(r);
        }
    }

    /// Whether a run's items find room in others of the same size.
    fn others_have_room(&self, r: u32) -> bool {
        let units = usize::from(self.runs[r as usize].units);
        let size = &self.sizes[units];
        (size.runs as usize - 1) * (Self::RUN_UNITS / units) >= size.live as usize
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
        let taken = (self.runs.len() - self.empty.len()) * Self::RUN_UNITS;
        if self.used * DENSE.1 < taken * DENSE.0 && self.empty.len() < EMPTY_ENOUGH {
            // One for this one, and one more until there is one in store.
            self.owed = (self.owed + 1 + u32::from(self.empty.is_empty())).min(OWED_MAX);
        }
        let r = self.empty.pop().unwrap_or_else(|| self.new_run());
        self.runs[r as usize] = Run { units: units as u16, ..Run::NEW };
        self.sizes[units].runs += 1;
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
        self.runs.push(Run::NEW);
        r as u32
    }

    fn link(&mut self, r: u32) {
        let units = usize::from(self.runs[r as usize].units);
        let after = std::mem::replace(&mut self.sizes[units].roomy, r);
        if after != NONE {
            self.runs[after as usize].before = r;
        }
        self.runs[r as usize].before = NONE;
        self.runs[r as usize].after = after;
    }

    fn unlink(&mut self, r: u32) {
        let Run { units, before, after, .. } = self.runs[r as usize];
        match before {
            NONE => self.sizes[usize::from(units)].roomy = after,
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
            assert!(!run.is_closed, "run {r}");
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
        for (units, size) in self.sizes.iter().enumerate() {
            let of_size = || self.runs.iter().filter(|run| run.live > 0 && usize::from(run.units) == units);
            assert_eq!(size.runs as usize, of_size().count());
            assert_eq!(size.live, of_size().map(|run| u32::from(run.live)).sum::<u32>());
            let (mut before, mut r) = (NONE, size.roomy);
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
