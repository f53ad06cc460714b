//! A node and its driver, whose side of the contract is kept and the core's side of it asserted. The peer is
//! whoever calls [`Node::receive`].

use rblk::limits::{
    AL_RING_BLOCKS, BLOCK_BYTES, BUFFERS_MAX, DISK_OPERATIONS_MAX, EXTENT_BLOCKS,
    FRONT_REQUESTS_MAX, META_BLOCK_BYTES, META_BUFFERS_MAX, PAGE_BIT_BYTES, PAGE_BLOCKS,
    REQUESTS_MAX, SEND_FRAMES_MAX,
};
use rblk::meta::block::Owner;
use rblk::meta::layout::Layout;
use rblk::meta::records::{AlTransaction, decode_page};
use rblk::meta::recovery;
use rblk::meta::superblock::{NodeId, Superblock, VolumeId};
use rblk::replica::authority::OnPeerLost;
use rblk::replica::event::{
    Action, Buf, Command, CommandError, CommandId, ConnId, DiskOp, DiskResult, FrontId, FrontOp,
    Input, MetaBlock, Notice, OpId, Payload, Tick,
};
use rblk::replica::{Connection, Replica, Settings, Snapshot, Start};
use rblk::span::Span;
use rblk::wire::digest::Digests;
use rblk::wire::frame::{FRAME_BYTES_MAX, HEADER_BYTES, Header, encode};
use rblk::wire::message::{DiskState, Message, Outcome, Role};
use rblk::wire::policy::Policies;
use std::collections::BTreeMap;

/// Three pages of the bitmap, the last one ragged.
pub(crate) const BLOCKS: u64 = 2 * PAGE_BLOCKS + EXTENT_BLOCKS + 40;
/// Few, so that extents are evicted all the time.
const AL_SLOTS: usize = 12;
/// Wishes that one fact may lead to: two for each request, one for each buffer, and a few.
const ACTIONS_MAX: usize = 4 * REQUESTS_MAX;

type MetaBytes = Box<[u8; META_BLOCK_BYTES]>;

/// What the last fact led to.
#[derive(Default)]
pub(crate) struct Step {
    /// The connection that the core closed.
    pub(crate) closed: Option<u64>,
    /// The core said that the peer broke the rules, or refused it.
    pub(crate) blamed: bool,
    /// Wishes other than giving a buffer back.
    pub(crate) wishes: usize,
}

/// A metadata write that is under way.
struct Writing {
    op: OpId,
    address: u64,
    bytes: MetaBytes,
}

/// The node.
pub(crate) struct Node {
    pub(crate) replica: Replica,
    pub(crate) id: NodeId,
    pub(crate) layout: Layout,
    pub(crate) now: u64,
    /// The open connection.
    pub(crate) conn: Option<u64>,
    last_conn: u64,
    pub(crate) disk: Vec<(OpId, DiskOp)>,
    /// The buffers of clients' reads that the disk has.
    reading: BTreeMap<u64, Buf>,
    meta: Vec<Writing>,
    /// What is on stable media.
    media: BTreeMap<u64, MetaBytes>,
    /// Requests of clients without answer.
    pub(crate) fronts: BTreeMap<u32, FrontOp>,
    pub(crate) commands: Vec<CommandId>,
    next_command: u64,
    /// A command to give up the role is under way: the device is gone.
    pub(crate) gives_up: bool,
    /// The node has left.
    pub(crate) gone: bool,
    references: Vec<u32>,
    filled: BTreeMap<u64, Buf>,
    pub(crate) expected: BTreeMap<u64, Buf>,
    /// What the node said on this connection and the peer has not answered.
    pub(crate) said: Vec<Message>,
    /// Requests of the node to the peer without answer.
    pub(crate) asked: Vec<Message>,
    pub(crate) step: Step,
    detaches: Option<CommandId>,
}

