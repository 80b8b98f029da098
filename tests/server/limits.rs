//! Clients that ask too much, do not read, or say nothing: they go, the log says why, and the others notice nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::kevy::Kevy;
use crate::wait_until;

#[test]
fn a_command_over_the_query_buffer_limit_ends_its_client_alone() {
    let node = Kevy::start(2, &["--role", "standalone", "--client-query-buffer-limit", "1mb"]);
    let mut other = node.connect();
    let mut client = connect(&node);
    client.write_all(b"*2\r\n$3\r\nGET\r\n$100000000\r\n").expect("it is open");
    let chunk = vec![b'x'; 256 << 10];
    let sent = (0..200).take_while(|_| client.write_all(&chunk).is_ok()).count();
    assert!(sent < 200, "it takes no 50 MB");
    wait_until("the log says why", || node.log().contains("over client_query_buffer_limit"));
    assert_eq!(redis::cmd("PING").query::<String>(&mut other).expect("the others go on"), "PONG");
    assert!(node.peak_memory() < 100 << 20, "{} bytes", node.peak_memory());
    // What fits is served, also where much of it comes at once.
    let pings = b"*1\r\n$4\r\nPING\r\n".repeat(200_000);
    let mut many = connect(&node);
    let mut writer = many.try_clone().expect("a socket");
    let write = std::thread::spawn(move || writer.write_all(&pings));
    let mut answers = vec![0; 7 * 200_000];
    many.read_exact(&mut answers).expect("all are answered");
    assert!(write.join().expect("no panic").is_ok());
}

#[test]
fn a_client_that_does_not_read_its_replies_goes_when_there_is_a_limit() {
    for (limit, seconds) in [("normal 1mb 0 0", 0), ("normal 0 64kb 1", 1)] {
        let node = Kevy::start(2, &["--role", "standalone", "--client-output-buffer-limit", limit]);
        let mut other = node.connect();
        redis::cmd("SET").arg("large").arg(vec![b'x'; 1 << 20]).exec(&mut other).expect("SET");
        let mut client = connect(&node);
        let gets = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(16);
        client.write_all(&gets).expect("it is open");
        wait_until("the log says why", || node.log().contains("it does not read its replies"));
        ends(&mut client);
        assert_eq!(redis::cmd("PING").query::<String>(&mut other).expect("the others go on"), "PONG");
        wait_until("it is gone", || node.info("connected_clients").as_deref() == Some("2"));
        assert!(node.peak_memory() < 200 << 20, "after {seconds} s: {} bytes", node.peak_memory());
    }
}

#[test]
fn replies_are_not_gathered_beyond_what_a_client_may_leave_unread() {
    let large = vec![b'x'; 16 << 20];
    for (shards, limit) in [(1, Some("normal 32mb 0 0")), (3, Some("normal 32mb 0 0")), (1, None), (3, None)] {
        let flags = limit.map_or(vec![], |limit| vec!["--client-output-buffer-limit", limit]);
        let node = Kevy::start(shards, &[&["--role", "standalone"], &flags[..]].concat());
        let mut other = node.connect();
        for key in ["a", "b", "c", "d"] {
            redis::cmd("SET").arg(key).arg(&large).exec(&mut other).expect("SET");
        }
        let before = node.peak_memory();
        // Each shard may hold a reply or two beyond its share, in memory that is free again and not given back yet; all would be 1 GiB.
        let most = (50 + 75 * u64::from(shards)) << 20;
        for greeting in ["", "MULTI\r\n"] {
            // Whoever has no limit may ask for all of a transaction at once.
            if !greeting.is_empty() && limit.is_none() {
                continue;
            }
            let mut client = connect(&node);
            let closed = node.log().matches("it does not read its replies").count();
            let script = [greeting, &"GET a\r\nGET b\r\nGET c\r\nGET d\r\n".repeat(16)].concat();
            client.write_all(script.as_bytes()).expect("it is open");
            if !greeting.is_empty() {
                client.write_all(b"INCR executed\r\nEXEC\r\n").expect("it is open");
            }
            if limit.is_some() {
                wait_until("the log says why", || node.log().matches("it does not read its replies").count() > closed);
                ends(&mut client);
            } else {
                // What it does not read waits in the socket, and one reply beside it; then it reads.
                assert_eq!(redis::cmd("PING").query::<String>(&mut other).expect("the others go on"), "PONG");
                let one = [b"$16777216\r\n", &large[..], b"\r\n"].concat();
                let mut answer = vec![0; one.len()];
                for number in 0..64 {
                    client.read_exact(&mut answer).expect("all are answered");
                    assert!(answer == one, "number {number}");
                }
            }
            let grown = node.peak_memory() - before;
            assert!(grown < most, "{shards} shards, {limit:?}, {greeting:?}: {before} bytes, then {grown} more");
        }
        let executed: Option<u64> = redis::cmd("GET").arg("executed").query(&mut other).expect("GET");
        assert_eq!(executed, limit.map(|_| 1), "a transaction is executed whole");
    }
}

