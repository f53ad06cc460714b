//! Sockets of clients on the ring, without `unsafe` for those who use them: a door that clients knock at, and
//! a connection with one receive and one gathered send in flight at most.
//!
//! Both own all memory and descriptors that the kernel is told of. Dropped before their operations have
//! ended, they leak them instead: what the kernel may still write to is never used for anything else.

use super::Io;
use super::ring::{Completion, Ring, Token};
use crate::replica::event::Buf;
use io_uring::{opcode, types};
use rustix::io::Errno;
use rustix::net::{self, Shutdown, SocketFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Bytes received ahead of what is understood. Several small requests with their payload arrive in one go;
/// larger payloads go where they belong without passing here.
pub const INBOX_BYTES: usize = 16 << 10;
/// Bytes of headers in one send.
pub const OUTBOX_BYTES: usize = 512;
/// Areas of memory in one send: headers and payloads.
const AREAS_MAX: usize = 32;

/// A listening socket, which does not block.
pub struct Door {
    /// `None` only while it is dropped.
    fd: Option<OwnedFd>,
    watching: bool,
}

impl Door {
    /// A door for a socket that listens already and is non-blocking.
    pub fn new(fd: OwnedFd) -> Door {
        let fd = Some(fd);
        Door { fd, watching: false }
    }

    /// Completes `token` once a client knocks. One watch at a time.
    pub fn watch(&mut self, ring: &mut Ring, token: Token) {
        assert!(!self.watching, "one watch at a time");
        let Some(fd) = &self.fd else { return };
        let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), libc::POLLIN as u32).build();
        // SAFETY: a poll names no memory, and the descriptor is leaked rather than closed while it is
        // watched.
        unsafe { ring.push(entry, token) };
        self.watching = true;
    }

    /// To be called with the completion of the watch.
    pub fn watched(&mut self) {
        assert!(self.watching);
        self.watching = false;
    }

    /// True while a watch is on the ring.
    pub fn is_watching(&self) -> bool {
        self.watching
    }

    /// Lets the next client in; `None` if none waits.
    ///
    /// # Errors
    /// The process or the system has no descriptors or no memory left.
    pub fn accept(&self) -> std::io::Result<Option<OwnedFd>> {
        let Some(fd) = &self.fd else { return Ok(None) };
        loop {
            // Without NONBLOCK: the ring waits for data itself, but would report EAGAIN for such a socket.
            match net::accept_with(fd, SocketFlags::CLOEXEC) {
                Ok(client) => return Ok(Some(client)),
                Err(Errno::AGAIN) => return Ok(None),
                // The client gave up while it waited.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.watching {
            std::mem::forget(self.fd.take());
        }
    }
}

/// What a receive brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// More bytes in the inbox.
    Inbox,
    /// This many bytes in the buffer that was named.
    Buffer(usize),
    /// Nothing: to be started anew.
    Again,
    /// The stream has ended or failed.
    End,
}

/// What came of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// All is out.
    All,
    /// Some is left: call [`Conn::send`] again.
    Part,
    /// The stream has failed.
    Failed,
}

/// The connection of a client.
pub struct Conn {
    memory: Option<Memory>,
    start: usize,
    end: usize,
    /// A receive is on the ring; if it is into a buffer, not the inbox.
    receiving: Option<Target>,
    sending: bool,
    out_len: usize,
    first_area: usize,
    areas: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Inbox,
    Buffer,
}

/// All that the kernel is told of. `None` in a connection only while it is dropped.
struct Memory {
    fd: OwnedFd,
    inbox: Box<[u8]>,
    outbox: Box<[u8]>,
    areas: Box<[libc::iovec]>,
    message: Box<libc::msghdr>,
}

impl Conn {
    /// A connection over a blocking stream socket.
    pub fn new(fd: OwnedFd) -> Conn {
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let message = libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: std::ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        Conn {
            memory: Some(Memory {
                fd,
                inbox: vec![0; INBOX_BYTES].into_boxed_slice(),
                outbox: vec![0; OUTBOX_BYTES].into_boxed_slice(),
                areas: vec![none; AREAS_MAX].into_boxed_slice(),
                message: Box::new(message),
            }),
            start: 0,
            end: 0,
            receiving: None,
            sending: false,
            out_len: 0,
            first_area: 0,
            areas: 0,
        }
    }

    /// Bytes received and not yet consumed.
    pub fn unread(&self) -> &[u8] {
        &self.memory().inbox[self.start..self.end]
    }

