//! Which input met which state of a node: counted in every run, and compared with `coverage.txt`, which says why the
//! other pairs do not occur or need not.
//!
//! A state is (role, own disk, link); an input is what the core hears, by kind. Messages of a connection that the node
//! has done with are one kind, `late`. A rule of the file:
//!
//! ```text
//!   never  Primary  Outdated|Consistent  *         *
//!       no Primary's disk is merely Outdated or Consistent
//!   rare   *        *                    Greeting  Invalidate
//!       the operator waits until the nodes have met
//! ```
//!
//! `*` is everything, `A|B` either, `!A|B` neither; a group (`request`, `command`, `talk`, ...) stands for its members.
//! A pair that is `never` and occurs shows that the rule is wrong; one that is `rare` may occur.

use crate::node::Fact;
use rblk::replica::event::{Command, DiskResult, FrontOp};
use rblk::replica::{Connection, Replica, Replication};
use rblk::wire::message::{DiskState, Message, Role};

const ROLES: [&str; 2] = ["Secondary", "Primary"];
const DISKS: [&str; 5] = ["Diskless", "Inconsistent", "Outdated", "Consistent", "UpToDate"];
const LINKS: [&str; 6] =
    ["StandAlone", "Connecting", "Greeting", "Established", "SyncSource", "SyncTarget"];

/// Inputs by group.
const GROUPS: [(&str, &[&str]); 11] = [
    ("request", &["Read", "Write", "Zero", "Flush"]),
    ("disk", &["DiskDone", "DiskFails", "MetaDone", "MetaFails"]),
    ("verify", &["Verify", "StopVerify", "Repair", "Digests"]),
    ("resize", &["Resize"]),
    ("world", &["Connected", "Disconnected", "Timeout", "DeviceStops", "late"]),
    (
        "command",
        &[
            "Promote",
            "Force",
            "Demote",
            "Detach",
            "Disconnect",
            "Connect",
            "Discard",
            "Invalidate",
            "InvalidatePeer",
        ],
    ),
    (
        "greeting",
        &[
            "Hello",
            "State",
            "Refuse",
            "BitmapPage",
            "BitmapFull",
            "BitmapAck",
            "BitmapEnd",
            "Ready",
        ],
    ),
    ("resync", &["ResyncData", "ResyncZero", "ResyncAck", "ResyncEnd", "ResyncEndAck"]),
    (
        "talk",
        &[
            "PeerWrite",
            "PeerZero",
            "WriteAck",
            "PeerFlush",
            "FlushAck",
            "PeerRead",
            "ReadReply",
            "DigestAsk",
            "DigestReply",
            "PromoteAsk",
            "PromoteAnswer",
            "RoleIs",
            "DiskFailed",
            "DiskFailedAck",
            "Bye",
            "Mark",
        ],
    ),
    ("pulse", &["Ping", "Pong"]),
    ("outside", &["Consent", "Fenced"]),
];

const STATES: usize = ROLES.len() * DISKS.len() * LINKS.len();
/// Runs of at least so many seeds must cover every pair that is not excused.
const CHECKED_FROM: u64 = 10_000;
const RULES: &str = include_str!("coverage.txt");

/// The pairs that occurred: a word for each state, a bit for each input.
#[derive(Clone)]
pub(crate) struct Coverage([u64; STATES]);

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage([0; STATES])
    }
}

fn inputs() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|(_, members)| members.iter().copied())
}

/// The number of an input's name.
fn number(name: &str) -> u32 {
    let found = inputs().position(|input| input == name);
    found.unwrap_or_else(|| panic!("{name} is no input")) as u32
}

impl Coverage {
    /// A node is about to hear of something.
    pub(crate) fn count(&mut self, replica: &Replica, input: u8) {
        self.0[state_of(replica)] |= 1 << input;
    }

    pub(crate) fn add(&mut self, other: &Coverage) {
        for (all, more) in self.0.iter_mut().zip(&other.0) {
            *all |= more;
        }
    }

    /// Prints what was covered. False if the rules are wrong, or if a long run has not covered what they do not excuse.
    pub(crate) fn report(&self, seeds: u64) -> bool {
        let found = self.judge(&parse(RULES));
        println!(
            "{} of {} pairs of state and input covered, {} excused, {} not covered",
            found.covered,
            STATES * inputs().count(),
            found.excused,
            found.missing.len()
        );
        let told = seeds >= CHECKED_FROM || std::env::var_os("RBLK_SIM_PAIRS").is_some();
        if told {
            found.missing.iter().for_each(|pair| println!("  not covered: {pair}"));
            found.idle.iter().for_each(|rule| println!("  excuses nothing: {rule}"));
        }
        found.wrong.iter().for_each(|pair| println!("  said never to occur: {pair}"));
        found.wrong.is_empty() && (found.missing.is_empty() || seeds < CHECKED_FROM)
    }

