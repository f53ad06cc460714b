//! NBD clients: handshake, requests and payload, taken apart by the server's own codec, checks and table, with a
//! socket and a core that are only counted.

use super::input::Input;
use rblk::front::nbd::command::{self, Checked, Work};
use rblk::front::nbd::handshake::{Handshake, Verdict};
use rblk::front::nbd::proto::{self, Errno, Export, Outbox};
use rblk::front::nbd::table::{CommandNo, Outgoing, Table};
use rblk::front::{FrontRequest, Geometry};
use rblk::limits::{FRONT_REQUESTS_MAX, IO_BYTES_MAX, ZERO_BYTES_MAX};
use rblk::replica::event::{Buf, FrontId, FrontOp};

const CLIENTS: usize = 3;
/// A client that waits is not read from beyond this.
const INBOX_BYTES: usize = 16 << 10;
const SECTORS: u64 = (80 << 20) / 512;
/// Fewer than pieces: so they run out.
const BUFFERS: usize = 100;

enum Phase {
    Handshake(Handshake),
    Serving,
    Leaving,
    Closed,
}

struct Client {
    phase: Phase,
    inbox: Vec<u8>,
    outbox: Outbox,
    /// A write whose payload is coming: the piece and what is missing of it.
    filling: Option<(FrontId, usize)>,
    /// A refused write whose payload is being skipped.
    skipping: Option<(CommandNo, usize)>,
    sending: Vec<FrontId>,
}

struct Server {
    export: Export,
    table: Table,
    clients: Vec<Client>,
    at_core: Vec<FrontRequest>,
    buffers: Vec<u32>,
    stopping: bool,
}

/// Steps: who does what, and for bytes of a client how many.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.byte();
    let block_bytes = if flags & 1 == 0 { 512 } else { 4096 };
    let geometry = Geometry { sectors: SECTORS, block_bytes, discard: flags & 2 == 0 };
    let mut server = Server {
        export: command::export("swarm", &geometry),
        table: Table::new(),
        clients: (0..CLIENTS).map(|_| Client::new(flags & 4 != 0)).collect(),
        at_core: Vec::new(),
        buffers: vec![0; BUFFERS],
        stopping: false,
    };
    while !input.is_empty() {
        let step = input.byte();
        let place = usize::from(step >> 6) % CLIENTS;
        match step & 63 {
            0..=39 => server.receive(place, &mut input),
            40..=49 => server.complete(&mut input),
            50..=59 => server.send(place, input.flag()),
            60..=61 => server.request(place, &mut input),
            62 => server.close(place),
            _ => server.stopping = true,
        }
    }
    server.end();
}

impl Client {
    fn new(greeted: bool) -> Client {
        let mut outbox = Outbox::new();
        let handshake = Handshake::new(&mut outbox);
        assert!(!outbox.bytes().is_empty(), "the server speaks first");
        outbox.clear();
        Client {
            phase: if greeted { Phase::Serving } else { Phase::Handshake(handshake) },
            inbox: Vec::new(),
            outbox,
            filling: None,
            skipping: None,
            sending: Vec::new(),
        }
    }
}

impl Server {
    fn receive(&mut self, place: usize, input: &mut Input<'_>) {
        let many = input.short();
        if many & 0x8000 != 0 {
            // Long payloads are not worth their bytes.
            self.receive_payload(place, usize::from(many & 0x7FFF) * 64);
        } else if self.clients[place].inbox.len() < INBOX_BYTES {
            self.clients[place].inbox.extend(input.take(usize::from(many & 0xFF)));
            self.pump(place);
        }
    }

    fn receive_payload(&mut self, place: usize, bytes: usize) {
        let mut left = bytes;
        loop {
            let client = &mut self.clients[place];
            let filling = client.filling.as_mut().map(|(_, missing)| missing);
            let skipping = client.skipping.as_mut().map(|(_, missing)| missing);
            let Some(missing) = filling.or(skipping) else { return };
            let part = left.min(*missing);
            *missing -= part;
            left -= part;
            if part == 0 {
                return;
            }
            self.pump(place);
        }
    }

    /// A request that a client might well send.
    fn request(&mut self, place: usize, input: &mut Input<'_>) {
        let mut bytes = proto::REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend((u16::from(input.byte()) & 7).to_be_bytes());
        bytes.extend((u16::from(input.byte()) % 8).to_be_bytes());
        bytes.extend(input.long().to_be_bytes());
        bytes.extend((u64::from(input.short()) * 4096).to_be_bytes());
        let length = u32::from(input.short()).wrapping_mul(512) << (input.byte() % 8);
        bytes.extend(length.to_be_bytes());
        self.clients[place].inbox.extend(bytes);
        self.pump(place);
    }

