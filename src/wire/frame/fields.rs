//! The fields of a header, as numbers, and the messages that they stand for.
//!
//! [`check`] holds the rules that types alone do not express. Both ends apply it: the sender asserts it, the
//! receiver refuses what breaks it.

use super::FrameError;
use super::codes::{Code, Kind};
use crate::limits::{IO_BYTES_MAX, ZERO_BYTES_MAX};
use crate::meta::superblock::MARK_MAX;
use crate::span::Span;
use crate::wire::PROTOCOL_3;
use crate::wire::message::{Message, Outcome};

/// What a header says besides lengths and checksums. What a message does not use is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fields {
    pub(super) kind: Kind,
    pub(super) code: u8,
    pub(super) flag: u8,
    pub(super) id: u64,
    pub(super) span_start: u64,
    pub(super) span_sectors: u32,
    pub(super) page: u32,
    pub(super) protocol_min: u16,
    pub(super) protocol_max: u16,
}

const NO_MARK: &str = "its watermark is higher than any real one";

/// The rules for a message that its type does not express.
pub(super) fn check(message: &Message) -> Result<(), &'static str> {
    let bytes_max = match message {
        Message::WriteZero { .. } | Message::ResyncZero { .. } => ZERO_BYTES_MAX,
        _ => IO_BYTES_MAX as u64,
    };
    match message {
        Message::Hello(hello) if hello.protocol_min > hello.protocol_max => {
            Err("its range of protocol versions is empty")
        }
        Message::Hello(hello) if hello.protocol_max < PROTOCOL_3 && hello.config != 0 => {
            Err("its version of the protocol cannot say which configuration it has")
        }
        Message::State(state) if state.mark.max(state.peer_mark) > MARK_MAX => Err(NO_MARK),
        Message::Mark { mark, .. } if *mark > MARK_MAX => Err(NO_MARK),
        Message::WriteAck { outcome, .. }
        | Message::FlushAck { outcome, .. }
        | Message::ReadReply { outcome, .. }
            if *outcome == Outcome::Skipped =>
        {
            Err("only a request of resync or verify can be skipped")
        }
        Message::Write { span, .. }
        | Message::WriteZero { span, .. }
        | Message::Read { span, .. }
        | Message::ReadReply { span, .. }
        | Message::DigestAsk { span, .. }
        | Message::DigestReply { span, .. }
        | Message::ResyncData { span, .. }
        | Message::ResyncZero { span, .. }
            if span.bytes() > bytes_max =>
        {
            Err("its span is longer than one request may be")
        }
        Message::DigestAsk { span, .. } | Message::DigestReply { span, .. } if !span.is_whole() => {
            Err("digests are of whole blocks")
        }
        _ => Ok(()),
    }
}

impl Fields {
    /// A message that uses no field.
    fn bare(kind: Kind) -> Fields {
        Fields {
            kind,
            code: 0,
            flag: 0,
            id: 0,
            span_start: 0,
            span_sectors: 0,
            page: 0,
            protocol_min: 0,
            protocol_max: 0,
        }
    }

    /// The fields that `message` uses, the others zero.
    pub(super) fn of(message: &Message) -> Fields {
        let bare = Fields::bare(kind(message));
        match *message {
            Message::Hello(hello) => Fields {
                protocol_min: hello.protocol_min,
                protocol_max: hello.protocol_max,
                ..bare
            },
            Message::Refuse(refusal) => Fields { code: refusal.code(), ..bare },
            Message::BitmapPage { page } | Message::BitmapFull { page } => Fields { page, ..bare },
            Message::Write { id, span, fua } => {
                Fields { id, flag: fua.into(), ..bare }.spanning(span)
            }
            Message::WriteZero { id, span, kind, fua } => {
                Fields { id, code: kind.code(), flag: fua.into(), ..bare }.spanning(span)
            }
            Message::WriteAck { id, outcome }
            | Message::FlushAck { id, outcome }
            | Message::ResyncAck { id, outcome } => Fields { id, code: outcome.code(), ..bare },
            Message::Flush { id, mark } => Fields { id, flag: mark.into(), ..bare },
            Message::Mark { mark, more } => Fields { id: mark, flag: more.into(), ..bare },
            Message::Read { id, span }
            | Message::DigestAsk { id, span }
            | Message::ResyncData { id, span }
            | Message::ResyncZero { id, span } => Fields { id, ..bare }.spanning(span),
            Message::ReadReply { id, span, outcome }
            | Message::DigestReply { id, span, outcome } => {
                Fields { id, code: outcome.code(), ..bare }.spanning(span)
            }
            Message::PromoteAnswer { granted: flag } | Message::Bye { outdated: flag } => {
                Fields { flag: flag.into(), ..bare }
            }
            Message::RoleIs { role } => Fields { code: role.code(), ..bare },
            Message::State(_)
            | Message::BitmapAck
            | Message::BitmapEnd
            | Message::Ready
            | Message::ResyncEnd { .. }
            | Message::ResyncEndAck
            | Message::PromoteAsk
            | Message::DiskFailed
            | Message::DiskFailedAck { .. }
            | Message::Ping
            | Message::Pong => bare,
        }
    }

    /// The fields that a message with extension uses, known before the extension is.
    pub(super) fn of_extended(&self) -> Fields {
        let bare = Fields::bare(self.kind);
        if self.kind == Kind::Hello {
            let Fields { protocol_min, protocol_max, .. } = *self;
            Fields { protocol_min, protocol_max, ..bare }
        } else {
            bare
        }
    }

