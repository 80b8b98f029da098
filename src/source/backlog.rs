//! The backlog: the latest frames of one shard, encoded once, within a budget of bytes. It is the send queue of every
//! replica at the same time: a replica is a cursor into it.
//!
//! ```text
//!  oldest                                     closed         next
//!    ▼                                          ▼              ▼
//! [ run │  run   │ run ][ run │   run     ][ run │ open run … ░░░░░ ]
//! └──── segment ──────┘└──── segment ────┘└──── segment ───────────┘
//! ```
//!
//! A **run** is what one turn of the shard recorded. It is the unit of sending and of eviction; a cursor rests on the
//! end of a run, except after a resume from inside one. Runs never straddle segments, groups never straddle runs.
//!
//! A run that is closed is followed by its check line, in the segment: computed and written once, it travels with the run to
//! every replica that takes check lines, in the same send. The others are sent what lies between the lines.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::segment::Segment;
use crate::id::Offset;
use crate::limits;
use crate::wire::check::CHECK_LINE_BYTES_MAX;
use crate::wire::frame::{self, Envelope};
use crate::wire::{ArgRange, Argv, Check, Effects, effect};

/// The window of the latest frames.
#[derive(Debug)]
pub struct Backlog {
    /// Never empty. The last one is being written.
    chunks: VecDeque<Chunk>,
    /// Number of the first chunk, so that a cursor can name one for good.
    first_chunk: u64,
    /// The end of the last closed run: what may be sent.
    closed: Offset,
    /// The end of the open run.
    next: Offset,
    /// That of the frame at `next`.
    envelope: Envelope,
    /// Bytes of all runs, the open one included.
    bytes: usize,
    /// Most bytes to keep, the newest run excepted.
    budget: usize,
    /// Emptied segments of the usual size, to be written again: the memory of the window is touched for the first time only once.
    spare: Vec<Segment>,
    /// Evicted segments that a send still reads.
    retiring: Vec<Segment>,
    /// Evicted segments that are too large to be freed in a turn, until somebody [takes them](Self::take_retired).
    retired: VecDeque<Segment>,
    /// Whether a `+GROUP` line was ever written.
    has_groups: bool,
    /// Whether a check line follows each run.
    checks: bool,
}

/// One segment with the runs in it.
#[derive(Debug)]
struct Chunk {
    segment: Segment,
    /// The offset of its first frame.
    first: Offset,
    /// Its closed runs in order.
    runs: Vec<RunEnd>,
    /// How many of them have been evicted.
    evicted: usize,
}

/// Where a run ends: eight bytes a run, and nothing a frame.
#[derive(Clone, Copy, Debug, Default)]
struct RunEnd {
    /// Frames of the chunk before the end.
    frames: u32,
    /// Bytes of the chunk before the end, which is behind the check line where there is one.
    bytes: u32,
}

/// Whole runs of one chunk, by their indexes.
struct Found<'a> {
    chunk: &'a Chunk,
    runs: Range<usize>,
}

/// One replica's place in the backlog: the next frame to send.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    next: Offset,
    chunk: u64,
    byte: usize,
}

impl Cursor {
    /// The next frame to send.
    pub fn next(self) -> Offset {
        self.next
    }
}

/// A cursor stands before the window: the frames it wants are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the backlog begins at {oldest}, and {wanted} is wanted")]
pub struct BelowWindow {
    /// The cursor's next frame.
    pub wanted: Offset,
    /// The oldest frame held.
    pub oldest: Offset,
}

/// Bytes of a segment where the budget is large enough.
const SEGMENT_BYTES: usize = 1 << 20;
const _: () = assert!(limits::RUN_BYTES_MAX <= SEGMENT_BYTES / 2);

/// Bytes of a segment that takes too long to free in a turn: the system takes its pages back at some 8 GB/s.
const LARGE_SEGMENT_BYTES: usize = 4 << 20;

/// Large segments that wait for somebody to take them; where nobody does, the oldest is freed for the next.
const RETIRED_MAX: usize = 4;

/// `+GROUP ` with its number and line end.
const GROUP_LINE_BYTES_MAX: usize = 32;

