//! What a person, a client or a peer does wrong: a clear line, an exit code, and nothing else harmed.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::kevy::{Kevy, command, free_ports, listen};
use crate::relay::Relay;
use crate::wait_until;

#[test]
fn bad_usage_exits_2_with_one_line() {
    for (args, line) in [
        (&["--port", "0"][..], "--port \"0\": must be a whole number from 1 to 65535"),
        (&["serve", "--role", "leader"], "--role \"leader\": must be primary, replica or standalone"),
        (&["--prot", "1"], "unexpected argument '--prot' found; see kevy --help"),
        (
            &["--port", "60000", "--shards", "2"],
            "listen_port_base = \"0 (port + 10000 = 70000)\": with 2 shards it must be at most 65533",
        ),
        (&["--log", "kevy=loudly"], LOG),
        (&["--log", "loudly"], LOG),
    ] {
        let (code, said) = refused(args);
        assert_eq!(code, Some(2), "{args:?}");
        assert!(said.starts_with("kevy: ") && said.ends_with(line), "{args:?}: {said}");
    }
}

#[test]
fn a_bad_file_exits_2_with_one_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("kevy.toml");
    fs::write(&file, "[replication]\nheartbeat = 5\n").expect("a file");
    let file = file.to_str().expect("a plain path");
    let (code, line) = refused(&["--config", file]);
    assert_eq!(code, Some(2));
    let expected = format!("kevy: {file}: heartbeat = \"5\": unknown key; there are role, listen_port_base, ");
    assert!(line.starts_with(&expected) && !line.contains('\n'), "{line}");
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [["--help"], ["--version"]] {
        let output = command(&args).output().expect("kevy runs");
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("kevy"), "{args:?}");
    }
}

