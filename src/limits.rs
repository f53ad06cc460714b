//! Every limit of rblk, with its unit in the name and its reason beside it.
//!
//! A queue, a buffer, a wait or a list without a line here does not exist.

/// The unit of addresses between client, core, wire and disk.
pub const SECTOR_BYTES: u64 = 512;

/// One bit of the dirty bitmap stands for this many bytes, and resync copies in multiples of it.
/// 4 KiB is the page and the usual file-system block: smaller would double the bitmap, larger would copy
/// more than was written.
pub const BLOCK_BYTES: u64 = 4096;
/// Sectors in a block.
pub const BLOCK_SECTORS: u64 = BLOCK_BYTES / SECTOR_BYTES;

/// One slot of the activity log covers this many bytes. After a crash of the Primary, the extents in the
/// log are resynced whole: larger extents mean fewer metadata writes, but a longer resync.
pub const EXTENT_BYTES: u64 = 4 << 20;
/// Sectors in an extent.
pub const EXTENT_SECTORS: u64 = EXTENT_BYTES / SECTOR_BYTES;
/// Blocks in an extent.
pub const EXTENT_BLOCKS: u64 = EXTENT_BYTES / BLOCK_BYTES;

/// Every metadata record is one block of this size: the unit of checksum and of torn writes.
pub const META_BLOCK_BYTES: usize = 4096;

/// Slots of the activity log. All active extents fit one metadata block, so that each transaction is
/// complete by itself: header of 128 bytes + 992 x 4 bytes = 4,096. It bounds the resync after a crash
/// of the Primary to 992 x 4 MiB = 3.9 GiB.
pub const AL_SLOTS: usize = 992;

/// Blocks in the ring of activity-log transactions. One write is in flight at a time, so two would do;
/// more spread the wear of flash and keep older transactions readable for a diagnosis.
pub const AL_RING_BLOCKS: u64 = 64;

/// Extents whose bits fit one bitmap page: a header of 128 bytes + 31 x 128 bytes = 4,096. An extent never
/// straddles two pages, so that evicting it writes one page.
pub const PAGE_EXTENTS: u64 = 31;
/// Bits (blocks) in one bitmap page.
pub const PAGE_BLOCKS: u64 = PAGE_EXTENTS * EXTENT_BLOCKS;
/// Bytes of bits in one bitmap page.
pub const PAGE_BIT_BYTES: usize = (PAGE_BLOCKS / 8) as usize;

/// Past generations a node remembers: old clones and restored images are recognised this far back.
pub const HISTORY_MAX: usize = 16;

/// The largest payload of one request and of one frame. Larger client requests are split in front.
/// With [`BUFFERS_MAX`] it bounds the locked memory of a volume.
pub const IO_BYTES_MAX: usize = 128 << 10;
/// The largest discard or write-zeroes request: it carries no payload but pins its activity-log extents,
/// 9 at most.
pub const ZERO_BYTES_MAX: u64 = 32 << 20;

/// Requests of the front in flight at once: the depth of the ublk queue, and the sum over NBD clients.
pub const FRONT_REQUESTS_MAX: usize = 128;
/// Frames with payload that a peer may have sent without an answer: application writes and resync
/// together. Each holds one of our buffers.
pub const PEER_DATA_CREDITS: usize = FRONT_REQUESTS_MAX + RESYNC_JOBS_MAX;
/// Reads that a peer may have sent without an answer. Each holds one of our buffers.
pub const PEER_READ_CREDITS: usize = 16;
/// Requests without payload (discard, write-zeroes, zero resync) that a peer may have outstanding.
pub const PEER_ZERO_CREDITS: usize = FRONT_REQUESTS_MAX + RESYNC_JOBS_MAX;
/// Resync jobs in flight at the source: each holds a buffer there and a data credit at the target.
pub const RESYNC_JOBS_MAX: usize = 16;
/// Jobs of a verify in flight: each holds a buffer on both nodes while they read, as a read of the peer does.
pub const VERIFY_JOBS_MAX: usize = PEER_READ_CREDITS;
/// Digests in one frame: one for each block of a buffer.
pub const DIGESTS_MAX: usize = IO_BYTES_MAX / BLOCK_BYTES as usize;
/// A span that the peer's clients write at each attempt to compare it is left out after so many: some 10 s.
pub const VERIFY_TRIES_MAX: u16 = 1000;
/// Runs of differing blocks that a node remembers. Further ones are counted; the next verify finds them.
pub const DIFFERENCES_MAX: usize = 1024;
/// Of those, so many are told in a status: the line has room for them, and who sees so many repairs all.
pub const DIFFERENCES_TOLD: usize = 128;
/// Bitmap pages that may be sent without an answer during the exchange.
pub const BITMAP_PAGES_AHEAD_MAX: u32 = 8;
/// Resynced spans that may wait for the flush which makes them stable and lets their bits be cleared; and as many
/// whose flush is under way.
pub const RESYNC_UNSTABLE_SPANS_MAX: usize = 1024;