    fn judge(&self, rules: &[Rule]) -> Judgement {
        let mut found = Judgement::default();
        let mut used = vec![false; rules.len()];
        for (state, word) in self.0.iter().enumerate() {
            for (at, input) in inputs().enumerate() {
                let pair = Pair::new(state, input);
                let rule = rules.iter().position(|rule| rule.fits(&pair));
                let covered = word >> at & 1 == 1;
                found.covered += usize::from(covered);
                if let Some(rule) = rule {
                    used[rule] |= !covered;
                }
                match rule.map(|rule| &rules[rule]) {
                    Some(rule) if covered && rule.never => {
                        found.wrong.push(format!("{pair}, by: {}", rule.text));
                    }
                    Some(_) if !covered => found.excused += 1,
                    None if !covered => found.missing.push(pair.to_string()),
                    _ => {}
                }
            }
        }
        let idle = rules.iter().zip(used).filter(|(_, used)| !used);
        found.idle = idle.map(|(rule, _)| rule.text.clone()).collect();
        found
    }
}

#[derive(Default)]
struct Judgement {
    covered: usize,
    excused: usize,
    missing: Vec<String>,
    wrong: Vec<String>,
    idle: Vec<String>,
}

/// A state and an input by name.
struct Pair([&'static str; 4]);

impl Pair {
    fn new(state: usize, input: &'static str) -> Pair {
        let (rest, link) = (state / LINKS.len(), state % LINKS.len());
        Pair([ROLES[rest / DISKS.len()], DISKS[rest % DISKS.len()], LINKS[link], input])
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

struct Rule {
    never: bool,
    fields: [String; 4],
    text: String,
}

impl Rule {
    fn fits(&self, pair: &Pair) -> bool {
        self.fields.iter().zip(pair.0).all(|(field, name)| {
            let (wanted, names) = match field.strip_prefix('!') {
                Some(names) => (false, names),
                None => (true, field.as_str()),
            };
            let means = |one: &str| {
                let group = GROUPS.iter().find(|(group, _)| *group == one);
                one == "*" || one == name || group.is_some_and(|(_, all)| all.contains(&name))
            };
            names.split('|').any(means) == wanted
        })
    }
}

fn parse(text: &str) -> Vec<Rule> {
    let text = text.replace("\n ", " "); // the reason
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rule = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words.len() > 6, "a rule is: never|rare ROLE DISK LINK INPUT REASON: {line}");
        let never = words[0] == "never";
        assert!(never || words[0] == "rare", "a pair is never there, or rare: {line}");
        let known = |name: &&str| {
            let all = ROLES.iter().chain(&DISKS).chain(&LINKS).copied().chain(inputs());
            all.chain(GROUPS.iter().map(|(group, _)| *group)).any(|one| one == *name)
        };
        for field in &words[1..5] {
            let names = field.trim_start_matches('!').split('|');
            let odd = names.filter(|name| *name != "*").find(|name| !known(name));
            assert!(odd.is_none(), "{odd:?} is nothing: {line}");
        }
        let fields = [1, 2, 3, 4].map(|at| words[at].to_string());
        Rule { never, fields, text: words.join(" ") }
    };
    lines.map(rule).collect()
}

fn state_of(replica: &Replica) -> usize {
    let role = usize::from(replica.role() == Role::Primary);
    let disk = match replica.disk() {
        DiskState::Diskless | DiskState::Failed => 0,
        DiskState::Inconsistent => 1,
        DiskState::Outdated => 2,
        DiskState::Consistent => 3,
        DiskState::UpToDate => 4,
    };
    let link = match (replica.connection(), replica.replication()) {
        (Connection::StandAlone, _) => 0,
        (Connection::Connecting, _) => 1,
        (Connection::Greeting, _) => 2,
        (Connection::Connected, Replication::SyncSource) => 4,
        (Connection::Connected, Replication::SyncTarget) => 5,
        (Connection::Connected, _) => 3,
    };
    (role * DISKS.len() + disk) * LINKS.len() + link
}

/// The number of an input; `open` is the connection that the node has.
pub(crate) fn input_of(fact: &Fact, open: Option<u64>) -> u8 {
    let name = match fact {
        Fact::Request { op, .. } => match op {
            FrontOp::Read { .. } => "Read",
            FrontOp::Write { .. } => "Write",
            FrontOp::Zero { .. } => "Zero",
            FrontOp::Flush => "Flush",
        },
        Fact::DiskDone { result: DiskResult::Failed, .. } => "DiskFails",
        Fact::DiskDone { .. } => "DiskDone",
        Fact::Digests { .. } => "Digests",
        Fact::MetaDone { ok: true, .. } => "MetaDone",
        Fact::MetaDone { .. } => "MetaFails",
        Fact::Connected { .. } => "Connected",
        Fact::Disconnected { .. } => "Disconnected",
        Fact::Consent { .. } => "Consent",
        Fact::Fenced { .. } => "Fenced",
        Fact::Timeout => "Timeout",
        Fact::DeviceStops => "DeviceStops",
        Fact::Command { command, .. } => command_name(*command),
        Fact::Received { conn, .. } if open != Some(*conn) => "late",
        Fact::Received { message, .. } => message_name(message),
    };
    number(name) as u8
}

fn command_name(command: Command) -> &'static str {
    match command {
        Command::Promote { force: false } => "Promote",
        Command::Promote { force: true } => "Force",
        Command::Demote => "Demote",
        Command::Detach => "Detach",
        Command::Disconnect => "Disconnect",
        Command::Connect { discard_my_data: false } => "Connect",
        Command::Connect { discard_my_data: true } => "Discard",
        Command::Invalidate { peer: false } => "Invalidate",
        Command::Invalidate { peer: true } => "InvalidatePeer",
        Command::Verify => "Verify",
        Command::StopVerify => "StopVerify",
        Command::Repair => "Repair",
        Command::Resize => "Resize",
    }
}

fn message_name(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "Hello",
        Message::State(_) => "State",
        Message::Refuse(_) => "Refuse",
        Message::BitmapPage { .. } => "BitmapPage",
        Message::BitmapFull { .. } => "BitmapFull",
        Message::BitmapAck => "BitmapAck",
        Message::BitmapEnd => "BitmapEnd",
        Message::Ready => "Ready",
        Message::Write { .. } => "PeerWrite",
        Message::WriteZero { .. } => "PeerZero",
        Message::WriteAck { .. } => "WriteAck",
        Message::Flush { .. } => "PeerFlush",
        Message::FlushAck { .. } => "FlushAck",
        Message::Read { .. } => "PeerRead",
        Message::ReadReply { .. } => "ReadReply",
        Message::DigestAsk { .. } => "DigestAsk",
        Message::DigestReply { .. } => "DigestReply",
        Message::ResyncData { .. } => "ResyncData",
        Message::ResyncZero { .. } => "ResyncZero",
        Message::ResyncAck { .. } => "ResyncAck",
        Message::ResyncEnd { .. } => "ResyncEnd",
        Message::ResyncEndAck => "ResyncEndAck",
        Message::PromoteAsk => "PromoteAsk",
        Message::PromoteAnswer { .. } => "PromoteAnswer",
        Message::RoleIs { .. } => "RoleIs",
        Message::DiskFailed => "DiskFailed",
        Message::DiskFailedAck { .. } => "DiskFailedAck",
        Message::Bye { .. } => "Bye",
        Message::Mark { .. } => "Mark",
        Message::Ping => "Ping",
        Message::Pong => "Pong",
    }
}

/// A rule that is wrong, a pair that is missing and a rule that excuses nothing are all found.
#[test]
fn the_rules_are_judged() {
    let mut coverage = Coverage::default();
    let rules = parse("never Primary * * * a planted reason\nrare * * !Greeting * another one");
    let first = STATES / 2;
    let found = coverage.judge(&rules);
    let pairs = inputs().count();
    assert_eq!((found.covered, found.missing.len()), (0, DISKS.len() * pairs));
    assert!(found.wrong.is_empty() && found.idle.is_empty());
    coverage.0.fill(u64::MAX >> (64 - pairs));
    let found = coverage.judge(&rules);
    assert_eq!(
        (found.covered, found.wrong.len(), found.idle.len()),
        (STATES * pairs, first * pairs, 2)
    );
    parse(RULES);
}
