//! `CLUSTER` for clients that know clusters, where `cluster_enabled = "emulated"`: one primary has all hash slots, and its replicas
//! serve reads. What is told is what is so; there is nothing to be managed.
//!
//! ```text
//! primary: itself, and the replicas whose streams are all whole, by the addresses that they announce
//! replica: its primary, and itself; a client's write gets -MOVED to the primary
//! ```

use std::rc::Rc;

use super::info::{Snapshot, Standing};
use super::node::Node;
use super::session::ClientSession;
use super::survey;
use crate::id::{HASH_SLOTS, HashSlot};
use crate::resp::Reply;
use crate::runtime::local::{Local, unix_now};
use crate::snapshot::{Copy, Keyspace};
use crate::store::ScanCursor;
use crate::store::command::{Refusal, has_expired, number};
use crate::store::hash;
use crate::wire::Argv;

/// A node, as clients are told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Member {
    host: String,
    port: u16,
    /// What it has applied.
    offset: u64,
    is_primary: bool,
    /// The one that is asked.
    is_me: bool,
    /// Whether it may be read.
    is_well: bool,
}

impl Member {
    /// 40 hexadecimal digits that every node makes of the same address.
    fn id(&self) -> String {
        let address = format!("{}:{}", self.host, self.port);
        let (high, low) = (hash_of(&address, 1), hash_of(&address, 2));
        format!("{high:016x}{low:016x}{:08x}", hash_of(&address, 3) as u32)
    }
}

fn hash_of(text: &str, seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(text.as_bytes(), seed)
}

/// The nodes that are known here, the primary first. `me` is where this node is, as far as the one who asks sees it.
fn members(snapshot: &Snapshot, me: (String, u16)) -> Vec<Member> {
    let (host, port) = me;
    let myself = |is_primary, offset, is_well| Member { host, port, offset, is_primary, is_me: true, is_well };
    match &snapshot.standing {
        Standing::Standalone => vec![myself(true, 0, true)],
        Standing::Primary { .. } => {
            let replicas = snapshot.known_replicas().into_iter().map(|replica| Member {
                host: replica.host,
                port: replica.port,
                offset: replica.offset,
                is_primary: false,
                is_me: false,
                is_well: replica.is_online,
            });
            std::iter::once(myself(true, snapshot.recorded_next(), true)).chain(replicas).collect()
        }
        Standing::Replica(following) => {
            let primary = Member {
                host: following.host.clone(),
                port: following.port,
                offset: following.offset(),
                is_primary: true,
                is_me: false,
                is_well: following.is_up(),
            };
            if following.port == 0 {
                // Nobody has told yet where its clients go.
                return vec![myself(false, 0, false)];
            }
            vec![primary, myself(false, following.offset(), following.is_synced())]
        }
    }
}

