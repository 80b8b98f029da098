//! The replica's half of the handshake: who it is, which stream it wants, and what it claims to have.
//!
//! ```text
//! REPLICATE FROM 9 120 ID r-1  VERSION 1  STREAM 2/4  DONE all  RUN 77  DIAL 3  FLAGS crc,items  PURPOSE follow
//!                                                                       CLIENT 10.0.0.7:6004  REPLBASE 16004  AUTH secret
//!                │  │     │    └ options: name and value; one that is not known is skipped
//!                │  │     └ replica id
//!                │  └ next offset wanted
//!                └ generation; 0: none
//! ```
//!
//! Without an option it is the form of kevy 7.0, without the generation, too, that of 1.18 and 1.19.

use std::fmt;

use super::{VERSION, done};
use crate::id::{Generation, Offset, ShardCount, ShardId, SlotRange};
use crate::limits::{HANDSHAKE_BYTES_MAX, HOST_BYTES_MAX, PASSWORD_BYTES_MAX, REPLICA_ID_BYTES_MAX};
use crate::slotset::SlotSet;
use crate::wire::effect::encode_command;

/// The first thing that a peer says on a replication port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// It wants a stream.
    Replicate(Box<Hello>),
    /// A verb that is kept for promotion.
    Reserved(Reserved),
}

/// Verbs of the replication port that are kept free, and refused with one error line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserved {
    /// Asks a replica for the tail that a promoted node lacks.
    Gather,
    /// Hands a primary's role over.
    Promote,
    /// Takes a handover back.
    Forget,
}

/// A request for a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Who asks.
    pub id: ReplicaId,
    /// What it has.
    pub claim: Claim,
    /// How it asked, and what only our own form says.
    pub form: Form,
}

/// The form of a request, which is also the form of its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// kevy 1.18 and 1.19: an offset and no generation. No heartbeat may be sent to such a peer.
    Offset,
    /// kevy 7.0: generation and offset.
    Generation,
    /// Ours.
    Ours(Options),
}

/// What our own form says beside the claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The version that the replica speaks.
    pub version: u32,
    /// The stream it wants; `None`: that of whatever shard listens here.
    pub stream: Option<StreamOf>,
    /// Which process it is, and its how-manyeth dial this is. `None`: it does not say, and its link is replaced by any other.
    pub dialer: Option<Dialer>,
    /// What it can take.
    pub flags: Flags,
    /// What it wants the stream for.
    pub purpose: Purpose,
    /// Where its own clients find it.
    pub client: Option<Announced>,
    /// Its own replication port base.
    pub repl_base: Option<u16>,
    /// The password of the upstream.
    pub password: Option<Password>,
}

/// A password: never shown, and compared in a time that does not tell how much of it was right.
#[derive(Clone)]
pub struct Password(Box<[u8]>);

impl Password {
    /// The password `text`; `None` where it is empty, which means that there is none, or longer than
    /// [`PASSWORD_BYTES_MAX`].
    pub fn new(text: &[u8]) -> Option<Password> {
        (1..=PASSWORD_BYTES_MAX).contains(&text.len()).then(|| Password(text.into()))
    }

    /// Whether `given` is this password.
    pub fn is(&self, given: &[u8]) -> bool {
        let differences = self.0.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
        differences == 0 && self.0.len() == given.len()
    }

    /// The password itself, to be sent.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Password) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A stream of an upstream, and how many shards the replica takes that upstream to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamOf {
    /// The upstream shard that records it.
    pub shard: ShardId,
    /// How many shards the upstream has; `None`: it is to be learnt.
    pub of: Option<ShardCount>,
}

/// Tells two links of one replica id apart: the newest dial of one process wins, whatever arrives first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dialer {
    /// Random; one per process.
    pub run: u64,
    /// Rises with every dial of the process.
    pub dial: u64,
}

/// What the replica's end of the link can take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// Check lines.
    pub crc: bool,
    /// Groups, dump items and digests. Without it: frames only.
    pub items: bool,
    /// It does not count: not for `WAIT`, not for the write gate, not as a connected replica.
    pub observer: bool,
}

