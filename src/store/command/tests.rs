//! What every command answers and leaves behind, and that a store which only saw the effects equals the one that executed.

#[path = "../../../tests/support/commands.rs"]
mod commands;

use super::*;
use crate::resp::{Protocol, inline};
use crate::snapshot::{Digest, DumpCursor};
use crate::wire::{ArgRange, Room};
use commands::Draw;
use proptest::prelude::*;

/// A primary's shard, or a replica's.
struct Node {
    store: KeyspaceStore,
    now: u64,
    random: Random,
    lazy: Lazy,
    protocol: Protocol,
    expired_keys: u64,
}

/// Arguments in a buffer of their own.
struct Line {
    bytes: Vec<u8>,
    ranges: Vec<ArgRange>,
}

impl Line {
    fn new(text: &str) -> Line {
        let (mut bytes, mut ranges) = (text.as_bytes().to_vec(), Vec::new());
        inline::split(&mut bytes, &mut ranges).unwrap();
        Line { bytes, ranges }
    }

    fn decoded(command: &Command) -> Line {
        let mut ranges = Vec::new();
        let used = decode_multibulk(command.as_bytes(), &mut ranges);
        assert_eq!(used, Ok(Some(command.as_bytes().len())));
        Line { bytes: command.as_bytes().to_vec(), ranges }
    }

    fn argv(&self) -> Argv<'_> {
        Argv::new(&self.bytes, &self.ranges)
    }

    fn text(&self) -> String {
        self.argv().iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
    }
}

impl Node {
    fn new(lazy: Lazy) -> Node {
        let (store, random) = (KeyspaceStore::new(), Random::seeded(1));
        Node { store, now: 1_000_000, random, lazy, protocol: Protocol::Resp2, expired_keys: 0 }
    }

    /// Executes a command; its reply, and its effects as they go into the stream.
    fn run(&mut self, text: &str) -> (String, Vec<Command>) {
        self.run_line(&Line::new(text))
    }

    fn run_line(&mut self, line: &Line) -> (String, Vec<Command>) {
        let argv = line.argv();
        let spec = find(argv.arg(0)).unwrap();
        let at: Vec<Located> = spec.keys(argv).map(|index| self.store.locate(argv.arg(index))).collect();
        let mut out = Vec::new();
        let mut context = Context {
            store: &mut self.store,
            now: UnixMs::new(self.now),
            random: &mut self.random,
            lazy: self.lazy,
            room: Room::WHOLE,
            expired_keys: &mut self.expired_keys,
        };
        let effects = execute(spec, &mut context, &at, argv, &mut Reply::new(&mut out, self.protocol));
        let effects = match effects {
            Effects::None => Vec::new(),
            Effects::Verbatim => vec![Command::of(argv)],
            Effects::One(command) => vec![command],
            Effects::Group(commands) => {
                assert!(commands.len() > 1, "a group of one is one");
                commands
            }
        };
        (String::from_utf8_lossy(&out).into_owned(), effects)
    }

    fn effects(&mut self, text: &str) -> String {
        let effects = self.run(text).1;
        effects.iter().map(|command| Line::decoded(command).text()).collect::<Vec<_>>().join("; ")
    }

    fn apply(&mut self, command: &Command) {
        let line = Line::decoded(command);
        let argv = line.argv();
        if argv.arg(0) == b"FLUSHALL" {
            return self.store.clear_slots(SlotRange::ALL);
        }
        let at = self.store.locate(argv.arg(1));
        assert_eq!(self.store.apply(Copy::Live, at, argv), Ok(()), "{}", line.text());
    }

    fn digest(&self) -> Digest {
        key::digest(&self.store, SlotRange::ALL)
    }
}

