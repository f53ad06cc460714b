//! The vocabulary between the core and the world: what can happen ([`Input`]) and what is to be done
//! ([`Action`]). Read this file first; everything else in `replica/` turns one into the other.
//!
//! Payload never passes through: a buffer is a number ([`Buf`]) whose bytes the driver owns. A driver keeps a
//! buffer untouched until every action that names it has ended *and* the request it came with is
//! completed or answered. The buffer of a client's read is not named at all, only the request: a disk that was given
//! up may still fill it, and then the driver gives the request another.

use crate::meta::superblock::GenerationId;
use crate::replica::generation::Full;
use crate::span::Span;
use crate::wire::digest::Digests;
use crate::wire::message::{Message, Refusal, Role, ZeroKind};

/// Time in microseconds from an arbitrary start; it never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// The time `ms` milliseconds later.
    pub fn plus_ms(self, ms: u64) -> Tick {
        Tick(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// Microseconds since `earlier`; 0 if that is not earlier.
    pub fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A buffer of the driver's pool, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buf(pub u32);

/// A request of the front, named by the driver; free for reuse after its [`Action::Complete`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct FrontId(pub u32);

/// A connection to the peer, named by the driver, each with a number of its own. A frame or an end of an older
/// connection is recognised by it and dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A disk operation, named by the core; never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// A durable step of metadata. All writes of step N are on stable media before any of step N + 1 begins.
/// Step 0 is what was there at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Default)]
pub struct MetaSeq(pub u64);

/// An operator's command, named by the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandId(pub u64);

/// A question whether the peer is fenced, named by the core; never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FenceId(pub u64);

/// What a client asks of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrontOp {
    /// Fill the buffer from the span.
    Read {
        /// Where.
        span: Span,
        /// The buffer to fill, for the driver to know.
        buf: Buf,
    },
    /// Write the buffer to the span.
    Write {
        /// Where.
        span: Span,
        /// The content.
        buf: Buf,
        /// Stable on both nodes before completion.
        fua: bool,
    },
    /// Make the span read as zeroes, on both nodes alike.
    Zero {
        /// Where.
        span: Span,
        /// What is meant.
        kind: ZeroKind,
        /// Stable on both nodes before completion.
        fua: bool,
    },
    /// Make all writes completed before stable on both nodes.
    Flush,
}

/// What an operator asks of the resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Become Primary. `force` accepts that newer data may exist at the peer.
    Promote {
        /// Go on without knowing.
        force: bool,
    },
    /// Become Secondary: requests in flight are finished first. The driver has made sure that nobody has
    /// the device open.
    Demote,
    /// Leave in good order: become Secondary, tell the peer, mark the metadata clean.
    Detach,
    /// Part from the peer in good order and stand alone until [`Command::Connect`].
    Disconnect,
    /// Look for the peer again.
    Connect {
        /// If the two went different ways, this node's way is void: it becomes the target. For the next time that
        /// they meet, and only then.
        discard_my_data: bool,
    },
    /// Declare a disk's data void: all of it is to be copied from the other node.
    Invalidate {
        /// The peer's disk, not this node's.
        peer: bool,
    },
    /// Compare both disks, beside the clients' writes. Answered when it has begun; see
    /// [`super::Replica::verified`].
    Verify,
    /// End the verify or the repair that runs, if one does.
    StopVerify,
    /// Copy what the last verify has found to differ from this node, the Primary, to the peer. Answered when it has
    /// begun; [`Command::StopVerify`] ends it.
    Repair,
    /// Make the volume as large as both disks allow. Answered when this node has it on record; the peer takes it over
    /// when the two meet again, at once.
    Resize,
}

/// Whether this node's data may be overwritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consent {
    /// It may: whoever was asked allows it, and what is discarded has been saved.
    Yes,
    /// An operator's command forbids it.
    No,
    /// What would be discarded could not be saved.
    Unsaved,
}