impl Backlog {
    /// An empty backlog of a history that has `first` frames before it, keeping up to `budget` bytes; `checks` says whether
    /// check lines can be read from it.
    pub fn new(first: Offset, budget: usize, checks: bool) -> Backlog {
        let mut backlog = Backlog {
            chunks: VecDeque::new(),
            first_chunk: 0,
            closed: first,
            next: first,
            envelope: Envelope::at(first),
            bytes: 0,
            budget,
            spare: Vec::new(),
            retiring: Vec::new(),
            retired: VecDeque::new(),
            has_groups: false,
            checks,
        };
        backlog.open_chunk(0);
        backlog
    }

    /// The oldest frame held; equal to [`next`](Self::next) where none is.
    pub fn oldest(&self) -> Offset {
        let chunk = &self.chunks[0];
        chunk.evicted_end().map_or(chunk.first, |end| chunk.offset(end))
    }

    /// The end of the last closed run: up to here frames may be sent.
    pub fn closed(&self) -> Offset {
        self.closed
    }

    /// The offset that the next frame will take.
    #[inline]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Encoded bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Most bytes to keep.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Sets the budget; what is over it goes at the next closed run.
    pub fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
        // What is usual may be another size now.
        let usual = self.segment_bytes();
        self.spare.retain(|segment| segment.capacity() == usual);
        self.retiring.retain(|segment| segment.capacity() == usual);
    }

    /// Evicted segments that nobody reads any more and whose memory takes long to give back: to be dropped beside the shard.
    pub fn take_retired(&mut self) -> Vec<Segment> {
        let mut unread = Vec::new();
        for segment in std::mem::take(&mut self.retired) {
            match segment.recycle() {
                Ok(segment) => unread.push(segment),
                Err(segment) => self.retired.push_back(segment),
            }
        }
        unread
    }

    /// Whether a group was ever recorded.
    pub fn has_groups(&self) -> bool {
        self.has_groups
    }

    /// Whether check lines can be read from it.
    pub fn has_checks(&self) -> bool {
        self.checks
    }

    /// Appends the effects of one command, `argv`, in one go, and says how many frames they took.
    #[inline]
    pub fn record(&mut self, effects: &Effects, argv: Argv<'_>) -> u64 {
        match effects {
            Effects::None => 0,
            Effects::Verbatim => {
                self.append(frame::encoded_bytes_max(argv), 1, |envelope, out| envelope.encode(argv, out));
                1
            }
            Effects::One(command) => {
                let raw = command.as_bytes();
                self.append(frame::encoded_raw_bytes_max(raw.len()), 1, |envelope, out| envelope.encode_raw(raw, out));
                1
            }
            Effects::Group(commands) if commands.len() == 1 => self.record(&Effects::One(commands[0].clone()), argv),
            Effects::Group(commands) => self.record_group(commands),
        }
    }

    fn record_group(&mut self, commands: &[effect::Command]) -> u64 {
        let size: usize = commands.iter().map(|c| frame::encoded_raw_bytes_max(c.as_bytes().len())).sum();
        self.has_groups = true;
        self.append(GROUP_LINE_BYTES_MAX + size, commands.len() as u64, |mut envelope, out| {
            let line = format!("+GROUP {}\r\n", commands.len());
            out[..line.len()].copy_from_slice(line.as_bytes());
            let mut at = line.len();
            for command in commands {
                at += envelope.encode_raw(command.as_bytes(), &mut out[at..]);
                envelope.step();
            }
            at
        });
        commands.len() as u64
    }

    /// Ends the open run, if it has a frame: from now on it may be sent, and what is over the budget goes.
    pub fn close_run(&mut self) {
        if self.closed == self.next {
            return;
        }
        let (first, next) = (self.closed, self.next);
        if self.checks {
            let chunk = self.open();
            let begin = chunk.begin_of(chunk.runs.len()).bytes as usize;
            let check = Check::of(first, &chunk.segment.published()[begin..]);
            let written = check.encode(chunk.segment.spare());
            chunk.segment.publish(written);
            self.bytes += written;
        }
        let chunk = self.open();
        let end = RunEnd { frames: next.since(chunk.first) as u32, bytes: chunk.segment.len() as u32 };
        chunk.runs.push(end);
        self.closed = next;
        self.evict();
    }

    /// A cursor at `next`, which lies in `oldest..=next()`. Takes O(log n) to find the run, and a walk inside it.
    ///
    /// # Errors
    /// If the window no longer has it.
    ///
    /// # Panics
    /// If `next` is beyond the head: callers judge first.
    pub fn seek(&self, next: Offset) -> Result<Cursor, BelowWindow> {
        assert!(next <= self.next, "a cursor beyond the head");
        let oldest = self.oldest();
        if next < oldest {
            return Err(BelowWindow { wanted: next, oldest });
        }
        let index = self.chunks.partition_point(|c| c.first <= next).saturating_sub(1);
        let chunk = &self.chunks[index];
        let frames = next.since(chunk.first) as u32;
        let run = chunk.runs.partition_point(|r| r.frames <= frames);
        let begin = chunk.begin_of(run);
        let byte = walk_frames(chunk.segment.published(), begin.bytes as usize, frames - begin.frames);
        Ok(Cursor { next, chunk: self.first_chunk + index as u64, byte })
    }

    /// The next bytes to send, without check lines: whole runs of one segment from the cursor up to `until`, at least one run
    /// and, beyond that, at most `room` bytes. Moves the cursor. Empty when there is nothing up to `until`.
    ///
    /// # Errors
    /// If the cursor has fallen out of the window.
    pub fn read(&self, cursor: &mut Cursor, until: Offset, room: usize) -> Result<Bytes, BelowWindow> {
        let Some(Found { chunk, runs }) = self.find(cursor, until, room)? else { return Ok(Bytes::new()) };
        let frames_of = |run: usize| {
            let line = if self.checks { Check::line_bytes(chunk.offset(chunk.begin_of(run))) } else { 0 };
            chunk.runs[run].bytes as usize - line
        };
        let bytes = if !self.checks || runs.len() == 1 {
            chunk.segment.slice(cursor.byte..frames_of(runs.end - 1))
        } else {
            let mut out = Vec::with_capacity(chunk.runs[runs.end - 1].bytes as usize - cursor.byte);
            for run in runs.clone() {
                let begin = cursor.byte.max(chunk.begin_of(run).bytes as usize);
                out.extend_from_slice(&chunk.segment.published()[begin..frames_of(run)]);
            }
            Bytes::from(out)
        };
        cursor.pass(chunk, runs.end);
        Ok(bytes)
    }

    /// As [`read`](Self::read), with the check line of each run behind it. What is left of a run that the cursor stands inside
    /// comes alone, with a check of its own.
    ///
    /// # Errors
    /// If the cursor has fallen out of the window.
    ///
    /// # Panics
    /// If the backlog has no check lines.
    pub fn read_checked(&self, cursor: &mut Cursor, until: Offset, room: usize) -> Result<Bytes, BelowWindow> {
        assert!(self.checks, "a backlog without check lines");
        let Some(Found { chunk, runs }) = self.find(cursor, until, room)? else { return Ok(Bytes::new()) };
        let first = chunk.begin_of(runs.start);
        if cursor.byte == first.bytes as usize {
            let bytes = chunk.segment.slice(cursor.byte..chunk.runs[runs.end - 1].bytes as usize);
            cursor.pass(chunk, runs.end);
            return Ok(bytes);
        }
        let end = chunk.runs[runs.start].bytes as usize - Check::line_bytes(chunk.offset(first));
        let rest = &chunk.segment.published()[cursor.byte..end];
        let mut out = Vec::with_capacity(rest.len() + CHECK_LINE_BYTES_MAX);
        out.extend_from_slice(rest);
        Check::of(cursor.next, rest).encode_to(&mut out);
        cursor.pass(chunk, runs.start + 1);
        Ok(Bytes::from(out))
    }

    /// The runs that a send from `cursor` takes; `None` if there is nothing up to `until`.
    fn find(&self, cursor: &mut Cursor, until: Offset, room: usize) -> Result<Option<Found<'_>>, BelowWindow> {
        let until = until.min(self.closed);
        if cursor.next >= until {
            return Ok(None);
        }
        let oldest = self.oldest();
        if cursor.next < oldest {
            return Err(BelowWindow { wanted: cursor.next, oldest });
        }
        if cursor.chunk < self.first_chunk {
            // It stood at the end of a segment that is gone, which is where the oldest one begins.
            (cursor.chunk, cursor.byte) = (self.first_chunk, 0);
        }
        let mut chunk = self.chunk(cursor.chunk);
        if chunk.runs.last().is_some_and(|r| r.bytes as usize <= cursor.byte) || chunk.runs.is_empty() {
            // At the end of a segment; the next one goes on with the same offset.
            cursor.chunk += 1;
            cursor.byte = 0;
            chunk = self.chunk(cursor.chunk);
        }
        debug_assert!(chunk.first <= cursor.next);
        let from = chunk.runs.partition_point(|r| r.bytes as usize <= cursor.byte);
        let mut end = from;
        while let Some(run) = chunk.runs.get(end) {
            let over = run.bytes as usize - cursor.byte > room || chunk.offset(*run) > until;
            if over && end > from {
                break;
            }
            end += 1;
            if over {
                break;
            }
        }
        Ok(Some(Found { chunk, runs: from..end }))
    }

    /// Bytes of closed runs from the cursor on: how far behind a replica is. 0 for one that fell out of the window.
    pub fn bytes_behind(&self, cursor: Cursor) -> usize {
        let Some(index) = cursor.chunk.checked_sub(self.first_chunk) else { return 0 };
        let closed = |c: &Chunk| c.runs.last().map_or(0, |r| r.bytes as usize);
        self.chunks.iter().skip(index as usize).map(closed).sum::<usize>().saturating_sub(cursor.byte)
    }

    /// Appends `frames` frames of at most `bytes_max` bytes that `write` writes, the first one behind that envelope; they stay together.
    #[inline]
    fn append(&mut self, bytes_max: usize, frames: u64, write: impl FnOnce(Envelope, &mut [u8]) -> usize) {
        let check = if self.checks { CHECK_LINE_BYTES_MAX } else { 0 };
        if self.open().segment.spare().len() < bytes_max + check {
            self.close_run();
            self.open_chunk(bytes_max + check);
        }
        let envelope = self.envelope;
        let chunk = self.open();
        let written = write(envelope, chunk.segment.spare());
        chunk.segment.publish(written);
        let open_bytes = chunk.segment.len() - chunk.begin_of(chunk.runs.len()).bytes as usize;
        self.bytes += written;
        self.next = self.next.advance(frames);
        match frames {
            1 => self.envelope.step(),
            _ => self.envelope = Envelope::at(self.next),
        }
        if open_bytes >= limits::RUN_BYTES_MAX {
            self.close_run();
        }
    }

    fn open_chunk(&mut self, bytes_min: usize) {
        for segment in std::mem::take(&mut self.retiring) {
            match segment.recycle() {
                Ok(segment) => self.spare.push(segment),
                Err(segment) => self.retiring.push(segment),
            }
        }
        let usual = self.segment_bytes();
        // What is too large for a segment that is still empty takes its place: one without a run would hold up eviction.
        if let Some(unused) = self.chunks.pop_back_if(|chunk| chunk.segment.len() == 0)
            && unused.segment.capacity() == usual
        {
            self.spare.push(unused.segment);
        }
        let segment = if bytes_min <= usual { self.spare.pop() } else { None };
        let segment = segment.unwrap_or_else(|| Segment::new(bytes_min.max(usual)));
        self.chunks.push_back(Chunk { segment, first: self.next, runs: Vec::new(), evicted: 0 });
    }

    /// A small budget has small segments, so that what is held beyond it stays small, too.
    fn segment_bytes(&self) -> usize {
        (self.budget / 8).clamp(4 << 10, SEGMENT_BYTES)
    }

    fn evict(&mut self) {
        while self.bytes > self.budget {
            let chunk = &mut self.chunks[0];
            let begin = chunk.evicted_end().map_or(0, |r| r.bytes);
            match chunk.runs.get(chunk.evicted) {
                // The newest run stays, even when it alone is over the budget.
                Some(end) if chunk.offset(*end) < self.closed => {
                    self.bytes -= (end.bytes - begin) as usize;
                    chunk.evicted += 1;
                }
                _ => return,
            }
            let chunk = &self.chunks[0];
            if chunk.evicted == chunk.runs.len() && self.chunks.len() > 1 {
                self.retire_first_chunk();
            }
        }
    }

    fn retire_first_chunk(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else { return };
        self.first_chunk += 1;
        let usual = self.segment_bytes();
        if chunk.segment.capacity() == usual {
            match chunk.segment.recycle() {
                Ok(segment) => self.spare.push(segment),
                Err(segment) => self.retiring.push(segment),
            }
        } else if chunk.segment.capacity() >= LARGE_SEGMENT_BYTES {
            if self.retired.len() == RETIRED_MAX {
                self.retired.pop_front();
            }
            self.retired.push_back(chunk.segment);
        }
    }

    fn open(&mut self) -> &mut Chunk {
        self.chunks.back_mut().expect("there is always a chunk being written")
    }

    fn chunk(&self, number: u64) -> &Chunk {
        &self.chunks[(number - self.first_chunk) as usize]
    }
}

