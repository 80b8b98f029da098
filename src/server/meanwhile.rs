//! What a connection does while its command waits: it keeps what the client sends for afterwards, sends what is pushed, and
//! notices when the client goes or is not to wait any more.
//!
//! ```text
//! event ───────┐
//! deadline ────┤
//! CLIENT UNBLOCK ─▶ whichever is first ends the wait
//! CLIENT KILL ─┤
//! hung up ─────┘        bytes ─▶ decoder      pushes ─▶ socket
//! ```

use std::future::{Future, pending};
use std::pin::pin;

use futures_lite::FutureExt;

use super::clients::{Disturbed, Unblocked};
use super::connection::tell;
use super::node::Node;
use super::session::ClientSession;
use crate::id::Moment;
use crate::limits;
use crate::resp::RequestDecoder;
use crate::runtime::clock::sleep_until;
use crate::runtime::local::Local;
use crate::runtime::stream::Stream;

/// How it went on after a command that waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waited {
    /// It is answered.
    Answered,
    /// The client is gone.
    Gone,
}

/// What ended a wait before there was what it was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// The deadline has passed.
    Late,
    /// Another client said so.
    Unblocked(Unblocked),
    /// The client has gone, or is to go.
    Gone,
}

/// Waits for `event`, until `deadline` at most; `None`: for as long as it takes.
pub(super) async fn until<T>(
    local: &Local,
    node: &Node,
    stream: &mut Stream,
    requests: &mut RequestDecoder,
    client: &ClientSession,
    deadline: Option<Moment>,
    event: impl Future<Output = T>,
) -> Result<T, Ended> {
    enum Met<T> {
        Event(T),
        Disturbed(Disturbed),
        Ended(Ended),
    }
    let blocked = &local.gauges.blocked;
    blocked.set(blocked.get() + 1);
    client.me.begin_wait();
    let mut event = pin!(event);
    let result = loop {
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
            Met::Ended(Ended::Late)
        };
        let gone = async {
            gone(stream, requests).await;
            Met::Ended(Ended::Gone)
        };
        let disturbed = async { Met::Disturbed(client.me.disturbed().await) };
        let met = async { Met::Event((&mut event).await) }.or(disturbed).or(late).or(gone).await;
        match met {
            Met::Event(event) => break Ok(event),
            Met::Ended(ended) => break Err(ended),
            Met::Disturbed(Disturbed::Unblocked(how)) => break Err(Ended::Unblocked(how)),
            Met::Disturbed(Disturbed::Killed) => break Err(Ended::Gone),
            // Not in the race: what is sent by halves cannot be taken back.
            Met::Disturbed(Disturbed::Pushed) => {
                if tell(local, node, stream, client, &mut Vec::new()).await.is_err() {
                    break Err(Ended::Gone);
                }
            }
        }
    };
    client.me.end_wait();
    blocked.set(blocked.get() - 1);
    result
}

/// Completes when the client has gone. What it sends while it is there is kept, up to a bound: beyond it only the network tells.
async fn gone(stream: &mut Stream, requests: &mut RequestDecoder) {
    while requests.buffered() < limits::REPLY_BYTES_KEPT {
        match stream.read(requests.recv_slice()).await {
            Ok(0) | Err(_) => return,
            Ok(len) => requests.recv_advance(len),
        }
    }
    pending().await
}
