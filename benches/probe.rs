//! What does a client see while a server is at work? A small probe that speaks to any Redis-protocol server:
//! `scripts/bench_peers/` starts it beside each peer in turn. It measures nothing of its own when it is run without arguments.
//!
//! ```text
//! probe get PORT HZ                  a GET every 1/HZ s until its input ends: latency
//! probe load PORT RATE KEYS BYTES    RATE SETs a second over KEYS random keys until its input ends: how many it wrote
//! probe visible PRIMARY REPLICA N    N writes, each read on the replica until it is there: from the write, from its +OK
//! probe wait PORT N                  N times WAIT 1 after a SET's +OK; N times both in one write
//! probe fill PORT KEYS BYTES         KEYS different keys, pipelined
//! probe resize PORT N KEYS MIN MAX   N SETs over KEYS random keys, of MIN to MAX bytes, pipelined
//! probe idle PORT N                  N connections that say nothing, until its input ends
//! probe drain PORT                   a reader that only counts takes the whole window of a kevy of one shard
//! probe pipe BYTES CHUNK             BYTES over loopback by plain sends of CHUNK: what drain is to be compared with
//! ```
//!
//! One line of JSON at the end, times in microseconds. Latency is counted from when a request was due, if the answer before it
//! came too late to send it then; a probe that woke late by itself counts from when it sent.
//! Numbers that would make us change the design: a GET above 5 ms while a replica attaches, a `WAIT` above a round trip and a hop.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use kevy_replicate::handshake::{Claim, Done, Flags, Form, Hello, Options, ReplicaId, StreamOf};
use kevy_replicate::id::{Generation, Offset, ShardCount, ShardId};
use serde_json::{Value, json};

/// Paced requests go out together as often as this.
const PACE: Duration = Duration::from_millis(1);
/// Commands that are sent together where nothing is paced.
const PIPELINE: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if args.is_empty() {
        return;
    }
    match run(&args) {
        Ok(report) => println!("{report}"),
        Err(error) => {
            eprintln!("probe {}: {error}", args.join(" "));
            std::process::exit(1);
        }
    }
}

fn run(args: &[String]) -> io::Result<Value> {
    let mut numbers = Vec::new();
    for arg in &args[1..] {
        numbers.push(arg.parse().map_err(|_| io::Error::other(format!("`{arg}` is no number")))?);
    }
    match (args[0].as_str(), numbers.as_slice()) {
        ("get", &[port, hz]) => get(port, hz),
        ("load", &[port, rate, keys, bytes]) => load(port, rate, keys, bytes),
        ("visible", &[primary, replica, count]) => visible(primary, replica, count),
        ("wait", &[port, count]) => wait(port, count),
        ("fill", &[port, keys, bytes]) => pipeline(port, keys, |n| (n, bytes as usize)),
        ("resize", &[port, count, keys, least, most]) => {
            let mut random = fastrand::Rng::with_seed(2);
            pipeline(port, count, |_| (random.u64(0..keys.max(1)), random.usize(least as usize..=most as usize)))
        }
        ("idle", &[port, count]) => idle(port, count),
        ("drain", &[port]) => drain(port),
        ("pipe", &[bytes, chunk]) => pipe(bytes, chunk as usize),
        _ => Err(io::Error::other("unknown, or not with these numbers")),
    }
}

/// One connection.
struct Client {
    socket: TcpStream,
    replies: BufReader<TcpStream>,
    line: Vec<u8>,
}

impl Client {
    fn connect(port: u64) -> io::Result<Client> {
        let port = u16::try_from(port).map_err(io::Error::other)?;
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        let replies = BufReader::with_capacity(64 << 10, socket.try_clone()?);
        Ok(Client { socket, replies, line: Vec::new() })
    }

    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.socket.write_all(request)
    }

    /// The value of one reply: the text of a line, or a bulk string; `None` for the null one.
    fn reply(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.line.clear();
        self.replies.read_until(b'\n', &mut self.line)?;
        let text =
            self.line.strip_suffix(b"\r\n").ok_or_else(|| io::Error::other("the server closed the connection"))?;
        match text {
            [b'-', error @ ..] => Err(io::Error::other(String::from_utf8_lossy(error).into_owned())),
            b"$-1" => Ok(None),
            [b'$', len @ ..] => {
                let len: usize = String::from_utf8_lossy(len).parse().map_err(io::Error::other)?;
                let mut bulk = vec![0; len + 2];
                self.replies.read_exact(&mut bulk)?;
                bulk.truncate(len);
                Ok(Some(bulk))
            }
            [_, rest @ ..] => Ok(Some(rest.to_vec())),
            [] => Err(io::Error::other("an empty line for a reply")),
        }
    }

    fn ask(&mut self, request: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.send(request)?;
        self.reply()
    }
}

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Latencies in nanoseconds, up to a minute.
struct Latency(Histogram<u64>);

