//! What a handler prints: the beginning is kept, all of it is read, none of it can do harm in a log.

use crate::limits::HANDLER_OUTPUT_BYTES_MAX;

/// Bytes as they come.
#[derive(Default)]
pub(super) struct Output {
    kept: Vec<u8>,
    more: u64,
}

impl Output {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = HANDLER_OUTPUT_BYTES_MAX - self.kept.len();
        let kept = room.min(bytes.len());
        self.kept.extend_from_slice(&bytes[..kept]);
        self.more += (bytes.len() - kept) as u64;
    }

    /// Bytes that were not kept.
    pub(super) fn more(&self) -> u64 {
        self.more
    }

    /// The lines that are not empty; whatever moves a cursor or cannot be seen is escaped.
    pub(super) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.kept);
        text.lines().map(safe).filter(|line| !line.trim().is_empty()).collect()
    }
}

fn safe(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '"' | '\'' | '\\' | '\t' => safe.push(c),
            _ => safe.extend(c.escape_debug()),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded_and_shows_as_what_it_is() {
        let mut output = Output::default();
        output.add(b"it's \"so\"\n\n\x1b[2Jgone\r\nhalf ");
        output.add(b"a line\xff \xe2\x80\xae");
        let expected = ["it's \"so\"", "\\u{1b}[2Jgone", "half a line\u{fffd} \\u{202e}"];
        assert_eq!(output.lines(), expected);
        assert_eq!(output.more(), 0);
        let mut output = Output::default();
        for _ in 0..1000 {
            output.add(&[b'x'; 5_000]);
        }
        assert_eq!(output.lines(), ["x".repeat(HANDLER_OUTPUT_BYTES_MAX)]);
        assert_eq!(output.more(), 5_000_000 - HANDLER_OUTPUT_BYTES_MAX as u64);
    }
}
