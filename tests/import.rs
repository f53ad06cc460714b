//! DRBD configurations and what becomes of them: `tests/import/*.res` with the expected TOML beside it in `*.toml` and
//! what is said about it in `*.notes.txt`; then what no text may do.
//!
//! | variable | meaning |
//! |---|---|
//! | `RBLK_BLESS=1` | write the expected files instead of comparing with them |

use proptest::prelude::*;
use rblk::config::Config;
use rblk::error::Kind;
use rblk::import::{Files, Imported, Problem, import, options_table};
use rblk::limits::{IMPORT_BYTES_MAX, IMPORT_NESTING_MAX, IMPORT_WORDS_MAX};
use rblk::meta::layout::Layout;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// The files of `tests/import`.
struct Fixtures;

impl Files for Fixtures {
    fn names(&mut self, path: &Path) -> Result<Vec<String>, String> {
        let entries = std::fs::read_dir(folder().join(path)).map_err(|error| error.to_string())?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn read(&mut self, file: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
        let mut bytes =
            std::fs::read(folder().join(file)).map_err(|_| "it is not there".to_owned())?;
        bytes.truncate(bytes_max as usize);
        Ok(bytes)
    }
}

/// One text, whatever file is asked for.
struct Text<'a>(&'a [u8]);

impl Files for Text<'_> {
    fn names(&mut self, _: &Path) -> Result<Vec<String>, String> {
        Ok(vec!["x.res".to_owned(), "y.res".to_owned()])
    }

    fn read(&mut self, _: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
        let end = self.0.len().min(bytes_max as usize);
        Ok(self.0[..end].to_vec())
    }
}

fn read(text: &[u8]) -> Result<Imported, Vec<Problem>> {
    import(Path::new("x.res"), None, &mut Text(text))
}

fn said(outcome: &Result<Imported, Vec<Problem>>) -> String {
    let lines: Vec<String> = match outcome {
        Ok(imported) => imported.notes.iter().map(ToString::to_string).collect(),
        Err(problems) => {
            let line = |problem: &Problem| format!("{problem}\n  do: {}", problem.remedy);
            problems.iter().map(line).collect()
        }
    };
    lines.join("\n") + "\n"
}

/// What was translated is a configuration of this version, or says only what a later one can.
fn assert_valid(imported: &Imported) {
    let parsed = Config::parse(imported.toml.as_bytes(), Path::new("x.toml"), None);
    if let Err(error) = parsed {
        assert_eq!(error.kind(), Kind::Unavailable, "{error}\n{}", imported.toml);
    }
}

