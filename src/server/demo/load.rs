//! Traffic on the primary: writers that send pipelines of every type's writes, and clients that send one command at a
//! time and measure how long it takes.
//!
//! A client that had to wait counts from when its command was due, so that a pause is not one sample but all that it
//! held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Trouble;
use super::client::{Client, encode};

/// Load that runs until it is [finished](Self::finish).
pub(super) struct Load {
    over: Arc<AtomicBool>,
    began: Instant,
    writers: Vec<JoinHandle<Result<u64, Trouble>>>,
    clients: Vec<JoinHandle<Result<Histogram<u64>, Trouble>>>,
}

/// What a load was like.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Loaded {
    /// Writes that the writers had answered, a second.
    pub writes_per_second: u64,
    /// Half of the clients' commands took at most this, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 of the clients' commands took at most this, in microseconds.
    pub p99_us: u64,
    /// The slowest of the clients' commands, in microseconds.
    pub max_us: u64,
    /// How many commands the clients sent.
    pub samples: u64,
}

impl Load {
    /// Only the clients that measure.
    pub fn idle(port: u16) -> Load {
        Load::start(port, 0)
    }

    /// The clients that measure, and writers that write at an even pace.
    pub fn writes(port: u16) -> Load {
        Load::start(port, WRITERS)
    }

    fn start(port: u16, writers: u64) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let writers = (0..writers).map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || write_until(port, &over))
        });
        let writers = writers.collect();
        let clients = (0..CLIENTS).map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || measure_until(port, &over))
        });
        let clients = clients.collect();
        Load { over, began: Instant::now(), writers, clients }
    }

    /// Ends the load.
    ///
    /// # Errors
    /// If the primary refused a write, or did not answer.
    pub fn finish(mut self) -> Result<Loaded, Trouble> {
        self.over.store(true, Ordering::Relaxed);
        let seconds = self.began.elapsed().as_secs_f64();
        let mut writes = 0;
        for writer in self.writers.drain(..) {
            writes += ended(writer)?;
        }
        let mut latency = histogram()?;
        for client in self.clients.drain(..) {
            latency.add(ended(client)?).map_err(|error| Trouble::new(error.to_string()))?;
        }
        Ok(Loaded {
            writes_per_second: (writes as f64 / seconds) as u64,
            p50_us: latency.value_at_quantile(0.5),
            p99_us: latency.value_at_quantile(0.99),
            max_us: latency.max(),
            samples: latency.len(),
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Writes every key of the strings once, and something into every other key, as fast as the primary takes it.
pub(super) fn fill(port: u16) -> Result<(), Trouble> {
    in_parallel(move |writer| {
        let mut client = Client::connect(port)?;
        let mut rng = Rng::new();
        let numbers: Vec<u64> = (writer..STRINGS).step_by(WRITERS as usize).collect();
        for numbers in numbers.chunks(PIPELINE) {
            let mut out = Vec::new();
            let mut count = 0;
            for &number in numbers {
                set(&mut out, &mut rng, number);
                count += 1;
                if number < AGGREGATES {
                    encode(&mut out, &["RPUSH", &format!("list:{number}"), "a", "b", "c", "d", "e"]);
                    count += 1;
                }
            }
            client.send(&out)?;
            client.expect(count)?;
        }
        Ok(())
    })
    .map(drop)
}

/// Sends about `count` writes as fast as the primary takes them, and returns how many they were.
pub(super) fn burst(port: u16, count: u64) -> Result<u64, Trouble> {
    in_parallel(move |_| {
        let mut client = Client::connect(port)?;
        let mut rng = Rng::new();
        let mut left = count / WRITERS;
        let mut writes = 0;
        while left > 0 {
            let (requests, sent) = pipeline(&mut rng, left.min(PIPELINE as u64) as usize);
            client.send(&requests)?;
            client.expect(sent)?;
            left = left.saturating_sub(sent as u64);
            writes += sent as u64;
        }
        Ok(writes)
    })
    .map(|writes| writes.iter().sum())
}

/// The name of a key that every run writes.
pub(super) fn some_key() -> String {
    format!("string:{}", STRINGS / 2)
}

fn in_parallel<T: Send + 'static>(
    work: impl Fn(u64) -> Result<T, Trouble> + Clone + Send + 'static,
) -> Result<Vec<T>, Trouble> {
    let threads = (0..WRITERS).map(|writer| {
        let work = work.clone();
        thread::spawn(move || work(writer))
    });
    threads.collect::<Vec<_>>().into_iter().map(ended).collect()
}

fn ended<T>(thread: JoinHandle<Result<T, Trouble>>) -> Result<T, Trouble> {
    thread.join().unwrap_or_else(|_| Err(Trouble::new("a thread of the load panicked".to_owned())))
}

fn write_until(port: u16, over: &AtomicBool) -> Result<u64, Trouble> {
    let mut client = Client::connect(port)?;
    let mut rng = Rng::new();
    let mut writes = 0;
    let mut due = Instant::now() + PACE.mul_f64(rng.f64());
    while !over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A writer that is late does not make up for it: the pace is a wish.
        due = Instant::now().max(due) + PACE;
        let (requests, count) = pipeline(&mut rng, PACED_PIPELINE);
        client.send(&requests)?;
        client.expect(count)?;
        writes += count as u64;
    }
    Ok(writes)
}

fn measure_until(port: u16, over: &AtomicBool) -> Result<Histogram<u64>, Trouble> {
    let mut client = Client::connect(port)?;
    let mut rng = Rng::new();
    let mut latency = histogram()?;
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let now = Instant::now();
        thread::sleep(due.saturating_duration_since(now));
        let began = if now > due { due } else { Instant::now() };
        let mut request = Vec::new();
        let number = rng.u64(..STRINGS);
        match rng.bool() {
            true => set(&mut request, &mut rng, number),
            false => encode(&mut request, &["GET", &format!("string:{number}")]),
        }
        client.send(&request)?;
        client.expect(1)?;
        latency.saturating_record(began.elapsed().as_micros() as u64);
        due += MEASURE;
    }
    Ok(latency)
}

