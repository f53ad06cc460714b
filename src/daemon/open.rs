//! From a disk to a node that is ready to start: the order of reading, and of repairing, metadata.
//!
//! Nothing is written but in two cases. The metadata of a disk that has grown is moved to its new end, see
//! [`crate::meta::moving`]. And where an activity log cannot be relied on, every bit is set on disk first, and a fresh
//! log is written after that; a power cut in between leaves the log as unreliable as it was.

use super::kept::Note;
use crate::config::{self, Config, HandlerKind};
use crate::error::{Error, Kind, Result};
use crate::io::clock::Clock;
use crate::io::disk::{Backing, OpenMode};
use crate::limits::{AL_SLOTS, FORMER_SEARCH_AT_START_MS, FORMER_SEARCH_MS, META_BLOCK_BYTES};
use crate::meta::block::{BlockError, Owner};
use crate::meta::former::{self, Search};
use crate::meta::layout::Layout;
use crate::meta::moving::{self, Grown, Trouble};
use crate::meta::records::{self, AlTransaction};
use crate::meta::recovery::{self, RawBlock};
use crate::meta::superblock::{ChooseError, NodeId};
use crate::replica::authority::OnPeerLost;
use crate::replica::{Replica, Settings, Start};
use std::time::{Duration, Instant};

/// How long a daemon that was just killed may take to let go of the disk: its last operations must end first.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(10);
/// Bitmap pages read at once: 1 MiB.
const PAGES_AT_ONCE: u32 = 256;

/// What attaching yields: the disk, held by us alone, and the node as its metadata describes it.
pub(super) struct Opened {
    pub(super) backing: Backing,
    pub(super) layout: Layout,
    pub(super) replica: Replica,
    /// What the operator should know: repairs, missing abilities.
    pub(super) warnings: Vec<String>,
}

/// Opens the disk of `node` and reads its metadata, and what was noted of an earlier life.
///
/// # Errors
/// The disk cannot be used, or its metadata is not ours or not there.
pub(super) fn open(config: &Config, node: NodeId, note: &mut Note) -> Result<Opened> {
    let name = &config.name;
    let path = &config.node(node).disk;
    let what = || format!("Cannot attach {name}");
    let with_disk = || format!("{} with {}", what(), path.display());
    let backing =
        Backing::open(path, OpenMode::Serve { wait: TAKE_OVER_WAIT }).map_err(|error| {
            Error::new(Kind::Io, with_disk()).why(error.why()).remedy(error.remedy())
        })?;
    let mut warnings: Vec<String> = backing.warning().map(str::to_owned).into_iter().collect();
    let layout = Layout::of_disk(backing.bytes()).map_err(|error| {
        Error::new(Kind::Refused, with_disk()).source(error).remedy("use a disk of another size")
    })?;
    let owner = Owner { volume: config.volume_id(), node };
    let found = moving::find(
        &layout,
        owner,
        note.disk_bytes(),
        &mut Blocking(&backing),
        time_to_search(FORMER_SEARCH_AT_START_MS),
    )
    .map_err(|trouble| no_metadata(config, owner, trouble))?;
    let layout = found.layout;
    note.note_disk_bytes(layout.disk_bytes());
    warnings.extend(found.grown.map(|grown| about_growth(config, &backing, grown)));
    let read = |at| read_block(&backing, at);
    let activity = match recovery::activity_log(&layout, owner, read) {
        Ok(activity) => activity,
        Err(reason) => {
            warnings.push(format!(
                "the activity log cannot be relied on ({reason}): everything will be resynced"
            ));
            mark_everything(&backing, &layout, owner).map_err(|error| Error::io(what(), error))?
        }
    };
    let start = start_of(config, node, &backing, layout, &found, activity, note.read())?;
    let mut replica = Replica::new(&start);
    let damaged = load_bitmap(&mut replica, &backing, &layout, owner);
    if damaged > 0 {
        warnings.push(format!(
            "{damaged} pages of the bitmap are damaged: their blocks will be resynced"
        ));
    }
    Ok(Opened { backing, layout, replica, warnings })
}

