//! A frame: one applied effect with its offset.
//!
//! ```text
//! *2␍␊:<offset>␍␊ *3␍␊$3␍␊SET␍␊$1␍␊k␍␊$1␍␊v␍␊
//! └── envelope ──┘└────── command, RESP2 ─────┘
//! ```

use super::Argv;
use super::argv::LINE_END;
use super::scan::{ArgScan, number_line};
use super::{ArgRange, WireError};
use crate::id::Offset;

/// One frame, borrowed from the buffer that holds its encoding.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its place in the stream.
    pub offset: Offset,
    /// The effect.
    pub argv: Argv<'a>,
    /// The whole frame as it was sent.
    pub encoded: &'a [u8],
}

/// What stands before a command: `*2␍␊:` + up to 19 digits + `␍␊`. It is kept from frame to frame: the next one differs in a digit or
/// two, which costs a fraction of writing the number.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    bytes: [u8; ENVELOPE_ROOM],
    len: u8,
}

/// Bytes that are written for an envelope, its own and some that what follows overwrites: a copy of a fixed length is cheap.
const ENVELOPE_ROOM: usize = 32;

const BEFORE_OFFSET: &[u8] = b"*2\r\n:";

impl Envelope {
    /// That of the frame at `offset`.
    pub fn at(offset: Offset) -> Envelope {
        let mut digits = itoa::Buffer::new();
        let mut bytes = [0; ENVELOPE_ROOM];
        let mut len = 0;
        for part in [BEFORE_OFFSET, digits.format(offset.get()).as_bytes(), LINE_END] {
            len = put(part, &mut bytes, len);
        }
        Envelope { bytes, len: len as u8 }
    }

    /// Makes it that of the next frame.
    #[inline]
    pub fn step(&mut self) {
        let mut digit = usize::from(self.len) - LINE_END.len() - 1;
        while self.bytes[digit] == b'9' {
            self.bytes[digit] = b'0';
            digit -= 1;
        }
        if digit >= BEFORE_OFFSET.len() {
            self.bytes[digit] += 1;
        } else {
            self.lengthen();
        }
    }

    /// From nines, which are zeros by now, to a one before them.
    #[cold]
    fn lengthen(&mut self) {
        let end = usize::from(self.len);
        self.bytes.copy_within(BEFORE_OFFSET.len()..end, BEFORE_OFFSET.len() + 1);
        self.bytes[BEFORE_OFFSET.len()] = b'1';
        self.len += 1;
    }

    /// Writes the frame of `argv` to the beginning of `out`; returns its length.
    ///
    /// # Panics
    /// If `out` is shorter than [`encoded_bytes_max`].
    #[inline]
    pub fn encode(&self, argv: Argv<'_>, out: &mut [u8]) -> usize {
        if let Some(command) = argv.encoded() {
            return self.encode_raw(command, out);
        }
        let mut at = self.put(out);
        at = mark_and_number(b'*', argv.len() as u64, out, at);
        for arg in argv.iter() {
            at = mark_and_number(b'$', arg.len() as u64, out, at);
            at = put(arg, out, at);
            at = put(LINE_END, out, at);
        }
        at
    }

    /// Writes the frame of an already encoded command; returns its length.
    ///
    /// # Panics
    /// If `out` is shorter than [`encoded_raw_bytes_max`].
    #[inline]
    pub fn encode_raw(&self, command: &[u8], out: &mut [u8]) -> usize {
        let at = self.put(out);
        put(command, out, at)
    }

    #[inline]
    fn put(&self, out: &mut [u8]) -> usize {
        out[..ENVELOPE_ROOM].copy_from_slice(&self.bytes);
        usize::from(self.len)
    }
}

/// An upper bound of the bytes that [`Envelope::encode`] writes for `argv`.
#[inline]
pub fn encoded_bytes_max(argv: Argv<'_>) -> usize {
    encoded_bytes_max_of(argv.iter().map(<[u8]>::len))
}

/// As [`encoded_bytes_max`], of arguments of these lengths.
#[inline]
pub fn encoded_bytes_max_of(lens: impl Iterator<Item = usize>) -> usize {
    ENVELOPE_ROOM + 13 + lens.map(|len| len + 15).sum::<usize>()
}

