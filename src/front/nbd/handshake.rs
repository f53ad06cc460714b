//! The server's side of the handshake. PURE: bytes in, an answer and a verdict out.
//!
//! ```text
//!   Flags ──client flags──► Options ──GO, EXPORT_NAME──► transmission
//!     │                      │  ▲
//!     └─ unknown flag        │  └── INFO, LIST, anything unknown: answered, stay
//!        ▼                   ▼
//!      closed ◄── ABORT (after the answer), bad magic, too long an option
//! ```
//!
//! A client gets [`BYTES_MAX`] bytes for all of its handshake and `HANDSHAKE_S` seconds (kept by the caller),
//! so that neither an endless list of options nor a byte a minute holds a place for long.

use super::proto::{self, Export, Outbox, option};

/// Bytes of data of one option at most. A name takes 4,096 at most; the queries for metadata contexts, which
/// are refused, may be longer. Above it the client is cut off: skipping 4 GiB helps nobody.
pub const OPTION_DATA_MAX: usize = 8 << 10;
/// Bytes that a client may send during its handshake.
pub const BYTES_MAX: usize = 64 << 10;

/// What comes after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// More bytes are needed; none were consumed.
    NeedMore,
    /// This many bytes were consumed. Send the answer, then take the next step.
    Next(usize),
    /// This many bytes were consumed. Send the answer, then requests follow.
    Begin(usize),
    /// Send the answer, if any, then close.
    Close,
}

/// A handshake in progress.
pub struct Handshake {
    flags_known: bool,
    no_zeroes: bool,
    consumed: usize,
}

impl Handshake {
    /// A handshake whose greeting is in `out`.
    pub fn new(out: &mut Outbox) -> Handshake {
        out.greeting();
        Handshake { flags_known: false, no_zeroes: false, consumed: 0 }
    }

    /// Takes one message off the front of `input` and puts the answer into `out`, which is empty.
    pub fn step(&mut self, input: &[u8], export: &Export, out: &mut Outbox) -> Verdict {
        assert!(out.bytes().is_empty(), "one answer at a time");
        let verdict = if self.flags_known {
            self.on_option(input, export, out)
        } else {
            self.on_flags(input)
        };
        if let Verdict::Next(bytes) | Verdict::Begin(bytes) = verdict {
            self.consumed += bytes;
        }
        if self.consumed > BYTES_MAX { Verdict::Close } else { verdict }
    }

    fn on_flags(&mut self, input: &[u8]) -> Verdict {
        let Some(bytes) = input.first_chunk::<{ proto::CLIENT_FLAGS_BYTES }>() else {
            return Verdict::NeedMore;
        };
        let flags = u32::from_be_bytes(*bytes);
        let known = u32::from(proto::FLAG_FIXED_NEWSTYLE | proto::FLAG_NO_ZEROES);
        if flags & !known != 0 {
            return Verdict::Close;
        }
        self.flags_known = true;
        self.no_zeroes = flags & u32::from(proto::FLAG_NO_ZEROES) != 0;
        Verdict::Next(proto::CLIENT_FLAGS_BYTES)
    }

    fn on_option(&mut self, input: &[u8], export: &Export, out: &mut Outbox) -> Verdict {
        let header = match proto::decode_option(input) {
            Ok(Some(header)) => header,
            Ok(None) => return Verdict::NeedMore,
            Err(proto::BadMagic) => return Verdict::Close,
        };
        let length = match usize::try_from(header.length) {
            Ok(length) if length <= OPTION_DATA_MAX => length,
            _ => return Verdict::Close,
        };
        let end = proto::OPTION_BYTES + length;
        let Some(data) = input.get(proto::OPTION_BYTES..end) else {
            return Verdict::NeedMore;
        };
        // The empty name asks for the default export, and there is but one.
        let known = |asked: &[u8]| asked.is_empty() || asked == export.name.as_bytes();
        match header.option {
            // This option has no error reply.
            option::EXPORT_NAME if !known(data) => Verdict::Close,
            option::EXPORT_NAME => {
                out.export_name(export, !self.no_zeroes);
                Verdict::Begin(end)
            }
            option::ABORT => {
                out.reply(header.option, proto::REP_ACK);
                Verdict::Close
            }
            option::LIST if data.is_empty() => {
                out.server(header.option, export.name.as_bytes());
                out.reply(header.option, proto::REP_ACK);
                Verdict::Next(end)
            }
            option::LIST => {
                out.reply(header.option, proto::REP_ERR_INVALID);
                Verdict::Next(end)
            }
            option::INFO | option::GO => {
                let error = match proto::decode_info_query(data) {
                    None => proto::REP_ERR_INVALID,
                    Some(query) if !known(query.name) => proto::REP_ERR_UNKNOWN,
                    Some(query) => {
                        describe(header.option, query.wants_name, export, out);
                        let begins = header.option == option::GO;
                        return if begins { Verdict::Begin(end) } else { Verdict::Next(end) };
                    }
                };
                out.reply(header.option, error);
                Verdict::Next(end)
            }
            _ => {
                out.reply(header.option, proto::REP_ERR_UNSUP);
                Verdict::Next(end)
            }
        }
    }
}

