//! One client: its bytes in, its commands to the shards that own their keys, its replies out in order.
//!
//! ```text
//! read all that is ready ─▶ runs of commands on single shards, 32 or 64 at a time ─▶ stream ─▶ reply
//!                             own keys: executed here      others: one ring slot a shard
//! ```
//!
//! A command that concerns several shards, the node or the connection ends a run: everything before it is done first, so that a
//! pipeline keeps its order. So do replies that are many: they are handed out before more of them are made.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::FutureExt;

use super::admission::Admission;
use super::meanwhile::Waited;
use super::node::Node;
use super::session::ClientSession;
use super::settings::OutputLimit;
use super::{across, admin, block, pubsub, transaction, wait};
use crate::id::ShardId;
use crate::limits;
use crate::resp::{Reply, RequestDecoder};
use crate::runtime::clock::{nanos, now, sleep, sleep_until};
use crate::runtime::commands::CommandBatch;
use crate::runtime::local::{Answer, Local, Request, unix_now};
use crate::runtime::stream::Stream;
use crate::runtime::turn::Turn;
use crate::shard::meter::Lap;
use crate::snapshot::{Keyspace, Located};
use crate::store::command::table::Handler;
use crate::store::command::{Flags, Refusal, Spec, absent, find};
use crate::wire::Argv;

/// Serves a client until it goes, or the node ends.
pub(super) async fn serve(local: Rc<Local>, node: Rc<Node>, mut stream: Stream, mut client: ClientSession) {
    let mut requests = RequestDecoder::new();
    let mut out = Vec::new();
    let mut run = Run::default();
    let mut turn = Turn::begin();
    let mut flow = Flow::Read;
    while !matches!(flow, Flow::Close) {
        if matches!(flow, Flow::Read) {
            match turn.wait_for(arrival(&mut stream, &mut requests, &client)).await {
                Ok(Arrived::Bytes(0)) | Err(_) => break,
                Ok(Arrived::Bytes(len)) => {
                    client.me.heard.set(node.clock.get());
                    local.gauges.received.set(local.gauges.received.get() + len as u64);
                    requests.recv_advance(len);
                }
                Ok(Arrived::Pushed) if client.me.is_killed() => break,
                Ok(Arrived::Pushed) => {}
            }
        }
        // What a replica's socket already holds of the stream is applied before a reader is answered.
        if local.core().following().is_some() {
            local.apply_first().await;
        }
        flow = execute_all(&local, &node, &mut client, &mut requests, &mut run, &mut out).await;
        if tell(&local, &node, &mut stream, &client, &mut out).await.is_err() || client.me.is_killed() {
            break;
        }
        if matches!(flow, Flow::Read) && asks_too_much(&node, &client, &requests) {
            break;
        }
        if let Flow::Wait(wanted) = flow {
            let waited = match wanted {
                Wait::Replicas(wanted) => {
                    wait::execute(&local, &node, &mut stream, &mut requests, &client, wanted, &mut out).await
                }
                Wait::Key(wanted) => {
                    block::wait(&local, &node, &mut stream, &mut requests, &mut client, *wanted, &mut out).await
                }
            };
            client.me.heard.set(node.clock.get());
            client.keep_wanted(0, &mut out);
            flow = match waited {
                Waited::Answered => Flow::GoOn,
                Waited::Gone => Flow::Close,
            };
        }
        turn.pass_if_over().await;
    }
    stream.close().await;
}

/// What a connection waits for.
enum Arrived {
    /// So many bytes from the client; 0 at the end of the stream.
    Bytes(usize),
    /// Something to be sent to it that answers nothing.
    Pushed,
}

async fn arrival(
    stream: &mut Stream,
    requests: &mut RequestDecoder,
    client: &ClientSession,
) -> std::io::Result<Arrived> {
    let read = stream.read(requests.recv_slice());
    if !client.me.takes_pushes() {
        return read.await.map(Arrived::Bytes);
    }
    let pushed = async {
        client.me.pushed().await;
        Ok(Arrived::Pushed)
    };
    let read = async { read.await.map(Arrived::Bytes) };
    pushed.or(read).await
}

