//! Which requests touch the same sectors: the later waits for the earlier. Exact to the sector.
//!
//! Two overlapping writes in flight would reach the two disks in different orders and leave them different for ever,
//! with no bit set. So every write, of whatever origin, enters here first, in the order of its arrival; it may
//! start when nothing that came before overlaps it. Resync jobs enter as well: between the read at the source
//! and the answer of the target no client may write there.
//!
//! With two Primaries one node says which write comes first (`order.rs`). At the other, a write that came later may
//! have to go ahead: it *overtakes*, and the earlier waits for it.

use crate::span::Span;

#[derive(Clone, Copy, Debug)]
struct Entry {
    span: Span,
    owner: u32,
    order: u64,
    /// Earlier entries that overlap and are still here.
    blockers: u32,
}

/// The index. Entries are sorted by their first sector.
#[derive(Debug, Default)]
pub struct Overlap {
    entries: Vec<Entry>,
    next_order: u64,
    /// Sectors of the longest span that entered since the index was last empty: how far to the left of a span an
    /// overlapping entry may begin.
    longest: u64,
    /// Exceptions from the order of arrival: the first has overtaken the second. Few, and mostly none.
    overtaken: Vec<(u32, u32)>,
}

impl Overlap {
    pub fn with_capacity(entries: usize) -> Overlap {
        let overtaken = Vec::new();
        Overlap { entries: Vec::with_capacity(entries), next_order: 0, longest: 0, overtaken }
    }

    /// Enters `owner`. True if it may start at once.
    pub fn insert(&mut self, owner: u32, span: Span) -> bool {
        assert!(self.entries.len() < self.entries.capacity(), "overlap index is full");
        let blockers = self.overlapping(span).count();
        let blockers = u32::try_from(blockers).unwrap_or(u32::MAX);
        let entry = Entry { span, owner, order: self.next_order, blockers };
        self.next_order += 1;
        self.longest = self.longest.max(u64::from(span.sectors()));
        let at = self.entries.partition_point(|e| e.span.start() <= span.start());
        self.entries.insert(at, entry);
        blockers == 0
    }

    /// Removes `owner` and names, in order of arrival, those that may start now.
    pub fn remove(&mut self, owner: u32, span: Span, woken: &mut Vec<u32>) {
        let found = self
            .range(span)
            .find(|&at| self.entries[at].owner == owner && self.entries[at].span == span);
        let at = found.expect("a request leaves the overlap index once");
        let gone = self.entries.remove(at);
        let first_woken = woken.len();
        for at in self.range(span) {
            let waits =
                self.entries[at].span.overlaps(span) && self.goes_ahead(gone, self.entries[at]);
            let entry = &mut self.entries[at];
            if waits {
                assert!(entry.blockers > 0, "blockers of a waiting request are counted");
                entry.blockers -= 1;
                if entry.blockers == 0 {
                    woken.push(entry.owner);
                }
            }
        }
        let order =
            |owner: &u32| self.entries.iter().find(|e| e.owner == *owner).map_or(0, |e| e.order);
        woken[first_woken..].sort_by_key(order);
        self.overtaken.retain(|(first, second)| *first != owner && *second != owner);
        if self.entries.is_empty() {
            self.longest = 0;
        }
    }

    /// True if `one` goes before `other`; they overlap.
    fn goes_ahead(&self, one: Entry, other: Entry) -> bool {
        if self.overtaken.is_empty() {
            return one.order < other.order;
        }
        if one.order < other.order {
            !self.overtaken.contains(&(other.owner, one.owner))
        } else {
            self.overtaken.contains(&(one.owner, other.owner))
        }
    }

    /// `later` goes ahead of `earlier`, which it overlaps and which waits for it from now on. True if nothing else is
    /// ahead of `later`.
    pub fn overtake(&mut self, later: u32, earlier: u32) -> bool {
        let at = |owner| self.entries.iter().position(|entry| entry.owner == owner);
        let (Some(late), Some(early)) = (at(later), at(earlier)) else {
            unreachable!("both are in the index");
        };
        let (behind, ahead) = (self.entries[late], self.entries[early]);
        assert!(behind.span.overlaps(ahead.span), "who does not overlap waits for nobody");
        assert!(self.goes_ahead(ahead, behind), "nobody is overtaken twice");
        self.overtaken.push((later, earlier));
        self.entries[early].blockers += 1;
        self.entries[late].blockers -= 1;
        self.entries[late].blockers == 0
    }

