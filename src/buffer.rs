//! Bytes in a row that may become many: a long string of the store, what a socket has received of a long command. Above a megabyte
//! they lie in memory of their own from the system, which grows without being copied, takes none where it was not touched, and is
//! given back in slices: bytes of any length can be appended to, overwritten and freed in short turns.
//!
//! ```text
//! Short   │ bytes │                        a vector
//! Long    │ bytes │ room, not touched │    a mapping: growing moves its pages, not their contents
//! ```

use std::fmt;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Bytes in a row.
pub struct Buffer(Form);

enum Form {
    Short(Vec<u8>),
    Long {
        map: MmapMut,
        /// Bytes that are there; those of the mapping behind them are zero.
        len: usize,
    },
}

/// Bytes from which on a buffer has a mapping.
const LONG_BYTES: usize = 1 << 20;

/// A buffer of which so many bytes are left is dropped at once.
const DROPPED_BYTES: usize = 256 << 10;

impl Buffer {
    /// That many zeros.
    pub fn zeroed(len: usize) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.lengthen(len);
        buffer
    }

    /// Appends `bytes`.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let len = self.len();
        if let Form::Short(short) = &mut self.0
            && len + bytes.len() < LONG_BYTES
        {
            return short.extend_from_slice(bytes);
        }
        self.lengthen(len + bytes.len());
        self[len..].copy_from_slice(bytes);
    }

    /// Appends zeros up to a length. What is as long already stays as it is.
    pub fn lengthen(&mut self, new_len: usize) {
        match &mut self.0 {
            Form::Short(bytes) if new_len < LONG_BYTES => bytes.resize(new_len.max(bytes.len()), 0),
            Form::Short(bytes) if new_len > bytes.len() => match map_with_room(new_len) {
                Some(mut map) => {
                    map[..bytes.len()].copy_from_slice(bytes);
                    self.0 = Form::Long { map, len: new_len };
                }
                // The system has no mapping left: a vector does as well, only in longer turns.
                None => bytes.resize(new_len, 0),
            },
            Form::Long { map, len } if new_len > *len => {
                if new_len > map.len() && !resize(map, with_room(new_len)) {
                    let mut bytes = Vec::with_capacity(new_len);
                    bytes.extend_from_slice(&map[..*len]);
                    bytes.resize(new_len, 0);
                    self.0 = Form::Short(bytes);
                    return;
                }
                *len = new_len;
            }
            Form::Short(_) | Form::Long { .. } => {}
        }
    }

    /// Forgets the bytes. What was not long keeps its memory, to be filled again.
    #[inline]
    pub fn clear(&mut self) {
        match &mut self.0 {
            Form::Short(bytes) => bytes.clear(),
            Form::Long { .. } => *self = Buffer::default(),
        }
    }

    /// Bytes of memory outside the buffer itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Short(bytes) => bytes.capacity(),
            // What was never touched takes none.
            Form::Long { len, .. } => *len,
        }
    }

    /// Gives up to `bytes` bytes back, from the end on. `true`: what is left is cheap to drop.
    pub fn release(&mut self, bytes: usize) -> bool {
        let Form::Long { map, len } = &mut self.0 else { return true };
        if *len > DROPPED_BYTES {
            let left = len.saturating_sub(bytes).max(1).next_multiple_of(PAGE_BYTES).min(*len);
            if left < map.len() && !resize(map, left) {
                // Not to be had in slices.
                return true;
            }
            *len = left;
        }
        *len <= DROPPED_BYTES
    }
}

/// A multiple of every page size that is in use.
const PAGE_BYTES: usize = 64 << 10;

/// Bytes of a mapping for this length: some more appends fit it.
fn with_room(len: usize) -> usize {
    (len + len / 8 + LONG_BYTES).next_multiple_of(2 << 20)
}

fn map_with_room(len: usize) -> Option<MmapMut> {
    MmapMut::map_anon(with_room(len)).ok()
}

/// Gives a mapping another length; what it gains is zero. `false`: it is as before.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "memmap2 has no safe form of it, since it does not tell memory from files")]
fn resize(map: &mut MmapMut, len: usize) -> bool {
    // SAFETY: the mapping is anonymous, so there is no end of a file beyond which memory could not be touched; and it is borrowed
    // exclusively, so nobody holds a reference into what moves or goes.
    unsafe { map.remap(len, memmap2::RemapOptions::new().may_move(true)) }.is_ok()
}

#[cfg(not(target_os = "linux"))]
fn resize(map: &mut MmapMut, len: usize) -> bool {
    let Ok(mut other) = MmapMut::map_anon(len) else { return false };
    let kept = len.min(map.len());
    other[..kept].copy_from_slice(&map[..kept]);
    *map = other;
    true
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer(Form::Short(Vec::new()))
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Buffer {
        if bytes.len() < LONG_BYTES {
            return Buffer(Form::Short(bytes.to_vec()));
        }
        let mut buffer = Buffer::default();
        buffer.extend_from_slice(bytes);
        buffer
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        if bytes.len() < LONG_BYTES { Buffer(Form::Short(bytes)) } else { Buffer::from(&bytes[..]) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Form::Short(bytes) => bytes,
            Form::Long { map, len } => &map[..*len],
        }
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Form::Short(bytes) => bytes,
            Form::Long { map, len } => &mut map[..*len],
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buffer").field(&self.escape_ascii().to_string()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_what_a_vector_is_at_every_length() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut buffer, mut model) = (Buffer::default(), Vec::new());
        for _ in 0..200 {
            let part = vec![random.u8(..); random.usize(..100_000)];
            if random.bool() {
                buffer.extend_from_slice(&part);
                model.extend_from_slice(&part);
            } else {
                let len = random.usize(..model.len() + 200_000);
                buffer.lengthen(len);
                model.resize(len.max(model.len()), 0);
            }
            if !model.is_empty() {
                let at = random.usize(..model.len());
                (buffer[at], model[at]) = (7, 7);
            }
            assert!(*buffer == *model, "at length {}", model.len());
        }
        assert!(matches!(buffer.0, Form::Long { .. }));
        assert!(*Buffer::from(model.clone()) == *model);
    }

    #[test]
    fn a_long_buffer_is_given_back_in_slices_and_the_rest_stays() {
        let bytes: Vec<u8> = (0..8_000_000u32).map(|n| n as u8).collect();
        let mut buffer = Buffer::from(&bytes[..]);
        let mut steps = 0;
        while !buffer.release(LONG_BYTES) {
            steps += 1;
            assert!(*buffer == bytes[..buffer.len()]);
            assert!(buffer.heap_bytes() <= bytes.len() - steps * (LONG_BYTES - PAGE_BYTES));
        }
        assert_eq!(steps, 7);
        let mut buffer = Buffer::from(&bytes[..]);
        assert!(!buffer.release(0), "a look takes nothing and leaves what is dear to drop");
        assert_eq!(buffer.len(), bytes.len());
        assert!(Buffer::from(&[1; 1_000][..]).release(1));
    }
}
