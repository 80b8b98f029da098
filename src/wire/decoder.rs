//! The receiving end of a stream: owns its buffer, and hands out what has arrived without copying it.
//!
//! ```text
//! buffer   ░░░░░░░░ frame frame frame item pay|load fr|          free room      |
//!          handed   ▲start                           ▲end                        ▲len
//!          out      └─ at: how far the message at `start` has been scanned
//! ```
//!
//! Positions inside a message are relative to its beginning, so that moving it to the front of the buffer changes
//! none; and a scan that ran out of bytes goes on where it stopped, so that a message of any size costs linear time.
//!
//! Where the link has check lines, a message is what lies between two of them, and it is handed out in its parts only once
//! the line behind it has proved it:
//!
//! ```text
//! buffer   ░░░░░░░░ frame frame +GROUP frame frame +CHECK | frame frame fr|      free room      |
//!          handed   ▲start   scanned once, held back ▲     begun                ▲end
//! ```

use super::check::{self, Check};
use super::frame::{Frame, envelope_at};
use super::item::{Item, Line, parse_line};
use super::scan::{ArgScan, line};
use super::{ArgRange, Argv, WireError};
use crate::buffer::Buffer;
use crate::id::Offset;
use crate::limits;

/// Decodes a stream that arrives in pieces.
#[derive(Debug)]
pub struct Decoder {
    buf: Buffer,
    /// First byte that has not been handed out.
    start: usize,
    /// One past the last byte received; `start <= end <= buf.len()`.
    end: usize,
    /// Bytes that the message handed out last took; released by the next call.
    taken: usize,
    /// Where the scan of the message at `start` stands.
    scan: Scan,
    frames: Vec<FrameRef>,
    args: Vec<ArgRange>,
    /// What is held back, where the link has check lines.
    held: Option<Held>,
}

/// What lies between two check lines, as far as it has been scanned.
#[derive(Debug)]
struct Held {
    /// Bytes scanned, the check line included once it has been found good.
    at: usize,
    /// In order; frames are the decoder's.
    parts: Vec<Part>,
    /// How many of them have been handed out.
    given: usize,
    /// Whether the check line is there and good.
    proved: bool,
    /// Where it begins, if it is not frames: those say it themselves.
    position: Offset,
}

/// A part of what is held back: frames by their indexes, a payload by its place.
#[derive(Clone, Copy, Debug)]
enum Part {
    Frames { first: usize, end: usize },
    Group { first: usize, end: usize },
    Item { item: Item<usize>, payload: usize },
}

/// What has been understood of the message that begins at `start`; positions relative to it.
#[derive(Clone, Copy, Debug)]
enum Scan {
    /// Nothing yet.
    Boundary,
    /// Inside a frame, alone or of a group.
    Frame { group: Option<GroupScan>, begin: usize, offset: Offset, args: ArgScan },
    /// Between two frames of a group.
    Group { group: GroupScan, at: usize },
    /// An item whose payload has not arrived whole.
    Payload { item: Item<usize>, at: usize },
}

#[derive(Clone, Copy, Debug)]
struct GroupScan {
    frames: u32,
    /// Its first frame's index.
    first: usize,
}

/// Where one frame lies; positions are relative to the base of its [`Frames`].
#[derive(Clone, Copy, Debug)]
pub struct FrameRef {
    /// Its place in the stream.
    pub offset: Offset,
    /// Its first byte.
    pub start: u32,
    /// One past its last byte.
    pub end: u32,
    /// Its first argument's index.
    pub first_arg: u32,
    /// One past its last argument's index.
    pub end_arg: u32,
}

/// Consecutive frames, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a> {
    buf: &'a [u8],
    refs: &'a [FrameRef],
    args: &'a [ArgRange],
}

impl<'a> Frames<'a> {
    /// Frames of `buf` at `refs`, their arguments at `args`.
    pub fn new(buf: &'a [u8], refs: &'a [FrameRef], args: &'a [ArgRange]) -> Frames<'a> {
        Frames { buf, refs, args }
    }

    /// How many there are; at least 1 where a decoder made them.
    #[inline]
    pub fn len(self) -> usize {
        self.refs.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.refs.is_empty()
    }

    /// Frame number `index`.
    ///
    /// # Panics
    /// Where there is none.
    #[inline]
    pub fn get(self, index: usize) -> Frame<'a> {
        let r = &self.refs[index];
        Frame {
            offset: r.offset,
            argv: Argv::new(self.buf, &self.args[r.first_arg as usize..r.end_arg as usize]),
            encoded: &self.buf[r.start as usize..r.end as usize],
        }
    }

