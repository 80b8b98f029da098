//! The primary's half of the handshake: one line.
//!
//! ```text
//! +ACK 120␍␊                                                             to 1.18 and 1.19
//! +ACK 9 120␍␊                                                           to 7.0
//! +ACK 9 120 shard=2 n=4 born=data lineage=7:90:4,5:12:4 oldest=100 head=130 judgement=stream crc=0 port=6004␍␊   to ours
//! …                                                                                   crc=1 port=6004 sum=1c291ca3␍␊   with check lines
//! -ERR needs_sync a sync is needed, …␍␊                                  to ours, then it closes
//! ```
//!
//! Names that are not known are skipped. An answer that promises check lines is checked itself: its last field is the CRC32C of
//! what stands before it.

use super::request::number;
use super::{Fork, Judgement, Lineage, RefuseReason, SyncReason};
use crate::id::{Generation, Offset, ShardCount, ShardId};
use crate::limits::HANDSHAKE_BYTES_MAX;
use crate::wire::check::crc32c;

/// What a primary answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// In the oldest form: the offset that was asked for, said back.
    Offset(Offset),
    /// In the form of kevy 7.0.
    Generation {
        /// The primary's generation, or what was asked for, said back; `None` where it says 0.
        generation: Option<Generation>,
        /// The offset that was asked for, said back.
        next: Offset,
    },
    /// In ours.
    Welcome(Box<Welcome>),
    /// An error line, to ours only. The link is closed behind it.
    Refused(Refusal),
}

/// The answer in our own form: the primary's history, and what it made of the claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The primary's generation.
    pub generation: Generation,
    /// The offset of the first frame; where a sync comes first, `+SYNC` says it.
    pub next: Offset,
    /// The shard that answers: the stream's number.
    pub shard: ShardId,
    /// How many shards the primary has.
    pub shards: ShardCount,
    /// Whether its generation began without data.
    pub born_empty: bool,
    /// What it continues.
    pub lineage: Lineage,
    /// The first offset in its window.
    pub oldest: Offset,
    /// The next offset that it records.
    pub head: Offset,
    /// What becomes of the claim.
    pub verdict: Verdict,
    /// Whether check lines are sent.
    pub crc: bool,
    /// The primary's client port.
    pub client_port: Option<u16>,
}

/// What becomes of a claim that is not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The stream goes on from the claim. Where the primary's generation is not the claim's, the replica takes it over, with
    /// its lineage.
    Stream,
    /// All slots of the stream are sent anew.
    Sync(SyncReason),
}

/// An error line, in the primary's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the primary refuses: {text} ({name})")]
pub struct Refusal {
    /// The reason's stable name: [`RefuseReason::name`], or one of a newer version.
    pub name: String,
    /// What it says to people.
    pub text: String,
}

/// Why an answer could not be understood. It ends the link.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// No line end within the limit.
    #[error("no complete answer within {HANDSHAKE_BYTES_MAX} bytes")]
    TooLong,
    /// Neither `+ACK …` nor `-…`.
    #[error("the answer is neither +ACK nor an error line")]
    Malformed,
    /// It promises check lines and does not fit its own check.
    #[error("the answer is damaged")]
    Damaged,
    /// Something our form needs is missing or wrong.
    #[error("{0} is missing in the answer, or wrong")]
    Field(&'static str),
}

impl Refusal {
    /// The error line for `reason`, with what more there is to say.
    pub fn new(reason: RefuseReason) -> Refusal {
        Refusal { name: reason.name().to_owned(), text: reason.to_string() }
    }

    /// The error line for a request that could not be understood.
    pub fn malformed(error: &super::RequestError) -> Refusal {
        Refusal { name: RefuseReason::Malformed.name().to_owned(), text: error.to_string() }
    }
}