#[test]
fn a_port_that_is_taken_exits_2() {
    let port = free_ports(3);
    for taken in [port, port + 2] {
        let _holder = listen(taken);
        let (port, base) = (port.to_string(), (port + 1).to_string());
        let args = ["--port", &port, "--listen-port-base", &base, "--shards", "2", "--cpus", "off"];
        let (code, line) = refused(&args);
        assert_eq!(code, Some(2), "{line}");
        assert!(line.contains(&taken.to_string()) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn a_second_kevy_on_the_same_ports_exits_2() {
    let first = Kevy::primary(1);
    let (port, free) = (first.port.to_string(), free_ports(2));
    let (base, other) = (free.to_string(), (free + 1).to_string());
    let (code, line) = refused(&["--port", &port, "--listen-port-base", &base, "--shards", "1", "--cpus", "off"]);
    assert_eq!(code, Some(2), "{line}");
    let base = first.port_base.to_string();
    let (code, line) = refused(&["--port", &other, "--listen-port-base", &base, "--shards", "1", "--cpus", "off"]);
    assert_eq!(code, Some(2), "{line}");
    assert_eq!(first.ask::<String>(&["PING"]).expect("the first goes on"), "PONG");
}

#[test]
fn replicaof_to_itself_is_an_error() {
    let node = Kevy::primary(2);
    node.ask::<()>(&["SET", "key", "value"]).expect("SET");
    let port = node.port.to_string();
    node.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect_err("a node cannot follow itself");
    assert_eq!(node.info("role").as_deref(), Some("master"));
    assert_eq!(node.ask::<String>(&["GET", "key"]).expect("GET"), "value");
}

#[test]
fn bad_bytes_from_a_client_end_that_connection_alone() {
    let node = Kevy::primary(2);
    let mut other = node.connect();
    for bad in [
        &b"*1\r\n$-5\r\n"[..],
        b"*99999999\r\n",
        b"*2\r\n$3\r\nGET\r\n$9999999999\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$4\r\nPINGxx",
    ] {
        let answer = talk(node.port, bad);
        assert!(
            answer.starts_with(b"-ERR Protocol error"),
            "{:?}: {:?}",
            bad.escape_ascii().to_string(),
            answer.escape_ascii().to_string()
        );
        assert_eq!(redis::cmd("PING").query::<String>(&mut other).expect("the others go on"), "PONG");
    }
}

#[test]
fn what_a_browser_sends_is_not_executed_line_by_line() {
    let kevy = Kevy::primary(2);
    for request in ["POST / HTTP/1.1\r\nSET key sent\r\n", "get / HTTP/1.1\r\nHost: here\r\nSET key sent\r\n"] {
        let answer = String::from_utf8(talk(kevy.port, request.as_bytes())).expect("text");
        assert!(!answer.contains("OK"), "{answer}");
    }
    assert_eq!(kevy.ask::<u64>(&["EXISTS", "key"]), Ok(0));
    assert_eq!(kevy.log().matches("it speaks HTTP").count(), 2, "{}", kevy.log());
}

#[test]
fn bad_bytes_on_a_replication_port_end_that_link_alone() {
    let primary = Kevy::primary(1);
    let replica = Kevy::replica(1, primary.port_base);
    for bad in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"*1\r\n$4\r\nPING\r\n", b"\r\n\r\n\r\n", &[0xff; 8_192]] {
        let answer = talk(primary.port_base, bad);
        assert!(answer.is_empty() || answer.starts_with(b"-"), "{:?}", answer.escape_ascii().to_string());
    }
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    crate::compare::assert_becomes_equal(&primary, &replica);
}

#[test]
fn a_replica_refuses_to_be_followed() {
    let primary = Kevy::primary(1);
    for shards in [1, 2] {
        let replica = Kevy::replica(shards, primary.port_base);
        primary.ask::<()>(&["SET", "key", &shards.to_string()]).expect("SET");
        crate::compare::await_caught_up(&primary, &replica);
        for port in replica.port_base..replica.port_base + shards {
            for request in [&b"REPLICATE FROM 0 ID nosy\r\n"[..], b"REPLICATE FROM 7 3 ID nosy\r\n"] {
                let answer = talk(port, request);
                let shown = answer.escape_ascii().to_string();
                let line = answer.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("{shown}"));
                assert!(line.starts_with(b"-") && !line.contains(&b'\n'), "{shown}");
            }
        }
        let info: String = replica.ask(&["INFO", "replication"]).expect("INFO");
        assert!(!info.contains("backlog") && !info.contains("repl_port_base"), "a replica records nothing\n{info}");
    }
}

#[test]
fn an_upstream_that_refuses_or_talks_nonsense_is_tried_again() {
    let huge = [b"$999999999999\r\n".as_slice(), &[b'x'; 1 << 20]].concat();
    for answer in [&b""[..], b"-ERR go away\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0xff; 100_000], &huge] {
        let port = free_ports(1);
        let listener = listen(port);
        let dials = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dials);
        let bytes = answer.to_vec();
        // It lives as long as the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::SeqCst);
                // The replica may close before all of it is out.
                let _ = (&stream).write_all(&bytes);
            }
        });
        // The second never asks how many shards there are.
        for flags in [&[][..], &["--upstream-shards", "1"]] {
            let replica = Kevy::replica_with(2, port, flags);
            let before = dials.load(Ordering::SeqCst);
            wait_until("it is dialled again and again", || dials.load(Ordering::SeqCst) > before + 3);
            wait_until("INFO says why", || replica.info("master_link_error").is_some());
            assert_eq!(replica.info("master_link_status").as_deref(), Some("down"));
            assert!(replica.peak_memory() < 256 << 20, "{} MiB", replica.peak_memory() >> 20);
        }
    }
}