    /// The message that they stand for; `None` if it takes an extension to tell. Fields that it does not use
    /// are not looked at.
    pub(super) fn message(&self) -> Result<Option<Message>, FrameError> {
        let id = self.id;
        let page = self.page;
        let message = match self.kind {
            Kind::Hello | Kind::State | Kind::ResyncEnd | Kind::DiskFailedAck => return Ok(None),
            Kind::Refuse => Message::Refuse(self.value("no refusal has its code")?),
            Kind::BitmapPage => Message::BitmapPage { page },
            Kind::BitmapFull => Message::BitmapFull { page },
            Kind::BitmapAck => Message::BitmapAck,
            Kind::BitmapEnd => Message::BitmapEnd,
            Kind::Ready => Message::Ready,
            Kind::Write => Message::Write { id, span: self.span()?, fua: self.flag()? },
            Kind::WriteZero => {
                let kind = self.value("no kind of zeroes has its code")?;
                Message::WriteZero { id, span: self.span()?, kind, fua: self.flag()? }
            }
            Kind::WriteAck => Message::WriteAck { id, outcome: self.outcome()? },
            Kind::Flush => Message::Flush { id, mark: self.flag()? },
            Kind::Mark => Message::Mark { mark: id, more: self.flag()? },
            Kind::FlushAck => Message::FlushAck { id, outcome: self.outcome()? },
            Kind::Read => Message::Read { id, span: self.span()? },
            Kind::ReadReply => {
                Message::ReadReply { id, span: self.span()?, outcome: self.outcome()? }
            }
            Kind::DigestAsk => Message::DigestAsk { id, span: self.span()? },
            Kind::DigestReply => {
                Message::DigestReply { id, span: self.span()?, outcome: self.outcome()? }
            }
            Kind::ResyncData => Message::ResyncData { id, span: self.span()? },
            Kind::ResyncZero => Message::ResyncZero { id, span: self.span()? },
            Kind::ResyncAck => Message::ResyncAck { id, outcome: self.outcome()? },
            Kind::ResyncEndAck => Message::ResyncEndAck,
            Kind::PromoteAsk => Message::PromoteAsk,
            Kind::PromoteAnswer => Message::PromoteAnswer { granted: self.flag()? },
            Kind::RoleIs => Message::RoleIs { role: self.value("no role has its code")? },
            Kind::DiskFailed => Message::DiskFailed,
            Kind::Bye => Message::Bye { outdated: self.flag()? },
            Kind::Ping => Message::Ping,
            Kind::Pong => Message::Pong,
        };
        check(&message).map_err(FrameError::Value)?;
        Ok(Some(message))
    }

    fn spanning(self, span: Span) -> Fields {
        Fields { span_start: span.start(), span_sectors: span.sectors(), ..self }
    }

    fn span(&self) -> Result<Span, FrameError> {
        let (start, sectors) = (self.span_start, self.span_sectors);
        Span::new(start, sectors).ok_or(FrameError::Span { start, sectors })
    }

    fn flag(&self) -> Result<bool, FrameError> {
        match self.flag {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError::Value("its flag is neither 0 nor 1")),
        }
    }

    fn outcome(&self) -> Result<Outcome, FrameError> {
        self.value("no outcome has its code")
    }

    fn value<T: Code>(&self, otherwise: &'static str) -> Result<T, FrameError> {
        T::from_code(self.code).ok_or(FrameError::Value(otherwise))
    }
}

fn kind(message: &Message) -> Kind {
    match message {
        Message::Hello(_) => Kind::Hello,
        Message::State(_) => Kind::State,
        Message::Refuse(_) => Kind::Refuse,
        Message::BitmapPage { .. } => Kind::BitmapPage,
        Message::BitmapFull { .. } => Kind::BitmapFull,
        Message::BitmapAck => Kind::BitmapAck,
        Message::BitmapEnd => Kind::BitmapEnd,
        Message::Ready => Kind::Ready,
        Message::Write { .. } => Kind::Write,
        Message::WriteZero { .. } => Kind::WriteZero,
        Message::WriteAck { .. } => Kind::WriteAck,
        Message::Flush { .. } => Kind::Flush,
        Message::FlushAck { .. } => Kind::FlushAck,
        Message::Read { .. } => Kind::Read,
        Message::ReadReply { .. } => Kind::ReadReply,
        Message::DigestAsk { .. } => Kind::DigestAsk,
        Message::DigestReply { .. } => Kind::DigestReply,
        Message::ResyncData { .. } => Kind::ResyncData,
        Message::ResyncZero { .. } => Kind::ResyncZero,
        Message::ResyncAck { .. } => Kind::ResyncAck,
        Message::ResyncEnd { .. } => Kind::ResyncEnd,
        Message::ResyncEndAck => Kind::ResyncEndAck,
        Message::PromoteAsk => Kind::PromoteAsk,
        Message::PromoteAnswer { .. } => Kind::PromoteAnswer,
        Message::RoleIs { .. } => Kind::RoleIs,
        Message::DiskFailed => Kind::DiskFailed,
        Message::DiskFailedAck { .. } => Kind::DiskFailedAck,
        Message::Bye { .. } => Kind::Bye,
        Message::Ping => Kind::Ping,
        Message::Mark { .. } => Kind::Mark,
        Message::Pong => Kind::Pong,
    }
}
