//! Which shard runs on which CPU, and how several nodes on one machine keep out of each other's way.
//!
//! A node claims a CPU by binding an abstract Unix socket with the CPU's number in its name. The kernel lets one
//! process have it and takes it back when the process ends, however it ends. Network namespaces do not see each
//! other's claims.

use std::fmt;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::str::FromStr;

use crate::id::{ShardCount, ShardId};

/// The number of a CPU, as the system counts them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CpuId(usize);

impl CpuId {
    /// CPU number `number`.
    pub const fn new(number: usize) -> CpuId {
        CpuId(number)
    }

    /// Its number.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The setting `cpus`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum CpuSetting {
    /// Each shard takes the first CPU that this process may use and no other node has claimed.
    #[default]
    Auto,
    /// No shard is pinned.
    Off,
    /// Shard `i` runs on the `i`-th of these, from the start again where they are fewer.
    List(Vec<CpuId>),
}

impl FromStr for CpuSetting {
    type Err = CpuSettingError;

    /// `auto`, `off`, or numbers and ranges as in `0,2,4-7`.
    fn from_str(text: &str) -> Result<CpuSetting, CpuSettingError> {
        match text {
            "auto" => return Ok(CpuSetting::Auto),
            "off" => return Ok(CpuSetting::Off),
            _ => {}
        }
        let malformed = || CpuSettingError::Malformed(text.to_owned());
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| malformed())?;
            let last: usize = last.trim().parse().map_err(|_| malformed())?;
            if first > last || last >= CPU_NUMBERS {
                return Err(malformed());
            }
            cpus.extend((first..=last).map(CpuId));
        }
        Ok(CpuSetting::List(cpus))
    }
}

/// Why a setting cannot be followed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CpuSettingError {
    /// It says nothing that is known.
    #[error("cpus = {0:?}: allowed are auto, off, or a list such as 0,2,4-7")]
    Malformed(String),
    /// It names a CPU that this process may not use.
    #[error("cpus: CPU {cpu} is not one that this process may use ({})", join(.allowed))]
    NotAllowed {
        /// The CPU.
        cpu: CpuId,
        /// Those that it may use.
        allowed: Vec<CpuId>,
    },
}

/// Where the shards run. Holds the claims; keep it as long as the process.
#[derive(Debug)]
pub struct Placement {
    cpus: Vec<Option<CpuId>>,
    _claims: Vec<UnixListener>,
}

impl Placement {
    /// Places `shards` on the CPUs that this process may use, by `setting`, and says in the log what it found.
    ///
    /// # Errors
    /// If the setting names a CPU that is not among `allowed`.
    pub fn choose(setting: &CpuSetting, allowed: &[CpuId], shards: ShardCount) -> Result<Placement, CpuSettingError> {
        let n = shards.get() as usize;
        match setting {
            CpuSetting::Off => Ok(Placement { cpus: vec![None; n], _claims: Vec::new() }),
            CpuSetting::Auto => Ok(auto(allowed, n, CLAIM_PREFIX)),
            CpuSetting::List(list) => {
                if let Some(&cpu) = list.iter().find(|cpu| !allowed.contains(cpu)) {
                    return Err(CpuSettingError::NotAllowed { cpu, allowed: allowed.to_vec() });
                }
                Ok(listed(list, n))
            }
        }
    }

    /// The CPU of `shard`; `None` where it is not pinned.
    pub fn cpu(&self, shard: ShardId) -> Option<CpuId> {
        self.cpus.get(shard.index()).copied().flatten()
    }
}

fn auto(allowed: &[CpuId], shards: usize, prefix: &str) -> Placement {
    let (mut cpus, mut claims) = (Vec::new(), Vec::new());
    for &cpu in allowed {
        if cpus.len() == shards {
            break;
        }
        if let Some(held) = claim(cpu, prefix) {
            claims.push(held);
            cpus.push(Some(cpu));
        }
    }
    let unpinned = shards - cpus.len();
    if unpinned > 0 {
        tracing::warn!(shards, unpinned, "no CPU is left for some shards: they run unpinned and share");
    }
    cpus.resize(shards, None);
    Placement { cpus, _claims: claims }
}

fn listed(list: &[CpuId], shards: usize) -> Placement {
    let cpus: Vec<Option<CpuId>> = list.iter().copied().map(Some).cycle().take(shards).collect();
    let mut used: Vec<CpuId> = cpus.iter().copied().flatten().collect();
    used.sort_unstable();
    used.dedup();
    if used.len() < shards {
        tracing::warn!(shards, cpus = used.len(), "fewer CPUs than shards: some share");
    }
    let claims: Vec<UnixListener> = used.iter().filter_map(|&cpu| claim(cpu, CLAIM_PREFIX)).collect();
    if claims.len() < used.len() {
        tracing::warn!(cpus = join(&used), "another kevy on this machine runs on some of these CPUs");
    }
    Placement { cpus, _claims: claims }
}

/// `None`: another process has it, or there are no abstract sockets to claim with.
fn claim(cpu: CpuId, prefix: &str) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("{prefix}{cpu}")).ok()?;
    UnixListener::bind_addr(&name).ok()
}

fn join(cpus: &[CpuId]) -> String {
    cpus.iter().map(CpuId::to_string).collect::<Vec<_>>().join(",")
}

const CLAIM_PREFIX: &str = "kevy-cpu-";

/// CPU numbers that an affinity mask can name.
const CPU_NUMBERS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(numbers: &[usize]) -> Vec<CpuId> {
        numbers.iter().copied().map(CpuId).collect()
    }

    #[test]
    fn the_setting_reads_words_numbers_and_ranges() {
        assert_eq!("auto".parse(), Ok(CpuSetting::Auto));
        assert_eq!("off".parse(), Ok(CpuSetting::Off));
        assert_eq!("0,2,4-6".parse(), Ok(CpuSetting::List(cpus(&[0, 2, 4, 5, 6]))));
        for bad in ["", "on", "1,", "3-1", "-1", "1-", "0-99999999999"] {
            let error = bad.parse::<CpuSetting>().unwrap_err();
            assert!(error.to_string().contains("auto, off, or a list"), "{bad}");
        }
    }

    #[test]
    fn nodes_on_one_machine_take_different_cpus_until_none_is_left() {
        let prefix = format!("kevy-test-{}-", std::process::id());
        let first = auto(&cpus(&[3, 5, 8]), 2, &prefix);
        assert_eq!(first.cpus, [Some(CpuId(3)), Some(CpuId(5))]);
        let second = auto(&cpus(&[3, 5, 8]), 2, &prefix);
        assert_eq!(second.cpus, [Some(CpuId(8)), None]);
        drop(first);
        let third = auto(&cpus(&[3, 5, 8]), 1, &prefix);
        assert_eq!(third.cpus, [Some(CpuId(3))], "a claim ends with its holder");
    }

    #[test]
    fn a_list_is_followed_or_refused() {
        let allowed = cpus(&[900, 901]);
        let four = ShardCount::new(4).unwrap();
        let placed = Placement::choose(&CpuSetting::List(allowed.clone()), &allowed, four).unwrap();
        assert_eq!(placed.cpus, [Some(CpuId(900)), Some(CpuId(901)), Some(CpuId(900)), Some(CpuId(901))]);
        let error = Placement::choose(&CpuSetting::List(cpus(&[902])), &allowed, four).unwrap_err();
        assert_eq!(error.to_string(), "cpus: CPU 902 is not one that this process may use (900,901)");
        assert_eq!(Placement::choose(&CpuSetting::Off, &allowed, four).unwrap().cpu(ShardId::new(0)), None);
    }
}
