//! SMC: a socket that is asked for by another number of protocol, and otherwise used as TCP's. Whether a connection
//! goes over RDMA or has fallen back to TCP is for the kernel to say.

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink};
use std::io::{Error, ErrorKind, Result};
use std::num::NonZeroU32;
use std::os::fd::AsFd;

/// `IPPROTO_SMC`, from `linux/in.h`; since Linux 6.11.
const NUMBER: NonZeroU32 = NonZeroU32::new(256).expect("not zero");
/// `AF_SMC`.
const FAMILY: u8 = 43;
/// `SOCK_DIAG_BY_FAMILY`, from `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_ALL: u16 = 0x1 | 0x300;
/// `NLMSG_ERROR` and `NLMSG_DONE`: the last message.
const LAST: [u16; 2] = [2, 3];
const HEADER_BYTES: usize = 16;
/// `struct smc_diag_req`: family, 2 unused, what else is wanted; then an id of 48 bytes that is not looked at.
const ASK_BYTES: usize = HEADER_BYTES + 4 + 48;
/// In `struct smc_diag_msg`: how it goes, and the inode of the socket.
const MODE_AT: usize = HEADER_BYTES + 2;
const INODE_AT: usize = HEADER_BYTES + 56;
/// An answer is read in pieces of at most so many bytes, and at most so many pieces.
const PIECE_BYTES: usize = 32 << 10;
const PIECES_MAX: usize = 64;

/// The protocol of such a socket.
pub(super) fn protocol() -> rustix::net::Protocol {
    rustix::net::Protocol::from_raw(NUMBER)
}

/// What the operator should know if there is no such socket.
pub(super) fn explain(error: Error) -> Error {
    let unknown = [libc::EPROTONOSUPPORT, libc::ESOCKTNOSUPPORT, libc::EAFNOSUPPORT, libc::EINVAL];
    match error.raw_os_error() {
        Some(number) if unknown.contains(&number) => Error::new(
            ErrorKind::Unsupported,
            "this kernel has no SMC sockets (Linux 6.11 or newer, built with CONFIG_SMC; `modprobe smc`): use \
             transport \"tcp\" or \"rdma\"",
        ),
        _ => error,
    }
}

/// How the connection of `socket` goes: `smc-r`, `smc-d`, or `tcp` if it fell back. `None` if the kernel does not say.
pub(super) fn in_use(socket: impl AsFd) -> Option<&'static str> {
    let inode = rustix::fs::fstat(&socket).ok()?.st_ino;
    ask(inode).ok().flatten()
}

fn ask(inode: u64) -> Result<Option<&'static str>> {
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    let netlink =
        rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    let mut request = [0; ASK_BYTES];
    request[..4].copy_from_slice(&(ASK_BYTES as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST_ALL.to_ne_bytes());
    request[HEADER_BYTES] = FAMILY;
    rustix::net::send(&netlink, &request, rustix::net::SendFlags::empty())?;
    let mut piece = vec![0; PIECE_BYTES];
    for _ in 0..PIECES_MAX {
        let (length, _) =
            rustix::net::recv(&netlink, &mut piece[..], rustix::net::RecvFlags::empty())?;
        match find(&piece[..length], inode) {
            Found::Nothing => {}
            Found::Mode(mode) => return Ok(named(mode)),
            Found::End => break,
        }
    }
    Ok(None)
}

#[derive(PartialEq, Eq, Debug)]
enum Found {
    Nothing,
    Mode(u8),
    End,
}

/// What the messages in `piece` say of the socket with this inode.
fn find(piece: &[u8], inode: u64) -> Found {
    let mut rest = piece;
    while rest.len() >= HEADER_BYTES {
        let length = u32::from_ne_bytes(rest[..4].try_into().expect("four bytes")) as usize;
        let kind = u16::from_ne_bytes(rest[4..6].try_into().expect("two bytes"));
        if LAST.contains(&kind) || length < HEADER_BYTES || length > rest.len() {
            return Found::End;
        }
        let of = rest.get(INODE_AT..INODE_AT + 8).filter(|_| length >= INODE_AT + 8);
        if of.is_some_and(|of| of == inode.to_ne_bytes()) {
            return Found::Mode(rest[MODE_AT]);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Found::Nothing
}

/// `SMC_DIAG_MODE_*`.
fn named(mode: u8) -> Option<&'static str> {
    match mode {
        0 => Some("smc-r"),
        1 => Some("tcp"),
        2 => Some("smc-d"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message about a socket.
    fn about(inode: u64, mode: u8) -> Vec<u8> {
        let mut message = vec![0; INODE_AT + 8];
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        message[MODE_AT] = mode;
        message[INODE_AT..].copy_from_slice(&inode.to_ne_bytes());
        message
    }

    fn done() -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES];
        message[..4].copy_from_slice(&(HEADER_BYTES as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&LAST[1].to_ne_bytes());
        message
    }

    #[test]
    fn a_socket_is_found_by_its_inode() {
        let piece = [about(7, 1), about(8, 0), about(9, 2)].concat();
        assert_eq!(find(&piece, 8), Found::Mode(0));
        assert_eq!(find(&piece, 9), Found::Mode(2));
        assert_eq!(find(&piece, 10), Found::Nothing);
        assert_eq!(find(&[about(7, 1), done(), about(8, 0)].concat(), 8), Found::End);
        assert_eq!([0, 1, 2, 3].map(named), [Some("smc-r"), Some("tcp"), Some("smc-d"), None]);
    }

    #[test]
    fn what_is_no_message_ends_the_search() {
        for length in 0..HEADER_BYTES {
            assert_eq!(find(&about(8, 0)[..length], 8), Found::Nothing);
        }
        for length in HEADER_BYTES..INODE_AT + 8 {
            assert_eq!(find(&about(8, 0)[..length], 8), Found::End);
        }
        assert_eq!(find(&[0; 256], 0), Found::End);
    }
}
