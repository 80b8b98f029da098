//! Values as released kevy versions write them into their snapshots, and back.

use super::value::list::End;
use super::value::stream::{Counters, StreamId, Words};
use super::value::times::Times;
use super::value::{Hash, List, Set, Stream, Zset};
use super::{Entry, Value, ValueRef};
use crate::snapshot::published;

/// The record of a key.
pub fn record_of<'a>(entry: &Entry<'a>) -> published::Record<'a> {
    let value = match entry.value() {
        ValueRef::Str(bytes) => published::Value::String(bytes),
        ValueRef::Boxed(Value::Str(bytes)) => published::Value::String(bytes),
        ValueRef::Boxed(Value::Hash(hash)) => published::Value::Hash(hash.iter().collect()),
        ValueRef::Boxed(Value::List(list)) => published::Value::List(list.iter().collect()),
        ValueRef::Boxed(Value::Set(set)) => published::Value::Set(set.iter().collect()),
        ValueRef::Boxed(Value::Zset(zset)) => published::Value::Zset(zset.iter().collect()),
        ValueRef::Boxed(Value::Stream(stream)) => published::Value::Stream(stream_of(stream)),
    };
    published::Record::Key { key: entry.key(), expiry: entry.expiry(), value }
}

/// The records of the times at which fields of the hash of `entry` expire: behind that of the key.
pub fn times_of<'a>(entry: &Entry<'a>) -> impl Iterator<Item = published::Record<'a>> {
    let key = entry.key();
    let times = match entry.value() {
        ValueRef::Boxed(Value::Hash(hash)) => hash.times(),
        ValueRef::Boxed(_) | ValueRef::Str(_) => None,
    };
    times.into_iter().flat_map(Times::iter).map(move |(expiry, field)| published::Record::FieldExpiry {
        key,
        field,
        expiry,
    })
}

/// The value of a record; `None`: it is empty and stands for no key, or its entries do not rise.
pub fn value_of(value: &published::Value<'_>) -> Option<Value> {
    let value = match value {
        published::Value::String(bytes) => return Some(Value::Str((*bytes).into())),
        published::Value::Hash(pairs) => {
            let mut hash = Hash::new();
            pairs.iter().for_each(|(field, value)| _ = hash.set(field, value));
            Value::Hash(hash)
        }
        published::Value::List(elements) => {
            let mut list = List::new();
            elements.iter().for_each(|element| list.push(End::Tail, element));
            Value::List(list)
        }
        published::Value::Set(members) => {
            let mut set = Set::new();
            members.iter().for_each(|member| _ = set.insert(member));
            Value::Set(set)
        }
        published::Value::Zset(members) => {
            let mut zset = Zset::new();
            members.iter().for_each(|(member, score)| _ = zset.insert(member, *score));
            Value::Zset(zset)
        }
        published::Value::Stream(stream) => return stream_from(stream).map(Value::Stream),
    };
    (!value.is_empty()).then_some(value)
}

fn stream_of(stream: &Stream) -> published::Stream<'_> {
    let id = |id: StreamId| published::StreamId { ms: id.ms, seq: id.seq };
    let Counters { last_id, max_deleted_id, entries_added } = stream.counters();
    let entries = stream.range(StreamId::MIN, StreamId::MAX).map(|entry| {
        let mut words = entry.words();
        let fields = std::iter::from_fn(|| Some((words.next()?, words.next()?))).collect();
        published::StreamEntry { id: id(entry.id()), fields }
    });
    let groups = stream.groups().map(|(name, group)| published::Group {
        name,
        last_delivered: id(group.last_id()),
        consumers: group.consumers().map(|(name, consumer)| (name, consumer.seen)).collect(),
        pending: group
            .pending(..)
            .map(|(at, pending)| published::Pending {
                id: id(at),
                consumer: pending.consumer(),
                delivered: pending.delivered,
                count: u32::try_from(pending.count).unwrap_or(u32::MAX),
            })
            .collect(),
    });
    published::Stream {
        last: id(last_id),
        max_deleted: id(max_deleted_id),
        entries_added,
        entries: entries.collect(),
        groups: groups.collect(),
    }
}

