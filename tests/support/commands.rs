//! What random clients write and read: the one table of it, for whoever mixes commands at random. A word in capitals of one letter is
//! drawn anew each time, any other stands for itself.
//!
//! ```text
//! (2, "l LINSERT K BEFORE V U")  ─▶  LINSERT {7}l2 BEFORE 311 340
//!  │   └ the type that its keys are for: `*` any, and any now and then whatever it says
//!  └ how often, beside the others
//! ```
//!
//! K is a key, U a value that no other command writes, V one that another may have written, W a long one, M a member, N a small
//! number, O a place in a string, F a number with a fraction, T a time of the epoch that is near, I an id of a stream, C a consumer,
//! D what DUMP gave.

/// Where chance comes from, and what the clients know.
pub trait Draw {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize;

    /// A key for values of `kind`, one of [`KINDS`].
    fn key(&mut self, kind: &str) -> String;

    /// The clock of the node.
    fn now_ms(&self) -> u64;

    /// The number of this command, one more with each.
    fn number(&self) -> u64;
}

/// What keys are for: strings, numbers, lists, hashes, sets, sorted sets, HyperLogLogs, streams.
pub const KINDS: [&str; 8] = ["s", "n", "l", "h", "m", "z", "p", "x"];

/// One command, its verb first.
pub fn draw(chance: &mut impl Draw) -> Vec<Vec<u8>> {
    let mut left = chance.below(COMMANDS.iter().map(|(weight, _)| weight).sum());
    let drawn = COMMANDS.iter().find(|(weight, _)| {
        let is_it = left < *weight;
        left = left.saturating_sub(*weight);
        is_it
    });
    let (kind, words) = drawn.and_then(|(_, template)| template.split_once(' ')).expect("a kind, and words");
    words.split(' ').map(|word| fill_in(chance, kind, word)).collect()
}

fn fill_in(chance: &mut impl Draw, kind: &str, word: &str) -> Vec<u8> {
    match word {
        "K" => {
            let any = kind == "*" || chance.below(12) == 0;
            let kind = if any { KINDS[chance.below(KINDS.len())] } else { kind };
            chance.key(kind)
        }
        "U" => chance.number().to_string(),
        // Two of three were written not long ago.
        "V" if chance.below(3) > 0 => chance.number().saturating_sub(chance.below(60) as u64).to_string(),
        "V" => format!("v{}", chance.below(20)).repeat(1 + chance.below(3) * chance.below(8)),
        "W" => "w".repeat(chance.below(300)),
        "M" => {
            let members = if chance.below(2) == 0 { 8 } else { 150 };
            format!("a{}", chance.below(members))
        }
        "N" => (chance.below(40) as i64 - 10).to_string(),
        "O" => {
            let places = if chance.below(2) == 0 { 40 } else { 400 };
            chance.below(places).to_string()
        }
        "F" | "(F" => {
            let number = (chance.below(400) as f64 - 100.0) / 8.0;
            word.replace('F', &number.to_string())
        }
        "T" => (chance.now_ms() as i64 + chance.below(110) as i64 - 50).to_string(),
        // Those that were made of the time, and those that were given.
        "I" => match chance.below(3) {
            0 => format!("{}-{}", chance.now_ms() - chance.below(200) as u64, chance.below(2)),
            _ => format!("{}-{}", chance.below(30), chance.below(3)),
        },
        "C" => ["c", "d", "e"][chance.below(3)].to_owned(),
        "D" => return DUMPED[chance.below(DUMPED.len())].to_vec(),
        literal => literal.to_owned(),
    }
    .into_bytes()
}

/// A set of one member, and a string.
const DUMPED: [&[u8]; 2] = [
    b"\x02\x01\x01\x6d\x0a\x00\xc6\xfc\xb6\x57\xe0\x86\xa5\xb0",
    b"\x00\x01\x76\x0a\x00\x91\x08\xce\xb2\x19\x38\x8a\xce",
];

