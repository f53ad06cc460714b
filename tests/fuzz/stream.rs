//! Streams: what comes out depends on the bytes alone, not on how they were cut, and every buffer comes back.

use super::input::Input;
use rblk::io::buffer::Pool;
use rblk::io::peer::LinkEvent;
use rblk::io::peer::assembly::{Assembly, Next};
use rblk::limits::IO_BYTES_MAX;
use rblk::wire::message::Message;
use std::cell::RefCell;

const BUFFERS: usize = 4;
/// Reads that a node of ours has sent: what answers others is not believed.
const READS: [u64; 2] = [7, 8];

thread_local! {
    /// Made once: a mapping for each input would take most of the time.
    static POOL: RefCell<Pool> =
        RefCell::new(Pool::new(BUFFERS, IO_BYTES_MAX).expect("memory for four buffers"));
}

/// The message, a checksum of its payload, and whether that came in a buffer.
type Seen = (Message, u32, bool);

/// 8 bytes decide how the rest is cut.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let seed = input.long();
    let stream = input.rest();
    POOL.with_borrow_mut(|pool| {
        let whole = receive(pool, stream, |left| left);
        let mut cuts = Cuts(seed | 1);
        let cut = receive(pool, stream, |left| cuts.next(left));
        assert_eq!(whole, cut, "cut at other places, the stream says something else");
        let bytewise = seed.is_multiple_of(16) && stream.len() < 4096;
        if bytewise {
            assert_eq!(whole, receive(pool, stream, |_| 1), "byte by byte it says something else");
        }
    });
}

struct Cuts(u64);

impl Cuts {
    fn next(&mut self, left: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let most = [3, 70, 700, 70_000][(self.0 >> 40) as usize % 4].min(left);
        1 + (self.0 >> 8) as usize % most
    }
}

/// All messages of a stream, and why it ended: an error, or nothing more.
fn receive(
    pool: &mut Pool,
    mut stream: &[u8],
    mut cut: impl FnMut(usize) -> usize,
) -> (Vec<Seen>, Option<String>) {
    assert_eq!(pool.free(), BUFFERS);
    let mut assembly = Assembly::new();
    for id in READS {
        let buf = pool.take().expect("all are free");
        assembly.expect(pool, id, buf);
        pool.release(buf);
    }
    let mut seen = Vec::new();
    let mut why = None;
    loop {
        match assembly.next(pool) {
            Ok(Next::Frame(event)) => seen.push(look(pool, event)),
            Ok(Next::NeedBytes) if stream.is_empty() => break,
            Ok(Next::NeedBytes) => {
                let bytes = cut(stream.len()).min(stream.len());
                stream = &stream[put(pool, &mut assembly, &stream[..bytes])..];
            }
            Ok(Next::NoBuffer) => panic!("every buffer was given back"),
            Err(error) => {
                assert!(!error.is_empty());
                why = Some(error);
                break;
            }
        }
    }
    assembly.discard(pool);
    assert_eq!(pool.free(), BUFFERS, "a buffer is lost");
    (seen, why)
}

/// As the kernel would: as much as there is room for. Returns how much that was.
fn put(pool: &mut Pool, assembly: &mut Assembly, bytes: &[u8]) -> usize {
    let room = assembly.room();
    let mut done = 0;
    if let Some((buf, got, missing)) = room.payload {
        done = missing.min(bytes.len());
        pool.bytes_mut(buf, got + done)[got..].copy_from_slice(&bytes[..done]);
    }
    let rest = (bytes.len() - done).min(room.rest.len());
    room.rest[..rest].copy_from_slice(&bytes[done..done + rest]);
    assembly.received(done + rest);
    done + rest
}

fn look(pool: &mut Pool, event: LinkEvent) -> Seen {
    let LinkEvent::Received { message, buf, payload } = event else {
        panic!("an assembly does not close");
    };
    let checksum = match buf {
        Some(buf) => {
            let bytes = message.payload_bytes() as usize;
            let checksum = crc32c::crc32c(pool.bytes(buf, bytes));
            pool.release(buf);
            checksum
        }
        None => crc32c::crc32c(&payload),
    };
    (message, checksum, buf.is_some())
}
