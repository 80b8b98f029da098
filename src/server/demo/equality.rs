//! Whether two nodes hold the same, judged twice: by their own digests, and by what a client finds on both with SCAN
//! and reading every key. The second trusts nothing that the first does.

use std::collections::BTreeMap;
use std::thread;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::Trouble;
use super::client::{Client, Value, encode};

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Equality {
    /// `DEBUG DIGEST` of the primary.
    pub primary_digest: String,
    /// `DEBUG DIGEST` of the replica.
    pub replica_digest: String,
    /// Keys read on the primary.
    pub primary_keys: usize,
    /// Keys read on the replica.
    pub replica_keys: usize,
    /// Keys that one of them lacks, or that differ in type, value or expiry.
    pub differing_keys: usize,
    /// The first of them.
    pub first_difference: Option<String>,
}

impl Equality {
    /// Compares the nodes with these client ports. Nobody may write meanwhile.
    pub fn judge(primary: u16, replica: u16) -> Result<Equality, Trouble> {
        let other = thread::spawn(move || Ok((digest(replica)?, contents(replica)?)));
        let (primary_digest, ours) = (digest(primary)?, contents(primary)?);
        let (replica_digest, theirs) =
            other.join().unwrap_or_else(|_| Err(Trouble::new("reading the replica panicked".to_owned())))?;
        let mut differing = differences(&ours, &theirs).peekable();
        let first_difference = differing.peek().map(|key| String::from_utf8_lossy(key).into_owned());
        Ok(Equality {
            primary_digest,
            replica_digest,
            primary_keys: ours.len(),
            replica_keys: theirs.len(),
            differing_keys: differing.count(),
            first_difference,
        })
    }

    /// Whether the digests are the same.
    pub fn by_digest(&self) -> bool {
        self.primary_digest == self.replica_digest
    }

    /// Whether a client reads the same.
    pub fn by_reading(&self) -> bool {
        self.differing_keys == 0
    }
}

/// What a client finds: of each key a hash over its type, its value and its expiry.
type Contents = BTreeMap<Vec<u8>, u128>;

fn differences<'a>(ours: &'a Contents, theirs: &'a Contents) -> impl Iterator<Item = &'a Vec<u8>> {
    let here = ours.iter().filter(|(key, hash)| theirs.get(*key) != Some(hash)).map(|(key, _)| key);
    here.chain(theirs.keys().filter(|key| !ours.contains_key(*key)))
}

fn digest(port: u16) -> Result<String, Trouble> {
    match Client::connect(port)?.ask(&["DEBUG", "DIGEST"])? {
        Value::Simple(digest) => Ok(digest),
        other => Err(unexpected(port, "DEBUG DIGEST", &other)),
    }
}

fn contents(port: u16) -> Result<Contents, Trouble> {
    let mut client = Client::connect(port)?;
    let mut found = Contents::new();
    let mut cursor = "0".to_owned();
    loop {
        let (next, keys) = match client.ask(&["SCAN", &cursor, "COUNT", "1000"])? {
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::Bulk(next), Value::Array(keys)]) => (String::from_utf8_lossy(&next).into_owned(), keys),
                other => return Err(unexpected(port, "SCAN", &other)),
            },
            other => return Err(unexpected(port, "SCAN", &other)),
        };
        let keys = keys.into_iter().map(|key| match key {
            Value::Bulk(key) => Ok(key),
            other => Err(unexpected(port, "SCAN", &other)),
        });
        let keys: Vec<Vec<u8>> = keys.collect::<Result<_, _>>()?;
        read(port, &mut client, keys, &mut found)?;
        cursor = next;
        if cursor == "0" {
            return Ok(found);
        }
    }
}