#[rustfmt::skip]
const COMMANDS: &[(usize, &str)] = &[
    // Strings and numbers.
    (6, "s SET K U"),
    (4, "* SET K W"),
    (2, "s SET K V"),
    (1, "s SET K N"),
    (1, "s SET K V EX 1"),
    (1, "s SET K V PX N"),
    (1, "s SET K V NX"),
    (1, "s SET K V XX GET"),
    (1, "s SET K V KEEPTTL"),
    (4, "s SET K U PXAT T"),
    (1, "s SETNX K V"),
    (1, "s SETEX K 1 V"),
    (1, "s PSETEX K 50 V"),
    (1, "s GETSET K U"),
    (1, "s GETDEL K"),
    (1, "s GETEX K PX 30"),
    (1, "s GETEX K PERSIST"),
    (1, "s GETEX K"),
    (4, "s MSET K U K U K U"),
    (1, "s MSETNX K V K V"),
    (6, "n INCR K"),
    (2, "n DECR K"),
    (2, "n INCRBY K N"),
    (1, "n DECRBY K N"),
    (2, "n INCRBYFLOAT K F"),
    (12, "s APPEND K U"),
    (6, "s SETRANGE K O U"),
    (1, "s SETRANGE K 3 V"),
    (2, "s SETBIT K O 1"),
    (1, "s SETBIT K O 0"),
    (1, "s BITOP AND K K K"),
    (1, "s BITOP XOR K K K"),
    (1, "s BITOP NOT K K"),
    (1, "s BITFIELD K SET u5 N N INCRBY i9 N N"),
    (1, "s BITFIELD K OVERFLOW FAIL INCRBY u3 N 5 OVERFLOW SAT SET i4 #2 N"),
    (2, "s GET K"),
    (1, "s STRLEN K"),
    (1, "s MGET K K"),
    (1, "s GETRANGE K N N"),
    (1, "s BITCOUNT K N N BIT"),
    (1, "s BITPOS K 1 N N BYTE"),
    (1, "s LCS K K"),
    // Keys.
    (4, "* DEL K"),
    (3, "* DEL K K K"),
    (1, "* UNLINK K K"),
    (1, "* EXISTS K K"),
    (1, "* EXPIRE K 1"),
    (1, "* EXPIRE K 0"),
    (1, "* PEXPIRE K N"),
    (1, "* PEXPIRE K 40 NX"),
    (1, "* PEXPIRE K 40 GT"),
    (1, "* PEXPIRE K 40 LT"),
    (1, "* PEXPIRE K 40 XX"),
    (3, "* PEXPIREAT K T"),
    (1, "* EXPIREAT K 0"),
    (3, "* PERSIST K"),
    (6, "* RENAME K K"),
    (1, "* RENAMENX K K"),
    (1, "* COPY K K"),
    (2, "* COPY K K REPLACE"),
    (1, "* PTTL K"),
    (1, "* TYPE K"),
    (1, "* OBJECT ENCODING K"),
    (1, "* DUMP K"),
    (1, "* RESTORE K 50 D REPLACE"),
    (1, "* RESTORE K 0 D"),
    (1, "* SORT K ALPHA STORE K"),
    (1, "* SORT K BY s* GET # GET h*->M DESC LIMIT 0 5 ALPHA STORE K"),
    // Hashes.
    (3, "h HSET K M U"),
    (1, "h HSET K M V M N"),
    (1, "h HSET K M V M V M V M V"),
    (1, "* HSET K M U"),
    (1, "h HMSET K M N"),
    (1, "h HSETNX K M V"),
    (5, "h HDEL K M M"),
    (2, "h HDEL K a0 a1 a2 a3 a4 a5 a6 a7"),
    (5, "h HINCRBY K M N"),
    (1, "h HINCRBYFLOAT K M F"),
    (1, "h HGETDEL K FIELDS 2 M M"),
    (2, "h HPEXPIREAT K T FIELDS 2 M M"),
    (1, "h HPEXPIRE K N GT FIELDS 1 M"),
    (1, "h HPEXPIRE K 30 NX FIELDS 3 M M M"),
    (1, "h HEXPIRE K 1 LT FIELDS 2 M M"),
    (1, "h HEXPIREAT K 0 FIELDS 1 M"),
    (1, "h HPERSIST K FIELDS 2 M M"),
    (1, "h HGETEX K PXAT T FIELDS 2 M M"),
    (1, "h HGETEX K PERSIST FIELDS 2 M M"),
    (2, "h HSETEX K PXAT T FIELDS 2 M V M V"),
    (1, "h HSETEX K KEEPTTL FIELDS 2 M V M V"),
    (1, "h HPTTL K FIELDS 2 M M"),
    (1, "h HGETALL K"),
    (1, "h HGET K M"),
    (1, "h HSTRLEN K M"),
    (1, "h HRANDFIELD K 3"),
    (1, "h HSCAN K 0 COUNT 3"),
    // Lists.
    (5, "l LPUSH K U U"),
    (4, "l LPUSH K U W"),
    (16, "l RPUSH K U"),
    (8, "l RPUSH K V V U V U"),
    (2, "* RPUSH K U"),
    (1, "l LPUSHX K U"),
    (1, "l RPUSHX K U"),
    (2, "l LPOP K"),
    (2, "l RPOP K"),
    (1, "l LPOP K 2"),
    (1, "l RPOP K 3"),
    (3, "l LSET K N U"),
    (2, "l LREM K N V"),
    (1, "l LTRIM K 1 -2"),
    (1, "l LTRIM K N N"),
    (1, "l LTRIM K 0 20"),
    (3, "l LINSERT K BEFORE V U"),
    (1, "l LINSERT K AFTER V U"),
    (1, "l LMOVE K K LEFT RIGHT"),
    (1, "l LMOVE K K RIGHT RIGHT"),
    (1, "l RPOPLPUSH K K"),
    (1, "l LMPOP 2 K K LEFT COUNT 2"),
    (1, "l BLPOP K K 0.001"),
    (1, "l BRPOP K 0.001"),
    (1, "l BLMOVE K K LEFT RIGHT 0.001"),
    (1, "l BRPOPLPUSH K K 0.001"),
    (1, "l BLMPOP 0.001 2 K K RIGHT COUNT 2"),
    (1, "l LRANGE K N N"),
    (1, "l LINDEX K N"),
    (1, "l LPOS K V"),
    // Sets.
    (3, "m SADD K M U"),
    (2, "m SADD K M M M M M M"),
    (3, "m SREM K M M"),
    (2, "m SREM K V"),
    (2, "m SPOP K"),
    (1, "m SPOP K 2"),
    (2, "m SMOVE K K M"),
    (1, "m SINTERSTORE K K K"),
    (1, "m SUNIONSTORE K K K"),
    (1, "m SDIFFSTORE K K K"),
    (1, "m SMEMBERS K"),
    (1, "m SISMEMBER K M"),
    (1, "m SRANDMEMBER K 2"),
    (1, "m SSCAN K 0 COUNT 3"),
    // Sorted sets, and places in them.
    (3, "z ZADD K F M F M"),
    (2, "z ZADD K F M F M F M F M"),
    (1, "z ZADD K NX F M"),
    (1, "z ZADD K XX CH F M"),
    (1, "z ZADD K GT F M"),
    (1, "z ZADD K LT CH F M F M"),
    (1, "z ZADD K INCR F M"),
    (2, "z ZINCRBY K F M"),
    (3, "z ZREM K M M"),
    (1, "z ZPOPMIN K"),
    (1, "z ZPOPMAX K 2"),
    (1, "z BZPOPMIN K K 0.001"),
    (1, "z BZPOPMAX K 0.001"),
    (1, "z BZMPOP 0.001 2 K K MIN COUNT 2"),
    (1, "z ZMPOP 2 K K MIN COUNT 2"),
    (1, "z ZMPOP 1 K MAX"),
    (2, "z ZREMRANGEBYRANK K N N"),
    (1, "z ZREMRANGEBYSCORE K F F"),
    (1, "z ZREMRANGEBYLEX K [a1 [a3"),
    (1, "z ZRANGESTORE K K N N"),
    (1, "z ZRANGESTORE K K F F BYSCORE REV"),
    (1, "* ZUNIONSTORE K 2 K K WEIGHTS 2 F"),
    (1, "* ZINTERSTORE K 2 K K AGGREGATE MIN"),
    (1, "z ZDIFFSTORE K 2 K K"),
    (1, "z GEOADD K F F M F F M"),
    (1, "z GEOADD K NX CH F F M"),
    (1, "z GEOSEARCHSTORE K K FROMLONLAT F F BYRADIUS 3000 mi ASC COUNT 5"),
    (1, "z GEOSEARCHSTORE K K FROMLONLAT F F BYBOX 9000 9000 km STOREDIST"),
    (1, "z GEORADIUS K F F 4000 km STORE K"),
    (1, "z GEORADIUSBYMEMBER K M 4000 km STORE K"),
    (1, "z ZRANGE K N N WITHSCORES"),
    (1, "z ZREVRANGE K N N"),
    (1, "z ZRANGE K F F BYSCORE"),
    (1, "z ZREVRANGEBYSCORE K F F WITHSCORES LIMIT 0 3"),
    (1, "z ZCOUNT K F (F"),
    (1, "z ZRANK K M"),
    (1, "z ZREVRANK K M"),
    (1, "z ZRANDMEMBER K 3 WITHSCORES"),
    (1, "z ZSCAN K 0 COUNT 3"),
    // HyperLogLogs.
    (1, "s PFADD K M M"),
    (2, "p PFADD K M M M"),
    (1, "p PFADD K M M M M M M M M M M M M"),
    (1, "p PFMERGE K K K"),
    (1, "* PFMERGE K K"),
    (1, "p PFCOUNT K K"),
    (1, "p EXPIRE K 1"),
    (1, "p RENAME K K"),
    // Streams.
    (5, "x XADD K * M U"),
    (2, "x XADD K * M V M V"),
    (1, "x XADD K I M V"),
    (1, "x XADD K N-* M V"),
    (1, "x XADD K NOMKSTREAM * M V"),
    (2, "x XADD K MAXLEN 5 * M V"),
    (1, "x XADD K MAXLEN ~ 5 * M V"),
    (1, "x XADD K MINID I * M V"),
    (1, "x XTRIM K MAXLEN N"),
    (1, "x XTRIM K MINID ~ I"),
    (2, "x XDEL K I I"),
    (1, "x XSETID K T ENTRIESADDED 50"),
    (1, "x XSETID K I"),
    (2, "x XGROUP CREATE K g I MKSTREAM"),
    (1, "x XGROUP CREATE K h $ ENTRIESREAD N"),
    (1, "x XGROUP SETID K g I"),
    (1, "x XGROUP SETID K g 0"),
    (1, "x XGROUP DESTROY K h"),
    (1, "x XGROUP CREATECONSUMER K g C"),
    (1, "x XGROUP DELCONSUMER K g C"),
    (2, "x XREADGROUP GROUP g C STREAMS K >"),
    (1, "x XREADGROUP GROUP g C COUNT 2 STREAMS K K > >"),
    (1, "x XREADGROUP GROUP h C NOACK STREAMS K >"),
    (1, "x XREADGROUP GROUP g C COUNT 3 STREAMS K I"),
    (1, "x XREADGROUP GROUP g C STREAMS K K > 0"),
    (2, "x XREADGROUP GROUP g C BLOCK 1 STREAMS K >"),
    (1, "x XREAD BLOCK 1 STREAMS K I"),
    (2, "x XACK K g I I"),
    (1, "x XCLAIM K g C 3 I I"),
    (1, "x XCLAIM K h C 0 I I FORCE IDLE 40 RETRYCOUNT N"),
    (1, "x XCLAIM K g C 0 I JUSTID LASTID I"),
    (1, "x XAUTOCLAIM K g C 5 I COUNT 2"),
    (1, "x XAUTOCLAIM K g C 0 - JUSTID"),
    (1, "x XRANGE K - +"),
    (1, "x XREVRANGE K + - COUNT 3"),
    (1, "x XREAD COUNT 2 STREAMS K K I I"),
    (1, "x XLEN K"),
    (1, "x XPENDING K g"),
    (1, "x XPENDING K g IDLE 5 - + 3 C"),
    (1, "x XINFO STREAM K FULL"),
];
