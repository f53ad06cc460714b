//! The real waker and bell, on twins of the counter and the ring.

#[path = "../../../src/io/bell.rs"]
pub(crate) mod bell;
pub(crate) mod counter;
pub(crate) mod ring;
#[path = "../../../src/io/waker.rs"]
mod waker;