impl Verdict {
    /// The verdict of a judgement, or why there is none.
    ///
    /// # Errors
    /// If the request was refused.
    pub fn of(judgement: Judgement) -> Result<Verdict, RefuseReason> {
        match judgement {
            Judgement::Stream { .. } => Ok(Verdict::Stream),
            Judgement::Sync(reason) => Ok(Verdict::Sync(reason)),
            Judgement::Refuse(reason) => Err(reason),
        }
    }
}

impl Answer {
    /// Appends the answer's line to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let line = match self {
            Answer::Offset(next) => format!("+ACK {next}"),
            Answer::Generation { generation, next } => format!("+ACK {} {next}", generation.map_or(0, Generation::get)),
            Answer::Welcome(welcome) => welcome.line(),
            Answer::Refused(Refusal { name, text }) => {
                let line = format!("-ERR {name} {text}").replace(['\r', '\n'], " ");
                let end = (0..=HANDSHAKE_BYTES_MAX - 2).rev().find(|&end| line.is_char_boundary(end));
                line[..end.unwrap_or(0).min(line.len())].to_owned()
            }
        };
        debug_assert!(line.len() + 2 <= HANDSHAKE_BYTES_MAX);
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

impl Welcome {
    fn line(&self) -> String {
        let Welcome { generation, next, shard, shards, oldest, head, .. } = self;
        let born = if self.born_empty { "empty" } else { "data" };
        let lineage: Vec<String> = self
            .lineage
            .forks()
            .iter()
            .map(|fork| format!("{}:{}:{}", fork.generation, fork.at, fork.shards))
            .collect();
        let lineage = if lineage.is_empty() { "-".to_owned() } else { lineage.join(",") };
        let judgement = match self.verdict {
            Verdict::Stream => "stream".to_owned(),
            Verdict::Sync(reason) => format!("sync:{}", reason.name()),
        };
        let crc = u8::from(self.crc);
        let port = self.client_port.unwrap_or(0);
        let mut line = format!(
            "+ACK {generation} {next} shard={shard} n={shards} born={born} lineage={lineage} oldest={oldest} head={head} \
             judgement={judgement} crc={crc} port={port}"
        );
        if self.crc {
            let sum = crc32c(line.as_bytes());
            line.push_str(&format!("{SUM}{sum:08x}"));
        }
        line
    }
}

/// Reads an answer from the beginning of `buf`: the answer and how many bytes it takes, or `None` while more are needed.
///
/// # Errors
/// If it is not one, or not complete within [`HANDSHAKE_BYTES_MAX`].
pub fn decode_answer(buf: &[u8]) -> Result<Option<(Answer, usize)>, AnswerError> {
    if !matches!(buf.first(), None | Some(b'+' | b'-')) {
        return Err(AnswerError::Malformed);
    }
    let within = &buf[..buf.len().min(HANDSHAKE_BYTES_MAX)];
    match memchr::memchr(b'\n', within) {
        None if buf.len() >= HANDSHAKE_BYTES_MAX => Err(AnswerError::TooLong),
        None => Ok(None),
        Some(end) => {
            let line = within[..end].strip_suffix(b"\r").ok_or(AnswerError::Malformed)?;
            Ok(Some((parse(line)?, end + 1)))
        }
    }
}

fn parse(line: &[u8]) -> Result<Answer, AnswerError> {
    let mut words = line.split(|&byte| byte == b' ');
    let first = words.next().unwrap_or_default();
    if first.starts_with(b"-") {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_prefix("-ERR ").unwrap_or(&text[1..]);
        let (name, text) = text.split_once(' ').unwrap_or((text, ""));
        return Ok(Answer::Refused(Refusal { name: name.to_owned(), text: text.to_owned() }));
    }
    if first != b"+ACK" {
        return Err(AnswerError::Malformed);
    }
    let proved = fits_its_sum(line)?;
    let mut numbers = [None, None];
    for slot in &mut numbers {
        *slot = words.next().map(|word| number::<u64>(word).ok_or(AnswerError::Field("a number"))).transpose()?;
    }
    let offset = |number| {
        Some(Offset::new(number)).filter(|&offset| offset <= Offset::MAX).ok_or(AnswerError::Field("the offset"))
    };
    let (generation, next) = match numbers {
        [Some(next), None] => return Ok(Answer::Offset(offset(next)?)),
        [Some(generation), Some(next)] => (Generation::new(generation), offset(next)?),
        _ => return Err(AnswerError::Malformed),
    };
    let mut words = words.peekable();
    if words.peek().is_none() {
        return Ok(Answer::Generation { generation, next });
    }
    let generation = generation.ok_or(AnswerError::Field("generation"))?;
    let welcome = parse_fields(generation, next, words)?;
    if welcome.crc != proved {
        return Err(AnswerError::Damaged);
    }
    Ok(Answer::Welcome(Box::new(welcome)))
}