    /// Goes on with a client for as long as something comes of it, as the server does.
    fn pump(&mut self, place: usize) {
        loop {
            let client = &mut self.clients[place];
            let before = (client.inbox.len(), self.at_core.len(), client.filling.is_some());
            match client.phase {
                Phase::Handshake(_) => self.negotiate(place),
                Phase::Serving => self.serve(place),
                Phase::Leaving | Phase::Closed => return,
            }
            let client = &self.clients[place];
            if before == (client.inbox.len(), self.at_core.len(), client.filling.is_some()) {
                return;
            }
        }
    }

    fn negotiate(&mut self, place: usize) {
        let Client { phase, inbox, outbox, .. } = &mut self.clients[place];
        let Phase::Handshake(handshake) = phase else { return };
        let verdict = handshake.step(inbox, &self.export, outbox);
        assert!(outbox.bytes().len() <= Outbox::CAPACITY);
        outbox.clear();
        match verdict {
            Verdict::NeedMore => {
                let most = proto::OPTION_BYTES + rblk::front::nbd::handshake::OPTION_DATA_MAX;
                assert!(inbox.len() < most, "it waits for more than an option may have");
            }
            Verdict::Next(bytes) => drop(inbox.drain(..bytes)),
            Verdict::Begin(bytes) => {
                inbox.drain(..bytes);
                *phase = Phase::Serving;
            }
            Verdict::Close => self.close(place),
        }
    }

    fn serve(&mut self, place: usize) {
        if let Some((id, missing)) = self.clients[place].filling {
            let inbox = &mut self.clients[place].inbox;
            let part = missing.min(inbox.len());
            inbox.drain(..part);
            self.clients[place].filling = (part < missing).then_some((id, missing - part));
            if part == missing {
                let request = self.table.filled(id);
                self.hand_over(request);
            }
        } else if let Some(command) = self.table.issuing(place) {
            if self.table.may_take(place, true) {
                self.cut(place, command);
            }
        } else if let Some((command, left)) = self.clients[place].skipping {
            let inbox = &mut self.clients[place].inbox;
            let part = left.min(inbox.len());
            inbox.drain(..part);
            self.clients[place].skipping = (part < left).then_some((command, left - part));
            if part == left {
                self.table.answer(command);
            }
        } else {
            self.begin(place);
        }
    }

    fn begin(&mut self, place: usize) {
        let request = match proto::decode_request(&self.clients[place].inbox) {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(proto::BadMagic) => return self.close(place),
        };
        let checked = command::check(&request, &self.export, self.stopping);
        let takes = matches!(checked, Checked::Do(_) | Checked::Refuse(_));
        if takes && !self.table.may_take(place, true) {
            return;
        }
        self.clients[place].inbox.drain(..proto::REQUEST_BYTES);
        let (work, error) = match checked {
            Checked::Goodbye => {
                self.clients[place].phase = Phase::Leaving;
                return;
            }
            Checked::Close => return self.close(place),
            Checked::Do(work) => (work, Errno::Ok),
            Checked::Refuse(error) => (Work::Nothing, error),
        };
        let (offset, length) = (request.offset, request.length);
        let command = self.table.begin(place, request.cookie, work, offset, length);
        if work != Work::Nothing {
            if work == Work::Flush || self.table.issuing(place).is_some() {
                self.cut(place, command);
            }
            return;
        }
        self.table.refuse(command, error);
        if request.kind == proto::command::WRITE {
            self.clients[place].skipping = Some((command, length as usize));
        } else {
            self.table.answer(command);
        }
    }

    fn cut(&mut self, place: usize, command: CommandNo) {
        match self.table.work(command) {
            Work::Read => {
                let Some(buf) = self.take_buffer(2) else { return };
                let request = self.table.issue(command, Some(buf));
                self.hand_over(request);
            }
            Work::Write { .. } => {
                let Some(buf) = self.take_buffer(1) else { return };
                let (id, bytes) = self.table.fill(command, buf);
                assert!(bytes > 0 && bytes <= IO_BYTES_MAX);
                self.clients[place].filling = Some((id, bytes));
            }
            Work::Zero { .. } | Work::Flush | Work::Nothing => {
                let request = self.table.issue(command, None);
                self.hand_over(request);
            }
        }
    }

