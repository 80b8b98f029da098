//! What a primary's shard remembers of its replicas. A state machine: the moment is passed in.

pub mod table;

pub use table::{Acker, AttachError, Attached, LinkId, ReplicaSlot, SlotTable, State};
