//! `kevy bench`, short: what it says has the shape that tools read, and its numbers are numbers of something.

use std::process::{Command, Stdio};

use serde_json::Value;

fn bench(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kevy"))
        .arg("bench")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("kevy can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {value}"))
}

#[test]
fn a_short_benchmark_writes_a_table_and_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bench.json");
    let flags = ["--seconds", "0.1", "--keys", "10k", "--backlog", "1mb", "--turn", "64", "--cpus", "off"];
    let scenes = ["--shards", "1,2", "--replicas", "0,1", "--json", file.to_str().unwrap()];
    let (code, out, err) = bench(&[&flags[..], &scenes].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(!out.contains('\x1b'), "no colours where there is no terminal: {out}");

    let json: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for name in ["cpu_model", "architecture", "cpus", "memory_bytes", "kernel", "governor", "load_average"] {
        assert!(json["machine"].get(name).is_some(), "the machine's {name}");
    }
    assert_eq!(json["versions"]["kevy"], env!("CARGO_PKG_VERSION"));
    assert!(json["versions"]["glommio"].is_string() && json["versions"]["optimised"].is_boolean());
    assert_eq!((number(&json["work"], "keys"), number(&json["work"], "value_bytes")), (10_000.0, 64.0));

    let scenes = json["scenes"].as_array().unwrap();
    let of = |scene: &Value| (number(scene, "shards"), number(scene, "replicas"));
    assert_eq!(scenes.iter().map(of).collect::<Vec<_>>(), [(1.0, 0.0), (1.0, 1.0), (2.0, 0.0), (2.0, 1.0)]);
    for scene in scenes {
        let (shards, replicas) = of(scene);
        assert_eq!(number(scene, "threads"), shards * (replicas + 1.0));
        assert_eq!(scene["pinned"], false);
        let per_shard = scene["per_shard"].as_array().unwrap();
        assert_eq!(per_shard.len() as f64, shards);
        for shard in per_shard {
            assert!(number(shard, "frames") > 0.0 && number(shard, "seconds") >= 0.1, "{shard}");
            let bytes = number(shard, "megabytes_per_second") * 1e6 / number(shard, "frames_per_second");
            assert!((80.0..150.0).contains(&bytes), "a frame of {bytes} bytes: {shard}");
            let sides = shard["replicas"].as_array().unwrap();
            assert_eq!(sides.len() as f64, replicas);
            for side in sides.iter().chain([&shard["primary"]]) {
                assert!(number(side, "cpu_us_per_frame") > 0.0, "{shard}");
                assert!((0.0..=1.0).contains(&number(side, "system_share")), "{shard}");
            }
        }
        let paced = &scene["paced"];
        assert_eq!(paced["frames_per_second_per_shard"].as_array().unwrap().len() as f64, shards);
        if replicas == 0.0 {
            assert!(paced["lag"].is_null() && scene["lag_flat"].is_null());
            continue;
        }
        for lag in [&paced["lag"], &scene["lag_flat"]] {
            let quantiles = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| number(lag, name));
            assert!(number(lag, "samples") > 0.0 && quantiles[0] > 0.0 && quantiles.is_sorted(), "{lag}");
        }
    }
    // The table has a line for each scene, below its head.
    let rows = out
        .lines()
        .filter(|line| line.trim_start_matches([' ', '*']).starts_with(|c: char| c.is_ascii_digit()))
        .count();
    assert_eq!(rows, scenes.len(), "{out}");
}

#[test]
fn a_benchmark_that_cannot_be_is_refused_in_one_line() {
    for (args, line) in [
        (&["--shards", "1,,2"][..], "kevy: --shards \"1,,2\": must be numbers from 1 to 64, comma between them\n"),
        (&["--seconds", "soon"], "kevy: --seconds \"soon\": must be a number from 0.1 to 600\n"),
        (&["--pace", "0"], "kevy: --pace \"0\": must be a number from 1 to 100\n"),
    ] {
        assert_eq!(bench(args), (Some(2), String::new(), line.to_owned()));
    }
    let (code, _, err) = bench(&["--json", "/no/such/directory/a.json"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("must be a file that can be written") && err.lines().count() == 1, "{err}");
}
