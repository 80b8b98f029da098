//! What a stream carries besides frames: dump items and control lines, to peers that asked for them.
//!
//! None takes an offset. An item that names a position `H` stands exactly where the receiver's next offset is `H`.
//! A line whose word is not known here is skipped, so that a newer version of ours can add lines without payload.

use bytes::Bytes;

use super::WireError;
use super::check::{CHECK_LINE_BYTES_MAX, Check};
use super::scan::shown;
use crate::id::{Digest, Generation, HashSlot, Offset};
use crate::limits;

/// One item of the stream. `P` is its payload: borrowed from a decoder, or owned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<P> {
    /// `+SYNC gen H lasttx`: forget what is done; the stream goes on at `at` in `generation`.
    Sync {
        /// The history that follows.
        generation: Generation,
        /// Where it goes on.
        at: Offset,
        /// The highest transaction recorded on this stream before `at`.
        last_tx: u64,
    },
    /// `+SLOTS first count H len` + payload: these consecutive slots, whole; those without a section are empty.
    Slots {
        /// The first slot.
        first: HashSlot,
        /// How many there are, at least 1.
        count: u16,
        /// The position that they show.
        at: Offset,
        /// Sections `slot u16, length u32, digest u64, records`, little-endian; see [`sections`].
        payload: P,
    },
    /// `+SLOTBEGIN slot H`: the dump of one larger slot begins.
    SlotBegin {
        /// The slot.
        slot: HashSlot,
        /// The position.
        at: Offset,
    },
    /// `+PIECE slot H len` + records of some of its keys, as of `H`.
    Piece {
        /// The slot.
        slot: HashSlot,
        /// The position.
        at: Offset,
        /// Records.
        payload: P,
    },
    /// `+SLOTEND slot H digest`: the slot is whole now.
    SlotEnd {
        /// The slot.
        slot: HashSlot,
        /// The position.
        at: Offset,
        /// The digest of the whole slot, unless it was too large to take at once (`-`).
        digest: Option<Digest>,
    },
    /// `+SLOTDROP slot`: forget what has been loaded of it; it will come again.
    SlotDrop {
        /// The slot.
        slot: HashSlot,
    },
    /// `+SYNCEND H`: no slot is missing any more.
    SyncEnd {
        /// The position.
        at: Offset,
    },
    /// `+DIGEST slot H digest`: the digest of a slot at `H`, to be held against the receiver's; or `-`, for the receiver to note
    /// its own.
    Digest {
        /// The slot.
        slot: HashSlot,
        /// The position.
        at: Offset,
        /// Its digest there, if it is told.
        digest: Option<Digest>,
    },
    /// `+GETACK`: acknowledge at once.
    GetAck,
    /// `+PING generation next`: the sender is alive, and this is the end of its stream.
    Ping {
        /// Its history.
        generation: Generation,
        /// The next offset that it will record.
        next: Offset,
    },
}

/// An encoded item, its check line behind it: the same bytes for every link.
#[derive(Clone, Debug)]
pub struct Sealed {
    bytes: Bytes,
    item_len: usize,
}

impl Sealed {
    /// What a link sends, with checks or without.
    ///
    /// # Panics
    /// With checks, if it was sealed without.
    pub fn of_link(&self, checks: bool) -> Bytes {
        assert!(!checks || self.item_len < self.bytes.len(), "an item for a link with checks was sealed without");
        if checks { self.bytes.clone() } else { self.bytes.slice(..self.item_len) }
    }
}

impl<P: AsRef<[u8]>> Item<P> {
    /// Encodes the item.
    pub fn encode(&self) -> Bytes {
        Bytes::from(self.encode_with_room(0))
    }

    /// Encodes the item once for all links that send it where it stands, `from`; with its check line where some of them have checks.
    pub fn seal(&self, from: Offset, checks: bool) -> Sealed {
        let mut bytes = self.encode_with_room(if checks { CHECK_LINE_BYTES_MAX } else { 0 });
        let item_len = bytes.len();
        if checks {
            Check::of(from, &bytes).encode_to(&mut bytes);
        }
        Sealed { bytes: Bytes::from(bytes), item_len }
    }

