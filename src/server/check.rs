//! `kevy check A B`: whether two nodes hold the same, slot by slot, also while they are written to. It changes nothing.
//!
//! ```text
//! one history      A ── KEVY PROBE ──▶ its digest at an offset ─┐
//! (a primary and its   └ stream ─▶ B notes its own there         ├─ compared at the same offset
//! replica, or two      B ── KEVY PROBED ────────────────────────┘
//! replicas of one)
//! two histories    both ── KEVY DIGEST ──▶ compared; what differs is read again until neither changes
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Failure;
use super::config::HostPort;
use super::demo::client::{Client, Info, Value};
use crate::id::HASH_SLOTS;

/// The nodes to compare, by the addresses of their clients.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The two nodes.
    pub nodes: [HostPort; 2],
}

/// Compares, says what came out, and returns the exit code.
pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let [a, b] = &options.nodes;
    match Node::reach(a).and_then(|a| Ok((a, Node::reach(b)?))) {
        Ok((a, b)) if a.run_id == b.run_id => {
            Err(Failure::Usage(format!("{} and {} are the same node; name two", a.name, b.name)))
        }
        Ok((mut a, mut b)) => Ok(report(&compare(&mut a, &mut b), &a, &b)),
        Err(obstacle) => Ok(give_up(&obstacle)),
    }
}

fn report(compared: &Result<Vec<Difference>, Obstacle>, a: &Node, b: &Node) -> ExitCode {
    match compared {
        Ok(differences) if differences.is_empty() => {
            println!("equal: {} and {} hold the same in all {HASH_SLOTS} slots", a.name, b.name);
            ExitCode::SUCCESS
        }
        Ok(differences) => {
            for Difference { slot, keys } in differences.iter().take(LINES_MAX) {
                println!("slot {slot} differs; keys: {} at {}, {} at {}", keys[0], a.name, keys[1], b.name);
            }
            if differences.len() > LINES_MAX {
                println!("… and {} more", differences.len() - LINES_MAX);
            }
            println!("different: {} of {HASH_SLOTS} slots", differences.len());
            ExitCode::from(1)
        }
        Err(obstacle) => give_up(obstacle),
    }
}

fn give_up(obstacle: &Obstacle) -> ExitCode {
    eprintln!("kevy: cannot compare: {obstacle}");
    ExitCode::from(3)
}

/// Why nodes cannot be compared.
struct Obstacle(String);

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Obstacle {
    fn from(error: E) -> Obstacle {
        Obstacle(error.to_string())
    }
}

/// A slot that is not the same on both.
struct Difference {
    slot: u16,
    /// How many keys each node has in it.
    keys: [u64; 2],
}

/// What a node says of a slot.
#[derive(Clone, PartialEq, Eq, Default)]
struct Held {
    keys: u64,
    /// Empty where it has no keys.
    digest: String,
}

/// A point of a history.
type At = (String, i64);

struct Node {
    name: String,
    client: Client,
    run_id: String,
    role: Role,
}

/// What a node is, as far as it can be compared with others.
enum Role {
    Primary { generation: u64 },
    Replica { generation: u64, upstream: HostPort },
    Standalone,
}

impl Node {
    fn reach(at: &HostPort) -> Result<Node, Obstacle> {
        let name = at.to_string();
        let mut client = Client::connect_to(at)?;
        let server = client.info("server")?;
        let run_id = server.text("run_id").unwrap_or_default().to_owned();
        if server.text("kevy_version").is_none() {
            return Err(Obstacle(format!("{name} is no kevy")));
        }
        let role = Role::of(&name, &client.info("replication")?)?;
        Ok(Node { name, client, run_id, role })
    }

    fn digests(&mut self, subcommand: &str, slots: Slots) -> Result<BTreeMap<u16, (Option<At>, Held)>, Obstacle> {
        let (first, count) = (slots.first.to_string(), slots.count.to_string());
        let command = ["KEVY", subcommand, &first, &count];
        let answer = self.client.ask(&command)?;
        read(&answer).ok_or_else(|| Obstacle(format!("{} answered {} with {answer:?}", self.name, command.join(" "))))
    }
}

