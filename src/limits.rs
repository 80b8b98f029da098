//! Every bound, in one place. Names are noun first. What is related is asserted to be so.

/// Shards of one node. Shard numbers are also port offsets.
pub const SHARDS_MAX: usize = 1_024;

/// Bytes of one bulk string of a command, as in Redis (`proto-max-bulk-len`).
pub const BULK_BYTES_MAX: usize = 512 << 20;

/// Arguments of one command, as in Redis.
pub const ARGS_MAX: usize = 1 << 20;

/// Bytes of one whole command of a client.
pub const COMMAND_BYTES_MAX: usize = 1 << 30;

/// Bytes by which an argument of an effect may be longer than that of the command that left it: a score with all its digits.
pub const ARG_GROWTH_BYTES_MAX: usize = 64;

/// Bytes of one frame without its envelope: what one command says in one frame always fits.
pub const FRAME_BYTES_MAX: usize = COMMAND_BYTES_MAX + ARGS_MAX * ARG_GROWTH_BYTES_MAX;

/// Bytes of one inline command or of any line that announces a length.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// Bytes of one control line of the stream, `+` and line end included.
pub const CONTROL_LINE_BYTES_MAX: usize = 256;

/// Bytes of a whole handshake, request or answer.
pub const HANDSHAKE_BYTES_MAX: usize = 4 << 10;

/// Bytes of a password: a handshake that names single slots has room for it.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// Bytes of a replica id.
pub const REPLICA_ID_BYTES_MAX: usize = 256;

/// Bytes of a host name or address that a replica announces.
pub const HOST_BYTES_MAX: usize = 255;

/// Earlier generations that a lineage names.
pub const LINEAGE_FORKS_MAX: usize = 16;

/// Replica ids that a shard remembers, connected ones included.
pub const REPLICA_SLOTS_MAX: usize = 1_024;

/// Members that one command may draw by chance where they may repeat, however few there are.
pub const DRAWN_MAX: usize = 16 << 20;

/// Commands that are located, prefetched and executed together; frames of one ring slot.
pub const BATCH_FRAMES_MAX: usize = 32;

/// Commands of one client that are looked at together on a node of several shards: what goes to another shard costs the way there
/// and back, whether it is much or little.
pub const BATCH_ACROSS_MAX: usize = 64;

/// Bytes at which a run is closed; never inside a group.
pub const RUN_BYTES_MAX: usize = 256 << 10;

/// Bytes that one send to a replica tries to gather when it is behind.
pub const SEND_BYTES_TARGET: usize = 256 << 10;

/// Bytes up to which frames and the items behind them are copied together, to go in one send.
pub const SEND_JOINED_BYTES_MAX: usize = 2 << 10;

/// Bytes that one dump step encodes, unless a single member of a value is larger.
pub const DUMP_STEP_BYTES: usize = 64 << 10;

/// Bytes of a value that is dumped whole; a larger one goes in pieces of at most as many.
pub const VALUE_PIECE_BYTES: usize = 64 << 10;

/// Members of a piece of a hash, set or sorted set: each costs whoever loads it a search among all that came before.
pub const VALUE_PIECE_MEMBERS: usize = 512;

/// Keys of a slot with several tables in a step, about.
pub const DUMP_STEP_KEYS_MAX: usize = 512;

/// Bytes of a `+SLOTS` payload of packed small slots.
pub const DUMP_SLOTS_BYTES_MAX: usize = 128 << 10;

/// Dump bytes that wait for one slow link (`Q`).
pub const DUMP_QUEUE_BYTES_MAX: usize = 1 << 20;

/// Milliseconds for which a walk waits for a link whose dump queue is full, once each time that the queue was empty before.
pub const WALK_PATIENCE_MS: u64 = 50;

/// Milliseconds after which a link that waits for others looks again.
pub const WALK_PAUSE_MS: u64 = 2;

/// Payload of a value frame when a value is recreated by effects (RENAME).
pub const EFFECT_BYTES_TARGET: usize = 64 << 10;

/// Keys at which a sub-table of a hash slot is split.
pub const SUBTABLE_KEYS_MAX: usize = 2_048;

/// Bytes of an entry that lies in the slab as a whole; of a larger one the value, and if need be the key, has a box.
pub const ENTRY_BYTES_MAX: usize = 1 << 10;

/// Bytes of a HyperLogLog in its sparse form; Redis calls this `hll-sparse-max-bytes`.
pub const SPARSE_SKETCH_BYTES_MAX: usize = 3_000;

/// Keys of which one step looks whether they have expired, about.
pub const EXPIRY_STEP_KEYS: usize = 2_048;

/// Fields of hashes that a step, or a command that only reads, takes away whose time has come.
pub const EXPIRY_STEP_FIELDS: usize = 1_000;

/// The latest time at which a field of a hash may expire, in milliseconds of the epoch: that of Redis.
pub const FIELD_TIME_MS_MAX: u64 = (1 << 46) - 1;