/// Whether more of a command that is not whole has arrived than a client may send.
fn asks_too_much(node: &Node, client: &ClientSession, requests: &RequestDecoder) -> bool {
    let (bytes, most) = (requests.buffered() as u64, node.settings.borrow().client_query_buffer_limit);
    if bytes <= most {
        return false;
    }
    let me = &client.me;
    tracing::warn!(client = me.address, id = me.id, bytes, "closed: its command is over client_query_buffer_limit");
    true
}

/// Sends the replies, behind the frames of what they are about.
pub(super) async fn tell(
    local: &Local,
    node: &Node,
    stream: &mut Stream,
    client: &ClientSession,
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    local.stream_first().await;
    if let Some(bytes) = client.left_out {
        return Err(give_up(client, bytes));
    }
    if client.me.takes_pushes() {
        client.me.take_pushed(out);
        client.me.set_sending(out.len());
        stream.write_all(out).await?;
        client.me.set_sending(0);
    } else {
        let limit = node.settings.borrow().output_limits.normal;
        send_within(limit, stream, client, out).await?;
    }
    local.gauges.sent.set(local.gauges.sent.get() + out.len() as u64);
    out.clear();
    if out.capacity() > limits::REPLY_BYTES_KEPT {
        out.shrink_to(limits::REPLY_BYTES_KEPT);
    }
    Ok(())
}

/// Sends replies, unless they are more than may wait for the client to read them.
async fn send_within(
    limit: OutputLimit,
    stream: &mut Stream,
    client: &ClientSession,
    out: &[u8],
) -> std::io::Result<()> {
    if limit.is_over_hard(out.len()) {
        return Err(give_up(client, out.len()));
    }
    if !limit.is_over_soft(out.len()) {
        return stream.write_all(out).await;
    }
    let too_long = async {
        sleep(Duration::from_secs(limit.soft_seconds)).await;
        Err(give_up(client, out.len()))
    };
    stream.write_all(out).or(too_long).await
}

fn give_up(client: &ClientSession, bytes: usize) -> std::io::Error {
    let me = &client.me;
    tracing::warn!(client = me.address, id = me.id, bytes, "closed: it does not read its replies");
    std::io::ErrorKind::TimedOut.into()
}

/// What comes after the replies.
#[derive(Debug)]
enum Flow {
    /// Everything that had arrived is done.
    Read,
    /// More may have arrived already.
    GoOn,
    /// A command waits.
    Wait(Wait),
    /// The connection ends.
    Close,
}

/// What a command waits for.
#[derive(Debug)]
enum Wait {
    /// The acknowledgements of replicas.
    Replicas(wait::Wanted),
    /// Something at a key.
    Key(Box<block::Wanted>),
}