#[test]
fn every_command_leaves_these_effects() {
    // What was done before, the command, its effects. The time is 1000000.
    let table: &[(&[&str], &str, &str)] = &[
        (&[], "SET k v", "SET k v"),
        (&[], "set k v", "set k v"),
        (&[], "SET k v EX 10", "SET k v PXAT 1010000"),
        (&[], "SET k v PX 10", "SET k v PXAT 1000010"),
        (&[], "SET k v EXAT 2000", "SET k v PXAT 2000000"),
        (&[], "SET k v PXAT 2000000", "SET k v PXAT 2000000"),
        (&["SET k v"], "SET k w PXAT 5", "DEL k"),
        (&[], "SET k w PXAT 5", ""),
        (&[], "SET k v NX", "SET k v"),
        (&["SET k v"], "SET k w NX", ""),
        (&["SET k v"], "SET k w XX GET", "SET k w"),
        (&[], "SET k w XX", ""),
        (&["SET k v EX 10"], "SET k w KEEPTTL", "SET k w KEEPTTL"),
        (&["LPUSH k v"], "SET k w GET", ""),
        (&["SET k v"], "SET k w EX 0", ""),
        (&[], "SETNX k v", "SET k v"),
        (&["SET k v"], "SETNX k w", ""),
        (&[], "SETEX k 10 v", "SET k v PXAT 1010000"),
        (&[], "PSETEX k 10 v", "SET k v PXAT 1000010"),
        (&["SET k v"], "GETSET k w", "SET k w"),
        (&["SET k v"], "GETDEL k", "DEL k"),
        (&[], "GETDEL k", ""),
        (&["SET k v"], "GETEX k", ""),
        (&["SET k v"], "GETEX k EX 10", "PEXPIREAT k 1010000"),
        (&["SET k v"], "GETEX k PXAT 10", "DEL k"),
        (&["SET k v"], "GETEX k PERSIST", ""),
        (&["SET k v EX 10"], "GETEX k PERSIST", "PERSIST k"),
        (&[], "MSET a 1 b 2 a 3", "SET a 1; SET b 2; SET a 3"),
        (&[], "MSET a 1", "SET a 1"),
        (&["SET b 1"], "MSETNX a 1 b 2", ""),
        (&[], "MSETNX a 1 b 2", "SET a 1; SET b 2"),
        (&[], "INCR k", "INCR k"),
        (&["SET k v"], "INCR k", ""),
        (&[], "DECRBY k 5", "DECRBY k 5"),
        (&["SET k 0.1 EX 10"], "INCRBYFLOAT k 0.2", "SET k 0.3 KEEPTTL"),
        (&[], "APPEND k v", "APPEND k v"),
        (&["SET k v"], "APPEND k ''", ""),
        (&[], "SETRANGE k 2 v", "SETRANGE k 2 v"),
        (&[], "SETRANGE k 2 ''", ""),
        (&["SET k v"], "GET k", ""),
        (&["SET k v"], "DEL k", "DEL k"),
        (&["SET a 1", "SET c 1"], "DEL a b c a", "DEL a; DEL c"),
        (&["SET a 1"], "UNLINK a b", "DEL a"),
        (&[], "DEL k", ""),
        (&["SET k v"], "EXPIRE k 10", "PEXPIREAT k 1010000"),
        (&["SET k v"], "EXPIRE k -1", "DEL k"),
        (&["SET k v"], "EXPIREAT k 1000", "DEL k"),
        (&["SET k v"], "PEXPIRE k 10 XX", ""),
        (&["SET k v"], "PEXPIRE k 10 GT", ""),
        (&["SET k v"], "PEXPIRE k 10 LT", "PEXPIREAT k 1000010"),
        (&["SET k v PX 50"], "PEXPIRE k 10 NX", ""),
        (&[], "EXPIRE k 10", ""),
        (&["SET k v EX 10"], "PERSIST k", "PERSIST k"),
        (&["SET k v"], "PERSIST k", ""),
        (&["SET a v EX 10", "SADD b m"], "RENAME a b", "DEL a; DEL b; SET b v; PEXPIREAT b 1010000"),
        (&["RPUSH a 1 2 3"], "RENAME a b", "DEL a; RPUSH b 1 2 3"),
        (&["HSET a f v"], "RENAMENX a b", "DEL a; HSET b f v"),
        (&["ZADD a 1.5 m inf n"], "RENAME a b", "DEL a; ZADD b 1.5 m inf n"),
        (&["SET a v"], "RENAME a a", ""),
        (&["SET a v", "SET b v"], "RENAMENX a b", ""),
        (&[], "FLUSHALL ASYNC", "FLUSHALL"),
        (&[], "FLUSHDB", "FLUSHALL"),
        (&[], "HSET k f v", "HSET k f v"),
        (&[], "HSETNX k f v", "HSET k f v"),
        (&["HSET k f v"], "HSETNX k f w", ""),
        (&[], "HINCRBY k f 2", "HINCRBY k f 2"),
        (&["HSET k f 0.1"], "HINCRBYFLOAT k f 0.2", "HSET k f 0.3"),
        (&["HSET k f 1"], "HDEL k f g", "HDEL k f g"),
        (&["HSET k f 1"], "HDEL k g", ""),
        (&["HSET k f 1 g 2"], "HGETDEL k FIELDS 3 f x f", "HDEL k f"),
        (&["HSET k f 1"], "HGETDEL k FIELDS 1 f", "HDEL k f"),
        (&["HSET k f 1"], "HGETDEL k FIELDS 1 x", ""),
        (&["HSET k f 1"], "HGETDEL k FIELDS 2 f", ""),
        (&[], "LPUSH k a b", "LPUSH k a b"),
        (&[], "LPUSHX k a", ""),
        (&["LPUSH k a"], "RPUSHX k a", "RPUSHX k a"),
        (&["LPUSH k a b"], "LPOP k", "LPOP k"),
        (&["LPUSH k a"], "LPOP k", "DEL k"),
        (&["LPUSH k a"], "LPOP k 0", ""),
        (&[], "RPOP k 2", ""),
        (&["LPUSH k a"], "LSET k 0 b", "LSET k 0 b"),
        (&["LPUSH k a"], "LSET k 1 b", ""),
        (&["LPUSH k a b"], "LREM k 0 a", "LREM k 0 a"),
        (&["LPUSH k a"], "LREM k 0 b", ""),
        (&["LPUSH k a"], "LTRIM k 0 -1", ""),
        (&["LPUSH k a b"], "LTRIM k 1 -1", "LTRIM k 1 -1"),
        (&["LPUSH k a b"], "LTRIM k -9 -3", "DEL k"),
        (&["LPUSH k a"], "LINSERT k BEFORE a b", "LINSERT k BEFORE a b"),
        (&["LPUSH k a"], "LINSERT k BEFORE b b", ""),
        (&[], "SADD k a b", "SADD k a b"),
        (&["SADD k a"], "SADD k a", ""),
        (&["SADD k a"], "SREM k a b", "SREM k a b"),
        (&["SADD k a"], "SPOP k", "DEL k"),
        (&["SADD k a a2"], "SPOP k 5", "DEL k"),
        (&["SADD k a"], "SPOP k 0", ""),
        (&[], "ZADD k 1 a 2 b", "ZADD k 1 a 2 b"),
        (&["ZADD k 1 a"], "ZADD k 1 a", ""),
        (&["ZADD k 1 a"], "ZADD k NX 2 a 3 b", "ZADD k 3 b"),
        (&["ZADD k 1 a"], "ZADD k XX CH 2 a 3 b", "ZADD k 2 a"),
        (&["ZADD k 1 a 5 b"], "ZADD k GT 2 a 3 b", "ZADD k 2 a"),
        (&["ZADD k 1 a 5 b"], "ZADD k LT 2 a 3 b", "ZADD k 3 b"),
        (&["ZADD k 1 a"], "ZADD k INCR 1.5 a", "ZADD k 2.5 a"),
        (&["ZADD k 1 a"], "ZINCRBY k 1.5 a", "ZADD k 2.5 a"),
        (&["ZADD k 1 a"], "ZINCRBY k 0 a", ""),
        (&["ZADD k 1 a 2 b"], "ZPOPMIN k", "ZREM k a"),
        (&["ZADD k 1 a 2 b"], "ZPOPMAX k 5", "DEL k"),
        (&["ZADD k 1 a 2 b 3 c"], "ZPOPMAX k 2", "ZREM k c b"),
        (&["ZADD k 0 a 0 b 0 c"], "ZREMRANGEBYLEX k [b +", "ZREM k b c"),
        (&["ZADD k 0 a 0 b 0 c"], "ZREMRANGEBYLEX k - +", "DEL k"),
        (&["ZADD k 0 a 0 b 0 c"], "ZREMRANGEBYLEX k (c +", ""),
        (&["ZADD k 1 a"], "ZREM k a b", "ZREM k a b"),
        (&["ZADD k 1 a 2 b"], "ZREMRANGEBYRANK k 0 0", "ZREM k a"),
        (&["ZADD k 1 a 2 b"], "ZREMRANGEBYSCORE k (1 2", "ZREMRANGEBYSCORE k (1 2"),
        (&["ZADD k 1 a 2 b"], "ZREMRANGEBYSCORE k 5 6", ""),
        // Bits are said as the bytes that changed.
        (&[], "SETBIT k 9 1", "SETRANGE k 1 @"),
        (&[], "SETBIT k 7 0", "SETRANGE k 0 \\x00"),
        (&["SET k a"], "SETBIT k 1 1", ""),
        (&["SET k a"], "SETBIT k 1 0", "SETRANGE k 0 !"),
        (&["SET a ab"], "BITOP NOT k a", "SET k \\x9e\\x9d"),
        (&["SET k v"], "BITOP AND k a b", "DEL k"),
        (&[], "BITOP AND k a b", ""),
        (&["SADD k m", "SET a x"], "BITOP OR k a", "SET k x"),
        (&["SET k a"], "BITFIELD k GET u8 0", ""),
        (&["SET k a"], "BITFIELD k SET u8 0 98 INCRBY u8 0 1", "SETRANGE k 0 b; SETRANGE k 0 c"),
        (&[], "BITFIELD k OVERFLOW FAIL INCRBY u2 8 4", "SETRANGE k 1 \\x00"),
        (&["SET k a"], "BITFIELD k SET u8 0 97", ""),
        // What is made of several keys is said as the value that came out.
        (&["SET a v EX 10"], "COPY a k", "SET k v; PEXPIREAT k 1010000"),
        (&["SADD a m", "SET k v"], "COPY a k REPLACE", "DEL k; SADD k m"),
        (&["SADD a m", "SET k v"], "COPY a k", ""),
        (&["RPUSH a 1 2"], "LMOVE a k LEFT RIGHT", "LPOP a; RPUSH k 1"),
        (&["RPUSH a 1 2"], "LMOVE a a LEFT RIGHT", "LPOP a; RPUSH a 1"),
        (&["RPUSH a 1 2"], "LMOVE a a LEFT LEFT", ""),
        (&["RPUSH a 1"], "LMOVE a a LEFT RIGHT", ""),
        (&["RPUSH a 1 2"], "RPOPLPUSH a k", "RPOP a; LPUSH k 2"),
        (&["RPUSH a 1", "SET k v"], "RPOPLPUSH a k", ""),
        (&["RPUSH k 1 2 3"], "LMPOP 2 a k RIGHT COUNT 5", "DEL k"),
        (&[], "LMPOP 2 a k LEFT", ""),
        (&["SADD a m n"], "SMOVE a k m", "SREM a m; SADD k m"),
        (&["SADD a m", "SADD k m"], "SMOVE a k m", "SREM a m"),
        (&["SADD a m"], "SMOVE a a m", ""),
        (&["SADD a m"], "SMOVE a k x", ""),
        (&["SADD a m n", "SADD b n"], "SINTERSTORE k a b", "SADD k n"),
        (&["SADD a m", "SET k v"], "SINTERSTORE k a b", "DEL k"),
        (&["SADD a m"], "SINTERSTORE k a b", ""),
        (&["SADD a m", "HSET k f v"], "SUNIONSTORE k a b", "DEL k; SADD k m"),
        (&["SADD a m n", "SADD b n"], "SDIFFSTORE a a b", "DEL a; SADD a m"),
        (&["ZADD a 1 m 2 n 3 o"], "ZRANGESTORE k a (1 +inf BYSCORE LIMIT 0 1", "ZADD k 2 n"),
        (&["ZADD k 1 m"], "ZRANGESTORE k a 0 -1", "DEL k"),
        (&["ZADD a 1 m", "SADD b m n"], "ZUNIONSTORE k 2 a b WEIGHTS 2 3", "ZADD k 3 n 5 m"),
        (&["ZADD a 1 m", "SADD b m n"], "ZINTERSTORE k 2 a b AGGREGATE MAX", "ZADD k 1 m"),
        (&["ZADD a 1 m", "SADD b m n"], "ZDIFFSTORE k 2 b a", "ZADD k 1 n"),
        (&["ZADD k 1 m 2 n"], "ZMPOP 2 a k MIN", "ZREM k m"),
        // HyperLogLogs are said as the bytes that changed.
        (
            &[],
            "PFADD k a b c",
            "SET k HYLL\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80`\\xf3\\x80P\\xb1\\x84K\\xfb\\x80BZ",
        ),
        (&["PFADD k a b"], "PFADD k c", "SETRANGE k 16 `\\xf3\\x80P\\xb1\\x84K\\xfb\\x80BZ"),
        (&["PFADD k a b"], "PFADD k b a", ""),
        (&["PFADD k"], "PFADD k", ""),
        (&["PFADD k a"], "PFCOUNT k", ""),
        (&["PFADD a a b", "PFADD k c"], "PFMERGE k a", "SETRANGE k 19 P\\xb1\\x84K\\xfb\\x80BZ"),
        (&["PFADD a a", "PFADD k a"], "PFMERGE k a", ""),
        (&["SET k v"], "PFADD k a", ""),
        // Places are scores.
        (
            &[],
            "GEOADD k 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
            "ZADD k 3479099956230698 Palermo 3479447370796909 Catania",
        ),
        (&["GEOADD k 13.361389 38.115556 Palermo"], "GEOADD k CH 13.361389 38.115556 Palermo", ""),
        (&["GEOADD k 1 1 Palermo"], "GEOADD k NX 1 2 Palermo 13.361389 38.115556 x", "ZADD k 3479099956230698 x"),
        (&["GEOADD k 1 1 m"], "GEOADD k XX 1 2 n", ""),
        (&["GEOADD k 1 1 m"], "GEOADD k XX 1 2 n 191 2 m", ""),
        (
            &["GEOADD a 13.361389 38.115556 m 1 1 n", "SET k v"],
            "GEOSEARCHSTORE k a FROMMEMBER m BYBOX 10 10 km",
            "DEL k; ZADD k 3479099956230698 m",
        ),
        (&["GEOADD a 1 1 m"], "GEORADIUS a 1 1 5 km STOREDIST k", "ZADD k 6.0521617125866494e-5 m"),
        (&["GEOADD a 1 1 m", "SET k v"], "GEORADIUSBYMEMBER x m 5 km STORE k", "DEL k"),
        (&["GEOADD a 1 1 m"], "GEORADIUS_RO a 1 1 5 km STORE k", ""),
        (&["ZADD k 1 m 2 n"], "ZMPOP 2 a k MAX COUNT 2", "DEL k"),
        (&["RPUSH a 3 1 2"], "SORT a STORE k", "RPUSH k 1 2 3"),
        (&["RPUSH a 3 1", "SET k v"], "SORT a DESC STORE k", "DEL k; RPUSH k 3 1"),
        (&["SET k v"], "SORT a STORE k", "DEL k"),
        (&["RPUSH a 3 1", "SET v1 x"], "SORT a GET v* STORE k", "RPUSH k x "),
        (&["RPUSH a 3 1"], "SORT a", ""),
        (&["RPUSH a x"], "SORT a STORE k", ""),
        (&[], "RESTORE k 0 \"\\x00\\x01\\x76\\x0a\\x00\\x91\\x08\\xce\\xb2\\x19\\x38\\x8a\\xce\"", "SET k v"),
        (
            &[],
            "RESTORE k 10 \"\\x00\\x01\\x76\\x0a\\x00\\x91\\x08\\xce\\xb2\\x19\\x38\\x8a\\xce\"",
            "SET k v PXAT 1000010",
        ),
        (
            &["SET k w"],
            "RESTORE k 2000000 \"\\x00\\x01\\x76\\x0a\\x00\\x91\\x08\\xce\\xb2\\x19\\x38\\x8a\\xce\" ABSTTL REPLACE",
            "SET k v PXAT 2000000",
        ),
        (
            &["SET k w"],
            "RESTORE k 2 \"\\x00\\x01\\x76\\x0a\\x00\\x91\\x08\\xce\\xb2\\x19\\x38\\x8a\\xce\" ABSTTL REPLACE",
            "DEL k",
        ),
        (&[], "RESTORE k 2 \"\\x00\\x01\\x76\\x0a\\x00\\x91\\x08\\xce\\xb2\\x19\\x38\\x8a\\xce\" ABSTTL", ""),
        (
            &["SET k w"],
            "RESTORE k 10 \"\\x02\\x01\\x01\\x6d\\x0a\\x00\\xc6\\xfc\\xb6\\x57\\xe0\\x86\\xa5\\xb0\" REPLACE",
            "DEL k; SADD k m; PEXPIREAT k 1000010",
        ),
        (&["SET k w"], "RESTORE k 0 \"\\x00\\x01\\x76\\x0a\\x00\\x91\\x08\\xce\\xb2\\x19\\x38\\x8a\\xce\"", ""),
        (&[], "RESTORE k 0 nothing", ""),
        // Streams: ids are said, and what is left instead of what was trimmed. A million is the time.
        (&[], "XADD k * f v", "XADD k 1000000-0 f v"),
        (&[], "XADD k 5-* f v g w", "XADD k 5-0 f v g w"),
        (&[], "XADD k 5 f v", "XADD k 5-0 f v"),
        (&["XADD k 5-7 f v"], "XADD k 5-8 f v", "XADD k 5-8 f v"),
        (&["XADD k 5-7 f v"], "XADD k 5-7 f v", ""),
        (&[], "XADD k NOMKSTREAM * f v", ""),
        (&["XADD k 5-7 f v"], "XADD k NOMKSTREAM 6-0 f v", "XADD k 6-0 f v"),
        (&["XADD k 5-7 f v"], "XADD k MAXLEN 5 6-0 f v", "XADD k 6-0 f v"),
        (&["XADD k 5-7 f v"], "XADD k MAXLEN = 1 6-0 f v", "XADD k MINID = 6-0 6-0 f v"),
        (&["XADD k 5-7 f v"], "XADD k MINID 5-8 6-0 f v", "XADD k MINID = 6-0 6-0 f v"),
        (&["XADD k 5-7 f v"], "XADD k MAXLEN 0 6-0 f v", "XADD k MAXLEN = 0 6-0 f v"),
        (&["XADD k 5-7 f v"], "XADD k MAXLEN ~ 1 6-0 f v", "XADD k 6-0 f v"),
        (&["XADD k 1-0 f v", "XADD k 2-0 f v"], "XTRIM k MAXLEN 1", "XTRIM k MINID = 2-0"),
        (&["XADD k 1-0 f v", "XADD k 2-0 f v"], "XTRIM k MINID 9", "XTRIM k MAXLEN = 0"),
        (&["XADD k 1-0 f v"], "XTRIM k MAXLEN 1", ""),
        (&["XADD k 1-0 f v"], "XDEL k 1-0", "XDEL k 1-0"),
        (&["XADD k 1-0 f v"], "XDEL k 2 1 1", "XDEL k 1-0"),
        (&["XADD k 1-0 f v"], "XDEL k 2", ""),
        (&["XADD k 1-0 f v"], "XSETID k 2", "XSETID k 2-0 ENTRIESADDED 1 MAXDELETEDID 0-0"),
        (&["XADD k 1-0 f v"], "XSETID k 1-0", ""),
        (&["XADD k 1-0 f v"], "XREAD STREAMS k 0", ""),
        (&["XADD k 1-0 f v"], "XGROUP CREATE k g $", "XGROUPSET k g 1-0 -"),
        (&["XADD k 1-0 f v"], "XGROUP CREATE k g 0 ENTRIESREAD 7", "XGROUPSET k g 0-0 7"),
        (&[], "XGROUP CREATE k g $ MKSTREAM", "XGROUPSET k g 0-0 -"),
        (&[], "XGROUP CREATE k g $", ""),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0"], "XGROUP CREATE a g 0", ""),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0"], "XGROUP SETID a g 1", "XGROUPSET a g 1-0 -"),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0"], "XGROUP SETID a g 0", ""),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0"], "XGROUP DESTROY a g", "XGROUPDEL a g"),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0"], "XGROUP DESTROY a h", ""),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0"], "XGROUP CREATECONSUMER a g c", "XCONSUMERSET a g c 1000000"),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0"], "XGROUP DELCONSUMER a g c", ""),
        (
            &["XADD a 1-0 f v", "XGROUP CREATE a g 0", "XGROUP CREATECONSUMER a g c"],
            "XGROUP DELCONSUMER a g c",
            "XCONSUMERDEL a g c",
        ),
        (
            &["XADD a 1-0 f v", "XADD a 2-0 f v", "XGROUP CREATE a g 0"],
            "XREADGROUP GROUP g c STREAMS a >",
            "XCONSUMERSET a g c 1000000; XGROUPSET a g 2-0 2; XPENDINGSET a g c 1000000 1-0 1 2-0 1",
        ),
        (
            &["XADD a 1-0 f v", "XGROUP CREATE a g 0", "XGROUP CREATECONSUMER a g c"],
            "XREADGROUP GROUP g c NOACK STREAMS a >",
            "XGROUPSET a g 1-0 1",
        ),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g $"], "XREADGROUP GROUP g c STREAMS a >", "XCONSUMERSET a g c 1000000"),
        (
            &["XADD a 1-0 f v", "XGROUP CREATE a g $", "XGROUP CREATECONSUMER a g c"],
            "XREADGROUP GROUP g c STREAMS a >",
            "",
        ),
        (
            &["XADD a 1-0 f v", "XGROUP CREATE a g 0", "XREADGROUP GROUP g c STREAMS a >"],
            "XREADGROUP GROUP g c STREAMS a 0",
            "XPENDINGSET a g c 1000000 1-0 2",
        ),
        (
            &["XADD a 1-0 f v", "XGROUP CREATE a g 0", "XREADGROUP GROUP g c STREAMS a >"],
            "XACK a g 5 1",
            "XACK a g 1-0",
        ),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0"], "XACK a g 1", ""),
        (
            &["XADD a 1-0 f v", "XGROUP CREATE a g 0", "XREADGROUP GROUP g c STREAMS a >"],
            "XCLAIM a g d 0 1 7 IDLE 400 LASTID 9",
            "XGROUPSET a g 9-0 1; XCONSUMERSET a g d 1000000; XPENDINGSET a g d 999600 1-0 2",
        ),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0", "XREADGROUP GROUP g c STREAMS a >"], "XCLAIM a g c 1 1 FORCE", ""),
        (
            &["XADD a 1-0 f v", "XGROUP CREATE a g 0", "XGROUP CREATECONSUMER a g d"],
            "XCLAIM a g d 0 1 FORCE RETRYCOUNT 9 TIME 5 JUSTID",
            "XPENDINGSET a g d 5 1-0 9",
        ),
        (
            &[
                "XADD a 1-0 f v",
                "XADD a 2-0 f v",
                "XGROUP CREATE a g 0",
                "XREADGROUP GROUP g c STREAMS a >",
                "XDEL a 1",
            ],
            "XAUTOCLAIM a g c 0 - COUNT 5 JUSTID",
            "XACK a g 1-0; XPENDINGSET a g c 1000000 2-0 1",
        ),
        (&["XADD a 1-0 f v", "XGROUP CREATE a g 0"], "XPENDING a g", ""),
        (
            &[
                "XADD a 1-0 f v",
                "XADD a 2-0 f v",
                "XDEL a 2",
                "XGROUP CREATE a g 0",
                "XREADGROUP GROUP g c STREAMS a >",
            ],
            "RENAME a k",
            "DEL a; XADD k 1-0 f v; XSETID k 2-0 ENTRIESADDED 2 MAXDELETEDID 2-0; XGROUPSET k g 1-0 -; \
             XCONSUMERSET k g c 1000000; XPENDINGSET k g c 1000000 1-0 1",
        ),
        (
            &["XGROUP CREATE a g 5 MKSTREAM"],
            "COPY a k",
            "XADD k MAXLEN = 0 0-1 x y; XSETID k 0-0 ENTRIESADDED 0 MAXDELETEDID 0-0; XGROUPSET k g 5-0 -",
        ),
    ];
    for (before, command, expected) in table {
        let mut node = Node::new(Lazy::Delete);
        for line in *before {
            assert!(!node.run(line).1.is_empty(), "{line} before {command}");
        }
        assert_eq!(node.effects(command), *expected, "{command} after {before:?}");
    }
}

