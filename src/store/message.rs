//! A published message: no key, nothing that a digest sees, but a frame of the stream, so that subscribers of a replica get it
//! behind the writes that came before it.
//!
//! ```text
//! MESSAGE channel text       SMESSAGE channel text
//! ```
//!
//! The frame stands on the stream of the shard that has the channel's hash slot. No release of kevy knows these verbs, so an older
//! peer passes over them.

use std::sync::Arc;

use crate::wire::{Argv, Command};

/// One published message. Clones share its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Whether it is for a shard channel (`SPUBLISH`).
    pub sharded: bool,
    /// The channel.
    pub channel: Arc<[u8]>,
    /// What was published.
    pub text: Arc<[u8]>,
}

impl Message {
    /// Its form on the stream.
    pub fn effect(&self) -> Command {
        let verb: &[u8] = if self.sharded { b"SMESSAGE" } else { b"MESSAGE" };
        Command::new(&[verb, &self.channel, &self.text])
    }

    /// The message that an effect of the stream is, if it is one.
    pub fn from_effect(effect: Argv<'_>) -> Option<Message> {
        let verb = effect.get(0)?;
        let sharded = verb.eq_ignore_ascii_case(b"SMESSAGE");
        if effect.len() != 3 || !(sharded || verb.eq_ignore_ascii_case(b"MESSAGE")) {
            return None;
        }
        Some(Message { sharded, channel: effect.arg(1).into(), text: effect.arg(2).into() })
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.channel.len() + self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use crate::id::UnixMs;
    use crate::snapshot::{Copy, Keyspace};
    use crate::store::{KeyspaceStore, dispatch};

    #[test]
    fn a_message_changes_no_key_and_no_digest() {
        let mut store = KeyspaceStore::new();
        let at = store.locate(b"news");
        store.set_string(at, b"news", b"a key of the same name", Some(UnixMs::new(9)));
        let before = store.digest(Copy::Live, at.slot);
        dispatch(&mut store, &["MESSAGE", "news", "hello"]).expect("it is known");
        assert!(store.take_messages().is_empty(), "nobody asked for them");
        store.keep_messages();
        dispatch(&mut store, &["SMESSAGE", "news", "hello"]).expect("it is known");
        let [message] = &store.take_messages()[..] else { panic!("one message") };
        assert!(message.sharded && *message.channel == *b"news" && *message.text == *b"hello");
        assert_eq!(store.digest(Copy::Live, at.slot), before);
        assert!(store.take_messages().is_empty(), "they are taken once");
        dispatch(&mut store, &["MESSAGE", "news"]).expect_err("not in that form");
    }
}