    /// The frames in order.
    #[inline]
    pub fn iter(self) -> impl ExactSizeIterator<Item = Frame<'a>> {
        (0..self.len()).map(move |i| self.get(i))
    }

    /// Where the frame number `index` lies, and its argument ranges; for carrying it elsewhere.
    #[inline]
    pub fn raw(self, index: usize) -> (FrameRef, &'a [ArgRange]) {
        let r = self.refs[index];
        (r, &self.args[r.first_arg as usize..r.end_arg as usize])
    }
}

/// One thing that a stream says.
#[derive(Clone, Debug)]
pub enum Message<'a> {
    /// Up to [`BATCH_FRAMES_MAX`](limits::BATCH_FRAMES_MAX) frames that came one after the other, none of a group.
    Frames(Frames<'a>),
    /// All frames of one group.
    Group(Frames<'a>),
    /// A dump item or a control line.
    Item(Item<&'a [u8]>),
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder with nothing in it.
    pub fn new() -> Decoder {
        Decoder {
            buf: Buffer::default(),
            start: 0,
            end: 0,
            taken: 0,
            scan: Scan::Boundary,
            frames: Vec::with_capacity(limits::BATCH_FRAMES_MAX),
            args: Vec::with_capacity(4 * limits::BATCH_FRAMES_MAX),
            held: None,
        }
    }

    /// Forgets everything, for another stream. What its buffer took from the system beyond the usual is given back.
    pub fn clear(&mut self) {
        if self.buf.len() > limits::RECV_BYTES {
            self.buf = Buffer::default();
        }
        self.frames.clear();
        self.args.clear();
        (self.start, self.end, self.taken) = (0, 0, 0);
        (self.scan, self.held) = (Scan::Boundary, None);
    }

    /// From here on the stream has check lines, and nothing is handed out before the one behind it has proved it. `at` is
    /// where the stream begins.
    ///
    /// # Panics
    /// If a message has been begun.
    pub fn expect_checks(&mut self, at: Offset) {
        self.release();
        assert!(matches!(self.scan, Scan::Boundary) && self.frames.is_empty(), "a message has been begun");
        self.held = Some(Held { at: 0, parts: Vec::new(), given: 0, proved: false, position: at });
    }

    /// Whether the stream has check lines.
    pub fn expects_checks(&self) -> bool {
        self.held.is_some()
    }

    /// Room for bytes to be received into: at least half of [`RECV_BYTES`](limits::RECV_BYTES). The buffer grows only
    /// with what has really arrived, whatever a message announces.
    pub fn recv_slice(&mut self) -> &mut [u8] {
        self.release();
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buf.len() > limits::RECV_BYTES_KEPT {
                self.buf = Buffer::zeroed(limits::RECV_BYTES);
            }
        }
        if self.buf.len() - self.end < limits::RECV_BYTES / 2 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buf.len() - self.end < limits::RECV_BYTES / 2 {
                self.buf.lengthen((2 * self.end).max(limits::RECV_BYTES));
            }
        }
        &mut self.buf[self.end..]
    }

    /// Says that `len` bytes have been received into the latest [`recv_slice`](Self::recv_slice).
    ///
    /// # Panics
    /// If it was shorter than that.
    pub fn recv_advance(&mut self, len: usize) {
        assert!(len <= self.buf.len() - self.end, "more bytes received than there was room for");
        self.end += len;
    }

    /// Receives `bytes`; for those who have them already.
    pub fn recv(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.recv_slice();
            let len = room.len().min(bytes.len());
            room[..len].copy_from_slice(&bytes[..len]);
            self.recv_advance(len);
            bytes = &bytes[len..];
        }
    }

    /// What was received and not handed out, for what comes before the stream: the answer of a handshake.
    pub fn unread(&mut self) -> &[u8] {
        self.release();
        &self.buf[self.start..self.end]
    }

    /// Passes over the first `len` bytes of [`unread`](Self::unread).
    ///
    /// # Panics
    /// If there are not so many, or a message has been begun.
    pub fn skip(&mut self, len: usize) {
        assert!(matches!(self.scan, Scan::Boundary) && len <= self.end - self.start);
        self.start += len;
    }

    /// Bytes received and not handed out.
    pub fn buffered(&self) -> usize {
        self.end - self.start - self.taken
    }

    /// The next message, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// If the peer breaks the protocol. The decoder is of no more use then.
    #[allow(clippy::should_implement_trait, reason = "it lends, which iterators cannot")]
    pub fn next(&mut self) -> Result<Option<Message<'_>>, WireError> {
        self.release();
        if self.held.is_some() { self.next_proved() } else { self.next_arrived() }
    }

    /// The next message of a stream without check lines: as soon as it has arrived.
    fn next_arrived(&mut self) -> Result<Option<Message<'_>>, WireError> {
        loop {
            let buf = &self.buf[self.start..self.end];
            match self.scan {
                Scan::Boundary => {
                    let at = self.frames.last().map_or(0, |f| f.end as usize);
                    match buf.get(at) {
                        None if at == 0 => return Ok(None),
                        None => return Ok(Some(self.hand_out_frames(false))),
                        Some(b'*') if at == 0 || self.frames.len() < limits::BATCH_FRAMES_MAX => {
                            let whole = match self.scan_frame(None, at) {
                                // The whole frames before it go first, so that what a link yields before an error
                                // does not depend on how its bytes were split; the next call finds the error again.
                                Err(_) if at > 0 => false,
                                scanned => scanned?,
                            };
                            if !whole {
                                return if at == 0 { Ok(None) } else { Ok(Some(self.hand_out_frames(false))) };
                            }
                        }
                        Some(_) if at > 0 => return Ok(Some(self.hand_out_frames(false))),
                        Some(b'+') => {
                            let Some((text, end)) = line(buf, 0, limits::CONTROL_LINE_BYTES_MAX)? else {
                                return Ok(None);
                            };
                            match parse_line(&text[1..])? {
                                Line::Group(frames) => {
                                    self.scan = Scan::Group { group: GroupScan { frames, first: 0 }, at: end };
                                }
                                Line::Item(item) => self.scan = Scan::Payload { item, at: end },
                                Line::Unknown => self.start += end,
                            }
                        }
                        Some(_) => return Err(WireError::Frame("neither a frame nor a line")),
                    }
                }
                Scan::Frame { group, .. } => {
                    if !self.resume_frame(group)? {
                        return Ok(None);
                    }
                }
                Scan::Group { group, at } => match self.scan_group(group, at)? {
                    GroupStep::Starved => return Ok(None),
                    GroupStep::Frame => {}
                    GroupStep::Whole => {
                        self.scan = Scan::Boundary;
                        return Ok(Some(self.hand_out_frames(true)));
                    }
                },
                Scan::Payload { item, at } => {
                    let mut len = 0;
                    let item = item.map(|l| len = l);
                    if buf.len() < at + len {
                        return Ok(None);
                    }
                    self.scan = Scan::Boundary;
                    self.taken = at + len;
                    let payload = &self.buf[self.start + at..self.start + at + len];
                    return Ok(Some(Message::Item(item.map(|()| payload))));
                }
            }
        }
    }

    /// The next part of what a check line has proved.
    fn next_proved(&mut self) -> Result<Option<Message<'_>>, WireError> {
        let part = loop {
            let Some(held) = &mut self.held else { return Ok(None) };
            if held.proved {
                let part = held.parts.get(held.given).copied();
                held.given += 1;
                if held.given >= held.parts.len() {
                    self.taken = held.at;
                }
                match part {
                    Some(part) => break part,
                    // Only lines that are not known here.
                    None => self.release(),
                }
            } else if !self.hold()? {
                return Ok(None);
            }
        };
        let buf = &self.buf[self.start..self.end];
        let frames = |first, end| Frames { buf, refs: &self.frames[first..end], args: &self.args };
        Ok(Some(match part {
            Part::Frames { first, end } => Message::Frames(frames(first, end)),
            Part::Group { first, end } => Message::Group(frames(first, end)),
            Part::Item { item, payload } => Message::Item(item.map(|len| &buf[payload..payload + len])),
        }))
    }

    /// Goes on with what is held back; `true` once its check line has proved it.
    fn hold(&mut self) -> Result<bool, WireError> {
        loop {
            let Some(held) = &mut self.held else { return Ok(false) };
            let buf = &self.buf[self.start..self.end];
            match self.scan {
                Scan::Boundary => {
                    let at = held.at;
                    match buf.get(at) {
                        None => return Ok(false),
                        Some(b'*') => {
                            held.bound()?;
                            if !self.scan_frame(None, at)? {
                                return Ok(false);
                            }
                            self.hold_frame();
                        }
                        Some(b'+') => {
                            let Some((text, end)) = line(buf, at, limits::CONTROL_LINE_BYTES_MAX)? else {
                                return Ok(false);
                            };
                            if let Some(check) = check::parse(text)? {
                                held.prove(check, &buf[..at], &self.frames)?;
                                held.at = end;
                                return Ok(true);
                            }
                            held.bound()?;
                            match parse_line(&text[1..])? {
                                Line::Group(frames) => {
                                    let group = GroupScan { frames, first: self.frames.len() };
                                    self.scan = Scan::Group { group, at: end };
                                }
                                Line::Item(item) => self.scan = Scan::Payload { item, at: end },
                                Line::Unknown => held.at = end,
                            }
                        }
                        Some(_) => return Err(WireError::Frame("neither a frame nor a line")),
                    }
                }
                Scan::Frame { group, .. } => {
                    if !self.resume_frame(group)? {
                        return Ok(false);
                    }
                    if group.is_none() {
                        self.hold_frame();
                    }
                }
                Scan::Group { group, at } => match self.scan_group(group, at)? {
                    GroupStep::Starved => return Ok(false),
                    GroupStep::Frame => {}
                    GroupStep::Whole => {
                        self.scan = Scan::Boundary;
                        let end = self.frames.len();
                        if let Some(held) = &mut self.held {
                            held.parts.push(Part::Group { first: group.first, end });
                            held.at = at;
                        }
                    }
                },
                Scan::Payload { item, at } => {
                    let mut len = 0;
                    item.map(|l| len = l);
                    if buf.len() < at + len {
                        return Ok(false);
                    }
                    self.scan = Scan::Boundary;
                    held.parts.push(Part::Item { item, payload: at });
                    held.at = at + len;
                }
            }
        }
    }

    /// The frame that was scanned last, which is of no group, is held back, too.
    #[inline]
    fn hold_frame(&mut self) {
        let (Some(held), Some(frame)) = (&mut self.held, self.frames.last()) else { return };
        held.at = frame.end as usize;
        let index = self.frames.len() - 1;
        match held.parts.last_mut() {
            Some(Part::Frames { first, end }) if index - *first < limits::BATCH_FRAMES_MAX => *end = index + 1,
            _ => held.parts.push(Part::Frames { first: index, end: index + 1 }),
        }
    }

    /// Goes on with a group, `at` the end of what it has so far.
    fn scan_group(&mut self, group: GroupScan, at: usize) -> Result<GroupStep, WireError> {
        let got = (self.frames.len() - group.first) as u32;
        if got == group.frames {
            return Ok(GroupStep::Whole);
        }
        match self.buf[self.start..self.end].get(at) {
            None => return Ok(GroupStep::Starved),
            Some(b'*') => {
                if !self.scan_frame(Some(group), at)? {
                    return Ok(GroupStep::Starved);
                }
            }
            Some(_) => return Err(WireError::Group { expected: group.frames, got }),
        }
        let begin = self.frames[group.first].start;
        let bytes = u64::from(self.frames.last().map_or(0, |f| f.end - begin));
        if bytes > limits::GROUP_BYTES_MAX as u64 {
            return Err(WireError::TooLarge {
                what: "a group",
                announced: bytes,
                limit: limits::GROUP_BYTES_MAX as u64,
            });
        }
        Ok(GroupStep::Frame)
    }

    /// Begins the frame at `at`; `true` if it is whole.
    #[inline]
    fn scan_frame(&mut self, group: Option<GroupScan>, at: usize) -> Result<bool, WireError> {
        let buf = &self.buf[self.start..self.end];
        let Some((offset, args_at)) = envelope_at(buf, at)? else { return Ok(false) };
        let first_arg = self.args.len();
        let mut args = ArgScan::starting_at(args_at);
        if args.run(buf, &mut self.args)? {
            self.push_frame(offset, at, args.at, first_arg);
            if let Some(group) = group {
                self.scan = Scan::Group { group, at: args.at };
            }
            return Ok(true);
        }
        if group.is_none() && at > 0 && self.held.is_none() {
            // Whole frames stand before it: they go first, and this one is begun anew at the front.
            self.args.truncate(first_arg);
        } else {
            self.scan = Scan::Frame { group, begin: at, offset, args };
        }
        Ok(false)
    }

    /// Goes on with the frame that ran out of bytes; `true` if it is whole now.
    fn resume_frame(&mut self, group: Option<GroupScan>) -> Result<bool, WireError> {
        let Scan::Frame { begin, offset, mut args, .. } = self.scan else { unreachable!("only called inside a frame") };
        let buf = &self.buf[self.start..self.end];
        let whole = args.run(buf, &mut self.args)?;
        if whole {
            let first_arg = self.frames.last().map_or(0, |f| f.end_arg as usize);
            self.push_frame(offset, begin, args.at, first_arg);
            self.scan = match group {
                Some(group) => Scan::Group { group, at: args.at },
                None => Scan::Boundary,
            };
        } else {
            self.scan = Scan::Frame { group, begin, offset, args };
        }
        Ok(whole)
    }

    #[inline]
    fn push_frame(&mut self, offset: Offset, start: usize, end: usize, first_arg: usize) {
        self.frames.push(FrameRef {
            offset,
            start: start as u32,
            end: end as u32,
            first_arg: first_arg as u32,
            end_arg: self.args.len() as u32,
        });
    }

    fn hand_out_frames(&mut self, group: bool) -> Message<'_> {
        self.taken = self.frames.last().map_or(0, |f| f.end as usize);
        let frames = Frames { buf: &self.buf[self.start..self.end], refs: &self.frames, args: &self.args };
        if group { Message::Group(frames) } else { Message::Frames(frames) }
    }

    /// Lets go of the message that was handed out last.
    fn release(&mut self) {
        if self.taken > 0 {
            self.start += std::mem::take(&mut self.taken);
            self.frames.clear();
            self.args.clear();
            if let Some(held) = &mut self.held {
                held.parts.clear();
                (held.at, held.given, held.proved) = (0, 0, false);
            }
        }
        debug_assert!(self.start <= self.end && self.end <= self.buf.len());
    }
}

