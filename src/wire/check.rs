//! The check line: what proves that bytes of a stream arrived as they were sent.
//!
//! ```text
//! frame frame +GROUP 2␍␊ frame frame  +CHECK 120 9ae0daaf␍␊      frames: from = the offset of the first
//! +SLOTS 5 3 124 900␍␊ payload        +CHECK 124 1c291ca3␍␊      an item or a control line: from = where it stands
//! └────────── a checked part ───────┘
//! ```
//!
//! The number is the CRC32C of everything since the check line before, or since the answer of the handshake.

use super::WireError;
use super::scan::shown;
use crate::id::Offset;

/// A check line, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Check {
    /// The position at which the part begins.
    pub from: Offset,
    /// The CRC32C of its bytes.
    pub crc: u32,
}

/// Most bytes of a check line: `+CHECK `, 19 digits, a space, 8 digits, `␍␊`.
pub const CHECK_LINE_BYTES_MAX: usize = 7 + 19 + 1 + HEX_DIGITS + 2;

const HEAD: &[u8] = b"+CHECK ";
const HEX_DIGITS: usize = 8;

/// The CRC32C (Castagnoli) of `bytes`, with the processor's instructions where it has them.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

impl Check {
    /// The check of `bytes`, which begin at `from`.
    pub fn of(from: Offset, bytes: &[u8]) -> Check {
        Check { from, crc: crc32c(bytes) }
    }

    /// Writes the line to the beginning of `out`; returns its length.
    ///
    /// # Panics
    /// If `out` is shorter than that; [`CHECK_LINE_BYTES_MAX`] is always enough.
    pub fn encode(self, out: &mut [u8]) -> usize {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(self.from.get()).as_bytes();
        let hex = HEAD.len() + digits.len() + 1;
        let end = hex + HEX_DIGITS + 2;
        let out = &mut out[..end];
        out[..HEAD.len()].copy_from_slice(HEAD);
        out[HEAD.len()..hex - 1].copy_from_slice(digits);
        out[hex - 1] = b' ';
        for (place, digit) in out[hex..end - 2].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(self.crc >> (28 - 4 * place) & 0xf) as usize];
        }
        out[end - 2..].copy_from_slice(b"\r\n");
        end
    }

    /// Appends the line to `out`.
    pub fn encode_to(self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.resize(begin + CHECK_LINE_BYTES_MAX, 0);
        let len = self.encode(&mut out[begin..]);
        out.truncate(begin + len);
    }

    /// How many bytes the line of a part takes that begins at `from`.
    pub fn line_bytes(from: Offset) -> usize {
        HEAD.len() + from.get().checked_ilog10().unwrap_or(0) as usize + 1 + 1 + HEX_DIGITS + 2
    }
}

/// Reads a line that was given without its line end: `None` if it is another one. There is one way to write a check, so that a
/// bit that flips in it never leaves the same check behind.
pub(super) fn parse(line: &[u8]) -> Result<Option<Check>, WireError> {
    let Some(fields) = line.strip_prefix(HEAD) else { return Ok(None) };
    let check = (|| {
        let (from, hex) = fields.split_at_checked(fields.len().checked_sub(HEX_DIGITS + 1)?)?;
        let from = from.iter().try_fold(0u64, |number, &digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        });
        let from = from.filter(|&from| from <= Offset::MAX.get()).map(Offset::new)?;
        let crc = hex.strip_prefix(b" ")?.iter().try_fold(0u32, |number, &digit| match digit {
            b'0'..=b'9' => Some(number << 4 | u32::from(digit - b'0')),
            b'a'..=b'f' => Some(number << 4 | u32::from(digit - b'a' + 10)),
            _ => None,
        })?;
        // Neither an empty number nor one with zeros in front.
        (line.len() + 2 == Check::line_bytes(from)).then_some(Check { from, crc })
    })();
    check.map(Some).ok_or_else(|| WireError::Line(shown(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(check: Check) -> Vec<u8> {
        let mut out = Vec::new();
        check.encode_to(&mut out);
        out
    }

    #[test]
    fn the_line_has_these_bytes() {
        // The check value of CRC-32/ISCSI.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(line(Check::of(Offset::new(120), b"123456789")), b"+CHECK 120 e3069283\r\n");
        assert_eq!(line(Check { from: Offset::ZERO, crc: 0xa }), b"+CHECK 0 0000000a\r\n");
    }

    #[test]
    fn lines_come_back_and_have_the_length_that_is_told_before() {
        for from in [0, 1, 9, 10, 99, 100, 12_345, Offset::MAX.get()] {
            let check = Check { from: Offset::new(from), crc: 0x0123_cdef };
            let line = line(check);
            assert_eq!(line.len(), Check::line_bytes(check.from));
            assert!(line.len() <= CHECK_LINE_BYTES_MAX);
            assert_eq!(parse(&line[..line.len() - 2]), Ok(Some(check)));
        }
        assert_eq!(parse(b"+CHECKS 1 00000000"), Ok(None));
        for bad in [
            "+CHECK ",
            "+CHECK 1",
            "+CHECK  00000000",
            "+CHECK 01 00000000",
            "+CHECK +1 00000000",
            "+CHECK 1 0000000A",
            "+CHECK 1 000000000",
            "+CHECK 9223372036854775808 00000000",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_flipped_bit_leaves_the_same_check() {
        let check = Check { from: Offset::new(120), crc: 0xe306_9283 };
        let good = line(check);
        for bit in 0..(good.len() - 2) * 8 {
            let mut bad = good[..good.len() - 2].to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(parse(&bad), Ok(Some(check)), "{}", bad.escape_ascii());
        }
    }
}
