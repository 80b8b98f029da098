//! The name under which upstreams remember this node: the one that is configured, or one that was made once and is kept in a file of
//! `dir`, named by the client port, so that nodes may share a directory.
//!
//! A file that cannot be read or written is no reason not to run: it is said in the log, and the node goes on with a fresh name. All
//! that is lost is that the upstream knows it again after its next start.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::config::{Config, Role};
use super::node::random;
use crate::handshake::{IdError, ReplicaId};
use crate::limits::REPLICA_ID_BYTES_MAX;

/// A node's name, and where it is still to be kept.
#[derive(Debug)]
pub(super) struct Identity {
    /// The name.
    pub id: ReplicaId,
    /// The file that it is to be written to, once the node follows somebody; `None` where it is configured, or in its file already.
    pub unkept: Option<PathBuf>,
}

/// The name of the node that is about to start.
///
/// # Errors
/// If the configured one is none.
pub(super) fn find(config: &Config) -> Result<Identity, IdError> {
    if let Some(id) = &config.replica_id {
        return Ok(Identity { id: ReplicaId::new(id)?, unkept: None });
    }
    let fresh = ReplicaId::new(&format!("kevy-{:016x}", random()))?;
    if config.role == Role::Standalone {
        return Ok(Identity { id: fresh, unkept: None });
    }
    let file = config.dir.join(format!("kevy-{}.id", config.port));
    match read(&file) {
        Ok(Some(id)) => return Ok(Identity { id, unkept: None }),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, id = %fresh, "the replica id cannot be read; using a fresh one");
        }
    }
    Ok(Identity { id: fresh, unkept: Some(file) })
}

/// Writes the name to its file, whole or not at all.
pub(super) fn keep(file: &Path, id: &ReplicaId) {
    let beside = file.with_extension("id.new");
    let written = || -> io::Result<()> {
        let mut out = File::create(&beside)?;
        writeln!(out, "{id}")?;
        out.sync_all()?;
        fs::rename(&beside, file)
    };
    if let Err(error) = written() {
        // Where nothing can be written there may be nothing to remove, either.
        let _ = fs::remove_file(&beside);
        tracing::warn!(file = %file.display(), %error, %id, "the replica id cannot be kept; the next start makes a fresh one");
    }
}

/// The name in a file; `None` where there is no file.
fn read(file: &Path) -> io::Result<Option<ReplicaId>> {
    match fs::metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        // Who opens a pipe waits for whoever writes to it.
        Ok(found) if !found.is_file() => return Err(io::Error::other("not a file")),
        Ok(_) => {}
    }
    let mut text = String::new();
    File::open(file)?.take(REPLICA_ID_BYTES_MAX as u64 + 2).read_to_string(&mut text)?;
    ReplicaId::new(text.trim_end()).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_once_for_each_port() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { dir: dir.path().to_owned(), ..Config::default() };
        let made = find(&config).unwrap();
        keep(&made.unkept.unwrap(), &made.id);
        let found = find(&config).unwrap();
        assert_eq!((found.id, found.unkept), (made.id.clone(), None));
        assert_ne!(find(&Config { port: 6005, ..config.clone() }).unwrap().id, made.id);
        let told = find(&Config { replica_id: Some("told".into()), ..config.clone() }).unwrap();
        assert_eq!((told.id.as_str(), told.unkept), ("told", None));

        let file = dir.path().join("kevy-6004.id");
        for bad in ["", "\u{7}", &"x".repeat(10_000)] {
            fs::write(&file, bad).unwrap();
            let found = find(&config).unwrap();
            assert!(found.id != made.id && found.unkept == Some(file.clone()), "{bad:?}");
        }
        fs::write(&file, [0xff]).unwrap();
        assert!(find(&config).unwrap().unkept.is_some());
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(find(&config).unwrap().unkept.is_some());
        // It cannot be kept there, and that is all.
        keep(&file.join("no").join("such"), &made.id);
    }
}
