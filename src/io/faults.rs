//! Faults on purpose: what disks and networks do on a bad day, at a chosen rate.
//!
//! A role (the disk, the sockets) carries its own [`Faults`] and asks it about every operation before it is
//! started. The specification is a list of `key=value`, separated by commas:
//!
//! | key | meaning |
//! |---|---|
//! | `short-read=N`, `short-write=N` | every Nth read or receive, write or send, does only a part |
//! | `eagain=N`, `eintr=N`, `eio=N`, `cancel=N` | every Nth operation ends so, without being started |
//! | `read-delay-ms=T`, `write-delay-ms=T` | each of these is started `T` ms late |
//! | `flush-delay-ms=T` | each flush, and each write to stable media, is started `T` ms late |
//! | `flush-fail-after=N` | the flushes after the first N fail |
//! | `read-fail=OFFSET+LEN`, `write-fail=OFFSET+LEN` | operations that touch these bytes of the disk fail |
//! | `hang-after=N` | the operations after the first N never end, unless cancelled |

use std::time::Duration;

/// What an operation does, as far as faults are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpClass {
    /// Read from the disk, receive from a socket.
    Read,
    /// Write to the disk, send on a socket.
    Write,
    /// Write to stable media: late as a write and as a flush.
    StableWrite,
    /// Write zeroes or discard.
    Zero,
    /// Make stable.
    Flush,
}

/// What is to become of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Start it.
    Pass,
    /// Start it with fewer bytes: see [`shorten`].
    Short,
    /// Let it end with this errno.
    Fail(i32),
    /// Start it after this time.
    Delay(Duration),
    /// Let it never end by itself.
    Hang,
}

/// The faults of one role. [`Faults::default`] has none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    active: bool,
    short_read: u64,
    short_write: u64,
    eagain: u64,
    eintr: u64,
    eio: u64,
    cancel: u64,
    read_delay_ms: u64,
    write_delay_ms: u64,
    flush_delay_ms: u64,
    flush_fail_after: Option<u64>,
    read_fail: Option<(u64, u64)>,
    write_fail: Option<(u64, u64)>,
    hang_after: Option<u64>,
    operations: u64,
    reads: u64,
    writes: u64,
    flushes: u64,
}