impl Role {
    fn of(name: &str, info: &Info) -> Result<Role, Obstacle> {
        let generation = info.part("stream0", "generation");
        if info.text("role") == Some("slave") {
            if info.number("master_sync_in_progress") == 1 {
                return Err(Obstacle(format!("{name} is syncing; try again when its master_link_status is up")));
            }
            let host = info.text("master_host").unwrap_or_default().to_owned();
            return Ok(Role::Replica {
                generation,
                upstream: HostPort { host, port: info.number("master_port") as u16 },
            });
        }
        Ok(if generation == 0 { Role::Standalone } else { Role::Primary { generation } })
    }
}

/// Some slots that are asked for at once.
#[derive(Clone, Copy)]
struct Slots {
    first: u16,
    count: u16,
}

impl Slots {
    /// All slots, `count` at a time.
    fn all(count: u16) -> impl Iterator<Item = Slots> {
        (0..HASH_SLOTS as u16).step_by(usize::from(count)).map(move |first| Slots { first, count })
    }
}

fn compare(a: &mut Node, b: &mut Node) -> Result<Vec<Difference>, Obstacle> {
    match (&a.role, &b.role) {
        (Role::Primary { generation }, Role::Replica { generation: same, .. }) if generation == same => {
            at_same_points(a, &mut [b], |at_primary, noted| [at_primary.clone(), noted[0].clone()])
        }
        (Role::Replica { generation, .. }, Role::Primary { generation: same }) if generation == same => {
            at_same_points(b, &mut [a], |at_primary, noted| [noted[0].clone(), at_primary.clone()])
        }
        (Role::Replica { generation, upstream }, Role::Replica { generation: same, .. })
            if generation == same && *generation != 0 =>
        {
            let mut primary = Node::reach(upstream)?;
            at_same_points(&mut primary, &mut [a, b], |_, noted| [noted[0].clone(), noted[1].clone()])
        }
        _ => while_quiet(a, b),
    }
}

/// Compares nodes of one history: `primary` names points of it, at which the replicas note what they hold.
fn at_same_points(
    primary: &mut Node,
    replicas: &mut [&mut Node],
    pair: impl Fn(&Held, &[Held]) -> [Held; 2],
) -> Result<Vec<Difference>, Obstacle> {
    let mut differences = Vec::new();
    for slots in Slots::all(SLOTS_PROBED) {
        let mut left: BTreeSet<u16> = (slots.first..slots.first + slots.count).collect();
        let began = Instant::now();
        while !left.is_empty() {
            let probed = primary.digests("PROBE", slots)?;
            let asked = Instant::now();
            // A probe that a cut link or a full queue lost is made again.
            while !left.is_empty() && asked.elapsed() < PROBE_PATIENCE {
                let noted: Vec<_> =
                    replicas.iter_mut().map(|replica| replica.digests("PROBED", slots)).collect::<Result<_, _>>()?;
                left.retain(|slot| {
                    let Some((at, held)) = probed.get(slot) else { return true };
                    let there: Vec<Held> = noted
                        .iter()
                        .filter_map(|noted| noted.get(slot).filter(|(noted_at, _)| noted_at == at))
                        .map(|(_, held)| held.clone())
                        .collect();
                    if there.len() < noted.len() {
                        return true;
                    }
                    let [here, there] = pair(held, &there);
                    if here.digest != there.digest {
                        differences.push(Difference { slot: *slot, keys: [here.keys, there.keys] });
                    }
                    false
                });
                if !left.is_empty() {
                    sleep(PAUSE);
                }
            }
            if let Some(slot) = left.first()
                && began.elapsed() > PATIENCE
            {
                let names: Vec<&str> = replicas.iter().map(|replica| replica.name.as_str()).collect();
                return Err(Obstacle(format!(
                    "{} did not come to the point of slot {slot} that {} named within {} s: behind, cut off, or without that slot",
                    names.join(" or "),
                    primary.name,
                    PATIENCE.as_secs()
                )));
            }
        }
    }
    differences.sort_by_key(|difference| difference.slot);
    Ok(differences)
}

