//! What a client asks of the device, decoded from the kernel's descriptor.

use crate::sys;

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Fill the tag's buffer from the disk.
    Read,
    /// Put the tag's buffer on the disk.
    Write,
    /// Put all writes that were answered before on stable media.
    Flush,
    /// Forget the content.
    Discard,
    /// Make the content zero.
    WriteZeroes,
}

/// One request of a client. For [`Op::Flush`] the span is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Names it until it is committed.
    pub tag: u16,
    /// What.
    pub op: Op,
    /// Where, in sectors of 512 bytes.
    pub start_sector: u64,
    /// How much, in sectors of 512 bytes. With data it fits the tag's buffer.
    pub sectors: u32,
    /// On stable media before it is answered.
    pub fua: bool,
    /// Write-zeroes that must leave the space allocated.
    pub no_unmap: bool,
}

/// What a completion on the ring means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A request came in. It must be committed, sooner or later.
    Request(Request),
    /// A request came in that this server cannot serve: commit the tag with `-errno`.
    Refuse {
        /// Of the request.
        tag: u16,
        /// To be answered, negated.
        errno: i32,
    },
    /// The tag is out of use: the device is stopping, or the driver took none of our entry.
    Aborted {
        /// Which.
        tag: u16,
        /// `ENODEV` if the device stops; any other is a fault of the server.
        errno: i32,
    },
}

/// What a device can be asked for: everything outside is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Size of the device.
    pub(crate) sectors: u64,
    /// Sectors of a buffer.
    pub(crate) buffer_sectors: u32,
}

/// Reads a descriptor. The kernel keeps its own limits; what does not hold to them is refused all the
/// same, since an overlong read would run past the buffer.
pub(crate) fn decode(tag: u16, from: sys::ublksrv_io_desc, bounds: Bounds) -> Event {
    let op = match from.op_flags & sys::MASK_OF_OPS {
        sys::UBLK_IO_OP_READ => Op::Read,
        sys::UBLK_IO_OP_WRITE => Op::Write,
        sys::UBLK_IO_OP_FLUSH => Op::Flush,
        sys::UBLK_IO_OP_DISCARD => Op::Discard,
        sys::UBLK_IO_OP_WRITE_ZEROES => Op::WriteZeroes,
        _ => {
            return Event::Refuse { tag, errno: libc::EOPNOTSUPP };
        }
    };
    let (start_sector, sectors) = match op {
        Op::Flush => (0, 0),
        _ => (from.start_sector, from.nr_sectors),
    };
    let with_data = matches!(op, Op::Read | Op::Write);
    let end = start_sector.checked_add(u64::from(sectors));
    let inside = end.is_some_and(|end| end <= bounds.sectors);
    let empty = sectors == 0 && op != Op::Flush;
    if !inside || empty || (with_data && sectors > bounds.buffer_sectors) {
        return Event::Refuse { tag, errno: libc::EINVAL };
    }
    Event::Request(Request {
        tag,
        op,
        start_sector,
        sectors,
        fua: from.op_flags & sys::UBLK_IO_F_FUA != 0,
        no_unmap: from.op_flags & sys::UBLK_IO_F_NOUNMAP != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { sectors: 1000, buffer_sectors: 256 };

    fn decoded(op_flags: u32, start_sector: u64, nr_sectors: u32) -> Event {
        decode(3, sys::ublksrv_io_desc { op_flags, nr_sectors, start_sector, addr: 0 }, BOUNDS)
    }

    #[test]
    fn flags_reach_the_request() {
        let Event::Request(write) = decoded(1 | sys::UBLK_IO_F_FUA, 8, 16) else {
            panic!("refused")
        };
        assert_eq!((write.op, write.start_sector, write.sectors), (Op::Write, 8, 16));
        assert!(write.fua && !write.no_unmap);
        let Event::Request(zero) = decoded(5 | sys::UBLK_IO_F_NOUNMAP, 0, 1000) else {
            panic!("refused")
        };
        assert!(zero.op == Op::WriteZeroes && zero.no_unmap && !zero.fua);
        let Event::Request(flush) = decoded(2, u64::MAX, 7) else { panic!("refused") };
        assert_eq!((flush.op, flush.start_sector, flush.sectors), (Op::Flush, 0, 0));
    }

    #[test]
    fn what_no_client_can_mean_is_refused() {
        let invalid = Event::Refuse { tag: 3, errno: libc::EINVAL };
        assert_eq!(decoded(0, 0, 257), invalid, "larger than the buffer");
        assert_eq!(decoded(1, 0, 0), invalid, "empty");
        assert_eq!(decoded(0, 999, 2), invalid, "past the end");
        assert_eq!(decoded(3, u64::MAX, 2), invalid, "past the end of numbers");
        for op in [4, 10, 13, 18, 255] {
            assert_eq!(decoded(op, 0, 1), Event::Refuse { tag: 3, errno: libc::EOPNOTSUPP });
        }
    }
}
