//! The ground on real executors, unpinned and without spinning. Each test has a deadline; none waits by sleeping.
#![cfg(feature = "runtime")]

use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use kevy_replicate::id::{ShardCount, ShardId};
use kevy_replicate::runtime::clock;
use kevy_replicate::runtime::cpus::CpuId;
use kevy_replicate::runtime::executor::{Executors, Plan, Queue, Shard, yield_to_queues};
use kevy_replicate::runtime::lane::lane;
use kevy_replicate::runtime::listener::{Connection, Listener, pauses};
use kevy_replicate::runtime::mesh::mesh;
use kevy_replicate::runtime::ring::{Closed, ring};
use kevy_replicate::runtime::shutdown::Shutdown;
use kevy_replicate::runtime::signal::Signal;
use kevy_replicate::runtime::stream::Stream;
use kevy_replicate::runtime::turn::{Turn, reactor_pass};

/// Runs `main` on one executor a seed, and ends the test when it takes too long.
fn on_shards<S, T, F>(seeds: Vec<S>, main: impl Fn(Shard, S) -> F + Clone + Send + 'static) -> Vec<T>
where
    S: Send + 'static,
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let shards = ShardCount::new(seeds.len() as u16).unwrap();
    let shutdown = Shutdown::new();
    let within = move |shard: Shard, seed: S| {
        let main = main.clone();
        async move {
            let late = async {
                clock::sleep(Duration::from_secs(20)).await;
                panic!("the test did not end in time");
            };
            main(shard, seed).or(late).await
        }
    };
    Executors::start(Plan::unpinned(shards), seeds, &shutdown, within).expect("these tests need io_uring").join()
}

#[test]
fn a_shard_knows_its_number_and_ticks() {
    let seen = on_shards(vec![(), (), ()], |shard, ()| async move {
        let mine = &shard.health()[shard.id().index()];
        while mine.ticks() < 3 {
            clock::sleep(Duration::from_millis(1)).await;
        }
        (shard.id().get(), shard.count().get(), shard.cpu())
    });
    assert_eq!(seen, [(0, 3, None), (1, 3, None), (2, 3, None)]);
}

#[test]
fn who_yields_to_the_queues_lets_those_it_has_woken_go_first() {
    on_shards(vec![()], |shard, ()| async move {
        let raised = Rc::new(Signal::new());
        let seen = Rc::new(Cell::new(0));
        let streamer = {
            let (raised, seen) = (Rc::clone(&raised), Rc::clone(&seen));
            async move {
                while seen.get() < 1_000 {
                    raised.past(seen.get()).await;
                    seen.set(raised.epoch());
                }
            }
        };
        let streamer = shard.spawn(Queue::Replication, streamer);
        let client = async move {
            for turn in 1..=1_000 {
                raised.raise();
                yield_to_queues().await;
                assert_eq!(seen.get(), turn);
            }
        };
        shard.spawn(Queue::Clients, client).await;
        streamer.await;
    });
}

#[test]
fn items_cross_a_ring_in_order_while_both_ends_sleep_in_turn() {
    const ITEMS: u64 = 20_000;
    enum End {
        Push(kevy_replicate::runtime::ring::Producer<u64>),
        Pop(kevy_replicate::runtime::ring::Consumer<u64>),
    }
    let (producer, consumer) = ring(4);
    let sums = on_shards(vec![End::Push(producer), End::Pop(consumer)], |_, end| async move {
        match end {
            End::Push(mut producer) => {
                for item in 0..ITEMS {
                    producer.space().await.unwrap();
                    producer.try_push(item).unwrap();
                }
                0
            }
            End::Pop(mut consumer) => {
                let mut expected = 0;
                loop {
                    while let Some(item) = consumer.pop() {
                        assert_eq!(item, expected);
                        expected += 1;
                    }
                    if consumer.ready().await == Err(Closed) {
                        return expected;
                    }
                }
            }
        }
    });
    assert_eq!(sums, [0, ITEMS]);
}

