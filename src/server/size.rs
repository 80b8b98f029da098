//! Sizes as people write them: `256mb`, `64kb`, `1g`, `1000`. Redis's units: `k`, `m` and `g` are powers of 1000;
//! `kb`, `mb` and `gb` are powers of 1024.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Size(pub u64);

/// What is not a size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a size such as 256mb, 64kb or 1gb")]
pub struct NotASize;

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Size, NotASize> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" => 1_000,
            "m" => 1_000_000,
            "g" => 1_000_000_000,
            "kb" => 1 << 10,
            "mb" => 1 << 20,
            "gb" => 1 << 30,
            _ => return Err(NotASize),
        };
        let number: u64 = number.parse().map_err(|_| NotASize)?;
        number.checked_mul(unit).map(Size).ok_or(NotASize)
    }
}

impl fmt::Display for Size {
    /// The shortest exact form in powers of 1024.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0 {
            0 => (0, ""),
            n if n % (1 << 30) == 0 => (n >> 30, "gb"),
            n if n % (1 << 20) == 0 => (n >> 20, "mb"),
            n if n % (1 << 10) == 0 => (n >> 10, "kb"),
            n => (n, ""),
        };
        write!(f, "{number}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_redis_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1_000),
            ("7b", 7),
            ("1k", 1_000),
            ("1kb", 1_024),
            ("256mb", 256 << 20),
            ("256MB", 256 << 20),
            ("2g", 2_000_000_000),
            ("2Gb", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "mb", "-1", "1.5gb", "1 mb", "1tb", "0x10", "99999999999gb", "18446744073709551616"] {
            assert_eq!(text.parse::<Size>(), Err(NotASize), "{text:?}");
        }
    }

    #[test]
    fn a_size_reads_back_what_it_shows() {
        for bytes in [0, 1, 1_000, 1_024, 64 << 10, 256 << 20, 3 << 30, (1 << 30) + 1] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
        assert_eq!(Size(256 << 20).to_string(), "256mb");
    }
}
