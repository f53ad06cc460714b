//! What README and docs tell people to type: every command is understood, every file they point to is there, every
//! configuration is right.

use clap::error::ErrorKind;
use rblk::config::Config;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Both nodes, for configurations that show one section.
const NODES: &str = "\n[[node]]\nname = \"docker1\"\naddress = \"192.168.1.1:7790\"\ndisk = \"/dev/a\"\n\
    [[node]]\nname = \"docker2\"\naddress = \"192.168.1.2:7790\"\ndisk = \"/dev/a\"\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(PathBuf, String)> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs");
    let docs = docs.map(|entry| entry.expect("entry").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    let all = pages.chain([root().join("README.md")]);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("readable");
        (path, text)
    };
    all.map(read).collect()
}

/// A line of a document: its number, whether it stands in a block of this language, and what it says.
struct Line<'a> {
    number: usize,
    block: Option<&'a str>,
    text: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let (mut block, mut found) = (None, Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        match line.trim_start().strip_prefix("```") {
            Some(language) if block.is_none() => block = Some(language.trim()),
            Some(_) => block = None,
            None => found.push(Line { number, block, text: line }),
        }
    }
    found
}

/// The command in a line of a block for a shell, or of what a shell showed.
fn typed<'a>(line: &Line<'a>) -> Option<&'a str> {
    let text = line.text.trim();
    let text = match line.block? {
        "sh" => text,
        "text" | "console" | "" => text.strip_prefix("# ").or(text.strip_prefix("$ "))?,
        _ => return None,
    };
    let text = text.strip_prefix("sudo ").unwrap_or(text);
    text.starts_with("rblk ").then_some(text)
}

/// Commands that are named within sentences: between backticks.
fn named<'a>(line: &Line<'a>) -> Vec<&'a str> {
    if line.block.is_some() {
        return Vec::new();
    }
    let quoted = line.text.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.starts_with("rblk ")).collect()
}

/// The words up to where a shell does something else with them; of `a\|b` the first.
fn words(command: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    for word in command.replace("\\|", "\u{1}").split_whitespace() {
        if word.starts_with(['#', '|', '>', '&', ';', '<']) || word == "2>&1" {
            break;
        }
        let first = word.split('\u{1}').next().unwrap_or_default();
        let bare = first.trim_end_matches([';', ',']).trim_matches(['\'', '"', '[', ']']);
        // Placeholders: a number of seconds, and words that any name can stand for.
        words.push(OsString::from(if bare == "S" { "1" } else { bare }));
        if word.ends_with(';') {
            break;
        }
    }
    words
}

#[test]
fn every_command_is_understood() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (path, text) in documents() {
        for line in lines(&text) {
            let typed = typed(&line).into_iter().map(|command| (command, true));
            let named = named(&line).into_iter().map(|command| (command, false));
            for (command, whole) in typed.chain(named) {
                seen += 1;
                let Err(error) = rblk::cli::check(words(command)) else { continue };
                // A sentence may name a verb without saying of what.
                let incomplete = [
                    ErrorKind::MissingRequiredArgument,
                    ErrorKind::DisplayHelp,
                    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                ];
                if whole && error.kind() != ErrorKind::DisplayHelp
                    || !incomplete.contains(&error.kind())
                {
                    wrong.push(format!("{}:{}: {command}\n{error}", path.display(), line.number));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "only {seen} commands were found");
}

#[test]
fn an_unknown_verb_or_option_would_be_noticed() {
    for wrong in ["rblk verifi NAME", "rblk status NAME --jsno", "rblk wait NAME merged"] {
        let error = rblk::cli::check(words(wrong)).expect_err("wrong");
        assert_ne!(error.kind(), ErrorKind::MissingRequiredArgument, "{wrong}");
    }
    let text = "a `rblk status` b\n```sh\nsudo rblk detach x  # y\n```\n```text\n# rblk a b; c\nrblk d\n```\n";
    let found: Vec<_> =
        lines(text).iter().flat_map(|line| typed(line).into_iter().chain(named(line))).collect();
    assert_eq!(found, ["rblk status", "rblk detach x  # y", "rblk a b; c"]);
    assert_eq!(words("rblk wait a\\|b c; d | e"), ["rblk", "wait", "a", "c"].map(OsString::from));
}

#[test]
fn every_configuration_is_right() {
    let mut seen = 0;
    for (path, text) in documents() {
        let mut blocks: Vec<(usize, String)> = Vec::new();
        for line in lines(&text).iter().filter(|line| line.block == Some("toml")) {
            match blocks.last_mut() {
                Some((last, block)) if *last + 1 == line.number => {
                    block.push_str(line.text.trim_start_matches("   "));
                    block.push('\n');
                    *last = line.number;
                }
                _ => {
                    blocks
                        .push((line.number, format!("{}\n", line.text.trim_start_matches("   "))));
                }
            }
        }
        let ours = ["[resource", "[handlers]", "[salvage]", "[metrics]", "[[node]]"];
        for (end, block) in
            blocks.iter().filter(|(_, block)| ours.iter().any(|head| block.contains(head)))
        {
            let mut whole = block.clone();
            if !whole.contains("[resource]") {
                whole.push_str("\n[resource]\nname = \"swarm\"\n");
            } else if !whole.contains("\nname = ") {
                whole = whole.replacen("[resource]\n", "[resource]\nname = \"swarm\"\n", 1);
            }
            if !whole.contains("[[node]]") {
                whole.push_str(NODES);
            }
            let checked = Config::parse(whole.as_bytes(), &path, None);
            assert!(
                checked.is_ok(),
                "{}:{end}, the block before: {}\n{whole}",
                path.display(),
                checked.expect_err("wrong")
            );
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} configurations were found");
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        for line in lines(&text).iter().filter(|line| line.block.is_none()) {
            for link in line.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = link.split('#').next().unwrap_or_default();
                let there = path.parent().expect("a folder").join(file).exists();
                if !link.contains("://") && !there {
                    wrong.push(format!("{}:{}: {link}", path.display(), line.number));
                }
            }
            for quoted in line.text.split('`').skip(1).step_by(2) {
                let file = quoted.split(' ').next().unwrap_or_default();
                let ours = ["scripts/", "tests/", "dist/", "src/", "docs/"];
                let plain = file.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-".contains(c));
                // Some are made by what the sentence tells of.
                let made = file == "docs/soak.md" || file.contains("NAME");
                if ours.iter().any(|folder| file.starts_with(folder))
                    && plain
                    && !made
                    && !root().join(file).exists()
                {
                    wrong.push(format!("{}:{}: {file}", path.display(), line.number));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