/// What the replica wants the stream for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Purpose {
    /// To follow it.
    #[default]
    Follow,
    /// To fetch a tail, as part of a promotion.
    Gather,
    /// To hear what the peer is, its number of shards first of all. It is told, and the link ends.
    Learn,
}

/// Where a replica's clients find it. On the wire `host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announced {
    /// Name or address; `None`: the address that the link comes from.
    pub host: Option<String>,
    /// Client port.
    pub port: u16,
}

/// What a replica has of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Nothing.
    Empty,
    /// Everything below an offset of a history that it cannot name.
    Bare(Offset),
    /// A position in a history.
    At {
        /// The history.
        generation: Generation,
        /// The next offset it wants: what it has *received* everything below of.
        next: Offset,
        /// The slots that it has whole.
        done: Done,
    },
}

/// Which slots of its stream a replica has whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// All.
    All,
    /// These; all of them slots of the stream.
    These(SlotSet),
}

/// Names a replica: 1 to 256 bytes of UTF-8 without control characters. One that released kevys use ends in `#` or `-` and a number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaId(Box<str>);

/// Why a text is no replica id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a replica id has 1 to {REPLICA_ID_BYTES_MAX} bytes of UTF-8 without control characters")]
pub struct IdError;

/// Why a request could not be understood. It ends the link.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// Not complete within the limit.
    #[error("no complete request within {HANDSHAKE_BYTES_MAX} bytes")]
    TooLong,
    /// Not a RESP2 multi-bulk of bulk strings.
    #[error("not a RESP2 command: {0}")]
    Malformed(&'static str),
    /// Neither `REPLICATE` nor a verb that is kept free.
    #[error("unknown verb {0:?}")]
    Verb(String),
    /// `REPLICATE` with a number of arguments or keywords that no form has.
    #[error("not in the form REPLICATE FROM [generation] offset ID id [name value …]")]
    Shape,
    /// A generation or an offset is not a number in its range.
    #[error("{0} is not a number in its range")]
    Number(&'static str),
    /// The replica id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The value of an option that is known.
    #[error("option {name}: {value:?} is not {expected}")]
    Option {
        /// The option.
        name: &'static str,
        /// What was sent.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
}

impl ReplicaId {
    /// The id `text`.
    ///
    /// # Errors
    /// If it is empty, too long, or has control characters.
    pub fn new(text: &str) -> Result<ReplicaId, IdError> {
        let fits = (1..=REPLICA_ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits { Ok(ReplicaId(text.into())) } else { Err(IdError) }
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The replica that this id belongs to: kevy 7.0 appends `#` and the number of the stream.
    pub fn replica(&self) -> &str {
        match self.0.rsplit_once('#') {
            Some((replica, stream)) if !replica.is_empty() && stream.parse::<u16>().is_ok() => replica,
            _ => &self.0,
        }
    }

    /// The port that released kevys put at the end of it.
    pub fn port(&self) -> Option<u16> {
        self.replica().rsplit_once('-').and_then(|(_, port)| port.parse().ok())
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl RequestError {
    /// Whether the peer speaks our form, so that an error line helps it. An older one expects a close and nothing else.
    pub fn is_of_our_form(&self) -> bool {
        matches!(self, RequestError::Option { .. })
    }
}

impl Announced {
    fn parse(text: &str) -> Option<Announced> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port != 0)?;
        if host.len() > HOST_BYTES_MAX || host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return None;
        }
        Some(Announced { host: (!host.is_empty()).then(|| host.to_owned()), port })
    }
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host.as_deref().unwrap_or(""), self.port)
    }
}

impl StreamOf {
    /// The slots of the stream, where the placement is known.
    pub fn range(self) -> Option<SlotRange> {
        self.of.map(|of| of.slots_of(self.shard))
    }
}

impl Options {
    /// Options of this version for stream `stream`, without what may be left out.
    pub fn new(stream: impl Into<Option<StreamOf>>) -> Options {
        Options {
            version: VERSION,
            stream: stream.into(),
            dialer: None,
            flags: Flags::default(),
            purpose: Purpose::Follow,
            client: None,
            repl_base: None,
            password: None,
        }
    }
}

impl Hello {
    /// What our own form says; `None` for the older ones.
    pub fn options(&self) -> Option<&Options> {
        match &self.form {
            Form::Ours(options) => Some(options),
            Form::Offset | Form::Generation => None,
        }
    }

    /// Whether the peer takes groups, dump items and digests.
    pub fn takes_items(&self) -> bool {
        self.options().is_some_and(|options| options.flags.items)
    }

    /// Appends the request to `out`. A claim with single slots needs the number of shards: only with it they can be named.
    ///
    /// In the oldest form a generation is left out; in the two older ones so are the slots.
    ///
    /// # Panics
    /// If the claim names slots while the number of shards is not known.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (generation, next) = match &self.claim {
            Claim::Empty => (0, Offset::ZERO),
            Claim::Bare(next) => (0, *next),
            Claim::At { generation, next, .. } => (generation.get(), *next),
        };
        let mut args: Vec<Vec<u8>> = vec![b"REPLICATE".to_vec(), b"FROM".to_vec()];
        if self.form != Form::Offset {
            args.push(generation.to_string().into());
        }
        args.extend([next.to_string().into(), b"ID".to_vec(), self.id.to_string().into()]);
        if let Form::Ours(options) = &self.form {
            self.push_options(options, &mut args);
        }
        let begin = out.len();
        encode_command(args.iter().map(Vec::as_slice), out);
        debug_assert!(out.len() - begin <= HANDSHAKE_BYTES_MAX);
    }

    fn push_options(&self, options: &Options, args: &mut Vec<Vec<u8>>) {
        let mut push = |name: &str, value: String| args.extend([name.into(), value.into()]);
        push("VERSION", options.version.to_string());
        if let Some(StreamOf { shard, of }) = options.stream {
            push("STREAM", format!("{shard}/{}", of.map_or(0, ShardCount::get)));
        }
        if let Claim::At { done: these @ Done::These(_), .. } = &self.claim {
            let range = options.stream.and_then(StreamOf::range);
            let range = range.expect("slots are claimed only of a stream and a placement that are known");
            push("DONE", done::encode(these, range));
        }
        if let Some(Dialer { run, dial }) = options.dialer {
            push("RUN", run.to_string());
            push("DIAL", dial.to_string());
        }
        let Flags { crc, items, observer } = options.flags;
        let flags = [(crc, "crc"), (items, "items"), (observer, "observer")];
        let flags: Vec<&str> = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
        if !flags.is_empty() {
            push("FLAGS", flags.join(","));
        }
        match options.purpose {
            Purpose::Follow => {}
            Purpose::Gather => push("PURPOSE", "gather".into()),
            Purpose::Learn => push("PURPOSE", "learn".into()),
        }
        if let Some(client) = &options.client {
            push("CLIENT", client.to_string());
        }
        if let Some(base) = options.repl_base {
            push("REPLBASE", base.to_string());
        }
        if let Some(password) = &options.password {
            args.extend([b"AUTH".to_vec(), password.reveal().to_vec()]);
        }
    }
}

