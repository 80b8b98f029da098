//! Commands and their effects.

use crate::id::UnixMs;
use crate::snapshot::{ApplyError, Copy, Located};
use crate::store::{KeyspaceStore, Place};
use crate::wire::Argv;

/// Applies one key-local effect to one copy of the slot of its key.
///
/// # Errors
/// If the effect is not known.
pub fn apply(store: &mut KeyspaceStore, copy: Copy, at: Located, effect: Argv<'_>) -> Result<(), ApplyError> {
    let place = Place { copy, at };
    let unknown = || ApplyError::Unknown(String::from_utf8_lossy(effect.get(0).unwrap_or(b"")).into_owned());
    let number = |index| {
        let arg = effect.get(index)?;
        Some(UnixMs::new(std::str::from_utf8(arg).ok()?.parse().ok()?))
    };
    match (effect.arg(0), effect.len()) {
        (b"SET", 3) => store.set_string(place, effect.arg(1), effect.arg(2), None),
        (b"SET", 5) => store.set_string(place, effect.arg(1), effect.arg(2), Some(number(4).ok_or_else(unknown)?)),
        (b"DEL", 2) => _ = store.remove(place, effect.arg(1)),
        (b"PEXPIREAT", 3) => _ = store.set_expiry(place, effect.arg(1), Some(number(2).ok_or_else(unknown)?)),
        _ => return Err(unknown()),
    }
    Ok(())
}