fn stream_from(from: &published::Stream<'_>) -> Option<Stream> {
    let id = |id: published::StreamId| StreamId::new(id.ms, id.seq);
    if from.entries.windows(2).any(|pair| pair[0].id >= pair[1].id)
        || from.entries.iter().any(|entry| entry.fields.is_empty())
    {
        return None;
    }
    let mut stream = Stream::new();
    for entry in &from.entries {
        let words: Vec<&[u8]> = entry.fields.iter().flat_map(|(field, value)| [*field, *value]).collect();
        stream.add(id(entry.id), &Words::new(words.into_iter()));
    }
    stream.set_counters(Counters {
        last_id: id(from.last),
        max_deleted_id: id(from.max_deleted),
        entries_added: from.entries_added,
    });
    for group in &from.groups {
        stream.make_group(group.name);
        stream.change_group(group.name, |made| {
            made.set(id(group.last_delivered), None);
            for pending in &group.pending {
                made.pend(id(pending.id), pending.consumer, pending.delivered, u64::from(pending.count));
            }
            for (name, seen) in &group.consumers {
                made.see(name, *seen);
                made.set_seen(name, *seen);
            }
        });
    }
    Some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UnixMs;
    use crate::snapshot::published::{Record, Version};
    use crate::snapshot::{Copy, Keyspace};
    use crate::store::command::dispatch;
    use crate::store::{KeyspaceStore, ScanCursor};

    #[test]
    fn every_type_comes_back_from_its_record() {
        let mut store = KeyspaceStore::new();
        let long = "x".repeat(5_000);
        let number = |n: u32| n.to_string();
        let mut commands: Vec<Vec<String>> = [
            "SET {t}s v PXAT 5000",
            "SET {t}empty ",
            "HSET {t}h f v g w",
            "HPEXPIREAT {t}h 7 FIELDS 1 g",
            "RPUSH {t}l a b a",
        ]
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .to_vec();
        commands.push(vec!["SET".into(), "{t}long".into(), long]);
        for n in 0..600 {
            commands.push(vec!["HSET".into(), "{t}hh".into(), number(n), number(n)]);
            commands.push(vec!["SADD".into(), "{t}e".into(), number(n)]);
            commands.push(vec!["SADD".into(), "{t}words".into(), format!("word{n}")]);
            commands.push(vec!["ZADD".into(), "{t}z".into(), number(n % 7), number(n)]);
            commands.push(vec!["LPUSH".into(), "{t}ll".into(), number(n)]);
        }
        for line in ["XADD {t}x 1-1 f v g w", "XADD {t}x 5-0 f v", "XADD {t}x 5-2 f v", "XDEL {t}x 5-0"] {
            commands.push(line.split(' ').map(str::to_owned).collect());
        }
        for command in &commands {
            dispatch(&mut store, command).unwrap();
        }
        let mut bytes = Vec::new();
        store.scan(ScanCursor::START, usize::MAX, |entry| {
            assert!(record_of(&entry).encode(Version::WITH_FIELD_TIMES, &mut bytes));
            times_of(&entry).for_each(|record| assert!(record.encode(Version::WITH_FIELD_TIMES, &mut bytes)));
        });
        Record::End.encode(Version::WITH_FIELD_TIMES, &mut bytes);
        let mut copy = KeyspaceStore::new();
        let mut rest = &bytes[..];
        loop {
            let (record, used) = Record::decode(Version::WITH_FIELD_TIMES, rest, UnixMs::new(0)).unwrap().unwrap();
            rest = &rest[used..];
            if let Record::FieldExpiry { key, field, expiry } = record {
                let set = copy.update(copy.locate(key), key, |value| match value {
                    Value::Hash(hash) => hash.set_time(field, Some(expiry)),
                    _ => false,
                });
                assert_eq!(set, Some(true));
                continue;
            }
            let Record::Key { key, expiry, value } = record else { break };
            let value = value_of(&value).unwrap();
            match value {
                Value::Str(bytes) => copy.set_string(copy.locate(key), key, &bytes, expiry),
                value => copy.set_value(copy.locate(key), key, Box::new(value), expiry),
            }
        }
        assert!(rest.is_empty());
        let slot = store.locate(b"{t}").slot;
        assert_eq!(copy.digest(Copy::Live, slot), store.digest(Copy::Live, slot));
        assert_eq!(copy.len(), store.len());
    }

    #[test]
    fn groups_of_a_stream_come_back() {
        let mut stream = Stream::new();
        stream.add(StreamId::new(7, 1), &Words::new([b"f".as_slice(), b"v"].into_iter()));
        stream.make_group(b"g");
        stream.change_group(b"g", |group| {
            group.set(StreamId::new(7, 1), None);
            group.pend(StreamId::new(7, 1), b"c", UnixMs::new(70), 3);
            group.see(b"idle", UnixMs::new(80));
        });
        let value = published::Value::Stream(stream_of(&stream));
        let Some(Value::Stream(again)) = value_of(&value) else { panic!("it is a stream") };
        assert_eq!(again.digest(), stream.digest());
        assert_eq!(published::Value::Stream(stream_of(&again)), value);
    }

    #[test]
    fn what_stands_for_no_key_is_no_value() {
        assert!(value_of(&published::Value::Set(Vec::new())).is_none());
        let entry = |ms| published::StreamEntry { id: published::StreamId { ms, seq: 0 }, fields: vec![(b"f", b"v")] };
        let falling = published::Stream { entries: vec![entry(2), entry(1)], ..published::Stream::default() };
        assert!(value_of(&published::Value::Stream(falling)).is_none());
        assert!(value_of(&published::Value::String(b"")).is_some());
    }
}
