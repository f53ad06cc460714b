//! How a small world ends, whatever struck it: the dead are started, the disks replaced, and then it must be whole.
//!
//! A crash is followed by one of three aftermaths, by its number: the dead come back at once; or so late that the
//! other has given them up, and goes on alone if it may; or then the other goes too and the dead come back alone,
//! where they must not become Primary with old data.
//!
//! A node that is alone with a disk that hangs or stalls may wait for it: that is a legal stop, until somebody starts
//! its daemon anew.
//!
//! While another fault is to come, the ending may be disturbed by it and is not judged; then there is a next one.

use crate::story::{PEER_TIMEOUT_MS, Story};
use crate::worlds::fault::Who;
use crate::worlds::stage::{Played, Stage, both_run, stands_alone};
use rblk::replica::event::{Command, FrontResult};
use rblk::wire::message::DiskState;

/// Time for everything to be well again once nothing fails any more.
const HEAL_US: u64 = 60_000_000;
/// A node that can answer alone does so within this time of losing its peer.
const ALONE_MS: u64 = PEER_TIMEOUT_MS + 2_000;

impl Stage {
    /// Plays the world to its end.
    pub(crate) fn end(&mut self) {
        loop {
            let struck = self.story.world.inject.struck;
            let last = self.story.world.inject.faults.is_empty();
            self.story.world.inject.on &= !last;
            let ended = self.finale();
            if ended.is_ok() && last {
                return;
            }
            if ended.is_ok() && struck == self.story.world.inject.struck {
                self.story.world.inject.faults.clear(); // it never comes
            }
        }
    }

    /// Nothing is in the way of a judgement.
    fn is_calm(&self) -> bool {
        !self.story.world.inject.on
    }

    fn finale(&mut self) -> Played {
        if let Some((who, number)) = self.story.world.inject.crashed.take() {
            self.aftermath(who, number)?;
        } else if self.struck() {
            self.rest(ALONE_MS)?; // the script may be over before anybody has noticed
        }
        self.recover()?;
        self.use_it()?;
        self.look()
    }

    fn aftermath(&mut self, who: Who, number: u64) -> Played {
        let paused = |story: &Story| story.world.nodes.iter().any(|node| node.paused);
        self.wait("a node goes on", 10_000, |story| !paused(story))?;
        match (who, number % 3) {
            (_, 0) => self.rest(50),
            (Who::Node(dead), turn) => {
                let other = 1 - dead;
                self.survive(other)?;
                if turn == 1 {
                    return Ok(());
                }
                if number.is_multiple_of(2) {
                    self.depart(other)?;
                }
                self.kill(other, false);
                self.start(dead);
                self.rest(500)?;
                self.try_alone(dead)
            }
            (Who::Both, turn) => {
                let first = turn as usize - 1;
                self.start(first);
                self.rest(1_000)?;
                self.try_alone(first)
            }
        }
    }

    /// The other node is gone for long.
    fn survive(&mut self, node: usize) -> Played {
        let before = self.is_alone(node);
        self.rest(ALONE_MS)?;
        if before && self.is_alone(node) {
            self.wait("a lone node answers", 0, |story| story.world.client.is_idle())?;
        }
        self.try_alone(node)
    }

    fn is_alone(&self, node: usize) -> bool {
        self.story.world.nodes[node].snapshot().is_some_and(|state| stands_alone(&state))
    }

    /// Becomes Primary if it may, without force; then it must hold what was promised, and work.
    fn try_alone(&mut self, node: usize) -> Played {
        if !self.story.world.nodes[node].is_running() || self.story.world.is_asked() {
            return Ok(());
        }
        if !self.story.world.is_primary(node) {
            self.world().command(node, Command::Promote { force: false });
            self.wait("a promotion is answered", 1_000, |story| !story.world.is_asked())?;
        }
        if self.is_alone(node) && self.story.world.client.is_idle() {
            self.read_all(node)?;
            let block = self.block(0) + 3;
            self.ask(|stage| stage.begin_write(node, block, 2))?;
        }
        Ok(())
    }

