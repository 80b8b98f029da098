//! Whether a replica goes on in the stream, needs a sync, or is refused, and why: a pure function.
//!
//! "Why did it full-sync?" is what every operator asks: each answer has a reason, with a name for `INFO` and a text for people.
//!
//! ```text
//! claim         takes items                                        frames only
//! nothing       sync                                               from 0, if that is all there ever was; else refused
//! bare offset   sync                                               in the window, else refused
//! generation    own: in the window        │ of the lineage: in the window and not beyond the fork │ else sync, or refused
//! ```

use std::fmt;

use super::request::{Claim, Form, Hello, Purpose};
use super::{Fork, Lineage};
use crate::id::{Generation, Offset, ShardCount, ShardId};

/// What a primary's shard says of its own history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// The shard, whose number the stream has.
    pub shard: ShardId,
    /// How many shards the node has: the placement.
    pub shards: ShardCount,
    /// The history's identity.
    pub generation: Generation,
    /// Whether it began without data.
    pub born_empty: bool,
    /// What it continues.
    pub lineage: Lineage,
    /// The first offset that is still in the window. `oldest <= head`.
    pub oldest: Offset,
    /// The next offset to be recorded.
    pub head: Offset,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Frames from `next` on; the claim's slots are good.
    Stream {
        /// The first offset to be sent.
        next: Offset,
        /// Whether the replica leaves its generation, and takes over this history's generation and lineage.
        adopt: bool,
    },
    /// What it has is worth nothing here: all slots of the stream are sent.
    Sync(SyncReason),
    /// It gets nothing.
    Refuse(RefuseReason),
}

/// Why a replica cannot go on where it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SyncReason {
    /// It has nothing.
    Empty,
    /// It does not say of which generation its offset is.
    NoGeneration,
    /// Its generation is not part of this history.
    UnknownGeneration,
    /// It knew another number of shards: its streams held other slots.
    OtherShardCount,
    /// What it wants is no longer in the window.
    TooOld,
    /// It has more of this generation than there is.
    Ahead,
    /// It went on in an earlier generation after this history left it.
    BeyondFork,
    /// A reason that a newer version has.
    Other,
}

/// Why a replica gets nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RefuseReason {
    /// It needs a sync, and cannot take one on this link.
    NeedsSync(SyncReason),
    /// The stream is recorded by another shard of this node, or by none.
    WrongStream,
    /// Fetching a tail is not to be had here.
    GatherUnsupported,
    /// A verb that is kept free.
    VerbUnsupported,
    /// The request is not in a known form.
    Malformed,
    /// This node is no primary.
    NotPrimary,
    /// A newer link of the same process is there.
    OlderDial,
    /// Too many replicas are remembered.
    TooManyReplicas,
    /// It does not say this node's password.
    NoAuth,
}

/// What becomes of `hello` at a shard with this `history`.
pub fn judge(hello: &Hello, history: &History) -> Judgement {
    debug_assert!(history.oldest <= history.head);
    if let Some(options) = hello.options() {
        if options.stream.is_some_and(|stream| stream.shard != history.shard) {
            return Judgement::Refuse(RefuseReason::WrongStream);
        }
        if options.purpose == Purpose::Gather {
            return Judgement::Refuse(RefuseReason::GatherUnsupported);
        }
    }
    let judged = match hello.claim {
        Claim::Empty if hello.takes_items() => Err(SyncReason::Empty),
        Claim::Empty if history.born_empty && history.oldest == Offset::ZERO => Ok((Offset::ZERO, false)),
        Claim::Empty => Err(SyncReason::Empty),
        // kevy 7.0 says 0 where it does not know: its offset is of any history.
        Claim::Bare(_) if hello.takes_items() || hello.form == Form::Generation => Err(SyncReason::NoGeneration),
        Claim::Bare(next) => in_window(next, history).map(|next| (next, false)),
        Claim::At { generation, next, .. } => judge_position(hello, generation, next, history),
    };
    match judged {
        Ok((next, adopt)) => Judgement::Stream { next, adopt },
        Err(reason) if hello.takes_items() => Judgement::Sync(reason),
        Err(reason) => Judgement::Refuse(RefuseReason::NeedsSync(reason)),
    }
}