/// Compares nodes that have no history in common: what differs must stay as it is to be told.
fn while_quiet(a: &mut Node, b: &mut Node) -> Result<Vec<Difference>, Obstacle> {
    let mut differences = Vec::new();
    for slots in Slots::all(SLOTS_READ) {
        let mut before = None;
        let began = Instant::now();
        loop {
            let now = [a.digests("DIGEST", slots)?, b.digests("DIGEST", slots)?];
            let of = |node: usize, slot: u16| now[node].get(&slot).map_or(Held::default(), |(_, held)| held.clone());
            let differing: Vec<Difference> = (slots.first..slots.first + slots.count)
                .filter(|slot| of(0, *slot).digest != of(1, *slot).digest)
                .map(|slot| Difference { slot, keys: [of(0, slot).keys, of(1, slot).keys] })
                .collect();
            let again = differing.iter().map(|d| (d.slot, of(0, d.slot), of(1, d.slot))).collect::<Vec<_>>();
            if differing.is_empty() || before.as_ref() == Some(&again) {
                differences.extend(differing);
                break;
            }
            if began.elapsed() > QUIET_PATIENCE {
                return Err(Obstacle(format!(
                    "{} and {} share no history, and one of them is written to: let them rest",
                    a.name, b.name
                )));
            }
            before = Some(again);
            sleep(PAUSE);
        }
    }
    Ok(differences)
}

/// Reads what `KEVY DIGEST`, `PROBE` and `PROBED` answer.
fn read(answer: &Value) -> Option<BTreeMap<u16, (Option<At>, Held)>> {
    let Value::Array(slots) = answer else { return None };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let read_one = |slot: &Value| {
        let Value::Array(fields) = slot else { return None };
        let (at, slot, keys, digest) = match &fields[..] {
            [Value::Integer(slot), Value::Integer(keys), Value::Bulk(digest)] => (None, slot, keys, digest),
            [
                Value::Integer(slot),
                Value::Bulk(generation),
                Value::Integer(offset),
                Value::Integer(keys),
                Value::Bulk(digest),
            ] => (Some((text(generation)?, *offset)), slot, keys, digest),
            _ => return None,
        };
        let held = Held { keys: u64::try_from(*keys).ok()?, digest: text(digest)? };
        Some((u16::try_from(*slot).ok()?, (at, held)))
    };
    slots.iter().map(read_one).collect()
}

/// Slots that are probed at a time: so many that a check takes a second or two, so few that their lines do not hold up a stream.
const SLOTS_PROBED: u16 = 256;
/// Slots that are read at a time where nodes are quiet.
const SLOTS_READ: u16 = 2_048;
const _: () =
    assert!(HASH_SLOTS.is_multiple_of(SLOTS_PROBED as usize) && HASH_SLOTS.is_multiple_of(SLOTS_READ as usize));
/// Pause before replicas are asked again.
const PAUSE: Duration = Duration::from_millis(5);
/// Time after which a probe counts as lost.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);
/// Time that replicas have to come to the point of a probe.
const PATIENCE: Duration = Duration::from_secs(40);
/// Time that nodes have to show that they rest.
const QUIET_PATIENCE: Duration = Duration::from_secs(5);
/// Slots that are named.
const LINES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn answers_of_both_forms_are_read_and_others_are_not() {
        let now = Value::Array(vec![Value::Integer(7), Value::Integer(2), bulk("00ff")]);
        let then = Value::Array(vec![Value::Integer(8), bulk("31"), Value::Integer(99), Value::Integer(0), bulk("00")]);
        let read_both = read(&Value::Array(vec![now, then])).expect("both are known");
        assert_eq!(read_both[&7].1.keys, 2);
        assert_eq!(read_both[&8].0, Some(("31".to_owned(), 99)));
        for bad in [Value::Null, Value::Array(vec![Value::Null]), Value::Array(vec![Value::Array(vec![bulk("7")])])] {
            assert!(read(&bad).is_none());
        }
        let negative = Value::Array(vec![Value::Integer(-1), Value::Integer(2), bulk("00ff")]);
        assert!(read(&Value::Array(vec![negative])).is_none());
    }
}