/// Executes `CLUSTER`.
pub(super) async fn execute(
    local: &Rc<Local>,
    node: &Rc<Node>,
    client: &ClientSession,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) {
    let protocol = client.protocol;
    let sub = argv.arg(1).to_ascii_lowercase();
    if !node.shared.config.emulates_cluster && sub != b"help" {
        return Reply::new(out, protocol).error("ERR This instance has cluster support disabled");
    }
    match (sub.as_slice(), argv.len()) {
        (b"keyslot", 3) => Reply::new(out, protocol).count(hash::locate(argv.arg(2)).slot.index()),
        (b"countkeysinslot", 3) => match slot(argv.arg(2)) {
            Some(slot) => {
                let keys = keys_of(local, slot, usize::MAX).await.len();
                Reply::new(out, protocol).count(keys);
            }
            None => Reply::new(out, protocol).error(BAD_SLOT),
        },
        (b"getkeysinslot", 4) => {
            let count = number::integer(argv.arg(3)).and_then(|count| usize::try_from(count).ok());
            let (Some(slot), Some(count)) = (slot(argv.arg(2)), count) else {
                return Reply::new(out, protocol).error("ERR Invalid slot or number of keys");
            };
            let keys = keys_of(local, slot, count).await;
            let mut reply = Reply::new(out, protocol);
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
        (b"slots" | b"shards" | b"nodes" | b"info" | b"myid" | b"replicas" | b"slaves", _) => {
            let snapshot = survey::snapshot(local, node).await;
            let members = members(&snapshot, my_address(node, client));
            let mut reply = Reply::new(out, protocol);
            match sub.as_slice() {
                b"slots" => slots(&members, &mut reply),
                b"shards" => shards(&members, &mut reply),
                b"nodes" => reply.verbatim("txt", nodes(&members).as_bytes()),
                b"info" => reply.verbatim("txt", info(&members).as_bytes()),
                b"myid" => {
                    let id = members.iter().find(|member| member.is_me).map(Member::id);
                    reply.bulk(id.unwrap_or_default().as_bytes());
                }
                _ => {
                    let replicas = members.iter().filter(|member| !member.is_primary);
                    let lines: Vec<String> = replicas.map(|member| node_line(member, &members)).collect();
                    reply.array(lines.len());
                    lines.iter().for_each(|line| reply.bulk(line.as_bytes()));
                }
            }
        }
        (b"links", 2) => Reply::new(out, protocol).array(0),
        (b"help", 2) => Reply::new(out, protocol).lines(&HELP),
        _ => Reply::new(out, protocol).error(Refusal::misused("cluster", argv.arg(1))),
    }
}

const HELP: [&str; 11] = [
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "COUNTKEYSINSLOT <slot>",
    "GETKEYSINSLOT <slot> <count>",
    "INFO",
    "KEYSLOT <key>",
    "LINKS",
    "MYID",
    "NODES",
    "REPLICAS <node-id>",
    "SHARDS",
    "SLOTS",
];

const BAD_SLOT: &str = "ERR Invalid or out of range slot";

fn slot(text: &[u8]) -> Option<HashSlot> {
    HashSlot::new(u16::try_from(number::integer(text)?).ok()?)
}

/// Where this node is: what it announces, else where the client has found it.
fn my_address(node: &Node, client: &ClientSession) -> (String, u16) {
    let settings = node.settings.borrow();
    let found = client.me.local_address.rsplit_once(':').map_or("", |(host, _)| host);
    let host = settings.replica_announce_ip.clone();
    let host = host.unwrap_or_else(|| found.trim_matches(['[', ']']).to_owned());
    (host, settings.replica_announce_port.unwrap_or(settings.port))
}

/// Keys of a slot that have not expired, up to `most`.
async fn keys_of(local: &Rc<Local>, slot: HashSlot, most: usize) -> Vec<Vec<u8>> {
    let look = move |local: &Rc<Local>| {
        let core = local.core();
        let mut keys = Vec::new();
        if !core.serves(slot) || core.store.slot_len(Copy::Live, slot) == 0 {
            return keys;
        }
        let mut cursor = ScanCursor::at_slot(slot);
        let now = unix_now();
        loop {
            cursor = core.store.scan(cursor, 1, |entry| {
                if keys.len() < most && hash::locate(entry.key()).slot == slot && !has_expired(&entry, now) {
                    keys.push(entry.key().to_vec());
                }
            });
            if keys.len() >= most || cursor == ScanCursor::START || cursor.slot() != slot {
                return keys;
            }
        }
    };
    local.call(local.count().owner(slot), look).await
}

fn slots(members: &[Member], reply: &mut Reply<'_>) {
    if !members.iter().any(|member| member.is_primary) {
        return reply.array(0);
    }
    let there: Vec<&Member> = members.iter().filter(|member| member.is_primary || member.is_well).collect();
    reply.array(1);
    reply.array(2 + there.len());
    reply.integer(0);
    reply.integer(HASH_SLOTS as i64 - 1);
    for member in there {
        reply.array(4);
        reply.bulk(member.host.as_bytes());
        reply.integer(i64::from(member.port));
        reply.bulk(member.id().as_bytes());
        reply.array(0);
    }
}

fn shards(members: &[Member], reply: &mut Reply<'_>) {
    reply.array(1);
    reply.map(2);
    reply.bulk(b"slots");
    reply.array(2);
    reply.integer(0);
    reply.integer(HASH_SLOTS as i64 - 1);
    reply.bulk(b"nodes");
    reply.array(members.len());
    for member in members {
        reply.map(7);
        let role = if member.is_primary { "master" } else { "replica" };
        let health = if member.is_well { "online" } else { "loading" };
        let id = member.id();
        for (field, value) in
            [("id", id.as_str()), ("endpoint", &member.host), ("ip", &member.host), ("role", role), ("health", health)]
        {
            reply.bulk(field.as_bytes());
            reply.bulk(value.as_bytes());
        }
        for (field, value) in [("port", u64::from(member.port)), ("replication-offset", member.offset)] {
            reply.bulk(field.as_bytes());
            reply.integer(value as i64);
        }
    }
}

fn nodes(members: &[Member]) -> String {
    members.iter().map(|member| node_line(member, members) + "\n").collect()
}

fn node_line(member: &Member, members: &[Member]) -> String {
    let mut flags = Vec::new();
    if member.is_me {
        flags.push("myself");
    }
    flags.push(if member.is_primary { "master" } else { "slave" });
    let follows = match members.iter().find(|other| other.is_primary) {
        Some(primary) if !member.is_primary => primary.id(),
        _ => "-".to_owned(),
    };
    let Member { host, port, .. } = member;
    let link = if member.is_well || member.is_me { "connected" } else { "disconnected" };
    let slots = if member.is_primary { " 0-16383" } else { "" };
    format!("{} {host}:{port}@0 {} {follows} 0 0 1 {link}{slots}", member.id(), flags.join(","))
}

fn info(members: &[Member]) -> String {
    let state = if members.iter().any(|member| member.is_primary && member.is_well) { "ok" } else { "fail" };
    format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{HASH_SLOTS}\r\ncluster_slots_ok:{HASH_SLOTS}\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{}\r\ncluster_size:1\r\ncluster_current_epoch:1\r\ncluster_my_epoch:1\r\n",
        members.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(port: u16, is_primary: bool, is_me: bool, is_well: bool) -> Member {
        Member { host: "10.0.0.1".into(), port, offset: 7, is_primary, is_me, is_well }
    }

    #[test]
    fn a_line_says_who_follows_whom() {
        let members = [member(1, true, true, true), member(2, false, false, true), member(3, false, false, false)];
        let text = nodes(&members);
        let [primary, replica, syncing] = [0, 1, 2].map(|line| text.lines().nth(line).unwrap().to_owned());
        let id = members[0].id();
        assert_eq!(primary, format!("{id} 10.0.0.1:1@0 myself,master - 0 0 1 connected 0-16383"));
        assert_eq!(replica, format!("{} 10.0.0.1:2@0 slave {id} 0 0 1 connected", members[1].id()));
        assert!(syncing.ends_with(" disconnected"));
        assert!(id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(info(&members).contains("cluster_state:ok\r\n") && info(&members).contains("cluster_known_nodes:3"));
        assert!(info(&[member(1, true, false, false)]).contains("cluster_state:fail"));
    }

    #[test]
    fn only_replicas_that_may_be_read_have_slots() {
        let members = [member(1, true, true, true), member(2, false, false, true), member(3, false, false, false)];
        let mut out = Vec::new();
        slots(&members, &mut Reply::new(&mut out, crate::resp::Protocol::Resp2));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("*1\r\n*4\r\n:0\r\n:16383\r\n*4\r\n$8\r\n10.0.0.1\r\n:1\r\n"), "{text}");
        assert!(text.contains(":2\r\n") && !text.contains(":3\r\n"), "{text}");
    }
}