/// Whether a line ends with its check; an error if it ends with another one.
fn fits_its_sum(line: &[u8]) -> Result<bool, AnswerError> {
    let Some((text, sum)) = line.split_last_chunk::<{ SUM.len() + 8 }>() else { return Ok(false) };
    let Some(sum) = sum.strip_prefix(SUM.as_bytes()) else { return Ok(false) };
    if sum == format!("{:08x}", crc32c(text)).as_bytes() { Ok(true) } else { Err(AnswerError::Damaged) }
}

/// Before the check of an answer.
const SUM: &str = " sum=";

fn parse_fields<'a>(
    generation: Generation,
    next: Offset,
    words: impl Iterator<Item = &'a [u8]>,
) -> Result<Welcome, AnswerError> {
    let (mut shard, mut shards, mut born_empty, mut oldest, mut head, mut verdict) =
        (None, None, None, None, None, None);
    let (mut lineage, mut crc, mut client_port) = (Lineage::none(), false, None);
    for word in words {
        let Some(equals) = memchr::memchr(b'=', word) else { continue };
        let (name, value) = (&word[..equals], &word[equals + 1..]);
        let offset = || number(value).map(Offset::new).filter(|&offset| offset <= Offset::MAX);
        match name {
            b"shard" => shard = number(value).map(ShardId::new),
            b"n" => shards = number(value).and_then(ShardCount::new),
            b"born" => {
                born_empty = match value {
                    b"empty" => Some(true),
                    b"data" => Some(false),
                    _ => None,
                }
            }
            b"lineage" => lineage = parse_lineage(value).ok_or(AnswerError::Field("lineage"))?,
            b"oldest" => oldest = offset(),
            b"head" => head = offset(),
            b"judgement" => {
                verdict = match value {
                    b"stream" => Some(Verdict::Stream),
                    _ => value.strip_prefix(b"sync:").map(|reason| Verdict::Sync(SyncReason::from_name(reason))),
                }
            }
            b"crc" => crc = value == b"1",
            b"port" => client_port = number(value).filter(|&port: &u16| port != 0),
            _ => {} // of a newer version
        }
    }
    let welcome = Welcome {
        generation,
        next,
        shard: shard.ok_or(AnswerError::Field("shard"))?,
        shards: shards.ok_or(AnswerError::Field("n"))?,
        born_empty: born_empty.ok_or(AnswerError::Field("born"))?,
        lineage,
        oldest: oldest.ok_or(AnswerError::Field("oldest"))?,
        head: head.ok_or(AnswerError::Field("head"))?,
        verdict: verdict.ok_or(AnswerError::Field("judgement"))?,
        crc,
        client_port,
    };
    if welcome.shard.get() >= welcome.shards.get() {
        return Err(AnswerError::Field("shard"));
    }
    if welcome.oldest > welcome.head {
        return Err(AnswerError::Field("oldest"));
    }
    Ok(welcome)
}