/// What one step inside a group did.
enum GroupStep {
    /// It ran out of bytes.
    Starved,
    /// It has one more frame.
    Frame,
    /// It has all its frames.
    Whole,
}

impl Held {
    /// What is long enough to be checked goes on with its check and nothing else.
    #[inline]
    fn bound(&self) -> Result<(), WireError> {
        if self.at >= limits::RUN_BYTES_MAX { Err(WireError::Unchecked(self.at)) } else { Ok(()) }
    }

    /// Holds `check` against `bytes`, which is all that came before it.
    fn prove(&mut self, check: Check, bytes: &[u8], frames: &[FrameRef]) -> Result<(), WireError> {
        let at = match self.parts.first() {
            Some(&Part::Frames { first, .. } | &Part::Group { first, .. }) => frames[first].offset,
            Some(Part::Item { item: Item::Sync { at, .. }, .. }) => *at,
            Some(Part::Item { item, .. }) => item.at().unwrap_or(self.position),
            None => self.position,
        };
        let Check { crc: got, .. } = Check::of(at, bytes);
        if got != check.crc {
            return Err(WireError::Damaged { at, said: check.crc, got });
        }
        if at != check.from {
            return Err(WireError::CheckPosition { at, said: check.from });
        }
        self.position = frames.last().map_or(at, |frame| frame.offset.next());
        self.proved = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Digest, Generation, HashSlot};
    use crate::wire::effect::Command;
    use crate::wire::frame::{Envelope, encoded_raw_bytes_max};

