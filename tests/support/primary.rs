use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use kevy_replicate::handshake::Lineage;
use kevy_replicate::id::{Generation, Moment, Offset, ShardCount, ShardId};
use kevy_replicate::source::{Session, Source, SourceConfig, Timeouts};
use kevy_replicate::store::{KeyspaceStore, dispatch};
use kevy_replicate::wire::{Argv, Command, Effects};

/// One shard of a primary: its keys, its stream, and a bell for the threads that send it.
pub struct Shard {
    core: Mutex<Core>,
    news: Condvar,
    began: Instant,
}

type End = Result<(), Box<dyn Error + Send + Sync>>;

struct Core {
    store: KeyspaceStore,
    source: Source,
}

impl Shard {
    pub fn new(shard: ShardId, shards: ShardCount, generation: Generation, backlog_bytes: usize) -> Arc<Shard> {
        let source = Source::new(SourceConfig {
            shard,
            shards,
            generation, // of all shards of this process; random
            born_empty: true,
            lineage: Lineage::none(),
            first: Offset::ZERO,
            backlog_bytes,
            reconnect_window_ms: 60_000,
            client_port: None,
        });
        let core = Mutex::new(Core { store: KeyspaceStore::new(), source });
        Arc::new(Shard { core, news: Condvar::new(), began: Instant::now() })
    }

    /// Keys and stream change under one lock; what they change by is an effect: one key, no clock, no chance.
    pub fn write(&self, effect: &[&str]) {
        let mut core = self.lock();
        dispatch(&mut core.store, effect).expect("an effect that the store knows");
        core.source.record(&Effects::One(Command::new(effect)), Argv::new(b"", &[]));
        core.source.end_turn();
        self.news.notify_all();
    }

    /// Takes replicas on a free port, each on threads of its own.
    pub fn listen(self: &Arc<Shard>, address: &str) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shard = Arc::clone(self);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shard = Arc::clone(&shard);
                thread::spawn(move || shard.serve(&socket));
            }
        });
        Ok(address)
    }

    /// Serves one replica until it goes: this thread sends, another one listens. Ends with the reason.
    pub fn serve(&self, socket: &TcpStream) -> End {
        let timeouts = Timeouts { heartbeat_ms: 1_000, link_timeout_ms: 60_000 };
        let session = Mutex::new(Session::new(timeouts, self.now()));
        let ended = Mutex::new(None);
        thread::scope(|scope| {
            scope.spawn(|| {
                let end = self.hear(socket, &session);
                *ended.lock().unwrap() = Some(end);
                self.news.notify_all();
            });
            let sent = self.send(socket, &session, &ended);
            let _ = socket.shutdown(Shutdown::Both); // the other thread sees it
            let link = session.lock().unwrap().link();
            if let Some(link) = link {
                self.lock().source.detach(link, self.now());
            }
            sent
        })
    }

    fn hear(&self, mut socket: &TcpStream, session: &Mutex<Session>) -> End {
        let mut buffer = [0; 4096];
        loop {
            let len = socket.read(&mut buffer)?;
            if len == 0 {
                return Ok(());
            }
            let mut core = self.lock();
            session.lock().unwrap().handle_input(&mut core.source, &buffer[..len], self.now(), |_event| {})?;
            self.news.notify_all();
        }
    }

    fn send(&self, mut socket: &TcpStream, session: &Mutex<Session>, ended: &Mutex<Option<End>>) -> End {
        let mut core = self.lock();
        loop {
            let Core { store, source } = &mut *core;
            let (bytes, deadline) = {
                let mut session = session.lock().unwrap();
                session.handle_timeout(self.now())?;
                (session.poll_transmit(source, store, self.now())?, session.poll_timeout())
            };
            if let Some(bytes) = bytes {
                drop(core);
                socket.write_all(&bytes)?;
                core = self.lock();
                continue;
            }
            // What the session still had to say is said.
            if let Some(end) = ended.lock().unwrap().take() {
                return end;
            }
            let wait = deadline.micros().saturating_sub(self.now().micros()).max(1_000);
            core = self.news.wait_timeout(core, Duration::from_micros(wait)).unwrap().0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap()
    }

    fn now(&self) -> Moment {
        Moment::from_micros(self.began.elapsed().as_micros() as u64)
    }
}

// Up to here it is what docs/embedding.md shows; the rest is for tests.

impl Shard {
    /// The digest of all keys: equal on two nodes exactly when their keys are.
    pub fn digest(&self) -> u64 {
        kevy_replicate::store::command::key::digest(&self.lock().store, kevy_replicate::id::SlotRange::ALL).0
    }

    /// Tells replicas the digest of a slot.
    pub fn tell_digest(&self, slot: kevy_replicate::id::HashSlot) {
        let mut core = self.lock();
        let Core { store, source } = &mut *core;
        let before = source.scrub_counters().slots;
        source.scrub_first(slot);
        while source.scrub_counters().slots == before {
            source.scrub(store, self.now());
        }
        self.news.notify_all();
    }

    /// Everything below is recorded.
    pub fn head(&self) -> Offset {
        self.lock().source.next()
    }

    /// Waits until a replica has applied everything below `next`.
    pub fn wait_for_ack(&self, next: Offset) {
        let core = self.news.wait_while(self.lock(), |core| core.source.slots().ackers(next).count() == 0);
        drop(core.unwrap());
    }

    /// What a restart without persistence does.
    pub fn forget_everything(&self, generation: Generation) {
        let mut core = self.lock();
        let history = core.source.history();
        let fresh = Shard::new(history.shard, history.shards, generation, core.source.backlog().budget());
        let fresh = Arc::into_inner(fresh).expect("nobody else has it");
        *core = fresh.core.into_inner().unwrap();
        self.news.notify_all();
    }
}
