//! What a request asks for, checked against the volume. PURE.
//!
//! Past this file a command is known to lie within the volume, on the boundaries of its logical blocks, with
//! flags that mean something. What a client gets for a request that is not:
//!
//! | request | answer |
//! |---|---|
//! | unknown type or flag, not aligned to the logical block, READ above [`PAYLOAD_BYTES_MAX`] | EINVAL |
//! | READ or TRIM past the end | EINVAL |
//! | WRITE or WRITE_ZEROES past the end | ENOSPC |
//! | TRIM where discard is not offered | EINVAL |
//! | any, while the server stops | ESHUTDOWN |
//! | length 0 (unspecified by the protocol) | success, nothing is done |
//! | WRITE above [`PAYLOAD_BYTES_MAX`] | the connection is closed: its payload is too long to be skipped |

use super::proto::{
    CAN_MULTI_CONN, SEND_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES,
};
use super::proto::{CMD_FUA, CMD_NO_HOLE, Errno, Export, Request, command};
use crate::front::Geometry;
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};
use crate::wire::message::ZeroKind;

/// The largest READ or WRITE, in bytes: what the protocol asks every server to take.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;

/// What a command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Nothing at all: a length of 0, or a refused request.
    Nothing,
    /// Read.
    Read,
    /// Write.
    Write {
        /// Stable before the reply.
        fua: bool,
    },
    /// Discard or write zeroes.
    Zero {
        /// Which.
        kind: ZeroKind,
        /// Stable before the reply.
        fua: bool,
    },
    /// Flush.
    Flush,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checked {
    /// It is carried out.
    Do(Work),
    /// It is answered with an error.
    Refuse(Errno),
    /// The client says goodbye.
    Goodbye,
    /// The connection must be closed.
    Close,
}

/// What clients are told about a volume.
pub fn export(name: &str, geometry: &Geometry) -> Export {
    let trim = if geometry.discard { SEND_TRIM } else { 0 };
    Export {
        name: name.to_owned(),
        bytes: geometry.sectors * SECTOR_BYTES,
        flags: SEND_FLAGS | SEND_FLUSH | SEND_FUA | SEND_WRITE_ZEROES | CAN_MULTI_CONN | trim,
        block_bytes_min: geometry.block_bytes,
        block_bytes_preferred: BLOCK_BYTES as u32,
        block_bytes_max: PAYLOAD_BYTES_MAX,
    }
}

