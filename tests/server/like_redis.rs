//! The same words to `kevy` and to the installed `redis-server`: the replies must be the same, byte by byte. Skipped where there
//! is no `redis-server`.
//!
//! ```text
//! a SET key 1          on connection a, one reply is read
//! b 2 SUBSCRIBE x y    on connection b, two replies are read
//! b 1                  nothing is sent, one more reply is read
//! ~ a HELLO 3          the replies may differ
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
    let Some(redis) = Redis::start(&["--enable-debug-command", "yes"]) else { return };
    let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut theirs = Talk::new(redis.port);
    let expected: Vec<String> = lines.iter().map(|line| theirs.line(line.trim_start_matches("~ "))).collect();
    for shards in [1, 3] {
        let kevy = Kevy::primary(shards);
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