#[test]
fn an_expired_key_goes_first_on_a_primary_and_is_hidden_on_a_replica() {
    let expired = |lazy| {
        let mut node = Node::new(lazy);
        node.run("SET k 5 PX 10");
        node.run("SET other 5 PX 10");
        node.now += 10;
        node
    };
    let cases = [
        ("INCR k", ":1\r\n", "DEL k; INCR k"),
        ("SET k v", "+OK\r\n", "DEL k; SET k v"),
        ("GET k", "$-1\r\n", "DEL k"),
        ("DEL k", ":0\r\n", "DEL k"),
        ("MSET k 1 a 2", "+OK\r\n", "DEL k; SET k 1; SET a 2"),
        ("LPOP k", "$-1\r\n", "DEL k"),
        ("SET k v XX", "$-1\r\n", "DEL k"),
        ("PERSIST k", ":0\r\n", "DEL k"),
        ("RENAME k other", "-ERR no such key\r\n", "DEL k; DEL other"),
    ];
    for (command, reply, effects) in cases {
        assert_eq!(expired(Lazy::Delete).run(command).0, reply, "{command}");
        let mut node = expired(Lazy::Delete);
        assert_eq!(node.effects(command), effects, "{command}");
        assert!(node.expired_keys > 0);
    }
    let mut replica = expired(Lazy::Hide);
    for (command, reply) in [
        ("GET k", "$-1\r\n"),
        ("EXISTS k other", ":0\r\n"),
        ("TYPE k", "+none\r\n"),
        ("STRLEN k", ":0\r\n"),
        ("TTL k", ":-2\r\n"),
        ("SRANDMEMBER k", "$-1\r\n"),
        ("KEYS *", "*0\r\n"),
        ("RANDOMKEY", "$-1\r\n"),
        ("SCAN 0 COUNT 100", "*2\r\n$1\r\n0\r\n*0\r\n"),
    ] {
        assert_eq!(replica.run(command), (reply.to_owned(), Vec::new()), "{command}");
    }
    assert_eq!(replica.store.len(), 2, "a replica waits for its primary's word");
}

