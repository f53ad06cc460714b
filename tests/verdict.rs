//! Replays `vectors/verdict.txt`: what two nodes say of themselves, and what both must make of it; and
//! `vectors/split_brain.txt`: whose changes are lost, by policy.

use rblk::meta::superblock::{GenerationId, History, NodeId};
use rblk::replica::generation::{Side, Verdict, verdict};
use rblk::replica::split_brain::{Decision, Party, decide};
use rblk::wire::message::{DiskState, Role, State};
use rblk::wire::policy::{After0pri, After1pri, After2pri, Policies, RrConflict};
use std::collections::BTreeMap;

/// A case of the file.
#[derive(Default)]
struct Case {
    title: String,
    nodes: Vec<State>,
    expected: String,
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn generation(text: &str) -> GenerationId {
    GenerationId(number(text).into())
}

fn choice<T: Copy>(all: &[T], word: fn(T) -> &'static str, wanted: &str) -> T {
    let found = all.iter().find(|value| word(**value) == wanted);
    *found.unwrap_or_else(|| panic!("{wanted} is no policy"))
}

fn state(text: &str) -> State {
    let mut state = State {
        current: None,
        base: None,
        history: History::default(),
        disk: DiskState::Consistent,
        role: Role::Secondary,
        dirty_blocks: 0,
        crashed: false,
        survivor: false,
        kept: false,
        peer_outdated: false,
        discard_my_data: false,
        parted_primary: false,
        policies: Policies::default(),
        mark: 5,
        peer_mark: 5,
    };
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("cur", id) => state.current = Some(generation(id)),
            ("base", id) => state.base = Some(generation(id)),
            // Newest first, as they are told.
            ("past", ids) => {
                ids.rsplit(',').for_each(|id| state.history.push(generation(id)));
            }
            ("bits", count) => state.dirty_blocks = number(count),
            ("mark", mark) => state.mark = number(mark),
            ("peer-mark", mark) => state.peer_mark = number(mark),
            ("dual", _) => state.policies.dual_primary = true,
            ("Primary", _) => state.role = Role::Primary,
            ("Diskless", _) => state.disk = DiskState::Diskless,
            ("Inconsistent", _) => state.disk = DiskState::Inconsistent,
            ("Outdated", _) => state.disk = DiskState::Outdated,
            ("UpToDate", _) => state.disk = DiskState::UpToDate,
            ("crashed", _) => state.crashed = true,
            ("survivor", _) => state.survivor = true,
            ("kept", _) => state.kept = true,
            ("peer-outdated", _) => state.peer_outdated = true,
            ("discard", _) => state.discard_my_data = true,
            ("parted-primary", _) => state.parted_primary = true,
            ("after-0pri", word) => {
                state.policies.after_0pri = choice(After0pri::ALL, After0pri::word, word);
            }
            ("after-1pri", word) => {
                state.policies.after_1pri = choice(After1pri::ALL, After1pri::word, word);
            }
            ("after-2pri", word) => {
                state.policies.after_2pri = choice(After2pri::ALL, After2pri::word, word);
            }
            ("rr-conflict", word) => {
                state.policies.rr_conflict = choice(RrConflict::ALL, RrConflict::word, word);
            }
            _ => panic!("{word} is no word"),
        }
    }
    state
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let text = include_str!("vectors/verdict.txt");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if !line.starts_with(' ') {
            cases.push(Case { title: line.to_owned(), ..Case::default() });
            continue;
        }
        let case = cases.last_mut().expect("a name before anything else");
        match line.trim().split_at(1) {
            ("=", verdict) => case.expected = verdict.trim().to_owned(),
            (number, words) => {
                assert_eq!(number, case.nodes.len().to_string(), "{}", case.title);
                case.nodes.push(state(words));
            }
        }
    }
    cases
}

fn told(found: Verdict) -> String {
    let direction = |way: &str, full: Option<_>| match full {
        Some(why) => format!("{way} full {why:?}"),
        None => format!("{way} bitmap"),
    };
    match found {
        Verdict::Equal => "equal".to_owned(),
        Verdict::Fresh => "fresh".to_owned(),
        Verdict::OneDisk => "one disk".to_owned(),
        Verdict::Source { full } => direction("source", full),
        Verdict::Target { full } => direction("target", full),
        Verdict::Refuse(reason) => format!("refuse {reason:?}"),
        Verdict::StepDown { me, void } => {
            let who = if me { "this node" } else { "the peer" };
            format!("{who} steps down{}", if void { ", void" } else { "" })
        }
    }
}

