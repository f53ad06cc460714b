//! What the NBD front costs: its server on a ring of its own, a client on another thread, and nothing behind it.
//!
//! ```text
//!   client ══ UNIX socket ══ Nbd ──► FrontRequest
//!                             ▲          │ completed at once
//!                             └──────────┘
//! ```
//!
//! What a request takes, client and both ways through the socket included, with one and with 32 requests in flight.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rblk::front::nbd::Nbd;
use rblk::front::{Front, FrontRequest, Geometry};
use rblk::io::Io;
use rblk::limits::{BUFFERS_MAX, IO_BYTES_MAX};
use rblk::replica::event::{FrontOp, FrontResult};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const VOLUME_BYTES: u64 = 1 << 30;
const BLOCK: usize = 4096;
const REQUEST_BYTES: usize = 28;
const REPLY_BYTES: usize = 16;
const READ: u16 = 0;
const WRITE: u16 = 1;

/// A server that does nothing, until its only client has left.
fn serve(path: &Path) {
    let mut io = Io::new(256, BUFFERS_MAX, IO_BYTES_MAX).expect("io_uring");
    let geometry = Geometry { sectors: VOLUME_BYTES / 512, block_bytes: 512, discard: true };
    let address = format!("unix:{}", path.display()).parse().expect("an address");
    let mut front = Nbd::start(&mut io, &address, "bench", &geometry).expect("binds");
    let mut requests = VecDeque::new();
    let mut seen = false;
    while !front.stopped() {
        io.ring.wait(Some(Duration::from_secs(10))).expect("usable");
        while let Some(done) = io.ring.next() {
            front.on_completion(&mut io, done, &mut requests);
            while let Some(FrontRequest { id, op }) = requests.pop_front() {
                seen = true;
                front.complete(&mut io, id, FrontResult::Done);
                if let FrontOp::Read { buf, .. } | FrontOp::Write { buf, .. } = op {
                    io.pool.release(buf);
                }
            }
        }
        if seen && front.openers() == rblk::front::Openers::Known(Vec::new()) {
            front.stop(&mut io);
        }
    }
}

/// A client with a number of equal requests in flight.
struct Client {
    stream: UnixStream,
    request: Vec<u8>,
    reply_bytes: usize,
    depth: u64,
}

impl Client {
    fn connect(path: &Path, kind: u16, depth: u64) -> Client {
        let until = Instant::now() + Duration::from_secs(10);
        let mut stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) => assert!(Instant::now() < until, "the server does not come"),
            }
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("sets");
        stream.read_exact(&mut [0; 18]).expect("a greeting");
        // Fixed newstyle, no zeroes; then NBD_OPT_EXPORT_NAME.
        let mut hello = 3u32.to_be_bytes().to_vec();
        hello.extend_from_slice(b"IHAVEOPT");
        hello.extend(1u32.to_be_bytes());
        hello.extend(5u32.to_be_bytes());
        hello.extend_from_slice(b"bench");
        stream.write_all(&hello).expect("taken");
        stream.read_exact(&mut [0; 10]).expect("the export");
        let mut request = 0x2560_9513u32.to_be_bytes().to_vec();
        request.extend(0u16.to_be_bytes());
        request.extend(kind.to_be_bytes());
        request.extend([0; 16]);
        request.extend((BLOCK as u32).to_be_bytes());
        assert_eq!(request.len(), REQUEST_BYTES);
        let data = if kind == WRITE { BLOCK } else { 0 };
        request.resize(REQUEST_BYTES + data, 0x5a);
        let reply_bytes = REPLY_BYTES + if kind == READ { BLOCK } else { 0 };
        Client { stream, request, reply_bytes, depth }
    }

    /// The time that `count` requests take.
    fn run(&mut self, count: u64) -> Duration {
        let begun = Instant::now();
        let (mut asked, mut answered) = (0, 0);
        let batch = self.request.repeat(self.depth as usize);
        let mut replies = vec![0; self.depth as usize * self.reply_bytes];
        let mut got = 0;
        while answered < count {
            let more = (count - asked).min(self.depth - (asked - answered));
            self.stream.write_all(&batch[..more as usize * self.request.len()]).expect("taken");
            asked += more;
            got += self.stream.read(&mut replies[got..]).expect("answered");
            assert!(got > 0, "the server has left");
            let whole = got / self.reply_bytes;
            for reply in replies.chunks_exact(self.reply_bytes).take(whole) {
                assert_eq!(reply[..8], *b"\x67\x44\x66\x98\0\0\0\0");
            }
            replies.copy_within(whole * self.reply_bytes..got, 0);
            got -= whole * self.reply_bytes;
            answered += whole as u64;
        }
        begun.elapsed()
    }
}

fn loopback(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nbd");
    group.throughput(Throughput::Elements(1));
    let dir = tempfile::tempdir().expect("a directory");
    for (name, kind, depth) in [
        ("4k writes, one at a time", WRITE, 1),
        ("4k writes, 32 at a time", WRITE, 32),
        ("4k reads, one at a time", READ, 1),
        ("4k reads, 32 at a time", READ, 32),
    ] {
        let path = dir.path().join(format!("{kind}-{depth}.sock"));
        let socket = path.clone();
        let server = std::thread::spawn(move || serve(&socket));
        let mut client = Client::connect(&path, kind, depth);
        group.bench_function(name, |bencher| bencher.iter_custom(|count| client.run(count)));
        drop(client);
        server.join().expect("ends by itself");
    }
    group.finish();
}

criterion_group!(benches, loopback);
criterion_main!(benches);
