//! Who is how far behind: the same measures on both ends, and one line a replica that says which is the most up to date.

use std::collections::BTreeMap;
use std::thread;

use kevy_replicate::replica::ReplicaClient;
use kevy_replicate::store::KeyspaceStore;

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::wait_until;

/// The `name=value` pairs of one line of `INFO`.
fn fields(node: &Kevy, line: &str) -> BTreeMap<String, String> {
    let text = node.info(line).unwrap_or_else(|| panic!("INFO has no {line}"));
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn number(fields: &BTreeMap<String, String>, name: &str) -> u64 {
    fields[name].parse().unwrap_or_else(|_| panic!("{name}={} is no number", fields[name]))
}

#[test]
fn the_most_up_to_date_replica_is_named() {
    let flags = ["--heartbeat-ms", "50"];
    let primary = Kevy::start(2, &flags);
    let replicas: Vec<Kevy> = ["a", "b"]
        .map(|id| Kevy::replica_with(2, primary.port_base, &[&flags[..], &["--replica-id", id]].concat()))
        .into();
    for replica in &replicas {
        await_caught_up(&primary, replica);
    }
    replicas[0].signal("STOP");
    for i in 0..200 {
        primary.ask::<()>(&["SET", &format!("key:{i}"), &"x".repeat(1_000)]).expect("SET");
    }
    await_caught_up(&primary, &replicas[1]);
    wait_until("the primary has heard so", || number(&fields(&primary, "replica1"), "lag_frames") == 0);
    let [behind, ahead] = ["replica0", "replica1"].map(|line| fields(&primary, line));
    assert_eq!((&*behind["id"], &*ahead["id"]), ("a", "b"));
    assert_eq!((&*ahead["rank"], &*behind["rank"]), ("1", "2"), "{ahead:?} {behind:?}");
    assert_eq!(["lag_frames", "lag_bytes", "lag_ms"].map(|name| number(&ahead, name)), [0; 3], "{ahead:?}");
    assert_eq!(number(&behind, "lag_frames"), 200);
    assert!(number(&behind, "lag_bytes") > 200_000, "{behind:?}");
    let ms = number(&behind, "lag_ms");
    assert!(ms > 0 && ms < 60_000, "{behind:?}");
    wait_until("it grows", || number(&fields(&primary, "replica0"), "lag_ms") > ms + 100);

    replicas[0].signal("CONT");
    await_caught_up(&primary, &replicas[0]);
    for replica in &replicas {
        for stream in ["stream0", "stream1"] {
            wait_until("a replica knows that it has everything", || {
                let fields = fields(replica, stream);
                number(&fields, "lag_frames") == 0 && number(&fields, "lag_ms") == 0
            });
            let fields = fields(replica, stream);
            assert_eq!(fields["upstream_next"], fields["applied"], "{fields:?}");
        }
    }
    wait_until("both are the most up to date", || {
        ["replica0", "replica1"].iter().all(|line| fields(&primary, line)["rank"] == "1")
    });
}

#[test]
fn what_tools_read_of_a_replica_is_as_redis_writes_it() {
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(1, primary.port_base);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    await_caught_up(&primary, &replica);
    let text: String = primary.ask(&["INFO", "replication"]).expect("INFO");
    // Sentinel takes every line that begins with `slave` and a digit for a replica.
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("slave")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    let offset = primary.number("master_repl_offset");
    wait_until("its acknowledgements have arrived", || {
        let line = primary.info("slave0").expect("a replica");
        line.starts_with(&format!("ip=127.0.0.1,port={},state=online,offset={offset},lag=", replica.port))
    });
}

#[test]
fn an_observer_reads_along_and_counts_for_nothing() {
    let primary = Kevy::start(1, &["--min-replicas-to-write", "1"]);
    let mut observer = ReplicaClient::observe(&format!("127.0.0.1:{}", primary.port_base), "watcher").expect("a link");
    let (whole, is_whole) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut store = KeyspaceStore::new();
        while observer.step(&mut store).is_ok() {
            let _ = whole.send((observer.is_whole(), store.len()));
        }
    });
    wait_until("it is whole", || is_whole.try_iter().any(|(whole, _)| whole));
    assert_eq!((primary.number("connected_slaves"), primary.number("connected_observers")), (0, 1));
    wait_until("it is past its sync", || fields(&primary, "observer0_stream0")["state"] == "online");
    assert_eq!(primary.info("observer0").as_deref(), Some("id=watcher"));
    assert_eq!(primary.info("slave0"), None);
    let refused = primary.ask::<()>(&["SET", "key", "1"]).expect_err("it opens no gate");
    assert_eq!(refused.code(), Some("NOREPLICAS"));
    assert_eq!(primary.ask::<u64>(&["WAIT", "1", "100"]).expect("WAIT"), 0);

    let replica = Kevy::replica(1, primary.port_base);
    wait_until("the gate opens", || primary.ask::<()>(&["SET", "key", "1"]).is_ok());
    await_caught_up(&primary, &replica);
    assert_eq!((primary.number("connected_slaves"), primary.number("connected_observers")), (1, 1));
    let mut client = primary.connect();
    redis::cmd("SET").arg("key").arg(2).exec(&mut client).expect("SET");
    assert_eq!(redis::cmd("WAIT").arg(2).arg(100).query::<u64>(&mut client).expect("WAIT"), 1);
    wait_until("it has what was written", || is_whole.try_iter().any(|(_, keys)| keys == 1));
}
