//! Digests: what two nodes compare instead of a block's 4 KiB.
//!
//! XXH3 with 128 bits: two blocks that differ by chance or by a fault have the same one once in 2^128. It is no proof
//! against somebody who makes blocks to that end: such a one needs no verify to be deceived, he may write.
//!
//! Source of the algorithm: <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.

use crate::limits::{BLOCK_BYTES, DIGESTS_MAX};
use crate::span::Span;

/// The digest of one block.
pub type Digest = u128;

/// Bytes of a digest on the wire; little-endian.
pub const DIGEST_BYTES: usize = 16;

/// Digests of a span of whole blocks.
pub fn count(span: Span) -> usize {
    (span.bytes() / BLOCK_BYTES) as usize
}

/// Bytes that the digests of a span of whole blocks take on the wire.
pub fn bytes_for(span: Span) -> u64 {
    (count(span) * DIGEST_BYTES) as u64
}

/// Digests of the blocks of one span, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digests {
    blocks: [Digest; DIGESTS_MAX],
    count: usize,
}

impl Digests {
    /// Those of `content`, a whole number of blocks, at most [`DIGESTS_MAX`].
    pub fn of(content: &[u8]) -> Digests {
        let (blocks, rest) = content.as_chunks::<{ BLOCK_BYTES as usize }>();
        assert!(rest.is_empty(), "digests are of whole blocks");
        Digests::gathered(blocks.iter().map(|block| twox_hash::XxHash3_128::oneshot(block)))
    }

    /// These.
    ///
    /// # Panics
    /// If there are more than [`DIGESTS_MAX`].
    pub fn gathered(digests: impl Iterator<Item = Digest>) -> Digests {
        let mut all = Digests { blocks: [0; DIGESTS_MAX], count: 0 };
        for digest in digests {
            all.blocks[all.count] = digest;
            all.count += 1;
        }
        all
    }

    /// As received; `None` unless they are `count`.
    pub fn decode(bytes: &[u8], count: usize) -> Option<Digests> {
        let (digests, rest) = bytes.as_chunks::<DIGEST_BYTES>();
        let fits = rest.is_empty() && digests.len() == count && count <= DIGESTS_MAX;
        fits.then(|| Digests::gathered(digests.iter().map(|bytes| Digest::from_le_bytes(*bytes))))
    }

    /// As sent.
    pub fn encode(&self) -> Vec<u8> {
        self.as_slice().iter().flat_map(|digest| digest.to_le_bytes()).collect()
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Digest] {
        &self.blocks[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of the specification's reference implementation, for inputs without a secret and seed 0.
    #[test]
    fn it_is_xxh3_with_128_bits() {
        assert_eq!(twox_hash::XxHash3_128::oneshot(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }

    #[test]
    fn one_bit_changes_one_digest() {
        let mut content = vec![0; 3 * BLOCK_BYTES as usize];
        let before = Digests::of(&content);
        assert_eq!(before.as_slice()[0], before.as_slice()[2]);
        content[BLOCK_BYTES as usize + 77] ^= 4;
        let after = Digests::of(&content);
        assert_ne!(before.as_slice()[1], after.as_slice()[1]);
        assert_eq!(before.as_slice()[0], after.as_slice()[0]);
        assert_eq!(before.as_slice()[2], after.as_slice()[2]);
    }

    #[test]
    fn they_survive_the_wire_and_another_number_does_not() {
        let digests = Digests::gathered([1, u128::MAX, 3].into_iter());
        let bytes = digests.encode();
        assert_eq!(Digests::decode(&bytes, 3), Some(digests));
        assert_eq!(Digests::decode(&bytes, 2), None);
        assert_eq!(Digests::decode(&bytes[1..], 3), None);
        let many = vec![0; (DIGESTS_MAX + 1) * DIGEST_BYTES];
        assert_eq!(Digests::decode(&many, DIGESTS_MAX + 1), None);
    }
}