    /// True if something has overtaken `owner`, whose span is `span`, and that had its turn before.
    pub fn is_blocked(&self, owner: u32, span: Span) -> bool {
        !self.overtaken.is_empty()
            && self.range(span).any(|at| {
                let entry = self.entries[at];
                entry.owner == owner && entry.blockers > 0
            })
    }

    /// The owners of entries that overlap `span` and wait for `owner`, whose span that is; or that it waits for.
    pub fn neighbours(&self, owner: u32, span: Span, behind: bool) -> Vec<u32> {
        let Some(own) = self.entries.iter().find(|entry| entry.owner == owner) else {
            return Vec::new();
        };
        let wanted = |entry: &Entry| {
            let overlaps = entry.owner != owner && entry.span.overlaps(span);
            overlaps && self.goes_ahead(*own, *entry) == behind
        };
        let found = self.range(span).map(|at| self.entries[at]).filter(wanted);
        found.map(|entry| entry.owner).collect()
    }

    /// The owners of entries that overlap `span`.
    pub fn overlapping(&self, span: Span) -> impl Iterator<Item = u32> + '_ {
        self.range(span)
            .map(|at| self.entries[at])
            .filter(move |e| e.span.overlaps(span))
            .map(|e| e.owner)
    }

    /// Positions whose entries may overlap `span`.
    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let leftmost = span.start().saturating_sub(self.longest);
        let from = self.entries.partition_point(|e| e.span.start() < leftmost);
        let to = self.entries.partition_point(|e| e.span.start() < span.end());
        from..to.max(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(start: u64, sectors: u32) -> Span {
        Span::new(start, sectors).expect("valid span")
    }

    #[test]
    fn the_later_of_two_waits_for_the_earlier() {
        let mut index = Overlap::with_capacity(8);
        assert!(index.insert(1, span(0, 8)));
        assert!(!index.insert(2, span(7, 2)));
        assert!(index.insert(3, span(9, 1)));
        assert!(!index.insert(4, span(0, 16)));
        let mut woken = Vec::new();
        index.remove(1, span(0, 8), &mut woken);
        assert_eq!(woken, [2]);
        woken.clear();
        index.remove(3, span(9, 1), &mut woken);
        assert!(woken.is_empty());
        index.remove(2, span(7, 2), &mut woken);
        assert_eq!(woken, [4]);
    }

    proptest! {
        /// Against the plain definition: an entry runs when no earlier, still present one overlaps it.
        #[test]
        fn agrees_with_the_definition(
            steps in proptest::collection::vec((0u64..64, 1u32..24, any::<bool>()), 1..80)
        ) {
            let mut index = Overlap::with_capacity(128);
            let mut model: Vec<(u32, Span, bool)> = Vec::new();
            for (number, (start, sectors, leave)) in steps.into_iter().enumerate() {
                let s = span(start, sectors);
                let free = model.iter().all(|(_, other, _)| !other.overlaps(s));
                prop_assert_eq!(index.insert(number as u32, s), free);
                model.push((number as u32, s, free));
                if leave {
                    let at = model.iter().position(|m| m.2).expect("the oldest always runs");
                    let (owner, gone, _) = model.remove(at);
                    let mut woken = Vec::new();
                    index.remove(owner, gone, &mut woken);
                    let mut expected = Vec::new();
                    for i in 0..model.len() {
                        let blocked = (0..i).any(|j| model[j].1.overlaps(model[i].1));
                        if !model[i].2 && !blocked {
                            expected.push(model[i].0);
                            model[i].2 = true;
                        }
                    }
                    prop_assert_eq!(woken, expected);
                }
            }
        }
    }
}