/// The owner of what is on this node's disk.
pub(crate) fn owner(id: NodeId) -> Owner {
    Owner { volume: VolumeId::of("fuzz", &["one", "two"]), node: id }
}

pub(crate) fn layout() -> Layout {
    let bytes = (BLOCKS + BLOCKS.div_ceil(PAGE_BLOCKS) + 2 + AL_RING_BLOCKS) * 4096;
    Layout::of_disk(bytes).expect("a usual size")
}

impl Node {
    /// A node that starts from `superblock` with an empty log; of each page of the bitmap, `bits`.
    pub(crate) fn new(superblock: &Superblock, bits: &[u8; PAGE_BIT_BYTES], discard: bool) -> Node {
        let layout = layout();
        let replica =
            replica_of(&(*superblock, 0), &AlTransaction::initial(63), &layout, discard, 1);
        let mut node = Node {
            replica,
            id: superblock.node,
            layout,
            now: 0,
            conn: None,
            last_conn: 0,
            disk: Vec::new(),
            reading: BTreeMap::new(),
            meta: Vec::new(),
            media: BTreeMap::new(),
            fronts: BTreeMap::new(),
            commands: Vec::new(),
            next_command: 0,
            gives_up: false,
            gone: false,
            references: vec![0; BUFFERS_MAX],
            filled: BTreeMap::new(),
            expected: BTreeMap::new(),
            said: Vec::new(),
            asked: Vec::new(),
            step: Step::default(),
            detaches: None,
        };
        for copy in [0, 1] {
            let mut block = Box::new([0; META_BLOCK_BYTES]);
            superblock.encode(&layout, copy, &mut block);
            node.media.insert(layout.superblock(copy), block);
        }
        for page in 0..node.replica.pages() {
            node.replica.load_page(page, Some(bits));
        }
        node.start();
        node
    }

    fn start(&mut self) {
        self.now += 1;
        self.replica.start(Tick(self.now));
        self.carry_out();
    }

    /// The daemon is killed and started again; of the metadata writes under way, those land that `lands` says.
    pub(crate) fn restart(&mut self, mut lands: impl FnMut() -> bool) {
        for writing in std::mem::take(&mut self.meta) {
            if lands() {
                self.media.insert(writing.address, writing.bytes);
            }
        }
        let media = &self.media;
        let (layout, id) = (self.layout, self.id);
        let owner = owner(id);
        let read = |at: u64| media.get(&at).cloned();
        let found = recovery::superblock(&layout, owner, read).expect("one copy is always whole");
        // What was never written is as `create` left it.
        let fresh = |at: u64| {
            media.get(&at).cloned().or_else(|| {
                let (_, block) =
                    recovery::fresh_ring(&layout, owner).find(|(slot, _)| *slot == at)?;
                Some(Box::new(block))
            })
        };
        let activity = recovery::activity_log(&layout, owner, fresh).expect("every write is whole");
        let mut replica = replica_of(&found, &activity, &layout, true, self.now.into());
        for page in 0..replica.pages() {
            let block = media.get(&layout.bitmap_page(page));
            let bits = block.map(|block| decode_page(&layout, owner, page, block));
            replica.load_page(page, bits.map(|bits| bits.expect("what the core wrote is sound")));
        }
        self.replica = replica;
        self.conn = None;
        self.disk.clear();
        self.fronts.clear();
        self.commands.clear();
        (self.gives_up, self.gone, self.detaches) = (false, false, None);
        self.references.fill(0);
        self.filled.clear();
        self.expected.clear();
        self.said.clear();
        self.asked.clear();
        self.start();
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.replica.snapshot()
    }

    /// One fact, and all that follows from it.
    fn handle(&mut self, input: Input<'_>) {
        self.now += 1;
        self.step = Step::default();
        self.replica.handle(Tick(self.now), input);
        self.carry_out();
    }

