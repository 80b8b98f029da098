//! The names that Redis gives to our settings: what `CONFIG GET` answers and `CONFIG SET` takes. Sizes are bytes and switches are
//! `yes` or `no`, as Redis shows them. A setting that Redis has no name for has its own, with dashes. One of Redis's that we have no
//! part for is here only if tools ask for it, and keeps its one value.

use super::config::{Config, KEYS, Key, Role};
use super::settings::OutputLimits;
use crate::store::command::glob;

/// A setting under the name that clients use.
#[derive(Debug)]
pub struct Setting {
    /// The name.
    pub name: String,
    /// Its value.
    pub value: String,
    key: Option<(&'static str, Unit)>,
}

/// In what a value is said, where that is not how the configuration file says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    /// As in the file.
    Plain,
    /// Bytes.
    Bytes,
    /// Milliseconds in the file.
    Seconds,
    /// Bytes of all shards together; of each one in the file.
    BytesOfAll,
    /// `yes` and `no`.
    Switch,
    /// Classes of clients, each with its bytes.
    Limits,
}

/// Redis's name, the key of the file, the unit.
const RENAMED: &[(&str, &str, Unit)] = &[
    ("client-output-buffer-limit", "client_output_buffer_limit", Unit::Limits),
    ("client-query-buffer-limit", "client_query_buffer_limit", Unit::Bytes),
    ("cluster-enabled", "cluster_enabled", Unit::Switch),
    ("io-threads", "shards", Unit::Plain),
    ("maxmemory", "maxmemory", Unit::Bytes),
    ("min-replicas-max-lag", "min_replicas_max_lag_ms", Unit::Seconds),
    ("min-slaves-max-lag", "min_replicas_max_lag_ms", Unit::Seconds),
    ("min-slaves-to-write", "min_replicas_to_write", Unit::Plain),
    ("repl-backlog-size", "replication_buffer_size", Unit::BytesOfAll),
    ("repl-backlog-ttl", "reconnect_window_ms", Unit::Seconds),
    ("repl-ping-replica-period", "heartbeat_ms", Unit::Seconds),
    ("repl-timeout", "link_timeout_ms", Unit::Seconds),
    ("replica-read-only", "replica_read_only", Unit::Switch),
    ("replica-serve-stale-data", "serve_stale", Unit::Switch),
    ("slave-priority", "replica_priority", Unit::Plain),
    ("slave-read-only", "replica_read_only", Unit::Switch),
];

/// Settings of Redis's that are what they are here.
const FIXED: &[(&str, &str)] = &[
    ("activedefrag", "no"),
    ("appendfsync", "everysec"),
    ("appendonly", "no"),
    ("databases", "1"),
    ("lazyfree-lazy-eviction", "yes"),
    ("lazyfree-lazy-expire", "yes"),
    ("lazyfree-lazy-server-del", "yes"),
    ("lazyfree-lazy-user-del", "yes"),
    ("latency-tracking", "yes"),
    ("latency-tracking-info-percentiles", "50 99 99.9"),
    ("lfu-decay-time", "1"),
    ("lfu-log-factor", "10"),
    ("notify-keyspace-events", ""),
    ("repl-diskless-sync", "yes"),
    ("repl-disable-tcp-nodelay", "no"),
];

/// Every setting, in the order of the names.
pub fn settings(config: &Config) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, key, unit) in RENAMED {
        if let Some(key) = KEYS.iter().find(|k| k.name == *key) {
            settings.push(Setting::of(config, (*name).to_owned(), key, *unit));
        }
    }
    for key in KEYS {
        let name = key.name.replace('_', "-");
        if !settings.iter().any(|setting| setting.name == name) {
            let unit = if key.is_switch() { Unit::Switch } else { Unit::Plain };
            settings.push(Setting::of(config, name, key, unit));
        }
    }
    let fixed = |name: &str, value: &str| Setting { name: name.to_owned(), value: value.to_owned(), key: None };
    settings.extend(FIXED.iter().map(|(name, value)| fixed(name, value)));
    settings.push(fixed("proto-max-bulk-len", &crate::limits::BULK_BYTES_MAX.to_string()));
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    settings
}

/// The settings whose names fit one of `patterns`, in whatever case.
pub fn fitting(config: &Config, patterns: &[&[u8]]) -> Vec<Setting> {
    let patterns: Vec<Vec<u8>> = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let fits = |name: &str| patterns.iter().any(|pattern| glob::fits(pattern, name.as_bytes()));
    settings(config).into_iter().filter(|setting| fits(&setting.name)).collect()
}

/// Why a setting is not changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unchangeable {
    /// There is none of this name.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{0}'")]
    Unknown(String),
    /// It has one value.
    #[error("ERR CONFIG SET failed (possibly related to argument '{0}') - can't set immutable config")]
    Immutable(String),
    /// That is none of its values.
    #[error("ERR CONFIG SET failed (possibly related to argument '{0}') - {1}")]
    Impossible(String, &'static str),
    /// It cannot be, beside the others or on this machine.
    #[error("ERR CONFIG SET failed (possibly related to argument '{0}') - {1}")]
    Refused(String, String),
    /// It is named twice.
    #[error("ERR CONFIG SET failed (possibly related to argument '{0}') - duplicate parameter")]
    Twice(String),
}

