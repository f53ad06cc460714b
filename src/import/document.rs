//! A DRBD configuration as a tree of statements, with the files that it came from and all that they include.
//!
//! It promises to end: files, bytes and depth of inclusion are bounded, whatever includes what.

use super::grammar;
use super::{Place, Problem, glob, shorten};
use crate::limits::{IMPORT_BYTES_MAX, IMPORT_FILES_MAX, IMPORT_INCLUDE_DEPTH_MAX};
use std::path::{Path, PathBuf};

/// Where something stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct At {
    /// Index of the file.
    pub(super) file: usize,
    /// Byte in it.
    pub(super) offset: usize,
}

/// A word, without its quotes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) at: At,
    pub(super) quoted: bool,
}

/// A statement, or a section if it has a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Item {
    pub(super) key: Word,
    pub(super) arguments: Vec<Word>,
    pub(super) body: Option<Vec<Item>>,
}

/// Where configuration files come from.
pub trait Files {
    /// The names in `folder`.
    ///
    /// # Errors
    /// Why it cannot be listed.
    fn names(&mut self, folder: &Path) -> Result<Vec<String>, String>;

    /// The content of `file`, or its first `bytes_max` bytes.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&mut self, file: &Path, bytes_max: u64) -> Result<Vec<u8>, String>;
}

/// All statements, those of included files in the place of the `include`.
pub(super) struct Document {
    files: Vec<(PathBuf, String)>,
    pub(super) items: Vec<Item>,
    /// True if something was included.
    pub(super) includes: bool,
}

impl Document {
    /// Reads `file` and what it includes.
    pub(super) fn load(file: &Path, files: &mut dyn Files) -> Result<Document, Problem> {
        let mut document = Document { files: Vec::new(), items: Vec::new(), includes: false };
        let start = Place { file: file.to_owned(), line: 0, column: 0 };
        let mut left = IMPORT_BYTES_MAX;
        document.add(file, &start, 0, &mut left, files)?;
        Ok(document)
    }

    /// Adds the statements of `file`, which is included at `from`.
    fn add(
        &mut self,
        file: &Path,
        from: &Place,
        depth: usize,
        left: &mut u64,
        files: &mut dyn Files,
    ) -> Result<(), Problem> {
        let refused = |what: String| Err(Problem::new(from.clone(), what));
        if depth > IMPORT_INCLUDE_DEPTH_MAX {
            return refused(format!(
                "files include each other deeper than {IMPORT_INCLUDE_DEPTH_MAX}: expected no file to include itself"
            ));
        }
        if self.files.len() == IMPORT_FILES_MAX {
            return refused(format!("more than {IMPORT_FILES_MAX} files: expected fewer"));
        }
        let bytes = match files.read(file, *left + 1) {
            Ok(bytes) => bytes,
            Err(why) => return refused(format!("cannot read {}: {why}", file.display())),
        };
        let size = bytes.len() as u64;
        let Some(rest) = left.checked_sub(size) else {
            return refused(format!(
                "{} is too long: expected {IMPORT_BYTES_MAX} bytes at most, of all files together",
                file.display()
            ));
        };
        *left = rest;
        let number = self.files.len();
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                bytes.truncate(offset);
                self.files.push((file.to_owned(), String::from_utf8(bytes).unwrap_or_default()));
                let at = At { file: number, offset };
                return Err(Problem::new(self.place(at), "not UTF-8: expected a text file"));
            }
        };
        let parsed = grammar::parse(number, &text);
        self.files.push((file.to_owned(), text));
        let items = parsed.map_err(|wrong| Problem::new(self.place(wrong.at), wrong.what))?;
        for item in items {
            if item.key.text == "include" && item.body.is_none() {
                self.include(&item, file, depth, left, files)?;
            } else {
                self.items.push(item);
            }
        }
        Ok(())
    }

    /// Adds the files that `item` names, relative to the folder of `file`.
    fn include(
        &mut self,
        item: &Item,
        file: &Path,
        depth: usize,
        left: &mut u64,
        files: &mut dyn Files,
    ) -> Result<(), Problem> {
        self.includes = true;
        let from = self.place(item.key.at);
        let [pattern] = &item.arguments[..] else {
            return Err(Problem::new(
                from,
                "`include` takes one file: expected `include \"drbd.d/*.res\";`",
            ));
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        let path = folder.join(&pattern.text);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        if glob::is_pattern(&folder.to_string_lossy()) {
            let what = format!(
                "a wildcard in the folder of \"{}\": expected wildcards in the name of the file only",
                shorten(&pattern.text)
            );
            return Err(Problem::new(self.place(pattern.at), what));
        }
        if !glob::is_pattern(&name) {
            return self.add(&path, &from, depth + 1, left, files);
        }
        let mut names = files.names(&folder).map_err(|why| {
            Problem::new(from.clone(), format!("cannot list {}: {why}", folder.display()))
        })?;
        names.retain(|found| glob::matches(&name, found));
        names.sort();
        for found in names {
            self.add(&folder.join(found), &from, depth + 1, left, files)?;
        }
        Ok(())
    }

    /// File, line and column.
    pub(super) fn place(&self, at: At) -> Place {
        let Some((file, text)) = self.files.get(at.file) else {
            return Place { file: PathBuf::new(), line: 0, column: 0 };
        };
        let before = text.get(..at.offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = 1 + before.matches('\n').count();
        Place { file: file.clone(), line, column: 1 + before[start..].chars().count() }
    }
}