#[test]
fn two_shards_ask_each_other_through_full_lanes() {
    const CALLS: u64 = 5_000;
    let count = ShardCount::new(2).unwrap();
    let answered = on_shards(mesh::<u64, u64>(count, 3), |shard, mut mesh| async move {
        let other = ShardId::new(1 - shard.id().get());
        let (mut sent, mut answered, mut served) = (0, 0, 0);
        while answered < CALLS || served < CALLS {
            let callee = mesh.callee(other);
            while let Some(request) = callee.pop() {
                callee.reply(request * 2);
                served += 1;
            }
            let caller = mesh.caller(other);
            while let Some(reply) = caller.pop() {
                assert_eq!(reply, answered * 2);
                answered += 1;
            }
            while sent < CALLS && caller.try_call(sent).is_ok() {
                sent += 1;
            }
            if answered < CALLS || served < CALLS {
                mesh.ready().await;
            }
        }
        answered
    });
    assert_eq!(answered, [CALLS, CALLS]);
}

#[test]
fn a_caller_learns_that_the_callee_is_gone() {
    let (caller, callee) = lane::<(), ()>(1);
    let mut ends = vec![(Some(caller), None), (None, Some(callee))];
    let seen = on_shards(std::mem::take(&mut ends), |_, (caller, callee)| async move {
        drop(callee);
        match caller {
            Some(mut caller) => caller.ready().await,
            None => Ok(()),
        }
    });
    assert_eq!(seen, [Err(Closed), Ok(())]);
}

#[test]
fn connections_go_to_the_shards_in_turn_and_the_listener_ends_on_demand() {
    const CONNECTIONS: usize = 8;
    let listener = Listener::bind("127.0.0.1", 0).unwrap();
    let address = listener.local_addr();
    let closer = listener.closer().unwrap();
    let (to_other, from_first) = ring::<Connection>(CONNECTIONS);
    let clients = std::thread::spawn(move || {
        for i in 0..CONNECTIONS {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(&[i as u8]).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, [i as u8, (i % 2) as u8], "echoed by the shard whose turn it is");
        }
        closer.close();
        assert!(TcpStream::connect(address).is_err(), "it listens no more");
    });
    async fn echo(mut stream: Stream, shard: ShardId) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1);
        stream.write_all(&[byte[0], shard.get() as u8]).await.unwrap();
        stream.close().await;
    }
    let served =
        on_shards(vec![(Some((listener, to_other)), None), (None, Some(from_first))], |shard, seed| async move {
            let mut tasks = Vec::new();
            match seed {
                (Some((listener, mut to_other)), _) => {
                    let mut turn = 0;
                    let spawner = shard.clone();
                    let accepted = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
                    let keep = std::rc::Rc::clone(&accepted);
                    let each = move |connection: Connection| {
                        if turn % 2 == 0 {
                            let id = spawner.id();
                            let task = spawner
                                .spawn(Queue::Clients, async move { echo(connection.attach().unwrap(), id).await });
                            keep.borrow_mut().push(task);
                        } else {
                            to_other.try_push(connection).unwrap();
                        }
                        turn += 1;
                    };
                    shard.spawn(Queue::Clients, listener.accept_each(each)).await.unwrap();
                    tasks.append(&mut accepted.take());
                }
                (None, Some(mut incoming)) => {
                    while incoming.ready().await.is_ok() {
                        while let Some(connection) = incoming.pop() {
                            let id = shard.id();
                            tasks
                                .push(shard.spawn(Queue::Clients, async move {
                                    echo(connection.attach().unwrap(), id).await
                                }));
                        }
                    }
                }
                _ => unreachable!(),
            }
            let served = tasks.len();
            for task in tasks {
                task.await;
            }
            served
        });
    clients.join().unwrap();
    assert_eq!(served, [CONNECTIONS / 2, CONNECTIONS / 2]);
}

