//! `CLIENT` and its subcommands.

use std::rc::Rc;

use super::clients::{Client, Unblocked};
use super::node::{Node, Pause};
use super::session::{ClientSession, Replies};
use crate::resp::{Protocol, Reply};
use crate::runtime::clock::now;
use crate::runtime::local::Local;
use crate::store::command::{Refusal, number};
use crate::wire::Argv;

/// Executes `CLIENT`.
pub(super) async fn execute(local: &Rc<Local>, client: &mut ClientSession, argv: Argv<'_>, out: &mut Vec<u8>) {
    let protocol = client.protocol;
    let sub = argv.arg(1).to_ascii_lowercase();
    let mut reply = Reply::new(out, protocol);
    match (sub.as_slice(), argv.len()) {
        (b"id", 2) => reply.integer(client.me.id as i64),
        (b"getname", 2) => {
            let name = client.me.name.borrow();
            if name.is_empty() { reply.null() } else { reply.bulk(&name) }
        }
        (b"setname", 3) => set_name(client, argv.arg(2), &mut reply),
        (b"setinfo", 4) => set_info(client, argv, &mut reply),
        (b"info", 2) => reply.verbatim("txt", line(&client.me).as_bytes()),
        (b"list", _) => list(local, protocol, argv, out).await,
        (b"kill", 3..) => kill(local, client, argv, out).await,
        (b"no-evict", 3) => switch(argv.arg(2), &mut reply, |on| client.me.no_evict.set(on)),
        (b"no-touch", 3) => switch(argv.arg(2), &mut reply, |on| client.me.no_touch.set(on)),
        (b"reply", 3) => match argv.arg(2).to_ascii_lowercase().as_slice() {
            b"on" => {
                client.replies = Replies::On;
                reply.ok();
            }
            b"off" => client.replies = Replies::Off,
            b"skip" if client.replies == Replies::On => client.replies = Replies::SkipNext,
            b"skip" => {}
            _ => reply.error("ERR syntax error"),
        },
        (b"pause", 3 | 4) => pause(local, protocol, argv, out).await,
        (b"unpause", 2) => {
            local.call_all(|_| Node::here().pause.set(None)).await;
            Reply::new(out, protocol).ok();
        }
        (b"unblock", 3 | 4) => unblock(local, protocol, argv, out).await,
        (b"getredir", 2) => reply.integer(-1),
        (b"help", 2) => reply.lines(&HELP),
        _ => reply.error(Refusal::misused("client", argv.arg(1))),
    }
}

const HELP: [&str; 15] = [
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ID",
    "INFO",
    "LIST [TYPE <normal|pubsub>] [ID <id>...]",
    "KILL <address> | [ID|ADDR|LADDR|TYPE|USER|SKIPME <value>]...",
    "SETNAME <name>",
    "GETNAME",
    "SETINFO <LIB-NAME|LIB-VER> <value>",
    "NO-EVICT <ON|OFF>",
    "NO-TOUCH <ON|OFF>",
    "REPLY <ON|OFF|SKIP>",
    "PAUSE <milliseconds> [WRITE|ALL]",
    "UNPAUSE",
    "UNBLOCK <id> [TIMEOUT|ERROR]",
    "GETREDIR",
];

fn is_printable(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Sets the name of a client; the error where it cannot be one.
pub(super) fn set_name(client: &ClientSession, name: &[u8], reply: &mut Reply<'_>) {
    match is_printable(name) {
        true => {
            *client.me.name.borrow_mut() = name.to_vec();
            reply.ok();
        }
        false => reply.error(BAD_NAME),
    }
}

/// Whether a client may be called this.
pub(super) fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if is_printable(name) { Ok(()) } else { Err(BAD_NAME) }
}

const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

fn set_info(client: &ClientSession, argv: Argv<'_>, reply: &mut Reply<'_>) {
    let (option, value) = (argv.arg(2).to_ascii_lowercase(), argv.arg(3));
    let index = match option.as_slice() {
        b"lib-name" => 0,
        b"lib-ver" => 1,
        _ => {
            let option = String::from_utf8_lossy(argv.arg(2));
            return reply.error(format_args!("ERR Unrecognized option '{option}'"));
        }
    };
    if !is_printable(value) {
        let option = String::from_utf8_lossy(&option);
        return reply.error(format_args!("ERR {option} cannot contain spaces, newlines or special characters."));
    }
    client.me.library.borrow_mut()[index] = value.to_vec();
    reply.ok();
}

