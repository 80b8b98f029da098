//! Commands about the connection and the node.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_lite::FutureExt;

use super::client_command;
use super::clients::Client;
use super::cluster;
use super::config::HostPort;
use super::config_command;
use super::digests;
use super::exchange::Kind;
use super::info;
use super::node::Node;
use super::observe;
use super::pubsub;
use super::session::ClientSession;
use super::survey;
use super::transaction;
use super::upstream::{self, Address, Wish};
use crate::id::ShardId;
use crate::limits;
use crate::resp::{Protocol, Reply};
use crate::runtime::clock::sleep;
use crate::runtime::local::{Call, Local, Request};
use crate::runtime::ring::ring;
use crate::store::command::refusal::NOT_AN_INTEGER;
use crate::store::command::{Refusal, Spec, introspect, number};
use crate::wire::Argv;

/// Executes a command of the server. `false`: the connection ends once the reply is out.
pub(super) async fn execute(
    local: &Rc<Local>,
    node: &Rc<Node>,
    client: &mut ClientSession,
    spec: &'static Spec,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let protocol = client.protocol;
    let mut reply = Reply::new(out, protocol);
    match spec.verb() {
        "select" => match number::integer(argv.arg(1)) {
            Some(0) => reply.ok(),
            Some(_) => reply.error("ERR DB index is out of range"),
            None => reply.error(NOT_AN_INTEGER),
        },
        "hello" => hello(node, client, argv, out),
        "auth" => auth(node, client, argv, out),
        "quit" => {
            reply.ok();
            return false;
        }
        "reset" => {
            node.exchange.leave(local, node, &client.me);
            client.reset(node.settings.borrow().requirepass.is_none());
            reply.simple("RESET");
        }
        "time" => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            reply.array(2);
            reply.bulk_integer(since.as_secs() as i64);
            reply.bulk_integer(i64::from(since.subsec_micros()));
        }
        // As Redis does: nothing was saved since the start.
        "lastsave" => {
            let uptime = node.shared.started.elapsed().as_secs();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            reply.integer(now.saturating_sub(uptime) as i64);
        }
        // Of ACL there is WHOAMI alone, and one user.
        "acl" => reply.bulk(b"default"),
        "client" => client_command::execute(local, client, argv, out).await,
        "command" => introspect::command(argv, &mut reply),
        "cluster" => cluster::execute(local, node, client, argv, out).await,
        // Reads are answered on a replica whether they were announced or not.
        "readonly" | "readwrite" if node.shared.config.emulates_cluster => reply.ok(),
        "readonly" | "readwrite" => reply.error("ERR This instance has cluster support disabled"),
        "latency" => observe::latency(local, argv, protocol, out).await,
        "memory" => observe::memory(local, node, argv, protocol, out).await,
        "slowlog" => observe::slowlog(local, argv, protocol, out).await,
        "config" => config_command::execute(local, node, argv, protocol, out).await,
        "debug" => debug(local, &client.me, argv, protocol, out).await,
        "kevy" => digests::execute(local, &client.me, argv, protocol, out).await,
        "info" => {
            let sections: Vec<&[u8]> = argv.iter().skip(1).collect();
            let text = survey::snapshot(local, node).await.info(&sections);
            Reply::new(out, protocol).verbatim("txt", text.as_bytes());
        }
        "role" => survey::snapshot(local, node).await.role(&mut Reply::new(out, protocol)),
        "replicaof" | "slaveof" => replica_of(local, node, argv, protocol, out).await,
        "shutdown" => {
            tracing::info!(client = client.me.address, "SHUTDOWN");
            local.executor().begin_shutdown();
            return false;
        }
        "publish" | "spublish" => pubsub::publish(local, client, spec.name == "spublish", argv, out).await,
        "subscribe" => pubsub::subscribe(local, node, client, Kind::Channel, argv, out),
        "psubscribe" => pubsub::subscribe(local, node, client, Kind::Pattern, argv, out),
        "ssubscribe" => pubsub::subscribe(local, node, client, Kind::ShardChannel, argv, out),
        "unsubscribe" => pubsub::unsubscribe(local, node, client, Kind::Channel, argv, out),
        "punsubscribe" => pubsub::unsubscribe(local, node, client, Kind::Pattern, argv, out),
        "sunsubscribe" => pubsub::unsubscribe(local, node, client, Kind::ShardChannel, argv, out),
        "pubsub" => pubsub::pubsub(local, argv, protocol, out).await,
        "monitor" => pubsub::monitor(local, node, client, &mut reply),
        "multi" => transaction::multi(client, &mut reply),
        "exec" => return transaction::exec(local, node, client, out).await,
        "discard" => transaction::discard(client, &mut reply),
        "watch" => transaction::watch(local, client, argv, out).await,
        "unwatch" => {
            client.watching = None;
            client.me.watches.set(0);
            reply.ok();
        }
        _ => reply.error(format_args!("ERR '{}' is not built yet", spec.name)),
    }
    true
}

