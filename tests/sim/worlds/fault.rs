//! One fault: what goes wrong, and at which of its kind. Its name is what a failure prints and a replay takes.

use crate::rng::Fate;

/// A fault and its number: the Nth event, operation or message, counted from where the script begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
}

/// Which nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Node(usize),
    Both,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The daemon is killed before this event.
    Kill(Who),
    /// The power goes before this event; the fate says what of the unflushed survives.
    Power(Who, Fate),
    /// This read or write of data fails at a node.
    Data(usize),
    /// This read or write of data never ends.
    Hang(usize),
    /// This read or write of data, and whatever begins within the next seconds, ends after them: perhaps too late.
    Stall(usize),
    /// This flush fails.
    Flush(usize),
    /// This write of metadata fails; the fate says what of it lands.
    Meta(usize, Fate),
    /// The connection ends with this message on its way to a node; with `delivered` the node still gets it.
    Cut { to: usize, delivered: bool },
    /// From this message on nothing reaches the node, and nobody is told.
    Deaf(usize),
}

/// What a script did, by kind: how far each fault's number goes.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) data: [u64; 2],
    pub(crate) flush: [u64; 2],
    pub(crate) meta: [u64; 2],
    pub(crate) heard: [u64; 2],
}

const ZERO: Who = Who::Node(0);
const ONE: Who = Who::Node(1);

/// All kinds by name. The first power cut of each node stands for the others where they have nothing to decide.
pub(crate) const KINDS: &[(&str, Kind)] = &[
    ("kill-0", Kind::Kill(ZERO)),
    ("kill-1", Kind::Kill(ONE)),
    ("kill-both", Kind::Kill(Who::Both)),
    ("power-0-none", Kind::Power(ZERO, Fate::Never)),
    ("power-0-all", Kind::Power(ZERO, Fate::Always)),
    ("power-0-some", Kind::Power(ZERO, Fate::InTurn)),
    ("power-0-a", Kind::Power(ZERO, Fate::Chance(1))),
    ("power-0-b", Kind::Power(ZERO, Fate::Chance(2))),
    ("power-1-none", Kind::Power(ONE, Fate::Never)),
    ("power-1-all", Kind::Power(ONE, Fate::Always)),
    ("power-1-some", Kind::Power(ONE, Fate::InTurn)),
    ("power-1-a", Kind::Power(ONE, Fate::Chance(1))),
    ("power-1-b", Kind::Power(ONE, Fate::Chance(2))),
    ("power-both-none", Kind::Power(Who::Both, Fate::Never)),
    ("power-both-all", Kind::Power(Who::Both, Fate::Always)),
    ("power-both-some", Kind::Power(Who::Both, Fate::InTurn)),
    ("power-both-a", Kind::Power(Who::Both, Fate::Chance(1))),
    ("power-both-b", Kind::Power(Who::Both, Fate::Chance(2))),
    ("data-0", Kind::Data(0)),
    ("data-1", Kind::Data(1)),
    ("hang-0", Kind::Hang(0)),
    ("hang-1", Kind::Hang(1)),
    ("stall-0", Kind::Stall(0)),
    ("stall-1", Kind::Stall(1)),
    ("flush-0", Kind::Flush(0)),
    ("flush-1", Kind::Flush(1)),
    ("meta-0-old", Kind::Meta(0, Fate::Never)),
    ("meta-0-new", Kind::Meta(0, Fate::Always)),
    ("meta-0-torn", Kind::Meta(0, Fate::InTurn)),
    ("meta-1-old", Kind::Meta(1, Fate::Never)),
    ("meta-1-new", Kind::Meta(1, Fate::Always)),
    ("meta-1-torn", Kind::Meta(1, Fate::InTurn)),
    ("cut-before-0", Kind::Cut { to: 0, delivered: false }),
    ("cut-after-0", Kind::Cut { to: 0, delivered: true }),
    ("cut-before-1", Kind::Cut { to: 1, delivered: false }),
    ("cut-after-1", Kind::Cut { to: 1, delivered: true }),
    ("deaf-0", Kind::Deaf(0)),
    ("deaf-1", Kind::Deaf(1)),
];

impl Kind {
    /// How many of these a script with `counts` has.
    pub(crate) fn many(self, counts: &Counts) -> u64 {
        match self {
            Kind::Kill(_) | Kind::Power(..) => counts.events,
            Kind::Data(node) | Kind::Hang(node) | Kind::Stall(node) => counts.data[node],
            Kind::Flush(node) => counts.flush[node],
            Kind::Meta(node, _) => counts.meta[node],
            Kind::Cut { to, .. } | Kind::Deaf(to) => counts.heard[to],
        }
    }

    /// It ends the script: the world goes straight to its end.
    pub(crate) fn is_crash(self) -> bool {
        matches!(self, Kind::Kill(_) | Kind::Power(..))
    }
}

impl Who {
    pub(crate) fn nodes(self) -> &'static [usize] {
        match self {
            Who::Node(0) => &[0],
            Who::Node(_) => &[1],
            Who::Both => &[0, 1],
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = KINDS.iter().find(|(_, kind)| *kind == self.kind);
        let (name, _) = named.expect("every kind has a name");
        write!(f, "{name}@{}", self.number)
    }
}

impl std::str::FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let (name, number) = text.split_once('@').ok_or("a fault is NAME@NUMBER")?;
        let kind = KINDS.iter().find(|(known, _)| *known == name);
        let (_, kind) = kind.ok_or_else(|| format!("no fault is called {name:?}"))?;
        let number = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
        Ok(Fault { kind: *kind, number })
    }
}
