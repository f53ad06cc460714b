//! The rules of the house, as tests: each says where it is broken and why it exists.
//!
//! A rule is a function from all files to complaints. The tests at the top run each rule over the repository;
//! `planted::every_rule_can_fail` runs each over a planted breach: no rule is green because it is blind.

#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, line_of, repository};

/// What each room may name of the others: a room, or a path into it. `bytes`, `limits` and
/// `span` are open to all.
///
/// ```text
///     main ──► cli ──► daemon ──► front ──► io ──► replica::event
///               │        │                  │
///               └► ctl ◄─┴──► replica ──► wire ──► meta
/// ```
const ARROWS: &[(&str, &[&str])] = &[
    ("lib", &[]),
    ("bytes", &[]),
    ("limits", &[]),
    ("span", &[]),
    ("sync", &[]),
    ("error", &[]),
    ("key", &[]),
    ("transport", &[]),
    ("meta", &[]),
    ("wire", &["meta::superblock"]),
    ("replica", &["wire", "meta"]),
    ("config", &["error", "key", "meta", "transport", "wire::policy"]),
    ("import", &["config"]),
    ("io", &["error", "key", "sync", "transport", "wire", "meta", "replica::event"]),
    ("front", &["error", "io", "replica::event", "wire::message"]),
    ("handlers", &["config", "error", "io"]),
    ("salvage", &["error", "io"]),
    ("pair", &["config", "error", "io::tls", "key", "meta"]),
    ("metrics", &["ctl", "error", "io::thread"]),
    (
        "ctl",
        &["config", "error", "io::socket_peer", "io::thread", "meta", "replica", "wire::message"],
    ),
    (
        "daemon",
        &[
            "config",
            "ctl",
            "error",
            "front",
            "handlers",
            "io",
            "key",
            "meta",
            "metrics",
            "replica",
            "salvage",
            "sync",
            "transport",
            "wire",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "ctl",
            "daemon",
            "error",
            "front",
            "handlers",
            "import",
            "io",
            "key",
            "meta",
            "pair",
            "salvage",
            "transport",
        ],
    ),
    ("main", &["cli", "error"]),
];

/// Rooms without I/O, clock, threads, locks, logging or chance: the simulator runs them as they are.
const PURE: [&str; 6] = ["bytes", "limits", "span", "meta", "wire", "replica"];

/// What would make a pure room impure, or differ from run to run.
const IMPURE_WORDS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::os",
    "Instant",
    "SystemTime",
    "tokio",
    "async fn",
    ".await",
    "Mutex",
    "RwLock",
    "Atomic",
    "tracing::",
    "println!",
    "eprintln!",
    "unsafe",
    "getrandom",
    // Their order changes from run to run: a seed would not replay. BTreeMap or a table by index.
    "HashMap",
    "HashSet",
];

const LINE_COLUMNS_MAX: usize = 120;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 800;

type Rule = fn(&[Source]) -> Vec<String>;

fn hold(rule: Rule, reason: &str) {
    let complaints = rule(&repository());
    let list = complaints.join("\n  ");
    assert!(complaints.is_empty(), "{reason}\n  {list}\n");
}

#[test]
fn arrows_between_rooms_go_one_way() {
    hold(
        arrows,
        "A room names only the rooms below it: it can be read, tested and simulated without those above.",
    );
}

#[test]
fn pure_rooms_are_pure() {
    hold(
        purity,
        "The simulator replays a seed only if the core has no I/O, clock, lock, logging or chance.",
    );
}

#[test]
fn threads_are_marked() {
    hold(
        threads,
        "A thread that waits for writeback keeps the reactor waiting: use io::thread::spawn.",
    );
}

#[test]
fn lines_fit_a_window() {
    hold(lines, "Code is read side by side with other code: at most 120 columns.");
}

#[test]
fn functions_fit_a_screen() {
    hold(functions, "A function is seen whole or not understood: at most 70 lines.");
}

#[test]
fn files_have_one_subject() {
    hold(files, "A file with more than 800 lines has more than one subject.");
}

#[test]
fn files_say_what_they_are_for() {
    hold(headers, "A Rust file opens with `//!`: what it promises and what must never happen.");
}

#[test]
fn nothing_unwraps() {
    hold(
        unwraps,
        "What comes from disk, wire or user is hostile: an `unwrap` is a crash on request. `expect` with \
         the invariant says why it cannot happen.",
    );
}

#[test]
fn unsafe_stays_in_its_rooms() {
    hold(unsafe_rooms, "`unsafe` lives in src/io and ublk/, where few read it often.");
}

#[test]
fn nothing_is_left_for_later() {
    hold(left_for_later, "What is in the tree works. What does not yet, is not in the tree.");
}

#[test]
fn no_path_of_one_machine() {
    hold(machine_paths, "A path of one machine breaks on every other.");
}

#[test]
fn every_dependency_has_its_reason() {
    hold(
        dependencies,
        "Each dependency is a promise to maintain: docs/dependencies.md says what for, and why it.",
    );
}

