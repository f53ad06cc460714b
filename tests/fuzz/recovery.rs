//! A disk with anything on it: the daemon's way from its blocks to a node that starts. A node that starts has sound
//! metadata, trusts nothing that is damaged, and serves or waits; it never panics.

use super::blocks::seal;
use super::input::Input;
use super::node::{layout, owner};
use rblk::limits::{AL_SLOTS, BLOCK_BYTES, META_BLOCK_BYTES};
use rblk::meta::records::{AlTransaction, decode_page};
use rblk::meta::recovery::{self, RawBlock};
use rblk::meta::superblock::{GenerationId, NodeId, Superblock};
use rblk::replica::authority::OnPeerLost;
use rblk::replica::event::{Action, Input as Fact, Tick};
use rblk::replica::{Replica, Settings, Start};
use rblk::wire::message::DiskState;
use rblk::wire::policy::Policies;
use std::collections::BTreeMap;
use std::sync::OnceLock;

type Block = [u8; META_BLOCK_BYTES];

const NODE: NodeId = NodeId(1);

/// Changes to a sound disk: a byte for the block and what is done to it, then what that needs.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut disk = sound_disk(&mut input);
    for _ in 0..40 {
        if input.is_empty() {
            break;
        }
        change(&mut disk, &mut input);
    }
    start(&disk);
}

/// Changes to a sound disk: blocks by offset, `None` for one that cannot be read.
struct Disk {
    changed: BTreeMap<u64, Option<Box<Block>>>,
    sound: &'static BTreeMap<u64, Box<Block>>,
}

impl Disk {
    fn read(&self, at: u64) -> RawBlock {
        match self.changed.get(&at) {
            Some(changed) => changed.clone(),
            None => self.sound.get(&at).cloned(),
        }
    }

    fn write(&mut self, at: u64, block: Block) {
        self.changed.insert(at, Some(Box::new(block)));
    }
}

/// Log and bitmap of a node that has run for a while. Made once: it takes longer than what is tried on it.
fn sound_records() -> &'static BTreeMap<u64, Box<Block>> {
    static SOUND: OnceLock<BTreeMap<u64, Box<Block>>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let (layout, owner) = (layout(), owner(NODE));
        let mut sound = BTreeMap::new();
        for sequence in 200..264 {
            let extents = (0..(sequence % 4) as u32).map(|n| n * 20).collect();
            let transaction = AlTransaction { sequence, extents };
            let mut block = Box::new([0; META_BLOCK_BYTES]);
            transaction.encode(&layout, owner, &mut block);
            sound.insert(layout.al_slot(transaction.slot()), block);
        }
        for page in 0..layout.pages() {
            let block = recovery::uniform_page(&layout, owner, page, page == 1);
            sound.insert(layout.bitmap_page(page), Box::new(block));
        }
        sound
    })
}

fn sound_disk(input: &mut Input<'_>) -> Disk {
    let (layout, owner) = (layout(), owner(NODE));
    let flags = input.byte();
    let superblock = Superblock {
        sequence: 9,
        volume: owner.volume,
        node: NODE,
        usable_sectors: layout.data_sectors(),
        agreed_sectors: if flags & 1 == 0 { layout.data_sectors() } else { 0 },
        current: Some(GenerationId(0xA0)),
        base: (flags & 2 != 0).then_some(GenerationId(0xB0)),
        history: input.history(&[]),
        consistent: flags & 4 == 0,
        outdated: flags & 8 != 0,
        peer_outdated: flags & 16 != 0,
        primary: flags & 32 != 0,
        crashed: flags & 64 != 0,
        parted_primary: flags & 128 != 0,
        sole_source: flags & 48 == 48,
        instance: 3,
        mark: 4,
        peer_mark: 5,
    };
    let mut disk = Disk { changed: BTreeMap::new(), sound: sound_records() };
    for copy in [0, 1] {
        let mut block = [0; META_BLOCK_BYTES];
        superblock.encode(&layout, copy, &mut block);
        disk.write(layout.superblock(copy), block);
    }
    disk
}

