//! What the exit code of fence-peer says, with DRBD's meaning.

use super::message::Ended;

/// What became of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fence {
    /// 3: its disk is inconsistent: it cannot become Primary.
    PeerInconsistent,
    /// 4: its disk is outdated, or was just marked so.
    PeerOutdated,
    /// 5: it cannot be reached, and is taken to be down.
    PeerUnreachable,
    /// 6: it refuses, since it is Primary.
    PeerIsPrimary,
    /// 7: its power was cut.
    PeerStonithed,
    /// Nobody knows: any other exit code, 0 included, and a handler that did not end by itself.
    Broken,
}

impl Fence {
    /// From how the handler ended.
    pub fn of(ended: &Ended) -> Fence {
        match ended.exit_code() {
            Some(3) => Fence::PeerInconsistent,
            Some(4) => Fence::PeerOutdated,
            Some(5) => Fence::PeerUnreachable,
            Some(6) => Fence::PeerIsPrimary,
            Some(7) => Fence::PeerStonithed,
            _ => Fence::Broken,
        }
    }

    /// True if it is certain that the peer does not go on. A peer that is only unreachable may have gone on alone
    /// before: that is no harm to a node whose data is the newest, and a loss if this node's is not. Of two Primaries
    /// that lose each other (`beside_primary`) both have the newest, and either may find the other unreachable: then it
    /// says nothing, or both would go on.
    pub fn confirms(self, own_data_is_newest: bool, beside_primary: bool) -> bool {
        match self {
            Fence::PeerInconsistent | Fence::PeerOutdated | Fence::PeerStonithed => true,
            Fence::PeerUnreachable => own_data_is_newest && !beside_primary,
            Fence::PeerIsPrimary | Fence::Broken => false,
        }
    }

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Fence::PeerInconsistent => "the peer's disk is inconsistent",
            Fence::PeerOutdated => "the peer's disk is outdated",
            Fence::PeerUnreachable => "the peer cannot be reached, and is taken to be down",
            Fence::PeerIsPrimary => "the peer refuses: it is Primary",
            Fence::PeerStonithed => "the peer's power was cut",
            Fence::Broken => "the handler did not say what became of the peer (exit codes 3 to 7)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_mean_what_they_mean_in_drbd() {
        let all = [
            // exit code, confirmed with the newest data, without, with it beside another Primary
            (3, [true, true, true]),
            (4, [true, true, true]),
            (5, [true, false, false]),
            (6, [false, false, false]),
            (7, [true, true, true]),
        ];
        for (code, expected) in all {
            let fence = Fence::of(&Ended::Exit(code));
            let found = [(true, false), (false, false), (true, true)];
            let found = found.map(|(newest, beside)| fence.confirms(newest, beside));
            assert_eq!(found, expected, "{code}");
        }
        let others = [0, 1, 2, 8, 126, 127, 255, -1].map(Ended::Exit);
        let unknown = Ended::Unknown("the runner ended".to_owned());
        let violent = [Ended::Signal(4), Ended::Signal(9), Ended::TimedOut, Ended::Stuck, unknown];
        for ended in others.iter().chain(&violent) {
            assert_eq!(Fence::of(ended), Fence::Broken, "{ended}");
            assert!(!Fence::of(ended).confirms(true, false), "{ended}");
        }
    }
}
