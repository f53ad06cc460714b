//! Names of what is in flight: disk operations, metadata writes and messages that wait for an answer.
//!
//! A name is a slot and a serial number. A late answer carries an old serial and finds nothing.

use super::Owner;
use crate::limits::OPERATIONS_MAX;
use crate::replica::event::{OpId, Tick};

const SLOT_BITS: u32 = 12;
const _: () = assert!(OPERATIONS_MAX < 1 << SLOT_BITS);

#[derive(Clone, Copy, Debug)]
struct Op {
    serial: u64,
    owner: Owner,
    since: Tick,
}

/// The table.
#[derive(Debug)]
pub(super) struct Ops {
    slots: Vec<Option<Op>>,
    free: Vec<u16>,
    serial: u64,
}

impl Ops {
    pub(super) fn new() -> Ops {
        Ops {
            slots: vec![None; OPERATIONS_MAX],
            free: (0..OPERATIONS_MAX as u16).rev().collect(),
            serial: 0,
        }
    }

    /// Names in use.
    pub(super) fn len(&self) -> usize {
        OPERATIONS_MAX - self.free.len()
    }

    /// A new name.
    pub(super) fn begin(&mut self, owner: Owner, now: Tick) -> OpId {
        let slot = self.free.pop().expect("operations are bounded by requests");
        self.serial += 1;
        self.slots[usize::from(slot)] = Some(Op { serial: self.serial, owner, since: now });
        OpId(self.serial << SLOT_BITS | u64::from(slot))
    }

    /// The answer came: whose it is, and `None` if nobody waits for it any more.
    pub(super) fn end(&mut self, op: OpId) -> Option<Owner> {
        let slot = (op.0 & ((1 << SLOT_BITS) - 1)) as usize;
        let serial = op.0 >> SLOT_BITS;
        let entry = self.slots.get_mut(slot)?;
        let found = entry.filter(|found| found.serial == serial)?;
        *entry = None;
        self.free.push(slot as u16);
        Some(found.owner)
    }

    /// Whose answer it would be.
    pub(super) fn owner(&self, op: OpId) -> Option<Owner> {
        let slot = (op.0 & ((1 << SLOT_BITS) - 1)) as usize;
        let found = (*self.slots.get(slot)?)?;
        (found.serial == op.0 >> SLOT_BITS).then_some(found.owner)
    }

    /// When it began.
    pub(super) fn since(&self, op: OpId) -> Option<Tick> {
        let slot = (op.0 & ((1 << SLOT_BITS) - 1)) as usize;
        let found = (*self.slots.get(slot)?)?;
        (found.serial == op.0 >> SLOT_BITS).then_some(found.since)
    }

    /// Forgets all operations that `gone` names: their answers will find nothing.
    pub(super) fn forget(&mut self, gone: impl Fn(Owner) -> bool) {
        for (slot, entry) in self.slots.iter_mut().enumerate() {
            if entry.is_some_and(|op| gone(op.owner)) {
                *entry = None;
                self.free.push(slot as u16);
            }
        }
    }

    /// When the oldest operation that `wanted` names began.
    pub(super) fn oldest(&self, wanted: impl Fn(Owner) -> bool) -> Option<Tick> {
        self.slots.iter().flatten().filter(|op| wanted(op.owner)).map(|op| op.since).min()
    }
}