/// From where a replica with a position goes on, and whether it takes this history over.
fn judge_position(
    hello: &Hello,
    generation: Generation,
    next: Offset,
    history: &History,
) -> Result<(Offset, bool), SyncReason> {
    // A dump is meant for one placement. Who takes frames only, and does not say the placement, has none.
    match hello.options().map(|options| options.stream.and_then(|stream| stream.of)) {
        Some(Some(of)) if of != history.shards => return Err(SyncReason::OtherShardCount),
        Some(None) if hello.takes_items() => return Err(SyncReason::OtherShardCount),
        _ => {}
    }
    if generation == history.generation {
        return in_window(next, history).map(|next| (next, false));
    }
    match history.lineage.fork_of(generation) {
        // kevy 7.0 expects a snapshot wherever its generation is not told back to it.
        _ if hello.form == Form::Generation => Err(SyncReason::UnknownGeneration),
        None => Err(SyncReason::UnknownGeneration),
        Some(Fork { shards, .. }) if *shards != history.shards => Err(SyncReason::OtherShardCount),
        Some(Fork { at, .. }) if next > *at => Err(SyncReason::BeyondFork),
        Some(_) => in_window(next, history).map(|next| (next, true)),
    }
}

fn in_window(next: Offset, history: &History) -> Result<Offset, SyncReason> {
    if next < history.oldest {
        Err(SyncReason::TooOld)
    } else if next > history.head {
        Err(SyncReason::Ahead)
    } else {
        Ok(next)
    }
}

impl SyncReason {
    /// Every reason that this version gives.
    pub const ALL: [SyncReason; 7] = [
        SyncReason::Empty,
        SyncReason::NoGeneration,
        SyncReason::UnknownGeneration,
        SyncReason::OtherShardCount,
        SyncReason::TooOld,
        SyncReason::Ahead,
        SyncReason::BeyondFork,
    ];

    /// Its stable name, in `INFO` (`sync_full_reason_<name>`) and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            SyncReason::Empty => "empty",
            SyncReason::NoGeneration => "no_generation",
            SyncReason::UnknownGeneration => "unknown_generation",
            SyncReason::OtherShardCount => "shard_count",
            SyncReason::TooOld => "too_old",
            SyncReason::Ahead => "ahead",
            SyncReason::BeyondFork => "beyond_fork",
            SyncReason::Other => "other",
        }
    }

    /// The reason with this name; [`Other`](SyncReason::Other) where a newer version has it.
    pub fn from_name(name: &[u8]) -> SyncReason {
        let known = SyncReason::ALL.into_iter().find(|reason| reason.name().as_bytes() == name);
        known.unwrap_or(SyncReason::Other)
    }
}

impl fmt::Display for SyncReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SyncReason::Empty => "the replica has no data of this stream",
            SyncReason::NoGeneration => "the replica does not say which generation its offset belongs to",
            SyncReason::UnknownGeneration => "the replica's generation is not part of the primary's history",
            SyncReason::OtherShardCount => "the primary's number of shards is not the one that the replica knew",
            SyncReason::TooOld => "what the replica wants is no longer in the primary's backlog",
            SyncReason::Ahead => "the replica has more of this generation than the primary",
            SyncReason::BeyondFork => "the replica went on in an earlier generation after the primary had left it",
            SyncReason::Other => "the primary has a reason that this version does not know",
        })
    }
}

