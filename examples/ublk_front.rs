//! A ublk device through the daemon's own front, reactor and buffer pool, with a file behind it instead
//! of a mirror.
//!
//!     ublk_front --store FILE --mib N [--recover ID] [--delay-ms N] [--hold-ms N]
//!
//! Prints its news. SIGTERM takes the device away, SIGUSR2 does if nobody has it open; SIGUSR1 leaves it
//! to the next run with `--recover`. `--delay-ms` answers each request so much later. `--hold-ms` keeps
//! the buffer of each request in use for so long after it was answered, as a slow peer does, and then sees
//! whether somebody has changed it.

use rblk::front::News;
use rblk::front::ublk::UblkFront;
use rblk::front::{Front, FrontRequest, Geometry};
use rblk::io::Io;
use rblk::io::ring::{Owner, Token};
use rblk::limits::{BUFFERS_MAX, IO_BYTES_MAX, RING_ENTRIES, SECTOR_BYTES};
use rblk::replica::event::{Buf, FrontOp, FrontResult};
use signal_hook::consts::{SIGTERM, SIGUSR1, SIGUSR2};
use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const ANSWER: u8 = 0;
const LET_GO: u8 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let mut opening = File::options();
    let opening = opening.read(true).write(true).create(true).truncate(false);
    let store = opening.open(&arguments.store)?;
    store.set_len(arguments.mib << 20)?;
    let mut io = Io::new(RING_ENTRIES, BUFFERS_MAX, IO_BYTES_MAX)?;
    let sectors = (arguments.mib << 20) / SECTOR_BYTES;
    let geometry = Geometry { sectors, block_bytes: 512, discard: true };
    let front = match arguments.recover {
        Some(id) => UblkFront::recover(&mut io, id, geometry)?,
        None => UblkFront::create(&mut io, geometry, Box::new(record))?,
    };
    let signals = listen(&io)?;
    let host = Host {
        io,
        front,
        store,
        arguments,
        waiting: Vec::new(),
        held: Vec::new(),
        free_min: BUFFERS_MAX,
    };
    host.run(&signals)
}

/// Where the daemon would keep the number.
fn record(id: u32) -> std::io::Result<()> {
    std::fs::write("/tmp/ublk_front.id", id.to_string())
}

/// Signals, as they come; each wakes the reactor.
fn listen(io: &Io) -> Result<std::sync::mpsc::Receiver<i32>, Box<dyn Error>> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGUSR1, SIGUSR2])?;
    let waker = io.ring.waker();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for signal in &mut signals {
            let _ = send.send(signal);
            waker.wake();
        }
    });
    Ok(receive)
}

struct Arguments {
    store: String,
    mib: u64,
    recover: Option<u32>,
    delay: Duration,
    hold: Duration,
}

impl Arguments {
    fn parse() -> Result<Arguments, Box<dyn Error>> {
        let none = Duration::ZERO;
        let mut arguments =
            Arguments { store: String::new(), mib: 64, recover: None, delay: none, hold: none };
        let mut words = std::env::args().skip(1);
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--store" => arguments.store = value,
                "--mib" => arguments.mib = value.parse()?,
                "--recover" => arguments.recover = Some(value.parse()?),
                "--delay-ms" => arguments.delay = Duration::from_millis(value.parse()?),
                "--hold-ms" => arguments.hold = Duration::from_millis(value.parse()?),
                _ => return Err(format!("unknown option {option}").into()),
            }
        }
        Ok(arguments)
    }
}

struct Host {
    io: Io,
    front: UblkFront,
    store: File,
    arguments: Arguments,
    /// Requests whose delay is not over, by the index of their timer.
    waiting: Vec<Option<FrontRequest>>,
    /// Buffers of answered requests, with length and checksum, by the index of their timer.
    held: Vec<Option<(Buf, usize, u32)>>,
    /// Fewest buffers that were free.
    free_min: usize,
}

