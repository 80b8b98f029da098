//! Clients that know clusters, on one primary and its replicas.

use redis::Value;

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::wait_until;

fn pair() -> (Kevy, Kevy) {
    let primary = Kevy::start(2, &["--role", "primary", "--cluster-enabled", "emulated"]);
    let replica = Kevy::replica_with(3, primary.port_base, &["--cluster-enabled", "emulated"]);
    primary.ask::<()>(&["SET", "key", "value"]).expect("SET");
    await_caught_up(&primary, &replica);
    (primary, replica)
}

#[test]
fn a_cluster_of_one_primary_is_told_as_it_is() {
    let (primary, replica) = pair();
    for (node, me) in [(&primary, "myself,master"), (&replica, "myself,slave")] {
        wait_until("both are known", || {
            let slots = format!("{:?}", node.ask::<Value>(&["CLUSTER", "SLOTS"]).expect("CLUSTER SLOTS"));
            [&primary, &replica].iter().all(|one| slots.contains(&format!("int({})", one.port)))
        });
        let nodes: String = node.ask(&["CLUSTER", "NODES"]).expect("CLUSTER NODES");
        let line = nodes.lines().find(|line| line.contains(me)).expect(me);
        assert!(line.contains(&format!("127.0.0.1:{}@0", node.port)), "{nodes}");
        let id: String = node.ask(&["CLUSTER", "MYID"]).expect("CLUSTER MYID");
        assert!(line.starts_with(&id), "{id}: {nodes}");
        let info: String = node.ask(&["CLUSTER", "INFO"]).expect("CLUSTER INFO");
        assert!(info.contains("cluster_state:ok\r\n") && info.contains("cluster_known_nodes:2\r\n"), "{info}");
        assert_eq!(node.info("cluster_enabled").as_deref(), Some("1"));
        assert_eq!(node.ask::<u64>(&["CLUSTER", "KEYSLOT", "key"]).expect("CLUSTER KEYSLOT"), 12_539);
        assert_eq!(node.ask::<u64>(&["CLUSTER", "COUNTKEYSINSLOT", "12539"]).expect("COUNTKEYSINSLOT"), 1);
        let keys: Vec<String> = node.ask(&["CLUSTER", "GETKEYSINSLOT", "12539", "10"]).expect("GETKEYSINSLOT");
        assert_eq!(keys, ["key"]);
        for wrong in [
            &["CLUSTER", "MEET", "127.0.0.1", "1"][..],
            &["CLUSTER", "KEYSLOT"],
            &["CLUSTER", "COUNTKEYSINSLOT", "16384"],
        ] {
            node.ask::<()>(wrong).expect_err("refused");
        }
    }
    let plain = Kevy::start(1, &["--role", "standalone"]);
    let error = plain.ask::<()>(&["CLUSTER", "SLOTS"]).expect_err("it is off").to_string();
    assert!(error.contains("cluster support disabled"), "{error}");
}

#[test]
fn a_write_to_a_replica_is_sent_to_the_primary() {
    let (primary, replica) = pair();
    let moved = format!("MOVED 12539 127.0.0.1:{}", primary.port);
    let answer = |command: &[&str]| replica.ask::<Value>(command).map_err(|error| format!("{error:?} {error}"));
    wait_until("the replica knows where its primary's clients go", || {
        // The client library takes the code off, and keeps what is behind it.
        answer(&["SET", "key", "other"]).is_err_and(|error| error.contains(&moved["MOVED ".len()..]))
    });
    assert_eq!(replica.ask::<String>(&["GET", "key"]).expect("reads are answered"), "value");
    for command in ["READONLY", "READWRITE"] {
        assert_eq!(replica.ask::<String>(&[command]).expect(command), "OK");
    }
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
    wait_until("it is a primary", || replica.ask::<()>(&["SET", "key", "other"]).is_ok());
}