impl RefuseReason {
    /// Its stable name, first in the error line.
    pub const fn name(self) -> &'static str {
        match self {
            RefuseReason::NeedsSync(_) => "needs_sync",
            RefuseReason::WrongStream => "wrong_stream",
            RefuseReason::GatherUnsupported => "gather_unsupported",
            RefuseReason::VerbUnsupported => "verb_unsupported",
            RefuseReason::Malformed => "malformed",
            RefuseReason::NotPrimary => "not_primary",
            RefuseReason::OlderDial => "older_dial",
            RefuseReason::TooManyReplicas => "too_many_replicas",
            RefuseReason::NoAuth => "noauth",
        }
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefuseReason::NeedsSync(reason) => {
                write!(f, "a sync is needed, which this link cannot carry: {reason}")
            }
            RefuseReason::WrongStream => f.write_str("this port streams another shard"),
            RefuseReason::GatherUnsupported => f.write_str("gathering a tail is not supported"),
            RefuseReason::VerbUnsupported => f.write_str("this verb is not supported"),
            RefuseReason::Malformed => f.write_str("the request is not in a known form"),
            RefuseReason::NotPrimary => f.write_str("this node is not a primary"),
            RefuseReason::OlderDial => f.write_str("a newer link of this process is already here"),
            RefuseReason::TooManyReplicas => f.write_str("too many replica ids are remembered"),
            RefuseReason::NoAuth => f.write_str("the replica must say this node's password: set masterauth there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Done, Flags, Options, ReplicaId, StreamOf};
    use super::*;
    use Judgement::{Refuse, Stream, Sync};
    use RefuseReason::NeedsSync;
    use SyncReason::*;

    const OWN: u64 = 9;
    const EARLIER: u64 = 7;
    const EARLIER_OTHER_SHARDS: u64 = 6;
    const FOREIGN: u64 = 5;

    fn generation(number: u64) -> Generation {
        Generation::new(number).unwrap()
    }

    /// The window [100, 200) of generation 9 on 2 shards, which left 7 at 150.
    fn history() -> History {
        let fork = |number, shards| Fork {
            generation: generation(number),
            at: Offset::new(150),
            shards: ShardCount::new(shards).unwrap(),
        };
        History {
            shard: ShardId::new(1),
            shards: ShardCount::new(2).unwrap(),
            generation: generation(OWN),
            born_empty: false,
            lineage: Lineage::new([fork(EARLIER, 2), fork(EARLIER_OTHER_SHARDS, 3)]),
            oldest: Offset::new(100),
            head: Offset::new(200),
        }
    }

    fn at(number: u64, next: u64) -> Claim {
        Claim::At { generation: generation(number), next: Offset::new(next), done: Done::All }
    }

    fn bare(next: u64) -> Claim {
        Claim::Bare(Offset::new(next))
    }

    fn asks(claim: Claim, form: Form) -> Hello {
        Hello { id: ReplicaId::new("r").unwrap(), claim, form }
    }

    fn ours(of: Option<u16>, items: bool) -> Form {
        let of = of.map(|of| ShardCount::new(of).unwrap());
        let options = Options::new(StreamOf { shard: ShardId::new(1), of });
        Form::Ours(Options { flags: Flags { items, ..Flags::default() }, ..options })
    }

    fn stream(next: u64) -> Judgement {
        Stream { next: Offset::new(next), adopt: false }
    }

    fn adopt(next: u64) -> Judgement {
        Stream { next: Offset::new(next), adopt: true }
    }

    #[test]
    fn peers_that_take_items() {
        let table = [
            (Claim::Empty, Sync(Empty)),
            (bare(150), Sync(NoGeneration)),
            (at(OWN, 99), Sync(TooOld)),
            (at(OWN, 100), stream(100)),
            (at(OWN, 200), stream(200)),
            (at(OWN, 201), Sync(Ahead)),
            (at(EARLIER, 99), Sync(TooOld)),
            (at(EARLIER, 100), adopt(100)),
            (at(EARLIER, 150), adopt(150)),
            (at(EARLIER, 151), Sync(BeyondFork)),
            (at(EARLIER_OTHER_SHARDS, 120), Sync(OtherShardCount)),
            (at(FOREIGN, 150), Sync(UnknownGeneration)),
        ];
        for (claim, expected) in table {
            assert_eq!(judge(&asks(claim.clone(), ours(Some(2), true)), &history()), expected, "{claim:?}");
        }
        for of in [None, Some(3)] {
            assert_eq!(judge(&asks(at(OWN, 150), ours(of, true)), &history()), Sync(OtherShardCount), "{of:?}");
            assert_eq!(judge(&asks(Claim::Empty, ours(of, true)), &history()), Sync(Empty), "{of:?}");
        }
        let born_empty = History { born_empty: true, oldest: Offset::ZERO, ..history() };
        assert_eq!(
            judge(&asks(Claim::Empty, ours(None, true)), &born_empty),
            Sync(Empty),
            "it never takes the shortcut"
        );
    }

    #[test]
    fn peers_that_take_frames_only() {
        let refused = |reason| Refuse(NeedsSync(reason));
        // claim, then what our own form without items, 7.0's form and 1.19's get
        let table = [
            (Claim::Empty, refused(Empty), refused(Empty), refused(Empty)),
            (bare(99), refused(TooOld), refused(NoGeneration), refused(TooOld)),
            (bare(100), stream(100), refused(NoGeneration), stream(100)),
            (bare(200), stream(200), refused(NoGeneration), stream(200)),
            (bare(201), refused(Ahead), refused(NoGeneration), refused(Ahead)),
        ];
        for (claim, framed, seven, one) in table {
            for (form, expected) in [(ours(None, false), framed), (Form::Generation, seven), (Form::Offset, one)] {
                assert_eq!(judge(&asks(claim.clone(), form.clone()), &history()), expected, "{claim:?} {form:?}");
            }
        }
        let table = [
            (at(OWN, 99), refused(TooOld), refused(TooOld)),
            (at(OWN, 100), stream(100), stream(100)),
            (at(OWN, 200), stream(200), stream(200)),
            (at(OWN, 201), refused(Ahead), refused(Ahead)),
            (at(EARLIER, 150), adopt(150), refused(UnknownGeneration)),
            (at(EARLIER, 151), refused(BeyondFork), refused(UnknownGeneration)),
            (at(EARLIER_OTHER_SHARDS, 120), refused(OtherShardCount), refused(UnknownGeneration)),
            (at(FOREIGN, 150), refused(UnknownGeneration), refused(UnknownGeneration)),
        ];
        for (claim, framed, seven) in table {
            for (form, expected) in
                [(ours(None, false), framed), (ours(Some(2), false), framed), (Form::Generation, seven)]
            {
                assert_eq!(judge(&asks(claim.clone(), form.clone()), &history()), expected, "{claim:?} {form:?}");
            }
        }
        assert_eq!(judge(&asks(at(OWN, 150), ours(Some(3), false)), &history()), refused(OtherShardCount));
    }

    #[test]
    fn from_nothing_frames_suffice_only_where_the_history_is_all_there() {
        for (born_empty, oldest, expected) in
            [(true, 0, stream(0)), (true, 1, Refuse(NeedsSync(Empty))), (false, 0, Refuse(NeedsSync(Empty)))]
        {
            let history = History { born_empty, oldest: Offset::new(oldest), ..history() };
            for form in [ours(None, false), Form::Generation, Form::Offset] {
                assert_eq!(judge(&asks(Claim::Empty, form), &history), expected);
            }
        }
    }

    #[test]
    fn a_foreign_stream_and_a_gather_are_refused() {
        let history = History { shard: ShardId::new(0), ..history() };
        assert_eq!(judge(&asks(at(OWN, 150), ours(Some(2), true)), &history), Refuse(RefuseReason::WrongStream));
        let Form::Ours(options) = ours(Some(2), true) else { unreachable!() };
        let gather = Form::Ours(Options {
            stream: Some(StreamOf { shard: ShardId::new(0), of: None }),
            purpose: Purpose::Gather,
            ..options
        });
        assert_eq!(judge(&asks(at(OWN, 150), gather), &history), Refuse(RefuseReason::GatherUnsupported));
    }

    #[test]
    fn names_are_stable_and_read_back() {
        let names: Vec<_> = SyncReason::ALL.iter().map(|reason| reason.name()).collect();
        let expected =
            ["empty", "no_generation", "unknown_generation", "shard_count", "too_old", "ahead", "beyond_fork"];
        assert_eq!(names, expected);
        for reason in SyncReason::ALL {
            assert_eq!(SyncReason::from_name(reason.name().as_bytes()), reason);
        }
        assert_eq!(SyncReason::from_name(b"solar_flare"), Other);
    }
}