#[test]
fn a_field_whose_time_has_come_is_hidden_on_a_replica() {
    let mut replica = Node::new(Lazy::Hide);
    let mut primary = Node::new(Lazy::Delete);
    for line in ["HSET h g w", "HSETEX h PX 10 FIELDS 2 f 1 i 2", "HSETEX all PX 10 FIELDS 1 f 1", "SADD s f"] {
        primary.run(line).1.iter().for_each(|effect| replica.apply(effect));
    }
    replica.now += 10;
    for (command, reply) in [
        ("HGET h f", "$-1"),
        ("HMGET h f g", "*2|$-1|$1|w"),
        ("HGETALL h", "*2|$1|g|$1|w"),
        ("HKEYS h", "*1|$1|g"),
        ("HVALS h", "*1|$1|w"),
        ("HLEN h", ":1"),
        ("HEXISTS h f", ":0"),
        ("HSTRLEN h f", ":0"),
        ("HTTL h FIELDS 2 f g", "*2|:-2|:-1"),
        ("HRANDFIELD h", "$1|g"),
        ("HRANDFIELD h 5 WITHVALUES", "*2|$1|g|$1|w"),
        ("HSCAN h 0", "*2|$1|0|*2|$1|g|$1|w"),
        ("SORT_RO s GET h->f GET h->g BY nosort", "*2|$-1|$-1"),
        ("HGETALL all", "*0"),
        ("HRANDFIELD all", "$-1"),
    ] {
        let (found, effects) = replica.run(command);
        assert_eq!((found.trim_end().replace("\r\n", "|").as_str(), effects.len()), (reply, 0), "{command}");
    }
    assert_eq!(replica.digest(), primary.digest(), "a replica waits for its primary's word");
    // The clock may go back.
    replica.now -= 10;
    assert_eq!(replica.run("HLEN h").0, ":3\r\n");
}