impl Faults {
    /// Reads a specification.
    ///
    /// # Errors
    /// What is wrong with it, for the one who typed it.
    pub fn parse(text: &str) -> Result<Faults, String> {
        let mut faults = Faults::default();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| format!("Fault '{item}' has no value: write {item}=N"))?;
            faults.set(key, value)?;
            faults.active = true;
        }
        Ok(faults)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || {
            let parsed = value.parse::<u64>();
            parsed.map_err(|_| format!("Fault {key}={value}: '{value}' is not a number"))
        };
        let range = || {
            let ends = value.split_once('+').and_then(|(start, len)| {
                let start: u64 = start.parse().ok()?;
                Some((start, start.checked_add(len.parse().ok()?)?))
            });
            ends.ok_or_else(|| format!("Fault {key}={value}: expected OFFSET+LEN in bytes"))
        };
        match key {
            "short-read" => self.short_read = number()?,
            "short-write" => self.short_write = number()?,
            "eagain" => self.eagain = number()?,
            "eintr" => self.eintr = number()?,
            "eio" => self.eio = number()?,
            "cancel" => self.cancel = number()?,
            "read-delay-ms" => self.read_delay_ms = number()?,
            "write-delay-ms" => self.write_delay_ms = number()?,
            "flush-delay-ms" => self.flush_delay_ms = number()?,
            "flush-fail-after" => self.flush_fail_after = Some(number()?),
            "read-fail" => self.read_fail = Some(range()?),
            "write-fail" => self.write_fail = Some(range()?),
            "hang-after" => self.hang_after = Some(number()?),
            _ => return Err(format!("Unknown fault '{key}'")),
        }
        Ok(())
    }

    /// What becomes of the next operation, on `len` bytes at `offset` (0 for sockets).
    pub fn verdict(&mut self, class: OpClass, offset: u64, len: u64) -> Verdict {
        if !self.active {
            return Verdict::Pass;
        }
        self.operations += 1;
        let count = match class {
            OpClass::Read => &mut self.reads,
            OpClass::Write | OpClass::StableWrite | OpClass::Zero => &mut self.writes,
            OpClass::Flush => &mut self.flushes,
        };
        *count += 1;
        let number = *count;
        if self.hang_after.is_some_and(|after| self.operations > after) {
            return Verdict::Hang;
        }
        if let Some(errno) = self.errno(class, offset, len) {
            return Verdict::Fail(errno);
        }
        let (short, delay_ms) = match class {
            OpClass::Read => (self.short_read, self.read_delay_ms),
            OpClass::Write => (self.short_write, self.write_delay_ms),
            OpClass::StableWrite => {
                (self.short_write, self.write_delay_ms.saturating_add(self.flush_delay_ms))
            }
            OpClass::Zero => (0, self.write_delay_ms),
            OpClass::Flush => (0, self.flush_delay_ms),
        };
        if hit(number, short) {
            Verdict::Short
        } else if delay_ms > 0 {
            Verdict::Delay(Duration::from_millis(delay_ms))
        } else {
            Verdict::Pass
        }
    }

    /// A part of `len` bytes for a socket: another small number each time, so that every place in a frame
    /// is cut.
    pub fn crumb(&self, len: usize) -> usize {
        let small = 1 + (self.operations as usize).wrapping_mul(7919) % 199;
        small.min(len)
    }

    fn errno(&self, class: OpClass, offset: u64, len: u64) -> Option<i32> {
        let touches = |range: Option<(u64, u64)>| {
            range.is_some_and(|(start, end)| offset < end && start < offset.saturating_add(len))
        };
        let bad = match class {
            OpClass::Read => touches(self.read_fail),
            OpClass::Write | OpClass::StableWrite | OpClass::Zero => touches(self.write_fail),
            OpClass::Flush => self.flush_fail_after.is_some_and(|after| self.flushes > after),
        };
        let rates = [
            (self.eio, libc::EIO),
            (self.eagain, libc::EAGAIN),
            (self.eintr, libc::EINTR),
            (self.cancel, libc::ECANCELED),
        ];
        if bad {
            return Some(libc::EIO);
        }
        let found = rates.into_iter().find(|(every, _)| hit(self.operations, *every));
        found.map(|(_, errno)| errno)
    }
}

/// True for every `every`-th `number`; never if that is 0.
fn hit(number: u64, every: u64) -> bool {
    every > 0 && number.is_multiple_of(every)
}

/// A part of `len` bytes in whole units, at least one of them: what an operation with [`Verdict::Short`]
/// asks for.
pub fn shorten(len: usize, unit: usize) -> usize {
    (len / 2 / unit * unit).max(unit.min(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_operation_is_hit_and_no_other() {
        let mut faults = Faults::parse("short-read=3,eagain=4").expect("valid");
        let verdicts: Vec<_> = (0..6).map(|_| faults.verdict(OpClass::Read, 0, 512)).collect();
        let again = Verdict::Fail(libc::EAGAIN);
        let (pass, short) = (Verdict::Pass, Verdict::Short);
        assert_eq!(verdicts, [pass, pass, short, again, pass, short]);
    }

    #[test]
    fn bad_ranges_are_exact_to_the_byte() {
        let mut faults = Faults::parse("read-fail=4096+512").expect("valid");
        let mut read = |offset, len| faults.verdict(OpClass::Read, offset, len);
        assert_eq!(read(0, 4096), Verdict::Pass);
        assert_eq!(read(0, 4097), Verdict::Fail(libc::EIO));
        assert_eq!(read(4607, 1), Verdict::Fail(libc::EIO));
        assert_eq!(read(4608, 512), Verdict::Pass);
        assert_eq!(faults.verdict(OpClass::Write, 4096, 512), Verdict::Pass);
    }

    #[test]
    fn mistakes_in_a_specification_are_told() {
        for bad in ["nonsense=1", "eagain", "eagain=x", "read-fail=7", "read-fail=1+x"] {
            assert!(Faults::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Faults::parse(""), Ok(Faults::default()));
    }

    #[test]
    fn a_part_is_never_nothing_and_never_all_of_several_units() {
        assert_eq!(shorten(512, 512), 512);
        assert_eq!(shorten(1024, 512), 512);
        assert_eq!(shorten(4096, 512), 2048);
        assert_eq!(shorten(7, 1), 3);
        assert_eq!(shorten(1, 1), 1);
    }
}
