//! The names that Redis gives to our settings: what `CONFIG GET` answers. Sizes are bytes and switches are `yes` or
//! `no`, as Redis shows them. A setting of Redis's that we have no part for is here only if tools ask for it.

use super::config::{Config, Role};
use crate::store::command::glob;

/// Every setting under Redis's name, in the order of the names.
pub fn settings(config: &Config) -> Vec<(&'static str, String)> {
    let shards = u64::from(config.shards.get());
    let backlog = if config.role == Role::Standalone { 0 } else { config.replication_buffer_size * shards };
    vec![
        ("appendonly", yes_no(false)),
        ("bind", config.bind.to_string()),
        ("cluster-enabled", yes_no(false)),
        ("databases", "1".to_owned()),
        ("dir", config.dir.display().to_string()),
        ("io-threads", shards.to_string()),
        ("maxclients", config.maxclients.to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("min-replicas-max-lag", seconds(config.min_replicas_max_lag_ms)),
        ("min-replicas-to-write", config.min_replicas_to_write.to_string()),
        ("port", config.port.to_string()),
        ("proto-max-bulk-len", crate::limits::BULK_BYTES_MAX.to_string()),
        ("repl-backlog-size", backlog.to_string()),
        ("repl-backlog-ttl", seconds(config.reconnect_window_ms)),
        ("repl-ping-replica-period", seconds(config.heartbeat_ms)),
        ("repl-timeout", seconds(config.link_timeout_ms)),
        ("replica-announce-ip", config.replica_announce_ip.clone().unwrap_or_default()),
        ("replica-announce-port", config.replica_announce_port.unwrap_or(0).to_string()),
        ("replica-priority", config.replica_priority.to_string()),
        ("replica-read-only", yes_no(config.replica_read_only)),
        ("replica-serve-stale-data", yes_no(config.serve_stale)),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ]
}

/// The settings whose names fit one of `patterns`, in whatever case.
pub fn fitting(config: &Config, patterns: &[&[u8]]) -> Vec<(&'static str, String)> {
    let patterns: Vec<Vec<u8>> = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let fits = |name: &str| patterns.iter().any(|pattern| glob::fits(pattern, name.as_bytes()));
    settings(config).into_iter().filter(|(name, _)| fits(name)).collect()
}

fn yes_no(on: bool) -> String {
    if on { "yes" } else { "no" }.to_owned()
}

/// Whole seconds, rounded up: 0 would mean "never" or "off" to who reads it.
fn seconds(ms: u64) -> String {
    ms.div_ceil(1_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardCount;

    fn setting(config: &Config, name: &str) -> String {
        settings(config).into_iter().find(|(n, _)| *n == name).expect(name).1
    }

    #[test]
    fn what_benchmarks_and_tools_ask_is_answered() {
        let config = Config { shards: ShardCount::new(4).unwrap(), ..Config::default() };
        for (name, value) in [
            ("save", ""),
            ("appendonly", "no"),
            ("databases", "1"),
            ("port", "6004"),
            ("timeout", "0"),
            ("maxmemory", "0"),
            ("repl-backlog-size", "1073741824"),
            ("repl-timeout", "60"),
            ("replica-read-only", "yes"),
        ] {
            assert_eq!(setting(&config, name), value, "{name}");
        }
        let alone = Config { role: Role::Standalone, ..config };
        assert_eq!(setting(&alone, "repl-backlog-size"), "0");
    }

    #[test]
    fn the_manual_has_every_name() {
        let manual = include_str!("../../docs/operating.md");
        for (name, _) in settings(&Config::default()) {
            assert!(manual.contains(&format!("`{name}`")), "docs/operating.md lacks {name}");
        }
    }

    #[test]
    fn names_are_in_order_and_once() {
        let all = settings(&Config::default());
        assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
