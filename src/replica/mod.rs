//! The replica's end: what it is told, and how that becomes its own copy.
//!
//! ```text
//! bytes ──▶ Session ──▶ events ──▶ Applier ──▶ the host's Keyspace
//!             │  ▲                    │
//!             │  └── applied, need ◀──┘
//!             └──▶ handshake, acks
//! ```
//!
//! [`Session`] is one upstream stream for as long as the node follows it, over any number of connections; [`Applier`] is the
//! part of it that one owner of slots applies. [`client::ReplicaClient`] puts both over a blocking socket.

mod applier;
pub mod client;
mod session;

pub use applier::{Applier, Ask, Counters, Noted};
pub use client::{Opener, ReplicaClient};
pub use session::{Dial, Dialled, Event, Session, SessionConfig, SessionError};
