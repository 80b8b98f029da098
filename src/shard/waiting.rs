//! Clients that wait for a key of this shard, and what they are told. It has no tasks: whoever changed a key serves those who
//! wait for it once its own command, or its transaction, is over.
//!
//! ```text
//! wait ──▶ executed: something? ── yes ──▶ told at once
//!             │ no
//!             ▼
//!          Waiter ◀── the key changes, the command ends ── executed again, the first waiter first ──▶ told
//! ```
//!
//! A client that waits for keys of several shards has a waiter on each, and all share one [`Claim`]: the one that finds something
//! holds it while it executes, and takes what is in it. So nothing is taken from two keys, and nothing from a key for a client
//! that has given up.

#![expect(
    clippy::disallowed_types,
    reason = "a claim is shared only by shards that one client waits on, and held for one command of that client"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Recorded, Shard};
use crate::id::{ShardId, UnixMs};
use crate::resp::{Protocol, Reply, arguments_of};
use crate::snapshot::record::Kind;
use crate::snapshot::{Keyspace, Located};
use crate::store::WaiterId;
use crate::store::command::{Spec, has_expired};
use crate::wire::Command;

/// What a waiter was answered.
#[derive(Clone, Debug)]
pub struct Served {
    /// The shard that answered.
    pub shard: ShardId,
    /// The reply, encoded.
    pub reply: Vec<u8>,
    /// Where the shard's stream stood afterwards, if anything was recorded.
    pub recorded: Option<Recorded>,
}

type Teller = Box<dyn FnOnce(Served) + Send>;

/// The right to answer a client, once. Clones are the same right, wherever they are.
#[derive(Clone)]
pub struct Claim(Arc<Mutex<Option<Teller>>>);

impl Claim {
    /// The right to call `tell`.
    pub fn new(tell: impl FnOnce(Served) + Send + 'static) -> Claim {
        Claim(Arc::new(Mutex::new(Some(Box::new(tell)))))
    }

    /// Takes the right away from everybody else. `false`: somebody has taken it, and will answer or has.
    pub fn give_up(&self) -> bool {
        self.lock().take().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Teller>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}

/// What is still to be told to a client, which nobody else answers.
pub struct Answer {
    tell: Teller,
    served: Served,
}

impl Answer {
    /// Tells it.
    pub fn tell(self) {
        (self.tell)(self.served);
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("served", &self.served).finish_non_exhaustive()
    }
}

/// One who waits on one shard.
#[derive(Debug)]
pub struct Waiter {
    /// Who answers.
    pub claim: Claim,
    /// What is executed for it.
    pub spec: &'static Spec,
    /// The same with its arguments. It answers null where there is nothing.
    pub argv: Command,
    /// The places of its keys.
    pub located: Vec<Located>,
    /// It waits for the first so many of its keys.
    pub keys: usize,
    /// What one of them must hold.
    pub kind: Kind,
    /// Whether it is executed, too, once one of them is gone or holds something else.
    pub needs_keys: bool,
    /// The protocol in which it is answered.
    pub protocol: Protocol,
}

/// Those who wait on one shard.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    waiters: BTreeMap<WaiterId, Waiter>,
    /// How many of them need their keys.
    needing: usize,
    /// Not before what was recorded for them is streamed.
    answers: Vec<Answer>,
}

/// How an attempt to serve a waiter ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attempt {
    /// There was something for it, or it has gone.
    Over,
    /// There was nothing.
    Nothing,
}

impl Waiting {
    fn insert(&mut self, id: WaiterId, waiter: Waiter) {
        self.needing += usize::from(waiter.needs_keys);
        self.waiters.insert(id, waiter);
    }

    fn remove(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.needing -= usize::from(waiter.needs_keys);
        Some(waiter)
    }
}

