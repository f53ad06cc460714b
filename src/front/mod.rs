//! Block devices for clients: everything above this room is the same code for all of them.
//!
//! A front turns what its clients ask into [`FrontRequest`]s and answers them when the core has completed them.
//! It takes the buffer of each request from the pool, and hands it over with the request: the caller releases the
//! request's reference after [`Front::complete`] has returned, so a front that still needs the bytes (to send a
//! read's data) holds a reference of its own until it is done.

pub mod nbd;
pub mod ublk;

use crate::io::Io;
use crate::io::ring::Completion;
use crate::replica::event::{Buf, FrontId, FrontOp, FrontResult};
use std::collections::VecDeque;

/// A client's request on its way to the core. Ids are below [`crate::limits::FRONT_REQUESTS_MAX`] and free again
/// after [`Front::complete`].
#[derive(Clone, Copy, Debug)]
pub struct FrontRequest {
    /// Names it until it is completed.
    pub id: FrontId,
    /// What is asked. Spans lie within the volume and payloads within [`crate::limits::IO_BYTES_MAX`]: a front
    /// splits larger requests and refuses those outside.
    pub op: FrontOp,
}

/// What a device looks like to its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Sectors of the volume.
    pub sectors: u64,
    /// Logical block in bytes, 512 or 4096: the larger of both nodes.
    pub block_bytes: u32,
    /// Offer discard: both nodes can.
    pub discard: bool,
}

/// What the daemon is to know of a device that takes the system time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// Clients can use it.
    Ready,
    /// It was not stopped: somebody has it open.
    InUse,
    /// Stopping it takes long, and why.
    Slow(String),
    /// Clients see that it has grown.
    Grown,
    /// It goes on as small as it was, and why.
    NotGrown(String),
    /// It goes on with one request less at a time, and why: a fault of ours or the driver's.
    Fault(String),
    /// It is taken away.
    Gone,
    /// It could not be made or taken over, and why. One that was to be taken over is left as it was.
    Failed(String),
}

/// Who has a device open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Openers {
    /// These, in words for a message: empty if nobody.
    Known(Vec<String>),
    /// Whoever has opened `/dev/ublkbN`: [`ublk::Lookout`] finds out.
    OfDevice(u32),
}

/// A block device as clients see it. It exists from its construction to the end of [`Front::stop`], which is the
/// time this node is Primary.
pub trait Front {
    /// Takes a completion whose token belongs to this front; puts new requests into `out`.
    fn on_completion(&mut self, io: &mut Io, done: Completion, out: &mut VecDeque<FrontRequest>);

    /// The data of read `id`, which the core has, will be in `to`, not in the buffer that came with it: a disk that
    /// hangs may fill that one yet. The front holds a reference of its own to `to` from now on, and no more to the
    /// other; it is never called after the data is there.
    fn move_read(&mut self, io: &mut Io, id: FrontId, to: Buf);

    /// Answers the client of request `id`.
    fn complete(&mut self, io: &mut Io, id: FrontId, result: FrontResult);

    /// Who has the device open. Takes no time.
    fn openers(&self) -> Openers;

    /// Where clients find it, for status: a device path or an NBD URI.
    fn address(&self) -> String;

    /// The volume has so many sectors now, no less than before. Clients see that as soon as this kind of device, and
    /// the system, allow.
    fn grow(&mut self, sectors: u64);

    /// Stops taking requests and starts taking the device away. Requests that are with the core are still
    /// completed.
    fn stop(&mut self, io: &mut Io);

    /// True when nothing of it is left on the ring.
    fn stopped(&self) -> bool;

    /// What has happened since the last call, oldest first.
    fn take_news(&mut self) -> Option<News> {
        None
    }

    /// The kernel's number of the device, if it has one.
    fn minor(&self) -> Option<u32> {
        None
    }

    /// Leaves the device to the next daemon, with its clients waiting. The process is to end at once. False if it
    /// cannot be left: no client has seen it yet, it is being taken away, or no device of this kind can.
    fn leave_to_successor(&mut self) -> bool {
        false
    }
}