/// Executes the whole commands that have arrived, until their replies are many or they have taken their time.
async fn execute_all(
    local: &Rc<Local>,
    node: &Rc<Node>,
    client: &mut ClientSession,
    requests: &mut RequestDecoder,
    run: &mut Run,
    out: &mut Vec<u8>,
) -> Flow {
    let begun = nanos();
    let most = node.settings.borrow().output_limits.normal.gathered_max();
    for number in run.left() {
        paused(node, client, run.commands[number].spec).await;
    }
    run.go_on(local, client, most, out).await;
    if !run.is_told() {
        return Flow::GoOn;
    }
    loop {
        let commands_max = if local.count().get() > 1 { limits::BATCH_ACROSS_MAX } else { limits::BATCH_FRAMES_MAX };
        let count = match requests.fill(commands_max) {
            Ok(0) => return Flow::Read,
            Ok(count) => count,
            Err(error) => {
                Reply::new(out, client.protocol).error(format_args!("ERR {error}"));
                return Flow::Close;
            }
        };
        let admission = Admission::now(local, node);
        let mut next = 0;
        while next < count {
            if out.len() > most {
                requests.release(next);
                return Flow::GoOn;
            }
            // Mostly there is nothing to be looked at for each command.
            let careful = !client.is_plain() || node.looks_closely();
            next = run.gather(local, &admission, requests, next, if careful { next } else { count });
            if !run.is_empty() {
                next = run.execute(local, requests, client, most, out).await;
            }
            if next == count || out.len() > most {
                continue;
            }
            let argv = requests.command(next);
            next += 1;
            let from = out.len();
            let Some(spec) = look(local, node, &admission, client, argv, out) else {
                if is_of_a_browser(argv.arg(0)) {
                    let me = &client.me;
                    tracing::warn!(
                        client = me.address,
                        id = me.id,
                        "closed: it speaks HTTP, as a web page would that has a browser talk to this port"
                    );
                    out.clear();
                    return Flow::Close;
                }
                if out.get(from) == Some(&b'-') {
                    let named = find(argv.arg(0)).and_then(|spec| spec.named(argv).ok());
                    local.core().meter.rejected(named, &out[from..]);
                }
                client.keep_wanted(from, out);
                continue;
            };
            paused(node, client, spec).await;
            if careful {
                run.gather(local, &admission, requests, next - 1, next);
                if !run.is_empty() {
                    // One command is executed, however long its reply.
                    run.execute(local, requests, client, most, out).await;
                    client.keep_wanted(from, out);
                    continue;
                }
            }
            let begun = nanos();
            let flow = execute_alone(local, node, client, spec, argv, out).await;
            if matches!(spec.handler, Handler::Server) && out.len() >= from {
                note_alone(local, client, spec, argv, begun, &out[from..]);
            }
            if let Flow::Wait(wanted) = flow {
                requests.release(next);
                return Flow::Wait(wanted);
            }
            client.keep_wanted(from, out);
            if let Flow::Close = flow {
                return Flow::Close;
            }
        }
        requests.release(count);
        // What is to be said is much, or took long.
        if !run.is_told() || out.len() > limits::REPLY_BYTES_KEPT || nanos() - begun > limits::EXECUTE_US_MAX * 1_000 {
            return Flow::GoOn;
        }
    }
}

/// Looks at one command: the one that is to be executed now, or `None` where it is answered already, with an error or by being
/// queued.
fn look(
    local: &Rc<Local>,
    node: &Rc<Node>,
    admission: &Admission,
    client: &mut ClientSession,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) -> Option<&'static Spec> {
    let Some(spec) = find(argv.arg(0)) else {
        transaction::refuse(client);
        unknown(argv, &mut Reply::new(out, client.protocol));
        return None;
    };
    let spec = match spec.named(argv) {
        Ok(named) => named,
        Err(refusal) => {
            refuse(client, spec, &refusal, out);
            return None;
        }
    };
    if !spec.fits(argv.len()) {
        refuse(client, spec, &Refusal::Arity(spec.name), out);
        return None;
    }
    if !client.authenticated && !spec.flags.has(Flags::NO_AUTH) {
        refuse(client, spec, &"NOAUTH Authentication required.", out);
        return None;
    }
    if client.me.only_subscribes() && !pubsub::is_for_listeners(spec) {
        let why = format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            spec.name
        );
        refuse(client, spec, &why, out);
        return None;
    }
    if spec.name == "ping" && client.me.only_subscribes() && argv.len() <= 2 {
        pubsub::pong(argv, &mut Reply::new(out, client.protocol));
        return None;
    }
    let slots = spec.keys(argv).map(|key| crate::store::hash::locate(argv.arg(key)).slot);
    if let Some(refused) = admission.refusal(spec, slots) {
        refuse(client, spec, &refused, out);
        return None;
    }
    if node.shared.listening.is_monitored() && !spec.flags.has(Flags::ADMIN) && !spec.flags.has(Flags::NO_AUTH) {
        pubsub::show(local, node, client, argv);
    }
    if client.queue.is_some() && !transaction::is_immediate(spec) {
        transaction::queue(local, client, spec, argv, out);
        return None;
    }
    client.me.last.set(spec.name);
    Some(spec)
}