fn arrows(all: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in all.iter().filter(|source| source.is_rust()) {
        let Some(room) = source.room() else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            complaints.push(source.at(0, &format!("room `{room}` has no line in ARROWS")));
            continue;
        };
        let code = source.code();
        for (offset, path) in crate_paths(&code, room == "main") {
            let target = path.split("::").next().unwrap_or_default();
            let open = ["bytes", "limits", "span", room].contains(&target) || target.is_empty();
            let named = allowed
                .iter()
                .any(|arrow| path == *arrow || path.starts_with(&format!("{arrow}::")));
            let line = line_of(&code, offset);
            let test_only = source.lines[line].test;
            if !(open || named || test_only || room == "lib") {
                complaints.push(source.at(line, &format!("`{room}` must not name `{path}`")));
            }
        }
        let root = if source.path.ends_with("/mod.rs") { "super::" } else { "super::super::" };
        for (index, line) in source.lines.iter().enumerate() {
            if line.code.contains(root) && !line.test && source.path.matches('/').count() == 2 {
                complaints.push(source.at(index, "leaves its room by `super`: write `crate::`"));
            }
            if line.code.contains("rblk_ublk") && !["front", "io"].contains(&room) {
                complaints.push(source.at(index, "the ublk crate is for src/front and src/io"));
            }
        }
    }
    complaints
}

/// All paths that start at the root of the crate, groups taken apart, as `room::part` with their place.
fn crate_paths(code: &str, in_main: bool) -> Vec<(usize, String)> {
    let root = if in_main { "rblk::" } else { "crate::" };
    let mut found = Vec::new();
    for (offset, _) in code.match_indices(root) {
        let before = code[..offset].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let mut rest = &code[offset + root.len()..];
        let mut paths = Vec::new();
        path_tree("", &mut rest, &mut paths);
        found.extend(paths.into_iter().map(|path| (offset, path)));
    }
    found
}

/// Reads one tree of a `use` or one path: `a::b`, `a::{b, c::d}`, `{a, b}`.
fn path_tree(prefix: &str, rest: &mut &str, found: &mut Vec<String>) {
    *rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('{') {
        *rest = inner;
        while !rest.trim_start().starts_with('}') && !rest.trim().is_empty() {
            let before = rest.len();
            path_tree(prefix, rest, found);
            let skipped = rest.find([',', '}']).unwrap_or(rest.len());
            *rest = &rest[skipped..];
            *rest = rest.strip_prefix(',').unwrap_or(rest);
            assert!(rest.len() < before || rest.starts_with('}'), "no progress");
        }
        *rest = rest.trim_start();
        *rest = rest.strip_prefix('}').unwrap_or(rest);
        return;
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let path = match prefix {
        "" => rest[..end].to_owned(),
        _ => format!("{prefix}::{}", &rest[..end]),
    };
    *rest = &rest[end..];
    match rest.strip_prefix("::") {
        Some(deeper) => {
            *rest = deeper;
            path_tree(&path, rest, found);
        }
        None => found.push(path.trim_end_matches("::self").to_owned()),
    }
}

fn purity(all: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in all.iter().filter(|source| source.is_rust()) {
        if !source.room().is_some_and(|room| PURE.contains(&room)) {
            continue;
        }
        for (index, line) in source.lines.iter().enumerate().filter(|(_, line)| !line.test) {
            for word in IMPURE_WORDS.iter().filter(|word| has_word(&line.code, word)) {
                complaints.push(source.at(index, &format!("`{word}` in a pure room")));
            }
            let own = |name: &str| source.lines.iter().any(|line| declares(&line.code, name));
            if let Some(name) = foreign_crate(&line.code).filter(|name| !own(name)) {
                complaints.push(source.at(index, &format!("crate `{name}` in a pure room")));
            }
        }
    }
    complaints
}

/// The crate that a `use` line brings in, unless it is the language's or the one checksum.
fn foreign_crate(code: &str) -> Option<&str> {
    const OWN: [&str; 6] = ["crate", "self", "super", "std", "core", "crc32c"];
    let path = code.trim_start().strip_prefix("use ")?.trim_start_matches("::");
    let (first, _) = path.split_once("::")?;
    // A path may also start at something this file has in scope already: those are written in capitals.
    let is_crate = first.chars().next().is_some_and(char::is_lowercase);
    (is_crate && !OWN.contains(&first)).then_some(first)
}

/// True for `mod NAME`, with whatever visibility.
fn declares(code: &str, name: &str) -> bool {
    code.trim_end_matches([';', '{', ' ']).ends_with(&format!("mod {name}"))
}

/// `word` in `code`, not as a part of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let starts = !word.starts_with(part) || !before.is_some_and(part);
        // `Atomic` stands for the whole family.
        let ends = word == "Atomic" || !word.ends_with(part) || !after.is_some_and(part);
        starts && ends
    })
}

fn lines(all: &[Source]) -> Vec<String> {
    // Prose, and pictures that a program has drawn.
    let prose = [".md", ".toml", ".txt", ".svg"];
    let code = |source: &&Source| !prose.iter().any(|end| source.path.ends_with(end));
    let mut complaints = Vec::new();
    for source in all.iter().filter(code) {
        for (index, line) in source.lines.iter().enumerate() {
            let columns = line.text.chars().count();
            if columns > LINE_COLUMNS_MAX {
                complaints.push(source.at(index, &format!("{columns} columns")));
            }
        }
    }
    complaints
}

