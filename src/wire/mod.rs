//! What travels on a replication link: frames, groups, dump items and control lines. Codecs only.

pub mod argv;
pub mod effect;

pub use argv::{ArgRange, Argv};
pub use effect::{Command, Effects};
