//! What a replica says on a link: no panic, and what is understood reads back as it was written.

#![no_main]

use kevy_replicate::wire::Upstream;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(Some((said, used))) = Upstream::decode(input) {
        assert!((1..=input.len()).contains(&used));
        let Some(said) = said else { return };
        let mut encoded = Vec::new();
        said.encode(&mut encoded);
        assert_eq!(Upstream::decode(&encoded).expect("what we write"), Some((Some(said), encoded.len())));
    }
});
