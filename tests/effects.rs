//! What every write command says on the wire, read by a reader that knows nothing of the library: one row and more for each
//! command of the table that writes. Each row is also applied to a second store, which must end equal.
//!
//! ```text
//! setup ; setup ; command  →  EFFECT | EFFECT        one frame each
//!                          →  [EFFECT | EFFECT]      one group
//!                          →  EFFECT…                it begins so
//!                          →                         nothing: it changed nothing, or failed
//! ```

use std::collections::BTreeSet;

use kevy_replicate::id::{Digest, Generation, HASH_SLOTS, HashSlot, Offset, ShardCount, ShardId, UnixMs};
use kevy_replicate::resp::{Protocol, Reply, arguments_of, inline};
use kevy_replicate::shard::{Role, Shard};
use kevy_replicate::snapshot::{Copy, Keyspace};
use kevy_replicate::source::{Source, SourceConfig};
use kevy_replicate::store::command::{find, table};
use kevy_replicate::store::{KeyspaceStore, dispatch};
use kevy_replicate::wire::{Argv, Command};

/// The primary's clock: `EXPIRE k 10` is `PEXPIREAT k 1010000`.
const NOW: UnixMs = UnixMs::new(1_000_000);

/// `DUMP` of the string `10`.
const TEN: &str = r#""\x00\xc0\n\t\x00\xbem\x06\x89Z(\x00\n""#;

