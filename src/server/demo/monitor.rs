//! What the live view watches, all of it asked of the primary: a replica that is frozen answers nothing.

use super::Trouble;
use super::client::Client;

/// A look at the primary, now and then.
pub(super) struct Monitor {
    primary: Client,
    /// Frames that the replica had acknowledged when its link was last there; none before it ever was.
    acked: Option<u64>,
}

/// What one look found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// Frames that the primary recorded so far.
    pub frames: u64,
    /// How many of them the replica has not acknowledged; 0 while there never was one.
    pub behind: u64,
    /// The primary's resident memory.
    pub memory_bytes: u64,
}

impl Monitor {
    /// Watches the primary with this client port.
    pub fn new(port: u16) -> Result<Monitor, Trouble> {
        Ok(Monitor { primary: Client::connect(port)?, acked: None })
    }

    /// Looks.
    pub fn look(&mut self) -> Result<Seen, Trouble> {
        let info = self.primary.info("replication")?;
        let frames = info.number("master_repl_offset");
        if info.text("slave0").is_some() {
            self.acked = Some(info.part("slave0", "offset"));
        }
        let memory_bytes = self.primary.info("memory")?.number("used_memory_rss");
        Ok(Seen { frames, behind: frames.saturating_sub(self.acked.unwrap_or(frames)), memory_bytes })
    }
}
