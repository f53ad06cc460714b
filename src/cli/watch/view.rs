//! From what is known to lines of text. Knows no terminal, so that what is seen can be tested.
//!
//! ```text
//! swarm  Primary  disk UpToDate  open  1.0 GiB  /dev/ublkb0
//!   docker2  Secondary  Connected  disk Inconsistent  SyncSource
//!     out of sync 512.0 MiB
//!     [#######>----------------------]  25.0 %  128.0 MiB/s  4 s left
//!   verified at 2026-09-21T14:13:21Z: both disks hold the same
//!   disk read 0 B/s, written 34.5 MiB/s; net in 0 B/s, out 34.5 MiB/s; in flight 7
//!   p50/p99: front-write 91 µs/180 µs, disk-write 40 µs/95 µs, peer 85 µs/170 µs
//!   20:15:03Z  docker2 Connected, Secondary
//! ```

use super::board::Entry;
use crate::cli::{render, stats, units, verify};
use crate::ctl::proto::Event;
use crate::ctl::status::{Connection, ConnectionState, DiskState, Resource, Role};
use crate::limits::UNIX_MS_MAX;
use std::time::Duration;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Narrower than this is not laid out: lines are cut.
const COLUMNS_MIN: usize = 20;

/// How a piece of text looks where there are colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    Plain,
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Not as it should be.
    Bad,
    /// Less important.
    Faint,
}

/// A line: pieces of text, each with its tone, without a control character.
pub(super) type Line = Vec<(Tone, String)>;

/// What stands there while there is nothing to show.
pub(super) fn nothing(width: usize) -> Vec<Line> {
    wrapped("", "No resource runs on this node. `rblk attach NAME` runs one.", Tone::Plain, width)
}

/// The lines of a resource, and an empty one.
pub(super) fn resource(name: &str, entry: &Entry, width: usize) -> Vec<Line> {
    let width = width.max(COLUMNS_MIN);
    let mut lines = Vec::new();
    match &entry.status {
        None => {
            lines.extend(wrapped("  ", &format!("{name}  {}", entry.silence), Tone::Bad, width));
        }
        Some(status) => known(&mut lines, status, entry, width),
    }
    lines.extend(entry.events.iter().map(|event| clipped(happened(event), width)));
    lines.push(Line::new());
    lines
}

fn known(lines: &mut Vec<Line>, status: &Resource, entry: &Entry, width: usize) {
    lines.push(clipped(device(status), width));
    let peer = status.connection();
    lines.push(clipped(connection(&peer), width));
    let device = peer.peer_devices.first();
    if let Some(behind) = device.map(|device| device.out_of_sync).filter(|behind| *behind > 0) {
        let behind = units::bytes(behind.saturating_mul(1024));
        lines.push(clipped(vec![(Tone::Busy, format!("    out of sync {behind}"))], width));
    }
    if let Some(sync) = device.and_then(|device| device.sync.as_ref()) {
        let bar = units::bar(sync.percent_resync_done, units::BAR_COLUMNS);
        let text = format!("    {bar} {}", render::sync_line(sync));
        lines.push(clipped(vec![(Tone::Busy, text)], width));
    }
    if let Some(text) = verify::line(status) {
        let found = status.rblk.verify.as_ref();
        let tone = match found.map(|found| (found.is_clean(), found.state.as_str())) {
            Some((true, _)) => Tone::Good,
            Some((_, "running" | "repairing" | "stopped")) => Tone::Busy,
            _ => Tone::Bad,
        };
        lines.extend(wrapped("  ", &text, tone, width));
    }
    lines.push(clipped(vec![(Tone::Plain, traffic(status, entry))], width));
    if let Some(times) = times(entry) {
        lines.extend(wrapped("  ", &times, Tone::Plain, width));
    }
    let why = &status.rblk.why;
    for (what, reasons) in [
        ("writes wait", &why.suspended),
        ("not connected", &why.not_connected),
        ("copies everything", &why.full_resync),
        ("cannot become Primary", &why.not_promotable),
    ] {
        for reason in reasons {
            lines.extend(wrapped("  ", &format!("{what}: {reason}"), Tone::Busy, width));
        }
    }
}