/// Buffers of a volume, each of [`IO_BYTES_MAX`]: client requests and the peer's requests together; and once more those
/// of clients, since a disk that hangs keeps the first. 54 MiB locked, which keeps the daemon under 96 MiB.
pub const BUFFERS_MAX: usize =
    2 * FRONT_REQUESTS_MAX + PEER_DATA_CREDITS + PEER_READ_CREDITS + RESYNC_JOBS_MAX;

/// Submissions that the ring takes between two system calls: every request once. Completions have room for
/// four times as many; more wait in the kernel.
pub const RING_ENTRIES: u32 = 512;
/// Files registered with the ring: the disk, the ublk queue, sockets.
pub const RING_FILES_MAX: u32 = 64;
/// Memory areas registered with the ring: payload, metadata, zeroes, and some for the fronts.
pub const RING_BUFFERS_MAX: u32 = 16;
/// At its end a ring waits this long for cancelled operations, in milliseconds: sockets end at once, a disk
/// that does not is given up and its memory with it.
pub const QUIESCE_MS: u64 = 2_000;

/// Metadata blocks that may be in flight at once: superblock copies, a transaction, and the bitmap pages of one
/// transaction's evicted extents.
pub const META_BUFFERS_MAX: usize = 64;
/// Attempts at a disk operation that ends with `EAGAIN` or `EINTR` without progress: then it has failed.
pub const DISK_RETRIES_MAX: u8 = 16;
/// Bytes that are written at a time where the disk cannot zero by itself.
pub const ZERO_PIECE_BYTES: usize = 128 << 10;

/// The ublk driver starts a device within this time, reading its partition table included, in milliseconds; so
/// long a first read may take while the peer is lost and a disk retries.
pub const UBLK_START_MS: u64 = 60_000;
/// The ublk driver stops a device once all requests are answered. After this time, in milliseconds, the operator is
/// told what it waits for; it is waited for again.
pub const UBLK_STOP_MS: u64 = 30_000;
/// A request whose answer needs a free buffer is tried again after this time, in milliseconds: about that of a
/// disk request, which gives one back.
pub const UBLK_RETRY_MS: u64 = 2;

/// What is known of who has a device open is good for the status for this long, in milliseconds: to look costs a few
/// milliseconds of another process, and exporters and `rblk wait` ask several times a second.
pub const LOOK_KEEP_MS: u64 = 1_000;
/// A status waits this long for a look at who has the device open, in milliseconds: most take a tenth of it.
pub const LOOK_STATUS_MS: u64 = 300;
/// Whoever wants the device taken away waits this long for a look at who has it open, in milliseconds: longer, and the
/// operator is told instead that it takes long.
pub const LOOK_LIMIT_MS: u64 = 2_000;
/// A process that has looked for this long hangs, in milliseconds: a machine with very many processes takes seconds.
pub const LOOK_GIVE_UP_MS: u64 = 30_000;
/// Processes that were given up and cannot be ended; with so many, none is started.
pub const LOOKS_HUNG_MAX: usize = 3;
/// Users of a device that are named.
pub const LOOK_USERS_MAX: usize = 32;
/// Bytes of an answer with so many users: a mount point may be as long as a path.
pub const LOOK_ANSWER_BYTES_MAX: u64 = 512 << 10;

/// Sizes that are tried where a disk has no metadata, in case it was smaller when that was written. A block is read for
/// each.
pub const FORMER_SIZES_MAX: usize = 64 << 10;
/// That takes no longer than this, in milliseconds: an operator waits.
pub const FORMER_SEARCH_MS: u64 = 3_000;
/// The same where a daemon starts on a disk that has none at its end.
pub const FORMER_SEARCH_AT_START_MS: u64 = 20_000;

