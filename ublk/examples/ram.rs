//! A disk in memory: one device, one ring, one thread, and a second thread for control commands.
//!
//!     ram --store /dev/shm/disk [--mib 256] [--delay-ms 0] [--recover ID]
//!     ram --remove ID
//!
//! Prints `ready /dev/ublkbN` once clients can open it. SIGTERM takes the device away; after SIGKILL it
//! waits for `--recover N`. The content is a file, so that it survives that; on tmpfs it is memory.
//! `--remove N` takes it away instead. `--delay-ms` answers each request so much later, to have requests
//! in flight when it matters.

use io_uring::{IoUring, opcode, squeue, types};
use rblk_ublk::{Control, Device, Event, Op, Options, Queue, Request};
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const SECTOR_BYTES: u64 = 512;
const DEPTH: u16 = 128;
const BUFFER_BYTES: u32 = 128 << 10;
const ZERO_BYTES_MAX: u32 = 32 << 20;
/// Set in the `user_data` of a delay's end; the tag is below it.
const DELAYED: u64 = 1 << 32;
/// Longest wait for a control command.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ram: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    if let Some(id) = arguments.remove {
        let mut control = Control::open(id)?;
        control.stop(LIMIT)?;
        return Ok(control.delete(LIMIT)?);
    }
    // Before there are threads: all inherit it, and only the control thread waits for signals.
    let signals = block_signals();
    let options = Options {
        sectors: (arguments.mib << 20) / SECTOR_BYTES,
        logical_block_bytes: 512,
        physical_block_bytes: 4096,
        optimal_io_bytes: 4096,
        depth: DEPTH,
        buffer_bytes: BUFFER_BYTES,
        discard_bytes_max: ZERO_BYTES_MAX,
        zero_bytes_max: ZERO_BYTES_MAX,
        read_only: false,
        rotational: false,
    };
    let mut opening = File::options();
    let opening = opening.read(true).write(true).create(true).truncate(false);
    let store = opening.open(&arguments.store)?;
    store.set_len(arguments.mib << 20)?;
    let Device { control, queue } = match arguments.recover {
        Some(id) => Device::recover(id, &options)?,
        None => Device::create(&options)?,
    };
    let control = thread::spawn(move || oversee(control, signals));
    Server::new(queue, store, arguments.delay)?.serve()?;
    match control.join() {
        Ok(result) => Ok(result?),
        Err(_) => Err("the control thread panicked".into()),
    }
}

struct Arguments {
    store: String,
    mib: u64,
    delay: Duration,
    recover: Option<u32>,
    remove: Option<u32>,
}

impl Arguments {
    fn parse() -> Result<Arguments, Box<dyn Error>> {
        let mut arguments = Arguments {
            store: String::new(),
            mib: 256,
            delay: Duration::ZERO,
            recover: None,
            remove: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--store" => arguments.store = value,
                "--mib" => arguments.mib = value.parse()?,
                "--delay-ms" => arguments.delay = Duration::from_millis(value.parse()?),
                "--remove" => arguments.remove = Some(value.parse()?),
                "--recover" => arguments.recover = Some(value.parse()?),
                _ => return Err(format!("unknown option {option}").into()),
            }
        }
        if arguments.store.is_empty() && arguments.remove.is_none() {
            return Err("--store FILE is needed".into());
        }
        Ok(arguments)
    }
}

/// The control thread: starts the device, and takes it away on SIGTERM.
fn oversee(mut control: Control, signals: libc::sigset_t) -> Result<(), rblk_ublk::Error> {
    if let Err(error) = control.start(LIMIT) {
        // Without a start, deleting is what ends the tags that wait in the kernel.
        control.delete(LIMIT)?;
        return Err(error);
    }
    println!("ready {}", control.path());
    wait_for_signal(signals);
    for opener in rblk_ublk::openers(control.id()) {
        println!("open: {opener}");
    }
    control.stop(LIMIT)?;
    control.delete(LIMIT)
}

/// The I/O thread.
struct Server {
    ring: IoUring,
    queue: Queue,
    store: File,
    delay: types::Timespec,
    is_delayed: bool,
    /// By tag: where its data comes and goes.
    buffers: Vec<Vec<u8>>,
    /// By tag: the request that waits for its delay.
    waiting: Vec<Option<Request>>,
}

