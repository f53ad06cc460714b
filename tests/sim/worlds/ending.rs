//! How a small world ends, whatever struck it: the dead are started, the disks replaced, and then it must be whole.
//!
//! A crash is followed by one of three aftermaths, by its number: the dead come back at once; or so late that the
//! other has given them up, and goes on alone if it may; or then the other goes too and the dead come back alone,
//! where they must not become Primary with old data.

use crate::story::{PEER_TIMEOUT_MS, Story};
use crate::worlds::fault::{Kind, Who};
use crate::worlds::stage::{Stage, both_run, stands_alone};
use rblk::replica::event::{Command, FrontResult};
use rblk::wire::message::DiskState;

/// Time for everything to be well again once nothing fails any more.
const HEAL_US: u64 = 60_000_000;
/// A node that can answer alone does so within this time of losing its peer.
const ALONE_MS: u64 = PEER_TIMEOUT_MS + 2_000;

impl Stage {
    /// Plays the world to its end and looks at what is left.
    pub(crate) fn end(&mut self) {
        let inject = &mut self.story.world.inject;
        inject.on = false;
        let number = inject.fault.map_or(0, |fault| fault.number);
        if inject.struck {
            match inject.fault.map(|fault| fault.kind) {
                Some(Kind::Kill(who) | Kind::Power(who, _)) => self.aftermath(who, number),
                // The script may be over before anybody has noticed.
                _ => self.sleep(ALONE_MS),
            }
        }
        self.recover();
        self.use_it(number as usize % 2);
        self.look();
    }

    fn aftermath(&mut self, who: Who, number: u64) {
        let paused = |story: &Story| story.world.nodes.iter().any(|node| node.paused);
        self.wait("a node goes on", 10_000, |story| !paused(story));
        match (who, number % 3) {
            (_, 0) => self.sleep(50),
            (Who::Node(dead), turn) => {
                let other = 1 - dead;
                self.survive(other);
                if turn == 2 {
                    if number % 2 == 0 {
                        self.depart(other);
                    } else {
                        self.kill(other, false);
                    }
                    self.start(dead);
                    self.sleep(500);
                    self.try_alone(dead);
                }
            }
            (Who::Both, turn) => {
                let first = turn as usize - 1;
                self.start(first);
                self.sleep(1_000);
                self.try_alone(first);
            }
        }
    }

    fn sleep(&mut self, ms: u64) {
        let _ = self.rest(ms);
    }

    /// The other node is gone for long.
    fn survive(&mut self, node: usize) {
        let could = |stage: &Stage| {
            stage.story.world.nodes[node].snapshot().is_some_and(|s| stands_alone(&s))
        };
        let before = could(self);
        self.sleep(ALONE_MS);
        if before && could(self) {
            let world = &self.story.world;
            let left = world.client.oldest_since();
            assert!(
                left.is_none(),
                "node {node} is alone and does not answer: {}",
                world.why_unsettled()
            );
        }
        self.try_alone(node);
    }

    /// Becomes Primary if it may, without force; then it must hold what was promised, and work.
    fn try_alone(&mut self, node: usize) {
        if !self.story.world.nodes[node].is_running() || self.story.world.is_asked() {
            return;
        }
        if !self.story.world.is_primary(node) {
            self.world().command(node, Command::Promote { force: false });
            self.wait("a promotion is answered", 1_000, |story| !story.world.is_asked());
        }
        let able = self.story.world.nodes[node].snapshot().is_some_and(|s| stands_alone(&s));
        if able && self.story.world.client.is_idle() {
            self.read_all(node);
            let block = self.block(0) + 3;
            self.ask_well(|stage| stage.begin_write(node, block, 2));
        }
    }

    /// Waits for what must happen.
    fn wait(&mut self, what: &str, ms: u64, holds: impl Fn(&Story) -> bool) {
        let limit = self.story.world.now + ms * 1_000;
        while !holds(&self.story) {
            let world = &mut self.story.world;
            assert!(
                world.now < limit,
                "oracle liveness: not in time: {what}; {}",
                world.why_unsettled()
            );
            world.one();
        }
    }

    fn ask_well(&mut self, ask: impl Fn(&mut Stage)) {
        self.world().client.last_result = None;
        ask(self);
        self.wait("a request is answered", ALONE_MS, |story| story.world.client.is_idle());
        let result = self.story.world.client.last_result;
        assert!(result == Some(FrontResult::Done), "a request at the end: {result:?}");
    }

    fn read_all(&mut self, node: usize) {
        for window in 0..self.story.world.geometry.windows() {
            let block = self.block(window);
            for half in [0, 24] {
                self.ask_well(|stage| stage.begin_read(node, block + half, 24));
            }
        }
    }

    /// In good order if it goes so.
    fn depart(&mut self, node: usize) {
        self.world().leave(node);
        self.sleep(2_000);
        self.kill(node, false);
    }

    /// Nothing fails any more, and somebody starts what does not run.
    fn recover(&mut self) {
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
            let story = &self.story;
            if both_run(story)
                && story.mirrored()
                && story.world.client.is_idle()
                && !story.world.is_asked()
            {
                return;
            }
            let world = &story.world;
            assert!(
                world.now < limit,
                "oracle liveness: it never heals: {}",
                world.why_unsettled()
            );
            self.sleep(200);
        }
    }

    fn care_for(&mut self, node: usize) {
        let world = &mut self.story.world;
        let found = &world.nodes[node];
        if !found.is_running() {
            world.start_node(node);
        } else if found.snapshot().is_some_and(|s| s.disk <= DiskState::Failed) && !found.paused {
            world.note(Some(node), || "! restarted for its disk".to_string());
            world.kill_node(node, false);
            world.start_node(node);
        }
    }

    /// It works as if nothing had happened.
    fn use_it(&mut self, prefer: usize) {
        let node = match self.story.world.primary() {
            Some(node) => node,
            None => {
                self.world().command(prefer, Command::Promote { force: false });
                self.wait("a promotion is answered", 1_000, |story| !story.world.is_asked());
                let reply = self.story.world.operator.last_reply;
                assert!(reply == Some(Ok(())), "a whole mirror has a Primary: {reply:?}");
                prefer
            }
        };
        self.read_all(node);
        let block = self.block(0) + 1;
        self.ask_well(|stage| stage.begin_write(node, block, 3));
        self.ask_well(|stage| stage.begin_flush(node));
    }

    /// Nothing is left over.
    fn look(&mut self) {
        self.sleep(2_500);
        assert!(self.story.mirrored(), "it does not last: {}", self.story.world.why_unsettled());
        let world = &mut self.story.world;
        for node in &world.nodes {
            let id = node.id;
            assert!(!node.disk.has_unflushed(), "oracle rest: node {id} leaves data unflushed");
            let base = node.disk.meta.superblock.base;
            assert!(base.is_none(), "oracle rest: node {id} tracks {base:?} still");
        }
        world.check_at_rest();
    }
}
