//! What the commands on hashes, lists, sets, sorted sets and streams have in common: the key holds that type, or nothing, or the command
//! is refused; an aggregate is made by its first member and gone with its last.

use super::Context;
use super::refusal::{Refusal, WRONG_TYPE};
use crate::snapshot::Located;
use crate::store::value::{Hash, List, Set, Stream, Zset};
use crate::store::{Entry, KeyspaceStore, Place, Value, ValueRef};

/// A type of value with members.
pub(super) trait Aggregate: Default {
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;
}

macro_rules! aggregate {
    ($($name:ident)*) => {$(
        impl Aggregate for $name {
            #[inline]
            fn of(value: &Value) -> Option<&$name> {
                if let Value::$name(this) = value { Some(this) } else { None }
            }

            #[inline]
            fn of_mut(value: &mut Value) -> Option<&mut $name> {
                if let Value::$name(this) = value { Some(this) } else { None }
            }

            fn into_value(self) -> Value {
                Value::$name(self)
            }
        }
    )*};
}

aggregate!(Hash List Set Zset Stream);

/// Whether a command makes the aggregate that it does not find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Leave,
}

/// The aggregate in an entry.
pub(super) fn in_entry<A: Aggregate>(entry: Entry<'_>) -> Result<&A, Refusal> {
    match entry.value() {
        ValueRef::Boxed(value) => A::of(value).ok_or(WRONG_TYPE),
        ValueRef::Str(_) => Err(WRONG_TYPE),
    }
}

/// The aggregate at `key`, if there is one that has not expired.
#[inline]
pub(super) fn read<'c, A: Aggregate>(
    context: &'c Context<'_>,
    at: Located,
    key: &[u8],
) -> Result<Option<&'c A>, Refusal> {
    context.read(at, key).map(in_entry).transpose()
}

/// Changes the aggregate at `key`. `None`, without a call, if it is missing and stays so.
pub(super) fn write<A: Aggregate, R>(
    store: &mut KeyspaceStore,
    place: Place,
    key: &[u8],
    missing: Missing,
    change: impl FnOnce(&mut A) -> R,
) -> Result<Option<R>, Refusal> {
    // `update` calls at most once; where it does not, the change is still here.
    let mut change = Some(change);
    let updated = store.update(place, key, |value| {
        let aggregate = A::of_mut(value).ok_or(WRONG_TYPE)?;
        let result = change.take().map(|change| change(aggregate));
        Ok((result, value.is_empty()))
    });
    match updated {
        Some(Err(refusal)) => return Err(refusal),
        Some(Ok((result, is_empty))) => {
            if is_empty {
                store.remove(place, key);
            }
            return Ok(result);
        }
        None if store.get(place, key).is_some() => return Err(WRONG_TYPE),
        None => {}
    }
    let (Missing::Create, Some(change)) = (missing, change) else { return Ok(None) };
    let mut aggregate = A::default();
    let result = change(&mut aggregate);
    let value = aggregate.into_value();
    if !value.is_empty() {
        store.set_value(place, key, Box::new(value), None);
    }
    Ok(Some(result))
}
