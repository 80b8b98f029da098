//! What a node tells about itself: slow commands, latencies, memory, what commands cost.

use redis::{Connection, Value};

use crate::kevy::Kevy;

#[test]
fn slow_commands_are_remembered_with_who_sent_them() {
    let node =
        Kevy::start(2, &["--role", "standalone", "--slowlog-log-slower-than", "50000", "--slowlog-max-len", "3"]);
    let mut connection = node.connect();
    redis::cmd("CLIENT").arg("SETNAME").arg("me").exec(&mut connection).expect("CLIENT SETNAME");
    redis::cmd("SET").arg("k").arg("v").exec(&mut connection).expect("SET");
    redis::cmd("DEBUG").arg("SLEEP").arg("0.06").exec(&mut connection).expect("DEBUG SLEEP");
    assert_eq!(len(&mut connection), 1);
    let got: Vec<(u64, u64, u64, Vec<String>, String, String)> =
        redis::cmd("SLOWLOG").arg("GET").query(&mut connection).expect("SLOWLOG GET");
    let (_, at, micros, args, address, name) = &got[0];
    assert!(*at > 1_600_000_000 && *micros >= 60_000 && address.starts_with("127.0.0.1:"), "{got:?}");
    assert_eq!((args.join(" ").as_str(), name.as_str()), ("DEBUG SLEEP 0.06", "me"));
    redis::cmd("SLOWLOG").arg("RESET").exec(&mut connection).expect("SLOWLOG RESET");
    assert_eq!(len(&mut connection), 0);
    // Everything is slow from now on; what each shard remembers is bounded.
    redis::cmd("CONFIG").arg("SET").arg("slowlog-log-slower-than").arg("0").exec(&mut connection).expect("CONFIG SET");
    for i in 0..20 {
        redis::cmd("SET").arg(format!("k{i}")).arg("v").exec(&mut connection).expect("SET");
    }
    assert_eq!(len(&mut connection), 6);
    let shown: Vec<(u64, u64, u64, Vec<String>, String, String)> =
        redis::cmd("SLOWLOG").arg("GET").arg("-1").query(&mut connection).expect("SLOWLOG GET");
    let mut ids: Vec<u64> = shown.iter().map(|slow| slow.0).collect();
    ids.dedup();
    assert_eq!(ids.len(), shown.len(), "no number is given twice: {ids:?}");
    redis::cmd("CONFIG").arg("SET").arg("slowlog-log-slower-than").arg("-1").exec(&mut connection).expect("CONFIG SET");
    redis::cmd("SLOWLOG").arg("RESET").exec(&mut connection).expect("SLOWLOG RESET");
    redis::cmd("DEBUG").arg("SLEEP").arg("0.01").exec(&mut connection).expect("DEBUG SLEEP");
    assert_eq!(len(&mut connection), 0);
}

#[test]
fn latencies_are_noted_when_they_are_asked_for() {
    let node = Kevy::start(2, &["--role", "standalone"]);
    let mut connection = node.connect();
    let sleep = |connection: &mut Connection| {
        redis::cmd("DEBUG").arg("SLEEP").arg("0.03").exec(connection).expect("DEBUG SLEEP");
    };
    let latest = |connection: &mut Connection| -> Vec<(String, u64, u64, u64)> {
        redis::cmd("LATENCY").arg("LATEST").query(connection).expect("LATENCY LATEST")
    };
    sleep(&mut connection);
    assert!(latest(&mut connection).is_empty());
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("latency-monitor-threshold")
        .arg("20")
        .exec(&mut connection)
        .expect("CONFIG SET");
    sleep(&mut connection);
    let got = latest(&mut connection);
    assert!(got.len() == 1 && got[0].0 == "command" && got[0].2 >= 30 && got[0].3 >= 30, "{got:?}");
    let history: Vec<(u64, u64)> =
        redis::cmd("LATENCY").arg("HISTORY").arg("command").query(&mut connection).expect("LATENCY HISTORY");
    assert_eq!(history.len(), 1);
    let text: String = redis::cmd("LATENCY").arg("DOCTOR").query(&mut connection).expect("LATENCY DOCTOR");
    assert!(text.contains("command"), "{text}");
    assert_eq!(redis::cmd("LATENCY").arg("RESET").query::<u64>(&mut connection).expect("LATENCY RESET"), 1);
    assert!(latest(&mut connection).is_empty());
}

