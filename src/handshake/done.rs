//! The slots that a replica has whole, as a claim carries them: `all`, or a bitmap in base64.
//!
//! Bit `i` (least significant first) of the bitmap is the stream's slot number `i`, counted from the first slot that its
//! shard owns. The longest, of a stream with all 16,384 slots, is 2,732 characters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::Done;
use crate::id::SlotRange;
use crate::slotset::SlotSet;

/// How `done` is written for a stream that owns `range`.
pub fn encode(done: &Done, range: SlotRange) -> String {
    match done {
        Done::All => "all".to_owned(),
        Done::These(slots) => STANDARD_NO_PAD.encode(slots.to_bitmap(range)),
    }
}

/// Reads what [`encode`] wrote for a stream that owns `range`. `None` where it is not that.
pub fn decode(text: &[u8], range: SlotRange) -> Option<Done> {
    if text.eq_ignore_ascii_case(b"all") {
        return Some(Done::All);
    }
    // The longest bitmap that is not refused fits the range: nothing larger is decoded.
    if text.len() > range.len().div_ceil(8).div_ceil(3) * 4 {
        return None;
    }
    let bitmap = STANDARD_NO_PAD.decode(text).ok()?;
    SlotSet::from_bitmap(range, &bitmap).map(Done::These)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{HashSlot, ShardCount, ShardId};

    #[test]
    fn the_bytes_are_these() {
        let range = SlotRange { first: 100, end: 117 };
        let slots: SlotSet = [100, 101, 108, 116].into_iter().filter_map(HashSlot::new).collect();
        let text = encode(&Done::These(slots.clone()), range);
        assert_eq!(text, "AwEB", "0b11, 0b1, 0b1");
        assert_eq!(decode(text.as_bytes(), range), Some(Done::These(slots)));
        assert_eq!(decode(b"ALL", range), Some(Done::All));
        for wrong in ["", "AwE", "AwEBAA", "Aw==", "AwE!", "AwE\u{fc}", "/////"] {
            assert_eq!(decode(wrong.as_bytes(), range), None, "{wrong}");
        }
    }

    #[test]
    fn the_longest_fits_a_handshake() {
        let all = SlotSet::full(SlotRange::ALL);
        let text = encode(&Done::These(all.clone()), SlotRange::ALL);
        assert_eq!(text.len(), 2_731);
        assert_eq!(decode(text.as_bytes(), SlotRange::ALL), Some(Done::These(all)));
        let none = Done::These(SlotSet::empty());
        let range = ShardCount::new(7).unwrap().slots_of(ShardId::new(6));
        assert_eq!(decode(encode(&none, range).as_bytes(), range), Some(none));
    }
}
