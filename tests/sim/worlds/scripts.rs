//! The scripts: what two nodes and their users do on a day on which one thing goes wrong.
//!
//! A script says `begin` when its own part starts; what came before is another script's. Keep them short: every event
//! is a world for each kind of crash.

use crate::authority::WhenLost;
use crate::fate::DiskPart;
use crate::worlds::stage::{Played, Shape, Stage};
use rblk::limits::EXTENT_BLOCKS;
use rblk::wire::message::{DiskState, ZeroKind};

/// A script.
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) play: fn(&mut Stage) -> Played,
}

/// No multiple of what one resync job copies.
const BLOCKS: u64 = 300;
const EQUAL: Shape = Shape {
    blocks: BLOCKS,
    more_blocks: 0,
    spare_blocks: 0,
    fresh: false,
    when_lost: WhenLost::Continue,
};
const FRESH: Shape = Shape { fresh: true, ..EQUAL };
const LARGER: Shape = Shape { more_blocks: 700, ..FRESH };
const ROOMY: Shape = Shape { spare_blocks: 70, ..EQUAL };
const ROOMY_FENCED: Shape = Shape { spare_blocks: 70, ..FENCED };
const SPREAD: Shape = Shape { blocks: 2 * EXTENT_BLOCKS, ..EQUAL };
const MANY: Shape = Shape { blocks: 12 * EXTENT_BLOCKS, ..EQUAL };
const FENCED: Shape = Shape { when_lost: WhenLost::Fence, ..EQUAL };

/// All scripts.
pub(crate) const SCRIPTS: &[Script] = &[
    Script { name: "connect", shape: EQUAL, play: connect },
    Script { name: "first-sync", shape: FRESH, play: first_sync },
    Script { name: "first-sync-back", shape: FRESH, play: first_sync_back },
    Script { name: "sizes", shape: LARGER, play: sizes },
    Script { name: "resize", shape: ROOMY, play: resize },
    Script { name: "resize-fenced", shape: ROOMY_FENCED, play: resize },
    Script { name: "requests", shape: SPREAD, play: requests },
    Script { name: "switchover", shape: EQUAL, play: switchover },
    Script { name: "log-turns-over", shape: MANY, play: log_turns_over },
    Script { name: "secondary-lost", shape: EQUAL, play: secondary_lost },
    Script { name: "secondary-lost-back", shape: EQUAL, play: secondary_lost_back },
    Script { name: "primary-lost", shape: EQUAL, play: primary_lost },
    Script { name: "survivor-forced", shape: EQUAL, play: survivor_forced },
    Script { name: "writes-during-resync", shape: EQUAL, play: writes_during_resync },
    Script { name: "target-promoted", shape: EQUAL, play: target_promoted },
    Script { name: "leave-and-return", shape: EQUAL, play: leave_and_return },
    Script { name: "both-leave", shape: EQUAL, play: both_leave },
    Script { name: "disk-fails", shape: EQUAL, play: disk_fails },
    Script { name: "peer-disk-fails", shape: EQUAL, play: peer_disk_fails },
    Script { name: "power-of-both", shape: EQUAL, play: power_of_both },
    Script { name: "flap", shape: EQUAL, play: flap },
    Script { name: "pause", shape: EQUAL, play: pause },
    Script { name: "fence-of-secondary", shape: FENCED, play: fence_of_secondary },
    Script { name: "fence-of-crashed", shape: FENCED, play: fence_of_crashed },
    Script { name: "fence-of-primary", shape: FENCED, play: fence_of_primary },
];

/// Two connected nodes with node 0 Primary.
fn with_primary(stage: &mut Stage) -> Played {
    stage.connect()?;
    stage.promote(0)
}

fn connect(stage: &mut Stage) -> Played {
    stage.begin();
    stage.connect()?;
    stage.promote(0)?;
    let block = stage.block(0);
    stage.write(0, block, 2)?;
    stage.flush(0)
}

fn first_sync(stage: &mut Stage) -> Played {
    sync_from(stage, 0)
}

fn first_sync_back(stage: &mut Stage) -> Played {
    sync_from(stage, 1)
}

fn sync_from(stage: &mut Stage, source: usize) -> Played {
    stage.connect()?;
    stage.begin();
    stage.promote_first(source)?;
    let block = stage.block(0);
    stage.write(source, block, 2)?;
    stage.connect()?;
    stage.write(source, block + 1, 2)?;
    stage.heal()?;
    stage.write(source, block, 2)
}

/// The second disk is larger, and its node the first Primary after it has met the smaller one.
fn sizes(stage: &mut Stage) -> Played {
    stage.begin();
    stage.connect()?;
    stage.promote_first(1)?;
    let end = BLOCKS;
    stage.write(1, end - 2, 2)?;
    stage.heal()?;
    stage.demote(1)?;
    stage.promote(0)?;
    stage.write(0, end - 1, 1)
}