#[test]
fn a_stream_that_announces_a_terabyte_ends_and_goes_on() {
    let primary = Kevy::primary(1);
    let relay = Relay::start(primary.port_base, 1);
    let replica = Kevy::replica(1, relay.port_base);
    primary.ask::<()>(&["SET", "key", "0"]).expect("SET");
    crate::compare::await_caught_up(&primary, &replica);
    let at = primary.number("master_repl_offset");
    let before = replica.peak_memory();
    for (n, bad) in [
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1099511627776\r\n".to_owned(),
        "*1099511627776\r\n".to_owned(),
        format!("+SLOTS 0 1 {at} 1099511627776\r\n"),
        format!("+PIECE 0 {at} 1099511627776\r\n"),
        "+GROUP 1099511627776\r\n".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let connections = relay.connections();
        relay.inject(bad.as_bytes());
        relay.inject(&vec![b'x'; 1 << 20]);
        wait_until("the replica ends that link, and dials again", || relay.connections() > connections);
        primary.ask::<()>(&["SET", "key", &n.to_string()]).expect("SET");
        // What is injected has no place in the stream: what comes next is where it was.
        crate::compare::assert_becomes_equal(&primary, &replica);
        primary.ask::<()>(&["DEL", "key"]).expect("DEL");
        primary.ask::<()>(&["SET", "key", "0"]).expect("SET");
        crate::compare::await_caught_up(&primary, &replica);
    }
    assert_eq!(primary.number("sync_full"), 1, "it resumed each time");
    let grown = replica.peak_memory() - before;
    assert!(grown < 32 << 20, "{} MiB", grown >> 20);
}

/// Connections to `port` that say nothing.
fn silent(port: u16, count: usize) -> Vec<TcpStream> {
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the kernel takes it");
    (0..count).map(|_| connect()).collect()
}

#[test]
fn ten_thousand_connections_that_never_speak_cost_little() {
    let primary = Kevy::start(2, &["--maxclients", "6000", "--link-timeout-ms", "3000"]);
    let replica = Kevy::replica(2, primary.port_base);
    let mut client = primary.connect();
    redis::cmd("SET").arg("key").arg(1).exec(&mut client).expect("SET");
    crate::compare::await_caught_up(&primary, &replica);
    let before = primary.peak_memory();
    let connections = [silent(primary.port, 5_000), silent(primary.port_base, 5_000)];
    wait_until("all are accepted", || primary.number("connected_clients") > 5_000);
    redis::cmd("SET").arg("key").arg(2).exec(&mut client).expect("SET");
    crate::compare::assert_becomes_equal(&primary, &replica);
    let grown = primary.peak_memory() - before;
    eprintln!("10,000 silent connections: {} MiB", grown >> 20);
    assert!(grown < 256 << 20, "{} MiB", grown >> 20);
    assert!(primary.log().contains("too many connections on the replication port say nothing"));
    let mut last = &connections[1][0];
    last.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
    assert!(matches!(last.read(&mut [0]), Ok(0) | Err(_)), "who says nothing on a replication port is let go");
    assert_eq!(primary.number("connected_slaves"), 1);
    drop(connections);
    wait_until("all are gone", || primary.number("connected_clients") < 10 && primary.descriptors() < 200);
    crate::compare::assert_becomes_equal(&primary, &replica);
}

#[test]
fn a_node_without_free_descriptors_says_so_and_recovers() {
    let primary = Kevy::start(1, &["--link-timeout-ms", "60000"]);
    let relay = Relay::start(primary.port_base, 1);
    let replica = Kevy::replica(1, relay.port_base);
    let mut clients = [&primary, &replica].map(Kevy::connect);
    redis::cmd("SET").arg("key").arg(1).exec(&mut clients[0]).expect("SET");
    crate::compare::await_caught_up(&primary, &replica);
    for node in [&primary, &replica] {
        node.limit_descriptors(node.descriptors() + 4);
    }
    let held = [silent(primary.port, 12), silent(replica.port, 12)];
    for node in [&primary, &replica] {
        wait_until("it says so", || node.log().contains("cannot accept now; trying again"));
    }
    // Who is there already is served, and nobody spins.
    let before = [&primary, &replica].map(Kevy::cpu);
    let began = std::time::Instant::now();
    redis::cmd("SET").arg("key").arg(2).exec(&mut clients[0]).expect("SET");
    let mut applied = || redis::cmd("GET").arg("key").query::<u64>(&mut clients[1]).expect("GET") == 2;
    wait_until("the link goes on", &mut applied);
    relay.cut();
    relay.heal();
    wait_until("the replica cannot dial", || replica.log().contains("Too many open files (os error 24)"));
    thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
    for (node, before) in [&primary, &replica].into_iter().zip(before) {
        let used = node.cpu() - before;
        assert!(used < began.elapsed() / 2, "{used:?} of {:?}", began.elapsed());
    }
    redis::cmd("SET").arg("key").arg(3).exec(&mut clients[0]).expect("SET");
    drop(held);
    crate::compare::assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("sync_full"), 1, "it resumed");
}