/// All requests that the core can hold: the front's, the peer's and those of a resync or a verify, which exclude each
/// other.
pub const REQUESTS_MAX: usize = FRONT_REQUESTS_MAX
    + PEER_DATA_CREDITS
    + PEER_READ_CREDITS
    + PEER_ZERO_CREDITS
    + RESYNC_JOBS_MAX;

/// Names for operations and messages in flight: two legs for each request, metadata writes, flushes.
pub const OPERATIONS_MAX: usize = 2 * REQUESTS_MAX + 2 * META_BUFFERS_MAX;
/// Steps of metadata that may be queued: each of the few things that change a superblock waits for its own to become
/// durable before it wants the next.
pub const META_STEPS_MAX: usize = 32;

/// A hop of a request that takes longer, in microseconds, counts as this long in the histograms: ten minutes, as long
/// as a disk may take at most.
pub const HOP_US_MAX: u64 = 600_000_000;
/// Upper bounds of the buckets that the times of a hop are counted in, in microseconds; one more takes the rest.
pub const HOP_BOUNDS_US: [u64; 19] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
    500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// Disk operations at once: each request and a flush for it, and metadata.
pub const DISK_OPERATIONS_MAX: usize = 2 * REQUESTS_MAX + META_BUFFERS_MAX;

/// Peers of a node. One: two nodes hold the data. State is indexed by peer all the same.
pub const PEERS_MAX: usize = 1;

/// Silence or an unanswered request of the peer for this long ends the connection, in milliseconds.
/// The client then stalls for at most 5 s, taking bitmap and generation write into account.
pub const PEER_TIMEOUT_MS_DEFAULT: u64 = 4_000;
/// Shortest peer timeout that may be configured: below it, a scheduling gap looks like a dead peer.
pub const PEER_TIMEOUT_MS_MIN: u64 = 500;
/// A peer that answers quickly is lost by less silence than the peer timeout, but not by less than this, in
/// milliseconds: hosts and virtual machines stand still for so long when all is well.
pub const PEER_SILENCE_MS_MIN: u64 = 2_000;
/// Longest peer timeout that may be configured: OCFS2 fences itself at 30 s.
pub const PEER_TIMEOUT_MS_MAX: u64 = 25_000;
/// A local disk request without an answer for this long fails the disk if the peer can take over, in
/// milliseconds. Disks retry internally for up to this long.
pub const DISK_TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// Shortest disk timeout that may be configured: below it, a busy disk looks like a dead one.
pub const DISK_TIMEOUT_MS_MIN: u64 = 1_000;
/// Longest disk timeout that may be configured: no client waits longer than this for a disk.
pub const DISK_TIMEOUT_MS_MAX: u64 = 600_000;