/// Reads a request from the beginning of `buf`: the request and how many bytes it takes, or `None` while more are needed.
///
/// # Errors
/// If it is not one, or not complete within [`HANDSHAKE_BYTES_MAX`].
pub fn decode_request(buf: &[u8]) -> Result<Option<(Request, usize)>, RequestError> {
    let within = &buf[..buf.len().min(HANDSHAKE_BYTES_MAX)];
    match split_command(within)? {
        Some((args, used)) => Ok(Some((parse(&args)?, used))),
        None if buf.len() >= HANDSHAKE_BYTES_MAX => Err(RequestError::TooLong),
        None => Ok(None),
    }
}

fn parse(args: &[&[u8]]) -> Result<Request, RequestError> {
    let verb = args[0];
    let reserved = [("GATHER", Reserved::Gather), ("PROMOTE", Reserved::Promote), ("FORGET", Reserved::Forget)];
    if let Some((_, reserved)) = reserved.iter().find(|(name, _)| verb.eq_ignore_ascii_case(name.as_bytes())) {
        return Ok(Request::Reserved(*reserved));
    }
    if !verb.eq_ignore_ascii_case(b"REPLICATE") {
        return Err(RequestError::Verb(show(verb)));
    }
    let keywords_at =
        |from: usize, id: usize| args[from].eq_ignore_ascii_case(b"FROM") && args[id].eq_ignore_ascii_case(b"ID");
    let (generation, next, id, options) = match args.len() {
        5 if keywords_at(1, 3) => (None, args[2], args[4], None),
        6 if keywords_at(1, 4) => (Some(args[2]), args[3], args[5], None),
        8.. if args.len().is_multiple_of(2) && keywords_at(1, 4) => (Some(args[2]), args[3], args[5], Some(&args[6..])),
        _ => return Err(RequestError::Shape),
    };
    let id = ReplicaId::new(std::str::from_utf8(id).map_err(|_| IdError)?)?;
    let next = number(next).map(Offset::new).filter(|&next| next <= Offset::MAX);
    let next = next.ok_or(RequestError::Number("the offset"))?;
    let form_without_options = if generation.is_some() { Form::Generation } else { Form::Offset };
    let generation: Option<u64> =
        generation.map(|text| number(text).ok_or(RequestError::Number("the generation"))).transpose()?;
    let (form, done) = match options {
        None => (form_without_options, Done::All),
        Some(options) => {
            let (options, done) = parse_options(options)?;
            (Form::Ours(options), done)
        }
    };
    let claim = match generation.and_then(Generation::new) {
        Some(generation) => Claim::At { generation, next, done },
        None if next == Offset::ZERO => Claim::Empty,
        None => Claim::Bare(next),
    };
    Ok(Request::Replicate(Box::new(Hello { id, claim, form })))
}

