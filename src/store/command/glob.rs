//! Patterns of `KEYS` and `SCAN`: `*`, `?`, `[a-z]`, `[^a]`, `\x`. Linear in the text for each star, whatever the pattern.

/// Whether `text` fits `pattern` as a whole.
pub fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on if what follows the last star does not fit: the pattern behind it, one byte of text later.
    let mut retry = None;
    loop {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t + 1));
                continue;
            }
            None if t == text.len() => return true,
            Some(_) if t < text.len() => {
                if let Some(used) = one(&pattern[p..], text[t]) {
                    p += used;
                    t += 1;
                    continue;
                }
            }
            _ => {}
        }
        match retry {
            Some((after_star, from)) if from <= text.len() => {
                (p, t) = (after_star, from);
                retry = Some((after_star, from + 1));
            }
            _ => return false,
        }
    }
}

/// Whether `byte` fits the element at the beginning of `pattern`: how long that element is.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', class @ ..] => {
            let (negated, mut rest) = match class {
                [b'^', rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let mut found = false;
            loop {
                match rest {
                    [b'\\', escaped, ..] => {
                        found |= *escaped == byte;
                        rest = &rest[2..];
                    }
                    [b']', ..] => {
                        rest = &rest[1..];
                        break;
                    }
                    [a, b'-', b, ..] => {
                        found |= (*a.min(b)..=*a.max(b)).contains(&byte);
                        rest = &rest[3..];
                    }
                    [single, ..] => {
                        found |= *single == byte;
                        rest = &rest[1..];
                    }
                    // A class that is not closed ends with the pattern.
                    [] => break,
                }
            }
            (found != negated).then_some(pattern.len() - rest.len())
        }
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_redis() {
        let cases = [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"[\]]", "]", true),
            ("a*b*c", "a__b__b_c", true),
            ("a*b*c", "a__b__b_", false),
            ("[ab", "b", true),
            ("user:*:name", "user:1:name", true),
            ("**", "abc", true),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn many_stars_cost_no_exponential_time() {
        assert!(!fits(
            "a*".repeat(50).as_bytes(),
            &[b"a".repeat(5_000), b"b".to_vec()].concat()[1..5_000].iter().map(|_| b'b').collect::<Vec<_>>()
        ));
        assert!(!fits([b"*a".repeat(40), b"c".to_vec()].concat().as_slice(), &b"a".repeat(10_000)));
    }
}
