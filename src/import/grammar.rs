//! The shape of a DRBD resource file: words, statements that end with `;`, sections in braces.
//!
//! It knows no option and no section: what a word means is decided in `translate`. It promises an error with its
//! place for every text that is not of this shape, in time and memory bounded by [`IMPORT_WORDS_MAX`] and
//! [`IMPORT_NESTING_MAX`].

use super::document::{At, Item, Word};
use crate::limits::{IMPORT_NESTING_MAX, IMPORT_WORD_BYTES_MAX, IMPORT_WORDS_MAX};
use winnow::Parser;
use winnow::combinator::{alt, delimited, eof, peek, preceded, repeat};
use winnow::error::ParserError;
use winnow::stream::{LocatingSlice, Location, Stateful, Stream};
use winnow::token::{any, none_of, one_of, take_till, take_while};

/// The text that is left, and what the parser has seen of it.
type Input<'a> = Stateful<LocatingSlice<&'a str>, Seen>;

/// What the parser has seen so far.
#[derive(Clone, Debug)]
struct Seen {
    file: usize,
    words: usize,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: At,
    pub(super) what: String,
}

impl<'a> ParserError<Input<'a>> for Wrong {
    type Inner = Wrong;

    fn from_input(input: &Input<'a>) -> Wrong {
        Wrong { at: here(input), what: "this cannot be read".to_owned() }
    }

    fn into_inner(self) -> Result<Wrong, Wrong> {
        Ok(self)
    }
}

/// All statements and sections of `text`, which is file number `file` of the document.
pub(super) fn parse(file: usize, text: &str) -> Result<Vec<Item>, Wrong> {
    let seen = Seen { file, words: 0 };
    let mut input = Input { input: LocatingSlice::new(text), state: seen };
    items(&mut input, 0)
}

/// Statements up to the brace that ends the section, or to the end of the file outside of any.
fn items(input: &mut Input<'_>, depth: usize) -> Result<Vec<Item>, Wrong> {
    let mut found = Vec::new();
    loop {
        blank(input)?;
        match peek_char(input) {
            None if depth == 0 => return Ok(found),
            None => return wrong(input, "the file ends within a section: expected `}`"),
            Some('}') if depth > 0 => {
                let _: char = any.parse_next(input)?;
                return Ok(found);
            }
            Some('}') => return wrong(input, "`}` without its `{`: expected a section"),
            Some(';') => return wrong(input, "`;` without a statement: expected a keyword or `}`"),
            Some('{') => return wrong(input, "`{` without a name: expected a keyword"),
            Some('"') => return wrong(input, "a quoted text: expected a keyword"),
            Some(_) => found.push(item(input, depth)?),
        }
    }
}

/// One statement or section.
fn item(input: &mut Input<'_>, depth: usize) -> Result<Item, Wrong> {
    let key = word(input)?;
    let mut arguments = Vec::new();
    loop {
        blank(input)?;
        let after = shown(arguments.last().unwrap_or(&key));
        match peek_char(input) {
            None => {
                return wrong(input, format!("the file ends after {after}: expected `;` or `{{`"));
            }
            Some(';') => {
                let _: char = any.parse_next(input)?;
                return Ok(Item { key, arguments, body: None });
            }
            Some('{') if depth == IMPORT_NESTING_MAX => {
                let what = format!("sections nest deeper than {IMPORT_NESTING_MAX}: expected `}}`");
                return wrong(input, what);
            }
            Some('{') => {
                let _: char = any.parse_next(input)?;
                let body = Some(items(input, depth + 1)?);
                return Ok(Item { key, arguments, body });
            }
            Some('}') => return wrong(input, format!("`}}` after {after}: expected `;`")),
            Some(_) => arguments.push(word(input)?),
        }
    }
}

fn shown(word: &Word) -> String {
    format!("`{}`", super::shorten(&word.text))
}

/// Space and comments.
fn blank(input: &mut Input<'_>) -> Result<(), Wrong> {
    let space = take_while(1.., |c: char| c.is_ascii_whitespace()).void();
    let comment = ('#', take_till(0.., '\n')).void();
    repeat(0.., alt((space, comment))).parse_next(input)
}

/// A bare word, or a text in double quotes with `\` before what shall stand for itself.
fn word(input: &mut Input<'_>) -> Result<Word, Wrong> {
    let at = here(input);
    input.state.words += 1;
    if input.state.words > IMPORT_WORDS_MAX {
        return wrong(input, format!("more than {IMPORT_WORDS_MAX} words: expected a resource"));
    }
    let quoted = peek_char(input) == Some('"');
    let text = if quoted { quoted_text(input)? } else { bare(input)? };
    if text.len() > IMPORT_WORD_BYTES_MAX {
        let what =
            format!("a word of {} bytes: expected at most {IMPORT_WORD_BYTES_MAX}", text.len());
        return Err(Wrong { at, what });
    }
    Ok(Word { text, at, quoted })
}

fn bare(input: &mut Input<'_>) -> Result<String, Wrong> {
    let part = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}' | ';' | '#' | '"');
    let text: Result<&str, Wrong> = take_while(1.., part).parse_next(input);
    match text {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => {
            let stray = peek_char(input).unwrap_or(' ').escape_debug().to_string();
            wrong(
                input,
                format!("the character `{stray}`: expected a word, or a text in double quotes"),
            )
        }
    }
}

fn quoted_text(input: &mut Input<'_>) -> Result<String, Wrong> {
    let at = here(input);
    let itself = preceded('\\', none_of(['\n']));
    let inside = repeat(0.., alt((none_of(['"', '\\', '\n']), itself)));
    let text: Result<String, Wrong> = delimited('"', inside, '"').parse_next(input);
    let text = text.map_err(|_| Wrong {
        at,
        what: "a quoted text that does not end on its line: expected `\"`".to_owned(),
    })?;
    // A word that touches the quotes would be another word; in a shell it would be the same.
    let ends =
        alt((eof.void(), one_of(|c: char| c.is_ascii_whitespace() || "{};#".contains(c)).void()));
    let ended: Result<(), Wrong> = peek(ends).parse_next(input);
    match ended {
        Ok(()) => Ok(text),
        Err(_) => wrong(input, "a word that touches a quoted text: expected `;` or a space"),
    }
}

fn peek_char(input: &Input<'_>) -> Option<char> {
    input.peek_token()
}

fn here(input: &Input<'_>) -> At {
    At { file: input.state.file, offset: input.current_token_start() }
}

fn wrong<T>(input: &Input<'_>, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { at: here(input), what: what.into() })
}
