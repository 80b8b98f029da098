//! One TCP connection on its shard: reads into the caller's buffer, writes as much as the socket takes, and ends with
//! a FIN. No deadline of its own: race a read against [`sleep_until`](super::clock::sleep_until) with `or`.

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::FutureExt;

use super::clock::sleep;
use super::executor::Shard;
use super::poller::Interest;
use super::socket::Socket;

pub use super::socket::SocketHandle;

/// A connection. Lives and dies on one shard.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
}

/// What [`Stream::duplex`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// So many bytes were read; 0 at the end of the stream.
    Read(usize),
    /// So many bytes were written.
    Written(usize),
}

/// Why a connection could not be made: the address as it was asked for, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {host}:{port}: {cause}")]
pub struct ConnectError {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What went wrong: for a host with several addresses, with the last of them.
    pub cause: io::Error,
}

impl Stream {
    /// Connects to the first address of `host` that answers, each within `timeout`. A name is resolved beside the shard.
    ///
    /// # Errors
    /// If the name does not resolve or no address answers.
    pub async fn connect(shard: &Shard, host: &str, port: u16, timeout: Duration) -> Result<Stream, ConnectError> {
        let failed = |cause| ConnectError { host: host.to_owned(), port, cause };
        let addresses = match host.parse() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => {
                let name = host.to_owned();
                shard.blocking(move || resolve(&name, port)).await.map_err(failed)?
            }
        };
        let mut cause = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match connect_one(address, timeout).await {
                Ok(stream) => return Ok(stream),
                Err(error) => cause = error,
            }
        }
        Err(failed(cause))
    }

    pub(super) fn attach(socket: Socket) -> Stream {
        // Where it fails the socket is dead, and the first read says so.
        let _ = socket.raw().set_tcp_nodelay(true);
        Stream { socket }
    }

    /// Reads what has come into `buffer`; 0 at the end of the stream. Cancel-safe.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.socket.poll_read(cx, buffer)).await
    }

    /// Writes from the front of `bytes` what the socket takes, and returns how much; 0 only for no bytes. Cancel-safe:
    /// keep the cursor, and offer the rest again.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..write_len(bytes.len())];
        poll_fn(|cx| self.socket.poll_write(cx, bytes)).await
    }

    /// Reads into `buffer` and writes from the front of `bytes`, whichever is possible first. Cancel-safe, like each alone.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn duplex(&mut self, buffer: &mut [u8], bytes: &[u8]) -> io::Result<Moved> {
        let bytes = &bytes[..write_len(bytes.len())];
        poll_fn(|cx| {
            if !bytes.is_empty()
                && let Poll::Ready(written) = self.socket.poll_write(cx, bytes)
            {
                return Poll::Ready(written.map(Moved::Written));
            }
            self.socket.poll_read(cx, buffer).map_ok(Moved::Read)
        })
        .await
    }

    /// Writes all of `bytes`. Not cancel-safe: for a link that is ended when this is given up.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }

    /// What it is known to be ready for.
    pub(super) fn interest(&self) -> &Rc<Interest> {
        self.socket.interest()
    }

    /// A handle with which another task of this shard sends on the connection or ends it.
    pub fn handle(&self) -> SocketHandle {
        self.socket.handle()
    }

    /// Ends the direction of writing: the peer reads to the end, and may still write.
    pub async fn finish(&mut self) {
        // A peer that is gone already makes this fail, and that is what was wanted.
        let _ = self.socket.raw().shutdown(Shutdown::Write);
    }

    /// Ends the connection in both directions.
    pub async fn close(self) {
        let _ = self.socket.raw().shutdown(Shutdown::Both);
    }

    /// The peer's address; an error once it has gone.
    ///
    /// # Errors
    /// What the socket says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address(self.socket.raw().peer_addr())
    }

    /// This side's address.
    ///
    /// # Errors
    /// What the socket says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address(self.socket.raw().local_addr())
    }
}

fn address(found: io::Result<socket2::SockAddr>) -> io::Result<SocketAddr> {
    found?.as_socket().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// A socket connected to itself is what a dead local port in the ephemeral range answers with now and then.
async fn connect_one(address: SocketAddr, timeout: Duration) -> io::Result<Stream> {
    let too_late = async {
        sleep(timeout).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    let stream = Stream::attach(Socket::connect(address).or(too_late).await?);
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// The kernel sends exactly 64 KiB, and twice that, several times slower over loopback than a little less: its largest
/// segment there is 65,483 bytes, and what is over waits.
pub(super) fn write_len(len: usize) -> usize {
    const SLOW: usize = 64 << 10;
    const SPARED: usize = 4 << 10;
    if len == SLOW || len == 2 * SLOW { len - SPARED } else { len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_write_has_a_slow_length() {
        assert_eq!(write_len(65_536), 61_440);
        assert_eq!(write_len(131_072), 126_976);
        for len in [0, 1, 61_440, 65_535, 65_537, 126_976, 262_144] {
            assert_eq!(write_len(len), len);
        }
    }
}