/// Data of this node that an order or a policy gives up: it went its own way, and is not merely old. Before it is
/// overwritten it is saved: the blocks that [`super::Replica::marks`] has, read as they are on disk. The nodes are
/// parted and this one is Secondary, so they stay what they are until the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discarded {
    /// The generation that is lost.
    pub own: GenerationId,
    /// The generation of the data that takes its place.
    pub source: GenerationId,
    /// What both once had in common, and the marks are relative to; `None` if nothing tells.
    pub base: Option<GenerationId>,
    /// Nothing tells which blocks differ: all of them are to be saved, whatever is marked.
    pub everything: bool,
}

/// The result of a disk operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskResult {
    /// All bytes done.
    Done,
    /// Done, and the bytes are all zero (only told for [`DiskOp::ReadResync`] and [`DiskOp::Probe`]).
    DoneZero,
    /// Failed, finally.
    Failed,
}

/// A fact from outside. Exactly one per [`super::Replica::handle`].
#[derive(Debug)]
pub enum Input<'a> {
    /// A client's request. Only while Primary.
    Request {
        /// Its name.
        id: FrontId,
        /// What is asked.
        op: FrontOp,
    },
    /// A disk operation has ended.
    DiskDone {
        /// Which.
        op: OpId,
        /// How.
        result: DiskResult,
    },
    /// A [`DiskOp::Digest`] has ended well; if not, it is a `DiskDone` that failed.
    Digests {
        /// Which.
        op: OpId,
        /// Of each block of its span.
        digests: &'a Digests,
    },
    /// A metadata write has ended: it is on stable media, or failed.
    MetaDone {
        /// Which.
        op: OpId,
        /// False if it failed.
        ok: bool,
    },
    /// A stream to the peer's address exists. Both ends get this.
    Connected {
        /// Its name; higher than every earlier one.
        conn: ConnId,
    },
    /// A message arrived, checked by the codec. Bytes of bitmap pages come as `payload`; data comes in `buf`.
    Received {
        /// On which connection.
        conn: ConnId,
        /// What.
        message: Message,
        /// The buffer with the payload of `Write` and `ResyncData`. For a `ReadReply` the payload is in the
        /// buffer of the request that the `Read` named, and this is `None`.
        buf: Option<Buf>,
        /// Bits of a `BitmapPage`, else empty.
        payload: &'a [u8],
    },
    /// The stream ended, for whatever reason.
    Disconnected {
        /// Which.
        conn: ConnId,
    },
    /// An operator's command.
    Command {
        /// Its name.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// The answer to [`Action::AskConsent`].
    Consent {
        /// What may become of this node's data.
        answer: Consent,
    },
    /// The answer to [`Action::Fence`].
    Fenced {
        /// To which question.
        id: FenceId,
        /// The peer is certain not to go on: it is down, cut off from its disk, or knows that its data is old.
        confirmed: bool,
    },
    /// The device is being taken away: requests that no disk can answer now are refused instead of held, since the
    /// device waits for them.
    DeviceStops,
    /// The time that [`super::Replica::next_timeout`] named has come.
    Timeout,
}

/// What a disk operation does. Spans are relative to the data area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskOp {
    /// Read into the buffer of a client's request.
    Read {
        /// Where.
        span: Span,
        /// Whose.
        id: FrontId,
    },
    /// As `Read`, and tell whether all bytes are zero. The driver provides the buffer: it takes a free one and
    /// remembers it under the operation; [`Action::Send`] of `ResyncData` names the operation.
    ReadResync {
        /// Where.
        span: Span,
    },
    /// Tell whether all of the span is a hole, without reading it: [`DiskResult::DoneZero`] if so. The span is longer
    /// than a buffer. Asked only of a disk that tells holes, see [`super::Start::holes`].
    Probe {
        /// Where.
        span: Span,
    },
    /// Read whole blocks and tell the digest of each, in [`Input::Digests`]. The buffer for it is the driver's own
    /// affair.
    Digest {
        /// Where.
        span: Span,
    },
    /// Read for the peer. The driver provides the buffer as for `ReadResync`.
    ReadPeer {
        /// Where.
        span: Span,
    },
    /// Write the buffer.
    Write {
        /// Where.
        span: Span,
        /// The content.
        buf: Buf,
        /// On stable media before it ends.
        fua: bool,
    },
    /// Make the span read as zeroes.
    Zero {
        /// Where.
        span: Span,
        /// What is meant.
        kind: ZeroKind,
        /// On stable media before it ends.
        fua: bool,
    },
    /// Put all writes that ended before on stable media.
    Flush,
}