    #[test]
    fn frames_before_a_malformed_one_are_handed_out() {
        let good = b"*2\r\n:0\r\n*1\r\n$4\r\nNOOP\r\n";
        for bad in [&b"*2\r\n+1\r\n"[..], b"*2\r\n:1\r\n*2\r\n$4\r\nNOOP\r\n%"] {
            let mut decoder = Decoder::new();
            decoder.recv(&[good, bad].concat());
            let Ok(Some(Message::Frames(frames))) = decoder.next() else { panic!("the good frame is lost") };
            assert_eq!(frames.len(), 1);
            assert!(decoder.next().is_err());
        }
    }

    /// Everything a stream can say, encoded, beside what a decoder must make of it.
    fn specimen() -> (Vec<u8>, Vec<String>) {
        let mut bytes = Vec::new();
        let mut said = Vec::new();
        let frame = |offset: u64, args: &[&str], bytes: &mut Vec<u8>| {
            let command = Command::new(args);
            let mut out = vec![0; encoded_raw_bytes_max(command.as_bytes().len())];
            let len = Envelope::at(Offset::new(offset)).encode_raw(command.as_bytes(), &mut out);
            bytes.extend_from_slice(&out[..len]);
            format!("{offset} {args:?}")
        };
        said.push(frame(0, &["SET", "a", "1"], &mut bytes));
        said.push(frame(1, &["DEL", ""], &mut bytes));
        bytes.extend_from_slice(b"+GROUP 2 17 3\r\n");
        let group = [frame(2, &["DEL", "a"], &mut bytes), frame(3, &["SET", "b", "1\r\n"], &mut bytes)];
        said.push(format!("group {}", group.join(" ")));
        bytes.extend_from_slice(b"+WHATEVER comes later\r\n");
        let slot = |n| HashSlot::new(n).unwrap();
        let at = Offset::new(4);
        let items: Vec<Item<&[u8]>> = vec![
            Item::Sync { generation: Generation::new(9).unwrap(), at, last_tx: 0 },
            Item::Slots { first: slot(5), count: 3, at, payload: b"*2\r\n+x" },
            Item::SlotBegin { slot: slot(8), at },
            Item::Piece { slot: slot(8), at, payload: b"records" },
            Item::SlotEnd { slot: slot(8), at, digest: None },
            Item::SlotDrop { slot: slot(9) },
            Item::SyncEnd { at },
            Item::Digest { slot: slot(1), at, digest: Some(Digest(1)) },
            Item::Digest { slot: slot(2), at, digest: None },
            Item::GetAck,
            Item::Ping { generation: Generation::new(9).unwrap(), next: at },
        ];
        for item in items {
            bytes.extend_from_slice(&item.encode());
            said.push(format!("{item:?}"));
        }
        said.push(frame(4, &["NOOP"], &mut bytes));
        (bytes, said)
    }

