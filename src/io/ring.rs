//! The one `io_uring` of a reactor thread.
//!
//! It promises that every operation pushed completes exactly once (multishot operations: with a last one),
//! whatever the kernel's queues hold at that moment, and that no completion is lost. It does what rblk needs and
//! nothing else (`allowed`). It must never be used from another thread than the one that made it: `SINGLE_ISSUER` and
//! `DEFER_TASKRUN` depend on it, and the type is not `Send`.
//!
//! ```text
//!   push ──► waiting ──► submission queue ══► kernel ══► completion queue ──► ready ──► next
//!              (only while the queue is full)               (reaped whole by `wait`)
//! ```

use super::allowed;
use super::counter::Counter;
use super::faults::Verdict;
pub use super::token::{Completion, Owner, Token};
pub use super::waker::Waker;
use crate::limits::{QUIESCE_MS, RING_BUFFERS_MAX, RING_FILES_MAX};
use io_uring::types::{self, CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::{Duration, Instant};

/// Kinds of [`Owner::Ring`].
const WAKE: u8 = 0;
const CANCEL: u8 = 1;
const DELAY: u8 = 2;

/// The reactor's submission and completion queues.
pub struct Ring {
    uring: IoUring<squeue::Entry, cqueue::Entry>,
    /// Entries for which the submission queue has had no room, oldest first.
    waiting: VecDeque<squeue::Entry>,
    /// Completions not yet asked for.
    ready: VecDeque<Completion>,
    /// Operations that the kernel has not completed for the last time, those in `waiting` included.
    in_flight: usize,
    /// Operations held back: the index names the timer that lets them go.
    delayed: Vec<Option<Delayed>>,
    /// An error of submission that no caller has been told yet.
    broken: Option<Error>,
    files: Vec<bool>,
    buffers: u16,
    /// Read by an operation that is always on the ring: its completion is the wakeup.
    wake_counter: Counter,
    /// Where the kernel puts the event counter. Leaked if the kernel may still write to it at the end.
    wake_count: Option<Box<u64>>,
    woken: bool,
    /// Not `Send`.
    thread: PhantomData<*const ()>,
}

/// An operation that is held back.
struct Delayed {
    /// What to start when the time is over; `None` for a plain timer.
    entry: Option<squeue::Entry>,
    token: Token,
    /// Read by the kernel when the timer is submitted: boxed, since the table may move.
    time: Box<Timespec>,
    /// Cancelled, or taken out: the timer alone is still to come.
    ended: bool,
    /// No timer is on the ring: only a cancellation ends it.
    forever: bool,
}

impl Ring {
    /// A ring for `entries` submissions at a time and four times as many completions, made for this thread.
    ///
    /// # Errors
    /// What forbids io_uring on this host, in words for the operator.
    pub fn new(entries: u32) -> Result<Ring> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // Without it, `submit` with nothing to wait for would not see deferred work.
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(entries.saturating_mul(4))
            .dontfork()
            // Until it is known what it may be asked for.
            .setup_r_disabled()
            .build(entries)
            .map_err(|error| refused(&error))?;
        if !uring.params().is_feature_ext_arg() || !uring.params().is_feature_nodrop() {
            return Err(refused(&Error::from_raw_os_error(libc::EINVAL)));
        }
        uring.submitter().register_files_sparse(RING_FILES_MAX)?;
        uring.submitter().register_buffers_sparse(RING_BUFFERS_MAX)?;
        allowed::enable(&uring)?;
        let mut ring = Ring {
            uring,
            waiting: VecDeque::with_capacity(entries as usize),
            ready: VecDeque::with_capacity(entries as usize * 4),
            in_flight: 0,
            delayed: Vec::new(),
            broken: None,
            files: vec![false; RING_FILES_MAX as usize],
            buffers: 0,
            wake_counter: Counter::to_read()?,
            wake_count: Some(Box::new(0)),
            woken: false,
            thread: PhantomData,
        };
        ring.arm_waker();
        Ok(ring)
    }

    /// Starts an operation. It goes to the kernel with the next [`Ring::wait`], or at once if the queue is
    /// full.
    ///
    /// # Safety
    /// All memory and file descriptors that `entry` names stay valid, and are not touched in a way that
    /// conflicts with the operation, until its last completion has been taken from [`Ring::next`].
    pub unsafe fn push(&mut self, entry: squeue::Entry, token: Token) {
        self.in_flight += 1;
        let entry = entry.user_data(token.0);
        if !self.waiting.is_empty() || !self.try_push(&entry) {
            self.waiting.push_back(entry);
        }
    }

    /// As [`Ring::push`], with the fault that was decided on. A shortened operation is the caller's business.
    ///
    /// # Safety
    /// As for [`Ring::push`].
    pub unsafe fn push_faulty(&mut self, entry: squeue::Entry, token: Token, verdict: Verdict) {
        match verdict {
            Verdict::Pass | Verdict::Short => {
                // SAFETY: the caller's promise is the same.
                unsafe { self.push(entry, token) }
            }
            Verdict::Fail(errno) => self.inject(token, -errno),
            Verdict::Delay(time) => self.hold_back(Some(entry), token, Some(time)),
            Verdict::Hang => self.hold_back(Some(entry), token, None),
        }
    }

    /// Completes `token` once with `result`, without the kernel.
    pub fn inject(&mut self, token: Token, result: i32) {
        self.ready.push_back(Completion { token, result, flags: 0 });
    }

    /// Completes `token` with `-ETIME` after `time`, or with `-ECANCELED` when cancelled before.
    pub fn timeout(&mut self, time: Duration, token: Token) {
        self.hold_back(None, token, Some(time));
    }

    /// Completes `token` once as soon as `counter` is above zero.
    pub fn watch(&mut self, counter: &Counter, token: Token) {
        let fd = types::Fd(counter.raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).build();
        // SAFETY: it names no memory, and the descriptor is at least submitted while its owner keeps it open:
        // whoever drops a counter that is watched has ended the ring, or takes an answer about another file for
        // its own at worst.
        unsafe { self.push(entry, token) };
    }

    /// Asks for an early end of the operation `token`. It completes all the same, as cancelled or as if
    /// nothing had been asked; only then its memory is free.
    pub fn cancel(&mut self, token: Token) {
        let held = self
            .delayed
            .iter()
            .position(|held| matches!(held, Some(held) if held.token == token && !held.ended));
        if let Some(index) = held {
            self.inject(token, -libc::ECANCELED);
            self.end_delay(index);
            return;
        }
        let entry = opcode::AsyncCancel::new(token.0).build();
        // SAFETY: a cancellation names no memory.
        unsafe { self.push(entry, Token::new(Owner::Ring, CANCEL, 0)) };
    }

    /// Submits what was pushed and waits until something has completed, `timeout` is over, a waker was used
    /// or a signal came. Does not wait while completions are ready.
    ///
    /// # Errors
    /// The ring is unusable: a bug here or in the kernel.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.refill();
        self.reap();
        let idle = self.ready.is_empty() && self.waiting.is_empty();
        self.enter(usize::from(idle), timeout);
        self.reap();
        self.broken.take().map_or(Ok(()), Err)
    }

    /// The next completion, oldest first; `None` if [`Ring::wait`] is to be called.
    #[expect(clippy::should_implement_trait, reason = "a queue that refills is no iterator")]
    pub fn next(&mut self) -> Option<Completion> {
        while let Some(done) = self.ready.pop_front() {
            if done.token.owner() != Owner::Ring {
                return Some(done);
            }
            self.on_own(done);
        }
        None
    }

    /// True if a [`Waker`] was used since the last call. To be asked after [`Ring::next`] has returned
    /// `None`.
    pub fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// Wakes this ring from other threads.
    pub fn waker(&self) -> Waker {
        Waker::new(self.wake_counter.clone())
    }

    /// Operations pushed whose last completion has not come: the ring's own included.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Puts a file into the table of registered files, which spares the kernel a lookup per operation.
    ///
    /// # Errors
    /// The table ([`RING_FILES_MAX`]) is full, or the kernel refuses the file.
    pub fn add_file(&mut self, fd: BorrowedFd<'_>) -> Result<types::Fixed> {
        use std::os::fd::AsRawFd;
        let full = || Error::other(format!("All {RING_FILES_MAX} registered files are in use"));
        let slot = self.files.iter().position(|used| !used).ok_or_else(full)?;
        self.set_file(slot as u32, fd.as_raw_fd())?;
        self.files[slot] = true;
        Ok(types::Fixed(slot as u32))
    }

    /// Takes a file out of the table. Operations in flight keep it open until they end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_file(&mut self, file: types::Fixed) -> Result<()> {
        let used = &mut self.files[file.0 as usize];
        assert!(std::mem::take(used), "registered file {} is removed twice", file.0);
        self.set_file(file.0, -1)
    }

    fn set_file(&mut self, slot: u32, fd: RawFd) -> Result<()> {
        self.uring.submitter().register_files_update(slot, &[fd]).map(drop)
    }

    /// Registers `bytes` bytes at `start` for `READ_FIXED` and `WRITE_FIXED`; returns the buffer index.
    ///
    /// # Safety
    /// The memory stays mapped for as long as the ring exists.
    ///
    /// # Errors
    /// `ENOMEM` if the locked-memory limit of the process does not allow it.
    pub unsafe fn add_buffer(&mut self, start: *mut u8, bytes: usize) -> Result<u16> {
        assert!(u32::from(self.buffers) < RING_BUFFERS_MAX, "too many registered buffers");
        let area = libc::iovec { iov_base: start.cast(), iov_len: bytes };
        let submitter = self.uring.submitter();
        // SAFETY: the caller keeps the memory mapped; without tags the kernel reads nothing but the area.
        unsafe { submitter.register_buffers_update(u32::from(self.buffers), &[area], None)? };
        self.buffers += 1;
        Ok(self.buffers - 1)
    }

    /// Cancels everything and waits until nothing is in flight, or `within` is over. Completions are dropped.
    /// True if the kernel holds no memory of ours any more.
    #[must_use]
    pub fn quiesce(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        loop {
            self.refill();
            self.ready.clear();
            if self.in_flight == 0 {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
            // SAFETY: a cancellation names no memory.
            unsafe { self.push(entry, Token::new(Owner::Ring, CANCEL, 0)) };
            self.enter(2, Some(Duration::from_millis(10)));
            self.reap();
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: `push` and `push_faulty` are unsafe and pass the promise on to their callers.
        if unsafe { self.uring.submission().push(entry) }.is_ok() {
            return true;
        }
        self.enter(0, None);
        // SAFETY: as above.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    fn refill(&mut self) {
        while let Some(entry) = self.waiting.pop_front() {
            if !self.try_push(&entry) {
                self.waiting.push_front(entry);
                break;
            }
        }
    }

    fn enter(&mut self, want: usize, timeout: Option<Duration>) {
        if want == 0 {
            let queue = self.uring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return;
            }
        }
        let time = timeout.map(Timespec::from);
        let args = match &time {
            Some(time) if want > 0 => SubmitArgs::new().timespec(time),
            _ => SubmitArgs::new(),
        };
        let Err(error) = self.uring.submitter().submit_with_args(want, &args) else {
            return;
        };
        match error.raw_os_error() {
            // The time is over; a signal; completions must be reaped first; no memory right now.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
            _ => self.broken = Some(error),
        }
    }

    fn reap(&mut self) {
        for entry in self.uring.completion() {
            let done = Completion {
                token: Token(entry.user_data()),
                result: entry.result(),
                flags: entry.flags(),
            };
            self.in_flight -= usize::from(!done.more());
            self.ready.push_back(done);
        }
    }

    fn on_own(&mut self, done: Completion) {
        match done.token.kind() {
            WAKE => {
                self.woken = true;
                self.arm_waker();
            }
            DELAY => self.on_delay_over(done.token.index() as usize),
            // Whether a cancellation met its operation shows in the completion of that one.
            kind => assert_eq!(kind, CANCEL, "unknown operation of the ring"),
        }
    }

    fn arm_waker(&mut self) {
        let Some(count) = &mut self.wake_count else {
            return;
        };
        let start: *mut u64 = &raw mut **count;
        let entry =
            opcode::Read::new(types::Fd(self.wake_counter.raw_fd()), start.cast(), 8).build();
        // SAFETY: `wake_count` is boxed and outlives the read, or is leaked; one read is armed at a time.
        unsafe { self.push(entry, Token::new(Owner::Ring, WAKE, 0)) };
    }

    fn hold_back(&mut self, entry: Option<squeue::Entry>, token: Token, time: Option<Duration>) {
        let free = self.delayed.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.delayed.push(None);
            self.delayed.len() - 1
        });
        let held = self.delayed[index].insert(Delayed {
            entry,
            token,
            time: Box::new(time.unwrap_or_default().into()),
            ended: false,
            forever: time.is_none(),
        });
        if time.is_some() {
            let timer = opcode::Timeout::new(&raw const *held.time).build();
            // SAFETY: the time is boxed and stays in the table until the timer has completed.
            unsafe { self.push(timer, Token::new(Owner::Ring, DELAY, index as u32)) };
        }
    }

    /// The operation at `index` will not be started; its timer still has to go.
    fn end_delay(&mut self, index: usize) {
        let Some(held) = &mut self.delayed[index] else {
            return;
        };
        held.ended = true;
        if held.forever {
            self.delayed[index] = None;
        } else {
            self.cancel(Token::new(Owner::Ring, DELAY, index as u32));
        }
    }

    fn on_delay_over(&mut self, index: usize) {
        let Some(held) = self.delayed[index].take() else {
            return;
        };
        if held.ended {
            return;
        }
        match held.entry {
            None => self.inject(held.token, -libc::ETIME),
            Some(entry) => {
                // SAFETY: whoever pushed it keeps its memory until the completion, which has not come yet.
                unsafe { self.push(entry, held.token) };
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.quiesce(Duration::from_millis(QUIESCE_MS)) {
            // The kernel may still write to them.
            std::mem::forget(self.wake_count.take());
            std::mem::forget(std::mem::take(&mut self.delayed));
        }
    }
}

/// Why this host does not let us have a ring, and what to do about it.
fn refused(error: &Error) -> Error {
    let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let why = match (error.raw_os_error(), switch.trim()) {
        (Some(libc::EPERM), "1" | "2") => {
            "sysctl kernel.io_uring_disabled forbids it; set it to 0, or to 1 and run rblk as a \
             member of kernel.io_uring_group"
        }
        (Some(libc::EPERM), _) => {
            "a seccomp filter or security module forbids it; in a container, allow io_uring_setup, \
             io_uring_enter and io_uring_register"
        }
        (Some(libc::ENOSYS), _) => {
            "the kernel has none, or a seccomp filter hides it; rblk needs Linux 6.1 or newer"
        }
        (Some(libc::EINVAL), _) => {
            "the kernel is too old (SINGLE_ISSUER and DEFER_TASKRUN are missing); rblk needs Linux \
             6.1 or newer"
        }
        (Some(libc::ENOMEM), _) => {
            "the locked-memory limit is too low; raise LimitMEMLOCK= of the service (ulimit -l)"
        }
        _ => "this host refuses it",
    };
    Error::new(ErrorKind::Unsupported, format!("Cannot set up io_uring: {why} ({error})"))
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