impl Latency {
    fn new() -> io::Result<Latency> {
        Histogram::new_with_bounds(1, 60_000_000_000, 3).map(Latency).map_err(io::Error::other)
    }

    fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_nanos() as u64);
    }

    fn report(&self) -> Value {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let quantile = |q: f64| micros(self.0.value_at_quantile(q));
        json!({ "count": self.0.len(), "p50": quantile(0.5), "p99": quantile(0.99), "p999": quantile(0.999), "max": micros(self.0.max()) })
    }
}

/// Becomes true when the standard input ends: whoever started the probe is done with it.
fn over() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&over);
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        set.store(true, Ordering::Relaxed);
    });
    over
}

fn get(port: u64, hz: u64) -> io::Result<Value> {
    let mut client = Client::connect(port)?;
    client.ask(&request(&[b"SET", b"probe", b"1"]))?;
    let (over, get, mut latency) = (over(), request(&[b"GET", b"probe"]), Latency::new()?);
    let period = Duration::from_secs(1) / hz.clamp(1, 1_000_000) as u32;
    let mut due = Instant::now() + period;
    while !over.load(Ordering::Relaxed) {
        let ready = Instant::now();
        if ready < due {
            std::thread::sleep(due - ready);
        }
        let from = if ready < due { Instant::now() } else { due };
        client.ask(&get)?;
        latency.record(from.elapsed());
        due += period;
    }
    Ok(latency.report())
}

fn load(port: u64, rate: u64, keys: u64, bytes: u64) -> io::Result<Value> {
    let mut client = Client::connect(port)?;
    let (over, value, mut random) = (over(), vec![b'v'; bytes as usize], fastrand::Rng::with_seed(1));
    let (began, mut sent, mut batch) = (Instant::now(), 0, Vec::new());
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(PACE);
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        // No more at once than the peers' default limits bear; what could not be sent in time is sent later.
        let count = (due - sent).min(rate.div_ceil(10));
        batch.clear();
        for _ in 0..count {
            let key = format!("key:{:012}", random.u64(0..keys.max(1)));
            batch.extend_from_slice(&request(&[b"SET", key.as_bytes(), &value]));
        }
        client.send(&batch)?;
        for _ in 0..count {
            client.reply()?;
        }
        sent += count;
    }
    Ok(json!({ "written": sent, "rate": sent as f64 / began.elapsed().as_secs_f64() }))
}

fn visible(primary: u64, replica: u64, count: u64) -> io::Result<Value> {
    let (mut writer, mut reader) = (Client::connect(primary)?, Client::connect(replica)?);
    let (mut from_write, mut from_ok) = (Latency::new()?, Latency::new()?);
    let get = request(&[b"GET", b"probe"]);
    for n in 0..count {
        let value = n.to_string().into_bytes();
        let written = Instant::now();
        writer.ask(&request(&[b"SET", b"probe", &value]))?;
        let ok = Instant::now();
        while reader.ask(&get)?.as_ref() != Some(&value) {}
        from_write.record(written.elapsed());
        from_ok.record(ok.elapsed());
        // A server that is at rest between two writes is what is asked for.
        std::thread::sleep(PACE);
    }
    Ok(json!({ "from_write": from_write.report(), "from_ok": from_ok.report() }))
}

/// `count` SETs, a few pipelines of them under way; `next` names the key and the size of the value of each.
fn pipeline(port: u64, count: u64, mut next: impl FnMut(u64) -> (u64, usize)) -> io::Result<Value> {
    let mut client = Client::connect(port)?;
    let value = vec![b'v'; 1 << 20];
    let (began, mut batch, mut waiting) = (Instant::now(), Vec::new(), 0);
    for first in (0..count).step_by(PIPELINE) {
        batch.clear();
        let sent = count.min(first + PIPELINE as u64) - first;
        for n in first..first + sent {
            let (key, bytes) = next(n);
            let key = format!("key:{key:012}");
            batch.extend_from_slice(&request(&[b"SET", key.as_bytes(), &value[..bytes.min(value.len())]]));
        }
        client.send(&batch)?;
        waiting += sent;
        while waiting > 4 * PIPELINE as u64 {
            client.reply()?;
            waiting -= 1;
        }
    }
    (0..waiting).try_for_each(|_| client.reply().map(drop))?;
    Ok(json!({ "written": count, "rate": count as f64 / began.elapsed().as_secs_f64() }))
}