/// Executes `AUTH [user] password`.
fn auth(node: &Node, client: &mut ClientSession, argv: Argv<'_>, out: &mut Vec<u8>) {
    let known = match argv.len() {
        2 if node.settings.borrow().requirepass.is_none() => Err(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ),
        2 => authenticate(node, client, None, argv.arg(1)),
        3 => authenticate(node, client, Some(argv.arg(1)), argv.arg(2)),
        _ => Err("ERR syntax error"),
    };
    let mut reply = Reply::new(out, client.protocol);
    match known {
        Ok(()) => reply.ok(),
        Err(why) => reply.error(why),
    }
}

/// Lets a client in that says the password. There is one user, `default`.
fn authenticate(
    node: &Node,
    client: &mut ClientSession,
    user: Option<&[u8]>,
    password: &[u8],
) -> Result<(), &'static str> {
    let settings = node.settings.borrow();
    let is_right = settings.requirepass.as_ref().is_none_or(|wanted| wanted.is(password));
    if !is_right || user.is_some_and(|user| user != b"default") {
        return Err("WRONGPASS invalid username-password pair or user is disabled.");
    }
    client.authenticated = true;
    Ok(())
}

fn hello(node: &Node, client: &mut ClientSession, argv: Argv<'_>, out: &mut Vec<u8>) {
    let mut protocol = client.protocol;
    let mut name = None;
    if let Some(version) = argv.get(1) {
        protocol = match version {
            b"2" => Protocol::Resp2,
            b"3" => Protocol::Resp3,
            _ if number::integer(version).is_none() => {
                return Reply::new(out, client.protocol)
                    .error("ERR Protocol version is not an integer or out of range");
            }
            _ => return Reply::new(out, client.protocol).error("NOPROTO unsupported protocol version"),
        };
        let mut index = 2;
        while let Some(option) = argv.get(index) {
            let left = argv.len() - index - 1;
            if option.eq_ignore_ascii_case(b"AUTH") && left >= 2 {
                if let Err(why) = authenticate(node, client, Some(argv.arg(index + 1)), argv.arg(index + 2)) {
                    return Reply::new(out, client.protocol).error(why);
                }
                index += 3;
            } else if option.eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
                if let Err(why) = client_command::check_name(argv.arg(index + 1)) {
                    return Reply::new(out, client.protocol).error(why);
                }
                name = Some(argv.arg(index + 1).to_vec());
                index += 2;
            } else {
                let text = String::from_utf8_lossy(option);
                return Reply::new(out, client.protocol)
                    .error(format_args!("ERR Syntax error in HELLO option '{text}'"));
            }
        }
    }
    if !client.authenticated {
        return Reply::new(out, client.protocol).error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        );
    }
    client.set_protocol(protocol);
    if let Some(name) = name {
        *client.me.name.borrow_mut() = name;
    }
    let role = match node.upstream.borrow().is_some() || node.shared.config.role == super::config::Role::Replica {
        true => "replica",
        false => "master",
    };
    let mode = if node.shared.config.emulates_cluster { "cluster" } else { "standalone" };
    let mut reply = Reply::new(out, protocol);
    reply.map(7);
    for (field, value) in [("server", "redis"), ("version", info::REDIS_VERSION)] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(client.me.id as i64);
    for (field, value) in [("mode", mode), ("role", role)] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

