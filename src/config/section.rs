//! Walks a parsed TOML file and says, for each mistake, the file, the line and what was expected.

use crate::error::{Error, Kind, Result};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text of a configuration file, for errors that point into it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

/// A value that was found, and where.
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// One table of the file.
#[derive(Clone)]
pub(super) struct Section<'a> {
    source: Source<'a>,
    /// As the user writes it: `[resource]`, `[[node]]`.
    title: &'static str,
    table: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Source<'a> {
    /// The error that something at `span` is wrong.
    pub(super) fn error(&self, span: &Range<usize>, wrong: impl AsRef<str>) -> Error {
        self.error_of(Kind::Config, span, wrong.as_ref())
            .remedy("correct the file; `rblk config --help` shows an example")
    }

    /// The error that something at `span` can be said, but this version does not do it.
    pub(super) fn unavailable(&self, span: &Range<usize>, wrong: &str, expected: &str) -> Error {
        let why = format!("{wrong} is not available in this version: {expected}");
        self.error_of(Kind::Unavailable, span, &why)
            .remedy("remove the line, or install a newer rblk on both nodes")
    }

    fn error_of(&self, kind: Kind, span: &Range<usize>, why: &str) -> Error {
        let file = self.file.display();
        let line = line_of(self.text, span.start);
        Error::new(kind, format!("Wrong configuration, {file}:{line}")).why(why)
    }
}

/// The line, from 1, on which byte `offset` lies.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

impl<'a> Section<'a> {
    /// The whole file as a section.
    pub(super) fn new(
        source: Source<'a>,
        title: &'static str,
        table: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Section<'a> {
        Section { source, title, table, span }
    }

    /// Where it stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Refuses every key that is not in `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<()> {
        let stranger = |key: &&Spanned<_>| {
            let key: &std::borrow::Cow<'_, str> = Spanned::get_ref(key);
            !known.contains(&key.as_ref())
        };
        // The table is sorted by key; the reader expects the first mistake first.
        let first = self.table.keys().filter(stranger).min_by_key(|key| key.span().start);
        let Some(key) = first else { return Ok(()) };
        let wrong = format!(
            "unknown key `{}` in {}: expected one of {}",
            shorten(key.get_ref()),
            self.title,
            known.join(", ")
        );
        Err(self.source.error(&key.span(), wrong))
    }

    /// The value of `key`, if it is there, with the place to blame for it.
    pub(super) fn get(&self, key: &str) -> Option<(&'a DeValue<'a>, Range<usize>)> {
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        // A table's own span may start at its header line; its key always stands where the user wrote it.
        let span = if value.get_ref().is_table() { name.span() } else { value.span() };
        Some((value.get_ref(), span))
    }

    /// A string; `None` if the key is absent.
    pub(super) fn string(&self, key: &str, example: &str) -> Result<Option<Found<&'a str>>> {
        let Some((value, span)) = self.get(key) else {
            return Ok(None);
        };
        match value.as_str() {
            Some(value) => Ok(Some(Found { value, span })),
            None => Err(self.wrong_type(key, value, &span, &format!("a string such as {example}"))),
        }
    }

    /// A string that must be there.
    pub(super) fn required(&self, key: &str, example: &str) -> Result<Found<&'a str>> {
        match self.string(key, example)? {
            Some(found) => Ok(found),
            None => {
                let wrong = format!("{} has no `{key}`: expected {key} = {example}", self.title);
                Err(self.source.error(&self.span, wrong))
            }
        }
    }

    /// `true` or `false`; `None` if the key is absent.
    pub(super) fn boolean(&self, key: &str) -> Result<Option<Found<bool>>> {
        let Some((value, span)) = self.get(key) else {
            return Ok(None);
        };
        match value.as_bool() {
            Some(value) => Ok(Some(Found { value, span })),
            None => Err(self.wrong_type(key, value, &span, "true or false")),
        }
    }

    /// A whole number within `range`; `None` if the key is absent.
    pub(super) fn integer(&self, key: &str, range: Range<u64>) -> Result<Option<u64>> {
        let Some((value, span)) = self.get(key) else {
            return Ok(None);
        };
        let expected = format!("a whole number from {} to {}", range.start, range.end - 1);
        let Some(integer) = value.as_integer() else {
            return Err(self.wrong_type(key, value, &span, &expected));
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let text = integer.to_string();
                let wrong = format!("`{key}` is {}: expected {expected}", shorten(&text));
                Err(self.source.error(&span, wrong))
            }
        }
    }

    /// A table; `None` if the key is absent.
    pub(super) fn table(&self, key: &str, title: &'static str) -> Result<Option<Section<'a>>> {
        let Some((value, span)) = self.get(key) else {
            return Ok(None);
        };
        match value.as_table() {
            Some(table) => Ok(Some(Section::new(self.source, title, table, span))),
            None => Err(self.wrong_type(key, value, &span, &format!("a table {title}"))),
        }
    }

    /// The error that the value of `key` has the wrong type.
    pub(super) fn wrong_type(
        &self,
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        expected: &str,
    ) -> Error {
        let wrong = format!(
            "`{key}` in {} has the type {}: expected {expected}",
            self.title,
            value.type_str()
        );
        self.source.error(span, wrong)
    }
}

/// `text` fit for a message: at most 40 characters, nothing that moves a cursor.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().count() > 40 {
        short.push('…');
    }
    short
}