#[rustfmt::skip]
const ROWS: &[(&str, &str)] = &[
    // Strings.
    ("SET k v", "SET k v"),
    ("SET k 1 PX 9 ; SET k v", "SET k v"),
    ("SET k v EX 10", "SET k v PXAT 1010000"),
    ("SET k v PX 10", "SET k v PXAT 1000010"),
    ("SET k v EXAT 2000", "SET k v PXAT 2000000"),
    ("SET k v PXAT 2000000", "SET k v PXAT 2000000"),
    ("SET k 1 PX 500 ; SET k v KEEPTTL", "SET k v KEEPTTL"),
    ("SET k v NX", "SET k v"),
    ("SET k 1 ; SET k v XX GET", "SET k v"),
    ("SET k 1 ; SET k v NX", ""),
    ("SET k v XX", ""),
    ("SET k v PX 0", ""),
    ("SET k v PXAT 1", ""),
    ("SET k 1 ; SET k v PXAT 1", "DEL k"),
    ("MSET a 1 b 2", "[SET a 1 | SET b 2]"),
    ("MSET a 1", "SET a 1"),
    ("MSET a 1 b", ""),
    ("MSETNX a 1 b 2", "[SET a 1 | SET b 2]"),
    ("SET b 1 ; MSETNX a 1 b 2", ""),
    ("SETNX k v", "SET k v"),
    ("SET k 1 ; SETNX k v", ""),
    ("SETEX k 10 v", "SET k v PXAT 1010000"),
    ("SETEX k 0 v", ""),
    ("PSETEX k 10 v", "SET k v PXAT 1000010"),
    ("PSETEX k 0 v", ""),
    ("SET k 1 ; GETSET k v", "SET k v"),
    ("GETSET k v", "SET k v"),
    ("LPUSH k 1 ; GETSET k v", ""),
    ("SET k v ; GETDEL k", "DEL k"),
    ("GETDEL k", ""),
    ("SET k v ; GETEX k", ""),
    ("SET k v ; GETEX k EX 10", "PEXPIREAT k 1010000"),
    ("SET k v PX 9 ; GETEX k PERSIST", "PERSIST k"),
    ("SET k v ; GETEX k PERSIST", ""),
    ("INCR k", "INCR k"),
    ("SET k x ; INCR k", ""),
    ("DECR k", "DECR k"),
    ("SET k x ; DECR k", ""),
    ("INCRBY k 5", "INCRBY k 5"),
    ("INCRBY k x", ""),
    ("DECRBY k 5", "DECRBY k 5"),
    ("DECRBY k x", ""),
    ("SET k 10.5 ; INCRBYFLOAT k 0.1", "SET k 10.6 KEEPTTL"),
    ("SET k 10.5 PX 500 ; INCRBYFLOAT k 0.1", "SET k 10.6 KEEPTTL"),
    ("SET k x ; INCRBYFLOAT k 1", ""),
    ("APPEND k v", "APPEND k v"),
    ("RPUSH k x ; APPEND k v", ""),
    ("SETRANGE k 3 v", "SETRANGE k 3 v"),
    ("SETRANGE k -1 v", ""),
    ("SETBIT k 7 1", "SETRANGE k 0 \u{1}"),
    ("SETBIT k x 1", ""),
    ("SET a A ; SET b C ; BITOP OR k a b", "SET k C"),
    ("SET k 1 ; BITOP AND k nosuch", "DEL k"),
    ("BITOP AND k nosuch", ""),
    ("BITFIELD k SET u8 0 65", "[SETRANGE k 0 \0 | SETRANGE k 0 A]"),
    ("SET k Z ; BITFIELD k SET u8 0 65", "SETRANGE k 0 A"),
    ("BITFIELD k GET u8 0", ""),
    // Keys.
    ("SET a 1 ; DEL a", "DEL a"),
    ("SET a 1 ; SET b 1 ; DEL a b c", "[DEL a | DEL b]"),
    ("DEL a", ""),
    ("SET a 1 ; UNLINK a b", "DEL a"),
    ("UNLINK a", ""),
    ("SET k v ; EXPIRE k 10", "PEXPIREAT k 1010000"),
    ("SET k v ; EXPIRE k -1", "DEL k"),
    ("EXPIRE k 10", ""),
    ("SET k v ; EXPIRE k 10 XX", ""),
    ("SET k v ; PEXPIRE k 10", "PEXPIREAT k 1000010"),
    ("PEXPIRE k 10", ""),
    ("SET k v ; EXPIREAT k 2000", "PEXPIREAT k 2000000"),
    ("SET k v ; EXPIREAT k 1", "DEL k"),
    ("EXPIREAT k 2000", ""),
    ("SET k v ; PEXPIREAT k 2000000", "PEXPIREAT k 2000000"),
    ("SET k v ; PEXPIREAT k x", ""),
    ("SET k v PX 9 ; PERSIST k", "PERSIST k"),
    ("SET k v ; PERSIST k", ""),
    ("SET a v ; RENAME a b", "[DEL a | SET b v]"),
    ("SET a v PX 500 ; RPUSH b x ; RENAME a b", "[DEL a | DEL b | SET b v | PEXPIREAT b 1000500]"),
    ("SET a v ; RENAME a a", ""),
    ("RENAME a b", ""),
    ("RPUSH a x y ; PEXPIREAT a 2000000 ; RENAMENX a b", "[DEL a | RPUSH b x y | PEXPIREAT b 2000000]"),
    ("SET a v ; SET b v ; RENAMENX a b", ""),
    ("RPUSH a x y ; COPY a b", "RPUSH b x y"),
    ("ZADD a 1 m ; SET b v ; COPY a b REPLACE", "[DEL b | ZADD b 1 m]"),
    ("SET a v ; SET b v ; COPY a b", ""),
    ("COPY a b", ""),
    ("SET k v ; MOVE k 1", ""),
    ("RESTORE k 0 TEN", "SET k 10"),
    ("RESTORE k 500 TEN", "SET k 10 PXAT 1000500"),
    ("RPUSH k x ; RESTORE k 2000000 TEN ABSTTL REPLACE", "SET k 10 PXAT 2000000"),
    ("SET k v ; RESTORE k 0 TEN", ""),
    ("RPUSH k 3 1 2 ; SORT k STORE d", "RPUSH d 1 2 3"),
    ("RPUSH k 3 1 ; SET d v ; SORT k STORE d", "[DEL d | RPUSH d 1 3]"),
    ("SET d v ; SORT k STORE d", "DEL d"),
    ("RPUSH k 3 1 ; SORT k", ""),
    ("SET k v ; FLUSHALL", "FLUSHALL"),
    ("SET k v ; FLUSHDB ASYNC", "FLUSHALL"),
    ("SET k v ; FLUSHALL LATER", ""),
    ("SET k v ; FLUSHDB LATER", ""),
    // Hashes.
    ("HSET k f v g w", "HSET k f v g w"),
    ("SET k v ; HSET k f v", ""),
    ("HMSET k f v", "HMSET k f v"),
    ("HMSET k f v g", ""),
    ("HSETNX k f v", "HSET k f v"),
    ("HSET k f 1 ; HSETNX k f v", ""),
    ("HSET k f 1 g 2 ; HDEL k f nosuch", "HDEL k f nosuch"),
    ("HSET k f 1 ; HDEL k nosuch", ""),
    ("HSET k f 1 g 2 ; HGETDEL k FIELDS 1 f", "HDEL k f"),
    ("HSET k f 1 ; HGETDEL k FIELDS 1 nosuch", ""),
    ("HINCRBY k f 5", "HINCRBY k f 5"),
    ("HSET k f x ; HINCRBY k f 5", ""),
    ("HSET k f 10.5 ; HINCRBYFLOAT k f 0.1", "HSET k f 10.6"),
    ("HSET k f x ; HINCRBYFLOAT k f 1", ""),
    ("HSETEX k PX 500 FIELDS 1 f 10.5 ; HINCRBYFLOAT k f 0.1", "[HSET k f 10.6 | HPEXPIREAT k 1000500 FIELDS 1 f]"),
    ("HSETEX k PX 500 FIELDS 1 f 1 ; HINCRBY k f 5", "HINCRBY k f 5"),
    ("HSETEX k PX 500 FIELDS 1 f 1 ; HSET k f 5", "HSET k f 5"),
    // Fields that expire.
    ("HSET k f v g w ; HEXPIRE k 10 FIELDS 3 f g x", "HPEXPIREAT k 1010000 FIELDS 2 f g"),
    ("HSET k f v g w ; HEXPIRE k 10 FIELDS 1 f ; HEXPIRE k 10 FIELDS 2 f g", "HPEXPIREAT k 1010000 FIELDS 1 g"),
    ("HSET k f v g w ; HEXPIRE k 0 FIELDS 2 f x", "HDEL k f"),
    ("HSET k f v g w ; HEXPIRE k 0 FIELDS 2 g f", "DEL k"),
    ("HSET k f v ; HEXPIRE k 10 XX FIELDS 1 f", ""),
    ("HSET k f v ; HEXPIRE k -1 FIELDS 1 f", ""),
    ("HEXPIRE k 10 FIELDS 1 f", ""),
    ("HSET k f v ; HPEXPIRE k 10 FIELDS 1 f", "HPEXPIREAT k 1000010 FIELDS 1 f"),
    ("HPEXPIRE k 10 FIELDS 1 f", ""),
    ("HSET k f v ; HEXPIREAT k 2000 NX FIELDS 1 f", "HPEXPIREAT k 2000000 FIELDS 1 f"),
    ("HSET k f v ; HEXPIREAT k 1 FIELDS 1 f", "DEL k"),
    ("HSET k f v ; HEXPIREAT k x FIELDS 1 f", ""),
    ("HSET k f v ; HPEXPIREAT k 2000000 FIELDS 1 f", "HPEXPIREAT k 2000000 FIELDS 1 f"),
    ("HSET k f v ; HPEXPIREAT k 2000000 GT FIELDS 1 f", ""),
    ("HSET k f v g w ; HEXPIRE k 10 FIELDS 1 f ; HPERSIST k FIELDS 3 f g x", "HPERSIST k FIELDS 1 f"),
    ("HSET k f v ; HPERSIST k FIELDS 1 f", ""),
    ("HSET k f v g w ; HGETEX k EX 10 FIELDS 3 f x g", "HPEXPIREAT k 1010000 FIELDS 2 f g"),
    ("HSET k f v ; HGETEX k PXAT 5 FIELDS 1 f", "DEL k"),
    ("HSET k f v ; HPEXPIRE k 10 FIELDS 1 f ; HGETEX k PERSIST FIELDS 1 f", "HPERSIST k FIELDS 1 f"),
    ("HSET k f v ; HGETEX k FIELDS 1 f", ""),
    ("HSETEX k FIELDS 1 f v", "HSET k f v"),
    ("HSETEX k EX 10 FIELDS 2 f v g w", "[HSET k f v g w | HPEXPIREAT k 1010000 FIELDS 2 f g]"),
    ("HSET k f v g w ; HPEXPIRE k 10 FIELDS 1 f ; HSETEX k KEEPTTL FIELDS 2 f 1 g 2",
        "[HSET k f 1 g 2 | HPEXPIREAT k 1000010 FIELDS 1 f]"),
    ("HSET k f v g w ; HSETEX k PX 0 FIELDS 2 f 1 x 2", "HDEL k f"),
    ("HSETEX k PX 0 FIELDS 1 f 1", ""),
    ("HSET k f v ; HSETEX k FNX FIELDS 1 f w", ""),
    ("HSET a f v g w ; HPEXPIRE a 10 FIELDS 1 f ; RENAME a b", "[DEL a | HSET b f v g w | HPEXPIREAT b 1000010 FIELDS 1 f]"),
    ("HSET a f v g w ; HPEXPIRE a 10 FIELDS 2 f g ; COPY a b", "[HSET b f v g w | HPEXPIREAT b 1000010 FIELDS 2 f g]"),
    // Lists.
    ("LPUSH k a b", "LPUSH k a b"),
    ("SET k v ; LPUSH k a", ""),
    ("RPUSH k a b", "RPUSH k a b"),
    ("SET k v ; RPUSH k a", ""),
    ("RPUSH k a ; LPUSHX k b", "LPUSHX k b"),
    ("LPUSHX k b", ""),
    ("RPUSH k a ; RPUSHX k b", "RPUSHX k b"),
    ("RPUSHX k b", ""),
    ("RPUSH k a b ; LPOP k", "LPOP k"),
    ("RPUSH k a b c ; LPOP k 2", "LPOP k 2"),
    ("RPUSH k a b ; LPOP k 5", "DEL k"),
    ("RPUSH k a b ; LPOP k 0", ""),
    ("LPOP k", ""),
    ("RPUSH k a b ; RPOP k", "RPOP k"),
    ("RPUSH k a ; RPOP k", "DEL k"),
    ("RPOP k 2", ""),
    ("RPUSH k a ; LSET k 0 b", "LSET k 0 b"),
    ("RPUSH k a ; LSET k 1 b", ""),
    ("RPUSH k a b a ; LREM k 1 a", "LREM k 1 a"),
    ("RPUSH k a ; LREM k 0 nosuch", ""),
    ("RPUSH k a a ; LREM k 0 a", "DEL k"),
    ("RPUSH k a b c ; LTRIM k 1 1", "LTRIM k 1 1"),
    ("RPUSH k a b ; LTRIM k 0 -1", ""),
    ("RPUSH k a b ; LTRIM k 1 0", "DEL k"),
    ("RPUSH k a ; LINSERT k AFTER a b", "LINSERT k AFTER a b"),
    ("RPUSH k a ; LINSERT k AFTER nosuch b", ""),
    ("RPUSH a x y ; LMOVE a b RIGHT LEFT", "[RPOP a | LPUSH b y]"),
    ("RPUSH a x y ; LMOVE a a LEFT RIGHT", "[LPOP a | RPUSH a x]"),
    ("RPUSH a x ; LMOVE a a LEFT RIGHT", ""),
    ("LMOVE a b LEFT LEFT", ""),
    ("RPUSH a x ; SET b v ; LMOVE a b LEFT LEFT", ""),
    ("RPUSH a x y ; RPOPLPUSH a b", "[RPOP a | LPUSH b y]"),
    ("RPUSH a x ; RPOPLPUSH a b", "[DEL a | LPUSH b x]"),
    ("RPOPLPUSH a b", ""),
    ("RPUSH b x y z ; LMPOP 2 a b RIGHT COUNT 2", "RPOP b 2"),
    ("LMPOP 1 a LEFT", ""),
    ("RPUSH b x y ; BLPOP a b 0", "LPOP b"),
    ("BLPOP a b 0", ""),
    ("RPUSH b x ; BLPOP a b 0", "DEL b"),
    ("RPUSH b x y ; BRPOP a b 0", "RPOP b"),
    ("BRPOP a b 0", ""),
    ("RPUSH a x y ; BLMOVE a b LEFT RIGHT 0", "[LPOP a | RPUSH b x]"),
    ("BLMOVE a b LEFT RIGHT 0", ""),
    ("RPUSH a x y ; BRPOPLPUSH a b 0", "[RPOP a | LPUSH b y]"),
    ("BRPOPLPUSH a b 0", ""),
    ("RPUSH b x y z ; BLMPOP 0 2 a b LEFT COUNT 5", "DEL b"),
    ("BLMPOP 0 1 a LEFT", ""),
    // Sets.
    ("SADD k a b", "SADD k a b"),
    ("SADD k a ; SADD k a", ""),
    ("SADD k a b ; SREM k a nosuch", "SREM k a nosuch"),
    ("SREM k a", ""),
    ("SADD k a ; SPOP k", "DEL k"),
    ("SADD k a b ; SREM k b ; SADD k c ; SREM k c ; SPOP k 9", "DEL k"),
    ("SPOP k", ""),
    ("SADD a x y ; SMOVE a b x", "[SREM a x | SADD b x]"),
    ("SADD a x ; SADD b x ; SMOVE a b x", "SREM a x"),
    ("SADD a x ; SMOVE a b nosuch", ""),
    ("SADD a x y ; SADD b x z ; SINTERSTORE d a b", "SADD d x"),
    ("SET d v ; SINTERSTORE d a b", "DEL d"),
    ("SINTERSTORE d a b", ""),
    ("SADD a x ; SET d v ; SUNIONSTORE d a b", "[DEL d | SADD d x]"),
    ("SUNIONSTORE d a b", ""),
    ("SADD a x y ; SADD b x ; SDIFFSTORE d a b", "SADD d y"),
    ("SDIFFSTORE d a b", ""),
    // Sorted sets.
    ("ZADD k 1 a 2 b", "ZADD k 1 a 2 b"),
    ("ZADD k 1 a ; ZADD k 1 a", ""),
    ("ZADD k 1 a ; ZADD k NX 2 a 3 b", "ZADD k 3 b"),
    ("ZADD k 1 a ; ZADD k INCR 2 a", "ZADD k 3 a"),
    ("ZADD k x a", ""),
    ("ZADD k 1 a ; ZINCRBY k 1.5 a", "ZADD k 2.5 a"),
    ("ZINCRBY k x a", ""),
    ("ZADD k 1 a 2 b ; ZREM k a nosuch", "ZREM k a nosuch"),
    ("ZREM k a", ""),
    ("ZADD k 1 a 2 b ; ZPOPMIN k", "ZREM k a"),
    ("ZADD k 1 a 2 b ; ZPOPMIN k 9", "DEL k"),
    ("ZPOPMIN k", ""),
    ("ZADD k 1 a 2 b ; ZPOPMAX k", "ZREM k b"),
    ("ZPOPMAX k", ""),
    ("ZADD k 1 a 2 b ; ZREMRANGEBYRANK k 0 0", "ZREM k a"),
    ("ZADD k 1 a 2 b ; ZREMRANGEBYRANK k 0 -1", "DEL k"),
    ("ZREMRANGEBYRANK k 0 0", ""),
    ("ZADD k 1 a 2 b ; ZREMRANGEBYSCORE k -inf (2", "ZREMRANGEBYSCORE k -inf (2"),
    ("ZADD k 1 a ; ZREMRANGEBYSCORE k 5 6", ""),
    ("ZADD k 0 a 0 b ; ZREMRANGEBYLEX k - [a", "ZREM k a"),
    ("ZREMRANGEBYLEX k - +", ""),
    ("ZADD k 1 a 2 b ; ZRANGESTORE d k 0 0", "ZADD d 1 a"),
    ("SET d v ; ZRANGESTORE d k 0 0", "DEL d"),
    ("ZRANGESTORE d k 0 0", ""),
    ("ZADD b 1 x 2 y ; ZMPOP 2 a b MAX", "ZREM b y"),
    ("ZMPOP 1 a MIN", ""),
    ("ZADD b 1 x 2 y ; BZPOPMIN a b 0", "ZREM b x"),
    ("BZPOPMIN a b 0", ""),
    ("ZADD b 1 x 2 y ; BZPOPMAX a b 0", "ZREM b y"),
    ("ZADD b 1 x ; BZPOPMAX a b 0", "DEL b"),
    ("BZPOPMAX a b 0", ""),
    ("ZADD b 1 x 2 y 3 z ; BZMPOP 0 2 a b MIN", "ZREM b x"),
    ("BZMPOP 0 2 a b MIN", ""),
    ("ZADD a 1 x ; ZADD b 2 x ; ZUNIONSTORE d 2 a b", "ZADD d 3 x"),
    ("ZADD a 1 x ; ZADD b 2 x ; ZINTERSTORE d 2 a b AGGREGATE MAX", "ZADD d 2 x"),
    ("ZADD a 1 x ; SET d v ; ZINTERSTORE d 2 a b", "DEL d"),
    ("ZADD a 1 x ; ZDIFFSTORE d 2 a b", "ZADD d 1 x"),
    ("ZUNIONSTORE d 2 a b", ""),
    ("ZINTERSTORE d 2 a b", ""),
    ("ZDIFFSTORE d 2 a b", ""),
    // HyperLogLogs and places.
    ("PFADD k a", "SET k HYLL…"),
    ("PFADD k a ; PFADD k a", ""),
    ("PFADD a x ; PFMERGE d a", "SET d HYLL…"),
    ("SET a x ; PFMERGE d a", ""),
    ("GEOADD k 0 0 m", "ZADD k 3377699720527872 m"),
    ("GEOADD k 0 0 m ; GEOADD k 0 0 m", ""),
    ("GEOADD k 0 0 m ; GEOSEARCHSTORE d k FROMLONLAT 0 0 BYRADIUS 1 km", "ZADD d 3377699720527872 m"),
    ("GEOSEARCHSTORE d k FROMLONLAT 0 0 BYRADIUS 1 km", ""),
    ("GEOADD k 0 0 m ; GEORADIUS k 0 0 1 km STORE d", "ZADD d 3377699720527872 m"),
    ("GEOADD k 0 0 m ; GEORADIUS k 0 0 1 km", ""),
    ("GEOADD k 0 0 m ; GEORADIUSBYMEMBER k m 1 km STORE d", "ZADD d 3377699720527872 m"),
    ("GEOADD k 0 0 m ; GEORADIUSBYMEMBER k m 1 km", ""),
    // Streams.
    ("XADD k * f v", "XADD k 1000000-0 f v"),
    ("XADD k 5-* f v g w", "XADD k 5-0 f v g w"),
    ("XADD k 5-7 f v ; XADD k 5-7 f v", ""),
    ("XADD k NOMKSTREAM * f v", ""),
    ("XADD k 5-7 f v ; XADD k MAXLEN = 1 6-0 f v", "XADD k MINID = 6-0 6-0 f v"),
    ("XADD k 5-7 f v ; XADD k MAXLEN ~ 1 6-0 f v", "XADD k 6-0 f v"),
    ("XADD k 1-0 f v ; XADD k 2-0 f v ; XTRIM k MAXLEN 1", "XTRIM k MINID = 2-0"),
    ("XADD k 1-0 f v ; XTRIM k MAXLEN 1", ""),
    ("XADD k 1-0 f v ; XDEL k 2 1 1", "XDEL k 1-0"),
    ("XADD k 1-0 f v ; XDEL k 2", ""),
    ("XADD k 1-0 f v ; XSETID k 2", "XSETID k 2-0 ENTRIESADDED 1 MAXDELETEDID 0-0"),
    ("XADD k 1-0 f v ; XSETID k 1-0", ""),
    ("XADD k 1-0 f v ; XGROUP CREATE k g $", "XGROUPSET k g 1-0 -"),
    ("XGROUP CREATE k g $ MKSTREAM", "XGROUPSET k g 0-0 -"),
    ("XGROUP CREATE k g $", ""),
    ("XGROUP CREATE a g 0 MKSTREAM ; XGROUP DESTROY a g", "XGROUPDEL a g"),
    ("XGROUP CREATE a g 0 MKSTREAM ; XGROUP CREATECONSUMER a g c", "XCONSUMERSET a g c 1000000"),
    ("XADD a 1-0 f v ; XADD a 2-0 f v ; XGROUP CREATE a g 0 ; XREADGROUP GROUP g c STREAMS a >",
        "[XCONSUMERSET a g c 1000000 | XGROUPSET a g 2-0 2 | XPENDINGSET a g c 1000000 1-0 1 2-0 1]"),
    ("XGROUP CREATE a g 0 MKSTREAM ; XGROUP CREATECONSUMER a g c ; XREADGROUP GROUP g c STREAMS a >", ""),
    ("XADD a 1-0 f v ; XGROUP CREATE a g 0 ; XREADGROUP GROUP g c STREAMS a > ; XACK a g 1 2", "XACK a g 1-0"),
    ("XADD a 1-0 f v ; XGROUP CREATE a g 0 ; XACK a g 1", ""),
    ("XADD a 1-0 f v ; XGROUP CREATE a g 0 ; XREADGROUP GROUP g c STREAMS a > ; XCLAIM a g d 0 1 7 IDLE 400 LASTID 9",
        "[XGROUPSET a g 9-0 1 | XCONSUMERSET a g d 1000000 | XPENDINGSET a g d 999600 1-0 2]"),
    ("XADD a 1-0 f v ; XGROUP CREATE a g 0 ; XGROUP CREATECONSUMER a g c ; XCLAIM a g c 1 1", ""),
    ("XADD a 1-0 f v ; XGROUP CREATE a g 0 ; XREADGROUP GROUP g c STREAMS a > ; XAUTOCLAIM a g c 0 0", "XPENDINGSET a g c 1000000 1-0 2"),
    ("XADD a 1-0 f v ; XGROUP CREATE a g 0 ; XGROUP CREATECONSUMER a g c ; XAUTOCLAIM a g c 0 0", ""),
];

