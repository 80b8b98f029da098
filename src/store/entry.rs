//! One key with its value, as the store shows it.

use crate::id::UnixMs;
use crate::snapshot::Digest;
use crate::snapshot::record::{Head, Kind, put_bytes};
use crate::store::{Value, digest};

/// A key that is in the store. What is read here is physical: whether the key has expired is for the caller, who
/// knows the time, to judge.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub(super) key: &'a [u8],
    pub(super) expiry: Option<UnixMs>,
    pub(super) value: ValueRef<'a>,
}

impl<'a> Entry<'a> {
    /// The key.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// When it expires, if it does.
    #[inline]
    pub fn expiry(&self) -> Option<UnixMs> {
        self.expiry
    }

    /// Its value.
    #[inline]
    pub fn value(&self) -> ValueRef<'a> {
        self.value
    }

    /// Bytes of the record of its value, about. Costs the same for every size.
    pub fn record_bytes(&self) -> usize {
        self.value.record_bytes()
    }

    /// What this key adds to the digest of its slot.
    pub fn digest(&self) -> Digest {
        let value = match self.value {
            ValueRef::Str(bytes) => digest::bytes(Kind::String as u64, bytes),
            ValueRef::Boxed(value) => value.digest(),
        };
        self.digest_of(value)
    }

    /// The same where the digest of its value is known.
    pub(super) fn digest_of(&self, value: u64) -> Digest {
        // No expiry is told apart from every time that can be said.
        let expiry = self.expiry.map_or(u64::MAX, UnixMs::get);
        Digest(digest::pair(digest::pair(digest::bytes(0, self.key), value), expiry))
    }

    /// What stands before its value in a record.
    pub(super) fn head(&self) -> Head<'a> {
        let has_times = self.value.has_times();
        Head { kind: self.value.kind(), expiry: self.expiry, key: self.key, is_more: false, has_times }
    }

    /// Appends the record of this key.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.head().encode(out);
        match self.value {
            ValueRef::Str(bytes) => put_bytes(bytes, out),
            ValueRef::Boxed(value) => value.encode(out),
        }
    }
}

/// The value of a key.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// A string, wherever its bytes lie.
    Str(&'a [u8]),
    /// An aggregate; never [`Value::Str`].
    Boxed(&'a Value),
}

impl ValueRef<'_> {
    /// Bytes of its record, about. Costs the same for every size.
    #[inline]
    pub(super) fn record_bytes(&self) -> usize {
        match self {
            ValueRef::Str(bytes) => bytes.len(),
            ValueRef::Boxed(value) => value.record_bytes(),
        }
    }

    /// Whether it is a hash with fields that expire.
    #[inline]
    pub(super) fn has_times(&self) -> bool {
        matches!(self, ValueRef::Boxed(value) if value.has_times())
    }

    /// Its type.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self {
            ValueRef::Str(_) => Kind::String,
            ValueRef::Boxed(value) => value.kind(),
        }
    }
}