fn functions(all: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in all.iter().filter(|source| source.is_rust()) {
        let code = source.code();
        for (offset, _) in code.match_indices("fn ") {
            let before = code[..offset].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let first = line_of(&code, offset);
            let length = function_lines(&code[offset..]);
            if length > FUNCTION_LINES_MAX {
                complaints.push(source.at(first, &format!("a function of {length} lines")));
            }
        }
    }
    complaints
}

/// Lines from the signature to the closing brace; 1 for a function without body.
fn function_lines(code: &str) -> usize {
    let (mut depth, mut brackets) = (0_i32, 0_i32);
    for (at, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '}' => depth -= 1,
            ';' if depth == 0 && brackets == 0 => return 1,
            _ => continue,
        }
        if character == '}' && depth <= 0 {
            return line_of(code, at) + 1;
        }
    }
    1
}

fn files(all: &[Source]) -> Vec<String> {
    let code = |source: &&Source| source.is_rust() || source.path.ends_with(".py");
    all.iter()
        .filter(code)
        .filter(|source| source.lines.len() > FILE_LINES_MAX)
        .map(|source| source.at(source.lines.len() - 1, "a file of more than 800 lines"))
        .collect()
}

fn headers(all: &[Source]) -> Vec<String> {
    all.iter()
        .filter(|source| source.is_rust())
        .filter(|source| !source.lines.first().is_some_and(|line| line.text.starts_with("//! ")))
        .map(|source| source.at(0, "no `//!` header"))
        .collect()
}

fn unwraps(all: &[Source]) -> Vec<String> {
    words_outside_tests(all, &[".unwrap()", ".unwrap_err()"], |_| true)
}

fn threads(all: &[Source]) -> Vec<String> {
    let place = |path: &str| {
        path.starts_with("src/") && path != "src/io/thread.rs" && !path.starts_with("src/cli/")
    };
    words_outside_tests(all, &["thread::Builder", "std::thread::spawn"], place)
}

fn unsafe_rooms(all: &[Source]) -> Vec<String> {
    let elsewhere = |path: &str| !path.starts_with("src/io/") && !path.starts_with("ublk/");
    words_outside_tests(all, &["unsafe"], elsewhere)
}

fn words_outside_tests(all: &[Source], words: &[&str], place: fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in all.iter().filter(|source| source.is_rust() && place(&source.path)) {
        for (index, line) in source.lines.iter().enumerate().filter(|(_, line)| !line.test) {
            for word in words.iter().filter(|word| has_word(&line.code, word)) {
                complaints.push(source.at(index, &format!("`{word}`")));
            }
        }
    }
    complaints
}

fn left_for_later(all: &[Source]) -> Vec<String> {
    // Put together here, so that this file keeps its own rule.
    let in_code = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!")];
    let anywhere = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut complaints = Vec::new();
    for source in all {
        for (index, line) in source.lines.iter().enumerate() {
            let code = in_code.iter().filter(|word| has_word(&line.code, word));
            let text = anywhere.iter().filter(|word| has_word(&line.text, word));
            complaints.extend(code.chain(text).map(|word| source.at(index, word)));
        }
    }
    complaints
}

fn machine_paths(all: &[Source]) -> Vec<String> {
    let paths = [
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/tmp/", "wt/"),
        concat!("/ro", "ot/"),
    ];
    let mut complaints = Vec::new();
    for source in all {
        for (index, line) in source.lines.iter().enumerate() {
            let starts_here = |path: &&&str| {
                line.text.match_indices(**path).any(|(at, _)| {
                    let before = line.text[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-}".contains(c))
                })
            };
            complaints.extend(paths.iter().filter(starts_here).map(|path| source.at(index, path)));
        }
    }
    complaints
}

fn dependencies(all: &[Source]) -> Vec<String> {
    let reasons = all.iter().find(|source| source.path == "docs/dependencies.md");
    let explained = |name: &str| {
        let row = format!("| `{name}` |");
        reasons.is_some_and(|page| page.lines.iter().any(|line| line.text.starts_with(&row)))
    };
    let mut complaints = Vec::new();
    for manifest in all.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let mut section = "";
        for (index, line) in manifest.lines.iter().enumerate() {
            let text = line.text.trim();
            if text.starts_with('[') {
                section = text.trim_matches(['[', ']']);
                continue;
            }
            let name = text.split(['=', '.', ' ']).next().unwrap_or_default();
            let in_table = section.ends_with("dependencies");
            let own = name.starts_with("rblk") || text.contains("path =");
            let entry =
                !name.is_empty() && !name.starts_with('#') && !"{}[],\"".contains(&name[..1]);
            if in_table && entry && !own && !explained(name) {
                complaints.push(manifest.at(index, &format!("`{name}` has no row there")));
            }
        }
    }
    complaints
}
