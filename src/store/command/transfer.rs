//! `DUMP` and `RESTORE`: one value as Redis itself writes it, out and in.

use super::recreate::replace;
use super::refusal::{Refusal, SYNTAX};
use super::string::integer;
use super::{Context, NOTHING, Outcome};
use crate::id::UnixMs;
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::Value;
use crate::store::rdb::{self, RdbError};
use crate::wire::{Argv, Effects};

pub(super) fn dump(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let payload = context.read(at[0], argv.arg(1)).map(|entry| rdb::encode(&entry));
    reply.bulk_or_null(payload.as_deref());
    NOTHING
}

pub(super) fn restore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = argv.arg(1);
    let (mut replaces, mut is_absolute) = (false, false);
    let mut index = 4;
    while let Some(option) = argv.get(index) {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let value = argv.get(index + 1);
        index += 1;
        match value {
            _ if is(b"REPLACE") => replaces = true,
            _ if is(b"ABSTTL") => is_absolute = true,
            // Nobody looks at when or how often a key was read: it is checked, and forgotten.
            Some(value) if is(b"IDLETIME") => {
                if integer(value)? < 0 {
                    return Err(Refusal::Text("ERR Invalid IDLETIME value, must be >= 0"));
                }
                index += 1;
            }
            Some(value) if is(b"FREQ") => {
                if !(0..=255).contains(&integer(value)?) {
                    return Err(Refusal::Text("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                }
                index += 1;
            }
            _ => return Err(SYNTAX),
        }
    }
    if !replaces && context.read(at[0], key).is_some() {
        return Err(Refusal::Text("BUSYKEY Target key name already exists."));
    }
    let ttl = u64::try_from(integer(argv.arg(2))?);
    let ttl = ttl.map_err(|_| Refusal::Text("ERR Invalid TTL value, must be >= 0"))?;
    let mut value = rdb::decode(argv.arg(3)).map_err(|error| {
        Refusal::Text(match error {
            RdbError::Footer => "ERR DUMP payload version or checksum are wrong",
            RdbError::Format => "ERR Bad data format",
        })
    })?;
    let expiry = match ttl {
        0 => None,
        ttl if is_absolute => Some(UnixMs::new(ttl)),
        ttl => Some(UnixMs::new(context.now.get().saturating_add(ttl))),
    };
    if let Value::Hash(hash) = &mut value {
        hash.drop_due(context.now);
    }
    let is_gone = value.is_empty() && !matches!(value, Value::Str(_));
    let effects = if is_gone || expiry.is_some_and(|expiry| expiry <= context.now) {
        // It would be gone at once.
        if context.store.remove(at[0], key) { Effects::One(super::del(key)) } else { Effects::None }
    } else {
        replace(context.store, context.room, at[0], key, value, expiry)?
    };
    reply.ok();
    Ok(effects)
}
