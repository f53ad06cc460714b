//! Any order of events keeps the promises of the table.

use super::*;
use crate::wire::message::ZeroKind;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Event {
    /// A client sends a command, unless one of its own is still being issued.
    Begin { client: usize, work: usize, length: u32 },
    /// A client whose command is being issued gets a piece, if it may.
    Cut { client: usize },
    /// The payload of a write is complete.
    Fill { which: usize },
    /// The data of a read will be in another buffer.
    Move { which: usize },
    /// The core answers.
    Complete { which: usize, fails: bool },
    /// A client is sent all that is due, or what was being sent is out.
    Send { client: usize },
    /// A client vanishes.
    Vanish { client: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let client = 0..3usize;
    let length = prop_oneof![1..9u32, 250..900u32].prop_map(|sectors| sectors * 512);
    let fails = prop::bool::weighted(0.05);
    prop_oneof![
        4 => (client.clone(), 0..5usize, length).prop_map(|(client, work, length)| Event::Begin {
            client, work, length,
        }),
        6 => client.clone().prop_map(|client| Event::Cut { client }),
        6 => any::<usize>().prop_map(|which| Event::Fill { which }),
        2 => any::<usize>().prop_map(|which| Event::Move { which }),
        8 => (any::<usize>(), fails).prop_map(|(which, fails)| Event::Complete { which, fails }),
        8 => client.clone().prop_map(|client| Event::Send { client }),
        1 => client.prop_map(|client| Event::Vanish { client }),
    ]
}

/// A client as its own record has it.
#[derive(Default)]
struct Record {
    /// Commands without a reply: cookie to what it is and its bytes.
    open: BTreeMap<u64, (Work, u64)>,
    /// The read whose data is arriving, with the byte expected next and the bytes to come.
    reading: Option<(u64, u64)>,
    sending: Vec<FrontId>,
}

struct World {
    table: Table,
    clients: Vec<Record>,
    /// References to buffers: of the table, and of the core.
    ours: BTreeSet<u32>,
    filling: Vec<(usize, FrontId)>,
    at_core: Vec<FrontRequest>,
    free: Vec<u32>,
    cookie: u64,
}

impl World {
    fn new() -> World {
        World {
            table: Table::new(),
            clients: std::iter::repeat_with(Record::default).take(3).collect(),
            ours: BTreeSet::new(),
            filling: Vec::new(),
            at_core: Vec::new(),
            free: (0..FRONT_REQUESTS_MAX as u32).collect(),
            cookie: 0,
        }
    }

    fn take(&mut self) -> Buf {
        let buf = self.free.pop().expect("a buffer for every piece");
        self.ours.insert(buf);
        Buf(buf)
    }

    fn release(&mut self, id: FrontId) {
        if let Some(buf) = self.table.release(id) {
            self.give_back(buf);
        }
    }

    fn give_back(&mut self, buf: Buf) {
        assert!(self.ours.remove(&buf.0), "released twice");
        self.free.push(buf.0);
    }

    fn on(&mut self, event: &Event) {
        match *event {
            Event::Begin { client, work, length } => self.begin(client, work, length),
            Event::Cut { client } => self.cut(client),
            Event::Fill { which } if !self.filling.is_empty() => {
                let (_, id) = self.filling.swap_remove(which % self.filling.len());
                let request = self.table.filled(id);
                self.at_core.push(request);
            }
            Event::Move { which } if !self.at_core.is_empty() => {
                let request = self.at_core[which % self.at_core.len()];
                if let FrontOp::Read { .. } = request.op
                    && !self.free.is_empty()
                {
                    let to = self.take();
                    let old = self.table.change_buf(request.id, to);
                    self.give_back(old);
                }
            }
            Event::Complete { which, fails } if !self.at_core.is_empty() => {
                let request = self.at_core.swap_remove(which % self.at_core.len());
                self.complete(request, fails);
            }
            Event::Send { client } => self.send(client),
            Event::Vanish { client } => self.vanish(client),
            Event::Fill { .. } | Event::Move { .. } | Event::Complete { .. } => {}
        }
    }

    fn begin(&mut self, client: usize, work: usize, length: u32) {
        if self.table.issuing(client).is_some() || !self.table.may_take(client, true) {
            return;
        }
        // A write in the middle of its payload is followed by nothing.
        if self.filling.iter().any(|(owner, _)| *owner == client) {
            return;
        }
        let kind = ZeroKind::Discard;
        let works = [
            Work::Read,
            Work::Write { fua: true },
            Work::Zero { kind, fua: false },
            Work::Flush,
            Work::Nothing,
        ];
        let work = works[work];
        self.cookie += 1;
        let offset = self.cookie << 20;
        let command = self.table.begin(client, self.cookie, work, offset, length);
        self.clients[client].open.insert(self.cookie, (work, u64::from(length)));
        match work {
            Work::Nothing => {
                self.table.refuse(command, Errno::NoSpace);
                self.table.answer(command);
            }
            Work::Flush => {
                let request = self.table.issue(command, None);
                self.at_core.push(request);
            }
            _ => self.cut(client),
        }
    }

    fn cut(&mut self, client: usize) {
        let Some(command) = self.table.issuing(client) else {
            return;
        };
        if !self.table.may_take(client, true) {
            return;
        }
        match self.table.work(command) {
            Work::Write { .. } => {
                if !self.filling.iter().any(|(owner, _)| *owner == client) {
                    let buf = self.take();
                    let (id, bytes) = self.table.fill(command, buf);
                    assert!(bytes > 0 && bytes <= IO_BYTES_MAX);
                    self.filling.push((client, id));
                }
            }
            work => {
                let buf = (work == Work::Read).then(|| self.take());
                let request = self.table.issue(command, buf);
                self.at_core.push(request);
            }
        }
    }

    fn complete(&mut self, request: FrontRequest, fails: bool) {
        if let FrontOp::Write { buf, .. } = request.op {
            self.give_back(buf);
        }
        let error = if fails { Errno::Io } else { Errno::Ok };
        if self.table.complete(request.id, error).1 {
            self.release(request.id);
        }
    }

    fn send(&mut self, client: usize) {
        for id in std::mem::take(&mut self.clients[client].sending) {
            if self.table.can_reissue(id) {
                let request = self.table.reissue(id);
                self.at_core.push(request);
            } else {
                self.release(id);
            }
        }
        let mut freed = Vec::new();
        loop {
            let next = self.table.next_outgoing(client, &mut |buf| freed.push(buf));
            for buf in freed.drain(..) {
                self.give_back(buf);
            }
            let record = &mut self.clients[client];
            match next {
                Outgoing::Nothing => return,
                Outgoing::Header { cookie, error } => {
                    assert!(record.reading.is_none(), "a reply within the data of a read");
                    let (work, length) = record.open.remove(&cookie).expect("one reply each");
                    if work == Work::Read && error == Errno::Ok {
                        record.reading = Some((cookie << 20, length));
                    }
                }
                Outgoing::Data { id, buf, bytes } => {
                    assert!(self.ours.contains(&buf.0), "the data is where it is not any more");
                    let (offset, left) = record.reading.take().expect("data follows a header");
                    assert_eq!(self.table.piece(id).offset, offset, "data in order");
                    let (offset, left) = (offset + bytes as u64, left - bytes as u64);
                    record.reading = (left > 0).then_some((offset, left));
                    record.sending.push(id);
                }
                Outgoing::Broken => return self.vanish(client),
            }
        }
    }

    fn vanish(&mut self, client: usize) {
        let record = std::mem::take(&mut self.clients[client]);
        for id in record.sending {
            self.release(id);
        }
        let gone = self.filling.iter().filter(|(owner, _)| *owner == client);
        for id in gone.map(|(_, id)| *id).collect::<Vec<_>>() {
            self.release(id);
        }
        self.filling.retain(|(owner, _)| *owner != client);
        let mut freed = Vec::new();
        self.table.abandon(client, &mut |buf| freed.push(buf));
        freed.into_iter().for_each(|buf| self.give_back(buf));
    }

    /// Lets everything come to its end. Without `cuts`, other clients take whatever is free.
    fn drain(&mut self, cuts: bool) {
        for _ in 0..100_000 {
            if (0..3).all(|client| self.table.is_idle(client)) {
                return;
            }
            for client in 0..3 {
                if cuts {
                    self.cut(client);
                }
                self.send(client);
            }
            self.on(&Event::Fill { which: 0 });
            self.on(&Event::Complete { which: 0, fails: false });
        }
        panic!("something waits for ever");
    }
}

proptest! {
    #[test]
    fn every_command_is_answered_once_and_nothing_is_lost(
        events in proptest::collection::vec(event(), 1..600)
    ) {
        let mut world = World::new();
        for event in &events {
            world.on(event);
        }
        world.drain(true);
        for record in &world.clients {
            prop_assert!(record.open.is_empty() && record.reading.is_none());
        }
        prop_assert!(world.ours.is_empty() && world.at_core.is_empty());
        prop_assert_eq!(world.table.free_pieces.len(), FRONT_REQUESTS_MAX);
        prop_assert_eq!(world.table.free_commands.len(), COMMANDS_MAX);
        prop_assert_eq!(world.table.shared, 0);
    }
}

#[test]
fn a_read_is_sent_and_goes_on_in_the_buffer_that_it_moved_to() {
    let mut table = Table::new();
    let read = table.begin(0, 0, Work::Read, 0, 2 * IO_BYTES_MAX as u32);
    let request = table.issue(read, Some(Buf(7)));
    assert_eq!(table.change_buf(request.id, Buf(8)), Buf(7));
    table.complete(request.id, Errno::Ok);
    let mut release = |_| panic!("nothing is over");
    assert!(matches!(table.next_outgoing(0, &mut release), Outgoing::Header { .. }));
    let data = table.next_outgoing(0, &mut release);
    assert_eq!(data, Outgoing::Data { id: request.id, buf: Buf(8), bytes: IO_BYTES_MAX });
    let FrontOp::Read { buf, .. } = table.reissue(request.id).op else { panic!("a read") };
    assert_eq!(buf, Buf(8));
}

#[test]
fn every_client_has_its_reserve_beside_a_hog() {
    let mut table = Table::new();
    let mut taken = 0;
    while table.may_take(0, true) {
        let command = table.begin(0, 0, Work::Flush, 0, 0);
        table.issue(command, None);
        taken += 1;
    }
    assert_eq!(taken, SHARED_MAX + NBD_REQUESTS_RESERVED);
    for client in 1..NBD_CLIENTS_MAX {
        for _ in 0..NBD_REQUESTS_RESERVED {
            assert!(table.may_take(client, false));
            let command = table.begin(client, 0, Work::Flush, 0, 0);
            table.issue(command, None);
        }
        assert!(!table.may_take(client, true));
    }
    assert!(table.free_pieces.is_empty());
}

#[test]
fn a_read_that_has_begun_goes_on_when_there_are_no_more_pieces() {
    let mut world = World::new();
    // Replies that will wait behind the read hold all pieces but one.
    while world.at_core.len() < SHARED_MAX + NBD_REQUESTS_RESERVED - 1 {
        world.begin(0, 3, 0);
    }
    world.begin(0, 0, 16 << 20);
    let read = world.at_core.pop().expect("its first piece");
    assert!(!world.table.may_take(0, true));
    world.complete(read, false);
    world.drain(false);
    assert!(world.clients[0].open.is_empty());
}
