//! A replica whose memory holds something else than was recorded: found by the scrub, repaired slot by slot, and nothing else
//! of it is touched.

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::load::Benchmark;
use crate::wait_until;

/// A primary whose scrub comes around in two seconds, and a replica of it.
fn pair(shards: u16, replica_shards: u16) -> (Kevy, Kevy) {
    let primary = Kevy::start(shards, &["--role", "primary", "--scrub-slots-per-second", "8192"]);
    let replica = Kevy::replica_with(replica_shards, primary.port_base, &["--enable-debug-command"]);
    (primary, replica)
}

fn sync_full(node: &Kevy) -> u64 {
    node.number("sync_full")
}

#[test]
fn a_corrupted_value_is_found_and_its_slot_repaired() {
    for (shards, replica_shards) in [(2, 2), (2, 3)] {
        let (primary, replica) = pair(shards, replica_shards);
        for i in 0..2_000 {
            primary.ask::<()>(&["SET", &format!("key:{i}"), "value"]).expect("SET");
            primary.ask::<()>(&["RPUSH", &format!("list:{}", i % 50), "element"]).expect("RPUSH");
        }
        await_caught_up(&primary, &replica);
        let synced = sync_full(&primary);
        let digest = primary.digest();

        replica.ask::<()>(&["DEBUG", "CORRUPT", "key:7"]).expect("DEBUG CORRUPT");
        wait_until("the slot is repaired", || replica.number("slots_repaired") == 1);
        assert_eq!(replica.ask::<String>(&["GET", "key:7"]).expect("it serves"), "value");
        replica.ask::<()>(&["DEBUG", "CORRUPT", "list:7"]).expect("DEBUG CORRUPT");
        // Throughout, the other slots and this one are served, and the link is that of a whole replica.
        wait_until("the second slot is repaired", || {
            replica.ask::<u64>(&["LLEN", "list:7"]).expect("a slot under repair is served");
            assert_eq!(replica.ask::<u64>(&["DBSIZE"]).expect("nothing is loading"), 2_050);
            assert_eq!(replica.info("master_link_status").as_deref(), Some("up"));
            replica.number("slots_repaired") == 2
        });
        assert_eq!(replica.digest(), digest);
        assert_eq!(replica.number("scrub_slots_differing"), 2);
        assert_eq!(sync_full(&primary), synced, "a repair is no sync");
        let slot = replica.ask::<Vec<(u64, u64, String)>>(&["KEVY", "DIGEST", "0", "16384"]).expect("KEVY DIGEST");
        assert!(slot.iter().map(|(_, keys, _)| keys).sum::<u64>() == 2_050);
        let log = replica.log();
        assert!(log.contains("a slot differs from the upstream's") && log.contains("slot="), "{log}");
        assert!(log.contains("a slot is repaired"), "{log}");
    }
}

#[test]
fn nothing_differs_under_load_and_what_is_corrupted_does() {
    if !Benchmark::is_there() {
        return;
    }
    for (shards, replica_shards) in [(2, 2), (3, 2)] {
        let (primary, replica) = pair(shards, replica_shards);
        primary.ask::<()>(&["SET", "{quiet}", "value"]).expect("SET");
        let mut load = Benchmark::every_type(primary.port, 100_000, 10_000);
        await_synced(&replica);
        let synced = sync_full(&primary);
        let compared = replica.number("scrub_slots_compared");
        wait_until("two rounds under load", || {
            load.go_on();
            replica.number("scrub_slots_compared") >= compared + 2 * 16_384
        });
        assert_eq!(replica.number("scrub_slots_differing"), 0, "{}", replica.log());
        replica.ask::<()>(&["DEBUG", "CORRUPT", "{quiet}"]).expect("DEBUG CORRUPT");
        wait_until("the slot is repaired under load", || {
            load.go_on();
            replica.number("slots_repaired") == 1
        });
        assert_eq!(replica.ask::<String>(&["GET", "{quiet}"]).expect("GET"), "value");
        assert_eq!(sync_full(&primary), synced);
        load.finish();
        assert_becomes_equal(&primary, &replica);
        assert_eq!(replica.number("slots_repaired"), 1);
    }
}

#[test]
fn a_large_slot_is_proved_in_steps_while_it_is_written_to() {
    let primary = Kevy::start(1, &["--role", "primary", "--scrub-slots-per-second", "0"]);
    let replica = Kevy::replica_with(2, primary.port_base, &["--enable-debug-command"]);
    let mut connection = primary.connect();
    for chunk in 0..200 {
        let mut pipe = redis::pipe();
        for i in 0..250 {
            pipe.cmd("SET").arg(format!("{{tag}}{}", chunk * 250 + i)).arg("v".repeat(40)).ignore();
        }
        pipe.query::<()>(&mut connection).expect("SET");
    }
    await_caught_up(&primary, &replica);
    let third = Kevy::replica(3, primary.port_base);
    // A dump of more than a megabyte ends without a digest: the scrub proves it, whatever its rate.
    wait_until("the large slot is compared", || {
        primary.ask::<()>(&["INCR", "{tag}counter"]).expect("INCR");
        primary.ask::<()>(&["DEL", "{tag}17"]).expect("DEL");
        third.number("scrub_slots_compared") >= 1
    });
    assert_eq!(third.number("scrub_slots_differing"), 0, "{}", third.log());
    assert_becomes_equal(&primary, &third);
}

#[test]
fn only_a_replica_and_only_here_can_be_corrupted() {
    let off = Kevy::primary(1).ask::<()>(&["DEBUG", "CORRUPT", "key"]).expect_err("off unless it is asked for");
    assert!(off.to_string().contains("enable_debug_command is false"), "{off}");
    let primary = Kevy::start(1, &["--enable-debug-command"]);
    primary.ask::<()>(&["SET", "key", "value"]).expect("SET");
    let refused = primary.ask::<()>(&["DEBUG", "CORRUPT", "key"]).expect_err("nobody would record it");
    assert!(refused.to_string().contains("not a replica"), "{refused}");
    let probed = primary.ask::<()>(&["KEVY", "PROBED", "0", "1"]).expect_err("it notes nothing");
    assert!(probed.to_string().contains("not a replica"), "{probed}");
    for (first, count) in [("0", "0"), ("16384", "1"), ("1", "16384"), ("x", "1"), ("-1", "2")] {
        let bad = primary.ask::<()>(&["KEVY", "DIGEST", first, count]).expect_err("no such slots");
        assert!(bad.to_string().contains("out of range slot"), "{bad}");
    }
    assert_eq!(primary.ask::<String>(&["GET", "key"]).expect("GET"), "value");
}

fn await_synced(replica: &Kevy) {
    wait_until("the replica is synced", || replica.info("master_link_status").as_deref() == Some("up"));
}
