//! Commands on their way to the shard that owns their keys, and their replies on the way back: one allocation-free ring slot.

use super::clock::nanos;
use crate::id::UnixMs;
use crate::limits;
use crate::resp::{Protocol, Reply};
use crate::shard::meter::Lap;
use crate::shard::{Recorded, Refused, Shard};
use crate::snapshot::{Keyspace, Located};
use crate::store::WatchFlag;
use crate::store::command::{Spec, has_expired};
use crate::wire::{ArgRange, Argv};

/// Up to [`BATCH_ACROSS_MAX`](limits::BATCH_ACROSS_MAX) commands for one shard, in order; on the way back, their replies. Where these are
/// many it comes back before all are executed, and is sent again once they are [taken](Self::next_reply).
#[derive(Debug, Default)]
pub struct CommandBatch {
    bytes: Vec<u8>,
    ranges: Vec<ArgRange>,
    located: Vec<Located>,
    commands: Vec<Carried>,
    replies: Vec<u8>,
    /// How many of the commands are executed, and of how many of those the reply was taken.
    executed: usize,
    taken: usize,
    /// Bytes of replies over which no more are gathered; `None`: whatever they are.
    replies_max: Option<usize>,
    recorded: Option<Recorded>,
    /// Whether they are one transaction, and what it depends on.
    transaction: Option<Guard>,
    /// Why the transaction was not executed.
    aborted: Option<Aborted>,
}

/// What a transaction depends on.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Set when a watched key has changed.
    pub flag: Option<WatchFlag>,
    /// The watched keys of this shard that were there.
    pub keys: Vec<(Box<[u8]>, Located)>,
}

/// Why a transaction was not executed; nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aborted {
    /// A watched key has changed.
    Changed,
    /// One of its commands is refused here.
    Refused(Refused),
}

impl Guard {
    /// Whether a watched key has changed, or has expired.
    pub fn is_broken(&self, shard: &Shard, now: UnixMs) -> bool {
        self.flag.as_ref().is_some_and(WatchFlag::is_set)
            || self.keys.iter().any(|(key, at)| shard.store.get(*at, key).is_none_or(|entry| has_expired(&entry, now)))
    }
}

#[derive(Clone, Copy, Debug)]
struct Carried {
    spec: &'static Spec,
    protocol: Protocol,
    /// Where its bytes begin, to which its ranges are relative.
    first_byte: usize,
    first_range: u32,
    end_range: u32,
    first_place: u32,
    end_place: u32,
    /// Where its reply begins and ends, once there is one.
    reply_begin: usize,
    reply_end: usize,
}

impl CommandBatch {
    /// Appends a command whose keys live at `at`.
    pub fn push(&mut self, spec: &'static Spec, protocol: Protocol, argv: Argv<'_>, at: &[Located]) {
        let (first_range, first_place) = (self.ranges.len() as u32, self.located.len() as u32);
        let first_byte = self.bytes.len();
        match argv.encoded() {
            // It is recorded as it was sent.
            Some(encoded) => {
                self.bytes.extend_from_slice(encoded);
                self.ranges.extend_from_slice(argv.ranges());
            }
            None => {
                for arg in argv.iter() {
                    let start = (self.bytes.len() - first_byte) as u32;
                    self.ranges.push(ArgRange { start, len: arg.len() as u32 });
                    self.bytes.extend_from_slice(arg);
                }
            }
        }
        self.located.extend_from_slice(at);
        self.commands.push(Carried {
            spec,
            protocol,
            first_byte,
            first_range,
            end_range: self.ranges.len() as u32,
            first_place,
            end_place: self.located.len() as u32,
            reply_begin: 0,
            reply_end: 0,
        });
    }

    /// How many commands it carries.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether it carries none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Makes one transaction of its commands.
    pub fn set_transaction(&mut self, guard: Guard) {
        self.transaction = Some(guard);
    }

    /// Why the transaction was not executed, if it was not.
    pub fn aborted(&self) -> Option<Aborted> {
        self.aborted
    }

    /// Executes it on the shard that owns the keys, from where it stopped before: all of it, unless the replies become too many.
    pub fn execute(&mut self, shard: &mut Shard, now: UnixMs) {
        if self.executed > 0 {
            debug_assert_eq!(self.taken, self.executed, "its replies are taken before it goes on");
            self.replies.clear();
            self.replies.shrink_to(limits::REPLY_BYTES_KEPT);
        }
        let before = shard.recorded();
        match &self.transaction {
            None => self.execute_each(shard, now),
            Some(guard) if guard.is_broken(shard, now) => self.aborted = Some(Aborted::Changed),
            Some(_) => {
                let at = |carried: &Carried| &self.located[carried.first_place as usize..carried.end_place as usize];
                let refused = self.commands.iter().find_map(|carried| shard.refusal(carried.spec, at(carried)));
                if let Some(refused) = refused {
                    self.aborted = Some(Aborted::Refused(refused));
                    return;
                }
                shard.begin_group();
                self.execute_each(shard, now);
                shard.end_group(now);
            }
        }
        self.recorded = shard.recorded().filter(|after| before != Some(*after));
    }

