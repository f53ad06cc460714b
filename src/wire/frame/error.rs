//! Why a frame is not believed.

use std::fmt;

/// Why a frame is not believed. The stream is out of step then: the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// It does not begin with the magic number.
    Magic,
    /// The checksum of the header is wrong.
    HeaderChecksum,
    /// No message has this type.
    Kind {
        /// The type found.
        found: u8,
    },
    /// The extension has not the length that the type gives it.
    ExtensionLength {
        /// The length found in bytes.
        found: u32,
    },
    /// The payload has not the length that type and span give it.
    PayloadLength {
        /// The length found in bytes.
        found: u32,
    },
    /// The checksum of the extension is wrong.
    ExtensionChecksum,
    /// The checksum of the payload is wrong.
    PayloadChecksum,
    /// The span is empty, or beyond what any disk has.
    Span {
        /// Its first sector.
        start: u64,
        /// Its length in sectors.
        sectors: u32,
    },
    /// A value that its message does not have.
    Value(&'static str),
    /// A bit that the message does not use is set.
    Unused,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Magic => {
                f.write_str("The stream is not rblk's, or out of step: wrong magic number")
            }
            FrameError::HeaderChecksum => f.write_str("The checksum of the header is wrong"),
            FrameError::Kind { found } => write!(f, "No message has type {found}"),
            FrameError::ExtensionLength { found } => {
                write!(f, "An extension of {found} bytes does not fit the type of the message")
            }
            FrameError::PayloadLength { found } => {
                write!(f, "A payload of {found} bytes does not fit the message")
            }
            FrameError::ExtensionChecksum => f.write_str("The checksum of the extension is wrong"),
            FrameError::PayloadChecksum => f.write_str("The checksum of the payload is wrong"),
            FrameError::Span { start, sectors } => {
                write!(f, "There is no span of {sectors} sectors from sector {start} on")
            }
            FrameError::Value(why) => write!(f, "The message is invalid: {why}"),
            FrameError::Unused => {
                f.write_str("The message is invalid: bits that it does not use are set")
            }
        }
    }
}

impl std::error::Error for FrameError {}
