//! Files of the repository as the rules of `tests/tidy.rs` see them.
//!
//! Each line comes twice: as written, and as code with comments and the contents of strings blanked out, so
//! that a rule about code never trips over prose. A line also knows whether it is only compiled for tests.

use std::path::{Path, PathBuf};

/// One line of a file.
pub(crate) struct Line {
    /// As written.
    pub(crate) text: String,
    /// Without comments and string contents; as long as `text` in characters.
    pub(crate) code: String,
    /// Only there for tests.
    pub(crate) test: bool,
}

/// One file.
pub(crate) struct Source {
    /// Path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// All lines.
    pub(crate) lines: Vec<Line>,
}

impl Source {
    /// Takes a file apart. `path` decides what it is.
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let rust = path.ends_with(".rs");
        let code = if rust { blank(text) } else { text.to_owned() };
        let mut lines: Vec<Line> = text
            .lines()
            .zip(code.lines())
            .map(|(text, code)| Line { text: text.to_owned(), code: code.to_owned(), test: false })
            .collect();
        let whole = is_test_path(path);
        if rust {
            mark_tests(&mut lines, whole);
        }
        Source { path: path.to_owned(), lines }
    }

    /// True for Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// `src/io/ring.rs` is in room `io`, `src/span.rs` is the room `span`; `None` outside `src/`.
    pub(crate) fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// All code in one string; line numbers are found again with [`line_of`].
    pub(crate) fn code(&self) -> String {
        self.lines.iter().fold(String::new(), |mut all, line| {
            all.push_str(&line.code);
            all.push('\n');
            all
        })
    }

    /// `path:line: what`, as compilers write it.
    pub(crate) fn at(&self, index: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, index + 1)
    }
}

/// The index of the line that holds byte `offset` of [`Source::code`].
pub(crate) fn line_of(code: &str, offset: usize) -> usize {
    code[..offset].matches('\n').count()
}

/// Every text file of the repository, without build output and history.
pub(crate) fn repository() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(root, &mut files);
    files.sort();
    files
        .iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            let inside = path.strip_prefix(root).ok()?;
            Some(Source::new(&inside.to_string_lossy(), &text))
        })
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    const SKIPPED: [&str; 9] = [
        "target",
        ".git",
        "Cargo.lock",
        "__pycache__",
        "corpus",
        "corpus-new",
        "artifacts",
        "soak",
        "bench-data",
    ];
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if SKIPPED.iter().any(|skipped| name == *skipped) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

fn is_test_path(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let folder = |name: &str| path.starts_with(name) || path.contains(&format!("/{name}"));
    folder("tests/") || folder("benches/") || file == "tests.rs" || file.ends_with("_tests.rs")
}

/// Marks what follows `#[cfg(test)]` up to the end of that item.
fn mark_tests(lines: &mut [Line], whole: bool) {
    let mut depth_inside: Option<i32> = None;
    for line in lines.iter_mut() {
        let attribute = line.code.contains("#[cfg(test)]") || line.code.contains("#[cfg(all(test");
        if depth_inside.is_none() && attribute {
            depth_inside = Some(0);
        }
        line.test = whole || depth_inside.is_some();
        let Some(mut depth) = depth_inside else {
            continue;
        };
        let (mut opened, mut ended) = (depth > 0, false);
        for character in line.code.chars() {
            match character {
                '{' => (depth, opened) = (depth + 1, true),
                '}' => depth -= 1,
                ';' if depth == 0 => ended = true,
                _ => {}
            }
        }
        ended |= opened && depth <= 0;
        depth_inside = (!ended).then_some(depth);
    }
}

/// Replaces comments and string contents by spaces, line for line and character for character.
fn blank(text: &str) -> String {
    let input: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < input.len() {
        let (end, keep) = token(&input, at);
        for (place, character) in input[at..end].iter().enumerate() {
            let edge = keep == Keep::Quotes && (place == 0 || place + 1 == end - at);
            let shown = keep == Keep::All || edge || *character == '\n';
            out.push(if shown { *character } else { ' ' });
        }
        at = end;
    }
    out
}

#[derive(PartialEq, Clone, Copy)]
enum Keep {
    All,
    Quotes,
    Nothing,
}

/// The end of the token that starts at `at`, and what of it is code.
fn token(input: &[char], at: usize) -> (usize, Keep) {
    let next = input.get(at + 1).copied();
    let name_before = at > 0 && (input[at - 1].is_alphanumeric() || input[at - 1] == '_');
    match input[at] {
        '/' if next == Some('/') => (line_end(input, at), Keep::Nothing),
        '/' if next == Some('*') => (comment_end(input, at), Keep::Nothing),
        '"' => (string_end(input, at), Keep::Quotes),
        'r' if !name_before || (at > 0 && input[at - 1] == 'b') => match raw_end(input, at) {
            Some(end) => (end, Keep::Nothing),
            None => (at + 1, Keep::All),
        },
        '\'' => match char_end(input, at) {
            Some(end) => (end, Keep::Quotes),
            None => (at + 1, Keep::All),
        },
        _ => (at + 1, Keep::All),
    }
}

fn line_end(input: &[char], at: usize) -> usize {
    let rest = input[at..].iter().position(|character| *character == '\n');
    rest.map_or(input.len(), |length| at + length)
}

fn comment_end(input: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < input.len() {
        match (input[at], input.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    input.len()
}

fn string_end(input: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < input.len() {
        match input[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    input.len()
}

/// `r"…"`, `r#"…"#` and so on; `None` if this is no raw string.
fn raw_end(input: &[char], at: usize) -> Option<usize> {
    let hashes = input[at + 1..].iter().take_while(|c| **c == '#').count();
    let quote = at + 1 + hashes;
    if input.get(quote) != Some(&'"') {
        return None;
    }
    let mut end = quote + 1;
    while end < input.len() {
        let closing = &input[end + 1..input.len().min(end + 1 + hashes)];
        if input[end] == '"' && closing.len() == hashes && closing.iter().all(|c| *c == '#') {
            return Some(end + 1 + hashes);
        }
        end += 1;
    }
    Some(input.len())
}

/// `'x'`, `'\n'`, `'\u{7f}'`; `None` for a lifetime.
fn char_end(input: &[char], at: usize) -> Option<usize> {
    if input.get(at + 1) == Some(&'\\') {
        let rest = input.get(at + 3..)?.iter().position(|c| *c == '\'')?;
        return Some(at + 3 + rest + 1);
    }
    (input.get(at + 2) == Some(&'\'')).then_some(at + 3)
}