fn device(status: &Resource) -> Line {
    let device = status.device();
    let disk = match device.disk_state {
        DiskState::UpToDate => Tone::Good,
        DiskState::Diskless | DiskState::Failed => Tone::Bad,
        _ => Tone::Busy,
    };
    let role = if status.role == Role::Primary { Tone::Good } else { Tone::Plain };
    let size = units::bytes(device.size.saturating_mul(1024));
    let mut line = vec![
        (Tone::Plain, format!("{}  ", status.name)),
        (role, status.role.to_string()),
        (Tone::Plain, "  disk ".to_owned()),
        (disk, device.disk_state.to_string()),
        (Tone::Plain, format!("  {}  {size}", if device.open { "open" } else { "not open" })),
    ];
    if status.suspended {
        line.push((Tone::Bad, format!("  suspended:{}", status.suspended_word())));
    }
    if let Some(faults) = &status.rblk.faults {
        line.push((Tone::Bad, format!("  faults:{faults}")));
    }
    if let Some(address) = &status.rblk.address {
        line.push((Tone::Faint, format!("  {address}")));
    }
    line
}

fn connection(peer: &Connection) -> Line {
    let state = match peer.connection_state {
        ConnectionState::Connected => Tone::Good,
        ConnectionState::Connecting => Tone::Busy,
        ConnectionState::StandAlone => Tone::Bad,
    };
    let mut line = vec![(Tone::Plain, format!("  {}  ", peer.name))];
    if peer.connection_state == ConnectionState::Connected {
        line.push((Tone::Plain, format!("{}  ", peer.peer_role)));
    }
    line.push((state, peer.connection_state.to_string()));
    let Some(device) = peer.peer_devices.first() else { return line };
    if peer.connection_state == ConnectionState::Connected {
        let disk = match device.peer_disk_state {
            DiskState::UpToDate => Tone::Good,
            DiskState::Diskless | DiskState::Failed => Tone::Bad,
            _ => Tone::Busy,
        };
        line.push((Tone::Plain, "  disk ".to_owned()));
        line.push((disk, device.peer_disk_state.to_string()));
        line.push((Tone::Plain, format!("  {}", device.replication_state)));
    }
    line
}

fn traffic(status: &Resource, entry: &Entry) -> String {
    let pending = status.device().upper_pending;
    let Some(rates) = entry.rates() else { return format!("  in flight {pending}") };
    let rate = |bytes| format!("{}/s", units::bytes(bytes));
    format!(
        "  disk read {}, written {}; net in {}, out {}; in flight {pending}",
        rate(rates.read),
        rate(rates.written),
        rate(rates.received),
        rate(rates.sent)
    )
}

/// How long requests took, half of them and 99 of 100; `None` if there were none lately.
fn times(entry: &Entry) -> Option<String> {
    let passed = entry.times();
    let time = |us| stats::time(us).replace(' ', "\u{a0}");
    let hops = passed.iter().map(|passed| {
        format!("{}\u{a0}{}/{}", passed.hop, time(passed.p50_us), time(passed.p99_us))
    });
    let hops: Vec<String> = hops.collect();
    (!hops.is_empty()).then(|| format!("p50/p99: {}", hops.join(", ")))
}

/// A change in a few words: `18:59:57Z  docker2 Connected, Secondary`.
fn happened(event: &Event) -> Line {
    let time = std::time::UNIX_EPOCH + Duration::from_millis(event.unix_ms.min(UNIX_MS_MAX));
    let time = humantime::format_rfc3339_seconds(time).to_string();
    let value = |key: &str| {
        let found =
            event.line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix(':'));
        found.unwrap_or("?").to_owned()
    };
    let peer = value("conn-name");
    let what = match event.line.split(' ').nth(1) {
        Some("resource") => match value("suspended").as_str() {
            "no" => format!("this node is {}", value("role")),
            why => format!("this node is {}; writes wait: {why}", value("role")),
        },
        Some("device") => format!("this disk is {}", value("disk")),
        Some("connection") => format!("{peer} {}, {}", value("connection"), value("role")),
        Some("peer-device") => {
            format!("{peer} disk {}, {}", value("peer-disk"), value("replication"))
        }
        _ => event.line.clone(),
    };
    vec![
        (Tone::Faint, format!("  {}Z  ", time.get(11..19).unwrap_or_default())),
        (Tone::Plain, what),
    ]
}