/// The volume grows into the room that both disks have, beside a client.
fn resize(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.write(0, block, 2)?;
    stage.begin();
    stage.resize(1)?;
    stage.write(0, block + 1, 2)?;
    stage.heal()?;
    stage.demote(0)?;
    stage.promote(1)?;
    stage.write(1, block, 1)
}

/// Everything that clients do, at once.
fn requests(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    stage.begin();
    let (one, two) = (stage.block(0), stage.block(1));
    stage.begin_write(0, one, 4);
    stage.begin_write(0, one + 2, 4);
    stage.begin_flush(0);
    stage.begin_write_fua(0, one + 3, 1);
    stage.begin_zero(0, one + 1, 3, ZeroKind::Discard);
    stage.begin_read(0, one, 8);
    stage.begin_write(0, two, 32);
    stage.begin_zero(0, one, 2 * EXTENT_BLOCKS - 16, ZeroKind::Zeroes);
    stage.begin_flush(0);
    stage.answered()?;
    stage.begin_write(0, two, 2);
    stage.begin_write_fua(0, two + 1, 2);
    stage.begin_flush(0);
    stage.answered()
}

fn switchover(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.write(0, block, 2)?;
    stage.begin();
    for (from, to) in [(0, 1), (1, 0)] {
        stage.write(from, block + 1, 3)?;
        stage.demote(from)?;
        stage.promote(to)?;
        stage.read(to, block, 4)?;
    }
    stage.write(0, block, 2)
}

/// More extents than the activity log has slots.
fn log_turns_over(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let first: Vec<_> = (0..12).map(|extent| stage.block(extent)).collect();
    stage.begin();
    for some in first.chunks(3) {
        for block in some {
            stage.begin_write(0, *block, 2);
        }
        stage.answered()?;
    }
    stage.begin_write(0, first[0] + 1, 1);
    stage.begin_write(0, first[11] + 1, 1);
    stage.answered()
}

/// The Secondary's power goes; the Primary goes on alone and copies what was written.
fn secondary_lost(stage: &mut Stage) -> Played {
    lost_and_resynced(stage, 0)
}

fn secondary_lost_back(stage: &mut Stage) -> Played {
    lost_and_resynced(stage, 1)
}

fn lost_and_resynced(stage: &mut Stage, primary: usize) -> Played {
    stage.connect()?;
    stage.promote(primary)?;
    let (one, two) = (stage.block(0), stage.block(1));
    stage.write(primary, one, 2)?;
    stage.begin();
    stage.begin_write(primary, one + 1, 2);
    stage.kill(1 - primary, true);
    stage.answered()?;
    stage.write(primary, two, 2)?;
    stage.flush(primary)?;
    stage.start(1 - primary);
    stage.heal()?;
    stage.write(primary, two + 1, 2)
}

/// The Primary dies with writes under way, and returns.
fn primary_lost(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let (one, two) = (stage.block(0), stage.block(1));
    stage.write(0, one, 2)?;
    stage.begin();
    stage.write(0, one + 1, 2)?;
    stage.begin_write(0, two, 4);
    stage.rest(1)?;
    stage.kill(0, true);
    stage.until_apart(1)?;
    stage.start(0);
    stage.heal()?;
    stage.promote(1)?;
    stage.read(1, one, 4)?;
    stage.write(1, two, 1)
}

/// The Primary dies, and the operator makes the survivor Primary.
fn survivor_forced(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.write(0, block, 2)?;
    stage.begin();
    stage.write(0, block + 1, 2)?;
    stage.kill(0, true);
    stage.until_apart(1)?;
    stage.promote_survivor(1)?;
    stage.write(1, block + 2, 2)?;
    stage.start(0);
    stage.heal()?;
    stage.write(1, block, 1)
}

/// Clients write where the resync is, and behind it, and before it.
fn writes_during_resync(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let (one, two) = (stage.block(0), stage.block(1));
    stage.kill(1, false);
    for block in [one, one + 40, two, two + 40] {
        stage.begin_write(0, block, 4);
    }
    stage.answered()?;
    stage.begin();
    stage.start(1);
    stage.connect()?;
    for block in [one + 2, two + 42, one + 20] {
        stage.begin_write(0, block, 4);
    }
    stage.begin_flush(0);
    stage.answered()?;
    stage.heal()?;
    stage.write(0, one, 1)
}

/// The target of a resync becomes Primary before it is done.
fn target_promoted(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let (one, two) = (stage.block(0), stage.block(1));
    stage.kill(1, false);
    for block in [one, one + 40, two, two + 40] {
        stage.begin_write(0, block, 4);
    }
    stage.answered()?;
    stage.demote(0)?;
    stage.begin();
    stage.start(1);
    stage.connect()?;
    stage.promote(1)?;
    stage.begin_write(1, two + 41, 2);
    stage.begin_read(1, one, 8);
    stage.begin_flush(1);
    stage.answered()?;
    stage.heal()?;
    stage.write(1, one, 1)
}

