//! Bytes at fixed offsets, for the codecs of `meta/` and `wire/`. PURE.
//!
//! Offsets are constants of a format and lengths are checked before: an offset outside is a bug and panics.

/// The `N` bytes at offset `at`.
pub(crate) fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

/// Puts `value` at offset `at`.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// True if all bytes are zero.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    // Many at a time: whole blocks are looked at.
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}