fn mirrored(told: &str) -> String {
    match told.split_once(' ') {
        Some(("source", rest)) => format!("target {rest}"),
        Some(("target", rest)) => format!("source {rest}"),
        Some(("this", rest)) => format!("the {}", rest.replace("node", "peer")),
        Some(("the", rest)) => format!("this {}", rest.replace("peer", "node")),
        _ => told.to_owned(),
    }
}

#[test]
fn both_nodes_decide_as_the_vectors_say() {
    let cases = cases();
    let mut failures = Vec::new();
    for case in &cases {
        let [one, two] = [&case.nodes[0], &case.nodes[1]];
        let side = |node, state| Side { node: NodeId(node), state };
        let found = told(verdict(side(0, one), side(1, two)));
        let seen_by_peer = told(verdict(side(1, two), side(0, one)));
        if found != case.expected || seen_by_peer != mirrored(&case.expected) {
            failures.push(format!(
                "{}\n  expected {}\n  node 0   {found}\n  node 1   {seen_by_peer}",
                case.title, case.expected
            ));
        }
    }
    assert!(failures.is_empty(), "{} cases differ\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn no_case_is_missing() {
    let titles: Vec<String> = cases().into_iter().map(|case| case.title).collect();
    for number in 1..=32 {
        let name = format!("G{number:02} ");
        assert!(titles.iter().any(|title| title.starts_with(&name)), "{name}is not there");
    }
}

/// The number of blocks that each node has changed, by column.
const CHANGES: [[u64; 2]; 6] = [[0, 0], [0, 5], [5, 0], [5, 7], [7, 5], [5, 5]];
/// Who was Primary when the two parted.
const PARTED: [&str; 4] = ["ss", "sP", "Ps", "PP"];

fn name_0pri(policy: After0pri) -> String {
    match policy {
        After0pri::DiscardFirstNode => "discard-node-0".to_owned(),
        After0pri::DiscardSecondNode => "discard-node-1".to_owned(),
        _ => policy.word().to_owned(),
    }
}

/// By the number of Primaries, the policy and the third column.
type Table = BTreeMap<(String, String, String), Vec<String>>;

fn table() -> Table {
    let text = include_str!("vectors/split_brain.txt");
    let mut table = Table::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let [primaries, policy, third, cells @ ..] = &words[..] else { panic!("{line}") };
        let key = (primaries.clone(), policy.clone(), third.clone());
        assert!(table.insert(key, cells.to_vec()).is_none(), "twice: {line}");
    }
    table
}

fn cell(decision: Decision) -> String {
    match decision {
        Decision::Nobody => "-".to_owned(),
        Decision::Discard(node) => node.to_string(),
        Decision::StepDown(node) => format!("{node}!"),
    }
}

/// Every combination of policies, changes, roles then and roles now, against the table.
#[test]
fn every_split_brain_ends_as_the_table_says() {
    let table = table();
    let row = |primaries: &str, policy: &str, third: &str| {
        let key = (primaries.to_owned(), policy.to_owned(), third.to_owned());
        table.get(&key).unwrap_or_else(|| panic!("no row {key:?}")).clone()
    };
    let mut looked = 0;
    for after_0pri in After0pri::ALL.iter().copied() {
        for (parted, column) in PARTED.iter().flat_map(|parted| (0..6).map(move |at| (parted, at)))
        {
            let without = row("0", &name_0pri(after_0pri), parted)[column].clone();
            let by_0pri = ["-", "0", "1"].iter().position(|word| *word == without).expect("a word");
            let mut check = |primary: [bool; 2], policies: Policies, expected: &str| {
                let party = |node: usize| Party {
                    primary: primary[node],
                    parted_primary: parted.as_bytes()[node] == b'P',
                    changes: CHANGES[column][node],
                };
                let found = cell(decide(&policies, [party(0), party(1)]));
                let of = format!("{policies:?}, parted {parted}, {:?}", CHANGES[column]);
                assert_eq!(found, expected, "{of}, Primary {primary:?}");
                looked += 1;
            };
            let base = Policies { after_0pri, ..Policies::default() };
            check([false, false], base, &without);
            for after_1pri in After1pri::ALL.iter().copied() {
                for node in [0, 1] {
                    let expected = &row("1", after_1pri.word(), &node.to_string())[by_0pri];
                    check([node == 0, node == 1], Policies { after_1pri, ..base }, expected);
                }
            }
            for after_2pri in After2pri::ALL.iter().copied() {
                let expected = &row("2", after_2pri.word(), "01")[by_0pri];
                check([true, true], Policies { after_2pri, ..base }, expected);
            }
        }
    }
    assert_eq!(looked, 7 * 4 * 6 * (1 + 5 * 2 + 3));
}
