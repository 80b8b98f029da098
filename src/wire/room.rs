//! How much may still become one group of the stream: what a decoder at the other end would refuse is refused to the client,
//! before anything has changed.
//!
//! ```text
//! │◀──────────────── GROUP_BYTES_MAX ────────────────▶│
//! │ frame │ frame │ frame of a key and its piece │ room │
//! ```
//!
//! Not for a command that is one frame outside of a group: that always fits (`FRAME_BYTES_MAX`).

use super::{Argv, Command, frame};
use crate::limits;

/// Bytes that frames of one group may still take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room(usize);

/// There is not so much room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the effects are more than one group may carry")]
pub struct Full;

impl Room {
    /// That of a group without a frame.
    pub const WHOLE: Room = Room(limits::GROUP_BYTES_MAX);

    /// Room for `bytes`.
    pub const fn new(bytes: usize) -> Room {
        Room(bytes)
    }

    /// Whether nothing has been taken.
    #[inline]
    pub fn is_whole(self) -> bool {
        self == Room::WHOLE
    }

    /// Takes the room of a frame of a command whose arguments, the verb included, have these lengths.
    ///
    /// # Errors
    /// If there is not so much; then there is none any more.
    #[inline]
    pub fn take<const N: usize>(&mut self, lens: [usize; N]) -> Result<(), Full> {
        self.take_bytes(frame::encoded_bytes_max_of(lens.into_iter()))
    }

    /// Takes the room of `count` such frames.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_times<const N: usize>(&mut self, count: usize, lens: [usize; N]) -> Result<(), Full> {
        self.take_bytes(frame::encoded_bytes_max_of(lens.into_iter()).saturating_mul(count))
    }

    /// Takes the room of this command's frame.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_command(&mut self, command: &Command) -> Result<(), Full> {
        self.take_bytes(frame::encoded_raw_bytes_max(command.as_bytes().len()))
    }

    /// Whether there is room for the frame that a command leaves behind which says no more than its client did.
    pub fn holds(self, argv: Argv<'_>) -> bool {
        frame::encoded_bytes_max(argv) + argv.len() * limits::ARG_GROWTH_BYTES_MAX <= self.0
    }

    fn take_bytes(&mut self, bytes: usize) -> Result<(), Full> {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.map(drop).ok_or(Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Offset;

    #[test]
    fn room_is_no_less_than_what_a_frame_takes() {
        let command = Command::new(&["APPEND", "key", "piece"]);
        let mut out = vec![0; 200];
        let len = frame::Envelope::at(Offset::MAX).encode_raw(command.as_bytes(), &mut out);
        for taken in [
            |room: &mut Room, _: &Command| room.take([6, 3, 5]),
            |room: &mut Room, command: &Command| room.take_command(command),
        ] {
            let mut small = Room::new(len - 1);
            assert_eq!(taken(&mut small, &command), Err(Full));
            assert_eq!(small, Room::new(0), "what did not fit leaves no room for something smaller");
        }
        assert_eq!(Room::new(10 * len).take_times(11, [6, 3, 5]), Err(Full));
        let mut whole = Room::WHOLE;
        assert_eq!(whole.take_times(usize::MAX, [6, 3, 5]), Err(Full));
    }
}
