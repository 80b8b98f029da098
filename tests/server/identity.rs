//! The name under which a primary remembers a replica outlives the replica's process.

use std::fs;
use std::process::Command;

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

/// Mounts a file system of a few pages on its first argument, fills it, and becomes the command that follows.
const IN_A_FULL_DIRECTORY: &str = r#"mount -t tmpfs -o size=16k none "$0"
head -c 100000 /dev/zero > "$0/fill" 2> /dev/null || true
exec "$@""#;

/// How to become another program in a mount namespace of its own, where that is to be had.
fn private_mounts() -> Option<&'static str> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut said = String::new();
    for flags in ["-m", "-rm"] {
        let probe = Command::new("unshare").args([flags, "mount", "-t", "tmpfs", "none"]).arg(dir.path()).output();
        match probe {
            Ok(output) if output.status.success() => return Some(flags),
            Ok(output) => said = String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => said = error.to_string(),
        }
    }
    eprintln!("SKIPPED: no file system can be mounted here: {}", said.trim());
    None
}

#[test]
fn a_full_file_system_is_said_and_is_no_reason_to_stop() {
    let Some(flags) = private_mounts() else { return };
    let primary = Kevy::primary(1);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    let outside = tempfile::tempdir().expect("a temporary directory");
    let full = outside.path().join("full");
    fs::create_dir(&full).expect("it is ours");
    let full_name = full.to_str().expect("a plain path");
    let by = ["unshare", flags, "sh", "-ec", IN_A_FULL_DIRECTORY, full_name];
    let upstream = format!("127.0.0.1:{}", primary.port_base);
    let mut replica = Kevy::start_by(&by, 2, &["--role", "replica", "--upstream", &upstream, "--dir", full_name]);
    assert_becomes_equal(&primary, &replica);
    wait_until("it says so", || replica.log().contains("the replica id cannot be kept"));
    assert!(replica.log().contains("No space left on device (os error 28)"), "{}", replica.log());
    let left: Vec<_> =
        fs::read_dir(replica.sees(&full)).expect("it is there").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["fill"], "nothing is left of what could not be written");

    let id = id_of(&replica);
    replica.kill();
    replica.restart();
    assert_ne!(id_of(&replica), id, "a fresh one");
    primary.ask::<()>(&["SET", "key", "2"]).expect("SET");
    assert_becomes_equal(&primary, &replica);
    assert_eq!((primary.number("connected_slaves"), primary.number("replicas_away")), (1, 1), "it is another one");
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
