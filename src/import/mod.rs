//! DRBD's resource files (8.3, 8.4 and 9) become rblk's TOML; what has no equivalent becomes a note or a refusal.
//!
//! Promises: pure from text to text (files come through [`Files`]); every option of the table in `docs/from-drbd.md`
//! is translated, noted as unneeded or warned about, and any other is an error with its place; a text of any bytes
//! ends with an answer, in bounded time, memory and stack. Never: a setting dropped in silence.
//!
//! ```text
//! bytes ── grammar ──► document ── resource ──► hosts, settings ── translate ──► output ──► TOML
//! ```

mod document;
mod glob;
mod grammar;
mod hosts;
mod options;
mod output;
mod resource;
mod settings;
mod translate;

pub use document::Files;
pub use options::markdown as options_table;

use document::{At, Document};
use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file; lines and columns count from 1, and 0 is the file as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Its line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            _ => write!(f, "{}:{}:{}", self.file.display(), self.line, self.column),
        }
    }
}

/// Something that the reader should know about the translation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What it is about.
    pub place: Place,
    /// True if rblk will behave differently.
    pub warning: bool,
    /// In words.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.warning { "warning" } else { "note" };
        write!(f, "{}: {level}: {}", self.place, self.text)
    }
}

/// Why there is no translation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong and what was expected.
    pub what: String,
    /// What to do; may be empty.
    pub remedy: String,
}

impl Problem {
    fn new(place: Place, what: impl Into<String>) -> Problem {
        Problem { place, what: what.into(), remedy: String::new() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A resource as rblk understands it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// Its name.
    pub name: String,
    /// The configuration.
    pub toml: String,
    /// What to know about it, in the order of the files.
    pub notes: Vec<Note>,
}

/// Something wrong at a place, before the place has a name.
#[derive(Clone, Debug)]
struct Fault {
    at: At,
    what: String,
    remedy: String,
}

impl Fault {
    fn new(at: At, what: impl Into<String>) -> Fault {
        Fault { at, what: what.into(), remedy: String::new() }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Fault {
        self.remedy = remedy.into();
        self
    }
}

/// What was found on the way: notes, and refusals that do not end it, so that all are told at once.
#[derive(Default)]
struct Findings {
    notes: Vec<(At, bool, String)>,
    refusals: Vec<Fault>,
}

impl Findings {
    fn note(&mut self, at: At, text: impl Into<String>) {
        self.notes.push((at, false, text.into()));
    }

    fn warn(&mut self, at: At, text: impl Into<String>) {
        self.notes.push((at, true, text.into()));
    }

    fn refuse(&mut self, at: At, what: impl Into<String>, remedy: impl Into<String>) {
        self.refusals.push(Fault::new(at, what).remedy(remedy));
    }
}

/// Translates resource `wanted` of `file`, or the only one there is.
///
/// # Errors
/// All reasons why not: the first mistake in the text, or everything that rblk has no equivalent for.
pub fn import(
    file: &Path,
    wanted: Option<&str>,
    files: &mut dyn Files,
) -> Result<Imported, Vec<Problem>> {
    let document = Document::load(file, files).map_err(|problem| vec![problem])?;
    let problem = |fault: Fault| Problem {
        place: document.place(fault.at),
        what: fault.what,
        remedy: fault.remedy,
    };
    let mut findings = Findings::default();
    let translated = resource::read(&document, wanted, &mut findings)
        .and_then(|resource| translate::translate(file, &resource, &mut findings));
    let mut refusals = findings.refusals;
    let output = match translated {
        Ok(Some(output)) if refusals.is_empty() => output,
        Ok(_) => {
            refusals.sort_by_key(|fault| fault.at);
            return Err(refusals.into_iter().map(problem).collect());
        }
        Err(fault) => {
            // What stands behind a mistake may follow from it.
            refusals.retain(|refusal| refusal.at < fault.at);
            refusals.sort_by_key(|fault| fault.at);
            refusals.push(fault);
            return Err(refusals.into_iter().map(problem).collect());
        }
    };
    let mut notes = findings.notes;
    notes.sort_by_key(|(at, ..)| *at);
    let note = |(at, warning, text)| Note { place: document.place(at), warning, text };
    let notes = notes.into_iter().map(note).collect();
    Ok(Imported { name: output.name.to_string(), toml: output.toml(), notes })
}

/// `text` fit for a message: at most 40 characters, nothing that moves a cursor.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().count() > 40 {
        short.push('…');
    }
    short
}