impl Shard {
    /// Executes what `waiter` asks for. Where there is nothing for it, it waits from now on, under this number.
    pub fn wait(&mut self, waiter: Waiter, now: UnixMs) -> Option<WaiterId> {
        if self.attempt(&waiter, now) == Attempt::Over {
            // What it did may be what others wait for.
            self.serve_waiting(now);
            return None;
        }
        let id = self.store.awaited.number();
        waiter.each_key(|key| self.store.awaited.add(key, id));
        self.waiting.insert(id, waiter);
        Some(id)
    }

    /// Waiter number `id` does not wait any more, if it still did.
    pub fn forget_waiter(&mut self, id: WaiterId) {
        if let Some(waiter) = self.waiting.remove(id) {
            waiter.each_key(|key| self.store.awaited.remove(key, id));
        }
    }

    /// Serves those who wait for keys that have changed. What is done for one may be what the next one waits for.
    pub fn serve_waiting(&mut self, now: UnixMs) {
        debug_assert!(self.group.is_none(), "nobody is served in the middle of a transaction");
        while let Some(key) = self.store.awaited.take_ready() {
            let at = self.store.locate(&key);
            let mut last = None;
            while let Some(id) = self.store.awaited.waiter_after(&key, last) {
                last = Some(id);
                // Each may have taken what there was.
                let entry = self.store.get(at, &key).filter(|entry| !has_expired(entry, now));
                let kind = entry.map(|entry| entry.value().kind());
                if kind.is_none() && self.waiting.needing == 0 {
                    break;
                }
                let Some(waiter) = self.waiting.remove(id) else { continue };
                let waits_on = kind != Some(waiter.kind) && !waiter.needs_keys
                    || self.refusal(waiter.spec, &waiter.located).is_some()
                    || self.attempt(&waiter, now) == Attempt::Nothing;
                if waits_on {
                    self.waiting.insert(id, waiter);
                } else {
                    waiter.each_key(|key| self.store.awaited.remove(key, id));
                }
            }
        }
    }

    /// Answers everybody who waits with an error, and forgets them.
    pub fn refuse_waiting(&mut self, error: &str) {
        while let Some(id) = self.waiting.waiters.keys().next().copied()
            && let Some(waiter) = self.waiting.remove(id)
        {
            waiter.each_key(|key| self.store.awaited.remove(key, id));
            let Some(tell) = waiter.claim.lock().take() else { continue };
            let mut reply = Vec::new();
            Reply::new(&mut reply, waiter.protocol).error(error);
            self.waiting.answers.push(Answer { tell, served: Served { shard: self.id, reply, recorded: None } });
        }
    }

    /// What is to be told to those who were served, once what was recorded for them is streamed.
    #[inline]
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.waiting.answers)
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        self.waiting.waiters.len()
    }

    fn attempt(&mut self, waiter: &Waiter, now: UnixMs) -> Attempt {
        let mut claim = waiter.claim.lock();
        if claim.is_none() {
            return Attempt::Over;
        }
        let before = self.recorded();
        let (mut reply, mut ranges) = (Vec::new(), Vec::new());
        let argv = arguments_of(&waiter.argv, &mut ranges);
        self.execute_one(waiter.spec, argv, &waiter.located, now, &mut Reply::new(&mut reply, waiter.protocol));
        if Reply::is_null(&reply) {
            return Attempt::Nothing;
        }
        if let Some(tell) = claim.take() {
            let recorded = self.recorded().filter(|after| before != Some(*after));
            self.waiting.answers.push(Answer { tell, served: Served { shard: self.id, reply, recorded } });
        }
        Attempt::Over
    }
}

