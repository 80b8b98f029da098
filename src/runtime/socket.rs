//! A TCP socket of one shard: system calls that never block, and the shard's set that says when to make them.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, TcpKeepalive, Type};

use super::poller::{Interest, Poller, Token};

/// A socket, watched by its shard.
#[derive(Debug)]
pub(super) struct Socket {
    socket: Rc<socket2::Socket>,
    interest: Rc<Interest>,
    poller: Rc<Poller>,
    token: Token,
}

impl Socket {
    /// Lets the shard of this thread watch `socket`.
    ///
    /// # Errors
    /// If the system cannot watch one more.
    pub fn new(socket: socket2::Socket) -> io::Result<Socket> {
        // A read would stop short of an urgent byte, and nothing would say that there is more.
        socket.set_out_of_band_inline(true)?;
        let (poller, interest) = (Poller::here(), Rc::new(Interest::default()));
        let token = poller.watch(&socket, &interest)?;
        Ok(Socket { socket: Rc::new(socket), interest, poller, token })
    }

    /// Connects to `address`. Dropped before it is done, it gives up.
    pub async fn connect(address: SocketAddr) -> io::Result<Socket> {
        let made = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        made.set_nonblocking(true)?;
        let connecting = made.connect(&address.into());
        if let Err(error) = &connecting
            && error.raw_os_error() != Some(libc::EINPROGRESS)
        {
            connecting?;
        }
        let socket = Socket::new(made)?;
        std::future::poll_fn(|cx| {
            socket.interest.write.poll(cx, || match socket.socket.peer_addr() {
                Ok(_) => Ok(Ok(())),
                // Not yet, or not at all.
                Err(unconnected) => match socket.socket.take_error() {
                    Ok(Some(error)) | Err(error) => Ok(Err(error)),
                    Ok(None) if unconnected.raw_os_error() == Some(libc::ENOTCONN) => Err(rustix::io::Errno::AGAIN),
                    Ok(None) => Ok(Err(unconnected)),
                },
            })
        })
        .await??;
        Ok(socket)
    }

    /// Accepts a connection.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<socket2::Socket>> {
        self.interest
            .read
            .poll(cx, || rustix::net::accept_with(&*self.socket, rustix::net::SocketFlags::CLOEXEC))
            .map_ok(Into::into)
    }

    /// Reads what has come; 0 at the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let side = &self.interest.read;
        let room = buffer.len();
        let read =
            side.poll(cx, || rustix::net::recv(&*self.socket, &mut *buffer, RecvFlags::DONTWAIT).map(|(_, len)| len));
        if let Poll::Ready(Ok(len)) = read
            && 0 < len
            && len < room
        {
            side.drained();
        }
        read
    }

    /// Writes what the socket takes.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.interest.write.poll(cx, || send_now(&self.socket, bytes))
    }

    /// What else there is to do with it.
    pub fn raw(&self) -> &socket2::Socket {
        &self.socket
    }

    /// What it is known to be ready for.
    pub fn interest(&self) -> &Rc<Interest> {
        &self.interest
    }

    pub fn handle(&self) -> SocketHandle {
        SocketHandle { socket: Rc::downgrade(&self.socket) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.poller.forget(self.token, &*self.socket);
    }
}

fn send_now(socket: &socket2::Socket, bytes: &[u8]) -> rustix::io::Result<usize> {
    rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}

/// What another task of the shard may do to a connection: send, and end it. Does nothing once the stream is dropped.
#[derive(Clone, Debug)]
pub struct SocketHandle {
    socket: Weak<socket2::Socket>,
}

impl SocketHandle {
    /// Ends the connection in both directions: reads return 0 and writes fail, so that the connection's own task comes to its end.
    pub fn hang_up(&self) {
        // A peer that is gone already makes this fail, and that is what was wanted.
        let _ = self.with(|socket| socket.shutdown(Shutdown::Both));
    }

    /// Sends from the front of `bytes` what the socket takes at once, and returns how much.
    ///
    /// # Errors
    /// What the socket says: [`WouldBlock`](io::ErrorKind::WouldBlock) where it takes nothing now.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|socket| Ok(send_now(socket, bytes)?))
    }

    /// Lets the kernel ask the peer's machine whether it is there after each `every` of silence, and give up after three times
    /// without an answer; zero: never.
    pub fn keep_alive(&self, every: Duration) {
        // A socket that refuses is dead, and the first read says so.
        let _ = self.with(|socket| {
            if every.is_zero() {
                return socket.set_keepalive(false);
            }
            let pause = (every / 3).max(Duration::from_secs(1));
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(every).with_interval(pause).with_retries(3))
        });
    }

    /// Whether the peer has closed and all that it sent is read, or the connection is broken.
    pub fn is_gone(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        match self.with(|socket| socket.recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT)) {
            Ok(len) => len == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&socket2::Socket) -> io::Result<T>) -> io::Result<T> {
        act(&*self.socket.upgrade().ok_or(io::ErrorKind::NotConnected)?)
    }
}
