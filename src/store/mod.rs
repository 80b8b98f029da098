//! The store of `kevy`: a keyspace in hash slots, its values, and the commands on them. No I/O, no clock.

pub mod command;
pub mod digest;
mod entry;
pub mod hash;
pub mod keyspace;
pub mod value;

pub use entry::{Entry, ValueRef};
pub use keyspace::{KeyspaceStore, Place, ScanCursor};
pub use value::Value;
