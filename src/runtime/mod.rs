//! The ground that shards stand on: executors, rings between them, sockets, start-up. The only layer that names glommio.
//!
//! ```text
//! startup    before any thread: io_uring, locked memory, descriptors, CPUs, signals
//! cpus       which shard runs on which CPU
//! executor   one thread a shard with its ticker; watchdog: one thread over all of them; shutdown: the orderly end
//! ring       one producer, one consumer; lane: requests and replies; mesh: a lane for every pair of shards
//! listener   accepts connections and hands them to shards; stream: one connection on its shard
//! turn       how a busy loop lets the others live; clock: the moment that state machines are told
//! warn       log lines that may repeat
//! inflow     what upstreams bring is applied before a reader is answered
//! poller     what wakes a shard: its sockets and the bell of the other shards, in one epoll set; socket: one of them
//! ```
//!
//! With the model checker only the ring and the bell are compiled, and glommio is not needed.

pub mod ring;

#[cfg(any(feature = "runtime", loom))]
mod bell;
#[cfg(feature = "runtime")]
mod fd;
#[cfg(feature = "runtime")]
mod inflow;
#[cfg(feature = "runtime")]
mod iouring;
#[cfg(feature = "runtime")]
#[macro_use]
pub mod warn;
#[cfg(feature = "runtime")]
pub mod clock;
#[cfg(feature = "runtime")]
pub mod commands;
#[cfg(feature = "runtime")]
pub mod cpus;
#[cfg(feature = "runtime")]
pub mod executor;
#[cfg(feature = "runtime")]
pub mod lane;
#[cfg(feature = "runtime")]
pub mod listener;
#[cfg(feature = "runtime")]
pub mod local;
#[cfg(feature = "runtime")]
pub mod mesh;
#[cfg(feature = "runtime")]
pub mod outlet;
#[cfg(feature = "runtime")]
mod poller;
#[cfg(feature = "runtime")]
pub mod puller;
#[cfg(feature = "runtime")]
pub mod shutdown;
#[cfg(feature = "runtime")]
pub mod signal;
#[cfg(feature = "runtime")]
mod socket;
#[cfg(feature = "runtime")]
pub mod startup;
#[cfg(feature = "runtime")]
mod stopwatch;
#[cfg(feature = "runtime")]
pub mod stream;
#[cfg(feature = "runtime")]
pub mod streamer;
#[cfg(feature = "runtime")]
pub mod turn;
#[cfg(feature = "runtime")]
mod vigil;
#[cfg(feature = "runtime")]
pub mod watchdog;
