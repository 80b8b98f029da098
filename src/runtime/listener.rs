//! A listening socket, and the one task that accepts on it for as long as it lives.
//!
//! It is bound before there are threads, so that a port in use is found while the process can still say so. The task
//! is ended by shutting the socket down, from any thread.
//!
//! ```text
//!   bind ─▶ Listener ──(to a shard)──▶ accept_each(|connection| …) ─▶ Connection ──(to any shard)──▶ Stream
//!              └─ closer ─▶ Closer::close ends accept_each
//! ```

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

use crate::limits::{ACCEPT_PAUSE_MS, LISTEN_BACKLOG};

use super::clock;
use super::socket::Socket;
use super::stream::{Stream, resolve};
use super::turn::Turn;

/// Why a port cannot be listened on: the address as it was asked for, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {host}:{port}: {cause}")]
pub struct BindError {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What the system said.
    pub cause: io::Error,
}

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: socket2::Socket,
    address: SocketAddr,
}

impl Listener {
    /// Binds to the first address of `host`, and listens. Port 0 takes a free one. Waits for the name to resolve, so
    /// call it before the executors are started, or beside them. A port whose last owner was killed is free again;
    /// one that is listened on is not.
    ///
    /// # Errors
    /// If the name does not resolve or the port cannot be had.
    pub fn bind(host: &str, port: u16) -> Result<Listener, BindError> {
        bind(host, port).map_err(|cause| BindError { host: host.to_owned(), port, cause })
    }

    /// The address that it is bound to, with its port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What ends it, from any thread. Costs a descriptor.
    ///
    /// # Errors
    /// If there is no free descriptor.
    pub fn closer(&self) -> io::Result<Closer> {
        Ok(Closer { socket: self.socket.try_clone()? })
    }

    /// Accepts, and gives each connection to `each`, until the [`Closer`] ends it. On a shard only. Where no descriptor is free it pauses, counts in [`pauses`] and says so in the log.
    ///
    /// # Errors
    /// If the socket cannot be watched, or fails for another reason than its end.
    pub async fn accept_each(self, mut each: impl FnMut(Connection)) -> io::Result<()> {
        let address = self.address;
        let listener = Socket::new(self.socket)?;
        let mut turn = Turn::begin();
        loop {
            let error = match turn.wait_for(poll_fn(|cx| listener.poll_accept(cx))).await {
                Ok(socket) => {
                    each(Connection { socket });
                    turn.pass_if_over().await;
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                // The socket was shut down.
                Some(libc::EINVAL) => return Ok(()),
                // The peer, or a signal, was faster.
                Some(libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO | libc::ETIMEDOUT) => {}
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    PAUSES.fetch_add(1, Ordering::Relaxed);
                    crate::warn_seldom!(%address, %error, "cannot accept now; trying again");
                    clock::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
                _ => return Err(error),
            }
        }
    }
}

/// How often a listener of this process found no free descriptor or memory.
pub fn pauses() -> u64 {
    PAUSES.load(Ordering::Relaxed)
}

static PAUSES: AtomicU64 = AtomicU64::new(0);

/// Ends a listener's accepting.
#[derive(Debug)]
pub struct Closer {
    socket: socket2::Socket,
}

impl Closer {
    /// Ends it: connections that have not been accepted are reset, new ones refused.
    pub fn close(self) {
        // Fails only for a socket that listens no more.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// An accepted connection on its way to the shard that will keep it. Dropped, it is closed.
#[derive(Debug)]
pub struct Connection {
    socket: socket2::Socket,
}

impl Connection {
    /// Makes it a stream of the shard that this is called on, without Nagle's delay.
    ///
    /// # Errors
    /// If the system cannot watch one more socket; the connection is closed.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(Stream::attach(Socket::new(self.socket)?))
    }
}

fn bind(host: &str, port: u16) -> io::Result<Listener> {
    let unresolved = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let address = resolve(host, port)?.into_iter().next().ok_or_else(unresolved)?;
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Listener { socket, address: bound })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_and_a_name_that_does_not_resolve_are_errors_that_name_them() {
        let first = Listener::bind("127.0.0.1", 0).unwrap();
        let port = first.local_addr().port();
        let taken = Listener::bind("127.0.0.1", port).unwrap_err().to_string();
        assert!(taken.contains(&format!("127.0.0.1:{port}")) && taken.contains("in use"), "{taken}");
        let unknown = Listener::bind("no.such.host.invalid", 1).unwrap_err().to_string();
        assert!(unknown.starts_with("cannot listen on no.such.host.invalid:1: "), "{unknown}");
        drop(first);
        Listener::bind("127.0.0.1", port).expect("a port that was given back is free");
    }
}
