//! Looks at what is sent or arrives on a link, to know what a cut hits and where slots stand. Judges nothing.

use kevy_replicate::handshake::{Answer, decode_answer};
use kevy_replicate::id::Offset;
use kevy_replicate::snapshot::record::{Head, Kind, Reader};
use kevy_replicate::wire::{Decoder, Frames, Item, Message};

use crate::places::Places;

pub struct Watch {
    /// Whether the answer of the handshake has arrived.
    answered: bool,
    /// What of it has arrived.
    answer: Vec<u8>,
    decoder: Decoder,
    /// Between a slot's begin and its end.
    loading: bool,
    /// Between the answer that promises a sync, or the first dump item, and the end of the sync.
    pub syncing: bool,
    /// How many slots began to come in pieces.
    pub begun: u64,
    /// How many pieces went on with a list, and how many with another value.
    pub value_pieces: [u64; 2],
    /// How often the slot that was loading was dropped.
    pub dropped: u64,
}

impl Watch {
    pub fn new() -> Watch {
        Watch {
            answered: false,
            answer: Vec::new(),
            decoder: Decoder::new(),
            loading: false,
            syncing: false,
            begun: 0,
            value_pieces: [0, 0],
            dropped: 0,
        }
    }

    /// Bytes go by; what they say of slots is noted in `places`, and each frame is shown with how slots stand before it.
    pub fn see(&mut self, bytes: &[u8], places: &mut Places, mut on_frame: impl FnMut(&Places, Offset)) {
        if self.answered {
            self.decoder.recv(bytes);
        } else {
            self.answer.extend_from_slice(bytes);
            let Ok(Some((answer, end))) = decode_answer(&self.answer) else { return };
            self.answered = true;
            if let Answer::Welcome(welcome) = answer
                && welcome.crc
            {
                self.decoder.expect_checks(welcome.next);
            }
            self.decoder.recv(&self.answer[end..]);
        }
        // What is malformed, the session finds.
        while let Ok(Some(message)) = self.decoder.next() {
            let mut each = |frames: Frames<'_>| frames.iter().for_each(|frame| on_frame(places, frame.offset));
            match message {
                Message::Frames(frames) => each(frames),
                Message::Group(frames) => each(frames),
                Message::Item(item) => {
                    places.item(&item);
                    match item {
                        Item::SlotBegin { .. } => {
                            (self.loading, self.syncing) = (true, true);
                            self.begun += 1;
                        }
                        Item::Sync { .. } | Item::Slots { .. } => self.syncing = true,
                        Item::Piece { payload, .. } => {
                            if let Ok(Head { is_more: true, kind, .. }) = Head::decode(&mut Reader::new(payload)) {
                                self.value_pieces[usize::from(kind != Kind::List)] += 1;
                            }
                        }
                        Item::SlotEnd { .. } => self.loading = false,
                        Item::SlotDrop { .. } => {
                            self.loading = false;
                            self.dropped += 1;
                        }
                        Item::SyncEnd { .. } => self.syncing = false,
                        _ => {}
                    }
                }
            }
        }
    }

    /// Whether a frame has arrived in part.
    pub fn is_in_frame(&mut self) -> bool {
        matches!(self.decoder.unread().first(), Some(b'*'))
    }

    /// Whether a dump item has arrived in part, or a slot has.
    pub fn is_in_dump(&mut self) -> bool {
        let item = self.decoder.unread();
        self.loading || item.starts_with(b"+SLOT") || item.starts_with(b"+PIECE")
    }
}
