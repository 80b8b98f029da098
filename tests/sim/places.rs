//! Where the slots of one stream stand, at one point of what was sent or of what has arrived.

use std::collections::HashMap;

use kevy_replicate::id::HashSlot;
use kevy_replicate::slotset::SlotSet;
use kevy_replicate::wire::Item;

use crate::matrix::Place;

/// Follows the items of one stream, over any number of connections of one process.
#[derive(Clone)]
pub struct Places {
    done: SlotSet,
    loading: Option<HashSlot>,
    missed: SlotSet,
}

impl Places {
    pub fn new() -> Places {
        Places { done: SlotSet::empty(), loading: None, missed: SlotSet::empty() }
    }

    pub fn of(&self, slot: HashSlot) -> Place {
        match () {
            () if self.loading == Some(slot) => Place::InDump,
            () if self.done.contains(slot) => Place::Done,
            () if self.missed.contains(slot) => Place::Missed,
            () => Place::NotBegun,
        }
    }

    /// The connection is gone; the slot that was loading comes again.
    pub fn cut(&mut self) {
        if let Some(slot) = self.loading.take() {
            self.missed.insert(slot);
        }
    }

    /// A slot is sent again, since its end did not fit.
    pub fn lost(&mut self, slot: HashSlot) {
        self.done.remove(slot);
        self.missed.insert(slot);
    }

    pub fn item<P>(&mut self, item: &Item<P>) {
        match *item {
            Item::Sync { .. } => *self = Places::new(),
            Item::Slots { first, count, .. } => {
                (first.get()..first.get() + count).filter_map(HashSlot::new).for_each(|slot| self.whole(slot));
            }
            Item::SlotBegin { slot, .. } => {
                self.cut();
                self.loading = Some(slot);
            }
            Item::SlotEnd { slot, .. } if self.loading == Some(slot) => {
                self.loading = None;
                self.whole(slot);
            }
            Item::SlotDrop { slot } if self.loading == Some(slot) => self.cut(),
            _ => {}
        }
    }

    fn whole(&mut self, slot: HashSlot) {
        self.done.insert(slot);
        self.missed.remove(slot);
    }

    /// The states of `slots`, if not all of them are whole.
    pub fn while_syncing(&self, slots: impl Iterator<Item = HashSlot>) -> Option<HashMap<HashSlot, Place>> {
        let places: HashMap<_, _> = slots.map(|slot| (slot, self.of(slot))).collect();
        places.values().any(|place| *place != Place::Done).then_some(places)
    }
}
