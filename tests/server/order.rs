//! What a client is told and what replicas have been sent: a reply never overtakes its own frame, and a reader of a replica
//! sees what its socket holds. Loopback delivers within the send, so both are certain, not likely.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::compare::await_caught_up;
use crate::kevy::Kevy;

const ROUNDS: usize = 500;

#[test]
fn a_reply_does_not_overtake_its_frame() {
    for shards in [1, 2] {
        let primary = Kevy::primary(shards);
        // Two of each shard: the second link must not be served later than the first.
        let mut followers: Vec<[Follower; 2]> = (0..shards)
            .map(|shard| ["first", "second"].map(|id| Follower::attach(primary.port_base + shard, id)))
            .collect();
        let mut client = primary.connect();
        for round in 0..ROUNDS {
            let value = format!("<{round}>");
            redis::cmd("SET").arg(format!("key:{round}")).arg(&value).exec(&mut client).expect("SET");
            let have = |pair: &mut [Follower; 2]| pair.each_mut().map(|follower| follower.has(&value));
            let sent = followers.iter_mut().map(have).filter(|have| *have == [true, true]).count();
            assert_eq!(sent, 1, "{shards} shards: the reply to round {round} came before its frame was sent");
        }
    }
}

#[test]
fn a_reader_of_a_replica_sees_what_its_primary_said_is_done() {
    let primary = Kevy::primary(1);
    let replica = Kevy::replica(1, primary.port_base);
    await_caught_up(&primary, &replica);
    let (mut writer, mut reader) = (primary.connect(), replica.connect());
    for round in 0..ROUNDS {
        redis::cmd("SET").arg("key").arg(round).exec(&mut writer).expect("SET");
        let read: Option<usize> = redis::cmd("GET").arg("key").query(&mut reader).expect("GET");
        assert_eq!(read, Some(round), "the replica answered before it applied what its socket held");
    }
}

/// A peer of the oldest form: nothing but frames, from the window.
struct Follower {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Follower {
    fn attach(port: u16, id: &str) -> Follower {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the replication port");
        let hello = format!("*5\r\n$9\r\nREPLICATE\r\n$4\r\nFROM\r\n$1\r\n0\r\n$2\r\nID\r\n${}\r\n{id}\r\n", id.len());
        socket.write_all(hello.as_bytes()).expect("a greeting");
        let mut answer = [0; b"+ACK 0\r\n".len()];
        socket.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"+ACK 0\r\n");
        socket.set_nonblocking(true).expect("a socket");
        Follower { socket, received: Vec::new() }
    }

    /// Whether `text` is among what has arrived by now.
    fn has(&mut self, text: &str) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => panic!("the primary closed: {}", String::from_utf8_lossy(&self.received)),
                Ok(len) => self.received.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let found = String::from_utf8_lossy(&self.received).contains(text);
        if found {
            self.received.clear();
        }
        found
    }
}