#[test]
fn a_pipeline_whose_replies_are_many_keeps_its_order_over_shards() {
    for shards in [1, 3] {
        let node = Kevy::start(shards, &["--role", "standalone"]);
        let mut pipe = redis::pipe();
        for number in 0..9 {
            pipe.cmd("SET").arg(format!("large:{number}")).arg(format!("{number}").repeat(700_000)).ignore();
        }
        pipe.query::<()>(&mut node.connect()).expect("SET");
        // Every shard has large replies and counters, and a command of several shards now and then.
        let mut pipe = redis::pipe();
        let mut expected = Vec::new();
        for round in 0..300_i64 {
            pipe.cmd("INCR").arg(format!("count:{}", round % 7));
            expected.push(redis::Value::Int(round / 7 + 1));
            let number = round * 5 % 9;
            pipe.cmd("GET").arg(format!("large:{number}"));
            expected.push(redis::Value::BulkString(format!("{number}").repeat(700_000).into_bytes()));
            if round % 11 == 0 {
                pipe.cmd("EXISTS").arg("large:1").arg("large:2").arg("large:3");
                expected.push(redis::Value::Int(3));
            }
        }
        let answers: Vec<redis::Value> = pipe.query(&mut node.connect()).expect("all are answered");
        assert_eq!(answers.len(), expected.len());
        let wrong = answers.iter().zip(&expected).position(|(answer, expected)| answer != expected);
        assert_eq!(wrong, None, "{shards} shards");
        assert!(node.peak_memory() < 150 << 20, "{} bytes", node.peak_memory());
    }
}

#[test]
fn those_who_listen_and_do_not_read_go() {
    let node = Kevy::start(2, &["--role", "standalone", "--client-output-buffer-limit", "pubsub 1mb 0 0"]);
    let mut other = node.connect();
    let message = vec![b'm'; 64 << 10];
    for (number, greeting) in [&b"SUBSCRIBE news\r\n"[..], b"PSUBSCRIBE n*\r\n", b"MONITOR\r\n"].iter().enumerate() {
        let mut client = connect(&node);
        client.write_all(greeting).expect("it is open");
        let mut first = [0; 4];
        client.read_exact(&mut first).expect("it is answered");
        let closed = || node.log().matches("it does not read what it subscribed to").count();
        wait_until("the log says why", || {
            redis::cmd("PUBLISH").arg("news").arg(&message).exec(&mut other).expect("publishing goes on");
            closed() > number
        });
        wait_until("it is gone", || node.info("connected_clients").as_deref() == Some("2"));
    }
    assert!(node.peak_memory() < 200 << 20, "{} bytes", node.peak_memory());
    assert_eq!(redis::cmd("PUBLISH").arg("news").arg("x").query::<u64>(&mut other).expect("nobody listens"), 0);
}

#[test]
fn silent_clients_go_and_those_who_listen_stay() {
    let node = Kevy::start(2, &["--role", "standalone", "--timeout", "1"]);
    let mut silent = connect(&node);
    let mut listens = connect(&node);
    listens.write_all(b"SUBSCRIBE news\r\n").expect("it is open");
    let mut waits = connect(&node);
    waits.write_all(b"WAIT 1 4000\r\nPING\r\n").expect("it is open");
    ends(&mut silent);
    assert!(node.log().contains("silent for longer than timeout"), "{}", node.log());
    let mut answer = [0; 11];
    waits.read_exact(&mut answer).expect("whoever waits is not silent");
    assert_eq!(&answer, b":0\r\n+PONG\r\n");
    assert_eq!(node.ask::<u64>(&["PUBLISH", "news", "x"]).expect("PUBLISH"), 1);
}

fn connect(node: &Kevy) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    stream.set_write_timeout(Some(Duration::from_secs(60))).expect("a socket");
    stream
}

/// Reads until the node closes the connection.
fn ends(client: &mut TcpStream) {
    let mut bytes = vec![0; 1 << 20];
    loop {
        match client.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("it is not closed: {error}"),
        }
    }
}
