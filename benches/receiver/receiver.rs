//! The receiver of the peer's writes on rblk's reactor, and the same on tokio-uring.
//!
//! ```text
//!   sender ══ TCP ══► receive ──► assembly, codec, checksum ──► acks ══ TCP ══► nobody
//!                     └ the reactor's, or tokio-uring's ┘
//! ```
//!
//! What is told is the processor time of the receiving thread for each write. Both use one receive and one send at a
//! time, answer all that a receive has brought with one send, and take frames apart with the same code. Two things
//! differ: who drives the ring, and that tokio-uring must own what it receives into, so that a payload is copied from
//! there to its buffer, which the reactor lets the kernel fill if it is large.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rblk::io::Io;
use rblk::io::buffer::Pool;
use rblk::io::peer::assembly::{Assembly, Next};
use rblk::io::peer::{Body, Link, LinkEvent};
use rblk::limits::{IO_BYTES_MAX, RECEIVE_BYTES};
use rblk::replica::event::Buf;
use rblk::span::Span;
use rblk::wire::frame::{FRAME_BYTES_MAX, encode};
use rblk::wire::message::{Message, Outcome};
use rustix::time::{ClockId, clock_gettime};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use tokio_uring::buf::BoundedBuf;

/// Frames that the sender has ready, in bytes.
const READY_BYTES: usize = 1 << 20;
const BUFFERS: usize = 64;

/// A connection over which writes of `bytes` bytes come as fast as they are taken.
fn peer(bytes: usize) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let mut sender = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (receiver, _) = listener.accept().expect("accepts");
    for stream in [&sender, &receiver] {
        stream.set_nodelay(true).expect("sets");
    }
    let mut acks = sender.try_clone().expect("a second descriptor");
    std::thread::spawn(move || std::io::copy(&mut acks, &mut std::io::sink()));
    let frames = frame(bytes).repeat((READY_BYTES / bytes).max(1));
    // It ends with the connection.
    std::thread::spawn(move || while sender.write_all(&frames).is_ok() {});
    receiver
}

fn frame(bytes: usize) -> Vec<u8> {
    let span = Span::new(0, (bytes / 512) as u32).expect("valid");
    let payload = vec![0x5a; bytes];
    let mut head = [0; FRAME_BYTES_MAX];
    let write = Message::Write { id: 5, span, fua: false };
    let length = encode(&write, crc32c::crc32c(&payload), &mut head);
    [&head[..length], &payload].concat()
}

fn ack(event: LinkEvent) -> (Message, Buf) {
    match event {
        LinkEvent::Received { message: Message::Write { id, .. }, buf: Some(buf), .. } => {
            (Message::WriteAck { id, outcome: Outcome::Done }, buf)
        }
        other => panic!("{other:?}"),
    }
}

/// What this thread has used of a processor.
fn used() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn on_the_reactor(count: u64, bytes: usize) -> Duration {
    let mut io = Io::new(64, BUFFERS, IO_BYTES_MAX).expect("io_uring");
    let mut link = Link::new(peer(bytes).into(), 0);
    let (begun, mut got) = (used(), 0);
    while got < count {
        while let Some(event) = link.poll(&mut io) {
            let (answer, buf) = ack(event);
            io.pool.release(buf);
            link.send(&mut io, &answer, Body::None);
            got += 1;
        }
        link.flush(&mut io);
        io.ring.wait(Some(Duration::from_secs(10))).expect("usable");
        while let Some(done) = io.ring.next() {
            link.on_completion(&mut io, done);
        }
    }
    let spent = used() - begun;
    link.close(&mut io, false);
    while !link.closed() {
        let _left_over = link.poll(&mut io);
        io.ring.wait(Some(Duration::from_millis(1))).expect("usable");
        while let Some(done) = io.ring.next() {
            link.on_completion(&mut io, done);
        }
    }
    spent
}

fn on_tokio_uring(count: u64, bytes: usize) -> Duration {
    let mut pool = Pool::new(BUFFERS, IO_BYTES_MAX).expect("memory");
    let mut assembly = Assembly::new();
    tokio_uring::start(async move {
        let stream = Rc::new(tokio_uring::net::TcpStream::from_std(peer(bytes)));
        let (mut inbox, mut acks) = (vec![0; RECEIVE_BYTES], Vec::with_capacity(1 << 16));
        let mut sending = None;
        let (begun, mut got) = (used(), 0);
        while got < count {
            let room = assembly.room().rest.len();
            let (result, slice) = stream.read(inbox.slice(..room)).await;
            inbox = slice.into_inner();
            assembly.put(&mut pool, &inbox[..result.expect("received")]);
            loop {
                match assembly.next(&mut pool).expect("frames") {
                    Next::Frame(event) => {
                        let (answer, buf) = ack(event);
                        pool.release(buf);
                        let mut head = [0; FRAME_BYTES_MAX];
                        let length = encode(&answer, 0, &mut head);
                        acks.extend_from_slice(&head[..length]);
                        got += 1;
                    }
                    Next::NeedBytes => break,
                    Next::NoBuffer => unreachable!("all are free"),
                }
            }
            if acks.is_empty() {
                continue;
            }
            let next = match sending.take() {
                Some(before) => take_back(before).await,
                None => Vec::with_capacity(1 << 16),
            };
            let (batch, stream) = (std::mem::replace(&mut acks, next), Rc::clone(&stream));
            sending = Some(tokio_uring::spawn(async move { stream.write_all(batch).await }));
        }
        used() - begun
    })
}

/// The buffer of a send that has ended.
async fn take_back<E: std::fmt::Debug>(
    sent: impl Future<Output = Result<(std::io::Result<()>, Vec<u8>), E>>,
) -> Vec<u8> {
    let (result, mut bytes) = sent.await.expect("it ran");
    result.expect("sent");
    bytes.clear();
    bytes
}

fn receivers(criterion: &mut Criterion) {
    for bytes in [4096, 16 << 10, IO_BYTES_MAX] {
        let mut group = criterion.benchmark_group(format!("receive writes of {bytes} bytes"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("reactor", |bencher| {
            bencher.iter_custom(|count| on_the_reactor(count, bytes));
        });
        group.bench_function("tokio-uring", |bencher| {
            bencher.iter_custom(|count| on_tokio_uring(count, bytes));
        });
        group.finish();
    }
}

criterion_group!(benches, receivers);
criterion_main!(benches);