/// Which metadata block to write. Its bytes are asked for with [`super::Replica::encode_meta`] at once,
/// before the next input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetaBlock {
    /// A copy of the superblock, 0 or 1.
    Superblock {
        /// Which.
        copy: u8,
    },
    /// The next activity-log transaction.
    ActivityLog {
        /// Place in the ring.
        slot: u32,
    },
    /// A page of the dirty bitmap.
    BitmapPage {
        /// Its number.
        page: u32,
    },
}

/// The payload that follows a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// None.
    None,
    /// The content of a buffer.
    Buf(Buf),
    /// No bytes follow; the payload of the answer (`ReadReply` with the same id) goes into the buffer of this client's
    /// request. The driver sees to it that nothing else does: the disk may hang, and still read into the one it had.
    Into(FrontId),
    /// The content of the buffer that a `ReadResync` or `ReadPeer` filled. The driver frees it once sent.
    Op(OpId),
    /// The digests that [`Input::Digests`] has just told, asked for with [`super::Replica::encode_digests`] at once.
    Digests,
    /// The bits of a bitmap page, asked for with [`super::Replica::encode_bits`] at once.
    Bits {
        /// Its number.
        page: u32,
    },
}

/// How a client's request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrontResult {
    /// Done as promised.
    Done,
    /// Failed: the data could not be read or written on any disk.
    IoError,
    /// Refused: outside the volume, or the node is not Primary.
    Invalid,
}

/// Something the operator wants to know: for the log and the event stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The role changed.
    Role(Role),
    /// A state that status shows has changed (connection, disk, replication).
    State,
    /// The peer's protocol error: the connection was closed.
    PeerBroken(&'static str),
    /// The handshake was refused, by whom and why.
    Refused {
        /// True if the peer refused us.
        by_peer: bool,
        /// The reason.
        reason: Refusal,
    },
    /// The peer is gone and this node goes on alone, under this new generation.
    Alone(GenerationId),
    /// The peer did not answer in time.
    PeerTimeout {
        /// Nothing of it was heard; otherwise it was heard, and one request, or its greeting, was not answered.
        silent: bool,
    },
    /// The local disk is given up.
    DiskFailed(&'static str),
    /// A resync began.
    ResyncStarted {
        /// True at the source.
        source: bool,
        /// Blocks to copy.
        blocks: u64,
        /// Why these are all.
        full: Option<Full>,
    },
    /// A resync ended; both disks are equal.
    ResyncDone,
    /// A verify began.
    VerifyBegins,
    /// It is over: see [`super::Replica::verified`].
    VerifyEnds,
    /// What a verify has found is being copied to the peer.
    RepairBegins,
    /// That is over: see [`super::Replica::verified`].
    RepairEnds,
    /// By a policy this Primary's data loses against the peer's: whoever can, demote it.
    MustStepDown,
}

/// Why a command failed: what stands in the way. Rendered with the remedy by the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// Our disk and the peer's are not usable as newest data, and `force` was not given.
    NotUpToDate(crate::wire::message::DiskState),
    /// The peer is Primary.
    PeerIsPrimary,
    /// The peer may be Primary on this node's data still, and not know yet that it lost this node: in a few seconds it
    /// must.
    PeerMayServe,
    /// There is no disk to become Primary with.
    NoDisk,
    /// Another such command is being carried out.
    Busy,
    /// The peer was lost while it was asked.
    PeerLost,
    /// The local disk failed meanwhile.
    DiskFailed,
    /// The node is leaving.
    Detaching,
    /// This node is Primary: its clients work on the data that would go.
    IsPrimary,
    /// Clients of this node work on the peer's data.
    NeedsPeer,
    /// Clients of the peer work on this node's data.
    PeerNeedsUs,
    /// The nodes are connected: whose data counts is decided.
    Connected,
    /// There is no connection, and no record that the peer is behind.
    NotConnected,
    /// A resync runs.
    Resyncing,
    /// The peer has no disk with the newest data.
    PeerNotUpToDate,
    /// By this node's record the peer is behind: this disk has the newest data.
    NewestData,
    /// Nobody confirmed that the peer is fenced.
    NotFenced,
    /// The peer came back while it was being fenced.
    PeerReturned,
    /// The peer is not connected.
    PeerAway,
    /// The peer's version cannot do this.
    PeerTooOld,
    /// A verify runs.
    Verifying,
    /// Neither node is Primary: which data is right is said by making one so.
    NotPrimary,
    /// No verify has found a difference that was not repaired.
    NothingToRepair,
    /// The volume fills this node's disk.
    NoRoom,
    /// It fills the peer's.
    PeerHasNoRoom,
}

