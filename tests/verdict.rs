//! Replays `vectors/verdict.txt`: what two nodes say of themselves, and what both must make of it.

use rblk::meta::superblock::{GenerationId, History, NodeId};
use rblk::replica::generation::{Side, Verdict, verdict};
use rblk::wire::message::{DiskState, Role, State};

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
        peer_outdated: false,
        discard_my_data: false,
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
            ("Primary", _) => state.role = Role::Primary,
            ("Diskless", _) => state.disk = DiskState::Diskless,
            ("Inconsistent", _) => state.disk = DiskState::Inconsistent,
            ("Outdated", _) => state.disk = DiskState::Outdated,
            ("UpToDate", _) => state.disk = DiskState::UpToDate,
            ("crashed", _) => state.crashed = true,
            ("survivor", _) => state.survivor = true,
            ("peer-outdated", _) => state.peer_outdated = true,
            ("discard", _) => state.discard_my_data = true,
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
    }
}

fn mirrored(told: &str) -> String {
    match told.split_once(' ') {
        Some(("source", rest)) => format!("target {rest}"),
        Some(("target", rest)) => format!("source {rest}"),
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