#[test]
fn a_replica_without_free_descriptors_says_so_and_goes_on_with_its_sync_later() {
    let primary = Kevy::primary(2);
    let mut client = primary.connect();
    let mut write = |round: u64| {
        let mut pipe = redis::pipe();
        (0..4_000).for_each(|key| _ = pipe.cmd("SET").arg(key).arg(vec![b'v'; 2_000 + round as usize]).ignore());
        pipe.exec(&mut client).expect("SET");
    };
    write(0);
    let relay = Relay::start(primary.port_base, 2);
    relay.stall_at(4 << 20);
    let replica = Kevy::replica(3, relay.port_base);
    let mut reader = replica.connect();
    wait_until("it has half of its slots", || relay.is_stalled());

    replica.limit_descriptors(3);
    relay.cut();
    relay.heal();
    wait_until("it says so", || {
        // Its own links may be served by descriptors that it still has: each cut takes them.
        let info: String = redis::cmd("INFO").query(&mut reader).expect("who is there already is served");
        info.contains("master_link_error:") && info.contains("Too many open files (os error 24)")
    });
    assert!(replica.log().contains("Too many open files (os error 24)"));
    // The primary notices nothing, and the replica still answers, each key or that it is being loaded.
    write(1);
    let (mut answered, mut loading) = (0, 0);
    for key in 0..1_000 {
        match redis::cmd("GET").arg(key).query::<Option<Vec<u8>>>(&mut reader) {
            Ok(value) => answered += usize::from(value.is_some_and(|value| value.len() == 2_000)),
            Err(error) => {
                assert_eq!(error.code(), Some("LOADING"), "{error}");
                loading += 1;
            }
        }
    }
    assert!(answered > 50 && loading > 50, "{answered} answered, {loading} loading");

    replica.limit_descriptors(1_024);
    crate::compare::assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("sync_full"), 2, "it went on with what it had");
}

#[test]
fn maxclients_is_lowered_to_what_there_is_room_for() {
    let kevy = env!("CARGO_BIN_EXE_kevy");
    let base = free_ports(3);
    let script = format!(
        "ulimit -n 200; exec {kevy} --port {base} --listen-port-base {} --shards 2 --cpus off --log warn",
        base + 1
    );
    let mut child = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let ask = |args: &[&str]| {
        let client = redis::Client::open(format!("redis://127.0.0.1:{base}/")).ok()?;
        let mut cmd = redis::Cmd::new();
        for arg in args {
            cmd.arg(*arg);
        }
        cmd.query::<Vec<String>>(&mut client.get_connection().ok()?).ok()
    };
    let mut answer = None;
    wait_until("it answers", || {
        answer = ask(&["CONFIG", "GET", "maxclients"]);
        answer.is_some()
    });
    child.kill().expect("it is ours");
    let output = child.wait_with_output().expect("it is ours");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(answer.expect("an answer"), ["maxclients", "104"], "{said}");
    assert!(said.contains("maxclients is lowered"), "{said}");
}

const LOG: &str = "must be error, warn, info, debug or trace, or directives such as info,kevy_replicate=debug";

/// Runs kevy, which must end by itself; its exit code and what it said.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output = command(args).output().expect("kevy runs");
    let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    (output.status.code(), text.lines().last().unwrap_or_default().to_owned())
}

/// Sends `bytes`, and returns everything that comes until the other end closes.
fn talk(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
    // The other end may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection was not closed: {error}"),
    }
    answer
}
