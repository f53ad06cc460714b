//! Codec of the NBD protocol, fixed newstyle with simple replies. PURE: slices in, values out.
//!
//! Promises: no input makes a function here panic or allocate, and nothing is read past what was given. What
//! a message *means* is decided elsewhere: the handshake in [`super::handshake`], requests in
//! [`super::command`].
//!
//! ```text
//! client flags (4)   flags:32
//! option (16 + n)    "IHAVEOPT":64  option:32  length:32   data[length]
//! option reply       magic:64       option:32  type:32     length:32      data[length]
//! request (28)       magic:32  flags:16  type:16  cookie:64  offset:64  length:32   payload of a WRITE
//! simple reply (16)  magic:32  error:32  cookie:64                                  payload of a READ
//! ```
//!
//! All integers are big-endian. Numbers follow the specification at the project "NetworkBlockDevice/nbd".

/// First eight bytes of the greeting: "NBDMAGIC".
pub const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second eight bytes of the greeting, and first of every option: "IHAVEOPT".
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First eight bytes of every reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First four bytes of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First four bytes of every simple reply.
pub const REPLY_MAGIC: u32 = 0x6744_6698;

/// Bytes of the client's flags.
pub const CLIENT_FLAGS_BYTES: usize = 4;
/// Bytes of an option without its data.
pub const OPTION_BYTES: usize = 16;
/// Bytes of a request without its payload.
pub const REQUEST_BYTES: usize = 28;
/// Bytes of a simple reply without its payload.
pub const REPLY_BYTES: usize = 16;
/// The longest name of an export that the specification allows, in bytes.
pub const NAME_BYTES_MAX: usize = 4096;

/// Handshake flag and client flag: fixed newstyle.
pub const FLAG_FIXED_NEWSTYLE: u16 = 1;
/// Handshake flag and client flag: no 124 zeroes after `EXPORT_NAME`.
pub const FLAG_NO_ZEROES: u16 = 2;

/// Transmission flag: the flags mean something.
pub const SEND_FLAGS: u16 = 1;
/// Transmission flag: FLUSH is served.
pub const SEND_FLUSH: u16 = 1 << 2;
/// Transmission flag: FUA is honoured.
pub const SEND_FUA: u16 = 1 << 3;
/// Transmission flag: TRIM is served.
pub const SEND_TRIM: u16 = 1 << 5;
/// Transmission flag: WRITE_ZEROES is served.
pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
/// Transmission flag: a flush on one connection covers what any connection wrote.
pub const CAN_MULTI_CONN: u16 = 1 << 8;

/// Options of the handshake that are served; all others are answered with [`REP_ERR_UNSUP`].
pub mod option {
    /// Choose an export and begin, without a way to say no.
    pub const EXPORT_NAME: u32 = 1;
    /// Leave.
    pub const ABORT: u32 = 2;
    /// List the exports.
    pub const LIST: u32 = 3;
    /// Describe an export.
    pub const INFO: u32 = 6;
    /// Describe an export and begin.
    pub const GO: u32 = 7;
}

/// Kinds of information about an export.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Canonical name.
    pub const NAME: u16 = 1;
    /// Smallest, preferred and largest request.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Option reply: done.
pub const REP_ACK: u32 = 1;
/// Option reply: an export.
pub const REP_SERVER: u32 = 2;
/// Option reply: information on an export.
pub const REP_INFO: u32 = 3;
/// Option reply: not served.
pub const REP_ERR_UNSUP: u32 = 0x8000_0001;
/// Option reply: malformed.
pub const REP_ERR_INVALID: u32 = 0x8000_0003;
/// Option reply: there is no such export.
pub const REP_ERR_UNKNOWN: u32 = 0x8000_0006;

/// Types of requests.
pub mod command {
    /// Read.
    pub const READ: u16 = 0;
    /// Write; the only one with a payload.
    pub const WRITE: u16 = 1;
    /// Disconnect; has no reply.
    pub const DISC: u16 = 2;
    /// Make all completed writes stable.
    pub const FLUSH: u16 = 3;
    /// Discard.
    pub const TRIM: u16 = 4;
    /// Make zero.
    pub const WRITE_ZEROES: u16 = 6;
}

/// Request flag: stable before the reply.
pub const CMD_FUA: u16 = 1;
/// Request flag of WRITE_ZEROES: keep the space allocated.
pub const CMD_NO_HOLE: u16 = 2;

/// Errors of a simple reply, as the protocol numbers them on every platform.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Errno {
    /// No error.
    Ok = 0,
    /// The data could not be read or written.
    Io = 5,
    /// The request makes no sense here.
    Invalid = 22,
    /// A write past the end.
    NoSpace = 28,
    /// The server is going away.
    Shutdown = 108,
}

