//! Digests of hash slots for whoever asks: `DEBUG DIGEST`, and what `kevy check` compares nodes by. Every shard is asked for
//! as many slots as a turn takes, again and again, so that nobody waits for a large keyspace or a large slot. It ends with whoever
//! asked: a digest that nobody will read is not gone on with, since while it is taken every write to its slot pays for it.
//!
//! ```text
//! KEVY DIGEST first count    slot, keys, digest          of every slot with keys, as of now
//! KEVY PROBE  first count    slot, generation, offset, keys, digest          on a primary: and its replicas note theirs there
//! KEVY PROBED first count    the same                                        on a replica: what it noted last of each slot
//! ```

use std::rc::Rc;

use super::clients::Client;
use super::node::Node;
use crate::id::{Digest, Generation, HASH_SLOTS, HashSlot, Offset, SlotRange};
use crate::resp::{Protocol, Reply};
use crate::runtime::local::Local;
use crate::runtime::turn::Turn;
use crate::shard::Role;
use crate::snapshot::{AsOf, Copy, Keyspace, SumId, Summed};
use crate::store::command::number;
use crate::store::value::Value;
use crate::store::value::list::End;
use crate::store::{KeyspaceStore, ValueRef};
use crate::wire::Argv;

/// What one slot holds.
struct SlotDigest {
    slot: HashSlot,
    /// The history and the offset in it that this is of, if that was asked for.
    at: Option<(Generation, Offset)>,
    keys: usize,
    digest: Digest,
}

/// Where a shard goes on.
#[derive(Clone, Copy)]
struct Place {
    /// The next slot.
    slot: u16,
    /// Its digest, if that has been begun.
    sum: Option<SumId>,
    /// How often its digest in steps was given up.
    lost: u32,
}

/// What is asked of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// What it holds.
    Digest,
    /// What it holds, and that replicas note what they hold at the same point.
    Probe,
}

/// Times that a digest in steps is tried again.
const LOST_MAX: u32 = 3;

const WRITTEN_TO: &str = "TRYAGAIN a long string of a slot is written to all the time; ask again";

/// What nobody reads.
const GONE: &str = "ERR the client has gone";

const NOT_PRIMARY: &str = "ERR this node is not a primary";
const NOT_REPLICA: &str = "ERR this node is not a replica";

/// `DEBUG DIGEST`: one digest over everything.
pub(super) async fn digest_of_all(local: &Rc<Local>, client: &Client) -> Result<Digest, &'static str> {
    let mut sum = Digest::default();
    for slot in digests(local, client, SlotRange::ALL, Ask::Digest).await? {
        sum += slot.digest;
    }
    Ok(sum)
}

/// `KEVY …`.
pub(super) async fn execute(local: &Rc<Local>, client: &Client, argv: Argv<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let subcommand = argv.arg(1).to_ascii_lowercase();
    let Some(slots) = range(argv.arg(2), argv.arg(3)) else {
        return Reply::new(out, protocol).error("ERR Invalid or out of range slot");
    };
    let digests = match subcommand.as_slice() {
        b"digest" => digests(local, client, slots, Ask::Digest).await,
        b"probe" => digests(local, client, slots, Ask::Probe).await,
        _ => noted(local, slots).await,
    };
    let mut reply = Reply::new(out, protocol);
    match digests {
        Err(error) => reply.error(error),
        Ok(digests) => {
            reply.array(digests.len());
            for SlotDigest { slot, at, keys, digest } in digests {
                reply.array(if at.is_some() { 5 } else { 3 });
                reply.integer(i64::from(slot.get()));
                if let Some((generation, offset)) = at {
                    reply.bulk(generation.to_string().as_bytes());
                    reply.integer(offset.get() as i64);
                }
                reply.integer(keys as i64);
                reply.bulk(format!("{:016x}", digest.0).as_bytes());
            }
        }
    }
}