    /// A new stream. The driver keeps the old one until the core has closed one of the two.
    pub(crate) fn connect(&mut self) {
        self.last_conn += 1;
        let conn = self.last_conn;
        let old = self.conn.replace(conn);
        let expected = std::mem::take(&mut self.expected);
        let (said, asked) = (std::mem::take(&mut self.said), std::mem::take(&mut self.asked));
        self.handle(Input::Connected { conn: ConnId(conn) });
        if self.conn == Some(conn) {
            assert!(old.is_none() || self.step.closed == old, "two connections at once");
            for (_, buf) in expected {
                self.release(buf);
            }
        } else {
            assert_eq!(self.step.closed, Some(conn));
            self.conn = old;
            (self.expected, self.said, self.asked) = (expected, said, asked);
        }
    }

    pub(crate) fn disconnect(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.conn_ended();
            self.handle(Input::Disconnected { conn: ConnId(conn) });
        }
    }

    /// News of a connection that is long gone.
    pub(crate) fn disconnect_old(&mut self, back: u64) {
        let conn = self.last_conn.saturating_sub(1 + back);
        self.handle(Input::Disconnected { conn: ConnId(conn) });
        assert!(self.step.closed.is_none(), "the end of an old connection closed the new one");
    }

    fn conn_ended(&mut self) {
        for (_, buf) in std::mem::take(&mut self.expected) {
            self.release(buf);
        }
        self.said.clear();
        self.asked.clear();
    }

    /// A message arrives on the open connection, or on an `old` one. Without a buffer for its payload it has to wait:
    /// then nothing happens.
    pub(crate) fn receive(&mut self, message: Message, bits: &[u8], old: bool) {
        let data = matches!(message, Message::Write { .. } | Message::ResyncData { .. });
        let buf = if data { self.take() } else { None };
        if data && buf.is_none() {
            return;
        }
        let conn = if old { self.last_conn.saturating_sub(1) } else { self.conn.unwrap_or(0) };
        let current = self.conn == Some(conn);
        let nonsense = current && self.is_nonsense(&message);
        if let Message::ReadReply { id, .. } = message
            && current
            && let Some(buf) = self.expected.remove(&id)
        {
            self.release(buf);
        }
        if current && let Some(id) = answered(&message) {
            self.asked.retain(|request| id_of(request) != Some(id));
        }
        // Sometimes those of what the disk has, see `disk_done`.
        let digests = vec![bits.first().copied().unwrap_or(0); message.payload_bytes() as usize];
        let bits = match message {
            Message::BitmapPage { .. } => bits,
            Message::DigestReply { .. } => &digests,
            _ => &[],
        };
        self.handle(Input::Received { conn: ConnId(conn), message, buf, payload: bits });
        if nonsense {
            let closed = self.step.closed == Some(conn);
            assert!(closed && self.step.blamed, "{message:?} was taken for sense");
        }
        if !current {
            assert!(
                self.step.wishes == 0,
                "a frame of an old connection had an effect: {message:?}"
            );
        }
    }

    /// True for what certainly no correct peer says now.
    fn is_nonsense(&self, message: &Message) -> bool {
        let state = self.snapshot();
        let up = state.connection == Connection::Connected;
        let asked = |id| self.asked.iter().find(|request| id_of(request) == Some(id));
        match message {
            Message::Ping | Message::Pong | Message::Refuse(_) | Message::Bye { .. } => false,
            Message::Hello(_)
            | Message::State(_)
            | Message::BitmapPage { .. }
            | Message::BitmapFull { .. }
            | Message::BitmapAck
            | Message::BitmapEnd
            | Message::Ready => up,
            _ if !up => true,
            Message::Write { span, .. }
            | Message::WriteZero { span, .. }
            | Message::Read { span, .. }
            | Message::DigestAsk { span, .. }
            | Message::ResyncData { span, .. }
            | Message::ResyncZero { span, .. } => !span.within(state.sectors),
            Message::WriteAck { id, .. } => {
                !matches!(asked(*id), Some(Message::Write { .. } | Message::WriteZero { .. }))
            }
            Message::ResyncAck { id, .. } => {
                !matches!(asked(*id), Some(Message::ResyncData { .. } | Message::ResyncZero { .. }))
            }
            Message::ReadReply { id, span, .. } => match asked(*id) {
                Some(Message::Read { span: wanted, .. }) => span != wanted,
                _ => true,
            },
            Message::DigestReply { id, span, .. } => match asked(*id) {
                Some(Message::DigestAsk { span: wanted, .. }) => span != wanted,
                _ => true,
            },
            Message::FlushAck { id, .. } => {
                asked(*id).is_none() && state.peer_disk > Some(DiskState::Failed)
            }
            _ => false,
        }
    }

    /// Time passes, and the timer with it.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now += ms * 1000;
        if self.replica.next_timeout().is_some_and(|at| at.0 <= self.now) {
            self.handle(Input::Timeout);
        }
    }

    /// The next timer.
    pub(crate) fn timeout(&mut self) {
        if let Some(at) = self.replica.next_timeout() {
            self.now = self.now.max(at.0);
            self.handle(Input::Timeout);
        }
    }

    pub(crate) fn disk_done(&mut self, at: usize, result: DiskResult) {
        let (op, what) = self.disk.remove(at);
        let used = match what {
            DiskOp::Read { .. } | DiskOp::Digest { .. } => self.reading.remove(&op.0),
            DiskOp::Write { buf, .. } => Some(buf),
            _ => None,
        };
        if let Some(buf) = used {
            self.release(buf);
        }
        if let (DiskOp::Digest { span }, true) = (what, result != DiskResult::Failed) {
            let blocks = (span.bytes() / BLOCK_BYTES) as usize;
            let digests = Digests::gathered((0..blocks).map(|at| at as u128 % 2));
            self.handle(Input::Digests { op, digests: &digests });
            return;
        }
        let may = matches!(what, DiskOp::ReadResync { .. } | DiskOp::Probe { .. });
        let zero = result == DiskResult::DoneZero && !may;
        let result = if zero { DiskResult::Done } else { result };
        self.handle(Input::DiskDone { op, result });
        let read = matches!(what, DiskOp::ReadResync { .. } | DiskOp::ReadPeer { .. });
        assert!(
            !(read && self.filled.contains_key(&op.0)),
            "the buffer of a read is kept for ever"
        );
    }

    pub(crate) fn meta_in_flight(&self) -> usize {
        self.meta.len()
    }

    pub(crate) fn meta_done(&mut self, at: usize, ok: bool) {
        let writing = self.meta.remove(at);
        if ok {
            self.media.insert(writing.address, writing.bytes);
        }
        self.handle(Input::MetaDone { op: writing.op, ok });
    }

    /// The disk does all it was asked, and what follows from that, for a while.
    pub(crate) fn disk_works(&mut self) {
        for _ in 0..2000 {
            if !self.meta.is_empty() {
                self.meta_done(0, true);
            } else if !self.disk.is_empty() {
                self.disk_done(0, DiskResult::Done);
            } else {
                return;
            }
        }
    }

    /// A client asks, if there is a device.
    pub(crate) fn request(&mut self, make: impl FnOnce(Option<Buf>) -> FrontOp) {
        let free = (0..FRONT_REQUESTS_MAX as u32).find(|id| !self.fronts.contains_key(id));
        let serves = self.replica.role() == Role::Primary && !self.gives_up;
        let (Some(id), true) = (free, serves) else { return };
        let buf = self.take();
        let op = make(buf);
        let used = match op {
            FrontOp::Read { buf, .. } | FrontOp::Write { buf, .. } => Some(buf),
            FrontOp::Zero { .. } | FrontOp::Flush => None,
        };
        if used.is_none()
            && let Some(buf) = buf
        {
            self.release(buf);
        }
        self.fronts.insert(id, op);
        self.handle(Input::Request { id: FrontId(id), op });
    }

    /// An operator asks. Who gives up the role has taken the device away before.
    pub(crate) fn command(&mut self, command: Command) {
        if self.commands.len() >= 8 {
            return;
        }
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.commands.push(id);
        let other = matches!(
            command,
            Command::Verify | Command::StopVerify | Command::Repair | Command::Resize
        );
        if !other && !matches!(command, Command::Promote { .. }) {
            if self.replica.role() == Role::Primary {
                self.handle(Input::DeviceStops);
            }
            self.gives_up = true;
        }
        if command == Command::Detach {
            self.detaches = self.detaches.or(Some(id));
        }
        self.handle(Input::Command { id, command });
    }

    fn take(&mut self) -> Option<Buf> {
        let at = self.references.iter().position(|count| *count == 0)?;
        self.references[at] = 1;
        Some(Buf(at as u32))
    }

    fn release(&mut self, buf: Buf) {
        let count = &mut self.references[buf.0 as usize];
        assert!(*count > 0, "a buffer is released once");
        *count -= 1;
    }

    /// Buffers in use.
    pub(crate) fn buffers(&self) -> usize {
        self.references.iter().filter(|count| **count > 0).count()
    }

    fn hold(&mut self, buf: Buf) {
        let count = &mut self.references[buf.0 as usize];
        assert!(*count > 0, "a buffer that is free is used");
        *count += 1;
    }

    fn carry_out(&mut self) {
        let (mut actions, mut sends) = (0, 0);
        while let Some(action) = self.replica.poll_action() {
            actions += 1;
            sends += usize::from(matches!(action, Action::Send { .. }));
            self.step.wishes += usize::from(!matches!(action, Action::Release { .. }));
            self.one(action);
        }
        assert!(actions <= ACTIONS_MAX, "{actions} wishes at once");
        assert!(sends <= SEND_FRAMES_MAX, "{sends} frames at once");
        assert!(self.disk.len() <= DISK_OPERATIONS_MAX, "more disk operations than are bounded");
        assert!(self.meta.len() <= META_BUFFERS_MAX, "more metadata writes than are bounded");
    }

    fn one(&mut self, action: Action) {
        match action {
            Action::Disk { op, what, .. } => self.begin_disk(op, what),
            Action::Meta { op, block } => self.begin_meta(op, block),
            Action::Send { conn, message, payload, .. } => self.send(conn, message, payload),
            Action::Fence { .. } => unreachable!("this node goes on without asking anybody"),
            Action::Close { conn, .. } => {
                self.step.closed = Some(conn.0);
                if self.conn == Some(conn.0) {
                    self.conn = None;
                    self.conn_ended();
                }
            }
            Action::Complete { id, .. } => {
                let op = self.fronts.remove(&id.0).expect("a request is answered once");
                if let FrontOp::Read { buf, .. } | FrontOp::Write { buf, .. } = op {
                    self.release(buf);
                }
            }
            Action::Release { buf } => self.release(buf),
            Action::ReleaseOp { op } => {
                if let Some(buf) = self.filled.remove(&op.0) {
                    self.release(buf);
                }
            }
            Action::Reply { id, result } => self.reply(id, result),
            Action::Notify(Notice::PeerBroken(_) | Notice::Refused { .. }) => {
                self.step.blamed = true;
            }
            Action::AskConsent { .. } => panic!("it is not to ask"),
            Action::Notify(_) => {}
        }
    }

    fn begin_disk(&mut self, op: OpId, what: DiskOp) {
        assert!(self.disk.iter().all(|(other, _)| *other != op), "a name is used twice");
        let sectors = self.layout.data_sectors();
        let within = |span: Span| assert!(span.within(sectors), "{span:?} lies outside the disk");
        match what {
            DiskOp::Read { span, id } => {
                within(span);
                let buf = self.read_buffer(id);
                self.hold(buf);
                self.reading.insert(op.0, buf);
            }
            DiskOp::Write { span, buf, .. } => {
                within(span);
                self.hold(buf);
            }
            DiskOp::ReadResync { span } | DiskOp::ReadPeer { span } => {
                within(span);
                let buf = self.take().expect("the limits leave a buffer for each read");
                self.filled.insert(op.0, buf);
            }
            DiskOp::Digest { span } => {
                within(span);
                let buf = self.take().expect("the limits leave a buffer for each read");
                self.reading.insert(op.0, buf);
            }
            DiskOp::Zero { span, .. } | DiskOp::Probe { span } => within(span),
            DiskOp::Flush => {}
        }
        self.disk.push((op, what));
    }

    /// The buffer of a client's read without an answer.
    fn read_buffer(&self, id: FrontId) -> Buf {
        match self.fronts.get(&id.0) {
            Some(FrontOp::Read { buf, .. }) => *buf,
            other => panic!("{other:?} is not a read"),
        }
    }

    /// What the core writes can be read again.
    fn begin_meta(&mut self, op: OpId, block: MetaBlock) {
        let mut bytes = Box::new([0; META_BLOCK_BYTES]);
        self.replica.encode_meta(block, &mut bytes);
        let (layout, owner) = (&self.layout, owner(self.id));
        let (address, sound) = match block {
            MetaBlock::Superblock { copy } => {
                let found = Superblock::decode(layout, owner, copy, &bytes);
                (layout.superblock(copy), found.map(drop))
            }
            MetaBlock::ActivityLog { slot } => {
                let found = AlTransaction::decode(layout, owner, slot, &bytes);
                (layout.al_slot(slot), found.map(drop))
            }
            MetaBlock::BitmapPage { page } => {
                let found = decode_page(layout, owner, page, &bytes);
                (layout.bitmap_page(page), found.map(drop))
            }
        };
        assert_eq!(sound, Ok(()), "{block:?} is written and cannot be read");
        assert!(
            self.meta.iter().all(|other| other.address != address),
            "a block is written twice at once"
        );
        self.meta.push(Writing { op, address, bytes });
    }

    fn send(&mut self, conn: ConnId, message: Message, payload: Payload) {
        assert_eq!(self.conn, Some(conn.0), "it speaks on a connection that is closed");
        let mut frame = [0; FRAME_BYTES_MAX];
        let length = encode(&message, 0, &mut frame);
        let (header, extension) =
            frame[..length].split_first_chunk::<HEADER_BYTES>().expect("a header");
        let header = Header::parse(header).expect("what is sent can be read");
        assert_eq!(header.message(extension), Ok(message));
        match payload {
            Payload::Buf(buf) => {
                assert!(self.references[buf.0 as usize] > 0, "a free buffer is sent");
            }
            Payload::Into(front) => {
                let buf = self.read_buffer(front);
                let id = id_of(&message).expect("only a read has an answer with payload");
                self.hold(buf);
                assert!(self.expected.insert(id, buf).is_none(), "a read is sent twice");
            }
            Payload::Op(op) => {
                let buf = self.filled.remove(&op.0).expect("a filled buffer is sent once");
                self.release(buf);
            }
            Payload::Bits { page } => self.replica.encode_bits(page, &mut [0; PAGE_BIT_BYTES]),
            Payload::Digests => {
                assert_eq!(self.replica.encode_digests().len() as u64, message.payload_bytes());
            }
            Payload::None => assert_eq!(message.payload_bytes(), 0, "{message:?} has a payload"),
        }
        if is_request(&message) {
            self.asked.push(message);
            assert!(self.asked.len() <= 2 * REQUESTS_MAX, "more requests than are bounded");
        }
        if self.said.len() < 2 * REQUESTS_MAX {
            self.said.push(message);
        }
    }

    fn reply(&mut self, id: CommandId, result: Result<(), CommandError>) {
        let at = self.commands.iter().position(|known| *known == id);
        self.commands.swap_remove(at.expect("a command is answered once"));
        if self.detaches == Some(id) {
            self.detaches = None;
            self.gone = result.is_ok();
        }
        if self.commands.is_empty() {
            self.gives_up = self.gone;
        }
    }

    /// Nobody disturbs any more: the peer is gone, the disk works, time passes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..40 {
            self.disconnect();
            self.disk_works();
            if self.replica.next_timeout().is_none() {
                break;
            }
            self.timeout();
        }
        self.disk_works();
        assert!(self.disk.is_empty() && self.meta.is_empty(), "the disk is never left alone");
        let state = self.snapshot();
        let serves = state.role == Role::Secondary || state.disk == DiskState::UpToDate;
        assert!(!serves || self.fronts.is_empty(), "requests wait for ever: {:?}", self.fronts);
        assert!(self.filled.is_empty() && self.expected.is_empty());
        if self.fronts.is_empty() {
            assert_eq!(self.buffers(), 0, "a buffer is lost");
            assert!(
                self.commands.is_empty(),
                "a command waits for ever: {:?}, {:?}",
                state.role,
                state.disk
            );
        }
    }
}

