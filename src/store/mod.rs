//! The store of `kevy`: a keyspace in hash slots, its values, and the commands on them. No I/O, no clock.
//!
//! ```text
//! command    what clients ask and what the stream says, in terms of the keyspace
//! keyspace   live slots, staging slots, the dead
//!   sum      a slot's digest in steps
//!   dump     one step of the dump of a slot
//!   slot     one table, or a directory of them        value   aggregates and long strings
//!   table    lines, in the order of the hashes
//!   line     tags and handles of entries
//!   tags     which of sixteen bytes are a given one
//!   heap     entries and boxes
//!   slab     memory by handles
//! geo        scores that say where something is
//! hyperloglog  the strings of PFADD
//! message    what was published: no key, but in the stream
//! published  values in the snapshots of released versions
//! used       when or how often a key was used, for who evicts
//! watched    who is to know when a key changes
//! awaited    who waits for a key, and which of those keys changed
//! ```

mod awaited;
pub mod command;
pub mod digest;
mod dump;
mod entry;
pub mod geo;
pub mod hash;
mod heap;
pub mod hyperloglog;
pub mod keyspace;
mod line;
mod message;
#[cfg(test)]
mod model;
mod prefetch;
pub mod published;
pub mod rdb;
mod slab;
mod slot;
mod sum;
mod table;
mod tags;
mod used;
pub mod value;
mod watched;

pub use awaited::{Awaited, WaiterId};
pub use command::dispatch;
pub use entry::{Entry, ValueRef};
pub use keyspace::{KeyspaceStore, Looks, Place, ScanCursor};
pub use message::Message;
pub use used::Tracking;
pub use value::Value;
pub use watched::{WatchFlag, Watched};