fn switch(value: &[u8], reply: &mut Reply<'_>, set: impl FnOnce(bool)) {
    match value.to_ascii_lowercase().as_slice() {
        b"on" => set(true),
        b"off" => set(false),
        _ => return reply.error("ERR syntax error"),
    }
    reply.ok();
}

/// The line of one client, as `CLIENT LIST` shows it.
fn line(client: &Client) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let last = client.last.get();
    let subscribed = client.subscribed.borrow();
    let mut flags = String::new();
    if client.monitors.get() {
        flags.push('O');
    }
    if !subscribed.is_empty() {
        flags.push('P');
    }
    if client.is_waiting() {
        flags.push('b');
    }
    if client.queued.get().is_some() {
        flags.push('x');
    }
    if client.no_evict.get() {
        flags.push('e');
    }
    if client.no_touch.get() {
        flags.push('T');
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let protocol = if client.protocol.get() == Protocol::Resp3 { 3 } else { 2 };
    let now = now();
    let output = client.output_bytes();
    format!(
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub={} psub={} ssub={} multi={} watch={} \
         qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={output} tot-mem={output} events=r cmd={last} \
         user=default redir=-1 resp={protocol} lib-name={} lib-ver={}\n",
        client.id,
        client.address,
        client.local_address,
        text(&client.name.borrow()),
        now.ms_since(client.since) / 1_000,
        now.ms_since(client.heard.get()) / 1_000,
        subscribed.channels.len(),
        subscribed.patterns.len(),
        subscribed.shard_channels.len(),
        client.queued.get().map_or(-1, |queued| queued as i64),
        client.watches.get(),
        text(&client.library.borrow()[0]),
        text(&client.library.borrow()[1]),
    )
}

/// The type of a client, as `CLIENT LIST TYPE` and `CLIENT KILL TYPE` call it.
fn is_of_type(client: &Client, kind: &[u8]) -> bool {
    let listens = !client.subscribed.borrow().is_empty();
    match kind {
        b"normal" => !listens,
        b"pubsub" => listens,
        _ => false,
    }
}

const TYPES: [&[u8]; 5] = [b"normal", b"pubsub", b"replica", b"slave", b"master"];

async fn list(local: &Rc<Local>, protocol: Protocol, argv: Argv<'_>, out: &mut Vec<u8>) {
    let mut kind = None;
    let mut ids: Option<Vec<u64>> = None;
    match argv.get(2).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None => {}
        Some(b"type") if argv.len() == 4 => {
            let wanted = argv.arg(3).to_ascii_lowercase();
            if !TYPES.contains(&wanted.as_slice()) {
                let shown = String::from_utf8_lossy(argv.arg(3));
                return Reply::new(out, protocol).error(format_args!("ERR Unknown client type '{shown}'"));
            }
            kind = Some(wanted);
        }
        Some(b"id") if argv.len() > 3 => {
            let mut wanted = Vec::new();
            for id in argv.iter().skip(3) {
                match number::integer(id).filter(|id| *id > 0) {
                    Some(id) => wanted.push(id as u64),
                    None => return Reply::new(out, protocol).error("ERR Invalid client ID"),
                }
            }
            ids = Some(wanted);
        }
        Some(_) => return Reply::new(out, protocol).error("ERR syntax error"),
    }
    let show = move |_: &Rc<Local>| {
        let fits = |client: &Rc<Client>| {
            kind.as_ref().is_none_or(|kind| is_of_type(client, kind))
                && ids.as_ref().is_none_or(|ids| ids.contains(&client.id))
        };
        let all = Node::here().clients.all();
        all.iter().filter(|client| fits(client)).map(|client| (client.id, line(client))).collect::<Vec<_>>()
    };
    let mut lines: Vec<(u64, String)> = local.call_all(show).await.into_iter().flatten().collect();
    lines.sort();
    let text: String = lines.into_iter().map(|(_, line)| line).collect();
    Reply::new(out, protocol).verbatim("txt", text.as_bytes());
}

/// Which clients `CLIENT KILL` means.
#[derive(Clone, Default)]
struct Doomed {
    id: Option<u64>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    kind: Option<Vec<u8>>,
    spares: Option<u64>,
    nobody: bool,
}

impl Doomed {
    fn fits(&self, client: &Client) -> bool {
        !self.nobody
            && self.id.is_none_or(|id| id == client.id)
            && self.address.as_ref().is_none_or(|address| *address == *client.address.as_bytes())
            && self.local_address.as_ref().is_none_or(|address| *address == *client.local_address.as_bytes())
            && self.kind.as_ref().is_none_or(|kind| is_of_type(client, kind))
            && self.spares != Some(client.id)
    }
}