/// Waits while clients are paused and the command is one that waits.
async fn paused(node: &Node, client: &ClientSession, spec: &Spec) {
    while let Some(pause) = node.pause.get() {
        if now() >= pause.until {
            node.pause.set(None);
            return;
        }
        let writes = spec.writes()
            || matches!(spec.name, "publish" | "spublish")
            || spec.name == "exec" && client.queue.as_ref().is_some_and(transaction::Queue::writes);
        // Who paused must be able to go on.
        if spec.verb() == "client" || pause.writes_only && !writes {
            return;
        }
        sleep_until(pause.until.min(now().plus_ms(limits::TICK_MS))).await;
    }
}

/// Answers a command that is not executed; a transaction that it belongs to will not be, either.
fn refuse(client: &mut ClientSession, spec: &Spec, why: &dyn std::fmt::Display, out: &mut Vec<u8>) {
    match spec.name {
        "exec" => transaction::abort(client, why, out),
        _ => {
            transaction::refuse(client);
            Reply::new(out, client.protocol).error(why);
        }
    }
}

/// Executes a command that is not of one shard alone.
async fn execute_alone(
    local: &Rc<Local>,
    node: &Rc<Node>,
    client: &mut ClientSession,
    spec: &'static Spec,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) -> Flow {
    match spec.handler {
        Handler::Server if spec.name == "wait" => {
            let mut reply = Reply::new(out, client.protocol);
            let Some(wanted) = wait::Wanted::parse(local, argv, &mut reply) else { return Flow::GoOn };
            match wait::count(local, &client.written, wanted.replicas).await {
                Some(acked) if acked >= wanted.replicas => Reply::new(out, client.protocol).count(acked),
                _ => return Flow::Wait(Wait::Replicas(wanted)),
            }
            Flow::GoOn
        }
        Handler::Server if admin::execute(local, node, client, spec, argv, out).await => Flow::GoOn,
        Handler::Server => Flow::Close,
        Handler::Store { .. } if spec.flags.has(Flags::BLOCKING) => {
            match block::execute(local, spec, argv, client, out).await {
                Some(wanted) => Flow::Wait(Wait::Key(Box::new(wanted))),
                None => Flow::GoOn,
            }
        }
        Handler::Store { .. } => {
            across::execute(local, spec, argv, client, out).await;
            Flow::GoOn
        }
    }
}

/// Counts a command of the server. The time in which it waited for other shards, or for what it was to wait for, is its own.
pub(super) fn note_alone(local: &Local, client: &ClientSession, spec: &Spec, argv: Argv<'_>, begun: u64, reply: &[u8]) {
    let mut core = local.core();
    core.count_command();
    let meter = &mut core.meter;
    meter.executed(spec, reply);
    let taken = nanos().saturating_sub(begun);
    meter.took(spec, taken);
    // Whoever waits is not slow, and what is said in private stays there.
    if !spec.flags.has(Flags::BLOCKING) && !spec.flags.has(Flags::NO_AUTH) && spec.name != "exec" {
        let who = || Some((client.me.address.clone(), client.me.name.borrow().clone()));
        if meter.is_worth_noting(taken) {
            meter.note(spec, argv, taken, unix_now(), who());
        }
    }
}

/// Whether a line is of an HTTP request: what a web page has its visitors' browsers send to ports that they can reach is not to be executed
/// line by line. As Redis has it.
fn is_of_a_browser(verb: &[u8]) -> bool {
    verb.eq_ignore_ascii_case(b"post") || verb.eq_ignore_ascii_case(b"host:")
}

#[cold]
fn unknown(argv: Argv<'_>, reply: &mut Reply<'_>) {
    let shown = |arg: &[u8]| String::from_utf8_lossy(&arg[..arg.len().min(128)]).into_owned();
    if let Some(absent) = absent::find(argv.arg(0)) {
        return reply.error(format_args!("ERR {} is not supported: {}", shown(argv.arg(0)), absent.why));
    }
    let args: String = argv.iter().skip(1).take(16).map(|arg| format!("'{}' ", shown(arg))).collect();
    reply.error(format_args!("ERR unknown command '{}', with args beginning with: {args}", shown(argv.arg(0))));
}

