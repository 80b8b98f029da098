//! The network between the two nodes: a TCP relay that can be cut and healed.
//!
//! ```text
//! replica ──▶ relay: base + i ──▶ primary: base + i        one listener per shard of the primary
//! ```
//!
//! A cut closes every connection and refuses new ones, as a network does whose other end is gone.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Trouble;
use super::ports::Ports;

/// A relay; cut at first.
pub(super) struct Relay {
    /// Port `i` leads to the primary's port `i`.
    pub port_base: u16,
    primary_base: u16,
    shards: u16,
    connections: Arc<AtomicU64>,
    /// The listening threads, while it is whole.
    whole: Option<Whole>,
}

struct Whole {
    cut: Arc<AtomicBool>,
    listening: Vec<JoinHandle<()>>,
}

impl Relay {
    /// A relay to the `shards` ports from `primary_base` on.
    pub fn new(primary_base: u16, shards: u16, ports: &mut Ports) -> Result<Relay, Trouble> {
        let connections = Arc::new(AtomicU64::new(0));
        Ok(Relay { port_base: ports.take(shards)?, primary_base, shards, connections, whole: None })
    }

    /// Lets connections through.
    pub fn heal(&mut self) -> Result<(), Trouble> {
        let ports = self.port_base..self.port_base + self.shards;
        let listeners: io::Result<Vec<_>> = ports.map(listen).collect();
        let listeners = listeners.map_err(|error| Trouble::new(format!("the relay's ports: {error}")))?;
        let cut = Arc::new(AtomicBool::new(false));
        let listening = listeners.into_iter().zip(self.primary_base..).map(|(listener, port)| {
            let (cut, connections) = (Arc::clone(&cut), Arc::clone(&self.connections));
            thread::spawn(move || accept(&listener, port, &cut, &connections))
        });
        self.whole = Some(Whole { listening: listening.collect(), cut });
        Ok(())
    }

    /// Ends every connection, and refuses new ones.
    pub fn cut(&mut self) {
        let Some(Whole { cut, listening }) = self.whole.take() else { return };
        cut.store(true, Ordering::Relaxed);
        // Once they have ended their ports are closed. One that panicked has ended, too.
        listening.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// Connections let through so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(listener: &TcpListener, port: u16, cut: &Arc<AtomicBool>, connections: &AtomicU64) {
    while !cut.load(Ordering::Relaxed) {
        let Ok((replica, _)) = listener.accept() else {
            thread::sleep(TICK);
            continue;
        };
        // A connection that fails at once is what a network does, too: the replica dials again.
        let Ok(ways) = join(replica, port) else { continue };
        connections.fetch_add(1, Ordering::Relaxed);
        for (from, to) in ways {
            let cut = Arc::clone(cut);
            thread::spawn(move || pump(from, to, &cut));
        }
    }
}

/// Both ways between a replica's connection and one to the primary.
fn join(replica: TcpStream, port: u16) -> io::Result<[(TcpStream, TcpStream); 2]> {
    let primary = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for stream in [&replica, &primary] {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK * 2))?;
    }
    Ok([(primary.try_clone()?, replica.try_clone()?), (replica, primary)])
}

/// Moves bytes until one end closes or the link is cut, then closes both.
fn pump(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = vec![0; 256 << 10];
    while !cut.load(Ordering::Relaxed) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) if to.write_all(&buffer[..len]).is_err() => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // The other end may be closed already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

const TICK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_ends_connections_and_refuses_new_ones() {
        let primary = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut relay = Relay::new(primary.local_addr().unwrap().port(), 1, &mut Ports::new()).unwrap();
        let dial = |relay: &Relay| TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port_base));
        assert!(dial(&relay).is_err(), "cut at first");
        for round in 1..=2 {
            relay.heal().unwrap();
            let mut replica = dial(&relay).unwrap();
            let (mut upstream, _) = primary.accept().unwrap();
            upstream.write_all(b"frame").unwrap();
            let mut bytes = [0; 5];
            replica.read_exact(&mut bytes).unwrap();
            assert_eq!((&bytes, relay.connections()), (b"frame", round));
            relay.cut();
            assert_eq!(upstream.read(&mut bytes).unwrap(), 0, "the primary sees the end");
            assert!(dial(&relay).is_err());
        }
    }
}
