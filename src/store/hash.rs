//! The two hashes of a key. CRC16 places it in a hash slot, as Redis Cluster does; a keyed 64-bit hash places it
//! inside the slot. Neither is derived from the other: the CRC has 14 useful bits, and clients choose them.
//!
//! ```text
//! hash  63                      16 15      8 7        0
//!       │ place in the slot's tables │ unused │  tag   │
//! ```

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use crate::id::HashSlot;
use crate::snapshot::Located;

/// Where `key` lives, for every store of this process: its seed is drawn once a process.
#[inline]
pub fn locate(key: &[u8]) -> Located {
    Located { slot: slot_of(key), hash: keyed_hash(key) }
}

/// The hash slot of `key`: of what stands between its first `{` and the next `}`, if that is not empty; else of all.
#[inline]
pub fn slot_of(key: &[u8]) -> HashSlot {
    HashSlot::from_crc16(crc16(hash_tag(key)))
}

/// The keyed hash of a whole key.
#[inline]
pub fn keyed_hash(key: &[u8]) -> u64 {
    #[cfg(test)]
    if let Some(hash) = tests::chosen_hash(key) {
        return hash;
    }
    let mut hasher = FoldHasher::with_seed(HASHER_SEED, shared_seed());
    hasher.write(key);
    hasher.finish()
}

/// Fixes the secret of this process, so that a simulation lays out its stores in the same way each time. A server never does: clients
/// could then choose keys that collide. `false`: a key was hashed before, and nothing changes.
pub fn fix_seed(seed: u64) -> bool {
    SEED.set(SharedSeed::from_u64(seed)).is_ok()
}

#[inline]
fn shared_seed() -> &'static SharedSeed {
    SEED.get_or_init(|| SharedSeed::from_u64(RandomState::new().build_hasher().finish()))
}

/// The secret: random, one a process.
static SEED: OnceLock<SharedSeed> = OnceLock::new();

/// Tells the hasher apart from others of this process; the secret is the shared seed.
const HASHER_SEED: u64 = 0x6b65_7973_7061_6365;

#[inline]
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let inside = &key[open + 1..];
    match memchr::memchr(b'}', inside) {
        None | Some(0) => key,
        Some(close) => &inside[..close],
    }
}

/// CRC-16/XMODEM, eight bytes a step.
#[inline]
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let (steps, rest) = bytes.as_chunks::<8>();
    for s in steps {
        let [high, low] = crc.to_be_bytes();
        crc = CRC[7][usize::from(s[0] ^ high)]
            ^ CRC[6][usize::from(s[1] ^ low)]
            ^ CRC[5][usize::from(s[2])]
            ^ CRC[4][usize::from(s[3])]
            ^ CRC[3][usize::from(s[4])]
            ^ CRC[2][usize::from(s[5])]
            ^ CRC[1][usize::from(s[6])]
            ^ CRC[0][usize::from(s[7])];
    }
    for &byte in rest {
        crc = (crc << 8) ^ CRC[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
}

/// `CRC[n][b]`: what byte `b` adds to the CRC when `n` bytes follow it.
static CRC: [[u16; 256]; 8] = {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut n = 1;
    while n < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[n - 1][byte];
            tables[n][byte] = (before << 8) ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        n += 1;
    }
    tables
};

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Keys that contain `~` and a digit share few hashes, so that tests can force collisions.
    pub fn chosen_hash(key: &[u8]) -> Option<u64> {
        let at = memchr::memchr(b'~', key)?;
        let digit = u64::from(key.get(at + 1)?.wrapping_sub(b'0'));
        (digit < 10).then(|| (digit * 0x1999_9999_9999_9999) | 7)
    }

    fn crc16_bit_by_bit(bytes: &[u8]) -> u16 {
        let mut crc = 0u16;
        for &byte in bytes {
            crc ^= u16::from(byte) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            }
        }
        crc
    }

    #[test]
    fn slicing_gives_the_crc_of_the_definition_at_every_length() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "the check value of the specification");
        let bytes: Vec<u8> = (0..100u32).map(|i| (i * 37 + 11) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(crc16(&bytes[..len]), crc16_bit_by_bit(&bytes[..len]), "length {len}");
        }
    }

    #[test]
    fn tags_are_cut_as_redis_cluster_cuts_them() {
        assert_eq!(slot_of(b"foo").get(), 12182, "as CLUSTER KEYSLOT answers");
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
    }

    #[test]
    fn the_keyed_hash_is_one_for_the_process_and_spreads_over_all_bits() {
        assert_eq!(keyed_hash(b"key"), keyed_hash(b"key"));
        let (mut ones, mut zeros) = (0, 0);
        for i in 0..64u32 {
            let hash = keyed_hash(&i.to_le_bytes());
            ones |= hash;
            zeros |= !hash;
        }
        assert_eq!((ones, zeros), (u64::MAX, u64::MAX));
    }
}
