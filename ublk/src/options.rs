//! What a device shall look like, and the same in the kernel's words.

use crate::error::Error;
use crate::sys::{self, SECTOR_BYTES};

/// The page is the unit of request buffers, and the largest logical block that every kernel takes.
const PAGE_BYTES: u32 = 4096;
/// The driver's own limit of a request buffer.
const IO_BYTES_MAX: u32 = 32 << 20;

/// What a device looks like to its clients, and what its server provides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Size, in sectors of 512 bytes; a multiple of the logical block.
    pub sectors: u64,
    /// Logical block in bytes, 512 to 4096: requests are multiples of it.
    pub logical_block_bytes: u32,
    /// Physical block in bytes, at least the logical one: requests smaller than it cost more.
    pub physical_block_bytes: u32,
    /// The size of request that clients should prefer, in bytes; at least the physical block.
    pub optimal_io_bytes: u32,
    /// Requests at once: tags 0 to this less one, each with a buffer.
    pub depth: u16,
    /// Bytes of each buffer, a multiple of 4096: the largest request with data.
    pub buffer_bytes: u32,
    /// The largest discard, in bytes; 0 if the device has none.
    pub discard_bytes_max: u32,
    /// The largest write-zeroes, in bytes; 0 if the device has none, and clients write zeroes then.
    pub zero_bytes_max: u32,
    /// Clients cannot write.
    pub read_only: bool,
    /// Seeks are expensive, as on a disk with heads.
    pub rotational: bool,
}

impl Options {
    /// These options as the kernel's parameters; an error says what is wrong with them.
    pub(crate) fn params(&self) -> Result<sys::ublk_params, Error> {
        self.check()?;
        let mut attrs = sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA;
        if self.read_only {
            attrs |= sys::UBLK_ATTR_READ_ONLY;
        }
        if self.rotational {
            attrs |= sys::UBLK_ATTR_ROTATIONAL;
        }
        Ok(sys::ublk_params {
            len: size_of::<sys::ublk_params>() as u32,
            types: sys::UBLK_PARAM_TYPE_BASIC | sys::UBLK_PARAM_TYPE_DISCARD,
            basic: sys::ublk_param_basic {
                attrs,
                logical_bs_shift: shift(self.logical_block_bytes),
                physical_bs_shift: shift(self.physical_block_bytes),
                io_opt_shift: shift(self.optimal_io_bytes),
                io_min_shift: shift(self.physical_block_bytes),
                max_sectors: self.buffer_bytes / SECTOR_BYTES,
                dev_sectors: self.sectors,
                ..Default::default()
            },
            discard: sys::ublk_param_discard {
                discard_granularity: self.physical_block_bytes,
                max_discard_sectors: self.discard_bytes_max / SECTOR_BYTES,
                max_write_zeroes_sectors: self.zero_bytes_max / SECTOR_BYTES,
                max_discard_segments: 1,
                ..Default::default()
            },
            ..Default::default()
        })
    }

    fn check(&self) -> Result<(), Error> {
        let depths = 1..=sys::UBLK_MAX_QUEUE_DEPTH;
        let logical = self.logical_block_bytes;
        let wrong = if !logical.is_power_of_two() || !(SECTOR_BYTES..=PAGE_BYTES).contains(&logical)
        {
            format!("A logical block of {logical} bytes: it must be 512, 1024, 2048 or 4096")
        } else if !self.physical_block_bytes.is_power_of_two()
            || self.physical_block_bytes < logical
        {
            let physical = self.physical_block_bytes;
            format!(
                "A physical block of {physical} bytes: it must be a power of two from {logical} on"
            )
        } else if !self.optimal_io_bytes.is_power_of_two()
            || self.optimal_io_bytes < self.physical_block_bytes
        {
            let optimal = self.optimal_io_bytes;
            format!(
                "An optimal size of {optimal} bytes: it must be a power of two, and a block at least"
            )
        } else if self.sectors == 0
            || !self.sectors.is_multiple_of(u64::from(logical / SECTOR_BYTES))
        {
            format!(
                "A device of {} sectors: it must be whole blocks of {logical} bytes",
                self.sectors
            )
        } else if !depths.contains(&u32::from(self.depth)) {
            format!(
                "A queue of depth {}: it must be {} to {}",
                self.depth,
                depths.start(),
                depths.end()
            )
        } else if !self.buffer_bytes.is_multiple_of(PAGE_BYTES)
            || !(PAGE_BYTES..=IO_BYTES_MAX).contains(&self.buffer_bytes)
        {
            let bytes = self.buffer_bytes;
            format!("Buffers of {bytes} bytes: they must be multiples of 4096 up to {IO_BYTES_MAX}")
        } else {
            return Ok(());
        };
        Err(Error::Invalid(wrong))
    }
}

/// The logarithm of a power of two.
fn shift(power: u32) -> u8 {
    power.trailing_zeros() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            sectors: 2048,
            logical_block_bytes: 512,
            physical_block_bytes: 4096,
            optimal_io_bytes: 4096,
            depth: 128,
            buffer_bytes: 128 << 10,
            discard_bytes_max: 32 << 20,
            zero_bytes_max: 32 << 20,
            read_only: false,
            rotational: false,
        }
    }

    #[test]
    fn the_kernel_is_told_sizes_as_shifts_and_sectors() {
        let params = options().params().expect("valid");
        assert_eq!(params.basic.logical_bs_shift, 9);
        assert_eq!(params.basic.physical_bs_shift, 12);
        assert_eq!(params.basic.max_sectors, 256);
        assert_eq!(params.discard.max_discard_sectors, 65536);
        assert_eq!(params.basic.attrs, sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA);
    }

    #[test]
    fn impossible_options_are_refused_here() {
        let wrong = [
            Options { sectors: 0, ..options() },
            Options { sectors: 9, logical_block_bytes: 4096, ..options() },
            Options { logical_block_bytes: 0, ..options() },
            Options { logical_block_bytes: 8192, physical_block_bytes: 8192, ..options() },
            Options { physical_block_bytes: 256, ..options() },
            Options { optimal_io_bytes: 512, ..options() },
            Options { depth: 0, ..options() },
            Options { depth: 5000, ..options() },
            Options { buffer_bytes: 1000, ..options() },
            Options { buffer_bytes: 64 << 20, ..options() },
        ];
        for options in wrong {
            assert!(matches!(options.params(), Err(Error::Invalid(_))), "{options:?}");
        }
    }
}
