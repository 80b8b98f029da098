//! What happened in a run, counted: a simulation that never met a fault proves nothing about it.

use std::fmt;

use crate::matrix::Matrix;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident $floor:literal,)*) => {
        /// Something that a run is there to meet.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Event { $($(#[$doc])* $name,)* }

        impl Event {
            pub const ALL: &[Event] = &[$(Event::$name,)*];

            /// How often it must happen at least, per 100 seeds.
            fn floor(self) -> u64 {
                match self { $(Event::$name => $floor,)* }
            }
        }
    };
}

events! {
    /// A write was recorded.
    Write 5_000,
    /// A write was recorded as a group of frames.
    Group 200,
    /// … of a transaction.
    Transaction 200,
    /// A command found its key expired, and the DEL was recorded.
    ExpiredOnPrimary 10,
    /// … and where no command came, the primary found that a key had expired.
    ExpiredUnasked 50,
    /// A key went since there was no memory left.
    Evicted 50,
    /// A command was refused since there was no memory left.
    OutOfMemory 50,
    /// A client that waited for a key was served.
    Served 20,
    /// A stream was synced from nothing or anew.
    Sync 100,
    /// A write was recorded while a stream was being synced.
    WriteDuringSync 500,
    /// A stream went on where it was cut, with all slots done.
    Resume 50,
    /// A stream went on with only some of its slots done.
    ResumeMidSync 10,
    /// A replica came back below the window.
    WindowLost 5,
    /// A link lost its place in the window while it was connected.
    CursorLost 2,
    /// A link was cut.
    Cut 200,
    /// … with the bytes of a frame delivered in part.
    CutInFrame 20,
    /// … with those of a dump item delivered in part.
    CutInDump 5,
    /// … while items waited in rings.
    CutWithRingsFull 10,
    /// The request of an earlier dial arrived after that of a later one.
    OlderDial 0,
    /// The primary started anew, without data.
    PrimaryRestart 10,
    /// … and with another number of shards.
    PrimaryReshaped 1,
    /// A replica started anew, without data.
    ReplicaRestart 20,
    /// … and with another number of shards.
    ReplicaReshaped 5,
    /// A replica began to follow a primary that has another number of shards than it had.
    FollowedAnew 1,
    /// … and shows its clients what it had, until a stream's sync begins.
    KeptAnew 1,
    /// A replica kept its data from a primary that had lost its own.
    GuardRefused 5,
    /// A replica was told to follow although it had something to lose.
    GuardOverruled 5,
    /// A FLUSHALL was recorded.
    FlushAll 50,
    /// … while a stream was being synced.
    FlushAllDuringSync 10,
    /// A ring had no room.
    RingFull 50,
    /// A link had no room.
    LinkFull 20,
    /// A run had other shard counts on the two sides.
    OtherShardCounts 20,
    /// A run had the same shard count on the two sides.
    SameShardCounts 5,
    /// A slot came in pieces.
    Begun 50,
    /// A piece went on with a string, a hash, a set or a sorted set.
    ValuePiece 1_000,
    /// A piece went on with a list.
    ListPiece 200,
    /// A replica was told to forget the slot that it loads, since it was too slow for the walk.
    Dropped 1,
    /// A replica said SYNCED.
    Synced 100,
    /// A bit flipped on its way.
    BitFlipped 50,
    /// A replica closed a link on which a bit had flipped.
    FlipFound 40,
    /// … since nothing that it can understand came any more.
    FlipSilenced 0,
    /// A piece of a slot was damaged on its way.
    Damaged 10,
    /// A replica asked for a slot again.
    Asked 10,
    /// A key of a replica was spoiled.
    Spoiled 80,
    /// A slot that had been spoiled was as it was recorded again.
    Repaired 50,
    /// A replica asked for a slot that it has whole.
    Repair 20,
    /// A replica took a digest in steps.
    DigestInSteps 50,
    /// An acknowledgement was counted by the primary.
    CountedAck 200,
    /// A client of a replica was shown whether a key is there.
    Shown 500,
    /// … and was not shown a key that has expired by the replica's clock.
    HiddenOnReplica 5,
    /// A client of a replica was told that a slot is being loaded.
    ToldLoading 50,
}

/// How often each event happened.
#[derive(Clone)]
pub struct Events {
    counts: Vec<u64>,
    /// Commands on several keys against the states of their slots.
    pub matrix: Matrix,
}

impl Events {
    pub fn new() -> Events {
        Events { counts: vec![0; Event::ALL.len()], matrix: Matrix::new() }
    }

    pub fn count(&mut self, event: Event) {
        self.add(event, 1);
    }

    pub fn add(&mut self, event: Event, times: u64) {
        self.counts[event as usize] += times;
    }

    pub fn get(&self, event: Event) -> u64 {
        self.counts[event as usize]
    }

    pub fn merge(&mut self, other: &Events) {
        for &event in Event::ALL {
            self.add(event, other.get(event));
        }
        self.matrix.merge(&other.matrix);
    }

    /// The events that happened too seldom in `seeds` runs.
    pub fn under_floor(&self, seeds: u64) -> Vec<Event> {
        Event::ALL.iter().copied().filter(|event| self.get(*event) * 100 < event.floor() * seeds).collect()
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &event in Event::ALL {
            writeln!(f, "{:>10}  {event:?}", self.get(event))?;
        }
        write!(f, "{}", self.matrix)
    }
}
