//! Stories with a peer that is made by hand and says what no correct peer says. It loses the connection, and nothing
//! else happens.

use crate::net::Content;
use crate::node::Fact;
use crate::story::{PEER_TIMEOUT_MS, Story};
use rblk::limits::{
    IO_BYTES_MAX, PEER_DATA_CREDITS, PEER_READ_CREDITS, PEER_ZERO_CREDITS, SECTOR_BYTES,
};
use rblk::meta::superblock::{GenerationId, History, NodeId, VolumeId};
use rblk::replica::Connection;
use rblk::replica::event::{Command, CommandError};
use rblk::span::Span;
use rblk::wire::message::{DiskState, Hello, Message, Outcome, Refusal, Role, State, ZeroKind};
use rblk::wire::{PROTOCOL_MAX, PROTOCOL_MIN};

/// Higher than the number of any connection of the story before.
const CONN: u64 = 1_000_000;

/// The peer of node 0.
struct Stranger {
    story: Story,
}

impl Stranger {
    /// It has dialled node 0, whose true peer is dead.
    fn dials() -> Stranger {
        let mut story = Story::of_two(false);
        story.kill(1, false);
        story.until("the peer is gone", |story| !story.connected_at(0));
        story.world.oracle.stranger = true;
        story.world.nodes[0].open = Some(CONN);
        story.world.tell(0, Fact::Connected { conn: CONN });
        Stranger { story }
    }

    /// It has been greeted with as node 1, with the same data and this role.
    fn greeted(role: Role) -> Stranger {
        let mut stranger = Stranger::dials();
        stranger.say(Message::Hello(stranger.hello()));
        stranger.say(Message::State(stranger.state(role)));
        stranger.say(Message::Ready);
        assert!(stranger.story.connected_at(0), "the greeting was in order");
        stranger
    }

    fn hello(&self) -> Hello {
        let sb = &self.story.world.nodes[0].disk.meta.superblock;
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            volume: sb.volume,
            node: NodeId(1),
            usable_sectors: sb.usable_sectors,
            agreed_sectors: sb.agreed_sectors,
            block_bytes: 512,
            payload_bytes_max: IO_BYTES_MAX as u32,
            data_credits: PEER_DATA_CREDITS as u16,
            read_credits: PEER_READ_CREDITS as u16,
            zero_credits: PEER_ZERO_CREDITS as u16,
            discard: true,
            config: 0,
        }
    }

    fn state(&self, role: Role) -> State {
        let sb = &self.story.world.nodes[0].disk.meta.superblock;
        State {
            current: sb.current,
            base: None,
            history: sb.history,
            disk: DiskState::UpToDate,
            role,
            dirty_blocks: 0,
            crashed: false,
            survivor: true,
            kept: true,
            peer_outdated: false,
            discard_my_data: false,
            parted_primary: false,
            policies: rblk::wire::policy::Policies::default(),
            mark: sb.peer_mark,
            peer_mark: sb.mark,
        }
    }

    /// Says something and leaves node 0 no time for its disk.
    fn blurt(&mut self, message: Message) {
        let sectors = message.payload_bytes() / SECTOR_BYTES;
        let content = match message {
            Message::Write { .. } | Message::ResyncData { .. } | Message::ReadReply { .. } => {
                Content::Sectors(vec![0; sectors as usize])
            }
            Message::BitmapPage { .. } => Content::Bits(Box::new([255; 3968])),
            _ => Content::None,
        };
        self.story.world.tell(0, Fact::Received { conn: CONN, message, content });
    }

    /// Says something and waits a moment.
    fn say(&mut self, message: Message) {
        self.blurt(message);
        self.story.rest(20);
    }

    fn is_refused(&self) -> Option<Refusal> {
        self.story.state(0).refusal.map(|(_, reason)| reason)
    }
}

fn span(start: u64, sectors: u32) -> Span {
    Span::new(start, sectors).expect("a valid span")
}

#[test]
fn another_volume_or_node_is_refused() {
    type Lie = fn(&mut Hello);
    let cases: [(Lie, Refusal); 4] = [
        (|hello| hello.volume = VolumeId(7), Refusal::Volume),
        (|hello| hello.node = NodeId(0), Refusal::Node),
        (|hello| hello.data_credits = 1, Refusal::Limits),
        (|hello| hello.usable_sectors -= 8, Refusal::Size),
    ];
    for (lie, reason) in cases {
        let mut stranger = Stranger::dials();
        let mut hello = stranger.hello();
        lie(&mut hello);
        stranger.say(Message::Hello(hello));
        assert_eq!(stranger.is_refused(), Some(reason));
        assert_eq!(stranger.story.state(0).connection, Connection::Connecting);
    }
}