/// An option of the handshake, its data still unread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionHeader {
    /// Which.
    pub option: u32,
    /// Bytes of data that follow.
    pub length: u32,
}

/// A request of the transmission phase, as it came: nothing about it is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Flags, see [`CMD_FUA`].
    pub flags: u16,
    /// Type, see [`command`].
    pub kind: u16,
    /// The client's name for it.
    pub cookie: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
}

/// The data of INFO and GO: which export, and what the client wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InfoQuery<'a> {
    /// Name of the export.
    pub name: &'a [u8],
    /// True if the client asks for the canonical name.
    pub wants_name: bool,
}

/// The stream does not carry what it must: nothing after it can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadMagic;

/// Reads the header of an option; `None` if there are too few bytes.
pub fn decode_option(bytes: &[u8]) -> Result<Option<OptionHeader>, BadMagic> {
    let mut reader = Reader(bytes);
    let (Some(magic), Some(option), Some(length)) = (reader.u64(), reader.u32(), reader.u32())
    else {
        return Ok(None);
    };
    if magic == OPTION_MAGIC { Ok(Some(OptionHeader { option, length })) } else { Err(BadMagic) }
}

/// Reads the header of a request; `None` if there are too few bytes.
pub fn decode_request(bytes: &[u8]) -> Result<Option<Request>, BadMagic> {
    let mut reader = Reader(bytes);
    let fields = (reader.u32(), reader.u16(), reader.u16(), reader.u64(), reader.u64());
    let (Some(magic), Some(flags), Some(kind), Some(cookie), Some(offset)) = fields else {
        return Ok(None);
    };
    let Some(length) = reader.u32() else {
        return Ok(None);
    };
    if magic == REQUEST_MAGIC {
        Ok(Some(Request { flags, kind, cookie, offset, length }))
    } else {
        Err(BadMagic)
    }
}

/// Reads the data of INFO and GO; `None` if its parts do not add up to its length.
pub fn decode_info_query(data: &[u8]) -> Option<InfoQuery<'_>> {
    let mut reader = Reader(data);
    let name_bytes = usize::try_from(reader.u32()?).ok()?;
    let name = reader.take(name_bytes)?;
    let count = usize::from(reader.u16()?);
    let wanted = reader.take(count * 2)?;
    let complete = reader.0.is_empty() && name.len() <= NAME_BYTES_MAX;
    let wants_name = wanted.chunks_exact(2).any(|kind| kind == info::NAME.to_be_bytes());
    complete.then_some(InfoQuery { name, wants_name })
}

/// The header of a simple reply.
pub fn encode_reply(cookie: u64, error: Errno) -> [u8; REPLY_BYTES] {
    let mut bytes = [0; REPLY_BYTES];
    bytes[..4].copy_from_slice(&REPLY_MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&(error as u32).to_be_bytes());
    bytes[8..].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

/// What a client must know of the export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// Its name, at most [`crate::limits::NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Bytes of the volume.
    pub bytes: u64,
    /// Transmission flags.
    pub flags: u16,
    /// Alignment of every request, in bytes.
    pub block_bytes_min: u32,
    /// What performs well, in bytes.
    pub block_bytes_preferred: u32,
    /// The largest read or write, in bytes.
    pub block_bytes_max: u32,
}

/// A fixed space for what the server says during the handshake. It never grows.
pub struct Outbox {
    bytes: Box<[u8]>,
    len: usize,
}

impl Outbox {
    /// Bytes of the longest answer: INFO with three kinds of information and the longest name of a resource
    /// takes under 200, EXPORT_NAME 134.
    pub const CAPACITY: usize = 512;