/// A primary's shard, and what its stream said.
struct Primary {
    shard: Shard,
    read: usize,
}

impl Primary {
    fn new() -> Primary {
        let source = Source::new(SourceConfig {
            reconnect_window_ms: 1,
            ..SourceConfig::new(ShardId::new(0), ShardCount::ONE, Generation::new(1).unwrap(), 1 << 20)
        });
        let shard = Shard::new(ShardId::new(0), ShardCount::ONE, Role::Primary(Box::new(source)), 1);
        Primary { shard, read: 0 }
    }

    fn execute(&mut self, line: &str, now: UnixMs) -> String {
        let (mut bytes, mut ranges) = (line.replace("TEN", TEN).into_bytes(), Vec::new());
        inline::split(&mut bytes, &mut ranges).unwrap();
        let argv = Argv::new(&bytes, &ranges);
        let spec = find(argv.arg(0)).unwrap_or_else(|| panic!("{line}: no such command"));
        let at: Vec<_> = spec.keys(argv).map(|index| self.shard.store.locate(argv.arg(index))).collect();
        let mut out = Vec::new();
        self.shard.execute(spec, argv, &at, now, &mut Reply::new(&mut out, Protocol::Resp2));
        String::from_utf8_lossy(&out).into_owned()
    }

    /// What has gone out since the last time.
    fn wire(&mut self) -> Vec<u8> {
        self.shard.end_turn();
        let backlog = self.shard.source().unwrap().backlog();
        let mut cursor = backlog.seek(Offset::ZERO).unwrap();
        let mut all = Vec::new();
        loop {
            let bytes = backlog.read(&mut cursor, Offset::MAX, usize::MAX).unwrap();
            if bytes.is_empty() {
                break;
            }
            all.extend_from_slice(&bytes);
        }
        let new = all.split_off(self.read);
        self.read += new.len();
        new
    }
}

