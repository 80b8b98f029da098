//! Descriptors that glommio's types own but show only as numbers.
#![allow(unsafe_code, reason = "glommio takes and shows raw descriptors; every face here is safe")]

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use socket2::{SockRef, Socket, TcpKeepalive};

/// Hands a listening socket to the executor of this thread.
pub(super) fn listener(socket: Socket) -> TcpListener {
    // SAFETY: `into_raw_fd` gives up ownership of an open socket, and the listener takes it.
    unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) }
}

/// A stream whose socket others on this thread may end.
#[derive(Debug)]
pub(super) struct OpenStream {
    tcp: TcpStream,
    /// The stream's descriptor until the stream is dropped.
    fd: Rc<Cell<Option<RawFd>>>,
}

impl OpenStream {
    pub(super) fn new(tcp: TcpStream) -> OpenStream {
        let fd = Rc::new(Cell::new(Some(tcp.as_raw_fd())));
        OpenStream { tcp, fd }
    }

    pub(super) fn handle(&self) -> SocketHandle {
        SocketHandle { fd: Rc::clone(&self.fd) }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.fd.set(None);
    }
}

impl Deref for OpenStream {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.tcp
    }
}

impl DerefMut for OpenStream {
    fn deref_mut(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }
}

/// What another task of the shard may do to a connection: send, and end it. Does nothing once the stream is dropped.
#[derive(Clone, Debug)]
pub struct SocketHandle {
    fd: Rc<Cell<Option<RawFd>>>,
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
        self.with(|socket| socket.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))
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

    fn with<T>(&self, act: impl FnOnce(&SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
        let fd = self.fd.get().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: the cell holds the number only while `OpenStream` owns the descriptor: its drop empties the cell
        // before the socket is closed, and both live on one thread. `OpenStream` gives its `TcpStream` to nobody by
        // value, and nothing closes it underneath.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        act(&SockRef::from(&fd))
    }
}