#[test]
fn a_connection_is_made_read_to_its_end_and_hung_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        first.read_to_end(&mut bytes).unwrap();
        first.write_all(b"bye").unwrap();
        drop(first);
        let (mut second, _) = listener.accept().unwrap();
        assert_eq!(second.read(&mut [0]).unwrap(), 0, "a hung-up connection ends");
        bytes.len()
    });
    on_shards(vec![()], move |shard, ()| async move {
        let timeout = Duration::from_secs(5);
        let mut stream = Stream::connect(&shard, "localhost", port, timeout).await.unwrap();
        stream.write_all(&vec![7; 256 << 10]).await.unwrap();
        stream.finish().await;
        let (mut buffer, mut said) = ([0; 16], Vec::new());
        loop {
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                n => said.extend_from_slice(&buffer[..n]),
            }
        }
        assert_eq!(said, b"bye");
        stream.close().await;

        let mut stream = Stream::connect(&shard, "127.0.0.1", port, timeout).await.unwrap();
        let handle = stream.handle();
        let reading = shard.spawn(Queue::Clients, async move { stream.read(&mut [0]).await });
        reactor_pass().await;
        handle.hang_up();
        assert_eq!(reading.await.unwrap(), 0);
        handle.hang_up();

        let free = Listener::bind("127.0.0.1", 0).unwrap().local_addr().port();
        let refused = Stream::connect(&shard, "127.0.0.1", free, timeout).await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("cannot connect to 127.0.0.1:{free}: ")));
        let unknown = Stream::connect(&shard, "no.such.host.invalid", 1, timeout).await.unwrap_err();
        assert!(unknown.to_string().contains("no.such.host.invalid:1"));
    });
    assert_eq!(peer.join().unwrap(), 256 << 10);
}

/// A peer that speaks after pauses of all lengths is heard each time: a shard that just ran, one that waits in its set, one that has
/// parked. What comes together with the end is followed by the end.
#[test]
fn whoever_speaks_after_a_pause_is_heard_and_the_end_comes_behind_the_last_bytes() {
    const PAUSES_MS: [u64; 6] = [0, 1, 2, 4, 15, 30];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        for round in 0..60u8 {
            std::thread::sleep(Duration::from_millis(PAUSES_MS[round as usize % PAUSES_MS.len()]));
            socket.write_all(&[round]).unwrap();
            let mut echoed = [0];
            socket.read_exact(&mut echoed).unwrap();
            assert_eq!(echoed, [round]);
        }
        socket.write_all(b"last").unwrap();
        drop(socket);
        // The end is there before the shard reads.
        let (socket, _) = listener.accept().unwrap();
        drop(socket);
    });
    on_shards(vec![()], move |shard, ()| async move {
        let timeout = Duration::from_secs(5);
        let mut stream = Stream::connect(&shard, "127.0.0.1", port, timeout).await.unwrap();
        let mut buffer = [0; 16];
        for round in 0..60u8 {
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
            assert_eq!(buffer[0], round);
            stream.write_all(&[round]).await.unwrap();
        }
        // The peer has said its last words and gone once it accepts, and ends, another connection.
        let mut other = Stream::connect(&shard, "127.0.0.1", port, timeout).await.unwrap();
        assert_eq!(other.read(&mut buffer).await.unwrap(), 0);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"last");
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
    });
    peer.join().unwrap();
}

