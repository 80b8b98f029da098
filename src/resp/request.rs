//! The bytes of one client connection, and the requests in them. It owns the buffer, so that a socket reads straight into
//! it and commands are handed out as ranges of it; a turn may look at many whole commands at once.
//!
//! ```text
//!        start         parsed           end            buf.len()
//! ┌────────┬─────────────┬───────────────┬───────────────┐
//! │released│ whole       │ a command     │ recv_slice()  │
//! │        │ commands    │ not whole yet │               │
//! └────────┴─────────────┴───────────────┴───────────────┘
//! ```

use super::command::{Progress, RespError};
use super::inline;
use crate::buffer::Buffer;
use crate::limits::INLINE_BYTES_MAX;
use crate::wire::{ArgRange, Argv};

/// Bytes of a fresh buffer, and the size to which a grown one returns.
const BUFFER_BYTES: usize = 16 << 10;

/// Fewer free bytes than this are not worth a read.
const READ_BYTES_MIN: usize = 4 << 10;

/// By how much a buffer grows at once at most, however much a peer announces.
const GROWTH_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(READ_BYTES_MIN < BUFFER_BYTES);

/// Decodes the requests of one client: RESP2 multi-bulk or inline commands.
#[derive(Debug)]
pub struct RequestDecoder {
    /// All of it is initialised; `start <= parsed <= end <= buf.len()`.
    buf: Buffer,
    start: usize,
    parsed: usize,
    end: usize,
    /// How far the command at `parsed` is decoded.
    progress: Progress,
    /// How far the inline command at `parsed` was searched for its line end.
    searched: usize,
    /// The ranges of `commands`, one after the other, then those of the command at `parsed`.
    ranges: Vec<ArgRange>,
    commands: Vec<Span>,
    failed: Option<RespError>,
}

/// One whole command.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// What its ranges are relative to, in the buffer.
    base: usize,
    /// Its first range.
    first: usize,
    /// One past its last range.
    end: usize,
}

impl Default for RequestDecoder {
    fn default() -> RequestDecoder {
        RequestDecoder::new()
    }
}

impl RequestDecoder {
    /// A decoder without bytes; its buffer is allocated with the first [`recv_slice`](Self::recv_slice).
    pub fn new() -> RequestDecoder {
        RequestDecoder {
            buf: Buffer::default(),
            start: 0,
            parsed: 0,
            end: 0,
            progress: Progress::START,
            searched: 0,
            ranges: Vec::new(),
            commands: Vec::new(),
            failed: None,
        }
    }

    /// Where to put the next bytes; at least 4 KiB. Commands not [released](Self::release) stay good. The buffer grows by what
    /// has arrived, not by what is announced, and shrinks when it has nothing in it.
    pub fn recv_slice(&mut self) -> &mut [u8] {
        if self.start == self.end {
            debug_assert!(self.commands.is_empty());
            (self.start, self.parsed, self.end) = (0, 0, 0);
            if self.buf.len() != BUFFER_BYTES {
                self.buf = Buffer::zeroed(BUFFER_BYTES);
            }
        }
        if self.buf.len() - self.end < READ_BYTES_MIN && self.start > 0 {
            self.close_gap();
        }
        if self.buf.len() - self.end < READ_BYTES_MIN {
            let announced = self.parsed + self.progress.bytes_announced();
            let growth = self.buf.len().min(GROWTH_BYTES_MAX).max(self.buf.len() / 4);
            let wanted = announced.saturating_sub(self.buf.len()).clamp(BUFFER_BYTES, growth.max(BUFFER_BYTES));
            self.buf.lengthen(self.buf.len() + wanted);
        }
        &mut self.buf[self.end..]
    }

    /// `len` bytes were put at the beginning of [`recv_slice`](Self::recv_slice).
    ///
    /// # Panics
    /// If that is more than the slice had.
    pub fn recv_advance(&mut self, len: usize) {
        assert!(len <= self.buf.len() - self.end, "more bytes than the slice had");
        self.end += len;
    }