/// `DEBUG CORRUPT key`: alters the value of a key on a replica as if memory had failed, for tests of what finds that. Refused
/// unless the configuration allows it.
pub(super) async fn corrupt(local: &Rc<Local>, address: &str, key: &[u8], protocol: Protocol, out: &mut Vec<u8>) {
    let mut reply = Reply::new(out, protocol);
    if !Node::here().shared.config.enable_debug_command {
        return reply.error("ERR DEBUG CORRUPT is not allowed: enable_debug_command is false");
    }
    let is_here = address.rsplit_once(':').is_some_and(|(ip, _)| {
        ip.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    if !is_here {
        return reply.error("ERR DEBUG CORRUPT is for clients of the same machine");
    }
    let key = key.to_vec();
    let owner = local.count().owner(local.core().store.locate(&key).slot);
    let corrupted = local
        .call(owner, move |local| {
            let mut core = local.core();
            match core.role {
                Role::Replica(_) => Ok(alter(&mut core.store, &key)),
                // What nobody records is not for a primary.
                Role::Primary(_) | Role::Standalone => Err(NOT_REPLICA),
            }
        })
        .await;
    match corrupted {
        Ok(true) => reply.ok(),
        Ok(false) => reply.error("ERR no such key"),
        Err(error) => reply.error(error),
    }
}

fn alter(store: &mut KeyspaceStore, key: &[u8]) -> bool {
    let at = store.locate(key);
    let Some(entry) = store.get(at, key) else { return false };
    let expiry = entry.expiry();
    if let ValueRef::Str(bytes) = entry.value() {
        let mut bytes = bytes.to_vec();
        match bytes.last_mut() {
            Some(last) => *last ^= 1,
            None => bytes.push(0),
        }
        store.set_string(at, key, &bytes, expiry);
        return true;
    }
    store.update(at, key, |value| match value {
        Value::Hash(hash) => _ = hash.set(b"corrupted", b""),
        Value::Set(set) => _ = set.insert(b"corrupted"),
        Value::Zset(zset) => _ = zset.insert(b"corrupted", 0.0),
        Value::List(list) => list.push(End::Tail, b"corrupted"),
        Value::Stream(stream) => stream.make_group(b"corrupted"),
        Value::Str(_) => {}
    });
    true
}

/// `first` and `count` as a range of slots, at least one of them.
fn range(first: &[u8], count: &[u8]) -> Option<SlotRange> {
    let (first, count) = (number::integer(first)?, number::integer(count)?);
    let end = first.checked_add(count)?;
    let all = HASH_SLOTS as i64;
    ((0..all).contains(&first) && count > 0 && end <= all).then_some(SlotRange { first: first as u16, end: end as u16 })
}

/// The digests of the slots with keys, or, for a probe, of all.
async fn digests(
    local: &Rc<Local>,
    client: &Client,
    slots: SlotRange,
    ask: Ask,
) -> Result<Vec<SlotDigest>, &'static str> {
    let mut all = Vec::new();
    let mut turn = Turn::begin();
    for shard in local.count().shards() {
        let of_shard = slots.intersect(local.count().slots_of(shard));
        let mut place = Some(Place { slot: of_shard.first, sum: None, lost: 0 }).filter(|_| !of_shard.is_empty());
        while let Some(from) = place {
            if client.is_gone() {
                if let Some(id) = from.sum {
                    local.call(shard, move |local| local.core().store.digest_forget(id)).await;
                }
                return Err(GONE);
            }
            let (found, next) = local.call(shard, move |local| some_digests(local, from, of_shard.end, ask)).await?;
            all.extend(found);
            place = next;
            turn.pass_if_over().await;
        }
    }
    Ok(all)
}

/// As many digests of this shard's slots up to `end` as a turn takes, and where to go on.
fn some_digests(
    local: &Rc<Local>,
    from: Place,
    end: u16,
    ask: Ask,
) -> Result<(Vec<SlotDigest>, Option<Place>), &'static str> {
    let turn = Turn::begin();
    let mut core = local.core();
    let core = &mut *core;
    let mut found = Vec::new();
    let mut place = from;
    while let Some(slot) = HashSlot::new(place.slot).filter(|slot| slot.get() < end) {
        match step(&mut core.store, slot, &mut place)? {
            None if place.sum.is_some() => return Ok((found, Some(place))),
            None => {}
            Some(digest) => {
                let keys = core.store.slot_len(Copy::Live, slot);
                let at = match (ask, &mut core.role) {
                    (Ask::Digest, _) => None,
                    (Ask::Probe, Role::Primary(source)) => {
                        local.to_send.raise();
                        Some((source.generation(), source.probe(slot)))
                    }
                    (Ask::Probe, Role::Replica(_) | Role::Standalone) => return Err(NOT_PRIMARY),
                };
                if keys > 0 || at.is_some() {
                    found.push(SlotDigest { slot, at, keys, digest });
                }
                place = Place { slot: place.slot + 1, sum: None, lost: 0 };
            }
        }
        if turn.is_over() {
            return Ok((found, Some(place)));
        }
    }
    Ok((found, None))
}

/// One step of the digest of `slot`, where `place` is.
///
/// # Errors
/// If it is given up again and again: to read a long string in one step would keep the shard from everything else.
fn step(store: &mut KeyspaceStore, slot: HashSlot, place: &mut Place) -> Result<Option<Digest>, &'static str> {
    let summed = match place.sum.take() {
        Some(id) => store.digest_step(id),
        None => store.digest_begin(slot, AsOf::End),
    };
    match summed {
        Summed::Done(digest) => return Ok(Some(digest)),
        Summed::More(id) => place.sum = Some(id),
        Summed::Lost if place.lost >= LOST_MAX => return Err(WRITTEN_TO),
        Summed::Lost => place.lost += 1,
    }
    Ok(None)
}

/// What the shards of a replica noted.
async fn noted(local: &Rc<Local>, slots: SlotRange) -> Result<Vec<SlotDigest>, &'static str> {
    let parts = local
        .call_all(move |local| {
            let core = local.core();
            let following = core.following().ok_or(NOT_REPLICA)?;
            Ok::<_, &str>(following.noted_in(slots.intersect(core.range())))
        })
        .await;
    let mut all = Vec::new();
    for part in parts {
        for noted in part? {
            let at = Some((noted.generation, noted.at));
            all.push(SlotDigest { slot: noted.slot, at, keys: noted.keys, digest: noted.digest });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_written_to_all_the_time_is_not_digested_in_one_step() {
        let mut store = KeyspaceStore::new();
        let at = store.locate(b"long");
        store.set_string(at, b"long", &vec![b'x'; 2 << 20], None);
        let mut place = Place { slot: at.slot.get(), sum: None, lost: 0 };
        let end = loop {
            match step(&mut store, at.slot, &mut place) {
                Ok(None) => {}
                end => break end,
            }
            store.update(at, b"long", |value| match value {
                Value::Str(string) => string.extend_from_slice(b"y"),
                _ => panic!("a string"),
            });
        };
        assert_eq!((end, place.sum), (Err(WRITTEN_TO), None));
        let mut place = Place { lost: 0, ..place };
        let digest = loop {
            if let Some(digest) = step(&mut store, at.slot, &mut place).unwrap() {
                break digest;
            }
        };
        assert_eq!(digest, store.digest(Copy::Live, at.slot));
    }
}
