//! A TCP relay between a replica and its primary that can cut every link, heal, stall, flip a bit, and count bytes.
//!
//! ```text
//! replica ──▶ relay: base + i ──▶ primary: base + i        one listener per shard of the primary
//! ```

#![allow(clippy::disallowed_types, reason = "a relay is threads, and shards share nothing of it")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::kevy::{free_ports, listen};

/// Relays while it lives.
pub struct Relay {
    /// Port `i` leads to the primary's port `i`.
    pub port_base: u16,
    state: Arc<State>,
}

/// What is so of one port alone.
#[derive(Default)]
struct Port {
    /// Its bytes stay where they are.
    stalled: AtomicBool,
    /// Bytes to the replica at which it stalls; 0: never.
    stall_at: AtomicU64,
    to_replica: AtomicU64,
}

#[derive(Default)]
struct State {
    ports: Vec<Port>,
    /// Rises with every cut; a connection of an earlier number ends.
    cuts: AtomicU64,
    /// New connections are closed at once.
    down: AtomicBool,
    /// Bytes stay where they are; connections stay open.
    stalled: AtomicBool,
    /// Bytes to the replica at which it stalls; 0: never.
    stall_at: AtomicU64,
    /// What goes to the replicas of port 0 next, as if the primary had sent it.
    injected: Mutex<Vec<u8>>,
    /// A bit flips in the next bytes to the replica.
    flips: AtomicBool,
    /// Everything ends.
    over: AtomicBool,
    connections: AtomicU64,
    to_replica: AtomicU64,
    to_primary: AtomicU64,
}

impl Relay {
    /// A relay to the `shards` ports from `primary_base` on.
    pub fn start(primary_base: u16, shards: u16) -> Relay {
        let port_base = free_ports(shards);
        let ports = (0..shards).map(|_| Port::default()).collect();
        let state = Arc::new(State { ports, ..State::default() });
        for i in 0..shards {
            let listener = listen(port_base + i);
            listener.set_nonblocking(true).expect("a socket option");
            let state = Arc::clone(&state);
            thread::spawn(move || accept(&listener, primary_base + i, usize::from(i), &state));
        }
        Relay { port_base, state }
    }

    /// Ends every connection, and lets no new one through.
    pub fn cut(&self) {
        self.state.down.store(true, Ordering::SeqCst);
        self.state.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Stalls by itself once about so many bytes have moved to the replica: less than a buffer a connection more.
    pub fn stall_at(&self, bytes: u64) {
        self.state.stall_at.store(bytes, Ordering::SeqCst);
    }

    /// Stalls one port, once about so many more bytes have moved on it to the replica.
    pub fn stall_port_after(&self, port: usize, bytes: u64) {
        let port = &self.state.ports[port];
        port.stall_at.store(port.to_replica.load(Ordering::SeqCst) + bytes.max(1), Ordering::SeqCst);
    }

    /// Keeps the connections of one port open, and moves none of its bytes.
    pub fn stall_port(&self, port: usize) {
        self.state.ports[port].stalled.store(true, Ordering::SeqCst);
    }

    /// Whether no byte of that port moves.
    pub fn is_port_stalled(&self, port: usize) -> bool {
        self.state.ports[port].stalled.load(Ordering::SeqCst)
    }

    /// Whether no byte moves.
    pub fn is_stalled(&self) -> bool {
        self.state.stalled.load(Ordering::SeqCst)
    }

    /// Lets new connections through, and bytes move.
    pub fn heal(&self) {
        self.state.stall_at.store(0, Ordering::SeqCst);
        for port in &self.state.ports {
            port.stall_at.store(0, Ordering::SeqCst);
            port.stalled.store(false, Ordering::SeqCst);
        }
        self.state.stalled.store(false, Ordering::SeqCst);
        self.state.down.store(false, Ordering::SeqCst);
    }

    /// Lets new connections through; what is to stall still does.
    pub fn let_through(&self) {
        self.state.down.store(false, Ordering::SeqCst);
    }

    /// Keeps connections open, and moves no byte.
    pub fn stall(&self) {
        self.state.stalled.store(true, Ordering::SeqCst);
    }

    /// Flips one bit of what moves to the replica next.
    pub fn flip(&self) {
        self.state.flips.store(true, Ordering::SeqCst);
    }

    /// Sends bytes to a replica, as if its primary had, on port 0.
    pub fn inject(&self, bytes: &[u8]) {
        self.state.injected.lock().expect("no panic").extend_from_slice(bytes);
    }

    /// Connections let through so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Bytes moved so far from the primary to the replica.
    pub fn bytes_to_replica(&self) -> u64 {
        self.state.to_replica.load(Ordering::SeqCst)
    }

    /// Bytes moved so far from the replica to the primary.
    pub fn bytes_to_primary(&self) -> u64 {
        self.state.to_primary.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
    }
}

fn accept(listener: &TcpListener, port: u16, index: usize, state: &Arc<State>) {
    while !state.over.load(Ordering::SeqCst) {
        let Ok((replica, _)) = listener.accept() else {
            thread::sleep(TICK);
            continue;
        };
        let cut = state.cuts.load(Ordering::SeqCst);
        if state.down.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(primary) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
        state.connections.fetch_add(1, Ordering::SeqCst);
        let ways = [(primary.try_clone(), replica.try_clone(), true), (Ok(replica), Ok(primary), false)];
        for (from, to, to_replica) in ways {
            let (from, to) = (from.expect("a second handle"), to.expect("a second handle"));
            let state = Arc::clone(state);
            thread::spawn(move || pump(from, to, to_replica, cut, index, &state));
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, to_replica: bool, cut: u64, index: usize, state: &State) {
    from.set_nonblocking(false).and_then(|()| from.set_read_timeout(Some(TICK))).expect("a socket option");
    let counter = if to_replica { &state.to_replica } else { &state.to_primary };
    let port = &state.ports[index];
    let mut buffer = vec![0; 256 << 10];
    while state.cuts.load(Ordering::SeqCst) == cut && !state.over.load(Ordering::SeqCst) {
        if state.stalled.load(Ordering::SeqCst) || port.stalled.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            continue;
        }
        if to_replica && index == 0 {
            let injected = std::mem::take(&mut *state.injected.lock().expect("no panic"));
            if to.write_all(&injected).is_err() {
                break;
            }
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if to_replica && state.flips.swap(false, Ordering::SeqCst) {
                    buffer[count / 2] ^= 1;
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
                let moved = counter.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
                let limit = state.stall_at.load(Ordering::SeqCst);
                if to_replica && limit > 0 && moved >= limit {
                    state.stalled.store(true, Ordering::SeqCst);
                }
                if to_replica {
                    let moved = port.to_replica.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
                    let limit = port.stall_at.load(Ordering::SeqCst);
                    if limit > 0 && moved >= limit {
                        port.stalled.store(true, Ordering::SeqCst);
                    }
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // The other end may be closed already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

const TICK: Duration = Duration::from_millis(5);