    fn encode_with_room(&self, room: usize) -> Vec<u8> {
        let (line, payload): (String, &[u8]) = match self {
            Item::Sync { generation, at, last_tx } => (format!("+SYNC {generation} {at} {last_tx}\r\n"), b""),
            Item::Slots { first, count, at, payload } => {
                let payload = payload.as_ref();
                (format!("+SLOTS {first} {count} {at} {}\r\n", payload.len()), payload)
            }
            Item::SlotBegin { slot, at } => (format!("+SLOTBEGIN {slot} {at}\r\n"), b""),
            Item::Piece { slot, at, payload } => {
                let payload = payload.as_ref();
                (format!("+PIECE {slot} {at} {}\r\n", payload.len()), payload)
            }
            Item::SlotEnd { slot, at, digest } => (format!("+SLOTEND {slot} {at} {}\r\n", digest_field(*digest)), b""),
            Item::SlotDrop { slot } => (format!("+SLOTDROP {slot}\r\n"), b""),
            Item::SyncEnd { at } => (format!("+SYNCEND {at}\r\n"), b""),
            Item::Digest { slot, at, digest } => (format!("+DIGEST {slot} {at} {}\r\n", digest_field(*digest)), b""),
            Item::GetAck => ("+GETACK\r\n".into(), b""),
            Item::Ping { generation, next } => (format!("+PING {generation} {next}\r\n"), b""),
        };
        let mut out = Vec::with_capacity(line.len() + payload.len() + room);
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(payload);
        out
    }
}

impl<P> Item<P> {
    /// The position at which the item must stand, if it names one.
    pub fn at(&self) -> Option<Offset> {
        match self {
            // `+SYNC` moves the position instead of standing at it.
            Item::Sync { .. } | Item::SlotDrop { .. } | Item::GetAck | Item::Ping { .. } => None,
            Item::Slots { at, .. }
            | Item::SlotBegin { at, .. }
            | Item::Piece { at, .. }
            | Item::SlotEnd { at, .. }
            | Item::SyncEnd { at }
            | Item::Digest { at, .. } => Some(*at),
        }
    }

    /// The same item with its payload borrowed.
    pub fn as_ref(&self) -> Item<&P> {
        match self {
            Item::Sync { generation, at, last_tx } => {
                Item::Sync { generation: *generation, at: *at, last_tx: *last_tx }
            }
            Item::Slots { first, count, at, payload } => Item::Slots { first: *first, count: *count, at: *at, payload },
            Item::SlotBegin { slot, at } => Item::SlotBegin { slot: *slot, at: *at },
            Item::Piece { slot, at, payload } => Item::Piece { slot: *slot, at: *at, payload },
            Item::SlotEnd { slot, at, digest } => Item::SlotEnd { slot: *slot, at: *at, digest: *digest },
            Item::SlotDrop { slot } => Item::SlotDrop { slot: *slot },
            Item::SyncEnd { at } => Item::SyncEnd { at: *at },
            Item::Digest { slot, at, digest } => Item::Digest { slot: *slot, at: *at, digest: *digest },
            Item::GetAck => Item::GetAck,
            Item::Ping { generation, next } => Item::Ping { generation: *generation, next: *next },
        }
    }

    /// The same item with its payload turned into another form.
    pub fn map<Q>(self, f: impl FnOnce(P) -> Q) -> Item<Q> {
        match self {
            Item::Sync { generation, at, last_tx } => Item::Sync { generation, at, last_tx },
            Item::Slots { first, count, at, payload } => Item::Slots { first, count, at, payload: f(payload) },
            Item::SlotBegin { slot, at } => Item::SlotBegin { slot, at },
            Item::Piece { slot, at, payload } => Item::Piece { slot, at, payload: f(payload) },
            Item::SlotEnd { slot, at, digest } => Item::SlotEnd { slot, at, digest },
            Item::SlotDrop { slot } => Item::SlotDrop { slot },
            Item::SyncEnd { at } => Item::SyncEnd { at },
            Item::Digest { slot, at, digest } => Item::Digest { slot, at, digest },
            Item::GetAck => Item::GetAck,
            Item::Ping { generation, next } => Item::Ping { generation, next },
        }
    }
}

/// A line of the stream, decoded: what it is and how many bytes of payload follow it.
pub(super) enum Line {
    /// `+GROUP n`: the next `n` frames are applied all or none.
    Group(u32),
    /// An item; its payload of this many bytes follows.
    Item(Item<usize>),
    /// A word that is not known here.
    Unknown,
}