    /// An empty outbox.
    pub fn new() -> Outbox {
        Outbox { bytes: vec![0; Outbox::CAPACITY].into_boxed_slice(), len: 0 }
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The greeting that opens a connection.
    pub fn greeting(&mut self) {
        self.put(&GREETING_MAGIC.to_be_bytes());
        self.put(&OPTION_MAGIC.to_be_bytes());
        self.put(&(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes());
    }

    /// A reply to `option` without data.
    pub fn reply(&mut self, option: u32, kind: u32) {
        self.reply_header(option, kind, 0);
    }

    /// One line of the answer to LIST.
    pub fn server(&mut self, option: u32, name: &[u8]) {
        self.reply_header(option, REP_SERVER, 4 + name.len());
        self.put(&(name.len() as u32).to_be_bytes());
        self.put(name);
    }

    /// Size and flags.
    pub fn info_export(&mut self, option: u32, export: &Export) {
        self.reply_header(option, REP_INFO, 12);
        self.put(&info::EXPORT.to_be_bytes());
        self.put(&export.bytes.to_be_bytes());
        self.put(&export.flags.to_be_bytes());
    }

    /// Smallest, preferred and largest request.
    pub fn info_block_size(&mut self, option: u32, export: &Export) {
        self.reply_header(option, REP_INFO, 14);
        self.put(&info::BLOCK_SIZE.to_be_bytes());
        self.put(&export.block_bytes_min.to_be_bytes());
        self.put(&export.block_bytes_preferred.to_be_bytes());
        self.put(&export.block_bytes_max.to_be_bytes());
    }

    /// The canonical name.
    pub fn info_name(&mut self, option: u32, name: &[u8]) {
        self.reply_header(option, REP_INFO, 2 + name.len());
        self.put(&info::NAME.to_be_bytes());
        self.put(name);
    }

    /// The answer to EXPORT_NAME.
    pub fn export_name(&mut self, export: &Export, zeroes: bool) {
        self.put(&export.bytes.to_be_bytes());
        self.put(&export.flags.to_be_bytes());
        if zeroes {
            self.put(&[0; 124]);
        }
    }

    fn reply_header(&mut self, option: u32, kind: u32, length: usize) {
        self.put(&OPTION_REPLY_MAGIC.to_be_bytes());
        self.put(&option.to_be_bytes());
        self.put(&kind.to_be_bytes());
        self.put(&(length as u32).to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        assert!(end <= self.bytes.len(), "an answer of the handshake outgrew its bound");
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::new()
    }
}

/// Takes fields off the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_reads_as_the_specification_lays_it_out() {
        let bytes = [
            0x25, 0x60, 0x95, 0x13, // magic
            0x00, 0x01, // FUA
            0x00, 0x01, // WRITE
            0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, // cookie
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, // offset
            0x00, 0x00, 0x02, 0x00, // length
        ];
        let request = Request {
            flags: CMD_FUA,
            kind: command::WRITE,
            cookie: 0x1122_3344_5566_7788,
            offset: 4096,
            length: 512,
        };
        assert_eq!(decode_request(&bytes), Ok(Some(request)));
        assert_eq!(decode_request(&bytes[..27]), Ok(None));
        let mut bad = bytes;
        bad[3] ^= 1;
        assert_eq!(decode_request(&bad), Err(BadMagic));
    }

    #[test]
    fn a_reply_is_laid_out_as_the_specification_says() {
        assert_eq!(
            encode_reply(0x0102_0304_0506_0708, Errno::NoSpace),
            [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 1, 2, 3, 4, 5, 6, 7, 8]
        );
    }

    #[test]
    fn the_greeting_is_the_fixed_newstyle_one() {
        let mut out = Outbox::new();
        out.greeting();
        assert_eq!(out.bytes(), b"NBDMAGICIHAVEOPT\0\x03");
    }

    #[test]
    fn info_replies_carry_their_lengths() {
        let export = Export {
            name: "vol".to_owned(),
            bytes: 0x1_0000_0000,
            flags: 0x6d,
            block_bytes_min: 512,
            block_bytes_preferred: 4096,
            block_bytes_max: 1 << 25,
        };
        let mut out = Outbox::new();
        out.info_export(option::GO, &export);
        assert_eq!(&out.bytes()[..8], 0x3e889045565a9u64.to_be_bytes());
        assert_eq!(&out.bytes()[8..20], [0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 12]);
        assert_eq!(&out.bytes()[20..], [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x6d]);
        out.clear();
        out.info_block_size(option::INFO, &export);
        assert_eq!(out.bytes()[20..], [0, 3, 0, 0, 2, 0, 0, 0, 0x10, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn an_info_query_must_add_up() {
        let query = b"\0\0\0\x02ab\0\x02\0\x03\0\x01";
        let expected = InfoQuery { name: b"ab", wants_name: true };
        assert_eq!(decode_info_query(query), Some(expected));
        assert_eq!(decode_info_query(&query[..query.len() - 1]), None);
        assert_eq!(decode_info_query(b"\xff\xff\xff\xffab\0\0"), None);
        assert_eq!(decode_info_query(b"\0\0\0\0\0\0x"), None);
        let plain = InfoQuery { name: b"", wants_name: false };
        assert_eq!(decode_info_query(b"\0\0\0\0\0\0"), Some(plain));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_request(&bytes);
            let _ = decode_option(&bytes);
            let _ = decode_info_query(&bytes);
        }

        #[test]
        fn what_follows_a_good_magic_never_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            let mut request = REQUEST_MAGIC.to_be_bytes().to_vec();
            request.extend(&bytes);
            let complete = request.len() >= REQUEST_BYTES;
            prop_assert_eq!(decode_request(&request).expect("magic").is_some(), complete);
            let mut option = OPTION_MAGIC.to_be_bytes().to_vec();
            option.extend(&bytes);
            let complete = option.len() >= OPTION_BYTES;
            prop_assert_eq!(decode_option(&option).expect("magic").is_some(), complete);
        }
    }
}