fn start_of(
    config: &Config,
    node: NodeId,
    backing: &Backing,
    layout: Layout,
    found: &moving::Found,
    activity: AlTransaction,
    kept: Option<u64>,
) -> Result<Start> {
    let mut entropy = [0; 16];
    getrandom::fill(&mut entropy).map_err(|error| {
        Error::new(Kind::Io, "Cannot get random numbers from the system").source(error.to_string())
    })?;
    Ok(Start {
        layout,
        superblock: found.superblock,
        stale_copy: found.stale_copy,
        peer: NodeId(1 - node.0),
        activity,
        block_bytes: backing.block_bytes(),
        discard: backing.discard(),
        holes: backing.holes(),
        kept,
        entropy: u128::from_le_bytes(entropy),
        unix_ms: Clock::unix_ms_at_tick_0(),
        settings: Settings {
            peer_timeout_ms: config.peer_timeout_ms,
            disk_timeout_ms: config.disk_timeout_ms,
            al_slots: AL_SLOTS,
            policies: config.policies,
            ask_consent: config.handlers.command(HandlerKind::BeforeResyncTarget).is_some(),
            salvage: config.saves_to().is_some(),
            on_peer_lost: when_peer_is_lost(config, node),
            ride_through_ms: config.ride_through_s * 1000,
            config: config.digest()?.0,
        },
    })
}

/// What this node may do.
fn when_peer_is_lost(config: &Config, node: NodeId) -> OnPeerLost {
    match config.on_peer_lost {
        config::OnPeerLost::Continue => OnPeerLost::Continue,
        config::OnPeerLost::Prefer if config.prefer.as_ref() == Some(&config.node(node).name) => {
            OnPeerLost::Continue
        }
        config::OnPeerLost::Prefer | config::OnPeerLost::Suspend => OnPeerLost::Suspend,
        config::OnPeerLost::Fence => OnPeerLost::Fence,
    }
}

/// A metadata block, or `None` if the disk does not give it.
pub(super) fn read_block(backing: &Backing, at: u64) -> RawBlock {
    let mut block = Box::new([0; META_BLOCK_BYTES]);
    backing.read_at(at, &mut block[..]).ok().map(|()| block)
}

/// What the operator should know of a disk that has grown.
fn about_growth(config: &Config, backing: &Backing, grown: Grown) -> String {
    let (name, before, now) = (&config.name, grown.before, backing.bytes());
    match grown.needed {
        None => format!(
            "the disk has grown from {before} to {now} bytes: its metadata is at the new end now; once the peer's disk \
             has grown, too, `rblk resize {name}` lets the volume grow"
        ),
        Some(needed) => format!(
            "the disk has grown from {before} to {now} bytes, too little for its metadata to follow: it is used as it \
             was; with {needed} bytes it can (of LVM: `lvextend -L {needed}b`)"
        ),
    }
}

/// Looks for the metadata of a disk that was smaller when it was written: of `owner`, or of anybody.
pub(crate) fn former(backing: &Backing, owner: Option<Owner>) -> Search {
    let read = |at| read_block(backing, at);
    former::find(backing.bytes(), owner, None, read, time_to_search(FORMER_SEARCH_MS))
}

/// Wipes what `owner` wrote when the disk was smaller: once it has grown again, nobody may take that for newer.
///
/// # Errors
/// The disk's.
pub(crate) fn forget_former(backing: &Backing, owner: Owner) -> std::io::Result<()> {
    // One for each time that it had grown and was made anew; more than a few would be an error of ours.
    for _ in 0..8 {
        let Some(found) = former(backing, Some(owner)).newest else { break };
        moving::wipe(&found, &mut Blocking(backing))?;
    }
    Ok(())
}

/// True as long as there is time to search.
fn time_to_search(ms: u64) -> impl FnMut() -> bool {
    let end = Instant::now() + Duration::from_millis(ms);
    move || Instant::now() < end
}

