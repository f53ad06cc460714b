//! Where lines are shown: a terminal, or else whatever standard output is. Dropping it leaves the terminal as it was.

use super::view::{Line, Tone};
use crate::error::{Error, Result};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{cursor, queue};
use std::io::{BufWriter, IsTerminal, Stdout, Write, stdout};
use std::time::Duration;

/// Where there is no terminal, or none that says how wide it is.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// What was typed.
pub(super) enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    /// The window has another size.
    Redraw,
    None,
}

/// Standard output.
pub(super) struct Screen {
    out: BufWriter<Stdout>,
    terminal: bool,
    colours: bool,
    /// What is on the terminal.
    drawn: Vec<Line>,
}

impl Screen {
    /// Takes the terminal over, if there is one.
    pub(super) fn open() -> Result<Screen> {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let terminal = !dumb && stdout().is_terminal() && std::io::stdin().is_terminal();
        let mut screen = Screen {
            out: BufWriter::new(stdout()),
            terminal,
            colours: terminal && !set("NO_COLOR"),
            drawn: Vec::new(),
        };
        if terminal {
            enable_raw_mode().map_err(failed)?;
            queue!(screen.out, EnterAlternateScreen, cursor::Hide).map_err(failed)?;
        }
        Ok(screen)
    }

    /// True if lines are drawn over each other.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Columns that a line may have.
    pub(super) fn width(&self) -> usize {
        self.size().0
    }

    fn size(&self) -> (usize, usize) {
        match size() {
            Ok((columns, rows)) if self.terminal && columns > 0 && rows > 0 => {
                (usize::from(columns), usize::from(rows))
            }
            _ => (COLUMNS, ROWS),
        }
    }

    /// Draws everything anew next time.
    pub(super) fn forget(&mut self) {
        self.drawn.clear();
    }

    /// Shows what fits of `lines` from line `top` on, or all of them where there is no terminal. Returns the line that
    /// is at the top, never so far down that there is nothing to see; `None` if nobody reads any more.
    pub(super) fn show(&mut self, lines: &[Line], top: usize) -> Result<Option<usize>> {
        if !self.terminal {
            return self.print(lines);
        }
        let (_, rows) = self.size();
        let room = rows.saturating_sub(1);
        let top = top.min(lines.len().saturating_sub(room));
        let below = lines.len().saturating_sub(top + room);
        let mut page: Vec<Line> = lines.iter().skip(top).take(room).cloned().collect();
        page.resize(room, Line::new());
        let keys = match (top, below) {
            (0, 0) => "q quits".to_owned(),
            _ => format!("q quits, arrows move: {top} lines above, {below} below"),
        };
        page.push(vec![(Tone::Faint, keys.chars().take(self.width()).collect())]);
        self.draw(page).map_err(failed)?;
        Ok(Some(top))
    }

    fn print(&mut self, lines: &[Line]) -> Result<Option<usize>> {
        let time = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        let text = |line: &Line| line.iter().map(|(_, text)| text.as_str()).collect::<String>();
        let page: Vec<String> = lines.iter().map(text).collect();
        let page = format!("{time}\n{}\n", page.join("\n"));
        match self.out.write_all(page.as_bytes()).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(Some(0)),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Draws the lines that differ from what is there: over a slow line, little is sent.
    fn draw(&mut self, page: Vec<Line>) -> std::io::Result<()> {
        if self.drawn.len() != page.len() {
            queue!(self.out, Clear(ClearType::All))?;
            self.drawn = vec![Line::new(); page.len()];
        }
        for (row, line) in page.iter().enumerate() {
            if self.drawn[row] == *line {
                continue;
            }
            let row = u16::try_from(row).unwrap_or(u16::MAX);
            queue!(self.out, cursor::MoveTo(0, row), Clear(ClearType::CurrentLine))?;
            for (tone, text) in line {
                if self.colours {
                    match tone {
                        Tone::Plain => {}
                        Tone::Good => queue!(self.out, SetForegroundColor(Color::Green))?,
                        Tone::Busy => queue!(self.out, SetForegroundColor(Color::Yellow))?,
                        Tone::Bad => queue!(self.out, SetForegroundColor(Color::Red))?,
                        Tone::Faint => queue!(self.out, SetAttribute(Attribute::Dim))?,
                    }
                }
                queue!(self.out, Print(text))?;
                if self.colours && *tone != Tone::Plain {
                    queue!(self.out, SetAttribute(Attribute::Reset), ResetColor)?;
                }
            }
        }
        self.drawn = page;
        self.out.flush()
    }

    /// What was typed within `limit`.
    pub(super) fn key(&self, limit: Duration) -> Result<Key> {
        if !self.terminal {
            std::thread::sleep(limit);
            return Ok(Key::None);
        }
        match event::poll(limit) {
            Ok(true) => {}
            Ok(false) => return Ok(Key::None),
            // A signal: the loop looks at it.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(Key::None),
            Err(error) => return Err(failed(error)),
        }
        let key = match event::read().map_err(failed)? {
            Event::Resize(..) => return Ok(Key::Redraw),
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            _ => return Ok(Key::None),
        };
        Ok(match key.code {
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
            KeyCode::Char('l') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Redraw,
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Key::Quit,
            KeyCode::Up | KeyCode::Char('k') => Key::Up,
            KeyCode::Down | KeyCode::Char('j') => Key::Down,
            KeyCode::PageUp => Key::PageUp,
            KeyCode::PageDown | KeyCode::Char(' ') => Key::PageDown,
            _ => Key::None,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            // The terminal may be gone: nobody is left to tell.
            let _ = queue!(self.out, cursor::Show, LeaveAlternateScreen);
            let _ = self.out.flush();
            let _ = disable_raw_mode();
        }
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("Cannot use the terminal", error)
}
