//! Bugs that the simulator has shown, each as a story that shows it again.

use crate::fate::DiskPart;
use crate::story::Story;
use rblk::replica::event::FrontResult;
use rblk::wire::message::{DiskState, Refusal};

/// The peer loses its cache, and the Primary its disk before it notices: a write that both had accepted is on the
/// Primary's disk alone, and no flush may be answered by the peer's.
#[test]
fn a_primary_without_its_disk_takes_no_peer_that_may_have_forgotten() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.kill(1, true);
    story.fail_next(0, DiskPart::Data);
    story.begin_write(0, block + 4, 2);
    story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
    story.start(1);
    story.until("the peer is refused", |story| story.state(0).refusal.is_some());
    assert_eq!(story.state(0).refusal.map(|refusal| refusal.1), Some(Refusal::NoSource));
    story.kill(0, false);
    story.start(0);
    story.heal();
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, block, 2), FrontResult::Done);
    story.ends_well();
}