fn parse_options(pairs: &[&[u8]]) -> Result<(Options, Done), RequestError> {
    let mut options = Options::new(None);
    let (mut run, mut dial, mut done) = (None, None, None);
    for pair in pairs.chunks_exact(2) {
        let (name, value) = (pair[0].to_ascii_uppercase(), pair[1]);
        let wrong = |name, expected| RequestError::Option { name, value: show(value), expected };
        match &name[..] {
            b"VERSION" => options.version = number(value).ok_or(wrong("VERSION", "a number"))?,
            b"STREAM" => {
                let stream = parse_stream(value).ok_or(wrong("STREAM", "<shard>/<shards>, shards 0 if not known"))?;
                options.stream = Some(stream);
            }
            b"DONE" => done = Some(value),
            b"RUN" => run = Some(number(value).ok_or(wrong("RUN", "a number"))?),
            b"DIAL" => dial = Some(number(value).ok_or(wrong("DIAL", "a number"))?),
            b"FLAGS" => {
                for flag in value.split(|&byte| byte == b',') {
                    match flag {
                        b"crc" => options.flags.crc = true,
                        b"items" => options.flags.items = true,
                        b"observer" => options.flags.observer = true,
                        _ => {} // of a newer version
                    }
                }
            }
            b"PURPOSE" => {
                options.purpose = match value {
                    b"follow" => Purpose::Follow,
                    b"gather" => Purpose::Gather,
                    b"learn" => Purpose::Learn,
                    _ => return Err(wrong("PURPOSE", "follow, gather or learn")),
                }
            }
            b"CLIENT" => {
                let client = std::str::from_utf8(value).ok().and_then(Announced::parse);
                options.client = Some(client.ok_or(wrong("CLIENT", "<host>:<port>"))?);
            }
            b"REPLBASE" => options.repl_base = Some(number(value).ok_or(wrong("REPLBASE", "a port"))?),
            b"AUTH" => options.password = Password::new(value),
            _ => {} // of a newer version
        }
    }
    options.dialer = run.map(|run| Dialer { run, dial: dial.unwrap_or(0) });
    // Last, since it is read by the stream's range, whichever option comes first.
    let done = match done {
        None => Done::All,
        Some(text) => {
            let decoded = match options.stream.and_then(StreamOf::range) {
                Some(range) => done::decode(text, range),
                None => text.eq_ignore_ascii_case(b"all").then_some(Done::All),
            };
            let expected = "`all` or the bitmap of the stream's slots in base64";
            decoded.ok_or(RequestError::Option { name: "DONE", value: show(text), expected })?
        }
    };
    Ok((options, done))
}

