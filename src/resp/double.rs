//! How floating-point numbers are written: the shortest digits that read back as the same number, laid out as Redis lays
//! them out.
//!
//! ```text
//! 3 · -0.5 · 1e+21 · 1.5e-9 · inf · nan
//! ```

/// Appends `number` to `out`.
pub fn write(number: f64, out: &mut Vec<u8>) {
    if number.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    if number.is_infinite() {
        return out.extend_from_slice(if number > 0.0 { b"inf" } else { b"-inf" });
    }
    if number == 0.0 {
        return out.extend_from_slice(if number.is_sign_negative() { b"-0" } else { b"0" });
    }
    // Where every integer is exact, an integer is written as one.
    if number.fract() == 0.0 && number.abs() < EXACT_INTEGERS {
        return out.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    }
    if number < 0.0 {
        out.push(b'-');
    }
    let mut buffer = ryu::Buffer::new();
    let (digits, count, scale) = digits_of(buffer.format_finite(number.abs()));
    layout(&digits[..count], scale, out);
}

/// Integers up to here are doubles without rounding (2^52).
const EXACT_INTEGERS: f64 = (1u64 << 52) as f64;

/// More digits than any shortest form has.
const DIGITS_MAX: usize = 32;

/// The significant digits of `text` (as ryu writes it), how many there are, and the power of ten of the last one.
fn digits_of(text: &str) -> ([u8; DIGITS_MAX], usize, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mut scale: i32 = exponent.parse().unwrap_or(0);
    let mut digits = [0; DIGITS_MAX];
    let mut count = 0;
    let mut after_point = false;
    for byte in mantissa.bytes() {
        if byte == b'.' {
            after_point = true;
            continue;
        }
        scale -= i32::from(after_point);
        if count > 0 || byte != b'0' {
            digits[count] = byte;
            count += 1;
        }
    }
    while count > 1 && digits[count - 1] == b'0' {
        count -= 1;
        scale += 1;
    }
    (digits, count, scale)
}

/// Writes `digits` × 10^`scale`.
fn layout(digits: &[u8], scale: i32, out: &mut Vec<u8>) {
    let count = digits.len() as i32;
    let exponent = scale + count - 1;
    if scale >= 0 && exponent.abs() < count + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + scale as usize, b'0');
        return;
    }
    if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        let whole = count + scale;
        if whole <= 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + (-whole) as usize, b'0');
            out.extend_from_slice(digits);
        } else {
            out.extend_from_slice(&digits[..whole as usize]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole as usize..]);
        }
        return;
    }
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.push(b'e');
    out.push(if exponent < 0 { b'-' } else { b'+' });
    out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(number: f64) -> String {
        let mut out = Vec::new();
        write(number, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_look_as_redis_writes_them() {
        let cases = [
            (3.0, "3"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (10.6, "10.6"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-7"),
            (1.25e-9, "1.25e-9"),
            (0.000123, "0.000123"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (1e17, "1e+17"),
            (3.2987655, "3.2987655"),
        ];
        for (number, expected) in cases {
            assert_eq!(text(number), expected);
        }
    }

    proptest! {
        #[test]
        fn every_number_reads_back_as_itself(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            prop_assume!(!number.is_nan());
            prop_assert_eq!(text(number).parse::<f64>().unwrap().to_bits(), number.to_bits());
        }
    }
}