fn change(disk: &mut Disk, input: &mut Input<'_>) {
    let layout = layout();
    let what = input.byte();
    let number = u32::from(input.byte());
    let address = match what & 3 {
        0 => layout.superblock((number % 2) as u8),
        1 | 2 => layout.al_slot(number % 64),
        _ => layout.bitmap_page(number % layout.pages()),
    };
    let mut block = disk.read(address).map_or([0; META_BLOCK_BYTES], |block| *block);
    match what >> 2 & 7 {
        0 => {
            disk.changed.insert(address, None);
            return;
        }
        1 => block = [0; META_BLOCK_BYTES],
        2 => {
            // Torn: the rest is of another block.
            let other = disk.read(layout.al_slot(u32::from(input.byte()) % 64));
            let at = 512 * usize::from(input.byte() % 8);
            if let Some(other) = other {
                block[at..].copy_from_slice(&other[at..]);
            }
        }
        3 => {
            let most = input.byte();
            let bytes = input.take(most.into());
            block[128..128 + bytes.len()].copy_from_slice(bytes);
        }
        _ => {
            let at = input.below(if what & 0x80 == 0 { 128 } else { META_BLOCK_BYTES });
            block[at] ^= input.byte();
        }
    }
    if what & 0x40 != 0 {
        seal(&mut block);
    }
    disk.write(address, block);
}

/// As the daemon does it.
fn start(disk: &Disk) {
    let (layout, owner) = (layout(), owner(NODE));
    let read = |at| disk.read(at);
    let (superblock, stale_copy) = match recovery::superblock(&layout, owner, read) {
        Ok(found) => found,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(superblock.check(), Ok(()));
    let activity = recovery::activity_log(&layout, owner, read);
    let reliable = activity.is_ok();
    let activity = activity.unwrap_or_else(|error| {
        assert!(!error.to_string().is_empty());
        AlTransaction::initial(63)
    });
    let mut replica = Replica::new(&Start {
        layout,
        superblock,
        stale_copy,
        peer: NodeId(0),
        activity,
        block_bytes: 512,
        discard: true,
        holes: false,
        kept: None,
        entropy: 1,
        unix_ms: 1_700_000_000_000,
        settings: Settings {
            peer_timeout_ms: 4_000,
            disk_timeout_ms: 30_000,
            al_slots: AL_SLOTS,
            policies: Policies::default(),
            ask_consent: false,
            salvage: false,
            on_peer_lost: OnPeerLost::Continue,
            ride_through_ms: 0,
            config: 0,
        },
    });
    let mut lost = 0;
    for page in 0..replica.pages() {
        let block = read(layout.bitmap_page(page));
        let bits = block.as_ref().map(|block| decode_page(&layout, owner, page, block));
        match bits {
            Some(Ok(bits)) if reliable => replica.load_page(page, Some(bits)),
            _ => {
                let blocks = layout.page_blocks(page);
                lost += blocks.end.min(replica.snapshot().sectors / 8).saturating_sub(blocks.start);
                replica.load_page(page, None);
            }
        }
    }
    let state = replica.snapshot();
    if superblock.current.is_some() {
        assert!(state.out_of_sync_bytes >= lost * BLOCK_BYTES, "a lost page is not out of sync");
    }
    replica.start(Tick(1));
    serve(&mut replica);
}

/// It writes what it has to and takes a connection.
fn serve(replica: &mut Replica) {
    let mut facts = Vec::new();
    for now in 2..400 {
        while let Some(action) = replica.poll_action() {
            if let Action::Meta { op, block } = action {
                replica.encode_meta(block, &mut [0; META_BLOCK_BYTES]);
                facts.push(op);
            }
        }
        match facts.pop() {
            Some(op) => replica.handle(Tick(now), Fact::MetaDone { op, ok: true }),
            None => break,
        }
    }
    let conn = rblk::replica::event::ConnId(1);
    replica.handle(Tick(500), Fact::Connected { conn });
    let mut greeted = false;
    while let Some(action) = replica.poll_action() {
        greeted |= matches!(action, Action::Send { .. });
    }
    assert!(greeted, "it says nothing");
    assert_ne!(replica.snapshot().disk, DiskState::Failed);
}
