//! Breaches of each rule, planted: a rule that finds nothing here is blind.

use super::*;
use crate::source::Source;

/// A rule, a file that breaks it and what the complaint must contain.
const PLANTED: &[(Rule, &str, &str, &str)] = &[
    (arrows, "src/meta/a.rs", "use crate::io::ring::Ring;", "io::ring"),
    (
        arrows,
        "src/wire/a.rs",
        "use crate::{limits::X,\n meta::{layout, superblock}};",
        "meta::layout",
    ),
    (arrows, "src/io/a.rs", "fn f() { crate::replica::Replica::new() }", "replica::Replica"),
    (arrows, "src/io/a.rs", "use crate::replica;", "`replica`"),
    (arrows, "src/daemon/a.rs", "use crate::cli::attach;", "cli::attach"),
    (arrows, "src/replica/a.rs", "use super::super::io;", "super"),
    (arrows, "src/cli/a.rs", "use rblk_ublk::Device;", "ublk crate"),
    (arrows, "src/cellar/a.rs", "", "no line in ARROWS"),
    (purity, "src/replica/a.rs", "use std::time::Instant;", "Instant"),
    (purity, "src/meta/a.rs", "let m: HashMap<u8, u8>;", "HashMap"),
    (purity, "src/wire/a.rs", "use rand::thread_rng;", "rand"),
    (purity, "src/span.rs", "static N: AtomicU64;", "Atomic"),
    (unwraps, "src/cli/a.rs", "let a = b.unwrap();", "unwrap"),
    (threads, "src/daemon/a.rs", "std::thread::Builder::new()", "thread::Builder"),
    (unsafe_rooms, "src/front/a.rs", "let a = unsafe { b() };", "unsafe"),
    (headers, "src/io/a.rs", "use std::fs;", "header"),
];

#[test]
fn every_rule_can_fail() {
    for (rule, path, code, expected) in PLANTED {
        let complaints = rule(&[Source::new(path, code)]).join("\n");
        assert!(complaints.contains(expected), "{path}: {code}\n  complaints: {complaints}");
    }
    let fails = |rule: Rule, path: &str, text: &str| !rule(&[Source::new(path, text)]).is_empty();
    assert!(fails(lines, "a.rs", &"x".repeat(LINE_COLUMNS_MAX + 1)));
    assert!(!fails(lines, "a.rs", &"x".repeat(LINE_COLUMNS_MAX)));
    let long = |body: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(body));
    assert!(fails(functions, "a.rs", &long(FUNCTION_LINES_MAX - 1)));
    assert!(!fails(functions, "a.rs", &long(FUNCTION_LINES_MAX - 2)));
    assert!(fails(files, "a.rs", &"\n".repeat(FILE_LINES_MAX + 1)));
    assert!(fails(left_for_later, "src/a.rs", concat!("to", "do!()")));
    assert!(fails(left_for_later, "README.md", concat!("TO", "DO later")));
    assert!(fails(machine_paths, "a.py", concat!("open('/ho", "me/me/x')")));
    assert!(!fails(machine_paths, "a.py", concat!("open(f'{x}/ho", "me/me')")));
    assert!(fails(dependencies, "ublk/Cargo.toml", "[dev-dependencies]\nserde = \"1\"\n"));
}

#[test]
fn rules_do_not_trip_over_prose_and_tests() {
    let prose = "//! unsafe, HashMap\n/* .unwrap() /* Mutex */ */ let a = \"unsafe \\\" .unwrap()\";\n\
                 let b = r#\"Instant \" .unwrap()\"#; let c = '\"'; let d: &'a str = \"unsafe\";\n";
    let tests = "#[cfg(test)]\nmod tests {\n    fn f() { a.unwrap(); unsafe { b() } }\n}\n";
    let one = "#[cfg(test)]\nuse std::collections::HashMap;\n";
    for text in [prose, tests, one] {
        let source = [Source::new("src/meta/a.rs", text)];
        for rule in [unwraps, unsafe_rooms, purity] {
            assert_eq!(rule(&source), Vec::<String>::new(), "{text}");
        }
    }
    let after = format!("{tests}fn g() {{ a.unwrap(); }}\n");
    assert_eq!(unwraps(&[Source::new("src/a.rs", &after)]).len(), 1);
    let own = "mod parts;\nuse parts::Part;\nuse std::fmt;\nuse crc32c::crc32c;\n";
    assert_eq!(purity(&[Source::new("src/wire/a.rs", own)]), Vec::<String>::new());
    let allowed =
        "use crate::{limits, span::Span, wire::message::{Message, Role}};\nuse super::event;\n";
    assert_eq!(arrows(&[Source::new("src/replica/a.rs", allowed)]), Vec::<String>::new());
}
