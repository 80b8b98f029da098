//! Numbers as arguments and string values spell them.

/// An integer in its only spelling: no blanks, no `+`, no leading zeros.
#[inline]
pub fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // Towards the negative side there is one number more.
    let mut number = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

/// A floating-point number; infinities are numbers here, NaN is not.
pub fn float(text: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!number.is_nan()).then_some(number)
}

/// As [`float`], as `strtod` reads it: blanks before it do not count, and nothing is 0.
pub fn lenient_float(text: &[u8]) -> Option<f64> {
    if text.is_empty() { Some(0.0) } else { float(text.trim_ascii_start()) }
}

/// The sum of two decimal numbers, without exponent and without needless zeros. Exact where both are written as plain
/// decimals of a reasonable length, so that 0.1 + 0.2 is 0.3; else as floating-point arithmetic has it.
pub fn sum(a: &[u8], b: &[u8]) -> Result<Vec<u8>, SumError> {
    let (Some(x), Some(y)) = (float(a), float(b)) else { return Err(SumError::NotANumber) };
    if let (Some(x), Some(y)) = (Decimal::parse(a), Decimal::parse(b))
        && let Some(sum) = x.plus(y)
    {
        return Ok(sum.text().into_bytes());
    }
    let sum = x + y;
    if !sum.is_finite() {
        return Err(SumError::NotFinite);
    }
    // `+ 0.0` makes 0 of -0.
    Ok(format!("{}", sum + 0.0).into_bytes())
}

/// Why there is no sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SumError {
    /// One of the two is no number.
    NotANumber,
    /// The sum would be infinite, or no number.
    NotFinite,
}

/// `units` × 10^-`scale`.
#[derive(Clone, Copy)]
struct Decimal {
    units: i128,
    scale: u32,
}

impl Decimal {
    /// Digits behind the point that are kept, as Redis keeps 17.
    const SCALE_MAX: u32 = 17;

    fn parse(text: &[u8]) -> Option<Decimal> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if rest.len() > 36 {
            return None;
        }
        let mut units = 0i128;
        let mut scale = None;
        for &byte in rest {
            match byte {
                b'.' if scale.is_none() => scale = Some(0),
                b'0'..=b'9' => {
                    units = units.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
                    scale = scale.map(|s| s + 1);
                }
                _ => return None,
            }
        }
        let scale = scale.unwrap_or(0);
        (scale <= Decimal::SCALE_MAX).then_some(Decimal { units: if negative { -units } else { units }, scale })
    }

    fn plus(self, other: Decimal) -> Option<Decimal> {
        let scale = self.scale.max(other.scale);
        let units = |d: Decimal| d.units.checked_mul(10i128.pow(scale - d.scale));
        Some(Decimal { units: units(self)?.checked_add(units(other)?)?, scale })
    }

    fn text(self) -> String {
        let Decimal { mut units, mut scale } = self;
        while scale > 0 && units % 10 == 0 {
            units /= 10;
            scale -= 1;
        }
        let sign = if units < 0 { "-" } else { "" };
        let divisor = 10u128.pow(scale);
        let (whole, part) = (units.unsigned_abs() / divisor, units.unsigned_abs() % divisor);
        if scale == 0 {
            format!("{sign}{whole}")
        } else {
            format!("{sign}{whole}.{part:0width$}", width = scale as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_have_one_spelling() {
        for good in ["0", "-1", "10", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(integer(good.as_bytes()), good.parse().ok(), "{good}");
        }
        for bad in ["", "-", "-0", "01", "+1", " 1", "1 ", "1a", "9223372036854775808", "99999999999999999999"] {
            assert_eq!(integer(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn sums_are_what_a_person_expects() {
        let cases = [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("3.0e3", "200", "3200"),
            ("-1.5", "1.5", "0"),
            ("5", "-5.25", "-0.25"),
            ("1e300", "0", &format!("{}", 1e300)),
            ("100", "0.0", "100"),
        ];
        for (a, b, expected) in cases {
            assert_eq!(String::from_utf8(sum(a.as_bytes(), b.as_bytes()).unwrap()).unwrap(), expected, "{a} + {b}");
        }
        assert_eq!(sum(b"1e308", b"1e308").unwrap_err(), SumError::NotFinite);
        assert_eq!(sum(b"inf", b"-inf").unwrap_err(), SumError::NotFinite);
        assert_eq!(sum(b"x", b"1").unwrap_err(), SumError::NotANumber);
        assert_eq!(sum(b"nan", b"1").unwrap_err(), SumError::NotANumber);
    }

    proptest! {
        #[test]
        fn any_integer_reads_back(number in any::<i64>()) {
            prop_assert_eq!(integer(number.to_string().as_bytes()), Some(number));
        }
    }
}
