//! A client's bytes: no panic, and the same commands and the same end however the bytes are split.

#![no_main]

use kevy_replicate::resp::RequestDecoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [step, bytes @ ..] = input else { return };
    assert_eq!(decode(bytes, usize::MAX), decode(bytes, usize::from(*step) + 1));
});

/// The commands, and the error that ends them if one does.
fn decode(bytes: &[u8], step: usize) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let mut decoder = RequestDecoder::new();
    let mut commands = Vec::new();
    for mut piece in bytes.chunks(step.min(bytes.len().max(1))) {
        while !piece.is_empty() {
            let room = decoder.recv_slice();
            let len = room.len().min(piece.len());
            room[..len].copy_from_slice(&piece[..len]);
            decoder.recv_advance(len);
            piece = &piece[len..];
            loop {
                match decoder.next() {
                    Ok(Some(argv)) => commands.push(argv.iter().map(<[u8]>::to_vec).collect()),
                    Ok(None) => break,
                    Err(error) => return (commands, Some(error.to_string())),
                }
            }
        }
    }
    (commands, None)
}