async fn kill(local: &Rc<Local>, client: &ClientSession, argv: Argv<'_>, out: &mut Vec<u8>) {
    let me = client.me.id;
    let old_form = argv.len() == 3;
    let mut doomed = Doomed { spares: (!old_form).then_some(me), ..Doomed::default() };
    if old_form {
        doomed.address = Some(argv.arg(2).to_vec());
    }
    let mut index = if old_form { 3 } else { 2 };
    while index < argv.len() {
        let mut reply = Reply::new(out, client.protocol);
        let Some(value) = argv.get(index + 1) else { return reply.error("ERR syntax error") };
        match argv.arg(index).to_ascii_lowercase().as_slice() {
            b"id" => match number::integer(value).filter(|id| *id > 0) {
                Some(id) => doomed.id = Some(id as u64),
                None => return reply.error("ERR client-id should be greater than 0"),
            },
            b"addr" => doomed.address = Some(value.to_vec()),
            b"laddr" => doomed.local_address = Some(value.to_vec()),
            b"type" => {
                let kind = value.to_ascii_lowercase();
                if !TYPES.contains(&kind.as_slice()) {
                    let shown = String::from_utf8_lossy(value);
                    return reply.error(format_args!("ERR Unknown client type '{shown}'"));
                }
                doomed.kind = Some(kind);
            }
            b"user" if value == b"default" => {}
            b"user" => {
                let shown = String::from_utf8_lossy(value);
                return reply.error(format_args!("ERR No such user '{shown}'"));
            }
            b"skipme" => match value.to_ascii_lowercase().as_slice() {
                b"yes" => doomed.spares = Some(me),
                b"no" => doomed.spares = None,
                _ => return reply.error("ERR syntax error"),
            },
            _ => return reply.error("ERR syntax error"),
        }
        index += 2;
    }
    let end = move |_: &Rc<Local>| {
        let clients = Node::here().clients.all();
        let fitting: Vec<_> = clients.iter().filter(|client| doomed.fits(client)).collect();
        // Whoever asked is to hear the answer.
        fitting.iter().for_each(|client| if client.id == me { client.kill_after_reply() } else { client.kill() });
        fitting.len()
    };
    let killed: usize = local.call_all(end).await.into_iter().sum();
    let mut reply = Reply::new(out, client.protocol);
    match (old_form, killed) {
        (true, 0) => reply.error("ERR No such client"),
        (true, _) => reply.ok(),
        (false, _) => reply.count(killed),
    }
}

async fn pause(local: &Rc<Local>, protocol: Protocol, argv: Argv<'_>, out: &mut Vec<u8>) {
    let mut reply = Reply::new(out, protocol);
    let writes_only = match argv.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => false,
        Some(b"write") => true,
        Some(_) => return reply.error("ERR CLIENT PAUSE mode must be WRITE or ALL"),
    };
    let ms = match number::integer(argv.arg(2)) {
        None => return reply.error("ERR timeout is not an integer or out of range"),
        Some(ms) if ms < 0 => return reply.error("ERR timeout is negative"),
        Some(ms) => ms as u64,
    };
    let until = now().plus_ms(ms);
    local
        .call_all(move |_| {
            let node = Node::here();
            // A pause that stands is only made longer, and stricter.
            let before = node.pause.get().filter(|pause| pause.until > now());
            let until = before.map_or(until, |before| before.until.max(until));
            let writes_only = writes_only && before.is_none_or(|before| before.writes_only);
            node.pause.set(Some(Pause { until, writes_only }));
        })
        .await;
    Reply::new(out, protocol).ok();
}

async fn unblock(local: &Rc<Local>, protocol: Protocol, argv: Argv<'_>, out: &mut Vec<u8>) {
    let mut reply = Reply::new(out, protocol);
    let how = match argv.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"timeout") => Unblocked::Timeout,
        Some(b"error") => Unblocked::Error,
        Some(_) => return reply.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
    };
    let Some(id) = number::integer(argv.arg(2)) else {
        return reply.error("ERR value is not an integer or out of range");
    };
    let unblock = move |_: &Rc<Local>| {
        let client = u64::try_from(id).ok().and_then(|id| Node::here().clients.get(id));
        client.is_some_and(|client| client.unblock(how))
    };
    let unblocked = local.call_all(unblock).await.contains(&true);
    Reply::new(out, protocol).integer(unblocked.into());
}