fn replica_of(
    (superblock, stale_copy): &(Superblock, u8),
    activity: &AlTransaction,
    layout: &Layout,
    discard: bool,
    entropy: u128,
) -> Replica {
    Replica::new(&Start {
        layout: *layout,
        superblock: *superblock,
        stale_copy: *stale_copy,
        peer: NodeId(1 - superblock.node.0),
        activity: activity.clone(),
        block_bytes: 512,
        discard,
        holes: true,
        kept: None,
        entropy: entropy.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835),
        unix_ms: 1_700_000_000_000,
        settings: Settings {
            peer_timeout_ms: 4_000,
            disk_timeout_ms: 30_000,
            al_slots: AL_SLOTS,
            policies: Policies::default(),
            ask_consent: false,
            salvage: false,
            on_peer_lost: OnPeerLost::Continue,
            ride_through_ms: 0,
            config: 0,
        },
    })
}

/// The name of a request or an answer.
pub(crate) fn id_of(message: &Message) -> Option<u64> {
    match message {
        Message::Write { id, .. }
        | Message::WriteZero { id, .. }
        | Message::Read { id, .. }
        | Message::DigestAsk { id, .. }
        | Message::Flush { id, .. }
        | Message::ResyncData { id, .. }
        | Message::ResyncZero { id, .. } => Some(*id),
        _ => None,
    }
}