impl Server {
    fn new(queue: Queue, store: File, delay: Duration) -> std::io::Result<Server> {
        // An entry of the ring per tag, and one for its delay.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(2 * u32::from(queue.depth()))?;
        let buffers = vec![vec![0; BUFFER_BYTES as usize]; usize::from(queue.depth())];
        let waiting = vec![None; usize::from(queue.depth())];
        let is_delayed = !delay.is_zero();
        Ok(Server { ring, queue, store, delay: delay.into(), is_delayed, buffers, waiting })
    }

    /// Serves until the device is gone.
    fn serve(mut self) -> std::io::Result<()> {
        for tag in 0..self.queue.depth() {
            let entry = self.queue.arm(tag, self.buffers[usize::from(tag)].as_mut_ptr());
            self.push(&entry.user_data(u64::from(tag)));
        }
        while self.queue.armed() > 0 || self.waiting.iter().any(Option::is_some) {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Err(error) => return Err(error),
            }
            let ended: Vec<_> = self.ring.completion().collect();
            for end in ended {
                self.on_end(end.user_data(), end.result());
            }
        }
        Ok(())
    }

    fn on_end(&mut self, user_data: u64, result: i32) {
        let tag = (user_data & 0xffff) as u16;
        if user_data & DELAYED != 0 {
            if let Some(request) = self.waiting[usize::from(tag)].take() {
                self.answer(request);
            }
            return;
        }
        match self.queue.on_completion(tag, result) {
            Event::Request(request) if self.is_delayed => {
                self.waiting[usize::from(tag)] = Some(request);
                let delay = &raw const self.delay;
                let entry = opcode::Timeout::new(delay).build();
                self.push(&entry.user_data(DELAYED | u64::from(tag)));
            }
            Event::Request(request) => self.answer(request),
            Event::Refuse { tag, errno } => self.commit(tag, -errno),
            Event::Aborted { errno: libc::ENODEV, .. } => {}
            Event::Aborted { tag, errno } => eprintln!("ram: tag {tag} failed with {errno}"),
        }
    }

    fn answer(&mut self, request: Request) {
        let result = match self.carry_out(request) {
            Ok(bytes) => bytes as i32,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        };
        self.commit(request.tag, result);
    }

    /// Does what a request asks; returns the bytes of data.
    fn carry_out(&mut self, request: Request) -> std::io::Result<usize> {
        let offset = request.start_sector * SECTOR_BYTES;
        let bytes = request.sectors as usize * SECTOR_BYTES as usize;
        let buffer = &mut self.buffers[usize::from(request.tag)];
        match request.op {
            Op::Read => self.store.read_exact_at(&mut buffer[..bytes], offset).map(|()| bytes),
            Op::Write => self.store.write_all_at(&buffer[..bytes], offset).map(|()| bytes),
            Op::Flush => Ok(0),
            Op::Discard | Op::WriteZeroes => {
                let zeroes = [0; 4096];
                for at in (0..bytes).step_by(zeroes.len()) {
                    let part = (bytes - at).min(zeroes.len());
                    self.store.write_all_at(&zeroes[..part], offset + at as u64)?;
                }
                Ok(0)
            }
        }
    }

    fn commit(&mut self, tag: u16, result: i32) {
        let entry = self.queue.commit(tag, result, self.buffers[usize::from(tag)].as_mut_ptr());
        self.push(&entry.user_data(u64::from(tag)));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: entries point to `buffers` and `delay`. The buffers' memory stays where it is when the
        // server is moved, and a tag's buffer is used only between its completion and its commit. The
        // server is not moved after the first push, and `ring` is dropped before both (fields drop in
        // order).
        let pushed = unsafe { self.ring.submission().push(entry) };
        assert!(pushed.is_ok(), "the ring has two entries for each tag");
    }
}

/// Blocks the signals that ask for an end; returns their set.
fn block_signals() -> libc::sigset_t {
    // SAFETY: a signal set is plain memory, which the calls fill in; it outlives them.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    }
}

fn wait_for_signal(set: libc::sigset_t) {
    let mut signal = 0;
    // SAFETY: both outlive the call.
    unsafe { libc::sigwait(&raw const set, &raw mut signal) };
}