/// Ticks between two looks for keys that have expired.
pub const EXPIRY_TICKS: u64 = 10;

/// Keys that are remembered as those that could be evicted next.
pub const EVICTION_POOL_KEYS: usize = 16;

/// Keys that are evicted before one command, or in one tick, at most.
pub const EVICTIONS_MAX: usize = 128;

/// Entries that one call of `reclaim` frees, about; an entry with a box counts for several.
pub const RECLAIM_ENTRIES_MAX: usize = 512;

const _: () = assert!(BULK_BYTES_MAX < COMMAND_BYTES_MAX);
const _: () = assert!(2 * FRAME_BYTES_MAX + GROUP_BYTES_MAX < u32::MAX as usize, "positions in a buffer are u32");
const _: () = assert!(DUMP_STEP_BYTES <= DUMP_SLOTS_BYTES_MAX);
const _: () = assert!(DUMP_STEP_BYTES + VALUE_PIECE_BYTES <= DUMP_SLOTS_BYTES_MAX);
const _: () = assert!(DUMP_SLOTS_BYTES_MAX <= DUMP_QUEUE_BYTES_MAX);

/// Frames of one group.
pub const GROUP_FRAMES_MAX: usize = 16 << 20;

/// Bytes of all frames of one group: a decoder takes no more, and a command whose effects would be more, or would be with those
/// of its transaction on that shard, is refused before it has changed anything.
pub const GROUP_BYTES_MAX: usize = 1 << 30;

/// Bytes of the commands that wait for one `EXEC`, with what each costs beside its own.
pub const TRANSACTION_BYTES_MAX: usize = 512 << 20;

/// Commands that wait for one `EXEC`.
pub const TRANSACTION_COMMANDS_MAX: usize = 1 << 20;

/// Bytes that a command which waits for `EXEC`, and is executed then, takes beside its own; and each of its arguments.
pub const QUEUED_COMMAND_BYTES: usize = 256;
/// See [`QUEUED_COMMAND_BYTES`].
pub const QUEUED_ARG_BYTES: usize = 64;

/// Bytes of one dump item's payload: a single member of a value goes in one item.
pub const DUMP_ITEM_BYTES_MAX: usize = 2 << 30;

/// Bytes that count as a sign of life on a link with check lines, even though nothing of them is proved yet: far more than the
/// heartbeats within a link timeout.
pub const PROGRESS_BYTES: usize = 16 << 10;

/// Bytes that a read from a socket makes room for.
pub const RECV_BYTES: usize = 128 << 10;

/// Bytes of an idle receive buffer; one that grew beyond is given back when it is empty.
pub const RECV_BYTES_KEPT: usize = 1 << 20;

/// Time that `REPLICAOF` waits for the new upstream to say what it is, in milliseconds; later it is asked again and again.
pub const REPLICAOF_ASK_MS: u64 = 1_000;

/// Bytes of one line that a replica sends upstream.
pub const UPSTREAM_LINE_BYTES_MAX: usize = 256;

/// Items of one direction of the lane between two shards.
pub const LANE_ITEMS_MAX: usize = 256;

/// Period of the ticker that every executor runs, in milliseconds. It also bounds how long an executor that parked by
/// mistake stays parked.
pub const TICK_MS: u64 = 10;

/// Bytes of published messages that wait on one shard to be told to the others. Beyond it something is lost, and subscribers are
/// closed, so that they know.
pub const EXCHANGE_BYTES_MAX: usize = 64 << 20;

/// Period in which it is looked whether a write gate that is off was switched on, in milliseconds: until then writes are refused.
pub const GATE_LOOK_MS: u64 = 100;

/// Ticks after which what clients left behind is swept up.
pub const SWEEP_TICKS: u64 = 100;

/// How long a shard that ran out of work waits for more in its epoll set before it parks on its ring, in milliseconds; also how
/// often a busy one looks at its ring. Timers are late by as much.
pub const LINGER_MS: u64 = 3;

/// How long a busy shard that ran out of work goes on looking at its epoll set before it sleeps in it, in microseconds: about
/// what the sleep costs it and whoever wakes it. Busy is who was woken more often than that on average.
pub const VIGIL_US: u64 = 20;

/// Sockets that one look at the epoll set finds ready; the others are found by the next.
pub const POLLED_AT_ONCE: usize = 256;

/// Time that a loop may run before it lets the reactor look at sockets, timers and rings, in microseconds.
pub const TURN_US_MAX: u64 = 100;

/// Time after which a client's commands that have arrived are no longer executed at one go, in microseconds: then those that were are
/// answered, and others have their turn. A few batches: a send for each would cost more than the commands.
pub const EXECUTE_US_MAX: u64 = 400;

/// How often the watchdog looks at every executor, in milliseconds.
pub const WATCH_MS: u64 = 250;

/// Time without progress after which an executor counts as stalled, in milliseconds.
pub const STALL_MS: u64 = 1_000;

/// Locked memory that one executor is given, in bytes. Below it io_uring refuses to start.
pub const EXECUTOR_MEMLOCK_BYTES: u64 = 512 << 10;

