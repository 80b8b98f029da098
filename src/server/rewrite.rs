//! `CONFIG REWRITE`: the configuration file says what the node does now. Comments, order and everything that did not change stay as a
//! person wrote them; a key that differs from what the file says, or from its default, is put there.
//!
//! The new file is written beside the old one and takes its place as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use toml_edit::{DocumentMut, Item, Table, Value};

use super::config::{Config, KEYS, Machine};

/// Why a file is not rewritten; it is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum RewriteError {
    /// It cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What is in it now is no configuration.
    #[error("{0}")]
    Broken(String),
}

/// Makes the file at `path` say what `now` is.
///
/// # Errors
/// If it cannot be read, is no configuration, or cannot be replaced.
pub(super) fn rewrite(path: &Path, now: &Config, machine: &Machine) -> Result<(), RewriteError> {
    // What is replaced is the file itself, not a link to it.
    let path = fs::canonicalize(path)?;
    let before = fs::read_to_string(&path)?;
    let after = rewritten(&before, now, machine)?;
    if after == before {
        return Ok(());
    }
    let beside = path.with_extension("toml.new");
    let written = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        // There may be passwords in it.
        file.set_permissions(fs::metadata(&path)?.permissions())?;
        file.write_all(after.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    written().inspect_err(|_| _ = fs::remove_file(&beside)).map_err(RewriteError::Io)
}

/// The text `before` with what differs in `now`.
fn rewritten(before: &str, now: &Config, machine: &Machine) -> Result<String, RewriteError> {
    let broken = |error: &dyn std::fmt::Display| RewriteError::Broken(error.to_string());
    let said = Config::read(Some(("the file", before)), &[], machine).map_err(|error| broken(&error))?;
    let mut document: DocumentMut = before.parse().map_err(|error: toml_edit::TomlError| broken(&error))?;
    for key in KEYS {
        let value = (key.show)(now);
        if (key.show)(&said) == value {
            continue;
        }
        let section = document.entry(key.section).or_insert_with(|| Item::Table(Table::new()));
        let Some(section) = section.as_table_like_mut() else { return Err(broken(&"a section is no table")) };
        let name = key.alias.filter(|alias| section.contains_key(alias)).unwrap_or(key.name);
        let mut value = typed(&value, key.is_switch());
        match section.get_mut(name).and_then(Item::as_value_mut) {
            Some(old) => {
                *value.decor_mut() = old.decor().clone();
                *old = value;
            }
            None => _ = section.insert(name, Item::Value(value)),
        }
    }
    Ok(document.to_string())
}

/// A value as a person would write it.
fn typed(text: &str, switch: bool) -> Value {
    match text.parse::<i64>() {
        _ if switch => Value::from(text == "true"),
        Ok(number) => Value::from(number),
        Err(_) => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { cpus: vec![0, 1], parallelism: 2 }
    }

    fn after(before: &str, changes: &[(&'static str, &str)]) -> String {
        let config = Config::read(Some(("kevy.toml", before)), &[], &machine()).unwrap();
        let changes: Vec<_> = changes.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        rewritten(before, &config.changed(&changes).unwrap(), &machine()).unwrap()
    }

    #[test]
    fn what_a_person_wrote_stays() {
        let before = "# the main node\n[server]\nport = 7000 # in the rack\nthreads = 2\n\n# idle clients\ntimeout = 5 # seconds\n\n\
                      [replication]\nreplication_buffer_size = \"64mb\"\n";
        assert_eq!(after(before, &[]), before);
        assert_eq!(after(before, &[("timeout", "5")]), before);
        assert_eq!(after(before, &[("timeout", "9")]), before.replace("timeout = 5", "timeout = 9"));
        let changed = after(before, &[("replication_buffer_size", "65536kb"), ("replica_read_only", "no")]);
        assert_eq!(changed, before.to_owned() + "replica_read_only = false\n");
        let changed = after(before, &[("requirepass", "a \"word\"")]);
        assert!(changed.contains("requirepass = 'a \"word\"'\n"), "{changed}");
        assert_eq!(after("", &[("heartbeat_ms", "500")]), "[replication]\nheartbeat_ms = 500\n");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let changes = [("client_output_buffer_limit", "normal 1mb 0 0"), ("slowlog_log_slower_than", "-1")];
        let text = after("[server]\n", &changes);
        let config = Config::read(Some(("kevy.toml", &text)), &[], &machine()).unwrap();
        assert_eq!((config.output_limits.normal.hard, config.slowlog_log_slower_than), (1 << 20, None));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kevy.toml");
        fs::write(&path, "[server]\n").unwrap();
        let now = Config::read(None, &[], &machine()).unwrap().changed(&[("timeout", "3".into())]).unwrap();
        rewrite(&path, &now, &machine()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[server]\ntimeout = 3\n");
        fs::write(&path, "[server]\nnonsense = 1\n").unwrap();
        assert!(rewrite(&path, &now, &machine()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "[server]\nnonsense = 1\n");
        assert!(rewrite(&dir.path().join("none"), &now, &machine()).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