/// At least `least` writes of every type, and how many they are.
fn pipeline(rng: &mut Rng, least: usize) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(least * 128);
    let count = (0..least).map(|_| write(rng, &mut out)).sum();
    (out, count)
}

/// One write of a mix in which no value grows for ever, and how many commands it is.
fn write(rng: &mut Rng, out: &mut Vec<u8>) -> usize {
    let key = |rng: &mut Rng, kind: &str| format!("{kind}:{}", rng.u64(..AGGREGATES));
    match rng.u8(..100) {
        0..58 => {
            let number = rng.u64(..STRINGS);
            set(out, rng, number);
        }
        58..68 => encode(out, &["INCR", &key(rng, "counter")]),
        68..78 => {
            let field = format!("field:{}", rng.u8(..16));
            encode(out, &["HSET", &key(rng, "hash"), &field, &rng.u32(..).to_string()]);
        }
        78..84 => {
            let key = key(rng, "list");
            encode(out, &["LPUSH", &key, &rng.u32(..).to_string()]);
            encode(out, &["RPOP", &key]);
            return 2;
        }
        84..89 => encode(out, &["SADD", &key(rng, "set"), &rng.u8(..32).to_string()]),
        89..91 => encode(out, &["SREM", &key(rng, "set"), &rng.u8(..32).to_string()]),
        91..96 => {
            let score = rng.u32(..1_000_000).to_string();
            encode(out, &["ZADD", &key(rng, "zset"), &score, &rng.u8(..32).to_string()]);
        }
        96..98 => encode(out, &["SET", &key(rng, "session"), "token", "PX", "3600000"]),
        98 => encode(out, &["DEL", &format!("string:{}", rng.u64(..STRINGS / 2))]),
        _ => encode(out, &["MSET", &key(rng, "a"), "1", &key(rng, "b"), "2", &key(rng, "c"), "3"]),
    }
    1
}

fn set(out: &mut Vec<u8>, rng: &mut Rng, number: u64) {
    let mut value = [0; VALUE_BYTES];
    value.fill_with(|| rng.alphanumeric() as u8);
    encode(out, &[b"SET", format!("string:{number}").as_bytes(), &value]);
}

fn histogram() -> Result<Histogram<u64>, Trouble> {
    Histogram::new_with_bounds(1, 60_000_000, 3).map_err(|error| Trouble::new(error.to_string()))
}

/// Keys that hold strings.
pub(super) const STRINGS: u64 = 300_000;
/// Keys of each other kind.
const AGGREGATES: u64 = 2_000;
const VALUE_BYTES: usize = 64;
const WRITERS: u64 = 2;
/// Commands that a writer sends at once: as fast as it may, and at an even pace.
const PIPELINE: usize = 128;
const PACED_PIPELINE: usize = 64;
/// A writer's pipelines are this far apart: 2 writers make 32,000 pipelined writes a second.
const PACE: Duration = Duration::from_millis(4);
const CLIENTS: u64 = 2;
/// A measuring client's commands are this far apart.
const MEASURE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_holds_as_many_commands_as_it_says() {
        let mut rng = Rng::with_seed(7);
        for least in 1..200 {
            let (requests, count) = pipeline(&mut rng, least);
            let heads = requests.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"*")).count();
            assert_eq!(heads, count);
            assert!(count >= least);
        }
    }

    #[test]
    fn the_key_that_every_run_writes_is_never_deleted() {
        let mut rng = Rng::with_seed(7);
        let (requests, _) = pipeline(&mut rng, 100_000);
        let text = String::from_utf8(requests).unwrap();
        let deleted = text.split("*2\r\n$3\r\nDEL\r\n").skip(1).filter_map(|rest| rest.lines().nth(1));
        let deleted: Vec<_> = deleted.collect();
        assert!(deleted.len() > 100 && !deleted.contains(&some_key().as_str()));
    }
}