/// Buffers that one executor registers for files, in bytes: the least that glommio takes; sockets need none.
pub const EXECUTOR_IO_BYTES: usize = 64 << 10;

/// Connections that the kernel keeps for a listener until they are accepted.
pub const LISTEN_BACKLOG: i32 = 1_024;

/// Time that a start waits for a port to come free, in milliseconds: the kernel closes what a killed process had in its
/// rings only some time after the process itself is gone.
pub const PORT_WAIT_MS: u64 = 1_500;

/// Pause of a listener that found no free descriptor, in milliseconds.
pub const ACCEPT_PAUSE_MS: u64 = 100;

const _: () =
    assert!(TICK_MS * 10 <= WATCH_MS && WATCH_MS * 2 <= STALL_MS, "a healthy executor is never found stalled");
/// Milliseconds whose slots a scrub that was held up may tell at once.
pub const SCRUB_BURST_MS: u64 = 100;

/// Milliseconds until a slot that was asked for and did not prove good is asked for again: doubled each time, up to a bound.
pub const NEED_PAUSE_MS_MIN: u64 = 50;
/// The longest of these pauses.
pub const NEED_PAUSE_MS_MAX: u64 = 10_000;
/// Milliseconds after which it is no longer held against a slot that it was asked for.
pub const NEED_REMEMBERED_MS: u64 = 60_000;

/// Milliseconds until a slot is proved again after a digest was given up, doubled with each one, up to the second number.
pub const SCRUB_LOST_MS_MIN: u64 = 100;
/// The longest of these pauses.
pub const SCRUB_LOST_MS_MAX: u64 = 10_000;

/// Items that wait for a link up to which a digest is put behind them; a link that has more waiting is left out.
pub const SCRUB_QUEUE_ITEMS_MAX: usize = 64;

/// The same for a slot whose digest somebody asked for.
pub const PROBE_QUEUE_ITEMS_MAX: usize = 1_024;

/// Digests that an owner keeps of each stream for whoever asked for them.
pub const DIGESTS_NOTED_MAX: usize = 4_096;

/// Bytes that one step of a digest reads, a key counting as 64 beside its value: about 2,000 keys, or a fraction of a millisecond.
pub const DIGEST_STEP_BYTES: usize = 128 << 10;

/// Encoded bytes of a slot up to which its digest is taken at once, at the end of its dump.
pub const DIGEST_AT_ONCE_BYTES_MAX: usize = 1 << 20;

/// Milliseconds between two acknowledgements that nobody asked for.
pub const ACK_INTERVAL_MS: u64 = 1;

/// How long one that nobody asked for waits for readers at most, in milliseconds.
pub const ACK_DEFERRED_MS_MAX: u64 = 10;

/// Marks that a stream keeps of when it was where.
pub const TIMELINE_MARKS_MAX: usize = 512;

/// Milliseconds within which a peer on a replication port has said what it wants, where `link_timeout_ms` is not less.
pub const GREETING_MS_MAX: u64 = 10_000;

/// Connections on one replication port that have not said what they want; one more is closed at once.
pub const GREETING_LINKS_MAX: u64 = 512;

/// Descriptors that are kept for other things than clients: for the node, and for each shard.
pub const DESCRIPTORS_KEPT: u64 = 64;
/// See [`DESCRIPTORS_KEPT`].
pub const DESCRIPTORS_KEPT_PER_SHARD: u64 = 16;

/// Milliseconds for which a link that ends tries to say why.
pub const LAST_WORDS_MS: u64 = 1_000;

/// Milliseconds that a dial may take.
pub const CONNECT_TIMEOUT_MS: u64 = 3_000;

/// Milliseconds of silence after which a blocking client gives its link up.
pub const CLIENT_LINK_TIMEOUT_MS: u64 = 60_000;

/// Batches that may wait for ring space on one lane before the link is no longer read.
pub const ROUTER_READY_MAX: usize = 64;

/// Emptied batches that a lane keeps.
pub const ROUTER_SPARE_MAX: usize = 64;

/// Bytes at which a batch of frames goes out, however few they are.
pub const ROUTER_BATCH_BYTES: usize = 64 << 10;

/// Batches that a ring between two shards holds.
pub const RING_BATCHES: usize = 64;

/// Bytes of memory of an emptied batch of commands that is kept for others; one that grew beyond is given back.
pub const COMMAND_BATCH_BYTES_KEPT: usize = 512 << 10;

/// Requests under way from one shard to another.
pub const MESH_REQUESTS: usize = 256;

/// Bytes of replies that a connection keeps room for, and at which a pipeline hands them out.
pub const REPLY_BYTES_KEPT: usize = 1 << 20;

/// Milliseconds before a link that broke is dialled again, once the first dial, which is made at once, has failed; and at most.
pub const REDIAL_MS_MIN: u64 = 5;
/// See [`REDIAL_MS_MIN`].
pub const REDIAL_MS_MAX: u64 = 500;