/// `text` in as many lines as it takes; those after the first begin with `indent` and some more.
fn wrapped(indent: &str, text: &str, tone: Tone, width: usize) -> Vec<Line> {
    let width = width.max(COLUMNS_MIN);
    let mut lines = vec![indent.to_owned()];
    for word in text.split(' ') {
        let line =
            lines.last_mut().filter(|line| line.trim().is_empty() || fits(line, word, width));
        match line {
            Some(line) => {
                if !line.trim().is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            None => lines.push(format!("{indent}  {word}")),
        }
    }
    lines.into_iter().map(|line| clipped(vec![(tone, line)], width)).collect()
}

fn fits(line: &str, word: &str, width: usize) -> bool {
    line.width() + 1 + word.width() <= width
}

/// The line cut off at `width` columns, with nothing in it that moves a cursor or turns the order of characters. What
/// is cut ends with an ellipsis: half a number is not taken for a whole one.
fn clipped(line: Line, width: usize) -> Line {
    let whole =
        line.into_iter().map(|(tone, text)| (tone, text.chars().map(harmless).collect::<String>()));
    let whole: Line = whole.collect();
    if columns(&whole) <= width {
        return whole;
    }
    let mut room = width.saturating_sub(1);
    let mut cut = Line::new();
    'cutting: for (tone, text) in whole {
        cut.push((tone, String::new()));
        for char in text.chars() {
            let columns = char.width().unwrap_or(0);
            let Some(left) = room.checked_sub(columns) else { break 'cutting };
            room = left;
            if let Some((_, kept)) = cut.last_mut() {
                kept.push(char);
            }
        }
    }
    cut.push((Tone::Faint, "…".to_owned()));
    cut
}

fn columns(line: &Line) -> usize {
    line.iter().flat_map(|(_, text)| text.chars()).map(|char| char.width().unwrap_or(0)).sum()
}

/// What would not be seen, or do something else, as a question mark.
fn harmless(char: char) -> char {
    let hidden = matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}');
    if char.is_control() || hidden { '?' } else { char }
}

#[cfg(test)]
mod tests {
    use super::super::board::Board;
    use super::super::source::News;
    use super::*;
    use crate::ctl::status::sample;
    use proptest::prelude::*;
    use std::time::Instant;

    fn text(lines: &[Line]) -> String {
        let plain = |line: &Line| line.iter().map(|(_, text)| text.as_str()).collect::<String>();
        lines.iter().map(plain).collect::<Vec<_>>().join("\n")
    }

    fn shown(status: Resource, events: Vec<Event>, width: usize) -> Vec<Line> {
        let mut board = Board::default();
        board.expect("swarm");
        let now = Instant::now();
        board.take("swarm", News::State { status: Box::new(status), events, missed: 0 }, now);
        board.lines(width)
    }

    #[test]
    fn a_resync_reads_as_documented() {
        let mut status = sample();
        status.rblk.why = crate::ctl::status::Why::default();
        status.rblk.faults = None;
        let line = "change connection name:swarm peer-node-id:1 conn-name:docker2 connection:Connected role:Primary";
        let event = Event { unix_ms: 1_790_000_000_000, line: line.to_owned() };
        let seen = text(&shown(status, vec![event], 80));
        let expected = "swarm  Primary  disk UpToDate  open  1.0 GiB  nbd+unix:///?socket=/run/x\n  \
            docker2  Secondary  Connected  disk Inconsistent  SyncSource\n    \
            out of sync 512.0 MiB\n    \
            [#######>----------------------]  25.0 %  128.0 MiB/s  4 s left\n  \
            verified at 2026-09-21T14:13:21Z: 4.0 KiB differ\n  \
            in flight 7\n  \
            14:13:20Z  docker2 Connected, Primary\n";
        assert!(seen.starts_with(expected), "{seen}");
    }

    #[test]
    fn reasons_are_told_whole() {
        let mut status = sample();
        let words: Vec<String> = (0..60).map(|number| format!("word{number}")).collect();
        status.rblk.why.not_connected = vec![words.join(" ")];
        let seen = text(&shown(status, vec![], 80));
        for word in words {
            assert!(seen.contains(&word), "{word} in {seen}");
        }
    }

    #[test]
    fn nothing_that_is_said_moves_the_cursor() {
        let mut status = sample();
        status.connections[0].name = "a\x1b[2J\r\nb\u{202e}c\u{9b}1m\u{7}".to_owned();
        status.rblk.why.not_connected = vec!["\x1b]0;title\x07".to_owned()];
        let event = Event { unix_ms: u64::MAX, line: "change \x1b[31m".to_owned() };
        for line in shown(status, vec![event], 80) {
            for (_, text) in line {
                assert!(!text.chars().any(char::is_control), "{text:?}");
                assert!(!text.contains('\u{202e}'), "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_screen(name in ".{0,200}", why in ".{0,400}", width in 20..200usize) {
            let mut status = sample();
            status.name = name.clone();
            status.connections[0].name = name;
            status.rblk.why.suspended = vec![why];
            for line in shown(status, vec![], width) {
                let columns = columns(&line);
                prop_assert!(columns <= width, "{columns} in {width}: {line:?}");
            }
        }
    }
}