#[test]
fn times_of_fields_go_where_their_hash_goes() {
    let mut node = Node::new(Lazy::Delete);
    for fields in [2, 500] {
        let pairs: String = (0..fields).map(|n| format!(" f{n} {n}")).collect();
        node.run(&format!("HSET h{pairs}"));
        node.run("HPEXPIRE h 5000 FIELDS 1 f0");
        node.run("HPEXPIRE h 70 FIELDS 1 f1");
        node.run("COPY h copy REPLACE");
        node.run("RENAME copy renamed");
        let at = node.store.locate(b"h");
        let payload = crate::store::rdb::encode(&node.store.get(at, b"h").unwrap());
        let restored = Command::new(&[b"RESTORE".as_slice(), b"restored", b"0", &payload, b"REPLACE"]);
        let spec = find(b"RESTORE").unwrap();
        let line = Line::decoded(&restored);
        let restore = |node: &mut Node| {
            let at = [node.store.locate(b"restored")];
            let mut context = Context {
                store: &mut node.store,
                now: UnixMs::new(node.now),
                random: &mut node.random,
                lazy: node.lazy,
                room: Room::WHOLE,
                expired_keys: &mut node.expired_keys,
            };
            let mut out = Vec::new();
            execute(spec, &mut context, &at, line.argv(), &mut Reply::new(&mut out, Protocol::Resp2));
            assert_eq!(out, b"+OK\r\n");
        };
        restore(&mut node);
        let digest = |node: &Node, key: &[u8]| match node.store.get(node.store.locate(key), key).map(|e| e.value()) {
            Some(crate::store::ValueRef::Boxed(value)) => Some(value.digest()),
            _ => None,
        };
        for key in ["renamed", "restored"] {
            assert_eq!(node.run(&format!("HPTTL {key} FIELDS 3 f0 f1 x")).0, "*3\r\n:5000\r\n:70\r\n:-2\r\n", "{key}");
            assert_eq!(digest(&node, key.as_bytes()), digest(&node, b"h"), "{key}");
        }
        // What is over by then is not there.
        node.now += 100;
        restore(&mut node);
        assert_eq!(node.run("HLEN restored").0, format!(":{}\r\n", fields - 1));
        node.now += 10_000;
        restore(&mut node);
        assert_eq!(node.run("HGET restored f0").0, "$-1\r\n");
        assert_eq!(node.run("EXISTS restored").0, format!(":{}\r\n", i32::from(fields > 2)));
        node.run("DEL h");
    }
}