#[test]
fn commands_and_errors_are_counted_on_all_shards() {
    let node = Kevy::start(3, &["--role", "standalone"]);
    let mut connection = node.connect();
    for i in 0..30 {
        redis::cmd("SET").arg(format!("k{i}")).arg("v").exec(&mut connection).expect("SET");
    }
    redis::cmd("LPUSH").arg("k1").arg("v").exec(&mut connection).expect_err("it is a string");
    redis::cmd("GET").exec(&mut connection).expect_err("no key");
    redis::cmd("NOSUCH").exec(&mut connection).expect_err("no such command");
    redis::cmd("CONFIG").arg("NOSUCH").exec(&mut connection).expect_err("no such subcommand");
    let mut transaction = redis::pipe();
    transaction.atomic().cmd("CONFIG").arg("GET").arg("save").cmd("OBJECT").arg("ENCODING").arg("k1");
    transaction.query::<Value>(&mut connection).expect("EXEC");
    redis::cmd("OBJECT").arg("ENCODING").arg("k1").exec(&mut connection).expect("OBJECT");
    let info: String = redis::cmd("INFO").arg("commandstats").arg("errorstats").query(&mut connection).expect("INFO");
    for part in [
        "cmdstat_config|get:calls=1,",
        "cmdstat_object|encoding:calls=2,",
        "cmdstat_set:calls=30,",
        "cmdstat_lpush:calls=1,",
        "rejected_calls=0,failed_calls=1\r\n",
        "cmdstat_get:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0\r\n",
        "errorstat_ERR:count=3\r\n",
        "errorstat_WRONGTYPE:count=1\r\n",
    ] {
        assert!(info.contains(part), "{part} is not in {info}");
    }
    let all: String = redis::cmd("INFO").arg("everything").query(&mut connection).expect("INFO");
    assert!(all.contains("# Latencystats") && all.contains("latency_percentiles_usec_set:p50="), "{all}");
    let usual: String = redis::cmd("INFO").query(&mut connection).expect("INFO");
    assert!(!usual.contains("# Commandstats") && usual.contains("# Errorstats"));
    let histogram: Value =
        redis::cmd("LATENCY").arg("HISTOGRAM").arg("set").arg("nosuch").query(&mut connection).expect("HISTOGRAM");
    let Value::Array(parts) = histogram else { panic!("{histogram:?}") };
    assert_eq!(parts.len(), 2, "{parts:?}");
    let histogram: std::collections::BTreeMap<String, Value> =
        redis::cmd("LATENCY").arg("HISTOGRAM").arg("config").query(&mut connection).expect("HISTOGRAM");
    assert_eq!(histogram.keys().collect::<Vec<_>>(), ["config|get"], "of a command those of its subcommands");
    redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut connection).expect("CONFIG RESETSTAT");
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).expect("INFO");
    assert!(!info.contains("cmdstat_set:"), "{info}");
}

#[test]
fn keys_and_memory_are_described() {
    let node = Kevy::start(3, &["--role", "standalone"]);
    node.ask::<()>(&["SET", "k", &"v".repeat(10_000)]).expect("SET");
    let usage = |key: &str| node.ask::<Option<u64>>(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).expect("MEMORY USAGE");
    assert!((10_000..10_200).contains(&usage("k").expect("it is there")));
    assert_eq!(usage("nosuch"), None);
    let stats: std::collections::BTreeMap<String, u64> = node.ask(&["MEMORY", "STATS"]).expect("MEMORY STATS");
    assert_eq!(stats["keys.count"], 1);
    assert!(stats["dataset.bytes"] >= 10_000);
    for sub in ["DOCTOR", "PURGE", "MALLOC-STATS"] {
        node.ask::<String>(&["MEMORY", sub]).expect(sub);
    }
    let described: String = node.ask(&["DEBUG", "OBJECT", "k"]).expect("DEBUG OBJECT");
    assert!(described.contains("encoding:raw serializedlength:10000"), "{described}");
    node.ask::<()>(&["DEBUG", "OBJECT", "nosuch"]).expect_err("there is none");
    let error = node.ask::<()>(&["DEBUG", "JMAP"]).expect_err("refused").to_string();
    assert!(error.contains("not supported"), "{error}");
    assert_eq!(node.ask::<()>(&["DEBUG", "ERROR", "OOM too much"]).expect_err("as asked").code(), Some("OOM"));
}

fn len(connection: &mut Connection) -> u64 {
    redis::cmd("SLOWLOG").arg("LEN").query(connection).expect("SLOWLOG LEN")
}