/// Compares with the expected file, or writes it.
fn expect(name: &str, found: Option<&str>) {
    let path = folder().join(name);
    if std::env::var_os("RBLK_BLESS").is_some() {
        match found {
            Some(text) => std::fs::write(&path, text).expect("written"),
            None => {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
    let wanted = std::fs::read_to_string(&path).ok();
    assert_eq!(found, wanted.as_deref(), "tests/import/{name}");
}

#[test]
fn every_fixture_becomes_what_stands_beside_it() {
    let mut cases = vec![("drbd.conf".to_owned(), Some("a")), ("drbd.conf".to_owned(), Some("b"))];
    cases.extend([("drbd.conf".to_owned(), None), ("drbd.conf".to_owned(), Some("old"))]);
    cases.push(("loop.conf".to_owned(), None));
    let all = Fixtures.names(Path::new("")).expect("a folder");
    cases.extend(all.into_iter().filter(|name| name.ends_with(".res")).map(|name| (name, None)));
    assert!(cases.len() > 20, "{cases:?}");
    for (file, resource) in cases {
        let outcome = import(Path::new(&file), resource, &mut Fixtures);
        let name = match resource {
            Some(resource) => format!("{file}.{resource}"),
            None => file.trim_end_matches(".res").to_owned(),
        };
        let toml = outcome.as_ref().ok().map(|imported| imported.toml.as_str());
        expect(&format!("{name}.toml"), toml);
        expect(&format!("{name}.notes.txt"), Some(&said(&outcome)));
        if let Ok(imported) = &outcome {
            assert_valid(imported);
        }
    }
}

#[test]
fn the_page_for_drbd_users_has_every_option() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-drbd.md");
    let page = std::fs::read_to_string(&path).expect("read");
    if std::env::var_os("RBLK_BLESS").is_some() {
        let prose = page.split("| section |").next().expect("text");
        std::fs::write(&path, format!("{prose}{}", options_table())).expect("written");
    }
    assert!(page.contains(&options_table()), "docs/from-drbd.md needs:\n{}", options_table());
}

/// DRBD's metadata: superblock and activity log 36 KiB, and a bit per 4 KiB block in blocks of 4 KiB.
fn room_with_drbd(disk: u64) -> u64 {
    let bitmap = disk.div_ceil(32_768).next_multiple_of(4096);
    (disk - bitmap - (36 << 10)) / 4096 * 4096
}

#[test]
fn a_disk_that_grew_as_the_page_says_has_room_for_the_data() {
    for disk in [8 << 20, 10 << 30, (1 << 40) - 4096, 1 << 40, (3 << 40) + 12_288, 200 << 40] {
        let data = room_with_drbd(disk);
        let room = |disk| Layout::of_disk(disk).expect("a layout").data_sectors() * 512;
        assert!(room(disk) < data, "{disk}: rblk has as much room: the page is too careful");
        let more = (256 << 10) + (disk >> 40) * 1_153_434 + 1_153_434;
        assert!(room(disk + more) >= data, "{disk}: the head of the TOML promises too much");
        // The formula of docs/from-drbd.md.
        assert!(room(data + data / 31_000 + (512 << 10)) >= data, "{disk}");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_told_where() {
    let whole = std::fs::read(folder().join("swarm.res")).expect("read");
    let end = whole.iter().rposition(|byte| *byte == b'}').expect("a brace") + 1;
    assert!(read(&whole[..end]).is_ok());
    for cut in 0..end {
        let problems = read(&whole[..cut]).expect_err("half a resource");
        let text = problems[0].to_string();
        assert!(text.contains("x.res:") && text.contains("expected"), "{cut}: {text}");
    }
}

#[test]
fn nesting_words_and_size_have_limits() {
    for (text, wanted) in [
        ("a {".repeat(100_000), format!("deeper than {IMPORT_NESTING_MAX}")),
        ("a ".repeat(IMPORT_WORDS_MAX + 1), format!("more than {IMPORT_WORDS_MAX} words")),
        ("a;".repeat(IMPORT_WORDS_MAX + 1), format!("more than {IMPORT_WORDS_MAX} words")),
        ("a".repeat(5_000), "a word of 5000 bytes".to_owned()),
        (" ".repeat(IMPORT_BYTES_MAX as usize + 1), "too long".to_owned()),
        ("include \"*.res\";".to_owned(), "include each other deeper".to_owned()),
        ("include \"a*/b.res\";".to_owned(), "a wildcard in the folder".to_owned()),
        ("}".to_owned(), "without its `{`".to_owned()),
        ("resource r { net { ping-int 1{} } }".to_owned(), "is no section".to_owned()),
        ("resource r { disk \"/dev/a\0\"; }".to_owned(), "expected an absolute path".to_owned()),
        ("resource r { on \"a\"b { } }".to_owned(), "touches a quoted text".to_owned()),
        ("resource \u{e4} { }".to_owned(), "the character `\u{e4}`".to_owned()),
        (String::new(), "no resource".to_owned()),
    ] {
        let problems = read(text.as_bytes()).expect_err("refused");
        assert!(problems[0].to_string().contains(&wanted), "{wanted}: {}", problems[0]);
    }
    let problems = read(b"resource r { \xff }").expect_err("refused");
    assert_eq!(problems[0].to_string(), "x.res:1:14: not UTF-8: expected a text file");
}

#[test]
fn what_is_said_moves_no_cursor_and_tells_no_secret() {
    let text = std::fs::read_to_string(folder().join("swarm.res")).expect("read");
    let text =
        text.replace("protocol  C;", "shared-secret \"hush\\\"\u{1b}[2J\"; cram-hmac-alg sha1;");
    let imported = read(text.as_bytes()).expect("translated");
    assert!(!said(&Ok(imported)).contains("hush"));
    let problems = read(b"resource \"\x1b[2J\" { }").expect_err("refused");
    assert!(!problems[0].to_string().contains('\u{1b}'), "{}", problems[0]);
    let file = Path::new("a\nb = 1.res");
    let imported = import(file, None, &mut Text(text.as_bytes())).expect("translated");
    assert_valid(&imported);
    assert!(!imported.toml.contains("\nb = 1"), "{}", imported.toml);
}

#[test]
fn a_strange_path_comes_through_whole() {
    let text = std::fs::read_to_string(folder().join("floating.res")).expect("read");
    let imported =
        read(text.replace("/dev/sdb1", r#""/dev/a\"b\\c #;{""#).as_bytes()).expect("translated");
    let config = Config::parse(imported.toml.as_bytes(), Path::new("f.toml"), None).expect("valid");
    assert_eq!(config.nodes[0].disk, Path::new(r#"/dev/a"b\c #;{"#));
}

/// Words of the grammar, so that random texts get somewhere.
const WORDS: &str = "(resource|on|volume|net|disk|connection|host|address|include|meta-disk|device|yes|no|a|b|0|\
                     10.0.0.1:7788|/dev/x|internal|protocol|C|floating|common|ping-int|quorum|[{};\"#\n \\\\]){0,60}";

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_words_get_an_answer_with_a_place(words in proptest::collection::vec(WORDS, 0..40)) {
        if let Err(problems) = read(words.join(" ").as_bytes()) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(problem.to_string().contains("x.res"), "{}", problem);
            }
        }
    }

    #[test]
    fn a_file_with_a_mistake_gets_toml_or_a_place(at in 0..600usize, cut in 0..20usize, put in WORDS) {
        let whole = std::fs::read_to_string(folder().join("swarm.res")).expect("read");
        let at = at.min(whole.len());
        let end = (at + cut).min(whole.len());
        let text = format!("{}{put}{}", &whole[..at], &whole[end..]);
        match read(text.as_bytes()) {
            Ok(imported) => assert_valid(&imported),
            Err(problems) => prop_assert!(problems[0].to_string().contains("x.res"), "{}", problems[0]),
        }
    }
}
