//! The least NBD client that can drive the demo: one request at a time over a UNIX socket.

use crate::error::{Error, Kind, Result};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// No request takes longer, or the demo has failed.
const TIMEOUT: Duration = Duration::from_secs(60);

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// Fixed newstyle, no zeroes: the server offers both and we take both.
const FLAGS: u16 = 0b11;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const INFO_EXPORT: u16 = 0;
/// The longest option reply that is read.
const REPLY_BYTES_MAX: u32 = 4096;

/// Requests.
#[derive(Clone, Copy)]
enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
}

/// An open export.
pub(super) struct Volume {
    stream: UnixStream,
    bytes: u64,
    cookie: u64,
}

impl Volume {
    /// Connects and chooses the default export.
    pub(super) fn open(socket: &Path) -> Result<Volume> {
        let connect = || -> io::Result<Volume> {
            let mut stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            let bytes = handshake(&mut stream)?;
            Ok(Volume { stream, bytes, cookie: 0 })
        };
        let what = || format!("Cannot open the volume at {}", socket.display());
        connect().map_err(|error| Error::io(what(), error))
    }

    /// Size of the volume.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn write(&mut self, offset: u64, content: &[u8]) -> Result<()> {
        let done = self.request(Command::Write, offset, content, &mut []);
        done.map_err(|error| failed("write", offset, error))
    }

    pub(super) fn read(&mut self, offset: u64, content: &mut [u8]) -> Result<()> {
        let done = self.request(Command::Read, offset, &[], content);
        done.map_err(|error| failed("read", offset, error))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        let done = self.request(Command::Flush, 0, &[], &mut []);
        done.map_err(|error| failed("flush", 0, error))
    }

    /// Leaves in good order: the server closes when it has seen it.
    pub(super) fn disconnect(mut self) -> Result<()> {
        let done = self.send(Command::Disconnect, 0, 0, &[]).and_then(|()| {
            let mut rest = [0; 1];
            self.stream.read(&mut rest).map(|_| ())
        });
        done.map_err(|error| failed("disconnect", 0, error))
    }

    fn send(&mut self, command: Command, offset: u64, len: usize, out: &[u8]) -> io::Result<()> {
        self.cookie += 1;
        let mut header = Vec::with_capacity(28 + out.len());
        header.extend(REQUEST_MAGIC.to_be_bytes());
        header.extend(0u16.to_be_bytes());
        header.extend((command as u16).to_be_bytes());
        header.extend(self.cookie.to_be_bytes());
        header.extend(offset.to_be_bytes());
        let len = u32::try_from(len).map_err(io::Error::other)?;
        header.extend(len.to_be_bytes());
        header.extend(out);
        self.stream.write_all(&header)
    }

    fn request(
        &mut self,
        command: Command,
        offset: u64,
        out: &[u8],
        back: &mut [u8],
    ) -> io::Result<()> {
        self.send(command, offset, out.len().max(back.len()), out)?;
        expect(u32::from_be_bytes(take(&mut self.stream)?) == REPLY_MAGIC, "magic of a reply")?;
        let error = u32::from_be_bytes(take(&mut self.stream)?);
        expect(u64::from_be_bytes(take(&mut self.stream)?) == self.cookie, "cookie")?;
        if error != 0 {
            return Err(io::Error::other(format!("the server answered with error {error}")));
        }
        self.stream.read_exact(back)
    }
}

/// From the greeting to the transmission phase; the size of the export in bytes.
fn handshake(stream: &mut UnixStream) -> io::Result<u64> {
    expect(u64::from_be_bytes(take(stream)?) == NBD_MAGIC, "magic")?;
    expect(u64::from_be_bytes(take(stream)?) == OPTION_MAGIC, "newstyle greeting")?;
    expect(u16::from_be_bytes(take(stream)?) & FLAGS == FLAGS, "flags")?;
    let mut hello = Vec::new();
    hello.extend(u32::from(FLAGS).to_be_bytes());
    hello.extend(OPTION_MAGIC.to_be_bytes());
    hello.extend(OPTION_GO.to_be_bytes());
    // Length of the name (none: the default export), and the number of further wishes (none).
    hello.extend(6u32.to_be_bytes());
    hello.extend([0; 6]);
    stream.write_all(&hello)?;
    let mut bytes = None;
    loop {
        expect(u64::from_be_bytes(take(stream)?) == OPTION_REPLY_MAGIC, "option reply")?;
        expect(u32::from_be_bytes(take(stream)?) == OPTION_GO, "option")?;
        let kind = u32::from_be_bytes(take(stream)?);
        let len = u32::from_be_bytes(take(stream)?);
        expect(len <= REPLY_BYTES_MAX, "length of an option reply")?;
        let mut data = vec![0; len as usize];
        stream.read_exact(&mut data)?;
        match (kind, bytes) {
            (REPLY_INFO, _) => bytes = export_size(&data).or(bytes),
            (REPLY_ACK, Some(bytes)) => return Ok(bytes),
            _ => {
                let text = String::from_utf8_lossy(&data).into_owned();
                let text = format!("the server refused with {kind:#x} {text}");
                return Err(io::Error::other(text));
            }
        }
    }
}

/// The size from an information reply about the export.
fn export_size(data: &[u8]) -> Option<u64> {
    let (kind, rest) = data.split_first_chunk::<2>()?;
    let (size, _) = rest.split_first_chunk::<8>()?;
    (u16::from_be_bytes(*kind) == INFO_EXPORT).then(|| u64::from_be_bytes(*size))
}

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn expect(as_it_should_be: bool, what: &str) -> io::Result<()> {
    if as_it_should_be {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("not NBD: wrong {what}")))
}

fn failed(verb: &str, offset: u64, error: io::Error) -> Error {
    Error::new(Kind::Io, format!("A {verb} at byte {offset} of the volume has failed"))
        .source(error)
}