    fn hand_over(&mut self, request: FrontRequest) {
        assert!((request.id.0 as usize) < FRONT_REQUESTS_MAX);
        assert!(self.at_core.iter().all(|other| other.id != request.id), "an id is used twice");
        let (span, most) = match request.op {
            FrontOp::Read { span, .. } | FrontOp::Write { span, .. } => (span, IO_BYTES_MAX as u64),
            FrontOp::Zero { span, .. } => (span, ZERO_BYTES_MAX),
            FrontOp::Flush => return self.at_core.push(request),
        };
        assert!(span.within(SECTORS) && span.bytes() <= most, "{span:?}");
        self.at_core.push(request);
    }

    fn complete(&mut self, input: &mut Input<'_>) {
        if self.at_core.is_empty() {
            return;
        }
        let at = input.below(self.at_core.len());
        let failed = input.byte() % 8 == 7;
        self.complete_at(at, if failed { Errno::Io } else { Errno::Ok });
    }

    fn complete_at(&mut self, at: usize, error: Errno) {
        let request = self.at_core.swap_remove(at);
        let (place, free) = self.table.complete(request.id, error);
        if free {
            self.release_piece(request.id);
        }
        if let FrontOp::Read { buf, .. } | FrontOp::Write { buf, .. } = request.op {
            self.release(buf);
        }
        self.pump(place);
    }

    /// Sends what is due; without `all`, what is being sent stays so for a while.
    fn send(&mut self, place: usize, all: bool) {
        if matches!(self.clients[place].phase, Phase::Closed) {
            return;
        }
        for _ in 0..64 {
            let mut free = Vec::new();
            let outgoing = self.table.next_outgoing(place, &mut |buf| free.push(buf));
            free.into_iter().for_each(|buf| self.release(buf));
            match outgoing {
                Outgoing::Nothing => break,
                Outgoing::Header { .. } => {}
                Outgoing::Data { id, bytes, .. } => {
                    assert!(bytes <= IO_BYTES_MAX);
                    self.clients[place].sending.push(id);
                }
                Outgoing::Broken => return self.close(place),
            }
        }
        if all {
            self.sent(place);
        }
        self.pump(place);
    }

    fn sent(&mut self, place: usize) {
        for id in std::mem::take(&mut self.clients[place].sending) {
            let open = !matches!(self.clients[place].phase, Phase::Closed);
            if open && self.table.can_reissue(id) {
                let buf = self.table.buf(id).expect("a sent piece has a buffer");
                self.buffers[buf.0 as usize] += 1;
                let request = self.table.reissue(id);
                self.hand_over(request);
            } else {
                self.release_piece(id);
            }
        }
    }

    fn close(&mut self, place: usize) {
        let client = &mut self.clients[place];
        if matches!(client.phase, Phase::Closed) {
            return;
        }
        client.phase = Phase::Closed;
        client.skipping = None;
        if let Some((id, _)) = client.filling.take() {
            self.release_piece(id);
        }
        for id in std::mem::take(&mut self.clients[place].sending) {
            self.release_piece(id);
        }
        let mut free = Vec::new();
        self.table.abandon(place, &mut |buf| free.push(buf));
        free.into_iter().for_each(|buf| self.release(buf));
    }

    fn release_piece(&mut self, id: FrontId) {
        if let Some(buf) = self.table.release(id) {
            self.release(buf);
        }
    }

    fn take_buffer(&mut self, references: u32) -> Option<Buf> {
        let at = self.buffers.iter().position(|count| *count == 0)?;
        self.buffers[at] = references;
        Some(Buf(at as u32))
    }

    fn release(&mut self, buf: Buf) {
        let count = &mut self.buffers[buf.0 as usize];
        assert!(*count > 0, "a buffer is released once");
        *count -= 1;
    }

    /// The core answers all, everybody goes: nothing is left.
    fn end(&mut self) {
        for place in 0..CLIENTS {
            self.close(place);
        }
        while !self.at_core.is_empty() {
            self.complete_at(0, Errno::Ok);
        }
        for place in 0..CLIENTS {
            assert!(self.table.is_idle(place), "a command of a client that is gone is left");
        }
        assert!(self.buffers.iter().all(|count| *count == 0), "a buffer is lost");
    }
}