/// What `CONFIG SET` pairs mean for keys of the file. One that is set to the value which it has means nothing.
///
/// # Errors
/// The first pair that cannot be meant.
pub fn changes(config: &Config, pairs: &[(String, String)]) -> Result<Vec<(&'static str, String)>, Unchangeable> {
    let settings = settings(config);
    let mut changes = Vec::new();
    for (number, (name, value)) in pairs.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        if pairs[..number].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(Unchangeable::Twice(name.clone()));
        }
        let setting = settings.iter().find(|setting| setting.name == lower);
        let setting = setting.ok_or_else(|| Unchangeable::Unknown(name.clone()))?;
        match setting.key {
            Some((key, unit)) if KEYS.iter().any(|k| k.name == key && k.live) => {
                let text = unit.read(value, config);
                let text = text.ok_or(Unchangeable::Impossible(name.clone(), "argument must be a whole number"))?;
                changes.push((key, text));
            }
            _ if setting.value == *value => {}
            _ => return Err(Unchangeable::Immutable(name.clone())),
        }
    }
    Ok(changes)
}

impl Setting {
    fn of(config: &Config, name: String, key: &Key, unit: Unit) -> Setting {
        Setting { name, value: unit.show(&(key.show)(config), config), key: Some((key.name, unit)) }
    }
}

impl Unit {
    /// What the file says, as clients see it.
    fn show(self, text: &str, config: &Config) -> String {
        let bytes = || text.parse::<super::size::Size>().map_or(0, |size| size.0);
        match self {
            Unit::Plain => text.to_owned(),
            Unit::Limits => OutputLimits::default().changed(text).map_or(text.to_owned(), OutputLimits::in_bytes),
            Unit::Bytes => bytes().to_string(),
            Unit::BytesOfAll if config.role == Role::Standalone => "0".to_owned(),
            Unit::BytesOfAll => (bytes() * u64::from(config.shards.get())).to_string(),
            // Rounded up: 0 would mean "never" or "off" to who reads it.
            Unit::Seconds => text.parse::<u64>().unwrap_or(0).div_ceil(1_000).to_string(),
            Unit::Switch => if matches!(text, "true" | "emulated") { "yes" } else { "no" }.to_owned(),
        }
    }

    /// What clients say, as the file would have it.
    fn read(self, value: &str, config: &Config) -> Option<String> {
        Some(match self {
            Unit::Plain | Unit::Bytes | Unit::Switch | Unit::Limits => value.to_owned(),
            Unit::Seconds => value.parse::<u64>().ok()?.checked_mul(1_000)?.to_string(),
            Unit::BytesOfAll => {
                let all = value.parse::<super::size::Size>().ok()?.0;
                all.div_ceil(u64::from(config.shards.get())).to_string()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardCount;

    fn setting(config: &Config, name: &str) -> String {
        settings(config).into_iter().find(|setting| setting.name == name).expect(name).value
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
            ("client-query-buffer-limit", "1073741824"),
            ("client-output-buffer-limit", "normal 0 0 0 slave 0 0 0 pubsub 33554432 8388608 60"),
            ("scrub-slots-per-second", "16"),
        ] {
            assert_eq!(setting(&config, name), value, "{name}");
        }
        let alone = Config { role: Role::Standalone, ..config };
        assert_eq!(setting(&alone, "repl-backlog-size"), "0");
    }

    #[test]
    fn the_manual_has_every_name() {
        let manual = include_str!("../../docs/operating.md");
        for (name, ..) in RENAMED {
            assert!(manual.contains(&format!("`{name}`")), "docs/operating.md lacks {name}");
        }
        for (name, _) in FIXED {
            assert!(manual.contains(&format!("`{name}`")), "docs/operating.md lacks {name}");
        }
    }

    #[test]
    fn names_are_in_order_and_once() {
        let all = settings(&Config::default());
        assert!(all.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(RENAMED.iter().all(|(_, key, _)| KEYS.iter().any(|k| k.name == *key)));
    }

    #[test]
    fn changes_are_said_in_redis_units() {
        let config = Config { shards: ShardCount::new(4).unwrap(), ..Config::default() };
        let said = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            changes(&config, &pairs)
        };
        let expected = vec![("link_timeout_ms", "5000".to_owned()), ("replication_buffer_size", "1000".to_owned())];
        assert_eq!(said(&[("repl-timeout", "5"), ("Repl-Backlog-Size", "4000")]), Ok(expected));
        assert_eq!(said(&[("appendonly", "no")]), Ok(vec![]));
        for (pairs, why) in [
            (&[("nosuch", "1")][..], "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
            (&[("timeout", "1"), ("port", "1")], "argument 'port') - can't set immutable config"),
            (&[("notify-keyspace-events", "KEA")], "can't set immutable config"),
            (&[("repl-timeout", "soon")], "argument must be a whole number"),
            (&[("timeout", "1"), ("TIMEOUT", "2")], "duplicate parameter"),
        ] {
            let error = said(pairs).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
