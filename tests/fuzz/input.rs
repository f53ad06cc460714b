//! Choices out of a fuzzer's bytes. Past the end all are zero, so every input means something.

use rblk::meta::superblock::{GenerationId, History, VolumeId};

/// The bytes not yet used.
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    /// True if nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Up to `most` bytes as they are.
    pub(crate) fn take(&mut self, most: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(most.min(self.rest.len()));
        self.rest = tail;
        head
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let taken = self.take(N);
        out[..taken.len()].copy_from_slice(taken);
        out
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let number = if bound > 256 { usize::from(self.short()) } else { usize::from(self.byte()) };
        number % bound
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Small numbers, numbers around powers of two, and anything.
    pub(crate) fn odd_number(&mut self) -> u64 {
        match self.byte() % 4 {
            0 => u64::from(self.byte()),
            1 => u64::from(self.short()),
            2 => (1_u64 << (self.byte() % 64)).wrapping_add_signed(i64::from(self.byte() as i8)),
            _ => self.long(),
        }
    }

    /// One of `known`, or one of a few that nobody knows.
    pub(crate) fn generation(&mut self, known: &[GenerationId]) -> Option<GenerationId> {
        let choice = usize::from(self.byte());
        match choice % (known.len() + 4) {
            0 => None,
            1 => Some(GenerationId(u128::from(choice as u64) + 1)),
            2 => Some(GenerationId(0)),
            3 => Some(GenerationId(u128::MAX)),
            known_at => known.get(known_at - 4).copied(),
        }
    }

    pub(crate) fn history(&mut self, known: &[GenerationId]) -> History {
        let mut history = History::default();
        for _ in 0..self.byte() % 5 {
            if let Some(id) = self.generation(known) {
                history.push(id);
            }
        }
        history
    }

    pub(crate) fn volume(&mut self) -> VolumeId {
        VolumeId(u128::from(self.long()))
    }
}
