//! One key with its value, as the store shows it.

use crate::id::UnixMs;
use crate::snapshot::record::Kind;
use crate::store::Value;

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
    /// Its type.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self {
            ValueRef::Str(_) => Kind::String,
            ValueRef::Boxed(value) => value.kind(),
        }
    }
}