impl Cursor {
    /// Goes to the end of the run before `end`.
    fn pass(&mut self, chunk: &Chunk, end: usize) {
        let last = chunk.begin_of(end);
        self.byte = last.bytes as usize;
        self.next = chunk.offset(last);
    }
}

impl Chunk {
    /// Where run number `run` begins: at the end of the one before.
    #[inline]
    fn begin_of(&self, run: usize) -> RunEnd {
        run.checked_sub(1).map_or(RunEnd::default(), |before| self.runs[before])
    }

    /// The offset of the first frame behind `end`.
    fn offset(&self, end: RunEnd) -> Offset {
        self.first.advance(u64::from(end.frames))
    }

    fn evicted_end(&self) -> Option<RunEnd> {
        self.evicted.checked_sub(1).map(|i| self.runs[i])
    }
}

/// The position after `frames` frames from `at` on, and before the line of the group that follows, if one does.
fn walk_frames(bytes: &[u8], mut at: usize, frames: u32) -> usize {
    let mut scratch: Vec<ArgRange> = Vec::new();
    for _ in 0..frames {
        if bytes[at] == b'+' {
            at += memchr::memchr(b'\n', &bytes[at..]).expect("we ended this line ourselves") + 1;
        }
        let (_, len) = frame::skip(&bytes[at..], &mut scratch).expect("we encoded this frame ourselves");
        at += len;
    }
    at
}