/// An upper bound of the bytes that [`Envelope::encode_raw`] writes for a command of `len` encoded bytes.
#[inline]
pub fn encoded_raw_bytes_max(len: usize) -> usize {
    ENVELOPE_ROOM + len
}

/// The frame at the beginning of `buf`: its offset and its length. For walking over what we encoded ourselves.
///
/// # Errors
/// If there is no whole frame.
pub fn skip(buf: &[u8], scratch: &mut Vec<ArgRange>) -> Result<(Offset, usize), WireError> {
    const CUT: WireError = WireError::Frame("cut short");
    let (offset, at) = envelope_at(buf, 0)?.ok_or(CUT)?;
    scratch.clear();
    let mut scan = ArgScan::starting_at(at);
    if scan.run(buf, scratch)? { Ok((offset, scan.at)) } else { Err(CUT) }
}

/// Reads the envelope at `at`: the offset and the position after it, or `None` if more bytes are needed.
#[inline]
pub(super) fn envelope_at(buf: &[u8], at: usize) -> Result<Option<(Offset, usize)>, WireError> {
    const HEAD: &[u8] = b"*2\r\n";
    let have = &buf[at..];
    if have.len() < HEAD.len() {
        return if HEAD.starts_with(have) { Ok(None) } else { Err(WireError::Frame("no envelope")) };
    }
    if &have[..HEAD.len()] != HEAD {
        return Err(WireError::Frame("no envelope"));
    }
    let Some((offset, at)) = number_line(buf, at + HEAD.len(), b':', "offset")? else { return Ok(None) };
    if offset > Offset::MAX.get() {
        return Err(WireError::Number("offset"));
    }
    Ok(Some((Offset::new(offset), at)))
}

#[inline]
fn mark_and_number(mark: u8, number: u64, out: &mut [u8], at: usize) -> usize {
    // Nearly all lengths.
    if number < 100 {
        let [tens, ones] = [number / 10, number % 10].map(|digit| b'0' + digit as u8);
        return match number {
            0..10 => put(&[mark, ones, b'\r', b'\n'], out, at),
            _ => put(&[mark, tens, ones, b'\r', b'\n'], out, at),
        };
    }
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    let end = at + digits.len() + 3;
    let out = &mut out[at..end];
    out[0] = mark;
    out[1..=digits.len()].copy_from_slice(digits);
    out[digits.len() + 1] = b'\r';
    out[digits.len() + 2] = b'\n';
    end
}

#[inline]
fn put(bytes: &[u8], out: &mut [u8], at: usize) -> usize {
    out[at..at + bytes.len()].copy_from_slice(bytes);
    at + bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::effect::Command;

    #[test]
    fn a_frame_has_these_bytes() {
        let buf = b"SETkv";
        let ranges = [ArgRange { start: 0, len: 3 }, ArgRange { start: 3, len: 1 }, ArgRange { start: 4, len: 1 }];
        let argv = Argv::new(buf, &ranges);
        let mut out = vec![0; encoded_bytes_max(argv)];
        let len = Envelope::at(Offset::new(42)).encode(argv, &mut out);
        assert_eq!(&out[..len], b"*2\r\n:42\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");

        let command = Command::new(&["SET", "k", "v"]);
        let mut raw = vec![0; encoded_raw_bytes_max(command.as_bytes().len())];
        let raw_len = Envelope::at(Offset::new(42)).encode_raw(command.as_bytes(), &mut raw);
        assert_eq!(raw[..raw_len], out[..len]);
        assert_eq!(skip(&out, &mut Vec::new()), Ok((Offset::new(42), len)));
    }

    #[test]
    fn an_envelope_steps_to_the_next_offset() {
        for first in [0, 8, 95, 999_990, 10_000_000_000, 999_999_999_999_999_998] {
            let mut envelope = Envelope::at(Offset::new(first));
            for offset in first..first + 20 {
                let mut out = [0; ENVELOPE_ROOM + 1];
                let len = envelope.encode_raw(b"x", &mut out);
                assert_eq!(out[..len], *format!("*2\r\n:{offset}\r\nx").as_bytes());
                envelope.step();
            }
        }
    }
}