    /// Drops the first `bytes` bytes of [`Conn::unread`].
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start);
        self.start += bytes;
    }

    /// True while a receive is on the ring.
    pub fn is_receiving(&self) -> bool {
        self.receiving.is_some()
    }

    /// True while a send is on the ring.
    pub fn is_sending(&self) -> bool {
        self.sending
    }

    /// Receives more into the inbox, which has room: consume first.
    pub fn receive(&mut self, ring: &mut Ring, token: Token) {
        assert!(self.receiving.is_none(), "one receive at a time");
        let (start, end) = (self.start, self.end);
        let memory = self.memory_mut();
        memory.inbox.copy_within(start..end, 0);
        let free = &mut memory.inbox[end - start..];
        assert!(!free.is_empty(), "a message is longer than the inbox");
        let fd = types::Fd(memory.fd.as_raw_fd());
        let entry = opcode::Recv::new(fd, free.as_mut_ptr(), free.len() as u32).build();
        (self.start, self.end) = (0, end - start);
        self.receiving = Some(Target::Inbox);
        // SAFETY: inbox and descriptor live as long as the receive (`Drop`); what is not yet received is not
        // looked at before `received`.
        unsafe { ring.push(entry, token) };
    }

    /// Receives `bytes` bytes into `buf` from byte `at` on. The caller holds a reference to the buffer and
    /// does not look at these bytes until the receive has ended.
    pub fn receive_into(&mut self, io: &mut Io, token: Token, buf: Buf, at: usize, bytes: usize) {
        assert!(self.receiving.is_none(), "one receive at a time");
        let area = &mut io.pool.bytes_mut(buf, at + bytes)[at..];
        let fd = types::Fd(self.memory().fd.as_raw_fd());
        let entry = opcode::Recv::new(fd, area.as_mut_ptr(), area.len() as u32)
            .flags(libc::MSG_WAITALL)
            .build();
        self.receiving = Some(Target::Buffer);
        // SAFETY: the pool outlives all operations on its ring; the caller keeps the buffer; the descriptor
        // lives as long as the receive (`Drop`).
        unsafe { io.ring.push(entry, token) };
    }

    /// To be called with the completion of a receive.
    pub fn received(&mut self, done: Completion) -> Received {
        let target = self.receiving.take().expect("a receive is on the ring");
        match (usize::try_from(done.result), target) {
            (Ok(0), _) => Received::End,
            (Ok(bytes), Target::Buffer) => Received::Buffer(bytes),
            (Ok(bytes), Target::Inbox) => {
                self.end += bytes;
                assert!(self.end <= INBOX_BYTES);
                Received::Inbox
            }
            (Err(_), _) if transient(done.result) => Received::Again,
            (Err(_), _) => Received::End,
        }
    }

    /// True if a header and a payload still fit the next send.
    pub fn has_room(&self, header_bytes: usize) -> bool {
        self.out_len + header_bytes <= OUTBOX_BYTES && self.areas + 2 <= AREAS_MAX
    }

    /// True if something was put and is not yet out.
    pub fn has_output(&self) -> bool {
        self.first_area < self.areas
    }

    /// Appends a copy of `bytes` to the next send.
    pub fn put(&mut self, bytes: &[u8]) {
        assert!(!self.sending && self.has_room(bytes.len()));
        let (at, areas) = (self.out_len, self.areas);
        let memory = self.memory_mut();
        let target = &mut memory.outbox[at..at + bytes.len()];
        target.copy_from_slice(bytes);
        let base: *mut u8 = target.as_mut_ptr();
        // Headers in a row are one area.
        if let Some(area) = memory.areas[..areas].last_mut()
            && area.iov_base.cast::<u8>().wrapping_add(area.iov_len) == base
        {
            area.iov_len += bytes.len();
        } else {
            memory.areas[areas] = libc::iovec { iov_base: base.cast(), iov_len: bytes.len() };
            self.areas += 1;
        }
        self.out_len += bytes.len();
    }

    /// Appends the first `bytes` bytes of `buf` to the next send. The caller holds a reference to it until
    /// that has ended.
    pub fn put_buf(&mut self, io: &Io, buf: Buf, bytes: usize) {
        assert!(!self.sending && self.areas < AREAS_MAX);
        let payload = io.pool.bytes(buf, bytes);
        let base = payload.as_ptr().cast_mut().cast();
        let index = self.areas;
        self.memory_mut().areas[index] = libc::iovec { iov_base: base, iov_len: payload.len() };
        self.areas += 1;
    }

    /// Sends what was put.
    pub fn send(&mut self, ring: &mut Ring, token: Token) {
        assert!(!self.sending && self.has_output());
        let (first, end) = (self.first_area, self.areas);
        let memory = self.memory_mut();
        let areas = &mut memory.areas[first..end];
        memory.message.msg_iov = areas.as_mut_ptr();
        memory.message.msg_iovlen = areas.len() as _;
        let fd = types::Fd(memory.fd.as_raw_fd());
        let entry = opcode::SendMsg::new(fd, &raw const *memory.message)
            .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32)
            .build();
        self.sending = true;
        // SAFETY: message, areas, headers and descriptor live as long as the send (`Drop`) and are not
        // changed while `sending`; payloads are in the pool, which outlives the ring, and the caller keeps
        // them.
        unsafe { ring.push(entry, token) };
    }

    /// To be called with the completion of a send.
    pub fn sent(&mut self, done: Completion) -> Sent {
        assert!(self.sending);
        self.sending = false;
        let Ok(mut bytes) = usize::try_from(done.result) else {
            return if transient(done.result) { Sent::Part } else { Sent::Failed };
        };
        let (first, end) = (self.first_area, self.areas);
        let mut out = first;
        for area in &mut self.memory_mut().areas[first..end] {
            if bytes < area.iov_len {
                area.iov_base = area.iov_base.cast::<u8>().wrapping_add(bytes).cast();
                area.iov_len -= bytes;
                break;
            }
            bytes -= area.iov_len;
            out += 1;
        }
        self.first_area = out;
        if self.has_output() {
            return Sent::Part;
        }
        (self.first_area, self.areas, self.out_len) = (0, 0, 0);
        Sent::All
    }

    /// Ends the stream both ways: operations in flight end soon.
    pub fn shut(&self) {
        // It fails if the client was first; that is as good.
        let _ = net::shutdown(self.memory().fd.as_fd(), Shutdown::Both);
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("there until dropped")
    }

    fn memory_mut(&mut self) -> &mut Memory {
        self.memory.as_mut().expect("there until dropped")
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.sending || self.receiving.is_some() {
            self.shut();
            std::mem::forget(self.memory.take());
        }
    }
}