/// In a process of its own, since the limit counts for all its threads.
#[test]
fn a_listener_without_free_descriptors_pauses_and_loses_nobody() {
    const CHILD: &str = "KEVY_TEST_SHORT_OF_DESCRIPTORS";
    const CLIENTS: usize = 12;
    if std::env::var_os(CHILD).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_listener_without_free_descriptors_pauses_and_loses_nobody", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let listener = Listener::bind("127.0.0.1", 0).unwrap();
    let closer = listener.closer().unwrap();
    let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(listener.local_addr()).unwrap()).collect();
    let accepted = on_shards(vec![(listener, closer)], |shard, (listener, closer)| async move {
        // Descriptors are given out from the lowest free number on: after these there is none below the highest.
        let fillers: Vec<_> = (0..256).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let highest = fillers.iter().map(|file| file.as_raw_fd()).max().unwrap() as u64;
        let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
        rlimit::Resource::NOFILE.set(highest + 3, hard).unwrap();

        let (to_keeper, mut kept) = ring::<Connection>(CLIENTS);
        let mut to_keeper = to_keeper;
        let each = move |connection| to_keeper.try_push(connection).unwrap();
        let accepting = shard.spawn(Queue::Clients, listener.accept_each(each));
        let mut accepted = 0;
        while accepted < CLIENTS {
            // Gives descriptors back only once the listener has found none.
            let before = pauses();
            while pauses() == before && accepted + kept.len() < CLIENTS {
                clock::sleep(Duration::from_millis(1)).await;
            }
            while let Some(connection) = kept.pop() {
                connection.attach().unwrap().close().await;
                accepted += 1;
            }
        }
        closer.close();
        accepting.await.unwrap();
        accepted
    });
    assert_eq!(accepted, [CLIENTS]);
    assert!(pauses() > 0);
    drop(clients);
}

#[test]
fn a_shard_whose_cpu_cannot_be_had_runs_unpinned() {
    let plan = Plan { cpus: vec![Some(CpuId::new(1_000_000))], spin: Duration::ZERO };
    let main = |shard: Shard, ()| async move { shard.cpu() };
    assert_eq!(Executors::start(plan, vec![()], &Shutdown::new(), main).unwrap().join(), [None]);
}

#[test]
fn a_busy_loop_that_makes_passes_leaves_timers_on_time() {
    let late = on_shards(vec![()], |shard, ()| async move {
        let busy = shard.spawn(Queue::Replication, async {
            let end = Instant::now() + Duration::from_millis(300);
            let mut turn = Turn::begin();
            while Instant::now() < end {
                turn.pass_if_over().await;
            }
        });
        let mut worst = Duration::ZERO;
        for _ in 0..20 {
            let asked = Instant::now();
            clock::sleep(Duration::from_millis(5)).await;
            worst = worst.max(asked.elapsed() - Duration::from_millis(5));
        }
        busy.await;
        worst
    });
    // Without the passes the timer waits for the end of the loop. Two busy cores may delay the thread itself.
    assert!(late[0] < Duration::from_millis(150), "{late:?}");
}

#[test]
fn the_end_reaches_every_shard_and_every_waiting_task() {
    let ended = on_shards(vec![(), ()], |shard, ()| async move {
        let waiting: Vec<_> = (0..10).map(|_| shard.spawn(Queue::Clients, shard.shutdown())).collect();
        if shard.id().get() == 1 {
            shard.begin_shutdown();
        }
        shard.shutdown().await;
        for task in waiting {
            task.await;
        }
        shard.is_shutting_down()
    });
    assert_eq!(ended, [true, true]);
}

#[test]
fn an_executor_that_stands_still_is_counted() {
    let shutdown = Shutdown::new();
    let plan = Plan::unpinned(ShardCount::ONE);
    let executors = Executors::start(plan, vec![()], &shutdown, |shard, ()| async move {
        let stalls = |shard: &Shard| shard.health()[0].stalls();
        let began = Instant::now();
        while stalls(&shard) == 0 && began.elapsed() < Duration::from_secs(20) {
            std::hint::spin_loop();
        }
        stalls(&shard)
    })
    .unwrap();
    assert_eq!(executors.join(), [1]);
}

#[test]
fn a_panic_on_a_shard_ends_the_process_with_its_message() {
    const CHILD: &str = "KEVY_TEST_PANICKING_CHILD";
    if std::env::var_os(CHILD).is_some() {
        on_shards(vec![(), ()], |shard, ()| async move {
            if shard.id().get() == 1 {
                shard.spawn(Queue::Clients, async { panic!("a shard that cannot go on") }).await
            }
            shard.shutdown().await;
        });
        unreachable!("the process has ended");
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_panic_on_a_shard_ends_the_process_with_its_message", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("a shard that cannot go on") && said.contains("kevy-shard-1 panicked"), "{said}");
}
