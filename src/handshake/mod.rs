//! The first exchange on a replication link, and what is decided by it. Codecs and pure functions: no state, no I/O.
//!
//! The replica speaks first. Three forms of the request are understood; ours is the third.
//!
//! ```text
//! replica                                                        primary
//!   REPLICATE FROM <offset> ID <id>                      ───▶      +ACK <offset>
//!   REPLICATE FROM <generation> <offset> ID <id>         ───▶      +ACK <generation> <offset>
//!   REPLICATE FROM <generation> <offset> ID <id>
//!             VERSION 1 STREAM 2/4 RUN … DIAL … …        ───▶      +ACK <generation> <offset> shard=2 n=4 born=data …
//!                                                                  -ERR <reason> <text>      (then it closes)
//! ```
//!
//! A request in an older form that cannot be served is answered with silence and a close, as its sender expects. Options
//! and answers that are not known are skipped, so that an older and a newer version of ours talk.

pub mod answer;
pub mod done;
pub mod guard;
pub mod judge;
pub mod lineage;
pub mod request;

pub use answer::{Answer, AnswerError, Refusal, Verdict, Welcome, decode_answer};
pub use guard::{Dialled, GuardRefusal, Held, guard};
pub use judge::{History, Judgement, RefuseReason, SyncReason, judge};
pub use lineage::{Fork, Lineage};
pub use request::{
    Announced, Claim, Dialer, Done, Flags, Form, Hello, IdError, Options, Password, Purpose, ReplicaId, Request,
    RequestError, Reserved, StreamOf, decode_request,
};

/// The version of our own form.
pub const VERSION: u32 = 1;
