//! The effects of a command: the deterministic form in which the stream records a write.
//!
//! Every effect is key-local: it names exactly one key, as its argument 1, and no clock. The exceptions are
//! `FLUSHALL` (all slots of the stream) and `NOOP` (nothing), which name none.

use super::Argv;

/// One command, encoded as a RESP2 multi-bulk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Command(Vec<u8>);

impl Command {
    /// Encodes `args`, the verb first.
    pub fn new<A: AsRef<[u8]>>(args: &[A]) -> Command {
        Command::encoded(args.iter().map(AsRef::as_ref))
    }

    /// Encodes the command that `argv` is.
    pub fn of(argv: Argv<'_>) -> Command {
        Command::encoded(argv.iter())
    }

    fn encoded<'a>(args: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Command {
        let mut out = Vec::with_capacity(16 + args.clone().map(|arg| arg.len() + 14).sum::<usize>());
        encode_command(args, &mut out);
        Command(out)
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Argument number `index`, if there is one.
    pub fn arg(&self, index: usize) -> Option<&[u8]> {
        let mut rest = self.0.get(memchr::memchr(b'\n', &self.0)? + 1..)?;
        for skipped in 0.. {
            let end = memchr::memchr(b'\r', rest)?;
            let len: usize = std::str::from_utf8(rest.get(1..end)?).ok()?.parse().ok()?;
            let arg = rest.get(end + 2..end + 2 + len)?;
            if skipped == index {
                return Some(arg);
            }
            rest = &rest[end + 2 + len + 2..];
        }
        None
    }
}

/// What a command did to the keyspace, as the stream is to say it. What changed nothing is `None`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Effects {
    /// Nothing changed: nothing is recorded.
    #[default]
    None,
    /// The command itself, word for word: it was key-local and deterministic.
    Verbatim,
    /// One other command.
    One(Command),
    /// Several commands that are applied all or none, in order. Never empty.
    Group(Vec<Command>),
}

/// Appends `args` to `out` as a RESP2 multi-bulk.
pub fn encode_command<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    out.push(b'*');
    out.extend_from_slice(digits.format(args.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for arg in args {
        out.push(b'$');
        out.extend_from_slice(digits.format(arg.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// The key of an effect: its argument 1, or `None` for the effects that name no key.
pub fn key_of<'a>(effect: Argv<'a>) -> Option<&'a [u8]> {
    effect.get(1).filter(|_| !effect.arg(0).eq_ignore_ascii_case(b"FLUSHALL"))
}
