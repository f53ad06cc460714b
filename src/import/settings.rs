//! The options of a resource with their values: those of `common`, overridden by those of the resource, overridden by
//! those of its connection and volume.

use super::document::{At, Item, Word};
use super::options::{self, Row, Takes};
use super::{Fault, shorten};
use std::collections::BTreeMap;

/// The value of an option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Flag(bool),
    Count(u64),
    Words(Vec<String>),
}

/// An option that is set.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) at: At,
    pub(super) row: &'static Row,
    pub(super) value: Value,
}

impl Setting {
    /// The value as DRBD prints it.
    pub(super) fn text(&self) -> String {
        match &self.value {
            Value::Flag(true) => "yes".to_owned(),
            Value::Flag(false) => "no".to_owned(),
            Value::Count(count) => count.to_string(),
            Value::Words(words) => words.join(" "),
        }
    }
}

/// Options by name: no name means two things in two sections.
#[derive(Clone, Default, Debug)]
pub(super) struct Settings {
    set: BTreeMap<&'static str, Setting>,
}

/// What one `resource`, `common`, `connection` or `volume` has set already.
pub(super) type Level = BTreeMap<&'static str, At>;

impl Settings {
    pub(super) fn get(&self, name: &str) -> Option<&Setting> {
        self.set.get(name)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|setting| setting.value == Value::Flag(true))
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        match self.get(name)?.value {
            Value::Count(count) => Some(count),
            _ => None,
        }
    }

    /// In the order of the files.
    pub(super) fn all(&self) -> impl Iterator<Item = &Setting> {
        self.set.values()
    }

    /// Takes in all options of a section.
    pub(super) fn section(&mut self, section: &Item, level: &mut Level) -> Result<(), Fault> {
        if let Some(stray) = section.arguments.first() {
            let what =
                format!("`{}` after `{}`: expected `{{`", shorten(&stray.text), section.key.text);
            return Err(Fault::new(stray.at, what));
        }
        for item in section.body.iter().flatten() {
            self.option(&section.key.text, item, level)?;
        }
        Ok(())
    }

    /// Takes in one option of `section`.
    pub(super) fn option(
        &mut self,
        section: &str,
        item: &Item,
        level: &mut Level,
    ) -> Result<(), Fault> {
        let key = item.key.text.as_str();
        let (row, negated) = match options::find(section, key) {
            Some(row) => (row, false),
            None => match key.strip_prefix("no-").and_then(|rest| options::find(section, rest)) {
                Some(row) if row.takes == Takes::Flag => (row, true),
                _ => return Err(unknown(section, &item.key)),
            },
        };
        if item.body.is_some() {
            return Err(Fault::new(
                item.key.at,
                format!("`{key}` is no section: expected a value and `;`"),
            ));
        }
        let value = if negated { negation(item)? } else { value(row, item)? };
        if level.insert(row.name, item.key.at).is_some() {
            let what = format!("`{}` is set twice here: expected it once", row.name);
            return Err(Fault::new(item.key.at, what));
        }
        self.set.insert(row.name, Setting { at: item.key.at, row, value });
        Ok(())
    }
}

fn unknown(section: &str, key: &Word) -> Fault {
    let known = options::names(section).into_iter();
    let near = known.map(|name| (distance(name, &key.text), name)).min();
    let expected = match near {
        Some((0..=2, name)) => format!("`{name}`"),
        _ => "an option that docs/from-drbd.md lists".to_owned(),
    };
    let what = format!("unknown option `{}` in {section}: expected {expected}", shorten(&key.text));
    Fault::new(key.at, what)
        .remedy("correct it, or take the line out of a copy of the file and import that")
}

/// Letters to insert, remove or replace between a name that we know and one that we do not.
fn distance(known: &str, text: &str) -> usize {
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (above, c) in text.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = above + 1;
        for (index, k) in known.bytes().enumerate() {
            let replaced = corner + usize::from(k != c);
            corner = row[index + 1];
            row[index + 1] = replaced.min(corner + 1).min(row[index] + 1);
        }
    }
    row[known.len()]
}

fn negation(item: &Item) -> Result<Value, Fault> {
    match item.arguments.first() {
        None => Ok(Value::Flag(false)),
        Some(word) => {
            let what = format!("`{}` after `{}`: expected `;`", shorten(&word.text), item.key.text);
            Err(Fault::new(word.at, what))
        }
    }
}

/// The value that `item` gives to `row`.
fn value(row: &Row, item: &Item) -> Result<Value, Fault> {
    let expected = match row.takes {
        Takes::Flag => "yes or no".to_owned(),
        Takes::Count(from, to) => format!("a whole number from {from} to {to}"),
        Takes::Size => "a number, with k, M, G or s behind it if it has a unit".to_owned(),
        Takes::One(words) => format!("one of {}", words.join(", ")),
        Takes::Text => "one word or a text in double quotes".to_owned(),
        Takes::Words => "one word or more".to_owned(),
    };
    let key = &item.key.text;
    if row.takes == Takes::Flag && item.arguments.is_empty() {
        return Ok(Value::Flag(true));
    }
    let Some(first) = item.arguments.first() else {
        return Err(Fault::new(
            item.key.at,
            format!("`{key}` without a value: expected {expected}"),
        ));
    };
    if let (Some(second), false) = (item.arguments.get(1), row.takes == Takes::Words) {
        let what = format!("`{}` after the value of `{key}`: expected `;`", shorten(&second.text));
        return Err(Fault::new(second.at, what));
    }
    let found = match row.takes {
        Takes::Flag => flag(&first.text).map(Value::Flag),
        Takes::Count(from, to) => {
            number(&first.text).filter(|count| (from..=to).contains(count)).map(Value::Count)
        }
        Takes::Size => is_size(&first.text).then(|| Value::Words(vec![first.text.clone()])),
        Takes::One(words) => {
            words.contains(&first.text.as_str()).then(|| Value::Words(vec![first.text.clone()]))
        }
        Takes::Text => Some(Value::Words(vec![first.text.clone()])),
        Takes::Words => {
            Some(Value::Words(item.arguments.iter().map(|word| word.text.clone()).collect()))
        }
    };
    found.ok_or_else(|| {
        Fault::new(first.at, format!("`{key} {}`: expected {expected}", shorten(&first.text)))
    })
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Decimal digits alone.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn is_size(text: &str) -> bool {
    number(text.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', 's']).unwrap_or(text)).is_some()
}
