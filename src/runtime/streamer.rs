//! The primary's task around one replication connection: a loop around [`source::Session`](crate::source::Session).

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;

use super::clock::{now, sleep, sleep_until};
use super::local::Local;
use super::outlet::Outlet;
use super::stream::{Moved, Stream};
use super::turn::Turn;
use crate::limits;
use crate::source::session::{Event, Session, SessionError, Timeouts};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The replica closed it.
    #[error("closed by the replica")]
    Closed,
    /// The session ended it.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// This node is no primary.
    #[error("this node is not a primary")]
    NotPrimary,
    /// The node ends.
    #[error("this node is shutting down")]
    Shutdown,
}

/// Serves a connection on the replication port until it ends.
pub async fn serve(local: Rc<Local>, mut stream: Stream, timeouts: Timeouts) {
    let greeting = Greeting::begin(&local);
    if local.gauges.greeting.get() > limits::GREETING_LINKS_MAX {
        crate::warn_seldom!(shard = %local.id(), most = limits::GREETING_LINKS_MAX, "too many connections on the replication port say nothing; closing new ones");
        stream.close().await;
        return;
    }
    let peer = stream.peer_addr().map_or_else(|_| "a replica".to_owned(), |address| address.to_string());
    let outlet = Rc::new(RefCell::new(Outlet::new(Session::new(timeouts, now()), stream.handle())));
    let end = stream_until_end(&local, &mut stream, &outlet, &peer, greeting).await;
    local.close_outlet(&outlet);
    // What explains the end, if anything does, is still said.
    let next = next_send(&local, &outlet);
    let words = match (&end, next) {
        (LinkEnd::NotPrimary, _) | (_, None) => Bytes::from_static(b"-ERR not_primary this node is not a primary\r\n"),
        (_, Some(Ok(bytes))) if outlet.borrow().session.link().is_none() => bytes,
        _ => Bytes::new(),
    };
    // The link ends whether they arrive or not.
    let late = async {
        sleep(Duration::from_millis(limits::LAST_WORDS_MS)).await;
        Ok(())
    };
    let _ = stream.write_all(&words).or(late).await;
    if let Some((source, _)) = local.core().source_and_store() {
        outlet.borrow_mut().session.hang_up(source, now());
    }
    match end {
        // Every replica asks once before it follows.
        LinkEnd::Session(SessionError::Told) => tracing::debug!(shard = %local.id(), %peer, cause = %end, "asked"),
        end => tracing::info!(shard = %local.id(), %peer, cause = %end, "a replication link ended"),
    }
    stream.close().await;
}

/// Counts a connection for as long as it has not said what it wants.
struct Greeting {
    local: Rc<Local>,
}

impl Greeting {
    fn begin(local: &Rc<Local>) -> Greeting {
        let greeting = &local.gauges.greeting;
        greeting.set(greeting.get() + 1);
        Greeting { local: Rc::clone(local) }
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        let greeting = &self.local.gauges.greeting;
        greeting.set(greeting.get() - 1);
    }
}

async fn stream_until_end(
    local: &Rc<Local>,
    stream: &mut Stream,
    outlet: &Rc<RefCell<Outlet>>,
    peer: &str,
    greeting: Greeting,
) -> LinkEnd {
    let mut greeting = Some(greeting);
    let mut inbox = vec![0; 4 << 10];
    let mut turn = Turn::begin();
    loop {
        let epoch = local.to_send.epoch();
        let links = local.links_changed.epoch();
        let sending = match next_send(local, outlet) {
            None => return LinkEnd::NotPrimary,
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => return error.into(),
        };
        let deadline = outlet.borrow().session.poll_timeout();
        let moved = async { Some(stream.duplex(&mut inbox, &sending).await) };
        let woken = async {
            if sending.is_empty() {
                local.to_send.past(epoch).await
            } else {
                std::future::pending().await
            }
            None
        };
        let changed = async {
            local.links_changed.past(links).await;
            None
        };
        let timer = async {
            sleep_until(deadline).await;
            None
        };
        let ending = async {
            local.executor().shutdown().await;
            None
        };
        match turn.wait_for(moved.or(woken).or(changed).or(timer).or(ending)).await {
            Some(Ok(Moved::Written(len))) => outlet.borrow_mut().sent(len),
            Some(Ok(Moved::Read(0))) => return LinkEnd::Closed,
            Some(Ok(Moved::Read(len))) => {
                if let Err(error) = receive(local, outlet, &inbox[..len], peer) {
                    return error;
                }
                if outlet.borrow().session.link().is_some() {
                    drop(greeting.take());
                }
            }
            Some(Err(error)) => return error.into(),
            None => {}
        }
        if local.executor().is_shutting_down() {
            return LinkEnd::Shutdown;
        }
        // Even while the socket takes nothing.
        if local.links_changed.epoch() != links {
            let core = local.core();
            let Some(source) = core.source() else { return LinkEnd::NotPrimary };
            if let Err(error) = outlet.borrow().session.check_link(source) {
                return error.into();
            }
        }
        if let Err(error) = outlet.borrow_mut().session.handle_timeout(now()) {
            return error.into();
        }
        turn.pass_if_over().await;
    }
}

/// What to send next, empty where there is nothing; `None` where the shard is no primary's.
fn next_send(local: &Local, outlet: &RefCell<Outlet>) -> Option<Result<Bytes, SessionError>> {
    outlet.borrow_mut().next(&mut local.core())
}

fn receive(local: &Local, outlet: &Rc<RefCell<Outlet>>, bytes: &[u8], peer: &str) -> Result<(), LinkEnd> {
    let mut acked = false;
    let mut attached = false;
    let mut replaced = false;
    {
        let mut core = local.core();
        let shard = core.id();
        let Some((source, _)) = core.source_and_store() else { return Err(LinkEnd::NotPrimary) };
        outlet.borrow_mut().session.handle_input(source, bytes, now(), |event| match event {
            Event::Acked => acked = true,
            Event::Told => {}
            Event::Attached { ref hello, verdict, replaces } => {
                attached = true;
                replaced |= replaces.is_some();
                match event.sync_reason() {
                    Some(reason) => {
                        tracing::info!(%shard, replica = %hello.id, %peer, reason = reason.name(), "full sync: {reason}")
                    }
                    None => tracing::info!(%shard, replica = %hello.id, %peer, ?verdict, "a replica goes on"),
                }
            }
        })?;
    }
    if acked {
        local.acked.raise();
    }
    if attached {
        local.open_outlet(Rc::clone(outlet));
        local.to_send.raise();
    }
    if replaced {
        local.links_changed.raise();
    }
    Ok(())
}
