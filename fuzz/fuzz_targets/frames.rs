//! A primary's bytes: no panic, and the same frames, groups and items and the same end however the bytes are split. On a link with
//! check lines nothing of them is said before their check, and then all of it.

#![no_main]

use std::mem::{Discriminant, discriminant};

use kevy_replicate::id::Offset;
use kevy_replicate::wire::{Check, Decoder, Item, Message, WireError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [step, bytes @ ..] = input else { return };
    let step = usize::from(*step) + 1;
    let whole = decode(&mut Decoder::new(), bytes, usize::MAX);
    assert_eq!(whole, decode(&mut Decoder::new(), bytes, step));

    // Without one, a line that reads as a check is a word that is not known.
    if bytes.windows(6).any(|word| word == b"+CHECK") {
        return;
    }
    let Some(from) = position(bytes) else { return };
    let mut held = Decoder::new();
    held.expect_checks(from);
    let (said, error) = decode(&mut held, bytes, step);
    assert_eq!(said, [""; 0], "said before it was proved");
    let mut check = Vec::new();
    Check::of(from, bytes).encode_to(&mut check);
    if error.is_none() && whole.1.is_none() && is_whole(bytes) {
        assert_eq!(decode(&mut held, &check, step), whole);
    }
});

/// What was said, a line each, and the kind of error that ends it if one does. Where single frames are parted into
/// batches, and how much of a bad line an error shows, depends on the splits and does not count.
fn decode(decoder: &mut Decoder, bytes: &[u8], step: usize) -> (Vec<String>, Option<Discriminant<WireError>>) {
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

/// Where the first message stands.
fn position(bytes: &[u8]) -> Option<Offset> {
    let mut decoder = Decoder::new();
    decoder.recv(bytes);
    match decoder.next() {
        Ok(Some(Message::Frames(frames) | Message::Group(frames))) => Some(frames.get(0).offset),
        Ok(Some(Message::Item(Item::Sync { at, .. }))) => Some(at),
        Ok(Some(Message::Item(item))) => Some(item.at().unwrap_or(Offset::ZERO)),
        Ok(None) => Some(Offset::ZERO),
        Err(_) => None,
    }
}

/// Whether the bytes end where a message does.
fn is_whole(bytes: &[u8]) -> bool {
    let mut decoder = Decoder::new();
    decoder.recv(bytes);
    while let Ok(Some(_)) = decoder.next() {}
    decoder.buffered() == 0
}