async fn debug(local: &Rc<Local>, client: &Client, argv: Argv<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    match argv.arg(1).to_ascii_lowercase().as_slice() {
        b"digest" if argv.len() == 2 => {
            let sum = digests::digest_of_all(local, client).await;
            let mut reply = Reply::new(out, protocol);
            match sum {
                Ok(sum) => reply.simple(&format!("{:040x}", sum.0)),
                Err(error) => reply.error(error),
            }
        }
        b"sleep" if argv.len() == 3 => {
            // Every shard stands, as a server with a single thread would.
            let text = std::str::from_utf8(argv.arg(2)).unwrap_or_default();
            let seconds = text.trim().parse::<f64>().ok().filter(|seconds| (0.0..86_400.0).contains(seconds));
            let pause = Duration::from_secs_f64(seconds.unwrap_or(0.0));
            let mut others = Vec::new();
            for shard in local.count().shards().filter(|shard| *shard != local.id()) {
                let sleep: Call = Box::new(move |_| {
                    std::thread::sleep(pause);
                    Box::new(())
                });
                others.push(local.send(shard, Request::Call(sleep)).await);
            }
            std::thread::sleep(pause);
            for other in others {
                other.await;
            }
            Reply::new(out, protocol).ok();
        }
        b"object" if argv.len() == 3 => observe::object(local, argv.arg(2), protocol, out).await,
        b"error" if argv.len() == 3 => Reply::new(out, protocol).error(String::from_utf8_lossy(argv.arg(2))),
        b"jmap" => Reply::new(out, protocol).error("ERR DEBUG JMAP is not supported: kevy has no Java heap to show"),
        b"corrupt" if argv.len() == 3 => digests::corrupt(local, &client.address, argv.arg(2), protocol, out).await,
        b"set-active-expire" if argv.len() == 3 => {
            let expires = number::integer(argv.arg(2)).is_some_and(|on| on != 0);
            local.call_all(move |local| local.core().set_expires_actively(expires)).await;
            Reply::new(out, protocol).ok();
        }
        b"protocol" if argv.len() == 3 => show_type(argv.arg(2), &mut Reply::new(out, protocol)),
        b"help" if argv.len() == 2 => Reply::new(out, protocol).lines(&DEBUG_HELP),
        _ => Reply::new(out, protocol).error(Refusal::misused("debug", argv.arg(1))),
    }
}

const DEBUG_HELP: [&str; 9] = [
    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CORRUPT <key>",
    "DIGEST",
    "ERROR <string>",
    "OBJECT <key>",
    "PROTOCOL <type>",
    "SET-ACTIVE-EXPIRE <0|1>",
    "SLEEP <seconds>",
    "HELP",
];

/// `DEBUG PROTOCOL type`: something of each type that a reply can have.
fn show_type(kind: &[u8], reply: &mut Reply<'_>) {
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12_345),
        b"double" => reply.double(3_141.0 / 1_000.0),
        b"null" => reply.null(),
        b"array" | b"set" => {
            if kind.eq_ignore_ascii_case(b"set") { reply.set(3) } else { reply.array(3) }
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"push" if reply.protocol() == Protocol::Resp2 => reply.error("ERR RESP2 is not supported by this command"),
        b"push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        _ => reply.error(
            "ERR Wrong protocol type name. Please use one of the following: string|integer|double|null|array|set|map|push|verbatim|true|false",
        ),
    }
}

/// `REPLICAOF host port` and `REPLICAOF NO ONE`.
async fn replica_of(local: &Rc<Local>, node: &Rc<Node>, argv: Argv<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let (done, mut finished) = ring::<()>(1);
    let wish = if argv.arg(1).eq_ignore_ascii_case(b"no") && argv.arg(2).eq_ignore_ascii_case(b"one") {
        Wish::Nobody(done)
    } else {
        let host = String::from_utf8_lossy(argv.arg(1)).into_owned();
        let port = number::integer(argv.arg(2)).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let Some(port) = port else { return Reply::new(out, protocol).error("ERR Invalid master port") };
        if node.shared.config.role == super::config::Role::Standalone {
            return Reply::new(out, protocol)
                .error("ERR a standalone node has no replication ports; start it with role = primary or replica");
        }
        let at = HostPort { host, port };
        // One that does not answer now is dialled until it does; one that answers and cannot be followed is an error.
        let asked = async { upstream::replication_base(local, node, &at).await.map(drop) };
        let late = async {
            sleep(Duration::from_millis(limits::REPLICAOF_ASK_MS)).await;
            Ok(())
        };
        match asked.or(late).await {
            Err(error) if error == upstream::SELF || error.contains("repl_port_base") || error.contains("NOAUTH") => {
                return Reply::new(out, protocol).error(format_args!("ERR {error}"));
            }
            Ok(()) | Err(_) => Wish::Follow(Address::Client(at), done),
        }
    };
    local
        .call(ShardId::new(0), move |_| {
            let node = Node::here();
            match &wish {
                // The same command again, as failover tools send it, is no consent to anything new.
                Wish::Follow(Address::Client(at), _) if upstream::wanted(&node).as_ref() == Some(at) => {}
                _ => upstream::wish(&node, wish),
            }
        })
        .await;
    // The ring closes when it is done.
    let _ = finished.ready().await;
    Reply::new(out, protocol).ok();
}
