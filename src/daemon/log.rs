//! The log: to the journal with its fields, else to standard error as lines.
//!
//! ```text
//! any thread ── event ──► record, into a bounded channel ──► one thread ──► journal, or standard error
//! ```
//!
//! Promises: whoever logs never waits, so that a volume goes on when its log cannot: the journal may lie on the very
//! volume. Records that find no room are counted, and the count is told. What is logged is what happens to a volume,
//! never what is in it.

use crate::io::thread;
use crate::limits::{LOG_RECORD_BYTES_MAX, LOG_RECORDS_MAX};
use crate::sync::{Receiver, SyncSender, sync_channel};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Where the journal takes records with fields.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// At the end, and after a panic, the log has this long to be written.
const FLUSH: Duration = Duration::from_secs(1);
const STACK_BYTES: usize = 128 << 10;

/// The way to the writing thread, once there is one.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    records: SyncSender<Item>,
    lost: AtomicU64,
}

enum Item {
    Record(Record),
    /// All before it is to be written, then whoever waits is told.
    Flush(SyncSender<()>),
}

/// What is known of an event.
struct Record {
    time: SystemTime,
    level: Level,
    message: String,
    fields: Vec<(&'static str, String)>,
}

/// Starts the log of resource `name`. `RUST_LOG` chooses what is logged.
pub(super) fn start(name: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let (records, receiver) = sync_channel(LOG_RECORDS_MAX);
    if LOG.set(Log { records, lost: AtomicU64::new(0) }).is_err() {
        return; // a second start in one process shares the first one's log
    }
    let sink = Sink::open(name);
    if let Err(error) = thread::spawn("rblk-log", STACK_BYTES, move || write_all(&receiver, &sink))
    {
        // Without a thread there is no log, and a volume all the same.
        let _ = writeln!(std::io::stderr(), "no thread for the log: {error}");
    }
    // Not the hook of the library: that writes to standard error, which may not take it.
    std::panic::set_hook(Box::new(|info| {
        if let Some(log) = LOG.get() {
            log.put_panic(&info.to_string(), &Backtrace::capture());
            log.flush();
        }
    }));
    drop(tracing_subscriber::registry().with(filter).with(ToThread).try_init());
}

/// Waits until all that was logged is written, but not for long.
pub(super) fn flush() {
    if let Some(log) = LOG.get() {
        log.flush();
    }
}

/// Hands events to the thread.
struct ToThread;

impl<S: Subscriber> Layer<S> for ToThread {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(log) = LOG.get() else { return };
        let mut record = Record::new(*event.metadata().level(), String::new());
        event.record(&mut record);
        log.put(record);
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = bounded(format!("{value:?}"));
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > LOG_RECORD_BYTES_MAX {
        let whole = (0..=LOG_RECORD_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(whole.unwrap_or(0));
        text.push('…');
    }
    text
}

/// Where records end.
enum Sink {
    /// The journal, and the fields that each record has.
    Journal { socket: UnixDatagram, resource: String },
    /// Standard error, with or without a time in front.
    Lines { timed: bool },
}

impl Sink {
    /// The journal if it is what reads standard error: then whoever started us wants the log there.
    fn open(name: &str) -> Sink {
        let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
            return Sink::Lines { timed: true };
        };
        let lines = Sink::Lines { timed: false };
        let stderr = std::fs::metadata("/proc/self/fd/2");
        let ours = stderr.is_ok_and(|stderr| {
            stream.to_str() == Some(&format!("{}:{}", stderr.st_dev(), stderr.st_ino()))
        });
        if !ours {
            return lines;
        }
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(JOURNAL)?;
            Ok(socket)
        });
        socket.map_or(lines, |socket| Sink::Journal { socket, resource: name.to_owned() })
    }

    /// Nobody is left to tell if it fails.
    fn write(&self, record: &Record) {
        match self {
            Sink::Journal { socket, resource } => {
                let _ = socket.send(&record.for_journal(resource));
            }
            Sink::Lines { timed } => {
                let _ = std::io::stderr().write_all(record.line(*timed).as_bytes());
            }
        }
    }
}

fn write_all(records: &Receiver<Item>, sink: &Sink) {
    while let Ok(item) = records.recv() {
        match item {
            Item::Record(record) => sink.write(&record),
            Item::Flush(done) => drop(done.try_send(())),
        }
        let lost = LOG.get().map_or(0, |log| log.lost.swap(0, Ordering::Relaxed));
        if lost > 0 {
            let message = format!(
                "{lost} messages are missing here: they came faster than they could be written"
            );
            sink.write(&Record::new(Level::WARN, message));
        }
    }
}