/// Signs of life are no greeting: whoever gives nothing else is left after the peer timeout.
#[test]
fn a_stranger_who_only_pings_is_not_listened_to_for_ever() {
    let mut stranger = Stranger::dials();
    let begun = stranger.story.world.now;
    while stranger.story.state(0).connection == Connection::Greeting {
        assert!(stranger.story.world.now - begun < 2 * PEER_TIMEOUT_MS * 1_000, "still");
        stranger.say(Message::Ping);
    }
    assert!(stranger.story.world.now - begun > PEER_TIMEOUT_MS * 900, "a peer has its time");
}

#[test]
fn what_may_not_be_asked_ends_the_connection() {
    let here = span(0, 8);
    let none = [
        Message::Write { id: 1, span: here, fua: false },
        Message::WriteZero { id: 1, span: here, kind: ZeroKind::Discard, fua: false },
        Message::Read { id: 1, span: here },
        Message::ResyncData { id: 1, span: here },
        Message::ResyncZero { id: 1, span: here },
    ];
    for message in none {
        let mut stranger = Stranger::greeted(Role::Secondary);
        stranger.say(message);
        assert!(!stranger.story.connected_at(0), "{message:?} of a Secondary");
    }
    for beyond in [0, 4] {
        let mut stranger = Stranger::greeted(Role::Primary);
        let outside = span(stranger.story.state(0).sectors - beyond, 8);
        for message in [
            Message::Write { id: 1, span: outside, fua: false },
            Message::WriteZero { id: 1, span: outside, kind: ZeroKind::Zeroes, fua: false },
            Message::Read { id: 1, span: outside },
        ] {
            stranger.say(message);
            assert!(!stranger.story.connected_at(0), "{message:?} ends beyond the volume");
            stranger = Stranger::greeted(Role::Primary);
        }
    }
}

#[test]
fn an_answer_to_nothing_ends_the_connection() {
    let current = GenerationId(9);
    for message in [
        Message::WriteAck { id: 77, outcome: Outcome::Done },
        Message::ResyncAck { id: 77, outcome: Outcome::Done },
        Message::FlushAck { id: 77, outcome: Outcome::Done },
        Message::ReadReply { id: 77, span: span(0, 8), outcome: Outcome::Done },
        Message::ResyncEnd { current, history: History::default() },
        Message::ResyncEndAck,
        Message::PromoteAnswer { granted: true },
        Message::DiskFailedAck { current },
        Message::BitmapFull { page: 0 },
        Message::BitmapEnd,
        Message::Ready,
    ] {
        let mut stranger = Stranger::greeted(Role::Primary);
        stranger.say(message);
        assert!(!stranger.story.connected_at(0), "{message:?}");
        assert_ne!(stranger.story.generation(0), Some(current));
    }
}

#[test]
fn a_peer_has_no_more_requests_here_than_it_was_allowed() {
    type Make = fn(u64) -> Message;
    let cases: [(Make, usize); 3] = [
        (|id| Message::Write { id, span: span(id * 8, 8), fua: false }, PEER_DATA_CREDITS),
        (|id| Message::Read { id, span: span(id * 8, 8) }, PEER_READ_CREDITS),
        (
            |id| {
                let kind = ZeroKind::Zeroes;
                Message::WriteZero { id, span: span(id * 8, 8), kind, fua: false }
            },
            PEER_ZERO_CREDITS,
        ),
    ];
    for (make, allowed) in cases {
        let mut stranger = Stranger::greeted(Role::Primary);
        for id in 0..allowed as u64 {
            stranger.blurt(make(id));
        }
        assert!(stranger.story.connected_at(0), "{allowed} are allowed");
        stranger.blurt(make(allowed as u64));
        assert!(!stranger.story.connected_at(0), "one more is not");
    }
}

#[test]
fn of_two_that_ask_each_other_at_once_one_becomes_primary() {
    let mut stranger = Stranger::greeted(Role::Secondary);
    stranger.story.world.command(0, Command::Promote { force: false });
    stranger.say(Message::PromoteAsk);
    assert_eq!(stranger.story.state(0).peer_role, Some(Role::Secondary), "node 0 was first");
    stranger.say(Message::PromoteAnswer { granted: true });
    stranger.story.rest(100);
    assert_eq!(stranger.story.world.operator.last_reply, Some(Ok(())));
    assert_eq!(stranger.story.state(0).role, Role::Primary);

    let mut stranger = Stranger::greeted(Role::Secondary);
    stranger.say(Message::PromoteAsk);
    assert_eq!(stranger.story.state(0).peer_role, Some(Role::Primary), "it agrees");
    stranger.story.world.command(0, Command::Promote { force: false });
    stranger.say(Message::PromoteAnswer { granted: false });
    let reply = stranger.story.world.operator.last_reply;
    assert_eq!(reply, Some(Err(CommandError::PeerIsPrimary)));
}
