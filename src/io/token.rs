//! Names of operations on the ring.

/// Who started an operation and takes its completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Owner {
    /// The ring itself: wakeups, cancellations, delays. Never seen outside of it.
    Ring = 0,
    /// The backing disk.
    Disk = 1,
    /// Links to the peer.
    Peer = 2,
    /// The NBD server and its clients.
    Nbd = 3,
    /// The ublk queue.
    Ublk = 4,
    /// Listening and connecting sockets of the daemon.
    Net = 5,
    /// The control socket.
    Control = 6,
    /// Timers of the daemon.
    Timer = 7,
    /// Trying out what the kernel can do, and tests.
    Probe = 8,
}

const OWNERS: [Owner; 9] = [
    Owner::Ring,
    Owner::Disk,
    Owner::Peer,
    Owner::Nbd,
    Owner::Ublk,
    Owner::Net,
    Owner::Control,
    Owner::Timer,
    Owner::Probe,
];

/// Names an operation from its submission to its completion: the `user_data` of io_uring.
///
/// ```text
///     63     56 55     48 47             32 31                              0
///    ┌─────────┬─────────┬─────────────────┬─────────────────────────────────┐
///    │  owner  │  kind   │    instance     │              index              │
///    └─────────┴─────────┴─────────────────┴─────────────────────────────────┘
///      who       which     which of several   which operation: a slot, a tag
///                operation of the same owner
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

impl Token {
    /// The operation `index` of `kind` of the only instance of `owner`.
    pub const fn new(owner: Owner, kind: u8, index: u32) -> Token {
        Token::of(owner, 0, kind, index)
    }

    /// The operation `index` of `kind` of one `instance` (a connection, a client) of `owner`.
    pub const fn of(owner: Owner, instance: u16, kind: u8, index: u32) -> Token {
        Token((owner as u64) << 56 | (kind as u64) << 48 | (instance as u64) << 32 | index as u64)
    }

    /// Who started it.
    pub fn owner(self) -> Owner {
        let number = (self.0 >> 56) as usize;
        assert!(number < OWNERS.len(), "token {self:?} was not made here");
        OWNERS[number]
    }

    /// Which operation, in the owner's own numbering.
    pub const fn kind(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// Which of several of the same owner.
    pub const fn instance(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Which slot of the owner.
    pub const fn index(self) -> u32 {
        self.0 as u32
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An operation has ended, or a multishot operation has something to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// Which.
    pub token: Token,
    /// As the system call would return: bytes, a file descriptor, 0, or a negative errno.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

impl Completion {
    /// True if more completions of the same operation follow: it still owns its memory.
    pub fn more(&self) -> bool {
        io_uring::cqueue::more(self.flags)
    }

    /// The result as a count, or the errno as an error.
    ///
    /// # Errors
    /// The errno.
    pub fn bytes(&self) -> std::io::Result<usize> {
        usize::try_from(self.result).map_err(|_| std::io::Error::from_raw_os_error(-self.result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_token_comes_back() {
        for (number, owner) in OWNERS.into_iter().enumerate() {
            assert_eq!(owner as usize, number);
            let token = Token::of(owner, u16::MAX - 1, 0xa5, u32::MAX - 2);
            assert_eq!(token.owner(), owner);
            let fields = (token.instance(), token.kind(), token.index());
            assert_eq!(fields, (u16::MAX - 1, 0xa5, u32::MAX - 2));
        }
    }
}
