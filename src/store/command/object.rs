//! `OBJECT`: how a value is kept.

use super::number;
use super::refusal::Refusal;
use super::{Context, NOTHING, Outcome};
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::{Entry, Tracking, Value, ValueRef};
use crate::wire::Argv;

/// Bytes of the longest string that Redis keeps beside its key.
const EMBEDDED_BYTES_MAX: usize = 44;

pub(super) fn object(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sub = argv.arg(1).to_ascii_lowercase();
    if sub == b"help" {
        help(reply);
        return NOTHING;
    }
    let Some(entry) = context.read(at[0], argv.arg(2)) else {
        reply.null();
        return NOTHING;
    };
    match sub.as_slice() {
        b"encoding" => reply.bulk(encoding(&entry).as_bytes()),
        // A value is its key's alone.
        b"refcount" => reply.integer(1),
        b"idletime" if context.store.tracking() == Tracking::Frequencies => {
            return Err(Refusal::Text(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        b"idletime" => reply.integer(context.store.idle_seconds(at[0], argv.arg(2), context.now) as i64),
        _ if context.store.tracking() == Tracking::Frequencies => {
            reply.integer(context.store.frequency(at[0], argv.arg(2), context.now).into());
        }
        _ => {
            return Err(Refusal::Text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    NOTHING
}

/// The form of a value, by the name that Redis has for one like it.
pub fn encoding(entry: &Entry<'_>) -> &'static str {
    let (is_small, small, large) = match entry.value() {
        ValueRef::Str(bytes) if number::integer(bytes).is_some() => return "int",
        ValueRef::Str(bytes) => (bytes.len() <= EMBEDDED_BYTES_MAX, "embstr", "raw"),
        ValueRef::Boxed(Value::Str(_)) => return "raw",
        ValueRef::Boxed(Value::Hash(hash)) if hash.times().is_some() => (hash.is_small(), "listpackex", "hashtable"),
        ValueRef::Boxed(Value::Hash(hash)) => (hash.is_small(), "listpack", "hashtable"),
        ValueRef::Boxed(Value::List(_)) => return "quicklist",
        ValueRef::Boxed(Value::Stream(_)) => return "stream",
        ValueRef::Boxed(Value::Set(set)) => {
            let is_number = |member: &[u8]| number::integer(member).is_some();
            let small = if set.is_small() && set.iter().all(is_number) { "intset" } else { "listpack" };
            (set.is_small(), small, "hashtable")
        }
        ValueRef::Boxed(Value::Zset(zset)) => (zset.is_small(), "listpack", "skiplist"),
    };
    if is_small { small } else { large }
}

fn help(reply: &mut Reply<'_>) {
    const LINES: [&str; 15] = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        "HELP",
        "    Print this help.",
    ];
    reply.lines(&LINES);
}