/// One effect, and how many of its group come behind it.
struct Said {
    args: Vec<Vec<u8>>,
    group: Option<usize>,
}

/// Reads what is on the wire byte by byte, as the protocol's description has it.
fn read(wire: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    let mut rest = wire;
    let mut left = 0;
    let line = |rest: &mut &[u8]| -> String {
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("a whole line");
        let text = String::from_utf8(rest[..end].to_vec()).expect("text");
        *rest = &rest[end + 2..];
        text
    };
    while !rest.is_empty() {
        let head = line(&mut rest);
        if let Some(count) = head.strip_prefix("+GROUP ") {
            assert_eq!(left, 0, "groups do not nest");
            left = count.split(' ').next().unwrap().parse().unwrap();
            continue;
        }
        if head.starts_with('+') {
            continue;
        }
        assert_eq!(head, "*2", "an envelope");
        assert!(line(&mut rest).starts_with(':'), "an offset");
        let count: usize = line(&mut rest).strip_prefix('*').expect("a command").parse().unwrap();
        let mut args = Vec::new();
        for _ in 0..count {
            let len: usize = line(&mut rest).strip_prefix('$').expect("an argument").parse().unwrap();
            args.push(rest[..len].to_vec());
            assert_eq!(&rest[len..len + 2], b"\r\n");
            rest = &rest[len + 2..];
        }
        let group = (left > 0).then(|| {
            left -= 1;
            left
        });
        said.push(Said { args, group });
    }
    assert_eq!(left, 0, "a group is whole");
    said
}

