//! The name under which a primary remembers a replica outlives the replica's process.

use std::fs;

use crate::compare::assert_becomes_equal;
use crate::kevy::{Kevy, command};
use crate::wait_until;

/// The name that a node said it has, at its last start.
fn id_of(node: &Kevy) -> String {
    let log = node.log();
    let (_, rest) = log.split_once("replica_id=").expect("it says its name");
    rest.split_whitespace().next().expect("a name").to_owned()
}

#[test]
fn a_replica_keeps_its_name_in_its_directory() {
    let primary = Kevy::primary(1);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    let mut replica = Kevy::replica(1, primary.port_base);
    assert_becomes_equal(&primary, &replica);
    let id = id_of(&replica);
    let file = replica.dir().join(format!("kevy-{}.id", replica.port));
    wait_until("the name is kept", || fs::read_to_string(&file).ok().as_deref() == Some(&format!("{id}\n")));
    assert!(!primary.dir().join(format!("kevy-{}.id", primary.port)).exists(), "a primary needs none");
    replica.kill();
    replica.restart();
    assert_eq!(id_of(&replica), id);
    assert_becomes_equal(&primary, &replica);
    assert_eq!((primary.number("connected_slaves"), primary.number("replicas_away")), (1, 0), "it is the same one");

    fs::write(&file, "\u{7}\u{7}").expect("it is ours");
    replica.kill();
    replica.restart();
    assert_ne!(id_of(&replica), id);
    assert!(replica.log().contains("the replica id cannot be read"), "{}", replica.log());
    assert_becomes_equal(&primary, &replica);
}

#[test]
fn a_directory_that_takes_no_file_is_said_and_is_no_reason_to_stop() {
    let primary = Kevy::primary(1);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    // Nobody may make a file there.
    let mut replica = Kevy::replica_with(2, primary.port_base, &["--dir", "/proc"]);
    assert_becomes_equal(&primary, &replica);
    wait_until("it says so", || replica.log().contains("the replica id cannot be kept"));
    let id = id_of(&replica);
    replica.kill();
    replica.restart();
    assert_ne!(id_of(&replica), id, "a fresh one");
    assert_becomes_equal(&primary, &replica);

    let file = replica.dir().join("log-1");
    let output = command(&["--dir", file.to_str().expect("a plain path")]).output().expect("kevy runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("must be a directory that exists"), "{said}");
}