fn read(port: u16, client: &mut Client, keys: Vec<Vec<u8>>, found: &mut Contents) -> Result<(), Trouble> {
    let mut requests = Vec::new();
    for key in &keys {
        encode(&mut requests, &[b"TYPE", &key[..]]);
        encode(&mut requests, &[b"PEXPIRETIME", &key[..]]);
    }
    client.send(&requests)?;
    let mut kinds = Vec::with_capacity(keys.len());
    for _ in &keys {
        match (client.receive()?, client.receive()?) {
            (Value::Simple(kind), Value::Integer(expiry)) => kinds.push((kind, expiry)),
            other => return Err(unexpected(port, "TYPE and PEXPIRETIME", &other)),
        }
    }
    requests.clear();
    for (key, (kind, _)) in keys.iter().zip(&kinds) {
        match kind.as_str() {
            "string" => encode(&mut requests, &[b"GET", &key[..]]),
            "hash" => encode(&mut requests, &[b"HGETALL", &key[..]]),
            "list" => encode(&mut requests, &[b"LRANGE", &key[..], b"0", b"-1"]),
            "set" => encode(&mut requests, &[b"SMEMBERS", &key[..]]),
            "zset" => encode(&mut requests, &[b"ZRANGE", &key[..], b"0", b"-1", b"WITHSCORES"]),
            other => return Err(unexpected(port, "TYPE", &other)),
        }
    }
    client.send(&requests)?;
    for (key, (kind, expiry)) in keys.into_iter().zip(kinds) {
        let value = match client.receive()? {
            Value::Error(error) => return Err(unexpected(port, &format!("a read of a {kind}"), &error)),
            value => value,
        };
        found.insert(key, hash(&kind, expiry, value));
    }
    Ok(())
}

/// Over type, expiry and value; the order of what has none, a set's members and a hash's fields, does not count.
fn hash(kind: &str, expiry: i64, value: Value) -> u128 {
    let mut hasher = Xxh3::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(kind.as_bytes());
    add(&expiry.to_le_bytes());
    match value {
        Value::Array(items) => {
            let mut items: Vec<Vec<u8>> = items.into_iter().map(text).collect();
            let group = if kind == "hash" { 2 } else { 1 };
            let mut groups: Vec<&mut [Vec<u8>]> = items.chunks_mut(group).collect();
            if matches!(kind, "hash" | "set") {
                groups.sort();
            }
            groups.iter().flat_map(|group| group.iter()).for_each(|item| add(item));
        }
        other => add(&text(other)),
    }
    hasher.digest128()
}

fn text(value: Value) -> Vec<u8> {
    match value {
        Value::Bulk(bytes) => bytes,
        other => format!("{other:?}").into_bytes(),
    }
}

fn unexpected(port: u16, command: &str, answer: &dyn std::fmt::Debug) -> Trouble {
    Trouble::new(format!("port {port} answered {command} with {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(items: &[&str]) -> Value {
        Value::Array(items.iter().map(|item| Value::Bulk(item.as_bytes().to_vec())).collect())
    }

    #[test]
    fn order_counts_where_it_means_something() {
        assert_eq!(hash("set", -1, array(&["a", "b"])), hash("set", -1, array(&["b", "a"])));
        assert_ne!(hash("list", -1, array(&["a", "b"])), hash("list", -1, array(&["b", "a"])));
        assert_eq!(hash("hash", -1, array(&["f", "1", "g", "2"])), hash("hash", -1, array(&["g", "2", "f", "1"])));
        assert_ne!(hash("hash", -1, array(&["f", "1", "g", "2"])), hash("hash", -1, array(&["f", "2", "g", "1"])));
    }

    #[test]
    fn type_expiry_and_every_byte_count() {
        let one = hash("string", -1, Value::Bulk(b"x".to_vec()));
        assert_eq!(one, hash("string", -1, Value::Bulk(b"x".to_vec())));
        assert_ne!(one, hash("string", 5, Value::Bulk(b"x".to_vec())));
        assert_ne!(one, hash("string", -1, Value::Bulk(b"y".to_vec())));
        assert_ne!(one, hash("list", -1, Value::Bulk(b"x".to_vec())));
        assert_ne!(hash("list", -1, array(&["ab", "c"])), hash("list", -1, array(&["a", "bc"])));
    }

    #[test]
    fn a_key_on_either_side_alone_differs() {
        let contents =
            |keys: &[(&str, u128)]| keys.iter().map(|(key, hash)| (key.as_bytes().to_vec(), *hash)).collect();
        let (ours, theirs): (Contents, Contents) =
            (contents(&[("a", 1), ("b", 2), ("c", 3)]), contents(&[("a", 1), ("b", 9), ("d", 4)]));
        let differing: Vec<_> = differences(&ours, &theirs).map(|key| String::from_utf8_lossy(key)).collect();
        assert_eq!(differing, ["b", "c", "d"]);
        assert_eq!(differences(&ours, &ours).count(), 0);
    }
}
