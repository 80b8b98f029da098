//! `CONFIG`: what is changed while a node runs, and what stays.

use std::collections::BTreeMap;
use std::fs;

use redis::Connection;

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::wait_until;

#[test]
fn settings_change_all_or_none() {
    let node = Kevy::start(2, &["--role", "primary"]);
    let mut connection = node.connect();
    set(&mut connection, &["timeout", "100", "maxclients", "77", "Repl-Timeout", "30"]).expect("CONFIG SET");
    assert_eq!(
        get(&mut connection, &["timeout", "maxcl*", "repl-timeout"]),
        [("maxclients", "77"), ("repl-timeout", "30"), ("timeout", "100"),]
    );
    for (pairs, why) in [
        (&["timeout", "5", "nosuch", "1"][..], "Unknown option"),
        (&["timeout", "5", "port", "1"], "can't set immutable config"),
        (&["timeout", "5", "maxclients", "none"], "maxclients"),
        (&["timeout", "5", "maxclients", "900000"], "ulimit -n"),
        (&["timeout", "5", "repl-ping-replica-period", "31"], "must be below link_timeout_ms"),
        (&["timeout", "5", "timeout", "6"], "duplicate parameter"),
        (&["timeout"], "wrong number of arguments"),
    ] {
        let error = set(&mut connection, pairs).expect_err("not possible").to_string();
        assert!(error.contains(why), "{pairs:?}: {error}");
        assert_eq!(get(&mut connection, &["timeout"]), [("timeout", "100")], "{pairs:?}");
    }
    // All shards do it: clients are spread over them.
    let ports: Vec<_> = (0..4).map(|_| get(&mut node.connect(), &["timeout"])).collect();
    assert!(ports.iter().all(|got| got == &[("timeout", "100")]));
}

#[test]
fn a_replica_that_is_opened_takes_writes() {
    let primary = Kevy::primary(1);
    let replica = Kevy::replica(2, primary.port_base);
    await_caught_up(&primary, &replica);
    replica.ask::<()>(&["SET", "k", "v"]).expect_err("replicas are read-only");
    replica.ask::<()>(&["CONFIG", "SET", "replica-read-only", "no"]).expect("CONFIG SET");
    replica.ask::<()>(&["SET", "k", "v"]).expect("it is open");
    replica.ask::<()>(&["CONFIG", "SET", "replica-read-only", "yes"]).expect("CONFIG SET");
    replica.ask::<()>(&["SET", "k", "v"]).expect_err("it is closed");
}

#[test]
fn a_write_gate_can_be_switched_on() {
    let primary = Kevy::primary(2);
    primary.ask::<()>(&["SET", "k", "v"]).expect("SET");
    primary.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).expect("CONFIG SET");
    let error = primary.ask::<()>(&["SET", "k", "v"]).expect_err("no replica is there");
    assert_eq!(error.code(), Some("NOREPLICAS"));
    let _replica = Kevy::replica(1, primary.port_base);
    wait_until("the gate opens", || primary.ask::<()>(&["SET", "k", "v"]).is_ok());
    primary.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "2"]).expect("CONFIG SET");
    wait_until("the gate closes", || primary.ask::<()>(&["SET", "k", "v"]).is_err());
    primary.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]).expect("CONFIG SET");
    primary.ask::<()>(&["SET", "k", "v"]).expect("it is off");
}

#[test]
fn a_password_that_is_set_is_wanted_of_new_clients() {
    let node = Kevy::start(2, &["--role", "standalone"]);
    let mut old = node.connect();
    set(&mut old, &["requirepass", "secret"]).expect("CONFIG SET");
    assert_eq!(node.ask::<()>(&["GET", "k"]).expect_err("no password").code(), Some("NOAUTH"));
    set(&mut old, &["requirepass", ""]).expect("who was in stays in");
    node.ask::<Option<String>>(&["GET", "k"]).expect("none is wanted");
}

#[test]
fn the_file_is_rewritten_with_its_comments() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("kevy.toml");
    fs::write(&file, "# ours\n[server]\nmaxclients = 100 # enough\n").expect("a file");
    let node = Kevy::start(2, &["--role", "standalone", "--config", file.to_str().expect("a plain path")]);
    let mut connection = node.connect();
    set(&mut connection, &["maxclients", "99", "slowlog-max-len", "7"]).expect("CONFIG SET");
    redis::cmd("CONFIG").arg("REWRITE").exec(&mut connection).expect("CONFIG REWRITE");
    let text = fs::read_to_string(&file).expect("a file");
    assert!(text.starts_with("# ours\n[server]\nmaxclients = 99 # enough\n"), "{text}");
    assert!(text.contains("slowlog_max_len = 7\n") && text.contains(&format!("port = {}\n", node.port)), "{text}");
    let other = Kevy::start(2, &["--role", "standalone"]);
    let error = other.ask::<()>(&["CONFIG", "REWRITE"]).expect_err("no file").to_string();
    assert!(error.contains("running without a config file"), "{error}");
}

#[test]
fn resetstat_begins_the_counters_anew() {
    let node = Kevy::start(2, &["--role", "standalone"]);
    for i in 0..50 {
        node.ask::<()>(&["SET", &format!("k{i}"), "v"]).expect("SET");
    }
    assert!(node.number("total_commands_processed") >= 50);
    node.ask::<()>(&["CONFIG", "RESETSTAT"]).expect("CONFIG RESETSTAT");
    assert!(node.number("total_commands_processed") < 5);
}

fn set(connection: &mut Connection, pairs: &[&str]) -> redis::RedisResult<()> {
    redis::cmd("CONFIG").arg("SET").arg(pairs).exec(connection)
}

fn get(connection: &mut Connection, patterns: &[&str]) -> Vec<(&'static str, &'static str)> {
    let got: BTreeMap<String, String> =
        redis::cmd("CONFIG").arg("GET").arg(patterns).query(connection).expect("CONFIG GET");
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    got.into_iter().map(|(name, value)| (leak(name), leak(value))).collect()
}

#[test]
fn settings_change_while_a_client_does_not_read() {
    let node = Kevy::start(1, &["--role", "standalone"]);
    let mut connection = node.connect();
    redis::cmd("SET").arg("large").arg(vec![b'x'; 16 << 20]).exec(&mut connection).expect("SET");
    let mut stream = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, node.port)).expect("it listens");
    std::io::Write::write_all(&mut stream, &b"GET large\r\n".repeat(32)).expect("it is open");
    // One reply is more than the socket takes: the others are not made before it is read.
    wait_until("a reply is made", || {
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).expect("INFO");
        info.contains("cmdstat_get:calls=1,")
    });
    set(&mut connection, &["timeout", "100"]).expect("CONFIG SET");
    assert_eq!(get(&mut connection, &["timeout"]), [("timeout", "100")]);
}
