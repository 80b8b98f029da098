//! `SUBSCRIBE` and its like, `PUBLISH`, `SPUBLISH`, `PUBSUB`, `MONITOR`.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::exchange::{Kind, Said};
use super::node::Node;
use super::session::ClientSession;
use crate::resp::{Protocol, Reply};
use crate::runtime::local::{Local, unix_now_micros};
use crate::runtime::ring::ring;
use crate::store::command::{Refusal, Spec, glob};
use crate::store::{Message, hash};
use crate::wire::Argv;

/// Whether a client that listens in RESP2 may say this.
pub(super) fn is_for_listeners(spec: &Spec) -> bool {
    matches!(
        spec.name,
        "subscribe"
            | "unsubscribe"
            | "psubscribe"
            | "punsubscribe"
            | "ssubscribe"
            | "sunsubscribe"
            | "ping"
            | "quit"
            | "reset"
    )
}

/// Answers `PING` as one who listens expects it: like a message.
pub(super) fn pong(argv: Argv<'_>, reply: &mut Reply<'_>) {
    reply.array(2);
    reply.bulk(b"pong");
    reply.bulk(argv.get(1).unwrap_or_default());
}

/// Executes `SUBSCRIBE`, `PSUBSCRIBE` and `SSUBSCRIBE`.
pub(super) fn subscribe(
    local: &Local,
    node: &Node,
    client: &ClientSession,
    kind: Kind,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) {
    client.me.take_pushed(out);
    for name in argv.iter().skip(1) {
        node.exchange.subscribe(local, node, &client.me, kind, name);
        let word = match kind {
            Kind::Channel => "subscribe",
            Kind::Pattern => "psubscribe",
            Kind::ShardChannel => "ssubscribe",
        };
        confirm(client, kind, word, Some(name), out);
    }
}

/// Executes `UNSUBSCRIBE`, `PUNSUBSCRIBE` and `SUNSUBSCRIBE`.
pub(super) fn unsubscribe(
    local: &Local,
    node: &Node,
    client: &ClientSession,
    kind: Kind,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) {
    // What was said before stands before the word that it is over.
    client.me.take_pushed(out);
    let word = match kind {
        Kind::Channel => "unsubscribe",
        Kind::Pattern => "punsubscribe",
        Kind::ShardChannel => "sunsubscribe",
    };
    let names: Vec<Arc<[u8]>> = match argv.len() {
        1 => {
            let subscribed = client.me.subscribed.borrow();
            let set = match kind {
                Kind::Channel => &subscribed.channels,
                Kind::Pattern => &subscribed.patterns,
                Kind::ShardChannel => &subscribed.shard_channels,
            };
            set.iter().cloned().collect()
        }
        _ => argv.iter().skip(1).map(Into::into).collect(),
    };
    if names.is_empty() {
        return confirm(client, kind, word, None, out);
    }
    for name in names {
        node.exchange.unsubscribe(local, node, &client.me, kind, &name);
        confirm(client, kind, word, Some(&name), out);
    }
}

fn confirm(client: &ClientSession, kind: Kind, word: &str, name: Option<&[u8]>, out: &mut Vec<u8>) {
    let subscribed = client.me.subscribed.borrow();
    let count = match kind {
        Kind::Channel | Kind::Pattern => subscribed.count(),
        Kind::ShardChannel => subscribed.shard_channels.len(),
    };
    let mut reply = Reply::new(out, client.protocol);
    reply.push(3);
    reply.bulk(word.as_bytes());
    reply.bulk_or_null(name);
    reply.count(count);
}

