//! A primary's bytes: no panic, and the same frames, groups and items and the same end however the bytes are split.

#![no_main]

use std::mem::{Discriminant, discriminant};

use kevy_replicate::wire::{Decoder, Message, WireError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [step, bytes @ ..] = input else { return };
    assert_eq!(decode(bytes, usize::MAX), decode(bytes, usize::from(*step) + 1));
});

/// What was said, a line each, and the kind of error that ends it if one does. Where single frames are parted into
/// batches, and how much of a bad line an error shows, depends on the splits and does not count.
fn decode(bytes: &[u8], step: usize) -> (Vec<String>, Option<Discriminant<WireError>>) {
    let mut decoder = Decoder::new();
    let mut said = Vec::new();
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        decoder.recv(piece);
        loop {
            match decoder.next() {
                Ok(Some(Message::Frames(frames))) => said.extend(frames.iter().map(|frame| format!("{frame:?}"))),
                Ok(Some(Message::Group(frames))) => {
                    said.push(format!(
                        "group {:?}",
                        frames.iter().map(|frame| format!("{frame:?}")).collect::<Vec<_>>()
                    ));
                }
                Ok(Some(Message::Item(item))) => said.push(format!("{item:?}")),
                Ok(None) => break,
                Err(error) => return (said, Some(discriminant(&error))),
            }
        }
    }
    (said, None)
}
