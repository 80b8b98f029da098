//! What a replica says to its primary on a running link: inline lines.

use super::WireError;
use super::scan::{line, shown};
use crate::id::{Generation, HashSlot, Offset};
use crate::limits;

/// One line of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upstream {
    /// `REPLCONF ACK n`: everything before `n` is applied.
    Ack(Offset),
    /// `SYNCED gen n`: all slots are installed; acks count, the first being `n`.
    Synced {
        /// The history that it follows.
        generation: Generation,
        /// The first ack that counts.
        at: Offset,
    },
    /// `NEED s`: send this slot again.
    Need(HashSlot),
}

impl Upstream {
    /// Appends the line to `out`.
    pub fn encode(self, out: &mut Vec<u8>) {
        use std::io::Write;
        // Writing to a vector cannot fail.
        let _ = match self {
            Upstream::Ack(at) => write!(out, "REPLCONF ACK {at}\r\n"),
            Upstream::Synced { generation, at } => write!(out, "SYNCED {generation} {at}\r\n"),
            Upstream::Need(slot) => write!(out, "NEED {slot}\r\n"),
        };
    }

    /// Decodes the first line of `buf`: what it says (`None`: a word not known here) and how many bytes it took, or
    /// `None` if more bytes are needed.
    ///
    /// # Errors
    /// If the line is too long, or known and malformed.
    pub fn decode(buf: &[u8]) -> Result<Option<(Option<Upstream>, usize)>, WireError> {
        let Some((line, taken)) = line(buf, 0, limits::UPSTREAM_LINE_BYTES_MAX)? else { return Ok(None) };
        let bad = || WireError::Line(shown(line));
        let text = std::str::from_utf8(line).map_err(|_| bad())?;
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let offset = |f: &str| f.parse().ok().filter(|n| *n <= Offset::MAX.get()).map(Offset::new).ok_or_else(bad);
        let said = match fields[..] {
            [a, b, n] if a.eq_ignore_ascii_case("REPLCONF") && b.eq_ignore_ascii_case("ACK") => {
                Some(Upstream::Ack(offset(n)?))
            }
            ["SYNCED", generation, n] => Some(Upstream::Synced {
                generation: generation.parse().ok().and_then(Generation::new).ok_or_else(bad)?,
                at: offset(n)?,
            }),
            ["NEED", slot] => Some(Upstream::Need(slot.parse().ok().and_then(HashSlot::new).ok_or_else(bad)?)),
            ["SYNCED" | "NEED", ..] => return Err(bad()),
            _ => None,
        };
        Ok(Some((said, taken)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_these_bytes_and_come_back() {
        let generation = Generation::new(7).unwrap();
        for (said, bytes) in [
            (Upstream::Ack(Offset::new(12)), &b"REPLCONF ACK 12\r\n"[..]),
            (Upstream::Synced { generation, at: Offset::new(3) }, b"SYNCED 7 3\r\n"),
            (Upstream::Need(HashSlot::new(16383).unwrap()), b"NEED 16383\r\n"),
        ] {
            let mut out = Vec::new();
            said.encode(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(Upstream::decode(bytes), Ok(Some((Some(said), bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(Upstream::decode(&bytes[..cut]), Ok(None));
            }
        }
        assert_eq!(Upstream::decode(b"HELLO\r\n"), Ok(Some((None, 7))), "unknown words are skipped");
        assert!(Upstream::decode(b"NEED 16384\r\n").is_err());
        assert!(Upstream::decode(&[b'x'; 300]).is_err());
    }
}
