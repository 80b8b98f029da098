//! The seam to a host's store: how a hash slot is dumped, staged, installed and digested.

pub mod keyspace;
pub mod published;
pub mod record;

pub use crate::id::Digest;
pub use keyspace::{ApplyError, AsOf, Copy, DumpCursor, Keyspace, LoadError, Located, SumId, Summed};
