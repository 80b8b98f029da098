//! Commands that wait where there is nothing for them: how long, and for what. What they do where there is something, and where
//! they must not wait, their own functions say.
//!
//! ```text
//! BLPOP a b 2.5       waits 2,500 ms for a list at a or b       → of the shard that owns b: BLPOP b 2.5
//! BLMOVE a b L R 0    waits for ever, for a list at a alone
//! XREAD BLOCK 9 STREAMS a b $ 0-5   9 ms, for streams at a or b; `$` is an id by then   → of the shard that owns b: … STREAMS b 0-5
//! ```

use super::number;
use super::refusal::Refusal;
use super::stream::read::Query;
use super::table::{Movable, Spec};
use crate::snapshot::record::Kind;
use crate::wire::{Argv, Command};

/// How a command waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// What one of the awaited keys must hold.
    pub kind: Kind,
    /// So many milliseconds; `None`: for as long as it takes.
    pub timeout_ms: Option<u64>,
    /// It waits for the first so many of its keys.
    pub keys: usize,
    /// Whether it waits no longer, too, once one of them is gone or holds something else: it hears what is wrong then.
    pub needs_keys: bool,
}

/// How a command waits that found nothing; `None`: it does not.
///
/// # Errors
/// If its timeout is impossible.
pub fn wish(spec: &Spec, argv: Argv<'_>) -> Result<Option<Wish>, Refusal> {
    let keys = spec.keys(argv).len();
    let (kind, timeout, keys) = match spec.name {
        "blpop" | "brpop" => (Kind::List, argv.len() - 1, keys),
        "blmpop" => (Kind::List, 1, keys),
        "blmove" | "brpoplpush" => (Kind::List, argv.len() - 1, 1),
        "bzpopmin" | "bzpopmax" => (Kind::Zset, argv.len() - 1, keys),
        "bzmpop" => (Kind::Zset, 1, keys),
        "xread" | "xreadgroup" => {
            let query = Query::parse(argv)?;
            return Ok(query.block.map(|ms| Wish {
                kind: Kind::Stream,
                timeout_ms: (ms > 0).then_some(ms),
                keys,
                needs_keys: query.group.is_some(),
            }));
        }
        _ => return Ok(None),
    };
    Ok(Some(Wish { kind, timeout_ms: seconds(argv.arg(timeout))?, keys, needs_keys: false }))
}