impl Log {
    /// Never waits.
    fn put(&self, record: Record) {
        if self.records.try_send(Item::Record(record)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A bug of ours, with the way there if `RUST_BACKTRACE` asks for it.
    fn put_panic(&self, what: &str, way: &Backtrace) {
        let thread = std::thread::current();
        let head = format!("thread '{}' {what}", thread.name().unwrap_or("unnamed"));
        let way = match way.status() {
            BacktraceStatus::Captured => way.to_string(),
            _ => String::new(),
        };
        for line in head.lines().chain(way.lines()) {
            self.put(Record::new(Level::ERROR, bounded(line.to_owned())));
        }
    }

    fn flush(&self) {
        let (done, waiting) = sync_channel(1);
        if self.records.try_send(Item::Flush(done)).is_ok() {
            let _ = waiting.recv_timeout(FLUSH);
        }
    }
}

impl Record {
    fn new(level: Level, message: String) -> Record {
        Record { time: SystemTime::now(), level, message, fields: Vec::new() }
    }

    /// The journal's own form: NAME=VALUE, or with its length for a value of several lines.
    fn for_journal(&self, resource: &str) -> Vec<u8> {
        let priority = match self.level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        let mut out = Vec::new();
        let mut put = |name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            if value.contains('\n') {
                out.push(b'\n');
                out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            } else {
                out.push(b'=');
            }
            out.extend_from_slice(value.as_bytes());
            out.push(b'\n');
        };
        put("MESSAGE", &self.message);
        put("PRIORITY", priority);
        put("SYSLOG_IDENTIFIER", "rblk");
        put("RBLK_RESOURCE", resource);
        for (name, value) in &self.fields {
            // Names are ours: letters and underscores.
            put(&format!("RBLK_{}", name.to_uppercase()), value);
        }
        out
    }

    /// One line: what has several, or would move a terminal's cursor, is escaped.
    fn line(&self, timed: bool) -> String {
        let mut line = String::new();
        if timed {
            let time = humantime::format_rfc3339_micros(self.time);
            let colour = std::io::stderr().is_terminal();
            let (dim, plain) = if colour { ("\u{1b}[2m", "\u{1b}[0m") } else { ("", "") };
            let _ = write!(line, "{dim}{time}{plain} ");
        }
        let _ = write!(line, "{:>5} ", self.level);
        for char in self.message.chars() {
            match char.is_control() {
                true => line.extend(char.escape_default()),
                false => line.push(char),
            }
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            time: SystemTime::UNIX_EPOCH,
            level: Level::WARN,
            message: "a\u{1b}[2J\nb".to_owned(),
            fields: vec![("disk", "UpToDate".to_owned())],
        }
    }

    #[test]
    fn the_journal_gets_fields_and_whole_values() {
        let bytes = record().for_journal("swarm");
        let expected =
            b"MESSAGE\n\x07\0\0\0\0\0\0\0a\x1b[2J\nb\nPRIORITY=4\nSYSLOG_IDENTIFIER=rblk\n\
            RBLK_RESOURCE=swarm\nRBLK_DISK=UpToDate\n";
        assert_eq!(bytes, expected, "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_panic_is_logged_and_does_not_wait_for_a_log_that_cannot_be_written() {
        let (records, receiver) = sync_channel(3);
        let log = Log { records, lost: AtomicU64::new(0) };
        let began = std::time::Instant::now();
        for _ in 0..2 {
            log.put_panic("panicked at a.rs:1:2:\nslot 17", &Backtrace::disabled());
            log.flush(); // nobody writes
        }
        assert!(began.elapsed() < 3 * FLUSH);
        let lines = receiver.try_iter().filter_map(|item| match item {
            Item::Record(record) => Some(record.message),
            Item::Flush(_) => None,
        });
        let lines: Vec<String> = lines.collect();
        assert!(lines[0].ends_with("panicked at a.rs:1:2:") && lines[1] == "slot 17", "{lines:?}");
        assert_eq!(log.lost.into_inner(), 2, "those of the second find no room, and are counted");
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(record().line(false), " WARN a\\u{1b}[2J\\nb\n");
        assert!(record().line(true).starts_with("1970-01-01T00:00:00.000000Z  WARN "));
    }
}