fn parse_stream(text: &[u8]) -> Option<StreamOf> {
    let (shard, of) = std::str::from_utf8(text).ok()?.split_once('/')?;
    let (shard, of): (u16, u16) = (number(shard.as_bytes())?, number(of.as_bytes())?);
    let of = match of {
        0 => None,
        of => Some(ShardCount::new(of).filter(|of| shard < of.get())?),
    };
    Some(StreamOf { shard: ShardId::new(shard), of })
}

/// Arguments, and how many bytes they took.
type Split<'a> = (Vec<&'a [u8]>, usize);

/// The arguments of the RESP2 multi-bulk at the beginning of `buf`, and its length. At least one argument.
fn split_command(buf: &[u8]) -> Result<Option<Split<'_>>, RequestError> {
    // `$0␍␊␍␊` is the shortest argument.
    const ARGS_MAX: usize = HANDSHAKE_BYTES_MAX / 6;
    let Some((count, mut at)) = length_line(buf, 0, b'*')? else { return Ok(None) };
    if !(1..=ARGS_MAX).contains(&count) {
        return Err(RequestError::Malformed("number of arguments"));
    }
    let mut args = Vec::new();
    for _ in 0..count {
        let Some((len, start)) = length_line(buf, at, b'$')? else { return Ok(None) };
        let end = start + len;
        if end + 2 > buf.len() {
            return if end + 2 > HANDSHAKE_BYTES_MAX { Err(RequestError::TooLong) } else { Ok(None) };
        }
        if &buf[end..end + 2] != b"\r\n" {
            return Err(RequestError::Malformed("an argument's length"));
        }
        args.push(&buf[start..end]);
        at = end + 2;
    }
    Ok(Some((args, at)))
}