/// Executes `PUBLISH` and `SPUBLISH`: the shard that has the channel's hash slot records the message and says it to all.
pub(super) async fn publish(
    local: &Rc<Local>,
    client: &mut ClientSession,
    sharded: bool,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) {
    let message = Message { sharded, channel: argv.arg(1).into(), text: argv.arg(2).into() };
    let owner = local.count().owner(hash::locate(&message.channel).slot);
    let (answer, mut heard) = ring(1);
    let post = move |local: &Rc<Local>| {
        let recorded = local.core().publish(&message);
        let node = Node::here();
        (recorded, node.exchange.post(local, &node, Said::Message(message), Some(answer)))
    };
    let (recorded, count) = local.call(owner, post).await;
    if let Some(recorded) = recorded {
        client.written.note(owner, recorded);
    }
    let count = match count {
        Some(count) => count,
        None => {
            // The ring closes without a word where the node ends.
            let _ = heard.ready().await;
            heard.pop().unwrap_or(0)
        }
    };
    client.me.take_pushed(out);
    Reply::new(out, client.protocol).count(count);
}

/// What the shards of this node hear on `kind`, put together.
async fn listeners(local: &Rc<Local>, kind: Kind) -> BTreeMap<Arc<[u8]>, usize> {
    let mut all = BTreeMap::new();
    for part in local.call_all(move |_| Node::here().exchange.listeners(kind)).await {
        for (name, count) in part {
            *all.entry(name).or_default() += count;
        }
    }
    all
}

/// Executes `PUBSUB`.
pub(super) async fn pubsub(local: &Rc<Local>, argv: Argv<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let sub = argv.arg(1).to_ascii_lowercase();
    match (sub.as_slice(), argv.len()) {
        (b"channels" | b"shardchannels", 2 | 3) => {
            let kind = if sub == b"channels" { Kind::Channel } else { Kind::ShardChannel };
            let all = listeners(local, kind).await;
            let fits = |name: &&Arc<[u8]>| argv.get(2).is_none_or(|pattern| glob::fits(pattern, name));
            let fitting: Vec<_> = all.keys().filter(fits).collect();
            let mut reply = Reply::new(out, protocol);
            reply.array(fitting.len());
            fitting.iter().for_each(|name| reply.bulk(name));
        }
        (b"numsub" | b"shardnumsub", _) => {
            let kind = if sub == b"numsub" { Kind::Channel } else { Kind::ShardChannel };
            let all = listeners(local, kind).await;
            let mut reply = Reply::new(out, protocol);
            reply.array((argv.len() - 2) * 2);
            for name in argv.skip(2).iter() {
                reply.bulk(name);
                reply.count(all.get(name).copied().unwrap_or(0));
            }
        }
        (b"numpat", 2) => {
            let patterns: BTreeSet<_> = listeners(local, Kind::Pattern).await.into_keys().collect();
            Reply::new(out, protocol).count(patterns.len());
        }
        (b"help", 2) => Reply::new(out, protocol).lines(&HELP),
        // CHANNELS has one pattern at most.
        _ => Reply::new(out, protocol).error(Refusal::misused("pubsub", argv.arg(1))),
    }
}

const HELP: [&str; 6] = [
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "NUMPAT",
    "NUMSUB [<channel> ...]",
    "SHARDCHANNELS [<pattern>]",
    "SHARDNUMSUB [<shardchannel> ...]",
];

/// Executes `MONITOR`.
pub(super) fn monitor(local: &Local, node: &Node, client: &ClientSession, reply: &mut Reply<'_>) {
    node.exchange.monitor(local, node, &client.me);
    reply.ok();
}

/// Shows a command to those who monitor.
#[cold]
pub(super) fn show(local: &Local, node: &Node, client: &ClientSession, argv: Argv<'_>) {
    let now = unix_now_micros();
    let mut line = format!("+{}.{:06} [0 {}]", now / 1_000_000, now % 1_000_000, client.me.address).into_bytes();
    for arg in argv.iter() {
        line.extend_from_slice(b" \"");
        for byte in arg {
            match byte {
                b'\\' | b'"' => line.extend_from_slice(&[b'\\', *byte]),
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                b'\t' => line.extend_from_slice(b"\\t"),
                0x07 => line.extend_from_slice(b"\\a"),
                0x08 => line.extend_from_slice(b"\\b"),
                b' '..=b'~' => line.push(*byte),
                other => line.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
            }
        }
        line.push(b'"');
    }
    line.extend_from_slice(b"\r\n");
    node.exchange.post(local, node, Said::Line(line.into()), None);
}