impl Waiter {
    fn each_key(&self, see: impl FnMut(&[u8])) {
        let mut ranges = Vec::new();
        let argv = arguments_of(&self.argv, &mut ranges);
        self.spec.keys(argv).take(self.keys).map(|index| argv.arg(index)).for_each(see);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::id::{ShardCount, ShardId};
    use crate::shard::Role;
    use crate::store::command::{block, find};

    const NOW: UnixMs = UnixMs::new(1);

    fn shard() -> Shard {
        Shard::new(ShardId::new(0), ShardCount::ONE, Role::Standalone, 1)
    }

    fn execute(shard: &mut Shard, command: &str) -> String {
        let command = Command::new(&command.split(' ').collect::<Vec<_>>());
        let mut ranges = Vec::new();
        let argv = arguments_of(&command, &mut ranges);
        let spec = find(argv.arg(0)).unwrap();
        let at: Vec<Located> = spec.keys(argv).map(|index| shard.store.locate(argv.arg(index))).collect();
        let mut out = Vec::new();
        shard.execute(spec, argv, &at, NOW, &mut Reply::new(&mut out, Protocol::Resp2));
        String::from_utf8(out).unwrap()
    }

    fn wait_with(shard: &mut Shard, claim: &Claim, command: &str) -> Option<WaiterId> {
        let command = Command::new(&command.split(' ').collect::<Vec<_>>());
        let mut ranges = Vec::new();
        let argv = arguments_of(&command, &mut ranges);
        let spec = find(argv.arg(0)).unwrap();
        let located = spec.keys(argv).map(|index| shard.store.locate(argv.arg(index))).collect();
        let block::Wish { kind, keys, needs_keys, .. } = block::wish(spec, argv).unwrap().unwrap();
        let (claim, argv, protocol) = (claim.clone(), command.clone(), Protocol::Resp2);
        shard.wait(Waiter { claim, spec, argv, located, keys, kind, needs_keys, protocol }, NOW)
    }

    fn claim() -> (Claim, Receiver<String>) {
        let (teller, told) = channel();
        (Claim::new(move |served: Served| teller.send(String::from_utf8(served.reply).unwrap()).unwrap()), told)
    }

    /// A client that waits; the end on which it hears what it got.
    fn wait(shard: &mut Shard, command: &str) -> Receiver<String> {
        let (claim, told) = claim();
        wait_with(shard, &claim, command);
        told
    }

    fn tell(shard: &mut Shard) {
        shard.take_answers().into_iter().for_each(Answer::tell);
        assert_eq!(shard.store.awaited.is_empty(), shard.waiters() == 0);
        assert!(!shard.store.awaited.has_ready());
    }

    /// What clients have heard by now, in their order; `-` where it is nothing.
    fn heard(shard: &mut Shard, clients: &[&Receiver<String>]) -> Vec<String> {
        tell(shard);
        let text = |told: &&Receiver<String>| {
            told.try_recv().map_or("-".into(), |reply| {
                let words = reply.split("\r\n").filter(|word| !word.starts_with(['*', '$']));
                words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
            })
        };
        clients.iter().map(text).collect()
    }

    #[test]
    fn a_push_of_several_serves_several_who_came_first() {
        let mut shard = shard();
        let clients = [wait(&mut shard, "BLPOP a b 0"), wait(&mut shard, "BRPOP b a 0"), wait(&mut shard, "BLPOP b 0")];
        let clients: Vec<&Receiver<String>> = clients.iter().collect();
        assert_eq!(execute(&mut shard, "RPUSH a 1 2 3"), ":3\r\n");
        assert_eq!(heard(&mut shard, &clients), ["a 1", "a 3", "-"]);
        assert_eq!(execute(&mut shard, "LRANGE a 0 -1"), "*1\r\n$1\r\n2\r\n");
        assert_eq!(shard.waiters(), 1);
        execute(&mut shard, "RPUSH b 4");
        assert_eq!(heard(&mut shard, &clients), ["-", "-", "b 4"]);
        assert_eq!(execute(&mut shard, "EXISTS b"), ":0\r\n");
    }

    #[test]
    fn what_is_there_is_had_at_once_and_of_the_first_key() {
        let mut shard = shard();
        execute(&mut shard, "RPUSH b 1");
        execute(&mut shard, "RPUSH a 2");
        let told = wait(&mut shard, "BLPOP nosuch a b 0");
        assert_eq!(heard(&mut shard, &[&told]), ["a 2"]);
        assert_eq!(shard.waiters(), 0);
    }

    #[test]
    fn moves_wake_each_other_and_nobody_twice() {
        let mut shard = shard();
        let last = wait(&mut shard, "BLPOP c 0");
        let second = wait(&mut shard, "BLMOVE b c LEFT LEFT 0");
        let first = wait(&mut shard, "BRPOPLPUSH a b 0");
        let ring = wait(&mut shard, "BLMOVE d d LEFT RIGHT 0");
        execute(&mut shard, "RPUSH a x");
        assert_eq!(heard(&mut shard, &[&first, &second, &last, &ring]), ["x", "x", "c x", "-"]);
        execute(&mut shard, "RPUSH d y z");
        assert_eq!(heard(&mut shard, &[&ring]), ["y"]);
        assert_eq!(execute(&mut shard, "LRANGE d 0 -1"), "*2\r\n$1\r\nz\r\n$1\r\ny\r\n");
        assert_eq!(execute(&mut shard, "EXISTS a b c"), ":0\r\n");
    }

    #[test]
    fn a_transaction_serves_when_it_is_over() {
        let mut shard = shard();
        let told = wait(&mut shard, "BLPOP a 0");
        shard.begin_group();
        execute(&mut shard, "RPUSH a 1");
        execute(&mut shard, "LPOP a");
        shard.end_group(NOW);
        assert_eq!(heard(&mut shard, &[&told]), ["-"]);
        shard.begin_group();
        execute(&mut shard, "RPUSH a 1");
        execute(&mut shard, "LPUSH a 2");
        assert_eq!(execute(&mut shard, "LLEN a"), ":2\r\n");
        shard.end_group(NOW);
        assert_eq!(heard(&mut shard, &[&told]), ["a 2"]);
    }

    #[test]
    fn whatever_makes_a_list_wakes_and_another_type_does_not() {
        for command in
            ["RENAME l a", "COPY l a", "SORT l BY nosort STORE a", "LMOVE l a LEFT LEFT", "LINSERT l BEFORE 1 0"]
        {
            let mut shard = shard();
            execute(&mut shard, "RPUSH l 1");
            let key = if command.starts_with("LINSERT") { "z" } else { "a" };
            let told = wait(&mut shard, &format!("BLPOP {key} 0"));
            let scored = wait(&mut shard, &format!("BZPOPMIN {key} 0"));
            for stranger in
                [format!("SET {key} 1"), format!("DEL {key}"), format!("HSET {key} f v"), format!("DEL {key}")]
            {
                assert!(!execute(&mut shard, &stranger).starts_with('-'));
            }
            assert_eq!(heard(&mut shard, &[&told, &scored]), ["-", "-"]);
            execute(&mut shard, command);
            if key == "z" {
                execute(&mut shard, "ZADD z 2 m 1 n");
                assert_eq!(heard(&mut shard, &[&told, &scored]), ["-", "z n 1"]);
            } else {
                assert_eq!(heard(&mut shard, &[&told, &scored]), ["a 1", "-"], "{command}");
            }
        }
    }

    #[test]
    fn a_move_that_cannot_be_is_told_so_and_the_next_one_gets_the_element() {
        let mut shard = shard();
        let (mover, next) = (wait(&mut shard, "BLMOVE a s LEFT LEFT 0"), wait(&mut shard, "BLPOP a 0"));
        execute(&mut shard, "SET s 1");
        execute(&mut shard, "RPUSH a 1");
        let heard = heard(&mut shard, &[&mover, &next]);
        assert!(heard[0].starts_with("-WRONGTYPE"), "{heard:?}");
        assert_eq!(heard[1], "a 1");
    }

    #[test]
    fn who_needs_its_key_is_told_that_it_is_gone_and_nobody_else_is() {
        let mut shard = shard();
        execute(&mut shard, "XGROUP CREATE s g $ MKSTREAM");
        let clients = ["XREAD BLOCK 0 STREAMS s 0", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"]
            .map(|command| wait(&mut shard, command));
        let clients = clients.each_ref();
        execute(&mut shard, "XGROUP CREATE s other $");
        assert_eq!(heard(&mut shard, &clients), ["-", "-"]);
        execute(&mut shard, "DEL s");
        let told = heard(&mut shard, &clients);
        assert!(told[1].starts_with("-NOGROUP No such key 's' or consumer group 'g'"), "{told:?}");
        assert_eq!((&*told[0], shard.waiters()), ("-", 1));
        execute(&mut shard, "XADD s 1-0 f v");
        assert_eq!(heard(&mut shard, &clients), ["s 1-0 f v", "-"]);
    }

    #[test]
    fn who_gave_up_gets_nothing() {
        let mut shard = shard();
        let (gone, told) = claim();
        let id = wait_with(&mut shard, &gone, "BLPOP a b 0").unwrap();
        assert!(gone.give_up() && !gone.give_up());
        execute(&mut shard, "RPUSH a 1");
        tell(&mut shard);
        assert!(told.try_recv().is_err());
        assert_eq!(execute(&mut shard, "LLEN a"), ":1\r\n");
        shard.forget_waiter(id);
        assert_eq!(shard.waiters(), 0);
    }

    #[test]
    fn of_several_shards_one_answers_and_the_others_keep_what_they_have() {
        let mut shards = [shard(), shard()];
        let (claim, told) = claim();
        let ids = shards.each_mut().map(|shard| wait_with(shard, &claim, "BLPOP a 0"));
        execute(&mut shards[1], "RPUSH a 1");
        execute(&mut shards[0], "RPUSH a 0");
        tell(&mut shards[0]);
        tell(&mut shards[1]);
        assert!(!claim.give_up(), "it is answered");
        assert_eq!(told.iter().collect::<Vec<_>>(), ["*2\r\n$1\r\na\r\n$1\r\n1\r\n"]);
        assert_eq!(execute(&mut shards[0], "LLEN a"), ":1\r\n");
        ids.iter().zip(&mut shards).for_each(|(id, shard)| shard.forget_waiter(id.unwrap()));
        assert!(shards.iter().all(|shard| shard.waiters() == 0));
    }

    /// Two threads, each with a shard, push at the same moment for a client that waits on both, again and again.
    #[test]
    fn two_shards_that_wake_at_once_answer_once_and_lose_nothing() {
        const ROUNDS: usize = 2_000;
        let (claims, given): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| claim()).unzip();
        let start = std::sync::Barrier::new(2);
        let kept: Vec<Vec<bool>> = std::thread::scope(|scope| {
            let run = |claims: Vec<Claim>| {
                let start = &start;
                move || {
                    let mut shard = shard();
                    let round = |claim: Claim| {
                        let id = wait_with(&mut shard, &claim, "BLPOP a 0");
                        start.wait();
                        execute(&mut shard, "RPUSH a 1");
                        tell(&mut shard);
                        if let Some(id) = id {
                            shard.forget_waiter(id);
                        }
                        execute(&mut shard, "DEL a") == ":1\r\n"
                    };
                    claims.into_iter().map(round).collect::<Vec<bool>>()
                }
            };
            let threads = [scope.spawn(run(claims.clone())), scope.spawn(run(claims))];
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for round in 0..ROUNDS {
            assert_eq!(given[round].try_iter().count(), 1, "round {round}");
            assert!(kept[0][round] != kept[1][round], "round {round}: one is taken, one is kept");
        }
    }

    #[test]
    fn a_node_that_takes_no_writes_any_more_says_so() {
        let mut shard = shard();
        let told = wait(&mut shard, "BLPOP a b 0");
        shard.refuse_waiting("UNBLOCKED now");
        assert_eq!(heard(&mut shard, &[&told]), ["-UNBLOCKED now"]);
        assert_eq!(shard.waiters(), 0);
    }
}
