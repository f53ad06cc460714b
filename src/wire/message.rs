//! Every message between two nodes.
//!
//! ```text
//!   A                                     B
//!   | Hello ───────────────────────────►  |   who I am, sizes, features, credits
//!   |  ◄─────────────────────────── Hello |
//!   | State ──────────────────────────►   |   generations, disk, role: the verdict is computed from
//!   |  ◄─────────────────────────── State |   these two alone, and both nodes reach the same
//!   | BitmapPage… BitmapEnd ──────────►   |   only if the verdict is a resync from the bitmaps
//!   |  ◄────────── BitmapPage… BitmapEnd  |
//!   | Ready ──────────────────────────►   |   what I had to make durable first, is
//!   |  ◄─────────────────────────── Ready |
//!   | Write, Flush, Read, Resync… ─────►  |   established: each request gets exactly one answer,
//!   |  ◄── WriteAck, FlushAck, ReadReply… |   and answers may overtake each other
//! ```

use crate::meta::superblock::{GenerationId, History, NodeId, VolumeId};
use crate::span::Span;
use crate::wire::digest;
use crate::wire::policy::Policies;

/// A role of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Serves the device and writes.
    Primary,
    /// Receives the writes of the Primary.
    Secondary,
}

/// The state of a disk, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DiskState {
    /// There is no disk: it failed and was given up.
    Diskless,
    /// The disk failed; its last requests are still being waited for.
    Failed,
    /// Not one point in time: fresh, or the target of a resync.
    Inconsistent,
    /// One point in time, and known to be old.
    Outdated,
    /// One point in time; whether the newest is not known until the peer is asked.
    Consistent,
    /// The newest data there is.
    UpToDate,
}

/// First message either way: identity and what the sender can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Oldest protocol version the sender speaks.
    pub protocol_min: u16,
    /// Newest protocol version the sender speaks.
    pub protocol_max: u16,
    /// The volume.
    pub volume: VolumeId,
    /// The sender.
    pub node: NodeId,
    /// Sectors of the sender's data area.
    pub usable_sectors: u64,
    /// Size agreed on earlier, in sectors; 0 if none was.
    pub agreed_sectors: u64,
    /// Logical block of the sender's disk in bytes: 512 or 4096.
    pub block_bytes: u32,
    /// Largest payload the sender takes in one frame, in bytes.
    pub payload_bytes_max: u32,
    /// Frames with payload that the sender takes without having answered.
    pub data_credits: u16,
    /// Reads that the sender takes without having answered.
    pub read_credits: u16,
    /// Writes without payload that the sender takes without having answered.
    pub zero_credits: u16,
    /// True if the sender's disk discards: both must, for the device to offer it.
    pub discard: bool,
    /// A digest of the sender's configuration, which should be the receiver's; 0 if its version of the protocol, before
    /// [`crate::wire::PROTOCOL_3`], does not say.
    pub config: u64,
}

/// Second message either way: what the verdict is computed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// The generation of the sender's data.
    pub current: Option<GenerationId>,
    /// The generation its bitmap is relative to.
    pub base: Option<GenerationId>,
    /// Earlier generations.
    pub history: History,
    /// The sender's disk.
    pub disk: DiskState,
    /// The sender's role.
    pub role: Role,
    /// Blocks out of sync by the sender's bitmap.
    pub dirty_blocks: u64,
    /// The sender crashed as Primary: its activity log has been turned into bits.
    pub crashed: bool,
    /// The sender was connected to the receiver in this life of its daemon, and has not restarted since: it has every
    /// write that was ever completed. Not if the receiver had no disk then, and may have had more.
    pub survivor: bool,
    /// The sender is a survivor, or was one when its daemon ended, and its host has not lost its power since: its disk
    /// has every write that was ever completed, flushed or not. Only said to a peer that speaks
    /// [`crate::wire::PROTOCOL_2`], or both would not come to the same verdict.
    pub kept: bool,
    /// The sender knows the receiver's data to be outdated.
    pub peer_outdated: bool,
    /// The sender's operator declares its changes void, should the two have gone different ways.
    pub discard_my_data: bool,
    /// The sender was Primary when its data went its own way from the base.
    pub parted_primary: bool,
    /// What the sender's operator has ordered for the case of a split brain: the receiver must have the same.
    pub policies: Policies,
    /// The watermark of the sender's disk; it is durable there.
    pub mark: u64,
    /// The highest watermark of the receiver's disk that the sender was told of.
    pub peer_mark: u64,
}

/// Why a node refuses to go on with a connection. Each is explained to the operator on both nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No protocol version in common.
    Protocol,
    /// The other node serves another volume.
    Volume,
    /// The other node is not the one in our configuration.
    Node,
    /// The other disk is too small for the size in use.
    Size,
    /// Limits or block sizes that cannot work together.
    Limits,
    /// Both were Primary: their data went different ways. Neither is touched.
    SplitBrain,
    /// The two disks share no generation.
    Unrelated,
    /// The resync would overwrite a Primary.
    PrimaryWouldBeTarget,
    /// Both are Primary, which this resource does not allow.
    TwoPrimaries,
    /// The only side with data is outdated; an operator must accept that loss.
    SourceOutdated,
    /// A resync is due but neither side has consistent data.
    NoSource,
    /// Each side's operator declared its own changes void: nobody is left to copy from.
    BothDiscard,
    /// A disk was restored from an older image, and the other cannot simply be copied over it.
    RolledBack,
    /// The Primary's disk failed, and the peer may have lost what it had accepted and not yet put on stable media.
    DataLost,
    /// The two configurations have different policies for a split brain.
    Policies,
    /// By a policy a Primary's data loses: it must step down, then the nodes meet again.
    PrimaryMustStepDown,
    /// The only side with data cannot tell whether the other, that has none now, had newer.
    SourceUnsure,
}