fn leave_and_return(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.begin();
    stage.write(0, block, 2)?;
    stage.leave(1)?;
    stage.write(0, block + 1, 2)?;
    stage.start(1);
    stage.heal()?;
    stage.write(0, block + 3, 1)
}

/// The Secondary leaves, then the Primary; the one that knows more comes back last.
fn both_leave(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.write(0, block, 2)?;
    stage.begin();
    stage.leave(1)?;
    stage.write(0, block + 1, 1)?;
    stage.leave(0)?;
    stage.start(1);
    stage.rest(50)?;
    stage.start(0);
    stage.heal()?;
    stage.promote(1)?;
    stage.read(1, block, 3)
}

/// The Primary's disk fails: it works on the peer's, leaves, and is resynced when it returns.
fn disk_fails(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.write(0, block, 4)?;
    stage.begin();
    stage.story.fail_next(0, DiskPart::Data);
    stage.write(0, block + 2, 4)?;
    stage.until_node("the disk is given up", 0, |state| state.disk == DiskState::Diskless)?;
    stage.read(0, block, 6)?;
    stage.flush(0)?;
    stage.leave(0)?;
    stage.start(0);
    stage.heal()?;
    stage.promote(1)?;
    stage.read(1, block, 6)
}

fn peer_disk_fails(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.write(0, block, 4)?;
    stage.begin();
    stage.begin_write(0, block + 2, 4);
    stage.until("the peer writes", |story| !story.world.nodes[1].disk.in_flight.is_empty())?;
    stage.story.fail_next(1, DiskPart::Data);
    stage.answered()?;
    stage.write(0, block + 8, 1)?;
    stage.flush(0)?;
    stage.leave(1)?;
    stage.start(1);
    stage.heal()?;
    stage.write(0, block, 1)
}

fn power_of_both(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.write(0, block, 4)?;
    stage.flush(0)?;
    stage.begin();
    stage.begin_write(0, block + 2, 4);
    stage.rest(1)?;
    stage.kill(0, true);
    stage.kill(1, true);
    stage.start(0);
    stage.start(1);
    stage.heal()?;
    stage.promote(0)?;
    stage.read(0, block, 8)?;
    stage.write(0, block, 1)
}

/// The link goes twice under load: once for a moment, once for longer than the nodes wait.
fn flap(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.write(0, block, 4)?;
    stage.begin();
    for ms in [300, 3_000] {
        stage.begin_write(0, block + 2, 4);
        stage.story.cut(ms);
        stage.answered()?;
        stage.heal()?;
    }
    stage.write(0, block, 1)
}

/// The peer stops for longer than the Primary waits, and goes on.
fn pause(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let block = stage.block(0);
    stage.begin();
    stage.begin_write(0, block, 2);
    stage.pause(1, 6_000)?;
    stage.answered()?;
    stage.heal()?;
    stage.begin_write(0, block + 1, 2);
    stage.pause(0, 6_000)?;
    stage.answered()?;
    stage.heal()?;
    stage.write(0, block, 1)
}

/// The link is cut: the Primary has the Secondary fenced, goes on, and copies what it wrote when that is back.
fn fence_of_secondary(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let (one, two) = (stage.block(0), stage.block(1));
    stage.write(0, one, 2)?;
    stage.begin();
    stage.begin_write(0, one + 1, 2);
    stage.story.cut(1_000);
    stage.answered()?;
    stage.write(0, two, 2)?;
    stage.flush(0)?;
    stage.heal()?;
    stage.write(0, two + 1, 2)
}

/// The Primary dies, and the Secondary takes over once that is certain.
fn fence_of_crashed(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let (one, two) = (stage.block(0), stage.block(1));
    stage.write(0, one, 2)?;
    stage.begin();
    stage.write(0, one + 1, 2)?;
    stage.begin_write(0, two, 4);
    stage.rest(1)?;
    stage.kill(0, true);
    taken_over(stage, one)?;
    stage.start(0);
    stage.heal()?;
    stage.write(1, two, 1)
}

/// The link is cut under load, and the Secondary takes over from a Primary that lives.
fn fence_of_primary(stage: &mut Stage) -> Played {
    with_primary(stage)?;
    let (one, two) = (stage.block(0), stage.block(1));
    stage.write(0, one, 2)?;
    stage.begin();
    stage.write(0, one + 1, 2)?;
    stage.story.cut(1_500);
    taken_over(stage, one)?;
    stage.heal()?;
    stage.write(1, two, 1)
}

fn taken_over(stage: &mut Stage, block: u64) -> Played {
    stage.until_apart(1)?;
    stage.promote(1)?;
    stage.read(1, block, 4)?;
    stage.flush(1)?;
    stage.write(1, block + 2, 2)
}
