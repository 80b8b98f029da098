//! `kevy bench`: what a stream costs the shards at its two ends. One process, real sockets over loopback, no clients.
//!
//! ```text
//!   ┌ primary ───────────────────────┐            ┌ replica 0 … k ──────────────────┐
//!   │ shard 0: writer ▶ store ▶ backlog ══ TCP ══▶ shard 0: puller ▶ applier ▶ store │   each shard a thread
//!   │ shard 1: …                     │            │ shard 1: …                       │
//!   └────────────────────────────────┘            └──────────────────────────────────┘
//!   acts of a scene:  fill every key once ▶ as fast as it goes ▶ at a share of that rate
//! ```
//!
//! A scene is one number of shards with one number of replicas. Writers, streamers and pullers are those of a node; what is left out
//! is the clients' protocol, so that what is measured is replication and the store under it. CPU is the system's accounting of each
//! thread, until every replica has acknowledged everything. Lag is measured by published messages that carry the moment at which they
//! were recorded: from there until the replica's shard has applied them.
//!
//! Numbers that would make us change the design: more than 0.1 µs of a primary for each further replica; a frame that costs a replica
//! more than it cost the primary; a p99 of the lag at half the rate above two milliseconds on a machine with a CPU for each thread.

mod accounting;
mod machine;
mod options;
mod primary;
mod replica;
mod report;
mod screen;
mod stage;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use self::options::{Options, Raw};

use self::accounting::Cpu;
use self::primary::Keys;
use self::replica::Lags;
use self::report::{Flat, Lag, Paced, Report, Scene, Side};
use self::screen::Screen;
use self::stage::{Act, Stage};
use super::Failure;
use super::node::{new_generation, random};
use crate::handshake::ReplicaId;
use crate::id::ShardCount;
use crate::limits;
use crate::runtime::cpus::CpuId;
use crate::runtime::executor::{Executors, Plan};
use crate::runtime::listener::Listener;
use crate::runtime::mesh::mesh;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::startup::Environment;

/// Plays every scene, and shows the table.
///
/// # Errors
/// If this machine has no io_uring for us, a scene does not come to its end, or the numbers cannot be written.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let environment = Environment::look().map_err(|error| Failure::Environment(error.to_string()))?;
    // Opened first: nobody likes to hear at the end that the numbers are lost.
    let json = options.json.as_deref().map(|path| File::create(path).map_err(|error| unwritable(path, &error)));
    let mut json = json.transpose()?;
    let mut report = Report::new(options, machine::Machine::look(&environment));
    let scenes: Vec<(ShardCount, u16)> =
        options.shards.iter().flat_map(|shards| options.replicas.iter().map(|replicas| (*shards, *replicas))).collect();
    let mut screen = Screen::new(scenes.len());
    screen.head(&report);
    let mut keys: Option<(ShardCount, Arc<Keys>)> = None;
    for (shards, replicas) in scenes {
        let keys = match &keys {
            Some((of, keys)) if *of == shards => Arc::clone(keys),
            _ => {
                screen.now(shards, replicas, "keys are made up");
                let made = Arc::new(Keys::new(options.keys, shards));
                keys = Some((shards, Arc::clone(&made)));
                made
            }
        };
        let scene = play(options, &environment, shards, replicas, &keys, &screen)?;
        screen.row(&scene);
        report.scenes.push(scene);
    }
    screen.foot(&report);
    if let (Some(file), Some(path)) = (&mut json, &options.json) {
        let written = serde_json::to_writer_pretty(&mut *file, &report).map_err(io::Error::from);
        written.and_then(|()| file.write_all(b"\n")).map_err(|error| unwritable(path, &error))?;
    }
    Ok(())
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("--json {:?}: must be a file that can be written: {error}", path.display()))
}

