//! The list of what a ring may be asked for, against the real kernel.

use super::*;
use crate::io::ring::{Owner, Ring, Token};
use io_uring::types;
use std::time::Duration;

/// The result of one operation on a ring of the daemon's kind.
fn result(entry: squeue::Entry) -> i32 {
    let mut ring = Ring::new(4).expect("io_uring");
    // SAFETY: whoever calls this hands over entries whose memory is static, or his until the end.
    unsafe { ring.push(entry, Token::new(Owner::Probe, 1, 0)) };
    loop {
        if let Some(done) = ring.next() {
            return done.result;
        }
        ring.wait(Some(Duration::from_secs(10))).expect("usable");
    }
}

#[test]
fn an_operation_that_is_not_listed_is_refused_and_not_done() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("file");
    let name = std::ffi::CString::new(file.to_str().expect("UTF-8")).expect("no zero");
    let here = types::Fd(libc::AT_FDCWD);
    let make =
        opcode::OpenAt::new(here, name.as_ptr()).flags(libc::O_CREAT | libc::O_RDWR).mode(0o600);
    assert_eq!(result(make.build()), -libc::EACCES);
    assert!(!file.exists(), "it was made");
    std::fs::write(&file, "kept").expect("written");
    assert_eq!(result(opcode::UnlinkAt::new(here, name.as_ptr()).build()), -libc::EACCES);
    assert!(file.exists(), "it was removed");
    assert_eq!(result(opcode::MkDirAt::new(here, name.as_ptr()).build()), -libc::EACCES);
    assert_eq!(
        result(opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build()),
        -libc::EACCES
    );
    assert_eq!(result(opcode::Close::new(types::Fd(-1)).build()), -libc::EACCES);
    assert_eq!(result(opcode::Nop::new().build()), 0, "what is listed is done");
}

#[test]
fn a_flag_that_is_not_listed_is_refused() {
    for flag in [squeue::Flags::IO_LINK, squeue::Flags::IO_DRAIN, squeue::Flags::ASYNC] {
        assert_eq!(result(opcode::Nop::new().build().flags(flag)), -libc::EACCES, "{flag:?}");
    }
}

#[test]
fn a_registration_that_is_not_listed_is_refused() {
    let uring = disabled();
    enable(&uring).expect("enabled");
    let refused = uring.submitter().register_files(&[0]).expect_err("not listed");
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    // Listed: it fails for another reason, that there is no table.
    let error = uring.submitter().register_files_update(0, &[-1]).expect_err("no table");
    assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
}

#[test]
fn a_list_is_never_longer_again() {
    let uring = disabled();
    enable(&uring).expect("enabled");
    assert!(restrict(&uring).is_err(), "a second list");
}

#[test]
fn a_ring_whose_list_is_refused_works_without() {
    let uring = disabled();
    restrict(&uring).expect("the first is taken");
    // The kernel takes one alone: as on a kernel that takes none.
    assert!(restrict(&uring).is_err());
    enable(&uring).expect("enabled all the same");
}

fn disabled() -> IoUring<squeue::Entry, cqueue::Entry> {
    IoUring::builder().setup_r_disabled().build(4).expect("io_uring")
}