impl Host {
    fn run(mut self, signals: &std::sync::mpsc::Receiver<i32>) -> Result<(), Box<dyn Error>> {
        let mut requests = VecDeque::new();
        while !(self.front.stopped() && self.held.iter().all(Option::is_none)) {
            self.io.ring.wait(None)?;
            while let Some(done) = self.io.ring.next() {
                match (done.token.owner(), done.token.kind()) {
                    (Owner::Ublk, _) => {
                        self.front.on_completion(&mut self.io, done, &mut requests);
                    }
                    (_, ANSWER) => {
                        let request = self.waiting[done.token.index() as usize].take();
                        self.carry_out(request.ok_or("no such request")?);
                    }
                    _ => self.let_go(done.token.index() as usize),
                }
                while let Some(request) = requests.pop_front() {
                    self.admit(request);
                }
            }
            if self.io.ring.take_woken() {
                for signal in signals.try_iter() {
                    match signal {
                        SIGTERM => self.front.stop(&mut self.io),
                        SIGUSR2 => self.front.stop_unless_open(),
                        _ => self.leave(),
                    }
                }
            }
            self.free_min = self.free_min.min(self.io.pool.free());
            while let Some(news) = self.front.take_news() {
                self.tell(&news);
            }
        }
        println!("free buffers at least: {}", self.free_min);
        Ok(())
    }

    fn tell(&self, news: &News) {
        match news {
            News::Ready => println!("ready {}", self.front.address()),
            other => println!("{other:?}"),
        }
    }

    /// Ends at once: the kernel takes the queue's entries off the ring.
    fn leave(&mut self) {
        self.front.leave_to_successor();
        println!("left {}", self.front.address());
        std::process::exit(0);
    }

    fn admit(&mut self, request: FrontRequest) {
        if self.arguments.delay.is_zero() {
            self.carry_out(request);
            return;
        }
        let index = put(&mut self.waiting, request);
        self.io.ring.timeout(self.arguments.delay, Token::new(Owner::Probe, ANSWER, index));
    }

    fn carry_out(&mut self, request: FrontRequest) {
        let result = match self.transfer(request.op) {
            Ok(()) => FrontResult::Done,
            Err(error) => {
                println!("{:?}: {error}", request.op);
                FrontResult::IoError
            }
        };
        if let FrontOp::Read { span, buf } | FrontOp::Write { span, buf, .. } = request.op
            && !self.arguments.hold.is_zero()
        {
            let bytes = span.bytes() as usize;
            let sum = crc32c::crc32c(self.io.pool.bytes(buf, bytes));
            self.io.pool.hold(buf);
            let index = put(&mut self.held, (buf, bytes, sum));
            self.io.ring.timeout(self.arguments.hold, Token::new(Owner::Probe, LET_GO, index));
        }
        self.front.complete(&mut self.io, request.id, result);
        if let FrontOp::Read { buf, .. } | FrontOp::Write { buf, .. } = request.op {
            self.io.pool.release(buf);
        }
    }

    fn transfer(&mut self, op: FrontOp) -> std::io::Result<()> {
        let pool = &mut self.io.pool;
        match op {
            FrontOp::Flush => Ok(()),
            FrontOp::Read { span, buf } => {
                self.store.read_exact_at(pool.bytes_mut(buf, span.bytes() as usize), span.offset())
            }
            FrontOp::Write { span, buf, .. } => {
                self.store.write_all_at(pool.bytes(buf, span.bytes() as usize), span.offset())
            }
            FrontOp::Zero { span, .. } => {
                let zeroes = vec![0; span.bytes() as usize];
                self.store.write_all_at(&zeroes, span.offset())
            }
        }
    }

    fn let_go(&mut self, index: usize) {
        if let Some((buf, bytes, sum)) = self.held[index].take() {
            if crc32c::crc32c(self.io.pool.bytes(buf, bytes)) != sum {
                println!("CHANGED: buffer {} while it was in use", buf.0);
            }
            self.io.pool.release(buf);
        }
    }
}

/// Puts a value into a free place; returns its index.
fn put<T>(table: &mut Vec<Option<T>>, value: T) -> u32 {
    let free = table.iter().position(Option::is_none).unwrap_or_else(|| {
        table.push(None);
        table.len() - 1
    });
    table[free] = Some(value);
    free as u32
}