/// Block sizes are told to everyone: who does not ask for them still gains by them, and may ignore them.
fn describe(option: u32, with_name: bool, export: &Export, out: &mut Outbox) {
    out.info_export(option, export);
    out.info_block_size(option, export);
    if with_name {
        out.info_name(option, export.name.as_bytes());
    }
    out.reply(option, proto::REP_ACK);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn export() -> Export {
        Export {
            name: "vol".to_owned(),
            bytes: 1 << 20,
            flags: 0x6d,
            block_bytes_min: 512,
            block_bytes_preferred: 4096,
            block_bytes_max: 1 << 25,
        }
    }

    fn option(number: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = proto::OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend(number.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    fn info_data(name: &[u8], kinds: &[u16]) -> Vec<u8> {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend(name);
        data.extend((kinds.len() as u16).to_be_bytes());
        data.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
        data
    }

    /// A handshake past the client's flags.
    fn open(flags: u32) -> (Handshake, Outbox) {
        let mut out = Outbox::new();
        let mut hand = Handshake::new(&mut out);
        out.clear();
        let verdict = hand.step(&flags.to_be_bytes(), &export(), &mut out);
        assert_eq!(verdict, Verdict::Next(4));
        (hand, out)
    }

    /// The types of the replies in `out`.
    fn kinds(out: &Outbox) -> Vec<u32> {
        let mut rest = out.bytes();
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            assert_eq!(rest[..8], proto::OPTION_REPLY_MAGIC.to_be_bytes());
            kinds.push(u32::from_be_bytes(rest[12..16].try_into().expect("4 bytes")));
            let length = u32::from_be_bytes(rest[16..20].try_into().expect("4 bytes"));
            rest = &rest[20 + length as usize..];
        }
        kinds
    }

    #[test]
    fn go_begins_with_our_name_or_none_and_says_no_to_others() {
        for (name, begins) in [(&b"vol"[..], true), (b"", true), (b"other", false)] {
            let (mut hand, mut out) = open(3);
            let bytes = option(option::GO, &info_data(name, &[3, 1]));
            let verdict = hand.step(&bytes, &export(), &mut out);
            if begins {
                assert_eq!(verdict, Verdict::Begin(bytes.len()));
                assert_eq!(kinds(&out), [3, 3, 3, proto::REP_ACK]);
            } else {
                assert_eq!(verdict, Verdict::Next(bytes.len()));
                assert_eq!(kinds(&out), [proto::REP_ERR_UNKNOWN]);
            }
        }
    }

    #[test]
    fn options_not_served_are_refused_and_the_handshake_goes_on() {
        let (mut hand, mut out) = open(3);
        // STARTTLS, STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS, nonsense.
        for number in [5, 8, 9, 10, 11, 0xdead_beef] {
            out.clear();
            let bytes = option(number, b"whatever");
            let verdict = hand.step(&bytes, &export(), &mut out);
            assert_eq!(verdict, Verdict::Next(bytes.len()));
            assert_eq!(kinds(&out), [proto::REP_ERR_UNSUP]);
        }
        out.clear();
        let bytes = option(option::LIST, b"");
        assert_eq!(hand.step(&bytes, &export(), &mut out), Verdict::Next(16));
        assert_eq!(kinds(&out), [proto::REP_SERVER, proto::REP_ACK]);
    }

    #[test]
    fn export_name_answers_with_or_without_zeroes() {
        for (flags, bytes) in [(1, 134), (3, 10)] {
            let (mut hand, mut out) = open(flags);
            let input = option(option::EXPORT_NAME, b"vol");
            let verdict = hand.step(&input, &export(), &mut out);
            assert_eq!(verdict, Verdict::Begin(19));
            assert_eq!(out.bytes().len(), bytes);
        }
    }

    #[test]
    fn lies_close() {
        let mut out = Outbox::new();
        let mut hand = Handshake::new(&mut out);
        out.clear();
        let flags = 4u32.to_be_bytes();
        assert_eq!(hand.step(&flags, &export(), &mut out), Verdict::Close);

        let (mut hand, mut out) = open(3);
        let huge = [&proto::OPTION_MAGIC.to_be_bytes()[..], &[0, 0, 0, 7], &[0xff; 4]].concat();
        assert_eq!(hand.step(&huge, &export(), &mut out), Verdict::Close);

        let (mut hand, mut out) = open(3);
        assert_eq!(hand.step(&[0; 16], &export(), &mut out), Verdict::Close);
    }

    #[test]
    fn endless_options_are_cut_off() {
        let (mut hand, mut out) = open(3);
        let bytes = option(99, &[0; 1000]);
        for _ in 0..BYTES_MAX / bytes.len() {
            out.clear();
            let verdict = hand.step(&bytes, &export(), &mut out);
            assert_eq!(verdict, Verdict::Next(bytes.len()));
        }
        out.clear();
        assert_eq!(hand.step(&bytes, &export(), &mut out), Verdict::Close);
    }

    proptest! {
        #[test]
        fn any_option_is_answered_in_bounds(
            number in 0u32..14,
            data in proptest::collection::vec(any::<u8>(), 0..64),
            cut in 0usize..80,
        ) {
            let (mut hand, mut out) = open(1);
            let bytes = option(number, &data);
            let part = &bytes[..cut.min(bytes.len())];
            match hand.step(part, &export(), &mut out) {
                Verdict::Next(n) | Verdict::Begin(n) => prop_assert_eq!(n, bytes.len()),
                Verdict::NeedMore => prop_assert!(part.len() < bytes.len()),
                Verdict::Close => {}
            }
        }
    }
}