/// The number in the line `<kind><number>␍␊` at `at`, and where the line ends.
fn length_line(buf: &[u8], at: usize, kind: u8) -> Result<Option<(usize, usize)>, RequestError> {
    const DIGITS_MAX: usize = 5;
    let Some((&first, rest)) = buf[at..].split_first() else { return Ok(None) };
    if first != kind {
        return Err(RequestError::Malformed("not a multi-bulk of bulk strings"));
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > DIGITS_MAX {
        return Err(RequestError::TooLong);
    }
    let line_end = &rest[digits..rest.len().min(digits + 2)];
    if !b"\r\n".starts_with(line_end) || (digits == 0 && !line_end.is_empty()) {
        return Err(RequestError::Malformed("a length"));
    }
    if line_end.len() < 2 {
        return Ok(None);
    }
    let length = number(&rest[..digits]).ok_or(RequestError::Malformed("a length"))?;
    Ok(Some((length, at + 1 + digits + 2)))
}

/// An unsigned decimal without sign or blanks.
pub(super) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// What a peer sent, fit for an error line.
fn show(text: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    text[..text.len().min(SHOWN_MAX)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{HashSlot, SlotRange};
    use proptest::prelude::*;

    fn encoded(args: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_command(args.iter().map(|arg| arg.as_bytes()), &mut out);
        out
    }

    fn decoded(args: &[&str]) -> Result<Hello, RequestError> {
        let bytes = encoded(args);
        match decode_request(&bytes)?.expect("it is complete") {
            (Request::Replicate(hello), used) => {
                assert_eq!(used, bytes.len());
                Ok(*hello)
            }
            (Request::Reserved(verb), _) => panic!("{verb:?}"),
        }
    }

    fn ours(hello: Hello) -> Options {
        match hello.form {
            Form::Ours(options) => options,
            older => panic!("{older:?}"),
        }
    }

    fn full() -> Hello {
        let of = ShardCount::new(4096 / 4).unwrap();
        let slots = [2, 4].map(|bit| HashSlot::new(of.slots_of(ShardId::new(2)).first + bit).unwrap());
        Hello {
            id: ReplicaId::new("r-1").unwrap(),
            claim: Claim::At {
                generation: Generation::new(9).unwrap(),
                next: Offset::new(120),
                done: Done::These(slots.into_iter().collect()),
            },
            form: Form::Ours(Options {
                version: 1,
                stream: Some(StreamOf { shard: ShardId::new(2), of: Some(of) }),
                dialer: Some(Dialer { run: 77, dial: 3 }),
                flags: Flags { crc: true, items: true, observer: true },
                purpose: Purpose::Gather,
                client: Some(Announced { host: Some("::1".into()), port: 6004 }),
                repl_base: Some(16_004),
                password: None,
            }),
        }
    }

    #[test]
    fn the_bytes_of_the_three_forms() {
        let id = ReplicaId::new("r").unwrap();
        let bytes = |claim, form| {
            let mut out = Vec::new();
            Hello { id: id.clone(), claim, form }.encode(&mut out);
            out.escape_ascii().to_string()
        };
        let at = Claim::At { generation: Generation::new(7).unwrap(), next: Offset::new(42), done: Done::All };
        assert_eq!(
            bytes(Claim::Bare(Offset::new(42)), Form::Offset),
            r"*5\r\n$9\r\nREPLICATE\r\n$4\r\nFROM\r\n$2\r\n42\r\n$2\r\nID\r\n$1\r\nr\r\n"
        );
        assert_eq!(
            bytes(at.clone(), Form::Generation),
            r"*6\r\n$9\r\nREPLICATE\r\n$4\r\nFROM\r\n$1\r\n7\r\n$2\r\n42\r\n$2\r\nID\r\n$1\r\nr\r\n"
        );
        let plain = Options::new(StreamOf { shard: ShardId::new(0), of: None });
        assert_eq!(
            bytes(at, Form::Ours(plain)),
            r"*10\r\n$9\r\nREPLICATE\r\n$4\r\nFROM\r\n$1\r\n7\r\n$2\r\n42\r\n$2\r\nID\r\n$1\r\nr\r\n$7\r\nVERSION\r\n$1\r\n1\r\n$6\r\nSTREAM\r\n$3\r\n0/0\r\n"
        );
        let mut out = Vec::new();
        full().encode(&mut out);
        let expected = [
            "REPLICATE",
            "FROM",
            "9",
            "120",
            "ID",
            "r-1",
            "VERSION",
            "1",
            "STREAM",
            "2/1024",
            "DONE",
            "FAA",
            "RUN",
            "77",
            "DIAL",
            "3",
            "FLAGS",
            "crc,items,observer",
            "PURPOSE",
            "gather",
            "CLIENT",
            "::1:6004",
            "REPLBASE",
            "16004",
        ];
        assert_eq!(out.escape_ascii().to_string(), encoded(&expected).escape_ascii().to_string());
    }

    #[test]
    fn keywords_are_case_insensitive_and_order_does_not_matter() {
        let hello =
            decoded(&["replicate", "from", "9", "120", "id", "r", "done", "ALL", "Stream", "1/2", "version", "3"]);
        let hello = hello.unwrap();
        assert_eq!(
            hello.claim,
            Claim::At { generation: Generation::new(9).unwrap(), next: Offset::new(120), done: Done::All }
        );
        assert_eq!(ours(hello).version, 3);
        assert_eq!(decoded(&["RePlIcAtE", "From", "5", "Id", "kevy-replica-3"]).unwrap().form, Form::Offset);
    }

    #[test]
    fn zeroes_mean_nothing_is_claimed() {
        assert_eq!(decoded(&["REPLICATE", "FROM", "0", "ID", "r"]).unwrap().claim, Claim::Empty);
        assert_eq!(decoded(&["REPLICATE", "FROM", "5", "ID", "r"]).unwrap().claim, Claim::Bare(Offset::new(5)));
        assert_eq!(decoded(&["REPLICATE", "FROM", "0", "0", "ID", "r"]).unwrap().claim, Claim::Empty);
        assert_eq!(decoded(&["REPLICATE", "FROM", "0", "5", "ID", "r"]).unwrap().claim, Claim::Bare(Offset::new(5)));
    }

    #[test]
    fn what_a_newer_version_adds_is_skipped() {
        let hello = decoded(&[
            "REPLICATE",
            "FROM",
            "9",
            "120",
            "ID",
            "r",
            "VERSION",
            "2",
            "ZSTD",
            "yes",
            "STREAM",
            "0/1",
            "FLAGS",
            "items,warp",
        ]);
        let options = ours(hello.unwrap());
        assert_eq!(options.version, 2);
        assert!(options.flags.items && !options.flags.crc);
    }

    #[test]
    fn what_an_older_version_leaves_out_has_a_default() {
        let options = ours(decoded(&["REPLICATE", "FROM", "0", "0", "ID", "r", "VERSION", "0"]).unwrap());
        let expected = Options { version: 0, ..Options::new(None) };
        assert_eq!(options, expected);
    }

    #[test]
    fn reserved_verbs_are_recognised() {
        for (text, verb) in [("gather", Reserved::Gather), ("PROMOTE", Reserved::Promote), ("Forget", Reserved::Forget)]
        {
            let bytes = encoded(&[text, "x"]);
            assert_eq!(decode_request(&bytes), Ok(Some((Request::Reserved(verb), bytes.len()))));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let shape = RequestError::Shape;
        let too_long_id = "x".repeat(REPLICA_ID_BYTES_MAX + 1);
        let cases: &[(&[&str], RequestError)] = &[
            (&["PING"], RequestError::Verb("PING".into())),
            (&["REPLICATE"], shape.clone()),
            (&["REPLICATE", "FROM", "1", "ID"], shape.clone()),
            (&["REPLICATE", "FROM", "1", "AS", "r"], shape.clone()),
            (&["REPLICATE", "FROM", "1", "2", "ID", "r", "VERSION"], shape),
            (&["REPLICATE", "FROM", "-1", "ID", "r"], RequestError::Number("the offset")),
            (&["REPLICATE", "FROM", "+1", "ID", "r"], RequestError::Number("the offset")),
            (&["REPLICATE", "FROM", "9223372036854775808", "ID", "r"], RequestError::Number("the offset")),
            (&["REPLICATE", "FROM", "x", "1", "ID", "r"], RequestError::Number("the generation")),
            (&["REPLICATE", "FROM", "1", "ID", ""], RequestError::Id(IdError)),
            (&["REPLICATE", "FROM", "1", "ID", "a\nb"], RequestError::Id(IdError)),
            (&["REPLICATE", "FROM", "1", "ID", &too_long_id], RequestError::Id(IdError)),
        ];
        for (args, expected) in cases {
            assert_eq!(decoded(args).as_ref(), Err(expected), "{args:?}");
            assert!(!expected.is_of_our_form());
        }
        let options = [
            ("STREAM", "4/4"),
            ("STREAM", "0/1025"),
            ("STREAM", "1"),
            ("DONE", "AAAA"),
            ("RUN", "-1"),
            ("PURPOSE", "x"),
            ("CLIENT", "host"),
            ("CLIENT", "h:0"),
            ("CLIENT", "a b:1"),
            ("REPLBASE", "65536"),
            ("VERSION", ""),
        ];
        for (name, value) in options {
            let error = decoded(&["REPLICATE", "FROM", "1", "2", "ID", "r", name, value]).unwrap_err();
            assert!(
                matches!(&error, RequestError::Option { name: told, .. } if *told == name),
                "{name} {value}: {error}"
            );
            assert!(error.is_of_our_form());
        }
    }

    #[test]
    fn more_than_the_limit_is_refused_and_a_prefix_asks_for_more() {
        let endless = format!("*2\r\n$9\r\nREPLICATE\r\n$4090\r\n{}", "x".repeat(HANDSHAKE_BYTES_MAX));
        assert_eq!(decode_request(endless.as_bytes()), Err(RequestError::TooLong));
        let slow_drip = "*9\r\n".to_owned() + &"$1\r\nx\r\n".repeat(8) + "$4";
        assert_eq!(decode_request(slow_drip.as_bytes()), Ok(None));
        for hopeless in
            ["*1\r\n$4096\r\n", "*1\r\n$99999\r\n", "*1\r\n$100000", "*683\r\n", "*0\r\n", "*-1\r\n", "$1", "*1\n"]
        {
            assert!(decode_request(hopeless.as_bytes()).is_err(), "{hopeless:?}");
        }
        let mut bytes = Vec::new();
        full().encode(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(decode_request(&bytes[..end]), Ok(None), "{end} bytes");
        }
        let used = bytes.len();
        bytes.extend_from_slice(b"REPLCONF ACK 1\r\n");
        assert_eq!(decode_request(&bytes), Ok(Some((Request::Replicate(Box::new(full())), used))));
    }

    #[test]
    fn ids_of_released_versions_name_replica_and_port() {
        for (id, replica, port) in [
            ("kevy-replica-3", "kevy-replica-3", Some(3)),
            ("kevy-replica-6004#2", "kevy-replica-6004", Some(6004)),
            ("plain", "plain", None),
            ("#1", "#1", None),
            ("a#b", "a#b", None),
        ] {
            let id = ReplicaId::new(id).unwrap();
            assert_eq!((id.replica(), id.port()), (replica, port));
        }
    }

    fn any_hello() -> impl Strategy<Value = Hello> {
        let stream = (1u16..=1024).prop_flat_map(|of| {
            (0..of).prop_map(move |shard| StreamOf { shard: ShardId::new(shard), of: ShardCount::new(of) })
        });
        let flags = any::<(bool, bool, bool)>().prop_map(|(crc, items, observer)| Flags { crc, items, observer });
        let dialer = prop::option::of(any::<(u64, u64)>().prop_map(|(run, dial)| Dialer { run, dial }));
        let host = prop::option::of("[a-z0-9.:]{1,40}");
        let client = prop::option::of((host, 1u16..).prop_map(|(host, port)| Announced { host, port }));
        let rest = (flags, dialer, client, any::<(bool, Option<u16>, u32)>());
        let slots = prop::option::of(any::<u64>());
        (stream, rest, "[^\\p{Cc}]{1,60}", 0u64..3, 0..=i64::MAX as u64, slots, 0u8..3).prop_map(
            |(stream, (flags, dialer, client, (gather, repl_base, version)), id, generation, next, slots, form)| {
                let form = match form {
                    0 => Form::Offset,
                    1 => Form::Generation,
                    _ => Form::Ours(Options {
                        version,
                        stream: Some(stream),
                        dialer,
                        flags,
                        purpose: if gather { Purpose::Gather } else { Purpose::Follow },
                        client,
                        repl_base,
                        password: None,
                    }),
                };
                let next = Offset::new(next);
                let done = match (slots, &form) {
                    (Some(bits), Form::Ours(_)) => {
                        let range: SlotRange = stream.of.unwrap().slots_of(stream.shard);
                        Done::These(range.iter().filter(|slot| bits >> (slot.get() % 64) & 1 == 1).collect())
                    }
                    _ => Done::All,
                };
                let claim = match Generation::new(generation).filter(|_| form != Form::Offset) {
                    Some(generation) => Claim::At { generation, next, done },
                    None if next == Offset::ZERO => Claim::Empty,
                    None => Claim::Bare(next),
                };
                Hello { id: ReplicaId::new(&id).unwrap(), claim, form }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(hello in any_hello()) {
            let mut bytes = Vec::new();
            hello.encode(&mut bytes);
            prop_assert!(bytes.len() <= HANDSHAKE_BYTES_MAX);
            let used = bytes.len();
            prop_assert_eq!(decode_request(&bytes), Ok(Some((Request::Replicate(Box::new(hello)), used))));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..300, at in 0usize..300) {
            let _ = decode_request(&bytes);
            let mut damaged = Vec::new();
            full().encode(&mut damaged);
            let at = at.min(damaged.len());
            damaged.splice(at..cut.clamp(at, damaged.len()), bytes);
            let _ = decode_request(&damaged);
        }
    }
}