/// A wish of the core. Carried out in the order given, where order matters: sends keep it, and disk operations
/// may overtake each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Start a disk operation. It follows `after`, which is durable already: a driver asserts it.
    Disk {
        /// Its name.
        op: OpId,
        /// What.
        what: DiskOp,
        /// The step of metadata that covers it.
        after: MetaSeq,
    },
    /// Write a metadata block with FUA. Several may be in flight at once.
    Meta {
        /// Its name.
        op: OpId,
        /// Which block.
        block: MetaBlock,
    },
    /// Send on a connection, in order. It follows `after`, which is durable already.
    Send {
        /// On which.
        conn: ConnId,
        /// What.
        message: Message,
        /// What follows the header.
        payload: Payload,
        /// The step of metadata that it announces or relies on.
        after: MetaSeq,
    },
    /// Close a connection once what was sent before is out, or at once if `drain` is false. An
    /// [`Input::Disconnected`] for it is welcome but not needed.
    Close {
        /// Which.
        conn: ConnId,
        /// Let earlier sends out first.
        drain: bool,
    },
    /// Answer a client. It follows `after`, which is durable already.
    Complete {
        /// Which request.
        id: FrontId,
        /// How.
        result: FrontResult,
        /// The step of metadata that makes the answer true.
        after: MetaSeq,
    },
    /// The payload of a received message is no longer needed: its buffer is free once no operation uses it.
    Release {
        /// Which.
        buf: Buf,
    },
    /// The buffer that a `ReadResync` or `ReadPeer` took is no longer needed. Each of these operations is followed
    /// by exactly one of this and a `Send` of its buffer; for other operations it means nothing.
    ReleaseOp {
        /// Which operation.
        op: OpId,
    },
    /// Ask whether a resync may overwrite this node's data. One question at a time; an [`Input::Consent`] must follow,
    /// however late: until then this node does not look for its peer.
    AskConsent {
        /// To be saved before the answer; only with [`super::Settings::salvage`].
        discarded: Option<Discarded>,
    },
    /// Answer an operator.
    Reply {
        /// Which command.
        id: CommandId,
        /// Done, or why not.
        result: Result<(), CommandError>,
    },
    /// Make sure that the peer does not go on, and say so with [`Input::Fenced`]: once, within a bounded time. Only
    /// with [`super::authority::OnPeerLost::Fence`].
    Fence {
        /// Its name.
        id: FenceId,
        /// The link has this long to come back, in milliseconds; after a refusal it is asked again then. Whoever
        /// would have to harm the peer may wait for that.
        link_has_ms: u64,
    },
    /// Tell the operator.
    Notify(Notice),
}