/// Received bytes of a link that wait to be taken apart: a few writes with their headers per system call.
pub const RECEIVE_BYTES: usize = 256 << 10;
/// Frames of a link that wait to be sent: a request and an answer for all that either side may have in flight.
/// Beyond it the peer does not read what it asked for.
pub const SEND_FRAMES_MAX: usize = 4 * REQUESTS_MAX;
/// Bytes that a TLS handshake may take from the other end: ours take about 2 KiB. Before it has ended nobody knows who
/// they come from.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 16 << 10;
/// Bytes that a TLS session holds of what it has to say of itself: a flight of the handshake takes about 2 KiB.
pub const TLS_CONTROL_BYTES_MAX: usize = 8 << 10;
/// The largest record of TLS 1.3, before it is sealed.
pub const TLS_RECORD_BYTES: usize = 16 << 10;
/// Bytes that are sealed at a time: what one system call sends. Two large writes with their headers.
pub const TLS_SEAL_BYTES: usize = 256 << 10;
/// Bytes of a file with a private key: one of ours has 119.
pub const KEY_FILE_BYTES_MAX: u64 = 4096;
/// Characters of a token of `rblk pair`, with room for the longest host name and file name: one has about 110.
pub const PAIR_TOKEN_BYTES_MAX: usize = 1024;
/// Bytes of the secret in a token: it can be guessed only by asking the node that made it, [`PAIR_WRONG_MAX`] times.
pub const PAIR_SECRET_BYTES: usize = 16;
/// How long a token is valid unless `rblk pair --minutes` says otherwise: time to walk to the other terminal.
pub const PAIR_MINUTES_DEFAULT: f64 = 10.0;
/// The longest that a token may be valid, in minutes: a day. Until it ends a port is open.
pub const PAIR_MINUTES_MAX: f64 = 1440.0;
/// Wrong proofs that end a token: somebody types the wrong one twice, not ten times.
pub const PAIR_WRONG_MAX: u32 = 10;
/// Connections to `rblk pair` at once. For another the one that has said the least, and among these the oldest, is
/// closed: strangers do not keep the true one out.
pub const PAIR_GUESTS_MAX: usize = 32;
/// Time until a connection to `rblk pair` must have proved that it knows the token, in seconds: that takes two round
/// trips.
pub const PAIR_PROOF_S: u64 = 5;
/// Time for the rest, in seconds: both nodes write a file.
pub const PAIR_REST_S: u64 = 30;
/// Bytes that `rblk pair` takes from a connection in all: a handshake, a proof and two words.
pub const PAIR_GUEST_BYTES_MAX: usize = TLS_HANDSHAKE_BYTES_MAX + 4096;
/// Bytes that `rblk join` takes in all: a handshake, and a configuration with what sealing adds to it.
pub const PAIR_HOST_BYTES_MAX: usize = 2 * CONFIG_BYTES_MAX as usize;
/// Connections of strangers that `rblk pair` tells of: a flood does not fill a terminal.
pub const PAIR_TOLD_MAX: u32 = 20;
/// Attempts of `rblk join` to be heard: each may be pushed out by a flood of strangers.
pub const PAIR_ATTEMPTS: u32 = 5;
/// Keys that a node may show: the one in use, and another while it is exchanged.
pub const NODE_KEYS_MAX: usize = 2;
/// Attempts at a socket operation that ends with `EAGAIN` or `EINTR` without progress: then the link is broken.
pub const SOCKET_RETRIES_MAX: u8 = 16;
/// A link that is closed in good order waits this long for the peer to take what was sent, in milliseconds.
pub const LINGER_MS: u64 = 1_000;
/// Connections that wait to be accepted. The peer has one; more only come from strangers.
pub const LISTEN_BACKLOG: i32 = 16;
/// Bridges of RDMA connections in this process, those that take seconds to end included: each is a thread, two buffers
/// of 256 KiB, and what librdmacm pins.
pub const RDMA_BRIDGES_MAX: usize = 32;
/// Pause after a failure to accept, in milliseconds: a lack of descriptors does not pass at once.
pub const ACCEPT_PAUSE_MS: u64 = 100;

/// Pause between two attempts to connect, in milliseconds: short, since a lost mirror is a risk, and clients of two
/// Primaries wait for the other's restart.
pub const RECONNECT_MS: u64 = 200;
/// With two paths an attempt on one takes a quarter of the peer's timeout, and at least so long, in milliseconds: TCP
/// repeats a lost SYN after a second, and one lost packet shall not look like a path that is down.
pub const PATH_ATTEMPT_MS_MIN: u64 = 1_300;
/// And at least so long over RDMA: librdmacm goes on with an attempt that was given up, for up to a minute, and there
/// may be [`RDMA_BRIDGES_MAX`] at a time.
pub const RDMA_ATTEMPT_MS_MIN: u64 = 4_000;
/// After so many connections in a row on one path that broke soon after they were made, the other path is tried:
/// something there lets a greeting through and no more.
pub const PATH_BREAKS_MAX: u32 = 3;
/// Pause after a connection that came to nothing since the nodes disagree on TLS or on keys, in milliseconds: it does
/// not fill the log, and the peer is back soon after the mistake is corrected.
pub const TLS_RECONNECT_MS: u64 = 2_000;
/// Pause after a refusal (another volume, split brain), in milliseconds: it will not heal by itself, so do
/// not fill the log.
pub const REFUSED_RECONNECT_MS: u64 = 10_000;
/// Rest of a peer that was late for the second time in a row, in milliseconds; doubled each time after that.
pub const REST_AFTER_LATE_MS: u64 = 10_000;
/// The longest such rest; a connection that lasts as long is a new beginning.
pub const REST_AFTER_LATE_MS_MAX: u64 = 300_000;
/// Whoever refused to fence the peer is asked again after this long, in milliseconds: the obstacle may be gone.
pub const FENCE_AGAIN_MS: u64 = 30_000;
/// The end of a ride-through is decided so much earlier, in milliseconds, or a fifteenth of it if that is less: clients
/// are to be answered in time, and what a file system's client waits for is a row of requests: its journal, its flush.
pub const RIDE_THROUGH_MARGIN_MS: u64 = 1_000;
/// Longest time to ride through a lost link, in seconds. Clients of a held volume wait that long.
pub const RIDE_THROUGH_S_MAX: u64 = 3_600;
/// Two Primaries that lose each other wait this long for the link before one goes on, in seconds: longer than a switch
/// or a cable takes to come back, and half of what OCFS2 gives its own connection (30 s) before it fences a node.
pub const DUAL_RIDE_THROUGH_S_DEFAULT: u64 = 15;
/// Writes that both disks have accepted are made stable on both at the latest after this time without a
/// flush of the client, in milliseconds. It bounds what a crash of the peer makes us copy.
pub const IDLE_FLUSH_MS: u64 = 1_000;
/// Watermarks are raised at most once in this time, in milliseconds: three writes of a superblock each time. It bounds
/// how young an image of a disk must be to be taken for the disk itself.
pub const MARK_MS: u64 = 1_000;