    /// Waits for what must happen.
    fn wait(&mut self, what: &str, ms: u64, holds: impl Fn(&Story) -> bool) -> Played {
        let limit = self.story.world.now + ms * 1_000;
        while !holds(&self.story) {
            let world = &self.story.world;
            if world.now >= limit || world.next_at().is_none() {
                let why = || world.why_unsettled();
                let judged = self.is_calm() && !world.disks_wait();
                assert!(!judged, "oracle liveness: not in time: {what}; {}", why());
                break;
            }
            self.one()?;
        }
        Ok(())
    }

    /// A request that is answered soon and well.
    fn ask(&mut self, ask: impl Fn(&mut Stage)) -> Played {
        self.world().client.last_result = None;
        ask(self);
        self.wait("a request is answered", ALONE_MS, |story| story.world.client.is_idle())?;
        let result = self.story.world.client.last_result;
        let good = result == Some(FrontResult::Done) || self.story.world.disks_wait();
        assert!(good || !self.is_calm(), "a request at the end: {result:?}");
        Ok(())
    }

    fn read_all(&mut self, node: usize) -> Played {
        for window in 0..self.story.world.geometry.windows() {
            let block = self.block(window);
            for half in [0, 24] {
                self.ask(|stage| stage.begin_read(node, block + half, 24))?;
            }
        }
        Ok(())
    }

    /// In good order, if it goes so.
    fn depart(&mut self, node: usize) -> Played {
        self.world().leave(node);
        self.rest(2_000)
    }

    /// Nothing fails any more, and somebody starts what does not run.
    fn recover(&mut self) -> Played {
        let limit = self.story.world.now + HEAL_US;
        loop {
            for node in [0, 1] {
                self.care_for(node);
            }
            let story = &self.story;
            let fresh = story.world.nodes.iter().all(|n| n.disk.meta.superblock.current.is_none());
            if fresh && both_run(story) && story.connected() && !story.world.is_asked() {
                let content = story.world.nodes[0].disk.current.clone();
                self.world().register.begin_with(&content);
                self.world().command(0, Command::Promote { force: true });
            }
            if let Some(node) = self.story.world.unsure_source()
                && !self.story.world.is_asked()
            {
                self.world().command(node, Command::Promote { force: true });
            }
            let story = &self.story;
            let whole = both_run(story) && story.mirrored();
            let world = &story.world;
            let quiet = !world.is_asked() && world.operator.fencing == 0;
            if whole && world.client.is_idle() && quiet {
                return Ok(());
            }
            let late = world.now >= limit;
            if late && !self.is_calm() {
                return Ok(());
            }
            assert!(!late, "oracle liveness: it never heals: {}", world.why_unsettled());
            self.rest(200)?;
        }
    }

    fn care_for(&mut self, node: usize) {
        let world = &mut self.story.world;
        let found = &world.nodes[node];
        if !found.is_running() {
            world.start_node(node);
        } else if (found.seen.0 <= DiskState::Failed || found.disk.hangs()) && !found.paused {
            world.note(Some(node), || "! restarted for its disk".to_string());
            world.kill_node(node, false);
            world.start_node(node);
        }
    }

    /// It works as if nothing had happened.
    fn use_it(&mut self) -> Played {
        let node = match self.story.world.primary() {
            Some(node) => node,
            None => {
                let node = self.story.world.step as usize % 2;
                self.world().command(node, Command::Promote { force: false });
                self.wait("a promotion is answered", 1_000, |story| !story.world.is_asked())?;
                let good = self.story.world.operator.last_reply == Some(Ok(()));
                assert!(good || !self.is_calm(), "a whole mirror has a Primary");
                node
            }
        };
        self.read_all(node)?;
        let block = self.block(0) + 1;
        self.ask(|stage| stage.begin_write(node, block, 3))?;
        self.ask(|stage| stage.begin_flush(node))
    }

    /// Nothing is left over.
    fn look(&mut self) -> Played {
        self.rest(2_500)?;
        if !self.is_calm() {
            return Ok(());
        }
        assert!(self.story.mirrored(), "it does not last: {}", self.story.world.why_unsettled());
        for node in &self.story.world.nodes {
            let id = node.id;
            assert!(!node.disk.has_unflushed(), "oracle rest: node {id} leaves data unflushed");
            let base = node.disk.meta.superblock.base;
            assert!(base.is_none(), "oracle rest: node {id} tracks {base:?} still");
        }
        self.world().check_at_rest();
        Ok(())
    }
}
