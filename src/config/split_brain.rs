//! `[resource.split-brain]`: whose changes are lost after a split brain. See [`crate::wire::policy`].

use super::Node;
use super::section::{Section, Source, shorten};
use crate::error::Result;
use crate::wire::policy::{After0pri, After1pri, After2pri, Policies, RrConflict};
use serde::Serialize;

const TITLE: &str = "[resource.split-brain]";
const KEYS: [&str; 4] = ["after-0pri", "after-1pri", "after-2pri", "rr-conflict"];

/// As it would have to be written.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Effective {
    after_0pri: String,
    after_1pri: &'static str,
    after_2pri: &'static str,
    rr_conflict: &'static str,
}

impl Effective {
    pub(super) fn of(policies: &Policies, nodes: &[Node; 2]) -> Effective {
        Effective {
            after_0pri: word_of(policies.after_0pri, nodes),
            after_1pri: policies.after_1pri.word(),
            after_2pri: policies.after_2pri.word(),
            rr_conflict: policies.rr_conflict.word(),
        }
    }
}

fn word_of(policy: After0pri, nodes: &[Node; 2]) -> String {
    let name = match policy {
        After0pri::DiscardFirstNode => nodes[0].name.as_str(),
        After0pri::DiscardSecondNode => nodes[1].name.as_str(),
        _ => "",
    };
    format!("{}{name}", policy.word())
}

/// The table of `resource`, or the defaults.
pub(super) fn parse(
    source: Source<'_>,
    resource: &Section<'_>,
    nodes: &[Node; 2],
) -> Result<Policies> {
    let mut policies = Policies::default();
    let Some(section) = resource.table("split-brain", TITLE)? else { return Ok(policies) };
    section.only(&KEYS)?;
    let read = Reader { source, section: &section };
    let zero = |policy: After0pri| word_of(policy, nodes);
    read.choice("after-0pri", After0pri::ALL, zero, &mut policies.after_0pri)?;
    let one = |policy: After1pri| policy.word().to_owned();
    read.choice("after-1pri", After1pri::ALL, one, &mut policies.after_1pri)?;
    let two = |policy: After2pri| policy.word().to_owned();
    read.choice("after-2pri", After2pri::ALL, two, &mut policies.after_2pri)?;
    let conflict = |policy: RrConflict| policy.word().to_owned();
    read.choice("rr-conflict", RrConflict::ALL, conflict, &mut policies.rr_conflict)?;
    Ok(policies)
}

struct Reader<'a> {
    source: Source<'a>,
    section: &'a Section<'a>,
}

impl Reader<'_> {
    fn choice<T: Copy>(
        &self,
        key: &str,
        all: &[T],
        word: impl Fn(T) -> String,
        into: &mut T,
    ) -> Result<()> {
        let Some(found) = self.section.string(key, "\"disconnect\"")? else { return Ok(()) };
        match all.iter().find(|value| word(**value) == found.value) {
            Some(value) => *into = *value,
            None => {
                let words: Vec<String> = all.iter().map(|value| word(*value)).collect();
                let wrong = format!(
                    "{key} = \"{}\": expected one of {}",
                    shorten(found.value),
                    words.join(", ")
                );
                return Err(self.source.error(&found.span, wrong));
            }
        }
        Ok(())
    }
}
