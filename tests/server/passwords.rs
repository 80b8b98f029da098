//! Passwords: of clients, of the link to a primary, and what a node without one refuses to listen on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use kevy_replicate::handshake::Password;
use kevy_replicate::replica::ReplicaClient;
use kevy_replicate::store::KeyspaceStore;

use crate::kevy::{Kevy, command, free_ports};
use crate::wait_until;

const PASSWORD: &str = "open sesame";

/// Says the password and `lines` to a node, and returns all answers.
fn talk(node: &Kevy, lines: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).expect("connects");
    stream.write_all(format!("AUTH \"{PASSWORD}\"\r\n{lines}\r\nQUIT\r\n").as_bytes()).expect("it is sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answers, and the end");
    answers
}

#[test]
fn a_replica_says_the_password_of_its_primary() {
    let primary = Kevy::start(2, &["--role", "primary", "--requirepass", PASSWORD]);
    assert_eq!(talk(&primary, "SET key value"), "+OK\r\n+OK\r\n+OK\r\n");
    let refused = primary.ask::<()>(&["GET", "key"]).expect_err("nobody else may ask");
    assert_eq!(refused.code(), Some("NOAUTH"), "{refused}");

    let right = Kevy::replica_with(3, primary.port_base, &["--masterauth", PASSWORD]);
    wait_until("it follows", || right.info("master_link_status").as_deref() == Some("up"));
    wait_until("it has the key", || right.ask::<String>(&["GET", "key"]).is_ok_and(|value| value == "value"));
    for flags in [&["--masterauth", "wrong"][..], &[]] {
        let wrong = Kevy::replica_with(2, primary.port_base, flags);
        wait_until("INFO says why", || wrong.info("master_link_error").is_some_and(|why| why.contains("password")));
        assert_eq!(wrong.info("master_link_status").as_deref(), Some("down"));
    }
    let port = primary.port.to_string();
    let late = Kevy::primary(1);
    let refused = late.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect_err("it has no password to say");
    assert!(refused.to_string().contains("NOAUTH"), "{refused}");
    let late = Kevy::start(1, &["--role", "primary", "--masterauth", PASSWORD]);
    late.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect("REPLICAOF");
    wait_until("it follows", || late.info("master_link_status").as_deref() == Some("up"));
    for node in [&primary, &right, &late] {
        assert!(!node.log().contains(PASSWORD), "a log tells no password");
    }
}

#[test]
fn a_password_for_a_primary_that_wants_none_does_no_harm() {
    let primary = Kevy::primary(1);
    let replica = Kevy::start(1, &["--role", "primary", "--masterauth", PASSWORD]);
    let port = primary.port.to_string();
    replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect("REPLICAOF");
    wait_until("it follows", || replica.info("master_link_status").as_deref() == Some("up"));
}

#[test]
fn an_embedded_replica_says_the_password_of_its_primary() {
    let primary = Kevy::start(1, &["--role", "primary", "--requirepass", PASSWORD]);
    assert_eq!(talk(&primary, "SET key value"), "+OK\r\n+OK\r\n+OK\r\n");
    let address = format!("127.0.0.1:{}", primary.port_base);
    let with = |text: &str| ReplicaClient::with_password(Password::new(text.as_bytes()).expect("a password"));
    for refused in [ReplicaClient::follow(&address, "without"), with("wrong").follow(&address, "wrong")] {
        let error = refused.expect_err("it is refused").to_string();
        assert!(error.contains("password"), "{error}");
    }
    let mut client = with(PASSWORD).follow(&address, "embedded").expect("it follows");
    let mut store = KeyspaceStore::new();
    let follow = |client: &mut ReplicaClient, store: &mut KeyspaceStore, keys: usize| {
        while !client.is_whole() || store.len() < keys {
            client.step(store).expect("it goes on");
        }
    };
    follow(&mut client, &mut store, 1);
    // A redial says it, too.
    assert_eq!(talk(&primary, "SET other value"), "+OK\r\n+OK\r\n+OK\r\n");
    client.redial().expect("it is let in again");
    follow(&mut client, &mut store, 2);
    assert!(!format!("{client:?}").contains(PASSWORD), "nobody is shown it");
}

#[test]
fn without_a_password_only_loopback_is_listened_on() {
    let port = free_ports(2).to_string();
    let args = ["--bind", "0.0.0.0", "--port", &port, "--shards", "1", "--cpus", "off"];
    let output = command(&args).output().expect("kevy runs");
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected =
        "bind = \"0.0.0.0\": must be a loopback address, unless requirepass is set or protected_mode = false";
    assert!(said.ends_with(expected) && !said.contains('\n'), "{said}");
    for flags in [["--bind", "0.0.0.0", "--requirepass", PASSWORD], ["--bind", "0.0.0.0", "--protected-mode", "false"]]
    {
        let node = Kevy::start(1, &flags);
        assert!(node.log().contains("ready to accept connections"), "{}", node.log());
    }
}
