//! The first bytes of a link, from either end: no panic, and what is whole is understood from exactly its own bytes.

#![no_main]

use kevy_replicate::handshake::{decode_answer, decode_request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [cut, bytes @ ..] = input else { return };
    if let Ok(Some((request, used))) = decode_request(bytes) {
        assert_eq!(decode_request(&bytes[..used]), Ok(Some((request, used))));
        assert_eq!(decode_request(&bytes[..usize::from(*cut) % used]), Ok(None));
    }
    if let Ok(Some((answer, used))) = decode_answer(bytes) {
        assert_eq!(decode_answer(&bytes[..used]), Ok(Some((answer, used))));
        assert_eq!(decode_answer(&bytes[..usize::from(*cut) % used]), Ok(None));
    }
});