/// An answer under way.
type Awaited = Pin<Box<dyn Future<Output = Answer>>>;

/// Commands that follow each other in a pipeline, each of one shard; reused from run to run.
#[derive(Default)]
struct Run {
    commands: Vec<Planned>,
    located: Vec<Located>,
    /// By shard: what goes there.
    batches: Vec<Option<Box<CommandBatch>>>,
    /// How many of the commands that went to batches have their reply in its place.
    told: usize,
    /// Whether all of it is of this shard.
    here: bool,
}

/// One command of a run.
#[derive(Clone, Copy)]
struct Planned {
    /// Its number in the decoder.
    index: usize,
    spec: &'static Spec,
    owner: ShardId,
    first_place: usize,
    end_place: usize,
}

impl Run {
    fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Takes commands from number `from` on, as long as each is of one shard and may be executed; returns the first that is not.
    fn gather(
        &mut self,
        local: &Local,
        admission: &Admission,
        requests: &RequestDecoder,
        from: usize,
        to: usize,
    ) -> usize {
        debug_assert!(self.is_told(), "it is over");
        self.commands.clear();
        self.located.clear();
        self.told = 0;
        self.here = true;
        let (me, shards) = (local.id(), local.count());
        let core = local.core();
        for index in from..to {
            let argv = requests.command(index);
            let Some(mut spec) = find(argv.arg(0)) else { return index };
            if spec.has_subcommands() {
                let Ok(named) = spec.named(argv) else { return index };
                spec = named;
            }
            let is_stores = matches!(spec.handler, Handler::Store { .. });
            if !is_stores || !spec.fits(argv.len()) || spec.flags.has(Flags::BLOCKING) {
                return index;
            }
            if across::reaches(local, spec, argv) {
                return index;
            }
            let first_place = self.located.len();
            let mut owner = None;
            for key in spec.keys(argv) {
                let at = core.store.locate(argv.arg(key));
                let owns = shards.owner(at.slot);
                if owner.is_some_and(|owner| owner != owns) {
                    self.located.truncate(first_place);
                    return index;
                }
                owner = Some(owns);
                if owns == me {
                    core.store.prefetch_line(at);
                }
                self.located.push(at);
            }
            let owner = match owner {
                Some(owner) => owner,
                // It names no key: any shard can say what is wrong with that.
                None => me,
            };
            let slots = self.located[first_place..].iter().map(|at| at.slot);
            if admission.refusal(spec, slots).is_some() {
                self.located.truncate(first_place);
                return index;
            }
            self.here &= owner == me;
            self.commands.push(Planned { index, spec, owner, first_place, end_place: self.located.len() });
        }
        to
    }

    /// Executes it until its replies are more than `most` bytes with those that are there; returns the number of the first command that
    /// is still to be gathered. What went to batches is copied, and not gathered again: see [`go_on`](Self::go_on).
    async fn execute(
        &mut self,
        local: &Rc<Local>,
        requests: &RequestDecoder,
        client: &mut ClientSession,
        most: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        if self.here {
            return self.execute_here(local, requests, client, most, out);
        }
        let protocol = client.protocol;
        self.batches.resize_with(local.count().get() as usize, || None);
        for planned in &self.commands {
            let batch = self.batches[planned.owner.index()].get_or_insert_with(|| local.batch());
            let at = &self.located[planned.first_place..planned.end_place];
            batch.push(planned.spec, protocol, requests.command(planned.index), at);
        }
        self.go_on(local, client, most, out).await;
        self.commands.last().map_or(0, |planned| planned.index + 1)
    }

    /// Whether nothing of it is left to be executed or told.
    fn is_told(&self) -> bool {
        self.left().is_empty()
    }

    /// The numbers of its commands whose reply is not in its place; some of them are executed.
    fn left(&self) -> Range<usize> {
        let told = if self.here { self.commands.len() } else { self.told };
        told..self.commands.len()
    }

