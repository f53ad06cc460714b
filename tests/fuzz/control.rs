//! The control socket: lines out of pieces of any size, requests and replies out of lines.

use super::input::Input;
use rblk::ctl::line::{LineBuffer, TooLong};
use rblk::ctl::proto::{Reply, Request, decode, encode};
use rblk::limits::CONTROL_LINE_BYTES_MAX;

/// The largest piece: that of one read.
const PIECE_BYTES: usize = 4096;

/// A byte decides how the rest is cut.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let piece = 1 + usize::from(input.byte()) * 16;
    let stream = input.rest();
    let lines = lines(stream, PIECE_BYTES);
    assert_eq!(lines, self::lines(stream, piece), "cut at other places, it says something else");
    for line in &lines.0 {
        one(line);
    }
}

fn lines(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<TooLong>) {
    let mut buffer = LineBuffer::default();
    let mut lines = Vec::new();
    let mut pieces = stream.chunks(piece.min(PIECE_BYTES));
    loop {
        match buffer.take_line() {
            Ok(Some(line)) => lines.push(line),
            Ok(None) => match pieces.next() {
                Some(piece) => buffer.add(piece),
                None => return (lines, None),
            },
            Err(error) => return (lines, Some(error)),
        }
    }
}

fn one(line: &[u8]) {
    assert!(!line.contains(&b'\n'));
    assert!(line.len() <= CONTROL_LINE_BYTES_MAX);
    match decode::<Request>(line) {
        Ok(request) => {
            let text = encode(&request).expect("a request can be written");
            assert_eq!(decode::<Request>(&text).ok(), Some(request));
        }
        Err(error) => {
            // The answer to it must be a line itself.
            let text = encode(&Reply::from(error)).expect("an error can be written");
            assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }
    if let Ok(reply) = decode::<Reply>(line) {
        let text = encode(&reply).expect("a reply can be written");
        // Numbers beyond JSON's are written as null, which is no reply any more; all else comes back.
        if let Ok(again) = decode::<Reply>(&text) {
            assert_eq!(encode(&again).ok(), Some(text));
        }
    }
}
