//! What is sent in place of frames when the link has TLS: records, one after the other, in one buffer.
//!
//! Frames are gathered first, so that a header shares a record with what follows it: a record costs a call of the
//! cipher and 22 bytes, however little it holds.

use super::outbox::Area;
use crate::io::tls::Session;
use crate::limits::{TLS_CONTROL_BYTES_MAX, TLS_RECORD_BYTES, TLS_SEAL_BYTES};

/// Room for what is sealed at a time: the last record may begin at its very end.
const CAPACITY: usize =
    TLS_SEAL_BYTES + TLS_SEAL_BYTES / 8 + TLS_RECORD_BYTES + TLS_CONTROL_BYTES_MAX;

/// Sealed records, and how much of them is sent.
#[derive(Default)]
pub(super) struct Sealed {
    bytes: Vec<u8>,
    sent: usize,
    /// The record that is being gathered.
    plain: Vec<u8>,
}

impl Sealed {
    /// Where the next records go; everything before them must be sent.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        assert!(self.rest().is_empty(), "the kernel still reads it");
        self.clear();
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(CAPACITY);
            self.plain.reserve_exact(TLS_RECORD_BYTES);
        }
        &mut self.bytes
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < TLS_SEAL_BYTES
    }

    /// Copies what is in `areas` up to a record; returns how much that is.
    pub(super) fn gather(&mut self, areas: &[Area]) -> usize {
        self.plain.clear();
        for area in areas {
            let part = area.bytes.min(TLS_RECORD_BYTES - self.plain.len());
            // SAFETY: an area lies within the heads, a body or a buffer that the batch holds; nobody writes to those.
            let bytes = unsafe { std::slice::from_raw_parts(area.start, part) };
            self.plain.extend_from_slice(bytes);
            if self.plain.len() == TLS_RECORD_BYTES {
                break;
            }
        }
        self.plain.len()
    }

    /// Seals what was gathered.
    pub(super) fn seal(&mut self, tls: &mut Session) -> Result<(), String> {
        tls.seal(&self.plain, &mut self.bytes)
    }

    /// What is not sent yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }
}
