//! `kevy check`: two real nodes, compared while they are written to.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Output;
use std::time::Instant;

use crate::compare::await_caught_up;
use crate::kevy::{Kevy, command, free_ports};
use crate::load::Benchmark;
use crate::wait_until;

/// Runs `kevy check` on two nodes and returns its exit code and what it said.
fn check(a: u16, b: u16) -> (i32, String) {
    let nodes = [a, b].map(|port| format!("127.0.0.1:{port}"));
    let Output { status, stdout, stderr } = command(&["check", &nodes[0], &nodes[1]]).output().expect("kevy runs");
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().expect("it ends by itself"), said)
}

/// A primary that does not scrub: what differs stays so.
fn primary(shards: u16) -> Kevy {
    Kevy::start(shards, &["--role", "primary", "--scrub-slots-per-second", "0"])
}

fn await_synced(replica: &Kevy) {
    wait_until("the replica is synced", || replica.info("master_link_status").as_deref() == Some("up"));
}

#[test]
fn nodes_of_one_history_are_compared_under_load() {
    if !Benchmark::is_there() {
        return;
    }
    let primary = primary(2);
    primary.ask::<()>(&["SET", "{quiet}", "value"]).expect("SET");
    let mut load = Benchmark::every_type(primary.port, 100_000, 5_000);
    let replicas = [2, 3].map(|shards| Kevy::replica_with(shards, primary.port_base, &["--enable-debug-command"]));
    replicas.iter().for_each(await_synced);
    let [same, other] = &replicas;
    let pairs = [(&primary, same), (other, &primary), (same, other)];
    for round in 0..5 {
        for (a, b) in pairs {
            load.go_on();
            let (code, said) = check(a.port, b.port);
            assert_eq!(code, 0, "round {round}: {said}");
            assert!(said.starts_with("equal: "), "{said}");
        }
    }
    other.ask::<()>(&["DEBUG", "CORRUPT", "{quiet}"]).expect("DEBUG CORRUPT");
    let slot = primary.ask::<Vec<(u64, u64, String)>>(&["KEVY", "DIGEST", "0", "16384"]).expect("KEVY DIGEST");
    let slot_of_key = u64::from(kevy_replicate::store::hash::slot_of(b"{quiet}").get());
    assert!(slot.iter().any(|(slot, ..)| *slot == slot_of_key));
    for (a, b) in [(&primary, other), (other, same)] {
        load.go_on();
        let (code, said) = check(a.port, b.port);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("slot {slot_of_key} differs; keys: ")), "{said}");
        assert!(said.contains("different: 1 of 16384 slots"), "{said}");
    }
    assert_eq!(check(primary.port, same.port).0, 0, "the other replica is what it was");
    assert_eq!(other.number("slots_repaired"), 0, "a check changes nothing");
    load.finish();
}

#[test]
fn nodes_without_a_common_history_are_compared_while_they_rest() {
    let (first, second) = (Kevy::primary(2), Kevy::start(3, &["--role", "standalone"]));
    for node in [&first, &second] {
        for i in 0..500 {
            node.ask::<()>(&["SET", &format!("key:{i}"), "value"]).expect("SET");
        }
    }
    let (code, said) = check(first.port, second.port);
    assert_eq!(code, 0, "{said}");
    second.ask::<()>(&["DEL", "key:7"]).expect("DEL");
    second.ask::<()>(&["SET", "more", "value"]).expect("SET");
    let (code, said) = check(first.port, second.port);
    assert_eq!((code, said.lines().count()), (1, 3), "{said}");
    let slot = kevy_replicate::store::hash::slot_of(b"more");
    assert!(said.contains(&format!("slot {slot} differs; keys: ")), "{said}");
}

#[test]
fn what_cannot_be_compared_is_said_in_one_line() {
    let node = Kevy::primary(1);
    let nobody = free_ports(1);
    for (code, said, expected) in [
        (3, check(node.port, nobody), "cannot compare: "),
        (3, check(nobody, node.port), "Connection refused"),
        (2, check(node.port, node.port), "are the same node; name two"),
        (3, check(node.port_base, node.port), "cannot compare: "),
    ] {
        assert_eq!(said.0, code, "{}", said.1);
        assert!(said.1.contains(expected) && said.1.lines().count() == 1, "{}", said.1);
    }
    // A replica that was cut off does not come to the point that is named; one that follows is compared.
    let replica = Kevy::replica(1, node.port_base);
    await_caught_up(&node, &replica);
    assert_eq!(check(node.port, replica.port).0, 0);
}

#[test]
fn a_digest_ends_with_whoever_asked_for_it() {
    let node = Kevy::start(2, &["--role", "primary", "--scrub-slots-per-second", "0"]);
    // Far too much for one step, on either shard.
    for key in ["a", "b", "c", "d"] {
        node.ask::<()>(&["SETRANGE", key, "67108863", "x"]).expect("SETRANGE");
    }
    let began = Instant::now();
    node.ask::<redis::Value>(&["KEVY", "DIGEST", "0", "16384"]).expect("KEVY DIGEST");
    let one = began.elapsed();

    let mut caller = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).expect("connects");
    caller.write_all("KEVY DIGEST 0 16384\r\n".repeat(100).as_bytes()).expect("sends");
    wait_until("it is at it", || node.number("digests_under_way") > 0);
    drop(caller);
    let began = Instant::now();
    wait_until("nothing is left of it", || {
        node.number("digests_under_way") == 0 && node.number("connected_clients") == 1
    });
    let took = began.elapsed();
    assert!(took < one * 30, "{took:?} for what nobody reads, and one of a hundred takes {one:?}");

    // One that is killed, too.
    let mut caller = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).expect("connects");
    caller.write_all("KEVY DIGEST 0 16384\r\n".repeat(100).as_bytes()).expect("sends");
    wait_until("it is at it", || node.number("digests_under_way") > 0);
    let address = caller.local_addr().expect("it is connected").to_string();
    node.ask::<redis::Value>(&["CLIENT", "KILL", "ADDR", &address]).expect("CLIENT KILL");
    wait_until("nothing is left of it", || {
        node.number("digests_under_way") == 0 && node.number("connected_clients") == 1
    });
}
