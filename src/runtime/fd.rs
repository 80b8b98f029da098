//! Descriptors that glommio's types own but show only as numbers.
#![allow(unsafe_code, reason = "glommio takes raw descriptors; every face here is safe")]

use std::future::poll_fn;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;

use futures_lite::AsyncRead;
use glommio::net::TcpStream;

/// Completes when `descriptor` is readable. glommio waits only for sockets: it takes this for one, whose first step is to wait until
/// it is readable; that reading it then fails is no matter.
pub(super) async fn readable(descriptor: OwnedFd) {
    // SAFETY: `into_raw_fd` gives up ownership of an open descriptor, and the stream takes it.
    let mut stream = unsafe { TcpStream::from_raw_fd(descriptor.into_raw_fd()) };
    let _ = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut [0])).await;
}
