//! A small generator of its own: the same seed gives the same run on every machine and for ever.

/// Splitmix64 (Steele, Lea, Flood, 2014), or a fate that was decided beforehand.
#[derive(Clone)]
pub(crate) struct Rng {
    state: u64,
    forced: Option<Fate>,
    asked: u64,
}

/// What becomes of whatever is left to chance: of the sectors that a power cut may take, for example.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Every chance fails, and the first of several choices is taken.
    Never,
    /// Every chance succeeds, and the last of several choices is taken.
    Always,
    /// Two chances succeed, two fail, and so on; the choice in the middle is taken.
    InTurn,
    /// As this seed has it.
    Chance(u64),
}

impl Rng {
    /// Two seeds next to each other share nothing.
    pub(crate) fn new(seed: u64) -> Rng {
        let mut rng = Rng { state: seed ^ 0x5EED_0F52_424C_4B00, forced: None, asked: 0 };
        rng.next();
        rng
    }

    /// One of several generators of a seed: what is drawn from one does not move the others.
    pub(crate) fn stream(seed: u64, number: u64) -> Rng {
        Rng::new(Rng::new(seed).next() ^ number)
    }

    /// Chances and choices come out as decided.
    pub(crate) fn forced(fate: Fate) -> Rng {
        match fate {
            Fate::Chance(seed) => Rng::new(seed),
            fate => Rng { forced: Some(fate), ..Rng::new(0) },
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        let Some(fate) = self.forced else { return self.below(100) < percent };
        self.asked += 1;
        match fate {
            Fate::Never => false,
            Fate::Always => true,
            _ => self.asked % 4 < 2,
        }
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let last = choices.len() - 1;
        choices[match self.forced {
            None => self.below(choices.len() as u64) as usize,
            Some(Fate::Never) => 0,
            Some(Fate::Always) => last,
            Some(_) => last / 2,
        }]
    }

    /// A latency: mostly up to twice `typical`, 1 in 64 anything up to `worst`.
    pub(crate) fn latency(&mut self, typical: u64, worst: u64) -> u64 {
        if self.below(64) == 0 {
            self.between(typical, worst.max(typical))
        } else {
            self.between(typical / 4 + 1, typical * 2 + 1)
        }
    }
}
