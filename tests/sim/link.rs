//! A connection in virtual time: bytes arrive in order, late, in pieces of any size, or never.

use std::collections::VecDeque;

use fastrand::Rng;

/// One direction of a connection.
pub struct Pipe {
    /// What was written and has not arrived: when it may arrive, and the bytes.
    flying: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    capacity: usize,
    delay_max: u64,
}

impl Pipe {
    pub fn new(capacity: usize, delay_max: u64) -> Pipe {
        Pipe { flying: VecDeque::new(), bytes: 0, capacity, delay_max }
    }

    /// How many bytes can be written now.
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes)
    }

    /// Writes `bytes`; the caller has looked at the room.
    pub fn write(&mut self, bytes: &[u8], now: u64, rng: &mut Rng) {
        if bytes.is_empty() {
            return;
        }
        let earliest = self.flying.back().map_or(0, |(at, _)| *at);
        let at = earliest.max(now + rng.u64(0..=self.delay_max));
        self.bytes += bytes.len();
        self.flying.push_back((at, bytes.to_vec()));
    }

    /// What arrives now: at most `room` bytes, cut anywhere.
    pub fn read(&mut self, now: u64, room: usize, rng: &mut Rng) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some((at, chunk)) = self.flying.front_mut() {
            if *at > now || out.len() >= room {
                break;
            }
            let fits = chunk.len().min(room - out.len());
            // One read in four ends inside what was written, wherever that is.
            let take = if rng.u8(0..4) == 0 { rng.usize(0..=fits) } else { fits };
            out.extend(chunk.drain(..take));
            if !chunk.is_empty() {
                break;
            }
            self.flying.pop_front();
        }
        self.bytes -= out.len();
        out
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.flying.is_empty()
    }
}

/// A connection between a replica's puller and a primary's streamer.
pub struct Link {
    /// From the primary to the replica.
    pub down: Pipe,
    /// From the replica to the primary.
    pub up: Pipe,
}

impl Link {
    pub fn new(capacity: usize, delay_max: u64) -> Link {
        Link { down: Pipe::new(capacity, delay_max), up: Pipe::new(capacity.max(4_096), delay_max) }
    }

    pub fn is_idle(&self) -> bool {
        self.down.is_empty() && self.up.is_empty()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes down, {} up", self.down.bytes, self.up.bytes)
    }
}