/// A disk without a ring: for the time before the reactor runs.
struct Blocking<'a>(&'a Backing);

impl moving::Disk for Blocking<'_> {
    type Error = std::io::Error;

    fn read(&mut self, at: u64) -> RawBlock {
        read_block(self.0, at)
    }

    fn write(&mut self, at: u64, block: &[u8; META_BLOCK_BYTES]) -> std::io::Result<()> {
        self.0.write_at(at, block)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.0.sync()
    }
}

/// Says for good that nothing is known: all bits, then a fresh log.
fn mark_everything(
    backing: &Backing,
    layout: &Layout,
    owner: Owner,
) -> std::io::Result<AlTransaction> {
    for page in 0..layout.pages() {
        let block = recovery::uniform_page(layout, owner, page, true);
        backing.write_at_durable(layout.bitmap_page(page), &block)?;
    }
    let mut newest = AlTransaction::initial(0);
    for (slot, (at, block)) in (0..).zip(recovery::fresh_ring(layout, owner)) {
        backing.write_at_durable(at, &block)?;
        newest = AlTransaction::initial(slot);
    }
    Ok(newest)
}

/// Loads all pages; returns how many were damaged.
fn load_bitmap(replica: &mut Replica, backing: &Backing, layout: &Layout, owner: Owner) -> u32 {
    let mut damaged = 0;
    let mut chunk = vec![0; PAGES_AT_ONCE as usize * META_BLOCK_BYTES];
    let mut page = 0;
    while page < layout.pages() {
        let count = PAGES_AT_ONCE.min(layout.pages() - page);
        let bytes = &mut chunk[..count as usize * META_BLOCK_BYTES];
        let whole = backing.read_at(layout.bitmap_page(page), bytes).is_ok();
        for (number, raw) in (page..).zip(bytes.chunks_exact(META_BLOCK_BYTES)) {
            let mut block = [0; META_BLOCK_BYTES];
            block.copy_from_slice(raw);
            let alone = if whole { None } else { read_block(backing, layout.bitmap_page(number)) };
            let block = alone.as_deref().unwrap_or(&block);
            let bits = records::decode_page(layout, owner, number, block).ok();
            damaged += u32::from(bits.is_none());
            replica.load_page(number, bits);
        }
        page += count;
    }
    damaged
}

fn no_metadata(config: &Config, owner: Owner, trouble: Trouble<std::io::Error>) -> Error {
    let name = &config.name;
    let path = config.node(owner.node).disk.display();
    let what = format!("Cannot attach {name}");
    let (error, cut_off) = match trouble {
        Trouble::None { error, cut_off } => (error, cut_off),
        Trouble::Disk(error) => {
            return Error::io(
                format!("{what}: {path} has grown, and its metadata cannot follow"),
                error,
            );
        }
    };
    if cut_off {
        return Error::new(Kind::Metadata, what)
            .why(format!(
                "{path} has no metadata at its end, and it takes too long to look wherever that may have been before \
                 it grew"
            ))
            .source(error)
            .remedy(format!(
                "if it has grown, make it as large as it was (of LVM: `lvreduce`, with care), start {name}, and extend \
                 it then; only if it never was a disk of {name}: `rblk create {name}`"
            ));
    }
    let blank = matches!(
        error,
        ChooseError::Neither { copy0: BlockError::Blank | BlockError::Magic, copy1 }
            if matches!(copy1, BlockError::Blank | BlockError::Magic)
    );
    let remedy = if blank {
        format!("run `rblk create {name}` to make this disk part of {name}")
    } else {
        format!(
            "check that {path} is the disk of this node, see `rblk dump-meta {path}`; \
             `rblk create {name} --force` makes a fresh start, with a full resync from the peer"
        )
    };
    Error::new(Kind::Metadata, what)
        .why(format!("{path} has no usable metadata of this volume"))
        .source(error)
        .remedy(remedy)
}
