//! A thread-per-core, shard-native replication engine, and the parts of `kevy`, the server that carries it.
//!
//! Layers import downwards only (a test says so):
//!
//! ```text
//! server/        configuration, connections, command line                       feature `server`
//!   runtime/     the only layer that names glommio                              feature `runtime`
//!     shard/     composes the state machines of one shard; synchronous; no I/O
//!       store/   keyspace, values, expiry, commands and their effects; no I/O
//!         source/ slot/ replica/ snapshot/   state machines: bytes and `now` in, events and bytes out
//!           wire/ handshake/ resp/           codecs; needing more bytes is not an error
//!             id slotset timeline limits buffer     newtypes; every bound in one file
//! ```

pub mod buffer;
pub mod handshake;
pub mod id;
pub mod limits;
pub mod replica;
pub mod resp;
#[cfg(any(feature = "runtime", all(loom, test)))]
pub mod runtime;
#[cfg(feature = "server")]
pub mod server;
pub mod shard;
pub mod slot;
pub mod slotset;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod timeline;
pub mod wire;

/// The pages whose programs are run as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../docs/embedding.md")]
    mod embedding {}
}