    /// Decodes commands until `max` whole ones are there and not released, and returns how many there are.
    ///
    /// # Errors
    /// If no whole command is there and the bytes that follow cannot become one. The connection is then to be closed:
    /// the same error comes again.
    pub fn fill(&mut self, max: usize) -> Result<usize, RespError> {
        while self.failed.is_none() && self.commands.len() < max {
            match self.decode_one() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => self.failed = Some(error),
            }
        }
        match self.failed {
            Some(error) if self.commands.is_empty() => Err(error),
            _ => Ok(self.commands.len()),
        }
    }

    /// Command number `index` of those that [`fill`](Self::fill) found. Never empty.
    ///
    /// # Panics
    /// Where there is no such command.
    #[inline]
    pub fn command(&self, index: usize) -> Argv<'_> {
        let span = self.commands[index];
        Argv::new(&self.buf[span.base..self.parsed], &self.ranges[span.first..span.end])
    }

    /// Releases the first `count` commands: they are done with.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn release(&mut self, count: usize) {
        let Some(last) = count.checked_sub(1) else { return };
        let ranges = self.commands[last].end;
        if count == self.commands.len() {
            self.commands.clear();
            self.start = self.parsed;
        } else {
            self.commands.drain(..count);
            self.start = self.commands[0].base;
        }
        if ranges == self.ranges.len() {
            self.ranges.clear();
        } else {
            self.ranges.drain(..ranges);
        }
        for span in &mut self.commands {
            span.first -= ranges;
            span.end -= ranges;
        }
    }

    /// The next command; the one before is released. `None`: more bytes are needed.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    #[allow(clippy::should_implement_trait, reason = "it lends from the decoder, which an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Argv<'_>>, RespError> {
        self.release(usize::from(!self.commands.is_empty()));
        Ok(if self.fill(1)? == 0 { None } else { Some(self.command(0)) })
    }

    /// Bytes that were received and are not released.
    pub fn buffered(&self) -> usize {
        self.end - self.start
    }

    /// Bytes of memory that the buffers take.
    pub fn heap_bytes(&self) -> usize {
        self.buf.heap_bytes() + self.ranges.capacity() * size_of::<ArgRange>()
    }

    /// Decodes the command at `parsed`; `false` where it is not whole. What names no command (an empty line) is skipped.
    fn decode_one(&mut self) -> Result<bool, RespError> {
        loop {
            let bytes = &mut self.buf[self.parsed..self.end];
            let first = self.commands.last().map_or(0, |span| span.end);
            let used = match bytes {
                [] => return Ok(false),
                // Redis takes a negative number of arguments for none.
                [b'*', b'-', ..] => line_of(bytes, &mut self.searched)?.map(|(line, used)| {
                    let digits = &line[2..];
                    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
                    if is_number { Ok(used) } else { Err(RespError::MultibulkLength) }
                }),
                [b'*', ..] => self.progress.resume(bytes, &mut self.ranges)?.map(Ok),
                _ => line_of(bytes, &mut self.searched)?
                    .map(|(line, used)| inline::split(line, &mut self.ranges).map(|()| used)),
            };
            let Some(used) = used.transpose()? else { return Ok(false) };
            let base = self.parsed;
            self.parsed += used;
            self.progress = Progress::START;
            self.searched = 0;
            if self.ranges.len() > first {
                self.commands.push(Span { base, first, end: self.ranges.len() });
                return Ok(true);
            }
            if self.commands.is_empty() {
                self.start = self.parsed;
            }
        }
    }

    /// Moves what is not released to the front.
    fn close_gap(&mut self) {
        let gap = self.start;
        self.buf.copy_within(gap..self.end, 0);
        self.start = 0;
        self.parsed -= gap;
        self.end -= gap;
        for span in &mut self.commands {
            span.base -= gap;
        }
    }
}