#[test]
fn commands_answer_as_redis_does() {
    // A list of commands on one node, each with its reply.
    let table: &[&[(&str, &str)]] = &[
        &[
            ("GET k", "$-1"),
            ("SET k v", "+OK"),
            ("GET k", "$1|v"),
            ("SET k w NX", "$-1"),
            ("SET k w NX GET", "$1|v"),
            ("SET k w XX GET", "$1|v"),
            ("SET k w EX 0", "-ERR invalid expire time in 'set' command"),
            ("SET k w EX a", "-ERR value is not an integer or out of range"),
            ("SET k w EX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
            ("SET k w NX XX", "-ERR syntax error"),
            ("SET k w EX 1 PX 1", "-ERR syntax error"),
            ("SET k w EX 1 KEEPTTL", "-ERR syntax error"),
            ("SET k", "-ERR wrong number of arguments for 'set' command"),
            ("GETRANGE k 0 -1", "$1|w"),
            ("MGET k nosuch k", "*3|$1|w|$-1|$1|w"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("INCR k", "-ERR value is not an integer or out of range"),
            ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
            ("LPUSH k v", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ],
        &[
            ("SET n 9223372036854775807", "+OK"),
            ("INCR n", "-ERR increment or decrement would overflow"),
            ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
            ("DECRBY n 7", ":9223372036854775800"),
            ("INCRBYFLOAT n x", "-ERR value is not a valid float"),
            ("SET n 10.50", "+OK"),
            ("INCRBYFLOAT n 0.1", "$4|10.6"),
            ("INCRBYFLOAT n inf", "-ERR increment would produce NaN or Infinity"),
        ],
        &[
            ("APPEND s Hello", ":5"),
            ("APPEND s World", ":10"),
            ("SETRANGE s 5 ' there'", ":11"),
            ("GETRANGE s -5 -1", "$5|there"),
            ("GETRANGE s 5 3", "$0|"),
            ("SETRANGE s -1 x", "-ERR offset is out of range"),
            ("SETRANGE s 536870912 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
            ("SUBSTR s 0 100", "$11|Hello there"),
            ("STRLEN s", ":11"),
            ("TYPE s", "+string"),
            ("GETDEL s", "$11|Hello there"),
            ("EXISTS s", ":0"),
        ],
        &[
            ("SET k v PX 1500", "+OK"),
            ("PTTL k", ":1500"),
            ("TTL k", ":2"),
            ("PEXPIRETIME k", ":1001500"),
            ("EXPIRETIME k", ":1002"),
            ("EXPIRE k 1 NX", ":0"),
            ("EXPIRE k 1 GT", ":0"),
            ("EXPIRE k 1 LT", ":1"),
            ("TTL k", ":1"),
            ("EXPIRE k 1 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
            ("EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible"),
            ("EXPIRE k 1 AB", "-ERR Unsupported option AB"),
            ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("PERSIST k", ":1"),
            ("PERSIST k", ":0"),
            ("TTL k", ":-1"),
            ("TTL nosuch", ":-2"),
            ("RENAME nosuch k", "-ERR no such key"),
            ("RENAMENX k j", ":1"),
            ("DBSIZE", ":1"),
            ("RANDOMKEY", "$1|j"),
            ("KEYS [a-k]", "*1|$1|j"),
            ("SCAN 0 MATCH x* COUNT 20000", "*2|$1|0|*0"),
            ("SCAN 0 COUNT 20000 TYPE string", "*2|$1|0|*1|$1|j"),
            ("SCAN 0 COUNT 20000 TYPE list", "*2|$1|0|*0"),
            ("SCAN x", "-ERR invalid cursor"),
            ("SCAN 0 COUNT 0", "-ERR syntax error"),
            ("TOUCH j j x", ":2"),
            ("FLUSHALL NOW", "-ERR syntax error"),
            ("FLUSHALL", "+OK"),
            ("DBSIZE", ":0"),
        ],
        &[
            ("HSET h a 1 b 2 a 3", ":2"),
            ("HSET h a", "-ERR wrong number of arguments for 'hset' command"),
            ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
            ("HMSET h c 4", "+OK"),
            ("HGET h a", "$1|3"),
            ("HMGET h a x", "*2|$1|3|$-1"),
            ("HGETALL h", "*6|$1|a|$1|3|$1|b|$1|2|$1|c|$1|4"),
            ("HKEYS h", "*3|$1|a|$1|b|$1|c"),
            ("HVALS h", "*3|$1|3|$1|2|$1|4"),
            ("HLEN h", ":3"),
            ("HEXISTS h a", ":1"),
            ("HSTRLEN h x", ":0"),
            ("HINCRBY h a 2", ":5"),
            ("HINCRBY h a x", "-ERR value is not an integer or out of range"),
            ("HSET h t text", ":1"),
            ("HINCRBY h t 1", "-ERR hash value is not an integer"),
            ("HINCRBYFLOAT h t 1", "-ERR hash value is not a float"),
            ("HINCRBYFLOAT h a 0.5", "$3|5.5"),
            ("HGETDEL h FIELDS 2 x t", "*2|$-1|$4|text"),
            ("HGETDEL x FIELDS 1 t", "*1|$-1"),
            ("HGETDEL h FIELDS 0 t", "-ERR Number of fields must be a positive integer"),
            ("HGETDEL h FIELDS 2 t", "-ERR The `numfields` parameter must match the number of arguments"),
            ("HGETDEL h FIELD 1 t", "-ERR Mandatory argument FIELDS is missing or not at the right position"),
            ("HDEL h a b c t x", ":3"),
            ("EXISTS h", ":0"),
            ("HGETALL h", "*0"),
        ],
        // The time is 1000000.
        &[
            ("HSET h a 1 b 2 c 3", ":3"),
            ("HTTL h FIELDS 2 a x", "*2|:-1|:-2"),
            ("HTTL x FIELDS 1 a", "*1|:-2"),
            ("HEXPIRE h 10 FIELDS 3 a x a", "*3|:1|:-2|:1"),
            ("HEXPIRE x 10 FIELDS 2 a b", "*2|:-2|:-2"),
            ("HTTL h FIELDS 1 a", "*1|:10"),
            ("HPTTL h FIELDS 2 a b", "*2|:10000|:-1"),
            ("HEXPIRETIME h FIELDS 1 a", "*1|:1010"),
            ("HPEXPIRETIME h FIELDS 1 a", "*1|:1010000"),
            ("HPEXPIRE h 9999 FIELDS 1 b", "*1|:1"),
            ("HTTL h FIELDS 1 b", "*1|:10"),
            ("HPEXPIRE h 1 NX FIELDS 2 a c", "*2|:0|:1"),
            ("HPEXPIRE h 5 XX FIELDS 2 a b", "*2|:1|:1"),
            ("HPEXPIRE h 5 gt FIELDS 2 a c", "*2|:0|:1"),
            ("HPEXPIRE h 6 GT FIELDS 1 a", "*1|:1"),
            ("HPEXPIRE h 6 LT FIELDS 2 a b", "*2|:0|:0"),
            ("HPEXPIRE h 4 LT FIELDS 2 a b", "*2|:1|:1"),
            ("HPERSIST h FIELDS 3 a a x", "*3|:1|:-1|:-2"),
            ("HPERSIST x FIELDS 1 a", "*1|:-2"),
            ("HEXPIRE h 5 GT FIELDS 1 a", "*1|:0"),
            ("OBJECT ENCODING h", "$10|listpackex"),
            ("HGETEX h FIELDS 2 a x", "*2|$1|1|$-1"),
            ("HGETEX h PX 7 FIELDS 2 a x", "*2|$1|1|$-1"),
            ("HPTTL h FIELDS 1 a", "*1|:7"),
            ("HGETEX h persist FIELDS 1 a", "*1|$1|1"),
            ("HPTTL h FIELDS 1 a", "*1|:-1"),
            ("HGETEX x EX 1 FIELDS 1 a", "*1|$-1"),
            ("HSETEX h EX 1 FIELDS 1 a 5", ":1"),
            ("HSETEX h KEEPTTL FIELDS 2 a 6 d 7", ":1"),
            ("HPTTL h FIELDS 2 a d", "*2|:1000|:-1"),
            ("HINCRBY h a 1", ":7"),
            ("HINCRBYFLOAT h a 0.5", "$3|7.5"),
            ("HPTTL h FIELDS 1 a", "*1|:1000"),
            ("HSETEX h FNX FIELDS 2 a 9 z 9", ":0"),
            ("HSETEX h FXX FIELDS 2 a 9 z 9", ":0"),
            ("HSETEX h FXX FIELDS 2 a 9 b 9", ":1"),
            ("HPTTL h FIELDS 1 a", "*1|:-1"),
            ("HSETEX x FXX FIELDS 1 a 9", ":0"),
            ("HEXPIREAT h 1000 FIELDS 2 a a", "*2|:2|:-2"),
            ("HGETALL h", "*6|$1|b|$1|9|$1|c|$1|3|$1|d|$1|7"),
            ("HPEXPIREAT h 1000000 FIELDS 3 b c d", "*3|:2|:2|:2"),
            ("EXISTS h", ":0"),
            ("SET s v", "+OK"),
            ("HEXPIRE s x", "-ERR wrong number of arguments for 'hexpire' command"),
            ("HEXPIRE s x FIELDS 1 f", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HTTL s FIELDS x f", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HSETEX s FIELDS 1 f v", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HGETEX s FIELDS 1 f", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HEXPIRE h x FIELDS 1 f", "-ERR value is not an integer or out of range"),
            ("HEXPIRE h -1 FIELDS 1 f", "-ERR invalid expire time, must be >= 0"),
            ("HEXPIRE h 70368744178 FIELDS 1 f", "-ERR invalid expire time in 'hexpire' command"),
            ("HPEXPIREAT h 70368744177664 FIELDS 1 f", "-ERR invalid expire time in 'hpexpireat' command"),
            ("HPEXPIREAT h 70368744177663 FIELDS 1 f", "*1|:-2"),
            ("HEXPIRE h 1 FIELD 1 f", "-ERR Mandatory argument FIELDS is missing or not at the right position"),
            ("HEXPIRE h 1 ZZ FIELDS 1 f", "-ERR Mandatory argument FIELDS is missing or not at the right position"),
            ("HEXPIRE h 1 FIELDS 0 f", "-ERR Parameter `numFields` should be greater than 0"),
            ("HEXPIRE h 1 NX FIELDS 2 f", "-ERR The `numfields` parameter must match the number of arguments"),
            ("HTTL h FIELDS 0 f", "-ERR Number of fields must be a positive integer"),
            ("HPERSIST h FIELDS 2 f", "-ERR The `numfields` parameter must match the number of arguments"),
            ("HGETEX h EX 1 FIELDS", "-ERR Number of fields must be a positive integer"),
            ("HGETEX h EX -1 FIELDS 1 f", "-ERR invalid expire time, must be >= 0"),
            (
                "HSETEX h EX 1 PX 1 FIELDS 1 f v",
                "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
            ),
            ("HSETEX h FXX FNX FIELDS 1 f v", "-ERR Only one of FXX or FNX arguments can be specified"),
            ("HSETEX h NX FIELDS 1 f v", "-ERR unknown argument: NX"),
            ("HSETEX h FIELDS 0 f v", "-ERR invalid number of fields"),
            ("HSETEX h FIELDS 2 f v", "-ERR wrong number of arguments for 'hsetex' command"),
            ("HSETEX h FXX KEEPTTL FNX EX", "-ERR Only one of FXX or FNX arguments can be specified"),
            ("HSETEX h FXX FIELDS 1 f", "-ERR wrong number of arguments for 'hsetex' command"),
        ],
        &[
            ("RPUSH l a b c", ":3"),
            ("LPUSH l z y", ":5"),
            ("LRANGE l 0 -1", "*5|$1|y|$1|z|$1|a|$1|b|$1|c"),
            ("LRANGE l -2 100", "*2|$1|b|$1|c"),
            ("LRANGE l 5 9", "*0"),
            ("LINDEX l -1", "$1|c"),
            ("LINDEX l 5", "$-1"),
            ("LPOP l", "$1|y"),
            ("RPOP l 2", "*2|$1|c|$1|b"),
            ("LPOP l -1", "-ERR value is out of range, must be positive"),
            ("LPOP l 0", "*0"),
            ("LPOP x", "$-1"),
            ("LPOP x 1", "*-1"),
            ("LSET l 0 q", "+OK"),
            ("LSET l 9 q", "-ERR index out of range"),
            ("LSET x 0 q", "-ERR no such key"),
            ("LINSERT l AFTER q r", ":3"),
            ("LINSERT l AFTER x r", ":-1"),
            ("LINSERT x AFTER x r", ":0"),
            ("LINSERT l BESIDE x r", "-ERR syntax error"),
            ("LREM l -1 q", ":1"),
            ("LTRIM l 5 9", "+OK"),
            ("EXISTS l", ":0"),
        ],
        &[
            ("SADD s a b a", ":2"),
            ("SISMEMBER s a", ":1"),
            ("SMISMEMBER s a x", "*2|:1|:0"),
            ("SMEMBERS s", "*2|$1|a|$1|b"),
            ("SCARD s", ":2"),
            ("SPOP s -1", "-ERR value is out of range, must be positive"),
            ("SREM s a x", ":1"),
            ("SRANDMEMBER s", "$1|b"),
            ("SRANDMEMBER s -2", "*2|$1|b|$1|b"),
            ("SRANDMEMBER s 5", "*1|$1|b"),
            ("SPOP s 3", "*1|$1|b"),
            ("SPOP s", "$-1"),
            ("SPOP s 3", "*0"),
        ],
        &[
            ("ZADD z 1 a 2 b 3 c", ":3"),
            ("ZADD z CH 1 a 5 b", ":1"),
            ("ZADD z INCR 1 a", "$1|2"),
            ("ZADD z NX INCR 1 a", "$-1"),
            ("ZADD z NX XX 1 a", "-ERR XX and NX options at the same time are not compatible"),
            ("ZADD z GT NX 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
            ("ZADD z INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
            ("ZADD z x a", "-ERR value is not a valid float"),
            ("ZADD z 1 a 2", "-ERR syntax error"),
            ("ZRANGE z 0 -1 WITHSCORES", "*6|$1|a|$1|2|$1|c|$1|3|$1|b|$1|5"),
            ("ZRANGE z 0 0 REV", "*1|$1|b"),
            ("ZREVRANGE z 0 1", "*2|$1|b|$1|c"),
            ("ZRANGE z (2 5 BYSCORE LIMIT 1 1", "*1|$1|b"),
            ("ZRANGE z +inf (2 BYSCORE REV LIMIT 1 5", "*1|$1|c"),
            ("ZRANGEBYSCORE z -inf +inf WITHSCORES LIMIT 0 1", "*2|$1|a|$1|2"),
            ("ZREVRANGEBYSCORE z 5 3", "*2|$1|b|$1|c"),
            (
                "ZRANGE z 0 1 LIMIT 0 1",
                "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ),
            ("ZRANGEBYSCORE z a b", "-ERR min or max is not a float"),
            ("ZRANGEBYLEX z a b", "-ERR min or max not valid string range item"),
            ("ZRANK z b", ":2"),
            ("ZREVRANK z b", ":0"),
            ("ZRANK z b WITHSCORE", "*2|:2|$1|5"),
            ("ZRANK z x", "$-1"),
            ("ZRANK z x WITHSCORE", "*-1"),
            ("ZSCORE z a", "$1|2"),
            ("ZMSCORE z a x", "*2|$1|2|$-1"),
            ("ZCOUNT z 2 (5", ":2"),
            ("ZINCRBY z 0.5 a", "$3|2.5"),
            ("ZPOPMAX z", "*2|$1|b|$1|5"),
            ("ZPOPMIN z 5", "*4|$1|a|$3|2.5|$1|c|$1|3"),
            ("ZPOPMIN z", "*0"),
            ("ZADD z 0 a 0 b 0 c 0 d", ":4"),
            ("ZRANGEBYLEX z [b (d", "*2|$1|b|$1|c"),
            ("ZRANGE z + [b BYLEX REV LIMIT 0 2", "*2|$1|d|$1|c"),
            ("ZLEXCOUNT z - +", ":4"),
            ("ZREMRANGEBYLEX z - (c", ":2"),
            ("ZREMRANGEBYRANK z 0 -1", ":2"),
            ("EXISTS z", ":0"),
        ],
    ];
    for list in table {
        let mut node = Node::new(Lazy::Delete);
        for (command, expected) in *list {
            let reply = node.run(command).0.replace("\r\n", "|");
            assert_eq!(reply.strip_suffix('|').unwrap(), *expected, "{command}");
        }
    }
}

#[test]
fn resp3_has_maps_sets_and_doubles() {
    let mut node = Node::new(Lazy::Delete);
    node.protocol = Protocol::Resp3;
    node.run("HSET h f v");
    node.run("SADD s m");
    node.run("ZADD z 1.5 a 2 b 3 c");
    for (command, expected) in [
        ("GET x", "_|"),
        ("LPOP x 1", "_|"),
        ("HGETALL h", "%1|$1|f|$1|v|"),
        ("SMEMBERS s", "~1|$1|m|"),
        ("ZSCORE z a", ",1.5|"),
        ("ZRANGE z 0 1 WITHSCORES", "*2|*2|$1|a|,1.5|*2|$1|b|,2|"),
        ("ZRANK z a WITHSCORE", "*2|:0|,1.5|"),
        ("ZINCRBY z 1 a", ",2.5|"),
        ("ZPOPMIN z", "*2|$1|b|,2|"),
        ("ZPOPMIN z 1", "*1|*2|$1|a|,2.5|"),
        ("SPOP s 1", "~1|$1|m|"),
    ] {
        assert_eq!(node.run(command).0.replace("\r\n", "|"), expected, "{command}");
    }
}

#[test]
fn what_is_no_effect_is_refused_and_changes_nothing() {
    let mut node = Node::new(Lazy::Delete);
    node.run("SET k v");
    let at = node.store.locate(b"k");
    let before = node.digest();
    for stranger in [
        "EVAL k",
        "GET k",
        "SET k",
        "SET k v EX 10",
        "SET k v PXAT x",
        "DEL k k",
        "PEXPIREAT k 1 NX",
        "INCRBY k x",
        "HPEXPIREAT k 1 NX FIELDS 1 f",
        "HEXPIRE k 1 FIELDS 1 f",
        "HPERSIST k FIELDS 2 f",
    ] {
        let result = node.store.apply(Copy::Live, at, Line::new(stranger).argv());
        assert!(matches!(result, Err(ApplyError::Unknown(_))), "{stranger}: {result:?}");
    }
    for misfit in [
        "LPUSH k v",
        "INCR k",
        "HSET k f v",
        "HPEXPIREAT k 1 FIELDS 1 f",
        "HPERSIST k FIELDS 1 f",
        "SREM k m",
        "ZADD k 1 m",
        "LPOP k",
    ] {
        let result = node.store.apply(Copy::Live, at, Line::new(misfit).argv());
        assert!(matches!(result, Err(ApplyError::Misfit(_))), "{misfit}: {result:?}");
    }
    assert_eq!(node.digest(), before);
    let missing = node.store.locate(b"missing");
    for absent in [
        "LPOP missing 3",
        "SREM missing m",
        "HDEL missing f",
        "HPEXPIREAT missing 1 FIELDS 1 f",
        "LSET missing 0 v",
        "PERSIST missing",
    ] {
        assert_eq!(node.store.apply(Copy::Live, missing, Line::new(absent).argv()), Ok(()), "{absent}");
    }
    assert_eq!(node.store.len(), 1);
}

#[test]
fn an_embedder_dispatches_any_frame() {
    let mut store = KeyspaceStore::new();
    let frames: [&[&str]; 6] = [
        &["SET", "a", "1"],
        &["mset", "b", "2", "c", "3"],
        &["DEL", "a", "c"],
        &["NOOP"],
        &["SADD", "s", "m"],
        &["INCR", "b"],
    ];
    for frame in frames {
        dispatch(&mut store, frame).unwrap();
    }
    assert_eq!(store.len(), 2);
    assert!(dispatch(&mut store, &["EVAL", "return 1", "0"]).is_err());
    assert!(dispatch(&mut store, &[] as &[&str]).is_err());
    dispatch(&mut store, &["FLUSHALL"]).unwrap();
    assert!(store.is_empty());
}

#[test]
fn a_large_value_is_renamed_in_pieces() {
    let mut node = Node::new(Lazy::Delete);
    let mut replica = Node::new(Lazy::Hide);
    let big = "x".repeat(200_000);
    for command in [format!("SET s0 {big}"), format!("RPUSH l0 {big} small {big}")] {
        node.run(&command).1.iter().for_each(|effect| replica.apply(effect));
    }
    let limit = 2 * crate::limits::EFFECT_BYTES_TARGET;
    let effects = node.run("RENAME s0 s1").1;
    assert_eq!(effects.len(), 5, "DEL, SET, three APPENDs");
    assert!(effects.iter().all(|effect| effect.as_bytes().len() < limit));
    effects.iter().for_each(|effect| replica.apply(effect));
    let effects = node.run("RENAME l0 l1").1;
    assert_eq!(effects.len(), 4, "DEL, an RPUSH for each element, since two are large");
    effects.iter().for_each(|effect| replica.apply(effect));
    assert_eq!(node.digest(), replica.digest());
    assert_eq!(node.run("STRLEN s1").0, ":200000\r\n");
}

#[test]
fn idle_times_and_frequencies_are_known_where_they_are_tracked() {
    let mut node = Node::new(Lazy::Delete);
    node.run("SET before v");
    let untracked = node.store.used_bytes();
    assert_eq!(node.run("OBJECT IDLETIME before").0, ":0\r\n");
    node.store.track(Tracking::Times, UnixMs::new(node.now));
    assert_eq!(node.store.used_bytes(), untracked);
    node.run("SET k v EX 1000");
    node.now += 7_000;
    for (command, reply) in [
        ("OBJECT IDLETIME k", ":7"),
        ("TTL k", ":993"),
        ("OBJECT IDLETIME k", ":7"),
        ("OBJECT IDLETIME before", ":7"),
        ("GET k", "$1\r\nv"),
        ("OBJECT IDLETIME k", ":0"),
        ("PERSIST k", ":1"),
        ("GET before", "$1\r\nv"),
        ("OBJECT IDLETIME before", ":0"),
        ("APPEND k more", ":5"),
        ("GET k", "$5\r\nvmore"),
    ] {
        assert_eq!(node.run(command).0, format!("{reply}\r\n"), "{command}");
    }
    assert!(node.run("OBJECT FREQ k").0.starts_with("-ERR An LFU maxmemory policy is not selected"));
    node.store.track(Tracking::Frequencies, UnixMs::new(node.now));
    assert!(node.run("OBJECT IDLETIME k").0.starts_with("-ERR An LFU maxmemory policy is selected"));
    assert_eq!(node.run("OBJECT FREQ k").0, ":0\r\n", "what was a time is no frequency");
    for _ in 0..100 {
        node.run("SET k v");
    }
    let often: u8 = node.run("OBJECT FREQ k").0[1..].trim().parse().unwrap();
    assert!((6..=20).contains(&often), "{often}");
    node.store.track(Tracking::Off, UnixMs::new(node.now));
    node.run("SET k v");
    node.run("SET before v");
    node.store.invariants();
    assert_eq!(node.run("OBJECT IDLETIME k").0, ":0\r\n");
}

/// Of a sorted set that is dumped in pieces a replica has some members and not others: what is counted is not where it counts.
#[test]
fn ranks_mean_the_same_while_a_sorted_set_comes_in_pieces() {
    let mut primary = Node::new(Lazy::Delete);
    let mut replica = Node::new(Lazy::Hide);
    primary.store.set_value_piece_bytes(40);
    (0..100).for_each(|n| _ = primary.run(&format!("ZADD z {n} m{n}")));
    let slot = primary.store.locate(b"z").slot;
    replica.store.begin(slot);
    let mut cursor = Some(DumpCursor::START);
    let mut pieces = 0;
    while let Some(from) = cursor {
        let mut piece = Vec::new();
        cursor = primary.store.dump(slot, from, 40, &mut piece);
        replica.store.load(slot, &piece).unwrap();
        pieces += 1;
        for effect in primary.run("ZREMRANGEBYRANK z 3 3").1 {
            let line = Line::decoded(&effect);
            let at = replica.store.locate(b"z");
            let _ = replica.store.apply(Copy::Staging, at, line.argv());
        }
    }
    assert!(pieces > 10, "{pieces} pieces");
    assert_eq!(primary.store.digest(Copy::Live, slot), replica.store.digest(Copy::Staging, slot));
}

/// Of a list that is not loaded yet a replica has what was pushed meanwhile: that goes with the list, whatever command took the rest.
#[test]
fn a_list_that_is_emptied_while_its_slot_is_loaded_leaves_nothing() {
    let emptying = [
        &["LTRIM l -10 1"][..],
        &["LTRIM l -1 0"],
        &["LSET l -1 e", "LREM l 0 e", "LREM l 0 new"],
        &["LTRIM l -11 1", "LPOP l"],
        &["LTRIM l -11 1", "RPOP l 5"],
        &["LTRIM l -11 1", "LMPOP 1 l LEFT"],
        &["LTRIM l -11 1", "BRPOP l 0"],
        &["LTRIM l -11 1", "LMOVE l other LEFT LEFT", "DEL other"],
    ];
    for commands in emptying {
        let mut primary = Node::new(Lazy::Delete);
        let mut replica = Node::new(Lazy::Hide);
        primary.run("RPUSH l e e e e e e e e e");
        let at = primary.store.locate(b"l");
        replica.store.begin(at.slot);
        for command in ["RPUSH l new new new"].iter().chain(commands) {
            for effect in primary.run(command).1 {
                let line = Line::decoded(&effect);
                if line.argv().arg(1) == b"l" {
                    let _ = replica.store.apply(Copy::Staging, at, line.argv());
                }
            }
        }
        assert_eq!(primary.run("EXISTS l").0, ":0\r\n", "{commands:?}");
        assert_eq!(replica.store.digest(Copy::Staging, at.slot), Digest::default(), "{commands:?}");
    }
}

// ── any commands ────────────────────────────────────────────────────────────────────────────────────────────────────

/// Clients that write what any client may, in the slot of a tag if there is one.
struct Clients<'a> {
    random: &'a mut Random,
    tag: &'a str,
    now: u64,
    number: u64,
}

impl Draw for Clients<'_> {
    fn below(&mut self, end: usize) -> usize {
        self.random.below(end)
    }

    fn key(&mut self, kind: &str) -> String {
        format!("{}{kind}{}", self.tag, self.random.below(3))
    }

    fn now_ms(&self) -> u64 {
        self.now
    }

    fn number(&self) -> u64 {
        self.number
    }
}

/// Command `number` of the clients.
fn command(random: &mut Random, now: u64, number: u64, tag: &str) -> Line {
    Line::decoded(&Command::new(&commands::draw(&mut Clients { random, tag, now, number })))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_store_that_applied_the_effects_equals_the_one_that_executed(seed in any::<u64>()) {
        let mut random = Random::seeded(seed);
        let mut primary = Node::new(Lazy::Delete);
        let mut replica = Node::new(Lazy::Hide);
        for step in 0..1_500 {
            primary.now += random.below(12) as u64;
            let flush = random.below(400) == 0;
            let line = if flush { Line::new("FLUSHALL") } else { command(&mut random, primary.now, step, "") };
            let text = line.text();
            let (reply, effects) = primary.run_line(&line);
            prop_assert!(
                !reply.starts_with('-') || effects.iter().all(|e| [b"DEL".as_slice(), b"HDEL"].contains(&Line::decoded(e).argv().arg(0))),
                "{text}: refused, but it did {effects:?}"
            );
            effects.iter().for_each(|effect| replica.apply(effect));
            if step.is_multiple_of(100) {
                prop_assert_eq!(primary.digest(), replica.digest(), "after {}", text);
                primary.store.invariants();
                replica.store.invariants();
            }
        }
        prop_assert_eq!(primary.digest(), replica.digest());
        prop_assert_eq!(primary.store.len(), replica.store.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn effects_between_the_pieces_of_a_dump_lead_to_the_same_slot(seed in any::<u64>()) {
        let mut random = Random::seeded(seed);
        let mut primary = Node::new(Lazy::Delete);
        let mut replica = Node::new(Lazy::Hide);
        let slot = primary.store.locate(b"{t}").slot;
        // Of values larger than these, pieces go.
        primary.store.set_value_piece_bytes([40, 100, 64 << 10][random.below(3)]);
        let mut number = 0;
        let mut next = |primary: &mut Node, random: &mut Random| {
            number += 1;
            primary.now += random.below(12) as u64;
            primary.run_line(&command(random, primary.now, number, "{t}")).1
        };
        for _ in 0..300 {
            next(&mut primary, &mut random);
        }
        replica.store.begin(slot);
        let mut cursor = Some(DumpCursor::START);
        while let Some(from) = cursor {
            let mut piece = Vec::new();
            cursor = primary.store.dump(slot, from, 100, &mut piece);
            replica.store.load(slot, &piece).unwrap();
            // What goes as of one moment has no frames between its pieces.
            if cursor.as_ref().is_some_and(|cursor| cursor.frozen) {
                continue;
            }
            for _ in 0..random.below(20) {
                for effect in next(&mut primary, &mut random) {
                    let line = Line::decoded(&effect);
                    let at = replica.store.locate(line.argv().arg(1));
                    // A key that is not loaded yet may be in the way of an effect.
                    let _ = replica.store.apply(Copy::Staging, at, line.argv());
                }
            }
        }
        prop_assert_eq!(primary.store.digest(Copy::Live, slot), replica.store.digest(Copy::Staging, slot));
        replica.store.install(slot);
        prop_assert_eq!(primary.store.digest(Copy::Live, slot), replica.store.digest(Copy::Live, slot));
    }
}