fn idle(port: u64, count: u64) -> io::Result<Value> {
    let (soft, hard) = rlimit::Resource::NOFILE.get()?;
    rlimit::Resource::NOFILE.set(hard.max(soft), hard)?;
    let port = u16::try_from(port).map_err(io::Error::other)?;
    let held: io::Result<Vec<TcpStream>> = (0..count).map(|_| TcpStream::connect(("127.0.0.1", port))).collect();
    let held = held?;
    println!("ready");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(json!({ "held": held.len() }))
}

/// A field of `INFO replication`, or a part of one such as `generation` of `stream0`.
fn field(info: &str, line: &str, part: Option<&str>) -> io::Result<u64> {
    let text = info.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    let text = match part {
        None => text,
        Some(part) => text.and_then(|text| text.split(',').find_map(|pair| pair.strip_prefix(part)?.strip_prefix('='))),
    };
    let missing = || io::Error::other(format!("INFO replication has no number {line} {}", part.unwrap_or_default()));
    text.and_then(|text| text.trim().parse().ok()).ok_or_else(missing)
}

/// The whole window of a kevy of one shard, read by plain `recv`s as a replica that has every slot and no frame. The window must reach
/// back to the first frame.
fn drain(port: u64) -> io::Result<Value> {
    let info = Client::connect(port)?.ask(&request(&[b"INFO", b"replication"]))?.unwrap_or_default();
    let info = String::from_utf8_lossy(&info);
    let base = u16::try_from(field(&info, "repl_port_base", None)?).map_err(io::Error::other)?;
    let window = field(&info, "stream0", Some("bytes"))?;
    let generation = Generation::new(field(&info, "stream0", Some("generation"))?);
    let generation = generation.ok_or_else(|| io::Error::other("no history"))?;
    let stream = StreamOf { shard: ShardId::new(0), of: Some(ShardCount::ONE) };
    let flags = Flags { crc: true, items: true, observer: true };
    let hello = Hello {
        id: ReplicaId::new("drain").map_err(io::Error::other)?,
        claim: Claim::At { generation, next: Offset::ZERO, done: Done::All },
        form: Form::Ours(Options { flags, ..Options::new(stream) }),
    };
    let mut greeting = Vec::new();
    hello.encode(&mut greeting);
    let mut socket = TcpStream::connect(("127.0.0.1", base))?;
    socket.write_all(&greeting)?;
    let mut buffer = vec![0; 512 << 10];
    // The answer first, and what of the stream came with it: time is counted from there on.
    let head = socket.read(&mut buffer)?;
    if !matches!(buffer.first(), Some(b'+' | b'*')) {
        return Err(io::Error::other(String::from_utf8_lossy(&buffer[..head.min(200)]).into_owned()));
    }
    let (began, mut bytes) = (Instant::now(), 0);
    while bytes + (head as u64) < window {
        match socket.read(&mut buffer)? {
            0 => return Err(io::Error::other("the stream ended before the window did")),
            len => bytes += len as u64,
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(json!({ "bytes": bytes, "gb_per_second": bytes as f64 / seconds.max(1e-9) / 1e9 }))
}

fn pipe(bytes: u64, chunk: usize) -> io::Result<Value> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let sending = std::thread::spawn(move || -> io::Result<()> {
        let (mut socket, _) = listener.accept()?;
        // As wide a window as a backlog has: what is sent does not lie in the cache.
        let source = vec![b'v'; (bytes as usize).max(chunk)];
        source.chunks(chunk.max(1)).try_for_each(|chunk| socket.write_all(chunk))
    });
    let mut socket = TcpStream::connect(address)?;
    let mut buffer = vec![0; 512 << 10];
    let mut received = socket.read(&mut buffer)? as u64;
    let began = Instant::now();
    while let len @ 1.. = socket.read(&mut buffer)? {
        received += len as u64;
    }
    let seconds = began.elapsed().as_secs_f64();
    sending.join().map_err(|_| io::Error::other("the sender panicked"))??;
    Ok(json!({ "bytes": received, "gb_per_second": received as f64 / seconds / 1e9 }))
}

fn wait(port: u64, count: u64) -> io::Result<Value> {
    let mut client = Client::connect(port)?;
    let (mut after_ok, mut together) = (Latency::new()?, Latency::new()?);
    let (set, wait) = (request(&[b"SET", b"probe", b"1"]), request(&[b"WAIT", b"1", b"0"]));
    let both = [set.as_slice(), &wait].concat();
    for _ in 0..count {
        client.ask(&set)?;
        let asked = Instant::now();
        client.ask(&wait)?;
        after_ok.record(asked.elapsed());
        std::thread::sleep(PACE);
        let asked = Instant::now();
        client.ask(&both)?;
        client.reply()?;
        together.record(asked.elapsed());
        std::thread::sleep(PACE);
    }
    Ok(json!({ "after_ok": after_ok.report(), "set_and_wait": together.report() }))
}
