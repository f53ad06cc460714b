//! Whether what the peer says of itself and its limits fits this node: before anything is said of data.

use super::Replica;
use super::link::Link;
use crate::limits::{
    BLOCK_SECTORS, IO_BYTES_MAX, PEER_DATA_CREDITS, PEER_READ_CREDITS, PEER_ZERO_CREDITS,
};
use crate::wire::message::{Hello, Refusal, Role};
use crate::wire::{PROTOCOL_MAX, PROTOCOL_MIN};

impl Link {
    /// The peer of this connection speaks this version of the protocol.
    pub(super) fn peer_speaks(&self, version: u16) -> bool {
        self.peer_hello().is_some_and(|hello| hello.protocol_max >= version)
    }
}

impl Replica {
    /// What this node says first.
    pub(super) fn my_hello(&self) -> Hello {
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            volume: self.sb.volume,
            node: self.sb.node,
            usable_sectors: self.sb.usable_sectors,
            agreed_sectors: self.sb.agreed_sectors,
            block_bytes: self.block_bytes,
            payload_bytes_max: IO_BYTES_MAX as u32,
            data_credits: PEER_DATA_CREDITS as u16,
            read_credits: PEER_READ_CREDITS as u16,
            zero_credits: PEER_ZERO_CREDITS as u16,
            discard: self.discard,
            config: self.settings.config,
        }
    }

    pub(super) fn check_hello(&self, hello: &Hello) -> Result<(), Refusal> {
        if hello.protocol_min > PROTOCOL_MAX || hello.protocol_max < PROTOCOL_MIN {
            return Err(Refusal::Protocol);
        }
        if hello.volume != self.sb.volume {
            return Err(Refusal::Volume);
        }
        if hello.node != self.peer_node {
            return Err(Refusal::Node);
        }
        // Clients and resync together never have more out than this, so nobody waits for a credit in mid-air.
        let credits_suffice = usize::from(hello.data_credits) >= PEER_DATA_CREDITS
            && usize::from(hello.zero_credits) >= PEER_ZERO_CREDITS
            && hello.read_credits > 0;
        let payload_fits = hello.payload_bytes_max as usize >= IO_BYTES_MAX;
        if !payload_fits || !credits_suffice || ![512, 4096].contains(&hello.block_bytes) {
            return Err(Refusal::Limits);
        }
        if self.role == Role::Primary && hello.block_bytes > self.block_bytes {
            return Err(Refusal::Limits); // clients already use the smaller block
        }
        self.agree_on_size(hello).map(|_| ())
    }

    /// The smaller usable size counts, until one is agreed on. That never shrinks, and grows on one node after the
    /// other (`resize.rs`): the larger counts.
    pub(super) fn agree_on_size(&self, hello: &Hello) -> Result<u64, Refusal> {
        let mine = self.sb.agreed_sectors;
        let theirs = hello.agreed_sectors;
        let agreed = match (mine, theirs) {
            (0, 0) => self.sb.usable_sectors.min(hello.usable_sectors),
            (a, b) => a.max(b),
        };
        let grows = mine > 0 && agreed > mine;
        let fits = agreed <= self.sb.usable_sectors && agreed <= hello.usable_sectors;
        let in_use = self.role == Role::Primary && agreed != self.sectors && !grows;
        let whole = agreed > 0 && agreed.is_multiple_of(BLOCK_SECTORS);
        if fits && !in_use && whole { Ok(agreed) } else { Err(Refusal::Size) }
    }
}
