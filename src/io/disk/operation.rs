//! A request on its way through the kernel: what its next operation is, and when it has ended. No I/O here.

use super::work::{DiskError, DiskRequest, Work};
use crate::io::faults::OpClass;
use crate::limits::DISK_RETRIES_MAX;
use crate::wire::message::ZeroKind;
use std::time::Duration;

/// What the next operation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Read or write.
    Transfer,
    /// Zero and give the space back.
    PunchHole,
    /// Zero.
    ZeroRange,
    /// Zero the hard way.
    WriteZeroes,
    /// Put on stable media.
    Sync,
}

/// What the disk can do, until it has refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Abilities {
    pub(super) punch_hole: bool,
    pub(super) zero_range: bool,
}

impl Abilities {
    fn zero_stage(self, kind: ZeroKind) -> Stage {
        match (kind, self.punch_hole, self.zero_range) {
            (ZeroKind::Discard | ZeroKind::Zeroes, true, _) => Stage::PunchHole,
            (_, _, true) => Stage::ZeroRange,
            (_, _, false) => Stage::WriteZeroes,
        }
    }
}

/// What follows a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Another operation, after this time.
    Submit(Option<Duration>),
    /// The answer.
    Ended(Result<(), DiskError>),
}

/// A request in flight: exactly one operation of it is on the ring.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) user: u64,
    pub(super) work: Work,
    pub(super) stage: Stage,
    /// Bytes done.
    pub(super) done: u64,
    /// Attempts since the last progress.
    retries: u8,
}

impl Operation {
    pub(super) fn new(request: DiskRequest, abilities: Abilities) -> Operation {
        let stage = match request.what {
            Work::Zero { kind, .. } => abilities.zero_stage(kind),
            Work::Flush => Stage::Sync,
            _ => Stage::Transfer,
        };
        Operation { user: request.user, work: request.what, stage, done: 0, retries: 0 }
    }

    /// Where the next operation begins, and how many bytes are left.
    pub(super) fn rest(&self) -> (u64, u64) {
        let (offset, len) = self.work.range();
        (offset + self.done, len - self.done)
    }

    pub(super) fn class(&self) -> OpClass {
        match self.stage {
            Stage::Sync => OpClass::Flush,
            _ => self.work.class(),
        }
    }

    /// Takes in the result of an operation. Transfers go on at a multiple of `unit` bytes.
    pub(super) fn on_result(&mut self, result: i32, unit: u64, abilities: &mut Abilities) -> Step {
        match u64::try_from(result) {
            Ok(count) => self.on_success(count, unit),
            Err(_) => self.on_errno(-result, abilities),
        }
    }

    fn on_success(&mut self, count: u64, unit: u64) -> Step {
        let (_, rest) = self.rest();
        let (_, len) = self.work.range();
        match self.stage {
            Stage::Sync => return Step::Ended(Ok(())),
            Stage::PunchHole | Stage::ZeroRange => self.done = len,
            Stage::Transfer | Stage::WriteZeroes => {
                assert!(count <= rest, "the kernel did more than it was asked to");
                if count == 0 {
                    return self.fail(None);
                }
                // A part of a block is done again: direct transfers begin at blocks only.
                let whole = if count == rest { count } else { count / unit * unit };
                if whole == 0 {
                    return self.try_again(libc::EIO, None);
                }
                self.done += whole;
                self.retries = 0;
            }
        }
        if self.done < len {
            return Step::Submit(None);
        }
        if matches!(self.work, Work::Zero { fua: true, .. }) {
            self.stage = Stage::Sync;
            return Step::Submit(None);
        }
        Step::Ended(Ok(()))
    }

    fn on_errno(&mut self, errno: i32, abilities: &mut Abilities) -> Step {
        match (errno, self.stage, self.work) {
            (libc::EINTR, ..) => self.try_again(errno, None),
            // Without a pause all attempts would fall into the same shortage.
            (libc::EAGAIN, ..) => self.try_again(errno, Some(Duration::from_millis(1))),
            (libc::EOPNOTSUPP, Stage::PunchHole | Stage::ZeroRange, Work::Zero { kind, .. }) => {
                match self.stage {
                    Stage::PunchHole => abilities.punch_hole = false,
                    _ => abilities.zero_range = false,
                }
                self.stage = abilities.zero_stage(kind);
                Step::Submit(None)
            }
            _ => self.fail(Some(errno)),
        }
    }

    fn try_again(&mut self, errno: i32, pause: Option<Duration>) -> Step {
        if self.retries >= DISK_RETRIES_MAX {
            return self.fail(Some(errno));
        }
        self.retries += 1;
        Step::Submit(pause)
    }

    fn fail(&self, errno: Option<i32>) -> Step {
        let (offset, len) = self.work.range();
        Step::Ended(Err(DiskError { class: self.class(), offset, len, errno }))
    }
}
