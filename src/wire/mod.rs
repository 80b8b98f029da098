//! What travels on a replication link: frames, groups, dump items and control lines. Codecs only.
//!
//! ```text
//! primary → replica   frame   *2␍␊:<offset>␍␊ *n␍␊$…              takes an offset
//!                     group   +GROUP n [txid shards]␍␊ then n frames
//!                     item    +SLOTS … len␍␊<payload>              takes none
//!                     control +PING generation next␍␊              takes none
//!                     check   +CHECK from crc␍␊                    proves what came since the one before
//! replica → primary   REPLCONF ACK n␍␊   SYNCED generation n␍␊   NEED slot␍␊
//! ```
//!
//! `docs/protocol.md` has the bytes, and the tests here hold them.

pub mod argv;
pub mod check;
pub mod decoder;
pub mod effect;
pub mod frame;
pub mod item;
pub mod room;
mod scan;
pub mod upstream;

pub use argv::{ArgRange, Argv};
pub use check::Check;
pub use decoder::{Decoder, Frames, Message};
pub use effect::{Command, Effects};
pub use frame::Frame;
pub use item::Item;
pub use room::{Full, Room};
pub use upstream::Upstream;

use crate::id::Offset;

/// What a peer did wrong. It ends the link, never the shard.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// A frame does not begin, or go on, as frames do.
    #[error("malformed frame: {0}")]
    Frame(&'static str),
    /// A number is missing, malformed or too large.
    #[error("bad number in {0}")]
    Number(&'static str),
    /// Something announces more than its bound.
    #[error("{what} announces {announced}, at most {limit} is allowed")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// What it announces.
        announced: u64,
        /// The bound, of `limits`.
        limit: u64,
    },
    /// A line is longer than a line may be.
    #[error("a line of over {0} bytes")]
    LineTooLong(usize),
    /// A line is known and its fields are not as they must be.
    #[error("malformed line `{0}`")]
    Line(String),
    /// A group holds something that is not a frame.
    #[error("a group of {expected} frames is broken off after {got}")]
    Group {
        /// Frames that its head announced.
        expected: u32,
        /// Frames that came.
        got: u32,
    },
    /// What a check line proves is not what came.
    #[error("the check of {at} is {said:08x}, and what came has {got:08x}")]
    Damaged {
        /// Where what is checked begins.
        at: Offset,
        /// The CRC32C that was sent.
        said: u32,
        /// That of what came.
        got: u32,
    },
    /// A check line is of another position than what it stands behind.
    #[error("a check of {said} stands behind what begins at {at}")]
    CheckPosition {
        /// Where what is checked begins.
        at: Offset,
        /// What the line says.
        said: Offset,
    },
    /// So much came without a check line that one is missing.
    #[error("no check line after {0} bytes")]
    Unchecked(usize),
}
