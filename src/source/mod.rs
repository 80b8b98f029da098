//! The primary's end: what a shard records, and how it reaches every replica.

pub mod backlog;
mod segment;
