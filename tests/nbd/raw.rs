//! A client made by hand, which can say anything.

use super::server::Server;
use std::io::{Read, Result, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longer than any deadline of the server.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) trait Stream: Read + Write + Send {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

pub(super) struct Raw {
    stream: Box<dyn Stream>,
}

/// A simple reply.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Reply {
    pub(super) error: u32,
    pub(super) cookie: u64,
}

impl Raw {
    /// Connects and says nothing.
    pub(super) fn connect(server: &Server) -> Raw {
        let stream: Box<dyn Stream> = if server.place.starts_with('/') {
            let stream = UnixStream::connect(&server.place).expect("connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("sets");
            stream.set_write_timeout(Some(PATIENCE)).expect("sets");
            Box::new(stream)
        } else {
            let stream = TcpStream::connect(&server.place).expect("connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("sets");
            Box::new(stream)
        };
        Raw { stream }
    }

    /// Connects and reads the greeting.
    pub(super) fn greeted(server: &Server) -> Raw {
        let mut raw = Raw::connect(server);
        assert_eq!(raw.read(18), b"NBDMAGICIHAVEOPT\0\x03");
        raw
    }

    /// Connects and enters the transmission phase.
    pub(super) fn begin(server: &Server) -> Raw {
        let mut raw = Raw::greeted(server);
        raw.say(&3u32.to_be_bytes());
        raw.say(&option(1, b"vol"));
        assert_eq!(raw.read(10).len(), 10);
        raw
    }

    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.try_say(bytes).expect("the server takes it");
    }

    pub(super) fn try_say(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    pub(super) fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0; bytes];
        self.stream.read_exact(&mut buffer).expect("the server sends it");
        buffer
    }

    pub(super) fn reply(&mut self) -> Reply {
        let bytes = self.read(16);
        assert_eq!(bytes[..4], 0x6744_6698u32.to_be_bytes());
        let error = u32::from_be_bytes(bytes[4..8].try_into().expect("4 bytes"));
        let cookie = u64::from_be_bytes(bytes[8..].try_into().expect("8 bytes"));
        Reply { error, cookie }
    }

    /// Sends a request and reads its reply, with `data` bytes if it succeeds.
    pub(super) fn ask(&mut self, request: &[u8], data: usize) -> (u32, Vec<u8>) {
        self.say(request);
        let reply = self.reply();
        assert_eq!(reply.cookie, COOKIE);
        (reply.error, if reply.error == 0 { self.read(data) } else { Vec::new() })
    }

    /// All that is still sent until the server closes.
    pub(super) fn until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return bytes,
                Ok(n) => bytes.extend(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return bytes,
                Err(e) => panic!("the server does not close: {e}"),
            }
        }
    }
}

pub(super) const COOKIE: u64 = 0x0123_4567_89ab_cdef;

pub(super) fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

pub(super) fn request(kind: u16, flags: u16, offset: u64, length: u32) -> Vec<u8> {
    named(COOKIE, kind, flags, offset, length)
}

pub(super) fn named(cookie: u64, kind: u16, flags: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}
