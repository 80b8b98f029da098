//! A frame: one applied effect with its offset.
//!
//! ```text
//! *2␍␊:<offset>␍␊ *3␍␊$3␍␊SET␍␊$1␍␊k␍␊$1␍␊v␍␊
//! └── envelope ──┘└────── command, RESP2 ─────┘
//! ```

use super::Argv;
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

/// Most bytes that an envelope takes: `*2␍␊:` + 19 digits + `␍␊`.
const ENVELOPE_BYTES_MAX: usize = 4 + 1 + 19 + 2;

/// An upper bound of the bytes that [`encode`] writes for `argv`.
#[inline]
pub fn encoded_bytes_max(argv: Argv<'_>) -> usize {
    encoded_bytes_max_of(argv.iter().map(<[u8]>::len))
}

/// As [`encoded_bytes_max`], of arguments of these lengths.
#[inline]
pub fn encoded_bytes_max_of(lens: impl Iterator<Item = usize>) -> usize {
    ENVELOPE_BYTES_MAX + 13 + lens.map(|len| len + 15).sum::<usize>()
}

/// An upper bound of the bytes that [`encode_raw`] writes for a command of `len` encoded bytes.
#[inline]
pub fn encoded_raw_bytes_max(len: usize) -> usize {
    ENVELOPE_BYTES_MAX + len
}

/// Writes the frame of `argv` at `offset` to the beginning of `out`; returns its length.
///
/// # Panics
/// If `out` is shorter than the frame; [`encoded_bytes_max`] is always enough.
#[inline]
pub fn encode(offset: Offset, argv: Argv<'_>, out: &mut [u8]) -> usize {
    let mut at = envelope(offset, out);
    at = mark_and_number(b'*', argv.len() as u64, out, at);
    for arg in argv.iter() {
        at = mark_and_number(b'$', arg.len() as u64, out, at);
        at = put(arg, out, at);
        at = put(b"\r\n", out, at);
    }
    at
}

/// Writes the frame of an already encoded command; returns its length.
///
/// # Panics
/// If `out` is shorter than the frame; [`encoded_raw_bytes_max`] is always enough.
#[inline]
pub fn encode_raw(offset: Offset, command: &[u8], out: &mut [u8]) -> usize {
    let at = envelope(offset, out);
    put(command, out, at)
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
fn envelope(offset: Offset, out: &mut [u8]) -> usize {
    let at = put(b"*2\r\n", out, 0);
    mark_and_number(b':', offset.get(), out, at)
}

#[inline]
fn mark_and_number(mark: u8, number: u64, out: &mut [u8], at: usize) -> usize {
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
        let len = encode(Offset::new(42), argv, &mut out);
        assert_eq!(&out[..len], b"*2\r\n:42\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");

        let command = Command::new(&["SET", "k", "v"]);
        let mut raw = vec![0; encoded_raw_bytes_max(command.as_bytes().len())];
        let raw_len = encode_raw(Offset::new(42), command.as_bytes(), &mut raw);
        assert_eq!(raw[..raw_len], out[..len]);
        assert_eq!(skip(&out, &mut Vec::new()), Ok((Offset::new(42), len)));
    }
}