/// One scene, from the start of its nodes to their end.
fn play(
    options: &Options,
    environment: &Environment,
    shards: ShardCount,
    replicas: u16,
    keys: &Arc<Keys>,
    screen: &Screen,
) -> Result<Scene, Failure> {
    let threads = usize::from(shards.get()) * usize::from(1 + replicas);
    let pinned = options.pin && threads <= environment.parallelism;
    let mut cpus = environment.cpus.iter().copied().map(|cpu| pinned.then_some(cpu)).chain(std::iter::repeat(None));
    let stage = Arc::new(Stage::new(shards, threads));

    let (primary, ports) = start_primary(options, &mut cpus, shards, replicas, keys, &stage)?;
    let mut followers = Vec::new();
    for number in 0..replicas {
        followers.push(start_replica(&mut cpus, shards, number, &ports, &stage)?);
    }

    let act = |act: Act, name: &str| {
        let before = stage.cpu();
        let began = Instant::now();
        let length = if act == Act::Fill { None } else { Some(options.time) };
        stage.begin(act);
        while !stage.is_over() {
            screen.progress(shards, replicas, name, began.elapsed(), length, stage.recorded());
            if began.elapsed() > length.unwrap_or_default() + PATIENCE {
                let lagging = if replicas > 0 { "the replicas did not apply everything" } else { "it did not end" };
                return Err(Failure::Other(format!(
                    "{shards} shards, {replicas} replicas, {name}: {lagging} within {} s",
                    PATIENCE.as_secs()
                )));
            }
            std::thread::sleep(GLANCE);
        }
        let used: Vec<Cpu> = stage.cpu().iter().zip(&before).map(|(now, before)| *now - *before).collect();
        Ok((stage.played(), used))
    };
    act(Act::Fill, "every key is written once")?;
    let (flat, used) = act(Act::Flat, "as fast as it goes")?;
    let side = |thread: usize, frames: u64| Side::new(used[thread], frames);
    let count = usize::from(shards.get());
    let flat: Vec<Flat> = flat
        .iter()
        .enumerate()
        .map(|(shard, played)| Flat {
            frames: played.frames,
            seconds: played.took.as_secs_f64(),
            frames_per_second: played.rate(),
            megabytes_per_second: played.rate() * played.frame_bytes / 1e6,
            primary: side(shard, played.frames),
            replicas: (1..=usize::from(replicas)).map(|r| side(r * count + shard, played.frames)).collect(),
        })
        .collect();
    let rates: Vec<f64> = flat.iter().map(|shard| shard.frames_per_second * options.share).collect();
    stage.set_rates(&rates);
    act(Act::Paced, "at a share of that rate")?;

    let mut lags = Lags::default();
    for (executors, shutdown) in followers {
        shutdown.begin();
        executors.join().iter().for_each(|of_shard| lags.add(of_shard));
    }
    let (executors, shutdown) = primary;
    shutdown.begin();
    executors.join();
    Ok(Scene {
        shards: shards.get(),
        replicas,
        threads,
        pinned,
        crowded: threads > environment.parallelism,
        per_shard: flat,
        lag_flat: Lag::of(&lags.flat),
        paced: Paced { frames_per_second_per_shard: rates, lag: Lag::of(&lags.paced) },
    })
}

/// The executors of one node, and what ends them.
type Running<T> = (Executors<T>, Shutdown);

fn start_primary(
    options: &Options,
    cpus: &mut impl Iterator<Item = Option<CpuId>>,
    shards: ShardCount,
    replicas: u16,
    keys: &Arc<Keys>,
    stage: &Arc<Stage>,
) -> Result<(Running<()>, Vec<u16>), Failure> {
    let generation = new_generation();
    let mut ports = Vec::new();
    let mut seeds = Vec::new();
    for (shard, mesh) in shards.shards().zip(mesh(shards, limits::MESH_REQUESTS)) {
        let listener = Listener::bind("127.0.0.1", 0).map_err(|error| Failure::Other(error.to_string()))?;
        ports.push(listener.local_addr().port());
        seeds.push(primary::Seed {
            shard,
            shards,
            generation,
            mesh,
            listener,
            keys: Arc::clone(keys),
            stage: Arc::clone(stage),
            replicas: usize::from(replicas),
            options: options.load,
            time: options.time,
            random: random(),
        });
    }
    let running = start(cpus, shards, seeds, primary::main)?;
    Ok((running, ports))
}

fn start_replica(
    cpus: &mut impl Iterator<Item = Option<CpuId>>,
    shards: ShardCount,
    number: u16,
    ports: &[u16],
    stage: &Arc<Stage>,
) -> Result<Running<Lags>, Failure> {
    let id = ReplicaId::new(&format!("bench-{number}")).map_err(|error| Failure::Other(error.to_string()))?;
    let first_thread = usize::from(shards.get()) * usize::from(1 + number);
    let run = random();
    let seeds = shards.shards().zip(mesh(shards, limits::MESH_REQUESTS)).map(|(shard, mesh)| replica::Seed {
        shard,
        shards,
        mesh,
        id: id.clone(),
        run,
        port: ports[shard.index()],
        thread: first_thread + shard.index(),
        stage: Arc::clone(stage),
        random: random(),
    });
    start(cpus, shards, seeds.collect(), replica::main)
}

fn start<S, T, F, M>(
    cpus: &mut impl Iterator<Item = Option<CpuId>>,
    shards: ShardCount,
    seeds: Vec<S>,
    main: M,
) -> Result<Running<T>, Failure>
where
    S: Send + 'static,
    T: Send + 'static,
    F: Future<Output = T> + 'static,
    M: Fn(crate::runtime::executor::Shard, S) -> F + Clone + Send + 'static,
{
    let plan = Plan { cpus: cpus.take(usize::from(shards.get())).collect(), spin: Duration::ZERO };
    let shutdown = Shutdown::new();
    let executors =
        Executors::start(plan, seeds, &shutdown, main).map_err(|error| Failure::Environment(error.to_string()))?;
    Ok((executors, shutdown))
}

/// What no act takes beyond its time on any machine that works.
const PATIENCE: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_millis(20);