fn is_request(message: &Message) -> bool {
    id_of(message).is_some()
}

fn answered(message: &Message) -> Option<u64> {
    match message {
        Message::WriteAck { id, .. }
        | Message::FlushAck { id, .. }
        | Message::ReadReply { id, .. }
        | Message::DigestReply { id, .. }
        | Message::ResyncAck { id, .. } => Some(*id),
        _ => None,
    }
}

/// What a correct peer answers to `message` of a request, if it does at once.
pub(crate) fn answer_to(message: &Message, outcome: Outcome) -> Option<Message> {
    Some(match *message {
        Message::Write { id, .. } | Message::WriteZero { id, .. } => {
            Message::WriteAck { id, outcome }
        }
        Message::Flush { id, .. } => Message::FlushAck { id, outcome },
        Message::Read { id, span } => Message::ReadReply { id, span, outcome },
        Message::DigestAsk { id, span } => Message::DigestReply { id, span, outcome },
        Message::ResyncData { id, .. } | Message::ResyncZero { id, .. } => {
            Message::ResyncAck { id, outcome }
        }
        Message::BitmapPage { .. } | Message::BitmapFull { .. } => Message::BitmapAck,
        Message::ResyncEnd { .. } => Message::ResyncEndAck,
        Message::PromoteAsk => Message::PromoteAnswer { granted: true },
        Message::Ping => Message::Pong,
        Message::BitmapEnd => Message::BitmapEnd,
        Message::Ready => Message::Ready,
        _ => return None,
    })
}