    /// Executes what is left of it on the shards that own the keys, and puts the replies in their order, until those are more than `most`
    /// bytes: a shard whose replies are many stops, and goes on when this is called again.
    async fn go_on(&mut self, local: &Rc<Local>, client: &mut ClientSession, most: usize, out: &mut Vec<u8>) {
        while !self.is_told() && out.len() <= most {
            // A share for each shard, and again for those whose replies were told, until there are so many in their order.
            let going = self.batches.iter().flatten().filter(|batch| batch.is_to_go_on()).count();
            self.execute_there(local, client, (most - out.len()) / going.max(1), out).await;
        }
    }

    async fn execute_there(&mut self, local: &Rc<Local>, client: &mut ClientSession, most: usize, out: &mut Vec<u8>) {
        let mut executed: Vec<ShardId> = Vec::new();
        let mut answers: Vec<(ShardId, Awaited)> = Vec::new();
        for owner in local.count().shards() {
            let slot = &mut self.batches[owner.index()];
            let Some(mut batch) = slot.take_if(|batch| batch.is_to_go_on()) else { continue };
            batch.set_replies_max(Some(most));
            executed.push(owner);
            if owner == local.id() {
                *slot = Some(batch);
            } else {
                answers.push((owner, Box::pin(local.send(owner, Request::Commands(batch)).await)));
            }
        }
        if executed.contains(&local.id())
            && let Some(batch) = &mut self.batches[local.id().index()]
        {
            batch.execute(&mut local.core(), unix_now());
        }
        local.stream_first().await;
        for (owner, answer) in answers {
            match answer.await {
                Answer::Commands(batch) => self.batches[owner.index()] = Some(batch),
                Answer::Called(_) | Answer::Taken => unreachable!("commands are answered by commands"),
            }
        }
        for owner in executed {
            if let Some(batch) = &self.batches[owner.index()] {
                out.reserve(batch.reply_bytes());
                if let Some(recorded) = batch.recorded() {
                    client.written.note(owner, recorded);
                }
            }
        }
        while let Some(planned) = self.commands.get(self.told) {
            let Some(reply) = self.batches[planned.owner.index()].as_mut().and_then(|batch| batch.next_reply()) else {
                return;
            };
            client.me.last.set(planned.spec.name);
            out.extend_from_slice(reply);
            self.told += 1;
        }
        self.batches.iter_mut().filter_map(Option::take).for_each(|batch| local.recycle(batch));
    }

    /// Nothing is copied and nothing is allocated: from the client's bytes to the reply and the backlog.
    fn execute_here(
        &mut self,
        local: &Local,
        requests: &RequestDecoder,
        client: &mut ClientSession,
        most: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        let mut core = local.core();
        let before = core.recorded();
        for at in &self.located {
            core.store.prefetch_entry(*at);
        }
        let now = unix_now();
        let mut reply = Reply::new(out, client.protocol);
        let command = |number: usize| {
            let planned: &Planned = &self.commands[number];
            (planned.spec, requests.command(planned.index))
        };
        let mut lap = Lap::begin(0, nanos());
        let mut executed = 0;
        for planned in &self.commands {
            if lap.is_due(executed, planned.spec) {
                core.meter.lap(&mut lap, executed, nanos(), now, command);
            }
            let at = &self.located[planned.first_place..planned.end_place];
            let from = reply.len();
            core.execute(planned.spec, requests.command(planned.index), at, now, &mut reply);
            core.meter.executed(planned.spec, reply.since(from));
            executed += 1;
            if reply.len() > most {
                break;
            }
        }
        core.meter.lap(&mut lap, executed, nanos(), now, command);
        if let Some(recorded) = core.recorded()
            && before != Some(recorded)
        {
            client.written.note(local.id(), recorded);
        }
        let Some(last) = self.commands[..executed].last() else { return 0 };
        client.me.last.set(last.spec.name);
        last.index + 1
    }
}