fn shown(said: &[Said]) -> String {
    let mut text = String::new();
    let mut in_group = false;
    for effect in said {
        if !text.is_empty() {
            text.push_str(" | ");
        }
        if effect.group.is_some() && !in_group {
            text.push('[');
        }
        in_group = effect.group.is_some_and(|left| left > 0);
        let args: Vec<_> = effect.args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
        text.push_str(&args.join(" "));
        if effect.group == Some(0) {
            text.push(']');
        }
    }
    text
}

fn digest(store: &KeyspaceStore) -> Vec<Digest> {
    (0..HASH_SLOTS as u16).map(|slot| store.digest(Copy::Live, HashSlot::new(slot).unwrap())).collect()
}

#[test]
fn every_write_command_says_what_it_did_and_nothing_else() {
    let mut wrong = Vec::new();
    for (script, expected) in ROWS {
        let mut primary = Primary::new();
        let mut replica = KeyspaceStore::new();
        let steps: Vec<&str> = script.split(" ; ").collect();
        let (command, setup) = steps.split_last().unwrap();
        for step in setup {
            let reply = primary.execute(step, NOW);
            assert!(!reply.starts_with('-'), "{script}: {step}: {reply}");
        }
        let before = primary.wire();
        let reply = primary.execute(command, NOW);
        let said = read(&primary.wire());
        let found = shown(&said);
        // Behind `…` comes what only a computer reads.
        let is_right = expected.strip_suffix('…').map_or(found == *expected, |begin| found.starts_with(begin));
        if !is_right {
            wrong.push(format!("{script}\n   says     {found}\n   expected {expected}\n   reply    {reply:?}"));
        }
        if reply.starts_with('-') {
            assert_eq!(found, "", "{script}: it failed, {reply}");
        }
        for effect in read(&before).iter().chain(&said) {
            dispatch(&mut replica, &effect.args).unwrap_or_else(|error| panic!("{script}: {error}"));
        }
        assert_eq!(digest(&primary.shard.store), digest(&replica), "{script}: a replica ends equal");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What of the table writes has a row that says something, and one that says nothing where that can be.
#[test]
fn every_write_command_of_the_table_has_a_row() {
    let rows: BTreeSet<(String, bool)> = ROWS
        .iter()
        .map(|(script, expected)| {
            let command = script.rsplit(" ; ").next().unwrap();
            (command.split(' ').next().unwrap().to_lowercase(), !expected.is_empty())
        })
        .collect();
    // Always refused.
    const NEVER_SAYS: &[&str] = &["move"];
    let writes: Vec<&str> = table::all().iter().filter(|spec| spec.writes()).map(|spec| spec.name).collect();
    for says in [true, false] {
        let is_missing =
            |name: &&&str| !(rows.contains(&((**name).to_owned(), says)) || says && NEVER_SAYS.contains(*name));
        let missing: Vec<&&str> = writes.iter().filter(is_missing).collect();
        assert!(missing.is_empty(), "write commands without a row that says something ({says}): {missing:?}");
    }
}

/// What chance decides is decided on the primary: what was drawn is named.
#[test]
fn what_was_drawn_is_named() {
    let mut primary = Primary::new();
    primary.execute("SADD k a b c d e f g h", NOW);
    primary.wire();
    for count in [" ", " 3"] {
        let reply = primary.execute(&format!("SPOP k{}", count.trim_end()), NOW);
        let said = read(&primary.wire());
        assert_eq!(said.len(), 1);
        let [verb, key, members @ ..] = said[0].args.as_slice() else { panic!("members are named") };
        assert_eq!((verb.as_slice(), key.as_slice()), (b"SREM".as_slice(), b"k".as_slice()));
        for member in members {
            assert!(reply.contains(&format!("\r\n{}\r\n", String::from_utf8_lossy(member))), "{reply}");
        }
        assert_eq!(members.len(), reply.matches('$').count());
    }
}

/// Whoever meets an expired key says that it is gone, once, before what it does itself; who only waits for one says nothing of that.
#[test]
fn an_expired_key_is_deleted_by_whoever_meets_it() {
    let commands = [
        ("GET k", "DEL k"),
        ("EXISTS k", "DEL k"),
        ("SETNX k w", "[DEL k | SET k w]"),
        ("RPUSH k x", "[DEL k | RPUSH k x]"),
        ("DEL k", "DEL k"),
        ("PERSIST k", "DEL k"),
        ("SET other 1", "SET other 1"),
    ];
    for (command, expected) in commands {
        let mut primary = Primary::new();
        primary.execute("SET k v PXAT 999999", UnixMs::new(1));
        primary.wire();
        primary.execute(command, NOW);
        assert_eq!(shown(&read(&primary.wire())), expected, "{command}");
        primary.execute("GET k", NOW);
        let is_met = expected.contains("DEL k");
        assert_eq!(shown(&read(&primary.wire())), if is_met { "" } else { "DEL k" }, "{command}: said once");
    }
}

/// So is a field of a hash, and the hash with its last one.
#[test]
fn an_expired_field_is_deleted_by_whoever_meets_it() {
    for (command, expected) in [
        ("HGET k f", "HDEL k f h"),
        ("HLEN k", "HDEL k f h"),
        ("EXISTS k", "HDEL k f h"),
        ("HSET k f new", "[HDEL k f h | HSET k f new]"),
        ("HINCRBY k f 1", "[HDEL k f h | HINCRBY k f 1]"),
        ("HPERSIST k FIELDS 1 f", "HDEL k f h"),
        ("HDEL k g", "[HDEL k f h | HDEL k g]"),
        ("RENAME k l", "[HDEL k f h | DEL k | HSET l g w]"),
        ("LPUSH k x", "HDEL k f h"),
        ("HGET all f", "DEL all"),
        ("HSET all g 1", "[DEL all | HSET all g 1]"),
        ("SET other 1", "SET other 1"),
    ] {
        let mut primary = Primary::new();
        let mut replica = KeyspaceStore::new();
        for line in ["HSET k g w", "HSETEX k PXAT 999998 FIELDS 2 f v h v", "HSETEX all PXAT 999999 FIELDS 1 f v"] {
            primary.execute(line, UnixMs::new(1));
        }
        let before = primary.wire();
        primary.execute(command, NOW);
        let said = read(&primary.wire());
        assert_eq!(shown(&said), expected, "{command}");
        for effect in read(&before).iter().chain(&said) {
            dispatch(&mut replica, &effect.args).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
        assert_eq!(digest(&primary.shard.store), digest(&replica), "{command}: a replica ends equal");
    }
}

/// Of one who waited the wire has what was done for it, behind what it waited for.
#[test]
fn who_waited_is_not_on_the_wire() {
    use kevy_replicate::shard::{Claim, Waiter};
    use kevy_replicate::store::command::block;
    let mut primary = Primary::new();
    primary.execute("XGROUP CREATE s g $ MKSTREAM", NOW);
    primary.execute("XGROUP CREATECONSUMER s g c", NOW);
    primary.wire();
    for line in [
        "BLMOVE a b LEFT RIGHT 0",
        "BLPOP b c 0",
        "XREAD BLOCK 0 STREAMS s 0-0",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
    ] {
        let argv = Command::new(&line.split(' ').collect::<Vec<_>>());
        let mut ranges = Vec::new();
        let (spec, wish, located) = {
            let argv = arguments_of(&argv, &mut ranges);
            let spec = find(argv.arg(0)).unwrap();
            let located = spec.keys(argv).map(|index| primary.shard.store.locate(argv.arg(index))).collect();
            (spec, block::wish(spec, argv).unwrap().unwrap(), located)
        };
        let block::Wish { keys, kind, needs_keys, .. } = wish;
        let (claim, protocol) = (Claim::new(|_| ()), Protocol::Resp2);
        let waiter = Waiter { claim, spec, argv, located, keys, kind, needs_keys, protocol };
        assert!(primary.shard.wait(waiter, NOW).is_some());
    }
    assert_eq!(shown(&read(&primary.wire())), "");
    primary.execute("RPUSH a x y", NOW);
    assert_eq!(shown(&read(&primary.wire())), "RPUSH a x y | [LPOP a | RPUSH b x] | DEL b");
    primary.execute("XADD s 1-0 f v", NOW);
    assert_eq!(
        shown(&read(&primary.wire())),
        "XADD s 1-0 f v | [XGROUPSET s g 1-0 1 | XPENDINGSET s g c 1000000 1-0 1]"
    );
}