fn parse_lineage(text: &[u8]) -> Option<Lineage> {
    if text == b"-" {
        return Some(Lineage::none());
    }
    let forks = text.split(|&byte| byte == b',').map(|fork| {
        let mut parts = fork.split(|&byte| byte == b':');
        let generation = number(parts.next()?).and_then(Generation::new)?;
        let at = number(parts.next()?).map(Offset::new)?;
        let shards = number(parts.next()?).and_then(ShardCount::new)?;
        Some(Fork { generation, at, shards })
    });
    forks.collect::<Option<Vec<Fork>>>().map(Lineage::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LINEAGE_FORKS_MAX;
    use proptest::prelude::*;

    fn generation(number: u64) -> Generation {
        Generation::new(number).unwrap()
    }

    fn fork(number: u64, at: u64, shards: u16) -> Fork {
        Fork { generation: generation(number), at: Offset::new(at), shards: ShardCount::new(shards).unwrap() }
    }

    fn welcome() -> Welcome {
        Welcome {
            generation: generation(9),
            next: Offset::new(120),
            shard: ShardId::new(2),
            shards: ShardCount::new(4).unwrap(),
            born_empty: false,
            lineage: Lineage::new([fork(7, 90, 4), fork(5, 12, 4)]),
            oldest: Offset::new(100),
            head: Offset::new(130),
            verdict: Verdict::Stream,
            crc: false,
            client_port: Some(6004),
        }
    }

    fn encoded(answer: &Answer) -> Vec<u8> {
        let mut out = Vec::new();
        answer.encode(&mut out);
        out
    }

    fn shown(answer: &Answer) -> String {
        String::from_utf8(encoded(answer)).unwrap()
    }

    #[test]
    fn the_bytes_of_every_form() {
        assert_eq!(shown(&Answer::Offset(Offset::new(120))), "+ACK 120\r\n");
        let seven = Answer::Generation { generation: Some(generation(9)), next: Offset::new(120) };
        assert_eq!(shown(&seven), "+ACK 9 120\r\n");
        let line = "+ACK 9 120 shard=2 n=4 born=data lineage=7:90:4,5:12:4 oldest=100 head=130 judgement=stream crc=0 port=6004\r\n";
        assert_eq!(shown(&Answer::Welcome(Box::new(welcome()))), line);
        let sync = Welcome {
            verdict: Verdict::Sync(SyncReason::TooOld),
            lineage: Lineage::none(),
            born_empty: true,
            crc: true,
            client_port: None,
            ..welcome()
        };
        let line = "+ACK 9 120 shard=2 n=4 born=empty lineage=- oldest=100 head=130 judgement=sync:too_old crc=1 port=0 sum=ceeaab16\r\n";
        assert_eq!(shown(&Answer::Welcome(Box::new(sync))), line);
        let refused = Answer::Refused(Refusal::new(RefuseReason::NotPrimary));
        assert_eq!(shown(&refused), "-ERR not_primary this node is not a primary\r\n");
    }

    #[test]
    fn a_refusal_stays_one_line_within_the_limit() {
        let long = Refusal { name: "x".into(), text: "a\r\nb ä".repeat(2_000) };
        let bytes = encoded(&Answer::Refused(long));
        assert!(bytes.len() <= HANDSHAKE_BYTES_MAX);
        assert_eq!(memchr::memchr(b'\n', &bytes), Some(bytes.len() - 1));
        assert!(matches!(decode_answer(&bytes), Ok(Some((Answer::Refused(_), _)))));
    }

    #[test]
    fn what_a_newer_version_adds_is_skipped() {
        let line =
            b"+ACK 9 120 shiny shard=2 n=4 born=data zstd=yes oldest=100 head=130 judgement=sync:solar_flare\r\n";
        let Ok(Some((Answer::Welcome(read), used))) = decode_answer(line) else { panic!() };
        let expected = Welcome {
            verdict: Verdict::Sync(SyncReason::Other),
            lineage: Lineage::none(),
            client_port: None,
            ..welcome()
        };
        assert_eq!((*read, used), (expected, line.len()));
    }

    #[test]
    fn no_flipped_bit_leaves_an_answer_with_checks() {
        let good = encoded(&Answer::Welcome(Box::new(Welcome { crc: true, ..welcome() })));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode_answer(&bad), Ok(Some(_))), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&str, AnswerError); 9] = [
            ("$5\r\n", AnswerError::Malformed),
            ("+PONG\r\n", AnswerError::Malformed),
            ("+ACK\r\n", AnswerError::Malformed),
            ("+ACK 9\n", AnswerError::Malformed),
            ("+ACK x\r\n", AnswerError::Field("a number")),
            ("+ACK 9 9223372036854775808\r\n", AnswerError::Field("the offset")),
            ("+ACK 0 1 n=1\r\n", AnswerError::Field("generation")),
            ("+ACK 9 1 shard=0 n=0 born=data oldest=1 head=2 judgement=stream\r\n", AnswerError::Field("n")),
            ("+ACK 9 1 shard=0 n=1 born=data oldest=3 head=2 judgement=stream\r\n", AnswerError::Field("oldest")),
        ];
        for (line, expected) in cases {
            assert_eq!(decode_answer(line.as_bytes()), Err(expected), "{line}");
        }
        assert_eq!(decode_answer(&[b'+'; HANDSHAKE_BYTES_MAX]), Err(AnswerError::TooLong));
        assert_eq!(decode_answer(b""), Ok(None));
    }

    fn any_answer() -> impl Strategy<Value = Answer> {
        let offset = || (0..=i64::MAX as u64).prop_map(Offset::new);
        let shards = || (1u16..=1024).prop_map(|n| ShardCount::new(n).unwrap());
        let generations = || (1..=u64::MAX).prop_map(generation);
        let forks =
            prop::collection::vec((generations(), offset(), shards()), 0..=LINEAGE_FORKS_MAX).prop_map(|forks| {
                Lineage::new(forks.into_iter().map(|(generation, at, shards)| Fork { generation, at, shards }))
            });
        let verdict =
            prop_oneof![Just(Verdict::Stream), prop::sample::select(SyncReason::ALL.to_vec()).prop_map(Verdict::Sync),];
        let port = prop::option::of(1u16..);
        let welcome =
            (generations(), [offset(), offset(), offset()], shards(), forks, verdict, any::<(bool, bool)>(), port);
        prop_oneof![
            offset().prop_map(Answer::Offset),
            (any::<u64>(), offset())
                .prop_map(|(generation, next)| Answer::Generation { generation: Generation::new(generation), next }),
            ("[a-z_]{1,20}", "[^\\p{Cc}]{0,80}").prop_map(|(name, text)| Answer::Refused(Refusal { name, text })),
            welcome.prop_map(|(generation, [next, a, b], shards, lineage, verdict, (born_empty, crc), client_port)| {
                Answer::Welcome(Box::new(Welcome {
                    generation,
                    next,
                    shard: ShardId::new(shards.get() - 1),
                    shards,
                    born_empty,
                    lineage,
                    oldest: a.min(b),
                    head: a.max(b),
                    verdict,
                    crc,
                    client_port,
                }))
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_a_prefix_asks_for_more(answer in any_answer()) {
            let mut bytes = encoded(&answer);
            let used = bytes.len();
            prop_assert!(used <= HANDSHAKE_BYTES_MAX);
            for end in 0..used {
                prop_assert_eq!(decode_answer(&bytes[..end]), Ok(None));
            }
            bytes.extend_from_slice(b"*2\r\n:120\r\n");
            prop_assert_eq!(decode_answer(&bytes), Ok(Some((answer, used))));
        }

        #[test]
        fn garbage_never_panics(noise in prop::collection::vec(any::<u8>(), 0..60), at in 0usize..120) {
            let _ = decode_answer(&noise);
            let mut damaged = encoded(&Answer::Welcome(Box::new(welcome())));
            let at = at.min(damaged.len() - 2);
            let end = (at + noise.len()).min(damaged.len() - 2);
            damaged.splice(at..end, noise);
            let _ = decode_answer(&damaged);
        }
    }
}
