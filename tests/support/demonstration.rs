/// What stands behind the programs of the documentation: they name a port that may be taken on this machine, and are led to
/// this primary instead.
pub struct Demonstration {
    pub shards: Vec<Arc<Shard>>,
}

static BASE: std::sync::OnceLock<SocketAddr> = std::sync::OnceLock::new();

impl Demonstration {
    /// A primary of `count` shards with a few keys. One in each process.
    pub fn start(count: u16) -> io::Result<Demonstration> {
        let count = ShardCount::new(count).unwrap();
        let generation = Generation::new(7).unwrap();
        let shards: Vec<_> = count.shards().map(|shard| Shard::new(shard, count, generation, 1 << 20)).collect();
        let demonstration = Demonstration { shards };
        let base = 'ports: loop {
            let base = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            for (i, shard) in demonstration.shards.iter().enumerate() {
                if shard.listen(&format!("127.0.0.1:{}", usize::from(base.port()) + i)).is_err() {
                    continue 'ports;
                }
            }
            break base;
        };
        assert!(BASE.set(base).is_ok(), "one demonstration a process");
        for i in 0..100 {
            demonstration.write(&["SET", &format!("key:{i}"), &i.to_string()]);
        }
        Ok(demonstration)
    }

    pub fn write(&self, effect: &[&str]) {
        let count = ShardCount::new(self.shards.len() as u16).unwrap();
        let slot = kevy_replicate::store::hash::locate(effect[1].as_bytes()).slot;
        self.shards[count.owner(slot).index()].write(effect);
    }

    pub fn digest(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(shard.digest()))
    }

    pub fn address() -> String {
        BASE.get().unwrap().to_string()
    }
}

pub mod elsewhere {
    use kevy_replicate::replica::client::{ClientError, ReplicaClient as Client};

    /// Connects to the demonstration, whatever it is told.
    pub struct ReplicaClient;

    impl ReplicaClient {
        pub fn connect(_: &str, id: &str, from: u64) -> Result<Client, ClientError> {
            Client::connect(&super::Demonstration::address(), id, from)
        }

        pub fn connect_all(_: &str, id: &str) -> Result<Vec<Client>, ClientError> {
            Client::connect_all(&super::Demonstration::address(), id)
        }

        pub fn follow(_: &str, id: &str) -> Result<Client, ClientError> {
            Client::follow(&super::Demonstration::address(), id)
        }
    }
}