/// Data that a volume must have at least, in bytes: below it the metadata would outweigh the data.
pub const DATA_BYTES_MIN: u64 = 1 << 20;
/// Data that a volume may have at most, in bytes: 1 PiB, whose bitmap takes 32 GiB.
pub const DATA_BYTES_MAX: u64 = 1 << 50;

/// Bytes of a resource or node name: it becomes a file name and a device link.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a configuration file: far above any sensible one, so that a wrong path (a disk) is not read in.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a handler's command line: as long as a path can be.
pub const HANDLER_COMMAND_BYTES_MAX: usize = 4096;
/// A handler is ended after this long, in seconds: a mail or a snapshot takes far less.
pub const HANDLER_TIMEOUT_S_DEFAULT: u64 = 60;
/// Longest time that a handler may be given, in seconds: a fence or a resync waits for its end.
pub const HANDLER_TIMEOUT_S_MAX: u64 = 3_600;
/// A handler that is asked to end has this long before it is killed, in milliseconds: time to take a lock file away.
pub const HANDLER_GRACE_MS: u64 = 2_000;
/// Of what a handler prints, so many bytes go to the log: the reason why it failed fits.
pub const HANDLER_OUTPUT_BYTES_MAX: usize = 4096;
/// Bytes of a line between the daemon and the process that runs handlers: a command or an output, each byte of it
/// escaped twice.
pub const HANDLER_LINE_BYTES_MAX: usize = 128 << 10;
/// A process that ran handlers and ended is started again after this long, in milliseconds.
pub const HANDLER_RESTART_MS: u64 = 1_000;
/// What all saved sets of a resource may take unless the configuration says otherwise, in bytes: most changes that are
/// discarded are far smaller, and a disk for logs and state has as much to spare.
pub const SALVAGE_BYTES_DEFAULT: u64 = 10 << 30;
/// The least that may be configured for them, in bytes: below it no set of use fits.
pub const SALVAGE_BYTES_MIN: u64 = 1 << 20;
/// Blocks of an extent of a saved set, at most: it has one checksum and is held in memory whole.
pub const SALVAGE_EXTENT_BLOCKS: u64 = 256;
/// Bytes of the first line of a saved set's index: three names, four ids and some numbers take far less.
pub const SALVAGE_HEADER_BYTES_MAX: usize = 4096;
/// Sets of one resource. Each stands for a split brain.
pub const SALVAGE_SETS_MAX: usize = 1024;
/// While blocks are saved, so many bytes wait to be on stable media, at most: they are in the page cache.
pub const SALVAGE_SYNC_BYTES: u64 = 64 << 20;
/// Room that saving leaves on a file system, in bytes: a log must go on.
pub const SALVAGE_SPARE_BYTES: u64 = 16 << 20;
/// At the end of the daemon, saving has this long to clean up, in milliseconds; a disk that hangs is not waited for.
pub const SALVAGE_STOP_MS: u64 = 2_000;
/// Bytes of the DRBD files that one `rblk import` reads, all together: far above any sensible configuration.
pub const IMPORT_BYTES_MAX: u64 = 1 << 20;
/// Files that one `rblk import` reads: a cluster with a file for each resource stays far below.
pub const IMPORT_FILES_MAX: usize = 256;
/// How deep files may include each other: DRBD's own use one level; a file that includes itself ends here.
pub const IMPORT_INCLUDE_DEPTH_MAX: usize = 4;
/// How deep sections may nest: DRBD has four levels. It bounds the stack of the parser.
pub const IMPORT_NESTING_MAX: usize = 8;
/// Words in one imported file: a resource has some hundred. It bounds the tree in memory.
pub const IMPORT_WORDS_MAX: usize = 1 << 16;
/// Bytes of a word: as long as a path can be, and longer than DRBD allows.
pub const IMPORT_WORD_BYTES_MAX: usize = 4096;
/// The last millisecond since 1970 whose time can be told as RFC 3339 has it: the end of the year 9999.
pub const UNIX_MS_MAX: u64 = 253_402_300_799_999;
/// Changes of state that a daemon remembers for `rblk events`: a reader looks several times a second.
pub const EVENTS_MAX: usize = 256;
/// Changes of state in one answer: they fit into a line with room to spare.
pub const EVENTS_AT_ONCE: usize = 64;
/// Bytes of one line on the control socket, either way.
pub const CONTROL_LINE_BYTES_MAX: usize = 64 << 10;
/// Clients of the control socket at once.
pub const CONTROL_CLIENTS_MAX: usize = 32;
/// Of those, so many may be of users who may only look: they must not keep root out.
pub const CONTROL_STRANGERS_MAX: usize = CONTROL_CLIENTS_MAX / 2;
/// Scrapes of the metrics at once: one Prometheus has one, a pair of them two. More are turned away.
pub const METRICS_CLIENTS_MAX: usize = 4;
/// Time for one scrape, in seconds: whoever takes longer to ask or to read is let go.
pub const METRICS_CLIENT_S: u64 = 5;
/// Bytes of a request for the metrics: a scraper's header has some hundred.
pub const METRICS_REQUEST_BYTES_MAX: usize = 4096;
/// The metrics are not made anew in this time, in milliseconds, however many ask: half of the shortest interval of
/// scrapes in use.
pub const METRICS_AGE_MS: u64 = 500;
/// An address for the metrics that could not be had is tried again after this time, in seconds.
pub const METRICS_RETRY_S: u64 = 10;
/// Messages of the log that may wait to be written: a bad hour of a volume has fewer. Beyond that they are counted.
pub const LOG_RECORDS_MAX: usize = 1024;
/// Bytes of a value in the log; the rest is cut off. With it the log that waits has 16 MiB at most.
pub const LOG_RECORD_BYTES_MAX: usize = 16 << 10;
/// Orders for the daemon's loop that may wait: each control client has one at most, the metrics one, and the rest
/// are requests of the system to stop, of which one is as good as eight.
pub const CONTROL_ORDERS_MAX: usize = CONTROL_CLIENTS_MAX + 8;
/// NBD connections at once: above it the newest is turned away.
pub const NBD_CLIENTS_MAX: usize = 16;
/// Front requests that every NBD client may always have in flight; the rest of [`FRONT_REQUESTS_MAX`] is
/// shared by whoever comes first. A client that does not read its replies holds what it has: half reserved,
/// half shared leaves 68 to a client alone, and 4 to each of those beside a hog.
pub const NBD_REQUESTS_RESERVED: usize = FRONT_REQUESTS_MAX / 2 / NBD_CLIENTS_MAX;
/// An NBD client that has not chosen an export after this long is turned away, in seconds: a person's
/// patience, and far above any round trip.
pub const NBD_HANDSHAKE_S: u64 = 10;
/// When the NBD server stops, clients that still have not read their replies after this long are cut off, in
/// seconds.
pub const NBD_STOP_S: u64 = 5;
/// Pause after the kernel or the pool had nothing left for an NBD client, in milliseconds.
pub const NBD_RETRY_MS: u32 = 10;

const _: () = {
    assert!(AL_SLOTS * 4 + 128 == META_BLOCK_BYTES);
    assert!(PAGE_BIT_BYTES + 128 == META_BLOCK_BYTES);
    assert!(PAGE_BLOCKS.is_multiple_of(64));
    assert!(IO_BYTES_MAX as u64 <= EXTENT_BYTES);
    assert!(VERIFY_JOBS_MAX <= RESYNC_JOBS_MAX);
    assert!(NBD_REQUESTS_RESERVED >= 2);
    assert!(8 * (HANDLER_COMMAND_BYTES_MAX + 8192) < HANDLER_LINE_BYTES_MAX);
    assert!(8 * (HANDLER_OUTPUT_BYTES_MAX + 8192) < HANDLER_LINE_BYTES_MAX);
};
/// How long `rblk resize` waits for the two nodes to meet again, in milliseconds.
pub const RESIZE_WAIT_MS: u64 = 10_000;