/// The line at the beginning of `bytes`, without its end, and how many bytes it takes with it.
fn line_of<'a>(bytes: &'a mut [u8], searched: &mut usize) -> Result<Option<(&'a mut [u8], usize)>, RespError> {
    let Some(found) = memchr::memchr(b'\n', &bytes[*searched..]) else {
        *searched = bytes.len();
        return if bytes.len() > INLINE_BYTES_MAX { Err(RespError::InlineTooBig) } else { Ok(None) };
    };
    let newline = *searched + found;
    if newline > INLINE_BYTES_MAX {
        return Err(RespError::InlineTooBig);
    }
    let len = newline - usize::from(newline > 0 && bytes[newline - 1] == b'\r');
    Ok(Some((&mut bytes[..len], newline + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Command;
    use proptest::prelude::*;

    fn feed(decoder: &mut RequestDecoder, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = decoder.recv_slice();
            let len = room.len().min(bytes.len());
            room[..len].copy_from_slice(&bytes[..len]);
            decoder.recv_advance(len);
            bytes = &bytes[len..];
        }
    }

    fn drain(decoder: &mut RequestDecoder) -> Result<Vec<Vec<Vec<u8>>>, RespError> {
        let mut out = Vec::new();
        while let Some(argv) = decoder.next()? {
            out.push(argv.iter().map(<[u8]>::to_vec).collect());
        }
        Ok(out)
    }

    #[test]
    fn requests_of_both_forms_survive_every_cut() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\nPING\r\n*0\r\n*-1\r\nset \"a b\" 'c'\n*1\r\n$0\r\n\r\n";
        let expected: Vec<Vec<Vec<u8>>> = vec![
            vec![b"GET".to_vec(), b"k".to_vec()],
            vec![b"PING".to_vec()],
            vec![b"set".to_vec(), b"a b".to_vec(), b"c".to_vec()],
            vec![vec![]],
        ];
        for cut in 0..=bytes.len() {
            let mut decoder = RequestDecoder::new();
            feed(&mut decoder, &bytes[..cut]);
            let mut seen = drain(&mut decoder).unwrap();
            feed(&mut decoder, &bytes[cut..]);
            seen.extend(drain(&mut decoder).unwrap());
            assert_eq!(seen, expected, "cut at {cut}");
            assert_eq!(decoder.buffered(), 0);
        }
    }

    #[test]
    fn a_batch_stays_good_while_more_bytes_arrive() {
        let mut decoder = RequestDecoder::new();
        let value = vec![b'v'; 3000];
        let mut bytes = Vec::new();
        for i in 0..10 {
            bytes.extend_from_slice(Command::new(&[b"SET".as_slice(), &[b'0' + i], &value]).as_bytes());
        }
        feed(&mut decoder, &bytes[..bytes.len() - 1]);
        assert_eq!(decoder.fill(4), Ok(4));
        decoder.release(2);
        assert_eq!(decoder.command(0).arg(1), b"2");
        feed(&mut decoder, &bytes[bytes.len() - 1..]);
        assert_eq!(decoder.command(1).arg(1), b"3");
        assert_eq!(decoder.fill(32), Ok(8));
        assert_eq!(decoder.command(7).arg(1), b"9");
        assert_eq!(decoder.command(7).arg(2), value);
        decoder.release(8);
        assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn commands_before_a_bad_one_are_handed_out_and_the_error_stays() {
        let mut decoder = RequestDecoder::new();
        feed(&mut decoder, b"PING\r\n*1\r\n!");
        assert_eq!(decoder.fill(32), Ok(1));
        decoder.release(1);
        assert_eq!(decoder.fill(32), Err(RespError::ExpectedBulk(b'!')));
        assert_eq!(decoder.fill(32), Err(RespError::ExpectedBulk(b'!')));
    }

    #[test]
    fn a_line_without_end_is_too_big() {
        let mut decoder = RequestDecoder::new();
        feed(&mut decoder, &vec![b'a'; INLINE_BYTES_MAX]);
        assert_eq!(decoder.fill(1), Ok(0));
        feed(&mut decoder, b"aa");
        assert_eq!(decoder.fill(1), Err(RespError::InlineTooBig));
    }

    #[test]
    fn memory_follows_what_arrives_and_comes_back() {
        let mut decoder = RequestDecoder::new();
        feed(&mut decoder, b"*2\r\n$3\r\nGET\r\n$536870912\r\nx");
        assert_eq!(decoder.fill(1), Ok(0));
        assert!(decoder.heap_bytes() < 64 << 10, "an announced length is not believed");
        let big = vec![b'x'; 8 << 20];
        let mut decoder = RequestDecoder::new();
        let bytes = Command::new(&[b"SET".as_slice(), b"k", &big]);
        for piece in bytes.as_bytes().chunks(9000) {
            assert_eq!(decoder.fill(1), Ok(0));
            feed(&mut decoder, piece);
        }
        assert_eq!(decoder.next().unwrap().unwrap().arg(2).len(), big.len());
        assert!(decoder.next().unwrap().is_none());
        decoder.recv_slice();
        assert!(decoder.heap_bytes() < 64 << 10, "a buffer that grew shrinks when it is empty");
    }

    proptest! {
        #[test]
        fn garbage_in_pieces_never_panics_nor_grows(pieces in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![
                Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'-'), Just(b'"'), any::<u8>()
            ], 0..48), 0..16)) {
            let mut whole = RequestDecoder::new();
            let mut split = RequestDecoder::new();
            let mut seen = Vec::new();
            for piece in &pieces {
                feed(&mut split, piece);
                while let Ok(Some(argv)) = split.next() {
                    seen.push(argv.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
                }
            }
            feed(&mut whole, &pieces.concat());
            let mut expected = Vec::new();
            while let Ok(Some(argv)) = whole.next() {
                expected.push(argv.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
            }
            prop_assert_eq!(seen, expected);
            prop_assert!(split.heap_bytes() < 64 << 10);
        }
    }
}
