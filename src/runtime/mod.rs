//! The ground that shards stand on: executors, rings between them, sockets, start-up. The only layer that names glommio.
//!
//! ```text
//! startup    before any thread: io_uring, locked memory, descriptors, CPUs
//! cpus       which shard runs on which CPU
//! executor   one thread a shard, its ticker, the watchdog over all of them
//! ring       one producer, one consumer; lane: requests and replies; mesh: a lane for every pair of shards
//! listener   accepts connections and hands them to shards; stream: one connection on its shard
//! turn       how a busy loop lets the others live
//! ```
//!
//! With the model checker only the ring is compiled, and glommio is not needed.

pub mod ring;