/// Checks a request against the volume.
pub fn check(request: &Request, export: &Export, stopping: bool) -> Checked {
    match request.kind {
        command::DISC => return Checked::Goodbye,
        command::WRITE if request.length > PAYLOAD_BYTES_MAX => return Checked::Close,
        _ if stopping => return Checked::Refuse(Errno::Shutdown),
        _ => {}
    }
    let fua = request.flags & CMD_FUA != 0;
    let allocated = request.flags & CMD_NO_HOLE != 0;
    let zeroes = if allocated { ZeroKind::ZeroesAllocated } else { ZeroKind::Zeroes };
    let (work, flags, past_end) = match request.kind {
        command::READ if request.length > PAYLOAD_BYTES_MAX => {
            return Checked::Refuse(Errno::Invalid);
        }
        command::READ => (Work::Read, CMD_FUA, Errno::Invalid),
        command::WRITE => (Work::Write { fua }, CMD_FUA, Errno::NoSpace),
        command::FLUSH if request.flags & !CMD_FUA == 0 => return Checked::Do(Work::Flush),
        command::TRIM if export.flags & SEND_TRIM != 0 => {
            (Work::Zero { kind: ZeroKind::Discard, fua }, CMD_FUA, Errno::Invalid)
        }
        command::WRITE_ZEROES => {
            (Work::Zero { kind: zeroes, fua }, CMD_FUA | CMD_NO_HOLE, Errno::NoSpace)
        }
        _ => return Checked::Refuse(Errno::Invalid),
    };
    let block = u64::from(export.block_bytes_min);
    let length = u64::from(request.length);
    if request.flags & !flags != 0 {
        Checked::Refuse(Errno::Invalid)
    } else if request.offset.checked_add(length).is_none_or(|end| end > export.bytes) {
        Checked::Refuse(past_end)
    } else if !request.offset.is_multiple_of(block) || !length.is_multiple_of(block) {
        Checked::Refuse(Errno::Invalid)
    } else if length == 0 {
        Checked::Do(Work::Nothing)
    } else {
        Checked::Do(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn volume(block_bytes: u32, discard: bool) -> Export {
        export("vol", &Geometry { sectors: 2048, block_bytes, discard })
    }

    fn request(kind: u16, flags: u16, offset: u64, length: u32) -> Request {
        Request { flags, kind, cookie: 1, offset, length }
    }

    #[test]
    fn the_table_of_answers() {
        let end = 1 << 20;
        let zero = |kind, fua| Checked::Do(Work::Zero { kind, fua });
        let write = |fua| Checked::Do(Work::Write { fua });
        let (no, full) = (Checked::Refuse(Errno::Invalid), Checked::Refuse(Errno::NoSpace));
        let (read, nothing) = (Checked::Do(Work::Read), Checked::Do(Work::Nothing));
        let cases = [
            (request(0, 0, 0, 512), read),
            (request(0, 1, end - 512, 512), read),
            (request(0, 0, end, 512), no),
            (request(0, 0, u64::MAX, 512), no),
            (request(0, 0, 0, PAYLOAD_BYTES_MAX + 512), no),
            (request(0, 0, 100, 512), no),
            (request(0, 0, 512, 100), no),
            (request(0, 4, 0, 512), no),
            (request(1, 0, 0, 512), write(false)),
            (request(1, 1, 0, 512), write(true)),
            (request(1, 2, 0, 512), no),
            (request(1, 0, end - 512, 1024), full),
            (request(1, 0, u64::MAX - 511, 512), full),
            (request(1, 0, 0, 0), nothing),
            (request(1, 0, 0, PAYLOAD_BYTES_MAX + 1), Checked::Close),
            (request(2, 0, 0, 0), Checked::Goodbye),
            (request(3, 0, 0, 0), Checked::Do(Work::Flush)),
            (request(3, 8, 0, 0), no),
            (request(4, 0, 0, 4096), zero(ZeroKind::Discard, false)),
            (request(4, 0, end, 4096), no),
            (request(6, 0, 0, 4096), zero(ZeroKind::Zeroes, false)),
            (request(6, 3, 0, 4096), zero(ZeroKind::ZeroesAllocated, true)),
            (request(6, 16, 0, 4096), no),
            (request(6, 0, end, 4096), full),
            (request(5, 0, 0, 4096), no),
            (request(7, 0, 0, 4096), no),
            (request(999, 0, 0, 4096), no),
        ];
        for (request, answer) in cases {
            assert_eq!(check(&request, &volume(512, true), false), answer, "{request:?}");
        }
    }

    #[test]
    fn trim_needs_discard_and_blocks_bound_requests() {
        assert_eq!(volume(512, false).flags & SEND_TRIM, 0);
        let no = Checked::Refuse(Errno::Invalid);
        assert_eq!(check(&request(4, 0, 0, 4096), &volume(512, false), false), no);
        assert_eq!(check(&request(0, 0, 512, 4096), &volume(4096, true), false), no);
        assert_eq!(check(&request(0, 0, 4096, 512), &volume(4096, true), false), no);
    }

    #[test]
    fn a_server_that_stops_refuses_but_lets_go() {
        let stops = Checked::Refuse(Errno::Shutdown);
        assert_eq!(check(&request(1, 0, 0, 512), &volume(512, true), true), stops);
        assert_eq!(check(&request(2, 0, 0, 0), &volume(512, true), true), Checked::Goodbye);
    }

    proptest! {
        #[test]
        fn what_is_done_lies_within_the_volume(
            kind in 0u16..9,
            flags in 0u16..32,
            offset in prop_oneof![0u64..(2 << 20), any::<u64>()],
            length in prop_oneof![0u32..(2 << 20), any::<u32>()],
        ) {
            let request = request(kind, flags, offset, length);
            match check(&request, &volume(512, true), false) {
                Checked::Do(Work::Flush | Work::Nothing) => {}
                Checked::Do(_) => {
                    prop_assert!(length > 0);
                    prop_assert!(offset + u64::from(length) <= 1 << 20);
                    prop_assert!(offset % 512 == 0 && length % 512 == 0);
                }
                _ => {}
            }
        }
    }
}
