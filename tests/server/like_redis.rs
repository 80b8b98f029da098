//! The same words to `kevy` and to the installed `redis-server`: the replies must be the same, byte by byte. Skipped where there
//! is no `redis-server`.
//!
//! ```text
//! a SET key 1          on connection a, one reply is read
//! b 2 SUBSCRIBE x y    on connection b, two replies are read
//! b 1                  nothing is sent, one more reply is read
//! ~ a HELLO 3          the replies may differ
//! ? 2                  until commands of two clients wait
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kevy_replicate::store::command::absent;

use crate::kevy::{Kevy, free_ports};
use crate::wait_until;

/// A `redis-server` of its own; gone with its guard.
struct Redis {
    port: u16,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Redis {
    /// `None` where there is no `redis-server`.
    fn start(flags: &[&str]) -> Option<Redis> {
        let port = free_ports(1);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--dir"])
            .arg(dir.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("skipped: there is no redis-server");
            return None;
        };
        let redis = Redis { port, child, _dir: dir };
        wait_until("redis-server listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself, which is no matter here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connections to one server, by name.
struct Talk {
    port: u16,
    open: BTreeMap<char, BufReader<TcpStream>>,
}

impl Talk {
    fn new(port: u16) -> Talk {
        Talk { port, open: BTreeMap::new() }
    }

    /// Does what one line of a script says, and returns the replies.
    fn line(&mut self, line: &str) -> String {
        if let Some(count) = line.strip_prefix("? ") {
            let waits = format!("blocked_clients:{count} ");
            wait_until("so many wait", || self.line("~ INFO clients").contains(&waits));
            return String::new();
        }
        let mut words = line.splitn(2, ' ');
        let name = words.next().and_then(|word| word.chars().next()).expect("a connection");
        let rest = words.next().unwrap_or_default();
        let (count, command) = match rest.split_once(' ') {
            Some((count, command)) if count.parse::<usize>().is_ok() => (count.parse().expect("a number"), command),
            None if rest.parse::<usize>().is_ok() => (rest.parse().expect("a number"), ""),
            _ => (1, rest),
        };
        let port = self.port;
        let stream = self.open.entry(name).or_insert_with(|| {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connects");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
            BufReader::new(stream)
        });
        if !command.is_empty() {
            // A server that closed meanwhile is found out by the reading.
            let _ = stream.get_mut().write_all(format!("{command}\r\n").as_bytes());
        }
        let mut replies = Vec::new();
        for _ in 0..count {
            value(stream, &mut replies);
        }
        String::from_utf8_lossy(&replies).replace("\r\n", " ")
    }
}

/// Reads one reply, whole.
fn value(stream: &mut BufReader<TcpStream>, into: &mut Vec<u8>) {
    let from = into.len();
    match stream.read_until(b'\n', into) {
        Ok(0) => return into.extend_from_slice(b"(closed)"),
        Ok(_) => {}
        Err(error) => return into.extend_from_slice(format!("({error})").as_bytes()),
    }
    let line = String::from_utf8_lossy(&into[from..]).trim_end().to_owned();
    let Ok(len) = line[1..].parse::<i64>() else { return };
    match &line[..1] {
        "$" | "=" if len >= 0 => {
            let mut bytes = vec![0; len as usize + 2];
            stream.read_exact(&mut bytes).expect("a whole reply");
            into.extend_from_slice(&bytes);
        }
        "*" | "~" | ">" => (0..len).for_each(|_| value(stream, into)),
        "%" => (0..len * 2).for_each(|_| value(stream, into)),
        _ => {}
    }
}

/// Both servers answer every line alike. Every `kevy` begins empty, one with a single shard, and one with three.
#[track_caller]
fn assert_alike(script: &str) {
    assert_alike_with(&[], script);
}

/// As [`assert_alike`], with flags that both know.
#[track_caller]
fn assert_alike_with(flags: &[&str], script: &str) {
    let Some(redis) = Redis::start(&[&["--enable-debug-command", "yes"], flags].concat()) else { return };
    let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut theirs = Talk::new(redis.port);
    let expected: Vec<String> = lines.iter().map(|line| theirs.line(line.trim_start_matches("~ "))).collect();
    for shards in [1, 3] {
        let kevy = Kevy::start(shards, flags);
        let mut ours = Talk::new(kevy.port);
        for (line, expected) in lines.iter().zip(&expected) {
            let answer = ours.line(line.trim_start_matches("~ "));
            assert!(line.starts_with('~') || answer == *expected, "{shards} shards: {line}\n{answer}\n{expected}");
        }
    }
}

#[test]
fn transactions() {
    assert_alike(
        "a EXEC
         a DISCARD
         a MULTI
         a SET {x}a 1
         a INCR {x}a
         a GET {x}a
         a MULTI
         a WATCH {x}a
         a PING
         a LPUSH {x}a 1
         a EXEC
         a GET {x}a
         a MULTI
         a NOSUCH
         a SET {x}a 9
         a EXEC
         a GET {x}a
         a MULTI
         a GET
         a EXEC
         a MULTI
         a SET {x}a 9
         a DISCARD
         a GET {x}a
         a MULTI
         a EXEC
         a MULTI extra
         a EXEC extra
         a MULTI
         a EXEC extra
         a EXEC
         a MULTI
         a UNWATCH
         a SELECT 0
         a ECHO hello
         a EXEC
         a MULTI
         a RESET
         a EXEC
         a MULTI
         a SET a 1
         a SET b 2
         a SET c 3
         a MGET a b c
         a DEL a b nosuch
         a EXISTS a b c
         a EXEC
         a MULTI
         a QUIT",
    );
}

#[test]
fn watched_keys() {
    assert_alike(
        "a SET k 1
         a WATCH k
         b SET k 2
         a MULTI
         a SET k 3
         a EXEC
         a GET k
         a WATCH k
         a MULTI
         a SET k 3
         a EXEC
         a GET k
         a WATCH k
         b DEL nosuch
         b SETNX k 9
         b EXPIRE nosuch 10
         b LPUSH k 1
         a MULTI
         a EXEC
         a WATCH k
         b DEL k
         a UNWATCH
         a MULTI
         a GET k
         a EXEC
         a WATCH k other
         b SET other 1
         a MULTI
         a GET k
         a EXEC
         a MULTI
         a GET k
         a EXEC
         a WATCH k
         a SET k mine
         a MULTI
         a EXEC
         a WATCH nosuch
         b FLUSHALL
         a MULTI
         a EXEC
         b SET k 1
         a WATCH k
         b FLUSHALL
         a MULTI
         a EXEC
         b SET k 1
         a WATCH k
         a MULTI
         a DISCARD
         b SET k 2
         a MULTI
         a EXEC
         b SET k 1 PX 100
         a WATCH k
         b DEBUG SLEEP 0.2
         a MULTI
         a GET k
         a EXEC
         a WATCH
         ~ a HELLO 3
         b SET k 1
         a WATCH k
         b APPEND k 1
         a MULTI
         a GET k
         a EXEC
         a MULTI
         a EXEC",
    );
}

#[test]
fn messages() {
    assert_alike(
        "a PUBLISH news nobody
         a 2 SUBSCRIBE news other
         a SUBSCRIBE news
         a 2 PSUBSCRIBE n* o?her
         a SSUBSCRIBE news
         b PUBLISH news hello
         a 2
         b PUBLISH other {x}
         a 2
         b PUBLISH nix {x}
         a
         b SPUBLISH news sharded
         a
         a PING
         a PING word
         a GET key
         a SET key
         a NOSUCH
         a MULTI
         ~ b PUBSUB CHANNELS
         b PUBSUB CHANNELS ne*
         b PUBSUB NUMSUB news nosuch
         b PUBSUB NUMSUB
         b PUBSUB NUMPAT
         b PUBSUB SHARDCHANNELS
         b PUBSUB SHARDNUMSUB news
         b PUBSUB NOSUCH
         b PUBSUB
         b PUBSUB NUMPAT extra
         b PUBLISH news
         a UNSUBSCRIBE news
         b PUBLISH news again
         a
         a UNSUBSCRIBE nosuch
         a UNSUBSCRIBE
         a UNSUBSCRIBE
         a 2 PUNSUBSCRIBE
         a SUNSUBSCRIBE
         a SUNSUBSCRIBE
         a GET key
         b PUBSUB CHANNELS
         b PUBSUB NUMPAT
         c 1 SUBSCRIBE x
         c RESET
         c GET key
         b PUBLISH x nobody
         ~ d HELLO 3
         d SUBSCRIBE news
         d GET key
         d 2 PUBLISH news mine
         b PUBLISH news yours
         d
         d PING
         d MULTI
         d GET key
         d PUBLISH nobody hears
         d EXEC
         d UNSUBSCRIBE
         e 1 SUBSCRIBE x
         e QUIT
         e",
    );
}

#[test]
fn clients() {
    assert_alike(
        "a CLIENT GETNAME
         a CLIENT SETNAME me
         a CLIENT GETNAME
         a CLIENT SETNAME {a b}
         a CLIENT SETNAME \"a b\"
         a CLIENT NOSUCH
         a CLIENT
         a CLIENT ID extra
         a CLIENT NO-EVICT on
         a CLIENT NO-EVICT maybe
         a CLIENT REPLY what
         a CLIENT REPLY
         a 0 CLIENT REPLY SKIP
         a 0 SET x 1
         a GET x
         a 0 CLIENT REPLY OFF
         a 0 SET x 2
         a CLIENT REPLY ON
         a GET x
         a CLIENT KILL nosuch:1
         a CLIENT KILL ID 999999
         a CLIENT KILL ID x
         a CLIENT KILL TYPE nosuch
         a CLIENT KILL USER nosuch
         a CLIENT KILL ID
         a CLIENT KILL SKIPME maybe
         a CLIENT LIST TYPE nosuch
         a CLIENT LIST ID x
         a CLIENT LIST ID 999999
         a CLIENT LIST what
         a CLIENT PAUSE x
         a CLIENT PAUSE -1
         a CLIENT PAUSE 1 what
         a CLIENT UNBLOCK 999999
         a CLIENT UNBLOCK x
         a CLIENT UNBLOCK 1 what
         a CLIENT GETREDIR
         b SUBSCRIBE x
         a CLIENT KILL TYPE pubsub
         b
         b
         c PING
         a CLIENT KILL TYPE normal
         c
         a CLIENT KILL TYPE normal SKIPME no
         a
         d CLIENT PAUSE 100 WRITE
         d GET x
         d SET x 3
         d CLIENT PAUSE 10000
         e CLIENT UNPAUSE
         d GET x",
    );
}

#[test]
fn passwords() {
    assert_alike_with(
        &["--requirepass", "secret"],
        "a PING
         a GET x
         a NOSUCH
         a GET
         a MULTI
         a EXEC
         a HELLO
         a HELLO 3
         a HELLO 3 AUTH default wrong
         a HELLO 4
         a HELLO x
         a HELLO 3 WHAT
         a AUTH wrong
         a AUTH
         a AUTH other secret
         a AUTH a b c
         a AUTH default secret
         a SET x 1
         a RESET
         a GET x
         a AUTH secret
         a GET x
         a AUTH wrong
         a GET x
         a HELLO 3 SETNAME {a b}
         ~ a HELLO 3 AUTH default secret SETNAME me
         a CLIENT GETNAME
         b QUIT
         b",
    );
    assert_alike(
        "a AUTH any
         a AUTH default any
         a AUTH other any
         a HELLO 9
         ~ a HELLO 2 AUTH default any
         a PING",
    );
}

#[test]
fn commands_that_wait() {
    assert_alike(
        "a BLPOP
         a BLPOP k
         a BLPOP k x
         a BLPOP k -1
         a BLMOVE k l LEFT MIDDLE 0
         a BLMOVE k l LEFT LEFT x
         a BLMOVE k l LEFT NOWHERE x
         a BRPOPLPUSH k l -0.1
         a BLMPOP x 1 k LEFT
         a BLMPOP 0 0 k LEFT
         a BLMPOP 0 1 k MIDDLE
         a BLMPOP 0 1 k LEFT COUNT 0
         a BLMPOP 0 3 k LEFT
         a BZMPOP 0 1 k LEFT
         a BZPOPMIN k x
         a BLPOP k l m 0.01
         a BLMOVE k l LEFT RIGHT 0.01
         a BRPOPLPUSH k l 0.01
         a BLMPOP 0.01 2 k l RIGHT COUNT 2
         a BZPOPMIN k l 0.01
         a BZMPOP 0.01 2 k l MIN
         a RPUSH k a b c d e
         a BLPOP m k l 0
         a BRPOP k m 0
         a BLMOVE k l LEFT RIGHT 0
         a BRPOPLPUSH k l 0
         a LRANGE l 0 -1
         a BLMPOP 0 2 m l LEFT COUNT 5
         a SET s string
         a BLPOP s k 0
         a BLPOP k s 0
         a BLPOP m s 0
         a BLMOVE m s LEFT LEFT 0.01
         a RPUSH k a
         a BLMOVE k s LEFT LEFT 0.01
         a ZADD z 1 a 2.5 b 3 c 4 d
         a BZPOPMIN y z 0
         a BZPOPMAX z y 0
         a BZMPOP 0 2 y z MAX COUNT 5
         a BZPOPMIN s 0
         a BZPOPMIN k 0
         a DEL k
         a MULTI
         a BLPOP k l 0
         a BLMOVE k l LEFT LEFT 0
         a BRPOPLPUSH k l 0
         a BZPOPMIN k 0
         a BLMPOP 0 2 k l LEFT
         a BLPOP k x
         a RPUSH k 1 2
         a BLPOP m k 0
         a EXEC
         a DEL k
         a 0 BLPOP k 0
         ? 1
         b CLIENT UNBLOCK 999
         b RPUSH k first second
         a
         b LRANGE k 0 -1
         b DEL k
         a 0 BLPOP k l m 0
         ? 1
         b RPUSH l one
         a
         a 0 BLMOVE k l LEFT RIGHT 0
         ? 1
         c 0 BLPOP l 0
         ? 2
         b SET k string
         b DEL k
         b LPUSH k moved
         a
         c
         a 0 BLPOP k 0
         ? 1
         b MULTI
         b LPUSH k gone
         b DEL k
         b LPUSH k 1
         b LPUSH k 2
         b EXEC
         a
         b LRANGE k 0 -1
         b DEL k
         a 0 BLPOP k 0
         ? 1
         b RPUSH other x
         b RENAME other k
         a
         a 0 BLPOP k 0
         ? 1
         b RPUSH other 3 1 2
         b SORT other STORE k
         a
         b DEL k
         a 0 BLPOP k 0
         ? 1
         b COPY other k
         a
         b DEL k
         a 0 BZPOPMIN k 0
         ? 1
         b RPUSH k x
         b DEL k
         b ZADD k 3 c
         a
         a 0 BZPOPMAX k 0
         ? 1
         b ZADD x 1 a 2 b
         b ZUNIONSTORE k 1 x
         a
         b DEL k
         a 0 BLPOP k 0
         ? 1
         a 0 PING
         a 0 BLPOP k 0
         b RPUSH k 1 2
         a
         a
         a
         a 0 CLIENT REPLY SKIP
         a 0 BLPOP k 0
         ? 1
         b RPUSH k 1
         a PING
         ~ a HELLO 3
         a BLPOP k 0.01
         a BLMOVE k l LEFT LEFT 0.01
         b RPUSH k 1
         a BLPOP k 0
         b ZADD z 1.5 m
         a BZPOPMIN z 0
         a 0 BZMPOP 0 1 z MIN
         ? 1
         b ZADD z 2.5 m
         a
         a MULTI
         a BLMOVE k l LEFT LEFT 0
         a BLPOP k 0
         a EXEC",
    );
}

#[test]
fn subcommands() {
    assert_alike(
        "a CONFIG
         a CONFIG nope
         a CONFIG GET
         a CONFIG SET maxmemory
         a CONFIG SET maxmemory 0 maxmemory-policy
         a CONFIG REWRITE now
         a CONFIG HELP me
         a CLIENT
         a CLIENT NOPE
         a CLIENT ID 1
         a CLIENT SETNAME
         a CLIENT PAUSE 1 WRITE x
         a CLIENT UNBLOCK 1 TIMEOUT x
         a CLIENT KILL a b c
         a CLIENT REPLY
         a OBJECT
         a OBJECT nope k
         a OBJECT ENCODING
         a OBJECT HELP me
         a OBJECT ENCODING nosuch
         a XGROUP
         a XGROUP NOPE k
         a XGROUP CREATE k
         a XGROUP DESTROY k
         a XINFO
         a XINFO NOPE k
         a XINFO STREAM
         a XINFO STREAM k FULL COUNT
         a XINFO HELP me
         a MEMORY
         a MEMORY NOPE
         a MEMORY USAGE
         a MEMORY USAGE nosuch x
         a MEMORY USAGE nosuch SAMPLES x
         a MEMORY USAGE nosuch SAMPLES -1
         a MEMORY STATS x
         a SLOWLOG
         a SLOWLOG NOPE
         a SLOWLOG GET 1 2
         a SLOWLOG GET -2
         a SLOWLOG GET x
         a SLOWLOG LEN 1
         a LATENCY
         a LATENCY NOPE
         a LATENCY HISTORY
         a LATENCY GRAPH
         a LATENCY LATEST x
         a PUBSUB
         a PUBSUB NOPE
         a PUBSUB CHANNELS a b
         a PUBSUB NUMPAT x
         a CLUSTER
         a CLUSTER NOPE
         a CLUSTER KEYSLOT
         a CLUSTER KEYSLOT k
         a CLUSTER INFO
         a COMMAND NOPE
         a COMMAND COUNT x
         a COMMAND GETKEYS
         a COMMAND GETKEYSANDFLAGS
         a COMMAND GETKEYS nosuch k
         a COMMAND GETKEYS get k x
         a COMMAND GETKEYS config get x
         a COMMAND GETKEYS config nope x
         a COMMAND GETKEYS memory usage k
         a COMMAND GETKEYS object encoding k
         a COMMAND GETKEYS object encoding k x
         a COMMAND GETKEYS xgroup create k g $
         a COMMAND GETKEYS zinter 0 a b
         a COMMAND GETKEYS zinter 2 a b
         a COMMAND GETKEYS mset a 1 b 2
         a COMMAND LIST FILTERBY
         a COMMAND LIST FILTERBY PATTERN
         a COMMAND LIST FILTERBY NOPE x
         a COMMAND LIST FILTERBY MODULE x
         a COMMAND LIST FILTERBY PATTERN nosuch*
         a COMMAND LIST FILTERBY ACLCAT nosuch
         a COMMAND INFO nosuch config|nosuch nosuch|get
         a COMMAND DOCS nosuch config|nosuch
         a MULTI
         a CONFIG NOPE
         a EXEC
         a MULTI
         a OBJECT ENCODING
         a EXEC
         a MULTI
         a XGROUP NOPE k
         a EXEC",
    );
}

#[test]
fn every_command_of_redis_is_here_and_alike_or_has_its_reason() {
    let Some(redis) = Redis::start(&[]) else { return };
    let kevy = Kevy::start(1, &[]);
    let (theirs, ours) = (commands(redis.port), commands(kevy.port));
    assert!(theirs.len() > 300, "{}", theirs.len());
    for (name, told) in &theirs {
        let verb = name.split('|').next().unwrap_or_default();
        let is_absent = [name.as_str(), verb].iter().any(|name| absent::find(name.as_bytes()).is_some());
        match ours.get(name) {
            _ if is_absent => assert!(!ours.contains_key(name), "{name} is there, and said not to be"),
            None => panic!("{name} is missing, and nothing says why"),
            Some(ours) if DIFFERENT.contains(&name.as_str()) => assert_ne!(ours, told, "{name} is the same now"),
            Some(ours) => assert_eq!(ours, told, "{name}"),
        }
    }
}

/// Commands that differ from those of Redis 7.0 in what is compared.
const DIFFERENT: &[&str] = &[
    // They take what later releases have.
    "command|getkeys",
    "command|getkeysandflags",
    "zrank",
    "zrevrank",
    // Channels are no keys here.
    "spublish",
    "ssubscribe",
    "sunsubscribe",
    // Keys that patterns name are not told of.
    "sort_ro",
    // It waits.
    "wait",
];

/// Of each command and subcommand: arity, places of keys, and those flags that clients go by.
fn commands(port: u16) -> BTreeMap<String, (i64, [i64; 3], BTreeSet<String>)> {
    let url = format!("redis://127.0.0.1:{port}");
    let mut connection = redis::Client::open(url).and_then(|client| client.get_connection()).expect("connects");
    let told: Vec<redis::Value> = redis::cmd("COMMAND").query(&mut connection).expect("COMMAND");
    let mut commands = BTreeMap::new();
    told.iter().for_each(|told| note_command(told, &mut commands));
    commands
}

fn note_command(told: &redis::Value, commands: &mut BTreeMap<String, (i64, [i64; 3], BTreeSet<String>)>) {
    let told: Vec<redis::Value> = told_as(told);
    let number = |at: usize| told_as::<i64>(&told[at]);
    let flags: BTreeSet<String> = told_as(&told[2]);
    let compared = ["write", "readonly", "denyoom", "fast", "admin", "blocking", "pubsub", "movablekeys", "no_auth"];
    let flags = flags.into_iter().filter(|flag| compared.contains(&flag.as_str())).collect();
    commands.insert(told_as(&told[0]), (number(1), [3, 4, 5].map(number), flags));
    let subcommands: Vec<redis::Value> = told_as(&told[9]);
    subcommands.iter().for_each(|told| note_command(told, commands));
}

fn told_as<T: redis::FromRedisValue>(told: &redis::Value) -> T {
    redis::from_redis_value(told.clone()).expect("what COMMAND tells")
}

#[test]
fn what_operators_and_tests_ask() {
    assert_alike(
        "a SELECT x
         a SELECT 0
         a WAIT 0 x
         a WAIT x 0
         a WAIT 0 -1
         a LATENCY GRAPH command
         a LATENCY HISTORY command
         a LATENCY RESET command
         a LATENCY HISTOGRAM nosuch
         a DEBUG
         a DEBUG NOSUCH
         a DEBUG SLEEP
         a DEBUG ERROR
         a DEBUG OBJECT nosuch
         a DEBUG PROTOCOL string
         a DEBUG PROTOCOL integer
         a DEBUG PROTOCOL double
         a DEBUG PROTOCOL null
         a DEBUG PROTOCOL array
         a DEBUG PROTOCOL set
         a DEBUG PROTOCOL verbatim
         a DEBUG PROTOCOL true
         a DEBUG PROTOCOL false
         a DEBUG PROTOCOL push
         a CONFIG GET latency-tracking
         a CONFIG GET latency-tracking-info-percentiles
         a CONFIG SET latency-tracking yes
         a CONFIG GET nosuch
         a CONFIG SET nosuch 1
         a CONFIG SET timeout 0 timeout 1
         a CONFIG REWRITE
         a SLOWLOG RESET
         a SLOWLOG LEN
         a SLOWLOG GET 0
         a HELLO 4
         a HELLO x
         a HELLO 2 NOPE
         a HELLO 2 SETNAME
         a AUTH
         a AUTH x
         a SADD i 3 1 2
         a OBJECT ENCODING i
         a ZADD z 1 a 2 b
         a OBJECT ENCODING z
         a ZRANGE z 0 1 BYSCORE BYLEX
         a ZRANGE z 0 1 REV REV
         a ZRANGE z 0 1 BYSCORE BYSCORE
         a ZRANGE z 2 1 BYSCORE REV WITHSCORES
         a DEL i z
         a DEBUG SET-ACTIVE-EXPIRE 0
         a SET k v PX 1
         a DEBUG SLEEP 0.3
         a DBSIZE
         a GET k
         a DBSIZE
         a DEBUG SET-ACTIVE-EXPIRE 1
         ~ b HELLO 3
         b DEBUG PROTOCOL double
         b DEBUG PROTOCOL null
         b DEBUG PROTOCOL set
         b DEBUG PROTOCOL map
         b DEBUG PROTOCOL verbatim
         b DEBUG PROTOCOL true
         c POST / HTTP/1.1
         d Host: localhost
         e PING",
    );
}

#[test]
fn hits_and_misses_are_counted_as_redis_does() {
    let Some(redis) = Redis::start(&[]) else { return };
    let script = "SET s v;GET s;GET nosuch;MGET s nosuch x;EXISTS s nosuch;TTL s;TYPE nosuch;STRLEN s;GETRANGE s 0 1;\
                  LPUSH l a;LRANGE l 0 -1;LLEN nosuch;LINDEX l 0;HSET h a 1;HGET h a;HGETALL h;HLEN nosuch;SADD e a;SMEMBERS e;\
                  SISMEMBER e a;ZADD z 1 a;ZRANGE z 0 -1;ZSCORE z a;ZCARD nosuch;XADD x 1-1 a b;XLEN x;XRANGE x - +;SET s w;DEL s;\
                  GETBIT s 1;OBJECT ENCODING l;DUMP nosuch";
    let counted = |port: u16| {
        let mut talk = Talk::new(port);
        script.split(';').for_each(|command| _ = talk.line(&format!("a {}", command.trim())));
        let info = talk.line("a INFO stats");
        let number = |name: &str| -> u64 {
            let (_, rest) = info.split_once(name).expect(name);
            rest.split(' ').next().and_then(|number| number.parse().ok()).expect(name)
        };
        (number("keyspace_hits:"), number("keyspace_misses:"), number("total_net_input_bytes:") > 300)
    };
    let expected = counted(redis.port);
    for shards in [1, 3] {
        assert_eq!(counted(Kevy::start(shards, &[]).port), expected, "{shards} shards");
    }
}