fn transient(result: i32) -> bool {
    matches!(-result, libc::EINTR | libc::EAGAIN | libc::ENOBUFS)
}

#[cfg(test)]
mod tests {
    use super::super::ring::Owner;
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    const TOKEN: Token = Token::new(Owner::Probe, 0, 0);

    fn io() -> Io {
        Io::new(8, 2, 4096).expect("io_uring")
    }

    fn pair() -> (Conn, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Conn::new(ours.into()), theirs)
    }

    fn completion(io: &mut Io) -> Completion {
        loop {
            if let Some(done) = io.ring.next() {
                return done;
            }
            io.ring.wait(None).expect("the ring works");
        }
    }

    #[test]
    fn a_send_cut_anywhere_goes_on_where_it_was_cut() {
        let mut io = io();
        let buf = io.pool.take().expect("free");
        io.pool.bytes_mut(buf, 5).copy_from_slice(b"PAYLO");
        let whole = b"firstsecondPAYLOthird";
        for cut in 0..whole.len() {
            let (mut conn, mut theirs) = pair();
            conn.put(b"first");
            conn.put(b"second");
            conn.put_buf(&io, buf, 5);
            conn.put(b"third");
            conn.send(&mut io.ring, TOKEN);
            let mut done = completion(&mut io);
            assert_eq!(done.result as usize, whole.len());
            done.result = cut as i32;
            assert_eq!(conn.sent(done), Sent::Part);
            conn.send(&mut io.ring, TOKEN);
            let done = completion(&mut io);
            assert_eq!(conn.sent(done), Sent::All);
            assert!(!conn.has_output() && conn.has_room(OUTBOX_BYTES));
            drop(conn);
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).expect("reads");
            assert_eq!(got, [&whole[..], &whole[cut..]].concat());
        }
    }

    #[test]
    fn what_is_not_consumed_stays_in_front_of_what_follows() {
        let mut io = io();
        let (mut conn, mut theirs) = pair();
        for (said, unread) in [(&b"abcd"[..], &b"abcd"[..]), (b"efg", b"cdefg")] {
            theirs.write_all(said).expect("writes");
            conn.receive(&mut io.ring, TOKEN);
            let done = completion(&mut io);
            assert_eq!(conn.received(done), Received::Inbox);
            assert_eq!(conn.unread(), unread);
            conn.consume(2);
        }
        let buf = io.pool.take().expect("free");
        theirs.write_all(b"xyz").expect("writes");
        conn.receive_into(&mut io, TOKEN, buf, 1, 3);
        let done = completion(&mut io);
        assert_eq!(conn.received(done), Received::Buffer(3));
        assert_eq!(&io.pool.bytes(buf, 4)[1..], b"xyz");
        conn.receive(&mut io.ring, TOKEN);
        conn.shut();
        let done = completion(&mut io);
        assert_eq!(conn.received(done), Received::End);
    }

    #[test]
    fn dropped_in_the_middle_it_leaves_its_memory_to_the_kernel() {
        let mut io = io();
        let (mut conn, theirs) = pair();
        conn.receive(&mut io.ring, TOKEN);
        io.ring.wait(Some(std::time::Duration::ZERO)).expect("submits");
        drop(conn);
        // Its stream has ended, so the receive ends, too.
        assert_eq!(completion(&mut io).result, 0);
        drop(theirs);
    }
}