/// A timeout in seconds, as milliseconds; `None`: none.
///
/// # Errors
/// If it is no number, negative or beyond all time.
pub fn seconds(text: &[u8]) -> Result<Option<u64>, Refusal> {
    let seconds = number::float(text).ok_or(Refusal::Text("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1_000.0).ceil();
    match () {
        () if ms >= i64::MAX as f64 => Err(Refusal::Text("ERR timeout is out of range")),
        () if ms < 0.0 => Err(Refusal::Text("ERR timeout is negative")),
        () => Ok((ms > 0.0).then_some(ms as u64)),
    }
}

/// The ids of an `XREAD` that will wait which mean another one later (`$`), each by the argument of its key and by its own.
pub fn tops(spec: &Spec, argv: Argv<'_>) -> Vec<(usize, usize)> {
    let waits = spec.name == "xread" && Query::parse(argv).is_ok_and(|query| query.block.is_some());
    let keys = if waits { spec.keys(argv).collect() } else { Vec::new() };
    keys.iter().map(|key| (*key, key + keys.len())).filter(|(_, id)| argv.arg(*id) == b"$").collect()
}

/// The same command with those of its keys alone whose numbers fit, each with its id where keys have some.
pub fn restricted(spec: &Spec, argv: Argv<'_>, fits: impl Fn(usize) -> bool) -> Command {
    let keys: Vec<usize> = spec.keys(argv).collect();
    let has_ids = spec.keys.movable == Movable::Streams;
    let number = |index: usize| keys.iter().position(|key| *key == index || has_ids && key + keys.len() == index);
    let count = keys.iter().enumerate().filter(|(number, _)| fits(*number)).count();
    let mut digits = itoa::Buffer::new();
    let counted = match spec.keys.movable {
        Movable::Counted(at) => Some((usize::from(at), digits.format(count).as_bytes())),
        _ => None,
    };
    let args: Vec<&[u8]> = argv
        .iter()
        .enumerate()
        .filter(|(index, _)| number(*index).is_none_or(&fits))
        .map(|(index, arg)| counted.filter(|(at, _)| *at == index).map_or(arg, |(_, count)| count))
        .collect();
    Command::new(&args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::arguments_of;
    use crate::store::command::find;

    fn with<T>(line: &str, see: impl FnOnce(&'static Spec, Argv<'_>) -> T) -> T {
        let command = Command::new(&line.split(' ').collect::<Vec<_>>());
        let mut ranges = Vec::new();
        let argv = arguments_of(&command, &mut ranges);
        see(find(argv.arg(0)).unwrap(), argv)
    }

    #[test]
    fn timeouts_are_seconds_rounded_up_to_milliseconds() {
        for (text, ms) in [
            ("0", None),
            ("-0", None),
            ("1", Some(1_000)),
            ("0.5", Some(500)),
            ("0.0001", Some(1)),
            ("1e3", Some(1_000_000)),
        ] {
            assert_eq!(seconds(text.as_bytes()), Ok(ms), "{text}");
        }
        for (text, error) in [
            ("", "ERR timeout is not a float or out of range"),
            ("x", "ERR timeout is not a float or out of range"),
            ("nan", "ERR timeout is not a float or out of range"),
            ("-1", "ERR timeout is negative"),
            ("1e400", "ERR timeout is out of range"),
            ("9223372036854775807", "ERR timeout is out of range"),
        ] {
            assert_eq!(seconds(text.as_bytes()), Err(Refusal::Text(error)), "{text}");
        }
    }

    #[test]
    fn every_command_that_waits_says_for_what() {
        for (line, kind, keys) in [
            ("BLPOP a b 1", Kind::List, 2),
            ("BRPOP a 1", Kind::List, 1),
            ("BLMPOP 1 2 a b LEFT", Kind::List, 2),
            ("BLMOVE a b LEFT LEFT 1", Kind::List, 1),
            ("BRPOPLPUSH a b 1", Kind::List, 1),
            ("BZPOPMIN a b c 1", Kind::Zset, 3),
            ("BZPOPMAX a 1", Kind::Zset, 1),
            ("BZMPOP 1 1 a MIN COUNT 3", Kind::Zset, 1),
        ] {
            let wish = with(line, wish).unwrap();
            assert_eq!(wish, Some(Wish { kind, timeout_ms: Some(1_000), keys, needs_keys: false }), "{line}");
        }
        for (line, timeout_ms, keys, needs_keys) in [
            ("XREAD BLOCK 0 STREAMS a b 0 0", None, 2, false),
            ("XREAD COUNT 2 BLOCK 7 STREAMS a 0", Some(7), 1, false),
            ("XREADGROUP GROUP g c BLOCK 9 STREAMS a >", Some(9), 1, true),
        ] {
            let wish = with(line, wish).unwrap();
            assert_eq!(wish, Some(Wish { kind: Kind::Stream, timeout_ms, keys, needs_keys }), "{line}");
        }
        assert_eq!(with("XREAD STREAMS a b 0 0", wish), Ok(None));
    }

    #[test]
    fn an_id_that_changes_its_meaning_is_found_where_the_command_waits() {
        for (line, tops_are) in [
            ("XREAD BLOCK 0 STREAMS a b $ 0", vec![(4, 6)]),
            ("XREAD BLOCK 0 STREAMS $ b $ $", vec![(4, 6), (5, 7)]),
            ("XREAD STREAMS a b $ 0", vec![]),
            ("XREADGROUP GROUP $ c BLOCK 0 STREAMS a >", vec![]),
            ("BLPOP $ a 0", vec![]),
        ] {
            assert_eq!(with(line, tops), tops_are, "{line}");
        }
    }

    #[test]
    fn a_part_has_its_own_keys_and_all_options() {
        for (line, part) in [
            ("BLPOP a b c 1.5", "BLPOP b 1.5"),
            ("BZMPOP 0 3 a b c MAX COUNT 2", "BZMPOP 0 1 b MAX COUNT 2"),
            ("BLMPOP 0 2 a b LEFT", "BLMPOP 0 1 b LEFT"),
            ("XREAD COUNT 3 BLOCK 0 STREAMS a b c 1-0 2-0 3-0", "XREAD COUNT 3 BLOCK 0 STREAMS b 2-0"),
            ("XREADGROUP GROUP a b BLOCK 0 STREAMS a b > >", "XREADGROUP GROUP a b BLOCK 0 STREAMS b >"),
        ] {
            let restricted = with(line, |spec, argv| restricted(spec, argv, |number| number == 1));
            assert_eq!(restricted, Command::new(&part.split(' ').collect::<Vec<_>>()), "{line}");
        }
    }
}