/// `bytes`, which hold whole frames and group lines, without the lines: what a peer without groups is sent.
pub fn without_group_lines(bytes: Bytes) -> Bytes {
    let mut scratch: Vec<ArgRange> = Vec::new();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'+' {
            at += memchr::memchr(b'\n', &bytes[at..]).expect("we ended this line ourselves") + 1;
        } else {
            let (_, len) = frame::skip(&bytes[at..], &mut scratch).expect("we encoded this frame ourselves");
            out.extend_from_slice(&bytes[at..at + len]);
            at += len;
        }
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Command, Decoder, Message};

    const CHECKS: bool = true;

    fn set(key: &str, value: &str) -> Effects {
        Effects::One(Command::new(&["SET", key, value]))
    }

    fn none() -> Argv<'static> {
        Argv::new(b"", &[])
    }

    #[test]
    fn a_cursor_at_the_end_of_a_segment_outlives_that_segment() {
        let mut backlog = Backlog::new(Offset::ZERO, 1, CHECKS);
        backlog.record(&set("a", "1"), none());
        backlog.close_run();
        let mut cursor = backlog.seek(Offset::ZERO).unwrap();
        assert!(!backlog.read(&mut cursor, Offset::MAX, 1).unwrap().is_empty());
        // Too large for what is left of the segment: it gets its own, and the first one goes.
        backlog.record(&set("b", &"x".repeat(10_000)), none());
        backlog.close_run();
        assert_eq!((cursor.next(), backlog.oldest()), (Offset::new(1), Offset::new(1)));
        assert!(backlog.read(&mut cursor, Offset::MAX, 1).unwrap().len() > 10_000);
    }

    #[test]
    fn after_the_budget_was_raised_a_frame_does_not_go_to_a_segment_of_before() {
        let mut backlog = Backlog::new(Offset::ZERO, 1_000, CHECKS);
        let (mut recorded, mut held) = (0, Vec::new());
        let mut cursor = backlog.seek(Offset::ZERO).unwrap();
        for n in 0..100 {
            recorded += backlog.record(&set(&n.to_string(), &"v".repeat(500)), none());
            backlog.close_run();
            // A send still reads some of the segments that are evicted.
            held.extend(backlog.read(&mut cursor, Offset::MAX, 1));
        }
        for (budget, bytes) in [(64 << 20, 100_000), (2_000, 3_000), (32 << 20, 900_000), (1 << 10, 200_000)] {
            backlog.set_budget(budget);
            for n in 0..10 {
                recorded += backlog.record(&set(&n.to_string(), &"v".repeat(bytes)), none());
                backlog.close_run();
                held.truncate(10);
            }
            held.clear();
        }
        assert_eq!(read_all(&backlog, backlog.oldest(), 1).last().unwrap().0 + 1, recorded);
        assert!(backlog.spare.iter().all(|segment| segment.capacity() == backlog.segment_bytes()));
    }

    #[test]
    fn a_large_segment_is_given_away_once_nobody_reads_it() {
        let mut backlog = Backlog::new(Offset::ZERO, 1_000, CHECKS);
        let record = |backlog: &mut Backlog, bytes: usize| {
            backlog.record(&set("a", &"x".repeat(bytes)), none());
            backlog.close_run();
        };
        record(&mut backlog, LARGE_SEGMENT_BYTES);
        let mut cursor = backlog.seek(Offset::ZERO).unwrap();
        let read = backlog.read(&mut cursor, Offset::MAX, usize::MAX).unwrap();
        record(&mut backlog, 2_000);
        record(&mut backlog, 1);
        assert_eq!(backlog.oldest(), Offset::new(2));
        assert!(backlog.take_retired().is_empty(), "it is being sent");
        drop(read);
        let capacities =
            |backlog: &mut Backlog| backlog.take_retired().iter().map(Segment::capacity).collect::<Vec<_>>();
        let taken = capacities(&mut backlog);
        assert!(taken.len() == 1 && taken[0] > LARGE_SEGMENT_BYTES, "{taken:?}");
        assert!(capacities(&mut backlog).is_empty());
        (0..=RETIRED_MAX + 1).for_each(|_| record(&mut backlog, LARGE_SEGMENT_BYTES));
        assert_eq!(backlog.retired.len(), RETIRED_MAX, "what nobody takes does not pile up");
    }

    #[test]
    fn a_first_frame_larger_than_a_segment_does_not_hold_up_eviction() {
        let mut backlog = Backlog::new(Offset::ZERO, 1_000, CHECKS);
        backlog.record(&set("a", &"x".repeat(10_000)), none());
        backlog.close_run();
        for n in 0..100 {
            backlog.record(&set("b", &n.to_string()), none());
            backlog.close_run();
        }
        assert!(backlog.bytes() <= 1_000, "{} bytes", backlog.bytes());
        assert_eq!(read_all(&backlog, Offset::new(99), 10).len(), 2);
    }

    /// All frames from `from` to the end, as offsets and keys.
    fn read_all(backlog: &Backlog, from: Offset, room: usize) -> Vec<(u64, String)> {
        let mut cursor = backlog.seek(from).unwrap();
        let mut decoder = Decoder::new();
        let mut frames = Vec::new();
        loop {
            let bytes = backlog.read(&mut cursor, Offset::MAX, room).unwrap();
            if bytes.is_empty() {
                break;
            }
            decoder.recv(&bytes);
            while let Some(message) = decoder.next().unwrap() {
                let (Message::Frames(fs) | Message::Group(fs)) = message else { panic!("no items here") };
                frames.extend(fs.iter().map(|f| (f.offset.get(), String::from_utf8_lossy(f.argv.arg(1)).into_owned())));
            }
            assert_eq!(frames.last().unwrap().0 + 1, cursor.next().get());
        }
        assert_eq!(cursor.next(), backlog.closed());
        frames
    }

    #[test]
    fn a_cursor_may_begin_at_any_frame_of_the_window() {
        let mut backlog = Backlog::new(Offset::ZERO, 1 << 20, CHECKS);
        let mut recorded = 0;
        for turn in 0..40u64 {
            for _ in 0..turn % 7 {
                if recorded % 5 == 3 {
                    let (a, b) = (recorded.to_string(), (recorded + 1).to_string());
                    let group = [Command::new(&["SET", &a, "x"]), Command::new(&["DEL", &b])];
                    recorded += backlog.record(&Effects::Group(group.to_vec()), none());
                } else {
                    recorded += backlog.record(&set(&recorded.to_string(), "v"), none());
                }
            }
            backlog.close_run();
        }
        assert_eq!(backlog.next(), Offset::new(recorded));
        for from in 0..=recorded {
            for room in [1, 100, 1 << 20] {
                let frames = read_all(&backlog, Offset::new(from), room);
                let expected: Vec<_> = (from..recorded).map(|o| (o, o.to_string())).collect();
                assert_eq!(frames, expected, "from {from} with room {room}");
            }
        }
    }

    #[test]
    fn the_open_run_is_not_sent_before_it_is_closed() {
        let mut backlog = Backlog::new(Offset::new(10), 1 << 20, CHECKS);
        backlog.record(&set("a", "1"), none());
        let mut cursor = backlog.seek(Offset::new(10)).unwrap();
        assert!(backlog.read(&mut cursor, Offset::MAX, 1 << 20).unwrap().is_empty());
        backlog.close_run();
        assert!(!backlog.read(&mut cursor, Offset::MAX, 1 << 20).unwrap().is_empty());
        assert_eq!(cursor.next(), Offset::new(11));
    }

    #[test]
    fn the_window_keeps_its_budget_and_the_newest_run() {
        let mut backlog = Backlog::new(Offset::ZERO, 64 << 10, CHECKS);
        let value = "v".repeat(1000);
        for i in 0..1000 {
            backlog.record(&set(&i.to_string(), &value), none());
            backlog.close_run();
            assert!(backlog.bytes() <= backlog.budget());
        }
        let oldest = backlog.oldest();
        assert!(oldest.get() > 900 && oldest.get() < 960, "{oldest}");
        assert_eq!(read_all(&backlog, oldest, 1 << 20).len() as u64, 1000 - oldest.get());
        assert_eq!(backlog.seek(Offset::ZERO).unwrap_err(), BelowWindow { wanted: Offset::ZERO, oldest });
        let held: usize = backlog.chunks.iter().map(|c| c.segment.capacity()).sum::<usize>()
            + backlog.spare.iter().map(Segment::capacity).sum::<usize>();
        assert!(held <= 2 * backlog.budget(), "segments are recycled: {held} bytes");

        let mut huge = Backlog::new(Offset::ZERO, 1000, CHECKS);
        huge.record(&set("small", "v"), none());
        huge.close_run();
        huge.record(&set("huge", &"v".repeat(100_000)), none());
        huge.close_run();
        assert_eq!(huge.oldest(), Offset::new(1), "the newest is kept alone");
        assert_eq!(read_all(&huge, Offset::new(1), 1), [(1, "huge".to_string())]);
        huge.record(&set("after", "v"), none());
        huge.close_run();
        assert_eq!(huge.oldest(), Offset::new(2));
    }

    #[test]
    fn a_cursor_that_is_overtaken_is_told_so_and_what_it_holds_stays_good() {
        let mut backlog = Backlog::new(Offset::ZERO, 8 << 10, CHECKS);
        backlog.record(&set("a", "first"), none());
        backlog.close_run();
        let mut cursor = backlog.seek(Offset::ZERO).unwrap();
        let held = backlog.read(&mut cursor, Offset::MAX, 1).unwrap();
        let copy = held.to_vec();
        for i in 0..5000 {
            backlog.record(&set(&i.to_string(), "v"), none());
            backlog.close_run();
        }
        assert_eq!(held[..], copy[..]);
        assert!(backlog.read(&mut cursor, Offset::MAX, 1).is_err());
    }

    #[test]
    fn a_group_has_these_bytes() {
        let mut backlog = Backlog::new(Offset::new(7), 1 << 20, CHECKS);
        backlog.record(&Effects::Group(vec![Command::new(&["DEL", "a"]), Command::new(&["DEL", "b"])]), none());
        backlog.record(&Effects::Group(vec![Command::new(&["DEL", "c"])]), none());
        backlog.close_run();
        let mut cursor = backlog.seek(Offset::new(7)).unwrap();
        let expected = b"+GROUP 2\r\n\
            *2\r\n:7\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n\
            *2\r\n:8\r\n*2\r\n$3\r\nDEL\r\n$1\r\nb\r\n\
            *2\r\n:9\r\n*2\r\n$3\r\nDEL\r\n$1\r\nc\r\n";
        assert_eq!(&backlog.read(&mut cursor, Offset::MAX, 1 << 20).unwrap()[..], expected);
    }

    #[test]
    fn peers_without_groups_get_the_same_frames() {
        let mut backlog = Backlog::new(Offset::ZERO, 1 << 20, CHECKS);
        backlog.record(&set("a", "+GROUP"), none());
        backlog.record(&Effects::Group(vec![Command::new(&["DEL", "a"]), Command::new(&["DEL", "b"])]), none());
        backlog.close_run();
        let mut cursor = backlog.seek(Offset::ZERO).unwrap();
        let bytes = backlog.read(&mut cursor, Offset::MAX, 1 << 20).unwrap();
        let mut decoder = Decoder::new();
        decoder.recv(&without_group_lines(bytes));
        let Some(Message::Frames(frames)) = decoder.next().unwrap() else { panic!("frames without a group") };
        assert_eq!(frames.len(), 3);
    }

    /// Takes apart what `read_checked` gave: where each checked part begins, and how many frames it has.
    fn checked_parts(mut bytes: &[u8]) -> Vec<(u64, usize)> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let line = bytes.windows(7).position(|word| word == b"+CHECK ").expect("a check line");
            let end = line + bytes[line..].iter().position(|&byte| byte == b'\n').unwrap() + 1;
            let mut decoder = Decoder::new();
            let mut offsets = Vec::new();
            decoder.recv(&bytes[..line]);
            while let Some(message) = decoder.next().unwrap() {
                let (Message::Frames(fs) | Message::Group(fs)) = message else { panic!("no items here") };
                offsets.extend(fs.iter().map(|f| f.offset.get()));
            }
            let mut check = Vec::new();
            Check::of(Offset::new(offsets[0]), &bytes[..line]).encode_to(&mut check);
            assert_eq!(bytes[line..end], check);
            parts.push((offsets[0], offsets.len()));
            bytes = &bytes[end..];
        }
        parts
    }

    #[test]
    fn every_run_is_followed_by_its_check_and_what_is_left_of_one_by_its_own() {
        let mut backlog = Backlog::new(Offset::new(8), 1 << 20, CHECKS);
        for run in 0..4 {
            for frame in 0..=run {
                backlog.record(&set(&frame.to_string(), "v"), none());
            }
            let group = [Command::new(&["DEL", "a"]), Command::new(&["DEL", "b"])];
            backlog.record(&Effects::Group(group.to_vec()), none());
            backlog.close_run();
        }
        let parts = [(8, 3), (11, 4), (15, 5), (20, 6)];
        for room in [1, 100, 1 << 20] {
            for from in [8, 9, 10, 11, 13, 15, 20, 24] {
                let mut cursor = backlog.seek(Offset::new(from)).unwrap();
                let mut got = Vec::new();
                while cursor.next() < backlog.closed() {
                    got.extend(checked_parts(&backlog.read_checked(&mut cursor, Offset::MAX, room).unwrap()));
                }
                let expected: Vec<_> = parts
                    .iter()
                    .map(|&(first, frames)| (first.max(from), (first + frames as u64).saturating_sub(first.max(from))))
                    .filter(|&(_, frames)| frames > 0)
                    .map(|(first, frames)| (first, frames as usize))
                    .collect();
                assert_eq!(got, expected, "from {from} with room {room}");
            }
        }
    }

    #[test]
    fn a_run_ends_at_its_bound_and_never_inside_a_group() {
        let mut backlog = Backlog::new(Offset::ZERO, 64 << 20, CHECKS);
        let value = "v".repeat(100_000);
        let many: Vec<_> = (0..10).map(|_| Command::new(&["SET", "k", &value])).collect();
        backlog.record(&Effects::Group(many), none());
        for _ in 0..5 {
            backlog.record(&set("k", &value), none());
        }
        backlog.close_run();
        let mut cursor = backlog.seek(Offset::ZERO).unwrap();
        let mut parts = Vec::new();
        while cursor.next() < backlog.closed() {
            parts.extend(checked_parts(&backlog.read_checked(&mut cursor, Offset::MAX, usize::MAX).unwrap()));
        }
        assert_eq!(parts, [(0, 10), (10, 3), (13, 2)]);
    }

    #[test]
    fn without_checks_the_same_frames_are_stored_without_lines() {
        let mut plain = Backlog::new(Offset::ZERO, 1 << 20, false);
        let mut checked = Backlog::new(Offset::ZERO, 1 << 20, true);
        let mut read = Vec::new();
        for backlog in [&mut plain, &mut checked] {
            for n in 0..50 {
                backlog.record(&set(&n.to_string(), "v"), none());
                if n % 3 == 0 {
                    backlog.close_run();
                }
            }
            backlog.close_run();
            let mut cursor = backlog.seek(Offset::new(2)).unwrap();
            read.push(backlog.read(&mut cursor, Offset::MAX, 1 << 20).unwrap());
            assert_eq!(cursor.next(), backlog.closed());
        }
        assert_eq!(read[0], read[1]);
        assert!(!read[0].windows(6).any(|word| word == b"+CHECK"));
        assert!(plain.bytes() < checked.bytes());
    }
}
