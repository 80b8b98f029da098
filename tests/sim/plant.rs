//! Bugs that are planted on purpose: a simulation that does not find them would not find yours.

/// What is wrong in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// Nothing.
    None,
    /// An owner takes a frame for applied and does not apply it.
    SkipFrame,
    /// An owner applies a frame twice.
    ApplyTwice,
    /// A replica acknowledges what it has received.
    AckBeforeApply,
    /// A dump shows one frame more than the offset that it names.
    DumpOneLate,
    /// A batch disappears on its way to its owner.
    LoseBatch,
    /// An owner applies frames to slots that it does not have.
    ApplyNotBegun,
    /// A replica applies what arrives, and looks at its check afterwards.
    CheckAfterApply,
    /// Effects on a slot that is being loaded are left out.
    SkipStaging,
    /// A FLUSHALL leaves the slot that is being loaded as it is.
    KeepStaging,
    /// Frames go between the pieces of a list.
    ListAsOfNow,
    /// A digest is of one frame more than the offset that it names.
    DigestOneLate,
    /// A replica does not look at digests.
    IgnoreDigests,
    /// A replica's digest in steps is of its last moment, not of the position that it is compared at.
    DigestOfEnd,
    /// A replica goes on as before where its primary has another number of shards.
    IgnoreReshape,
    /// A replica that follows anew shows nothing of what it had.
    ForgetKept,
}

impl Plant {
    pub const BUGS: [Plant; 15] = [
        Plant::SkipFrame,
        Plant::ApplyTwice,
        Plant::AckBeforeApply,
        Plant::DumpOneLate,
        Plant::LoseBatch,
        Plant::ApplyNotBegun,
        Plant::CheckAfterApply,
        Plant::SkipStaging,
        Plant::KeepStaging,
        Plant::ListAsOfNow,
        Plant::DigestOneLate,
        Plant::IgnoreDigests,
        Plant::DigestOfEnd,
        Plant::IgnoreReshape,
        Plant::ForgetKept,
    ];
}