    fn show(message: Message<'_>, said: &mut Vec<String>) {
        let frame = |f: Frame<'_>| {
            let args: Vec<&str> = f.argv.iter().map(|a| std::str::from_utf8(a).unwrap()).collect();
            format!("{} {args:?}", f.offset)
        };
        match message {
            Message::Frames(frames) => said.extend(frames.iter().map(frame)),
            Message::Group(frames) => {
                said.push(format!("group {}", frames.iter().map(frame).collect::<Vec<_>>().join(" ")))
            }
            Message::Item(item) => said.push(format!("{item:?}")),
        }
    }

    #[test]
    fn every_split_at_every_byte_says_the_same() {
        let (bytes, expected) = specimen();
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::new();
            let mut said = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                decoder.recv(part);
                while let Some(message) = decoder.next().unwrap() {
                    show(message, &mut said);
                }
            }
            assert_eq!(said, expected, "cut at {cut}");
            assert_eq!(decoder.buffered(), 0);
        }
        let mut decoder = Decoder::new();
        let mut said = Vec::new();
        for byte in bytes.chunks(1) {
            decoder.recv(byte);
            while let Some(message) = decoder.next().unwrap() {
                show(message, &mut said);
            }
        }
        assert_eq!(said, expected, "byte by byte");
    }

    #[test]
    fn items_have_these_bytes() {
        let slot = HashSlot::new(8).unwrap();
        let at = Offset::new(4);
        let golden: [(Item<&[u8]>, &[u8]); 11] = [
            (Item::Sync { generation: Generation::new(9).unwrap(), at, last_tx: 6 }, b"+SYNC 9 4 6\r\n"),
            (Item::Slots { first: slot, count: 3, at, payload: b"xyz" }, b"+SLOTS 8 3 4 3\r\nxyz"),
            (Item::SlotBegin { slot, at }, b"+SLOTBEGIN 8 4\r\n"),
            (Item::Piece { slot, at, payload: b"abc" }, b"+PIECE 8 4 3\r\nabc"),
            (Item::SlotEnd { slot, at, digest: None }, b"+SLOTEND 8 4 -\r\n"),
            (Item::SlotDrop { slot }, b"+SLOTDROP 8\r\n"),
            (Item::SyncEnd { at }, b"+SYNCEND 4\r\n"),
            (Item::Digest { slot, at, digest: Some(Digest(1)) }, b"+DIGEST 8 4 0000000000000001\r\n"),
            (Item::Digest { slot, at, digest: None }, b"+DIGEST 8 4 -\r\n"),
            (Item::GetAck, b"+GETACK\r\n"),
            (Item::Ping { generation: Generation::new(9).unwrap(), next: at }, b"+PING 9 4\r\n"),
        ];
        for (item, bytes) in golden {
            assert_eq!(&item.encode()[..], bytes);
        }
    }

    #[test]
    fn what_a_peer_may_not_say_is_a_named_error() {
        for (bytes, part) in [
            (&b"$3\r\n"[..], "neither a frame nor a line"),
            (b"*3\r\n:1\r\n", "no envelope"),
            (b"*2\r\n:99999999999999999999\r\n", "bad number in offset"),
            (b"*2\r\n:9223372036854775808\r\n*1\r\n", "bad number in offset"),
            (b"*2\r\n:1\r\n*1\r\n$1099511627776\r\n", "announces 1099511627776"),
            (b"*2\r\n:1\r\n*99999999\r\n", "announces 99999999"),
            (b"*2\r\n:1\r\n*0\r\n", "without a verb"),
            (b"*2\r\n:1\r\n*1\r\n$2\r\nabcd", "does not end in CRLF"),
            (b"+GROUP 0\r\n", "malformed line `GROUP 0`"),
            (b"+GROUP 2\r\n+PING 1 1\r\n", "broken off after 0"),
            (b"+SLOTS 16383 2 0 0\r\n", "malformed line"),
            (b"+SLOTS 0 1 0 9999999999999\r\n", "announces 9999999999999"),
            (b"+PIECE 16384 0 1\r\n", "malformed line"),
            (b"+SYNC 0 1 1\r\n", "malformed line"),
        ] {
            let mut decoder = Decoder::new();
            decoder.recv(bytes);
            let error = decoder.next().expect_err(&bytes.escape_ascii().to_string()).to_string();
            assert!(error.contains(part), "{error}");
        }
        let mut decoder = Decoder::new();
        decoder.recv(&[b'+'; 1000]);
        assert_eq!(decoder.next().unwrap_err(), WireError::LineTooLong(limits::CONTROL_LINE_BYTES_MAX));
    }

    #[test]
    fn the_buffer_grows_with_what_arrives_and_is_given_back() {
        let mut decoder = Decoder::new();
        decoder.recv(b"*2\r\n:0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20000000\r\n");
        assert!(decoder.next().unwrap().is_none());
        assert!(decoder.buf.len() <= 2 * limits::RECV_BYTES, "an announced length allocates nothing");
        let value = vec![b'v'; 20_000_000];
        for piece in value.chunks(100_000) {
            decoder.recv(piece);
            assert!(decoder.next().unwrap().is_none());
        }
        decoder.recv(b"\r\n");
        let Some(Message::Frames(frames)) = decoder.next().unwrap() else { panic!("one frame") };
        assert_eq!(frames.get(0).argv.arg(2).len(), value.len());
        decoder.recv_slice();
        assert!(decoder.buf.heap_bytes() <= limits::RECV_BYTES_KEPT);
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(mutations in proptest::collection::vec((0usize..600, 0u8..=255), 0..6), cut in 0usize..600) {
            let (mut bytes, _) = specimen();
            let len = bytes.len();
            for (at, byte) in mutations {
                bytes[at % len] = byte;
            }
            let mut decoder = Decoder::new();
            let cut = cut % len;
            'parts: for part in [&bytes[..cut], &bytes[cut..]] {
                decoder.recv(part);
                loop {
                    match decoder.next() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'parts,
                    }
                }
            }
        }
    }
}