/// How a write without payload is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ZeroKind {
    /// The client no longer needs the content; it must read the same on both nodes afterwards: zeroes.
    Discard,
    /// The content must read as zeroes; space may be given back.
    Zeroes,
    /// The content must read as zeroes and stay allocated.
    ZeroesAllocated,
}

/// The outcome of a request at the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done.
    Done,
    /// The disk refused it; a [`Message::Disk`] follows if the disk is given up.
    Failed,
    /// Resync and verify only: the span is being written by the receiver's own client; ask again later.
    Skipped,
}

/// A message. Those with a payload say so; its length is given by the span or is fixed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Who I am.
    Hello(Hello),
    /// What my data is.
    State(State),
    /// I do not go on, and why. The connection ends.
    Refuse(Refusal),
    /// Bits of page `page` of my bitmap. Payload: [`crate::limits::PAGE_BIT_BYTES`] bytes. Pages without a bit
    /// are not sent.
    BitmapPage {
        /// Number of the page.
        page: u32,
    },
    /// All bits of page `page` are set.
    BitmapFull {
        /// Number of the page.
        page: u32,
    },
    /// One bitmap page has been taken in: one more may be sent.
    BitmapAck,
    /// No more pages.
    BitmapEnd,
    /// What I had to make durable for this connection is durable.
    Ready,
    /// Write the payload. Payload: the span's bytes.
    Write {
        /// Names the request in its [`Message::WriteAck`].
        id: u64,
        /// Where.
        span: Span,
        /// It must be on stable media before it is answered.
        fua: bool,
    },
    /// Write zeroes or discard.
    WriteZero {
        /// Names the request in its [`Message::WriteAck`].
        id: u64,
        /// Where.
        span: Span,
        /// What is meant.
        kind: ZeroKind,
        /// It must be on stable media before it is answered.
        fua: bool,
    },
    /// Answer to `Write` and `WriteZero`.
    WriteAck {
        /// The request.
        id: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// Put on stable media all that was answered so far.
    Flush {
        /// Names the request.
        id: u64,
        /// And raise the watermark after it.
        mark: bool,
    },
    /// Answer to `Flush`.
    FlushAck {
        /// The request.
        id: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// Read for me.
    Read {
        /// Names the request.
        id: u64,
        /// Where.
        span: Span,
    },
    /// Answer to `Read`. Payload: the span's bytes if done, else none.
    ReadReply {
        /// The request.
        id: u64,
        /// The span asked for.
        span: Span,
        /// What came of it.
        outcome: Outcome,
    },
    /// Verify: what are the digests of these blocks, none of which is being written at the sender? Only to a peer
    /// that speaks [`crate::wire::PROTOCOL_2`].
    DigestAsk {
        /// Names the request.
        id: u64,
        /// Where: whole blocks.
        span: Span,
    },
    /// Answer to `DigestAsk`. Payload: the digests if done ([`crate::wire::digest`]), else none.
    DigestReply {
        /// The request.
        id: u64,
        /// The span asked for.
        span: Span,
        /// What came of it.
        outcome: Outcome,
    },
    /// Resync: the source's content of a span. Payload: the span's bytes.
    ResyncData {
        /// Names the job.
        id: u64,
        /// Where.
        span: Span,
    },
    /// Resync: the span is all zeroes at the source.
    ResyncZero {
        /// Names the job.
        id: u64,
        /// Where.
        span: Span,
    },
    /// Answer to `ResyncData` and `ResyncZero`.
    ResyncAck {
        /// The job.
        id: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// Resync: all is sent. Become UpToDate in this generation, durably, then answer.
    ResyncEnd {
        /// The source's generation.
        current: GenerationId,
        /// The source's history.
        history: History,
    },
    /// Answer to `ResyncEnd`: the target is UpToDate, and that is durable.
    ResyncEndAck,
    /// May I become Primary?
    PromoteAsk,
    /// Answer to `PromoteAsk`.
    PromoteAnswer {
        /// True if the peer agrees.
        granted: bool,
    },
    /// My role has changed.
    RoleIs {
        /// The new one.
        role: Role,
    },
    /// My disk has failed: record durably that its data is now older than yours, then answer.
    DiskFailed,
    /// Answer to `DiskFailed`: recorded under this generation.
    DiskFailedAck {
        /// The receiver's new generation.
        current: GenerationId,
    },
    /// I leave in good order.
    Bye {
        /// I have recorded durably that my data is outdated: you may go on alone.
        outdated: bool,
    },
    /// My watermark was raised, durably.
    Mark {
        /// To this.
        mark: u64,
        /// Raise yours, too.
        more: bool,
    },
    /// Are you there?
    Ping,
    /// I am.
    Pong,
}

impl Message {
    /// Bytes of payload that follow this message's header on the stream.
    pub fn payload_bytes(&self) -> u64 {
        match self {
            Message::Write { span, .. } | Message::ResyncData { span, .. } => span.bytes(),
            Message::ReadReply { span, outcome: Outcome::Done, .. } => span.bytes(),
            Message::DigestReply { span, outcome: Outcome::Done, .. } => digest::bytes_for(*span),
            Message::BitmapPage { .. } => crate::limits::PAGE_BIT_BYTES as u64,
            _ => 0,
        }
    }
}