    fn execute_each(&mut self, shard: &mut Shard, now: UnixMs) {
        let first = self.executed;
        let first_place = self.commands.get(first).map_or(0, |carried| carried.first_place as usize);
        for at in &self.located[first_place..] {
            shard.store.prefetch_line(*at);
        }
        for at in &self.located[first_place..] {
            shard.store.prefetch_entry(*at);
        }
        let mut lap = Lap::begin(first, nanos());
        for number in first..self.commands.len() {
            let is_over = self.replies_max.is_some_and(|most| self.replies.len() > most);
            if is_over && self.transaction.is_none() {
                break;
            }
            let carried = self.commands[number];
            if lap.is_due(number, carried.spec) {
                shard.meter.lap(&mut lap, number, nanos(), now, |number| self.command(number));
            }
            let at = &self.located[carried.first_place as usize..carried.end_place as usize];
            let ranges = &self.ranges[carried.first_range as usize..carried.end_range as usize];
            let argv = Argv::new(&self.bytes[carried.first_byte..], ranges);
            let from = self.replies.len();
            let mut left_out = Vec::new();
            let out = if is_over { &mut left_out } else { &mut self.replies };
            let begin = out.len();
            shard.execute(carried.spec, argv, at, now, &mut Reply::new(out, carried.protocol));
            shard.meter.executed(carried.spec, &out[begin..]);
            (self.commands[number].reply_begin, self.commands[number].reply_end) = (from, self.replies.len());
            self.executed = number + 1;
        }
        shard.meter.lap(&mut lap, self.executed, nanos(), now, |number| self.command(number));
    }

    /// Command number `index`.
    fn command(&self, index: usize) -> (&'static Spec, Argv<'_>) {
        let carried = &self.commands[index];
        let ranges = &self.ranges[carried.first_range as usize..carried.end_range as usize];
        (carried.spec, Argv::new(&self.bytes[carried.first_byte..], ranges))
    }

    /// Where the stream of the shard that executed it stood afterwards, if it recorded anything.
    pub fn recorded(&self) -> Option<Recorded> {
        self.recorded
    }

    /// The reply to command number `index` of those executed last, encoded.
    pub fn reply(&self, index: usize) -> &[u8] {
        let Carried { reply_begin, reply_end, .. } = self.commands[index];
        &self.replies[reply_begin..reply_end]
    }

    /// Takes the reply to the next command; `None`: that one is not executed yet.
    pub fn next_reply(&mut self) -> Option<&[u8]> {
        let index = self.taken;
        self.taken += usize::from(index < self.executed);
        (index < self.executed).then(|| self.reply(index))
    }

    /// Bytes of the replies to those executed last.
    pub fn reply_bytes(&self) -> usize {
        self.replies.len()
    }

    /// Whether some commands are not executed yet, and all replies of the others are taken.
    pub fn is_to_go_on(&self) -> bool {
        self.taken == self.executed && self.executed < self.commands.len()
    }

    /// Gathers no more replies once they have more than so many bytes. A transaction is executed whole: what it answers beyond is left
    /// out, which is for clients that would not be told anyway.
    pub fn set_replies_max(&mut self, most: Option<usize>) {
        self.replies_max = most;
    }

    /// Bytes of memory that it holds, also where it is empty.
    fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.replies.capacity()
            + self.ranges.capacity() * size_of::<ArgRange>()
            + self.located.capacity() * size_of::<Located>()
            + self.commands.capacity() * size_of::<Carried>()
    }

    /// Whether its memory is too much to be kept for other commands.
    pub fn is_large(&self) -> bool {
        self.memory() > limits::COMMAND_BATCH_BYTES_KEPT
    }

    /// Forgets everything, and keeps its memory.
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.located.clear();
        self.commands.clear();
        (self.executed, self.taken, self.replies_max) = (0, 0, None);
        self.recorded = None;
        self.transaction = None;
        self.aborted = None;
        self.bytes.clear();
        self.replies.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::command::find;

    #[test]
    fn a_batch_of_very_many_small_commands_is_large() {
        let ping = find(b"PING").unwrap();
        let ranges = [ArgRange { start: 0, len: 4 }];
        let mut batch = CommandBatch::default();
        for _ in 0..limits::BATCH_ACROSS_MAX {
            batch.push(ping, Protocol::Resp2, Argv::new(b"PING", &ranges), &[]);
        }
        assert!(!batch.is_large());
        for _ in 0..20_000 {
            batch.push(ping, Protocol::Resp2, Argv::new(b"PING", &ranges), &[]);
        }
        assert!(batch.bytes.capacity() < limits::COMMAND_BATCH_BYTES_KEPT && batch.is_large());
    }
}