/// Decodes a line that began with `+`, given without the `+` and the line end.
pub(super) fn parse_line(line: &[u8]) -> Result<Line, WireError> {
    let bad = || WireError::Line(shown(line));
    let text = std::str::from_utf8(line).map_err(|_| bad())?;
    let mut fields = text.split(' ');
    let word = fields.next().unwrap_or_default();
    let fields: Vec<&str> = fields.collect();
    let slot = |i: usize| fields.get(i).and_then(|f| f.parse().ok()).and_then(HashSlot::new).ok_or_else(bad);
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).ok_or_else(bad);
    let offset =
        |i: usize| number(i).and_then(|n| if n <= Offset::MAX.get() { Ok(Offset::new(n)) } else { Err(bad()) });
    let generation = |i: usize| number(i).and_then(|n| Generation::new(n).ok_or_else(bad));
    let payload = |i: usize, limit: usize| {
        let len = number(i)?;
        if len > limit as u64 {
            return Err(WireError::TooLarge { what: "a dump item", announced: len, limit: limit as u64 });
        }
        Ok(len as usize)
    };
    let digest = |i: usize| match fields.get(i) {
        Some(&"-") => Ok(None),
        Some(hex) if hex.len() == 16 => u64::from_str_radix(hex, 16).map(|d| Some(Digest(d))).map_err(|_| bad()),
        _ => Err(bad()),
    };
    Ok(match word {
        "GROUP" => {
            let frames = number(0)?;
            if frames == 0 {
                return Err(bad());
            }
            if frames > limits::GROUP_FRAMES_MAX as u64 {
                return Err(WireError::TooLarge {
                    what: "a group",
                    announced: frames,
                    limit: limits::GROUP_FRAMES_MAX as u64,
                });
            }
            Line::Group(frames as u32)
        }
        "SYNC" => Line::Item(Item::Sync { generation: generation(0)?, at: offset(1)?, last_tx: number(2)? }),
        "SLOTS" => {
            let (first, count) = (slot(0)?, number(1)?);
            if count == 0 || first.index() as u64 + count > crate::id::HASH_SLOTS as u64 {
                return Err(bad());
            }
            Line::Item(Item::Slots {
                first,
                count: count as u16,
                at: offset(2)?,
                payload: payload(3, limits::DUMP_ITEM_BYTES_MAX)?,
            })
        }
        "SLOTBEGIN" => Line::Item(Item::SlotBegin { slot: slot(0)?, at: offset(1)? }),
        "PIECE" => Line::Item(Item::Piece {
            slot: slot(0)?,
            at: offset(1)?,
            payload: payload(2, limits::DUMP_ITEM_BYTES_MAX)?,
        }),
        "SLOTEND" => Line::Item(Item::SlotEnd { slot: slot(0)?, at: offset(1)?, digest: digest(2)? }),
        "SLOTDROP" => Line::Item(Item::SlotDrop { slot: slot(0)? }),
        "SYNCEND" => Line::Item(Item::SyncEnd { at: offset(0)? }),
        "DIGEST" => Line::Item(Item::Digest { slot: slot(0)?, at: offset(1)?, digest: digest(2)? }),
        "GETACK" => Line::Item(Item::GetAck),
        "PING" => Line::Item(Item::Ping { generation: generation(0)?, next: offset(1)? }),
        _ => Line::Unknown,
    })
}

/// One slot of a `+SLOTS` payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section<'a> {
    /// The slot.
    pub slot: HashSlot,
    /// Its digest.
    pub digest: Digest,
    /// All its records.
    pub records: &'a [u8],
    /// The whole section, for carrying it elsewhere.
    pub encoded: &'a [u8],
}

/// The sections of a `+SLOTS` payload.
///
/// # Errors
/// In place of a section, if the payload is cut short, a slot is not in `first .. first + count`, or slots do not rise.
pub fn sections(first: HashSlot, count: u16, payload: &[u8]) -> impl Iterator<Item = Result<Section<'_>, WireError>> {
    const BAD: WireError = WireError::Frame("a section of +SLOTS is malformed");
    let mut rest = payload;
    let mut least = first.get();
    let end = first.get() + count;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let section = (|| {
            let (head, tail) = rest.split_first_chunk::<SECTION_HEAD_BYTES>()?;
            let slot = u16::from_le_bytes([head[0], head[1]]);
            let len = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
            let digest = u64::from_le_bytes(*head.last_chunk()?);
            let (records, _) = tail.split_at_checked(len)?;
            if !(least..end).contains(&slot) {
                return None;
            }
            least = slot + 1;
            let (encoded, tail) = rest.split_at(SECTION_HEAD_BYTES + len);
            rest = tail;
            Some(Section { slot: HashSlot::new(slot)?, digest: Digest(digest), records, encoded })
        })();
        if section.is_none() {
            rest = b"";
        }
        Some(section.ok_or(BAD))
    })
}

/// Bytes before the records of a section.
pub const SECTION_HEAD_BYTES: usize = 2 + 4 + 8;

/// Completes the section whose head was reserved at `head` in `out`, its records following.
pub fn seal_section(slot: HashSlot, digest: Digest, head: usize, out: &mut [u8]) {
    let len = (out.len() - head - SECTION_HEAD_BYTES) as u32;
    let (at_len, at_digest) = (head + 2, head + 6);
    out[head..at_len].copy_from_slice(&slot.get().to_le_bytes());
    out[at_len..at_digest].copy_from_slice(&len.to_le_bytes());
    out[at_digest..at_digest + 8].copy_from_slice(&digest.0.to_le_bytes());
}

fn digest_field(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "-".into(), |d| format!("{:016x}", d.0))
}
