//! Opens what holds the data: a block device or a regular file.
//!
//! While a [`Backing`] opened for [`OpenMode::Serve`] exists, and for as long as any operation of it is
//! still in the kernel, no other of our daemons, and no mount in the case of a device, can have it. So a
//! new daemon never writes while a late write of a killed one may still land.

use crate::io::buffer::Pool;
use rustix::fs::{AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the backing is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// Read and write, for us alone. Waits this long for another holder to let go.
    Serve {
        /// The longest wait.
        wait: Duration,
    },
    /// Read only, beside whoever else has it.
    Inspect,
}

/// Why a backing cannot be used, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenError {
    path: PathBuf,
    why: String,
    remedy: &'static str,
}

impl OpenError {
    /// What stands in the way, as half a sentence.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What to do, as an order in lower case.
    pub fn remedy(&self) -> &'static str {
        self.remedy
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cannot use {}: {}. Do: {}", self.path.display(), self.why, self.remedy)
    }
}

impl std::error::Error for OpenError {}

/// The open device or file, and what it can do.
#[derive(Debug)]
pub struct Backing {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) direct: bool,
    bytes: u64,
    block_bytes: u32,
    discard: bool,
    /// A regular file, which tells holes from data.
    holes: bool,
    warning: Option<String>,
}

impl Backing {
    /// Opens `path`.
    ///
    /// # Errors
    /// It is missing, neither device nor file, read-only, held by somebody else, or has blocks of another
    /// size than 512 or 4096 bytes.
    pub fn open(path: &Path, mode: OpenMode) -> Result<Backing, OpenError> {
        let fail = |why: String, remedy| OpenError { path: path.to_owned(), why, remedy };
        // Before opening: a FIFO would block, a tape would rewind.
        let found = std::fs::metadata(path).map_err(|error| explain(path, &error))?;
        let device = is_device(found.mode()).ok_or_else(|| {
            let why = "it is neither a block device nor a regular file".to_owned();
            fail(why, "name a disk, partition, logical volume or file as 'disk'")
        })?;
        let (file, direct) = match mode {
            OpenMode::Serve { wait } => open_exclusive(path, device, wait)?,
            OpenMode::Inspect => open_as(path, OFlags::RDONLY, device)
                .map_err(|errno| explain(path, &errno.into()))?,
        };
        let opened = file.metadata().map_err(|error| explain(path, &error))?;
        if (opened.ino(), opened.rdev(), opened.mode()) != (found.ino(), found.rdev(), found.mode())
        {
            return Err(fail("it was replaced just now".to_owned(), "try again"));
        }
        let broken = |error: Errno| explain(path, &error.into());
        let block_bytes = block_bytes(&file, device, direct).map_err(broken)?;
        if block_bytes != 512 && block_bytes != 4096 {
            let why = format!("its logical blocks have {block_bytes} bytes");
            return Err(fail(why, "use a disk with logical blocks of 512 or 4096 bytes"));
        }
        // The end of a device is its size; a file's too.
        let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).map_err(broken)?;
        let discard = match (mode, device) {
            (OpenMode::Inspect, _) => false,
            (_, true) => {
                queue_value(opened.rdev(), "queue/discard_max_bytes").is_some_and(|n| n > 0)
            }
            (_, false) => punches_holes(&file, end),
        };
        Ok(Backing {
            file,
            path: path.to_owned(),
            direct,
            bytes: end / u64::from(block_bytes) * u64::from(block_bytes),
            block_bytes,
            discard,
            holes: !device,
            warning: (!direct).then(|| {
                format!(
                    "{}: the file system knows no O_DIRECT, so writes pass through the page cache",
                    path.display()
                )
            }),
        })
    }

    /// The same device or file, to be opened once more by another thread.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn handle(&self) -> std::io::Result<Handle> {
        Ok(Handle { file: self.file.try_clone()?, path: self.path.clone() })
    }

    /// Usable bytes: whole logical blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Logical block in bytes, 512 or 4096: offsets and lengths are multiples of it.
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// True if zeroing gives space back.
    pub fn discard(&self) -> bool {
        self.discard
    }

    /// True if it tells holes, which read as zeroes, from data.
    pub fn holes(&self) -> bool {
        self.holes
    }

    /// Something the operator should know, for the log.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `bytes` from `offset`; both whole logical blocks. Blocks the thread: for the time before the
    /// reactor runs.
    ///
    /// # Errors
    /// The disk's, or `UnexpectedEof` past its end.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        self.check_alignment(offset, bytes.len())?;
        let mut bounce = Bounce::new()?;
        for (number, piece) in bytes.chunks_mut(BOUNCE_BYTES).enumerate() {
            let from = offset + (number * BOUNCE_BYTES) as u64;
            let aligned = bounce.bytes(piece.len());
            self.file.read_exact_at(aligned, from)?;
            piece.copy_from_slice(aligned);
        }
        Ok(())
    }

    /// Writes `bytes` to `offset`; both whole logical blocks. On stable media when it returns. Blocks the
    /// thread.
    ///
    /// # Errors
    /// The disk's. Any part may have been written then.
    pub fn write_at_durable(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.write_at(offset, bytes)?;
        self.sync()
    }

    /// The same, but not necessarily on stable media when it returns.
    ///
    /// # Errors
    /// The disk's. Any part may have been written then.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.check_alignment(offset, bytes.len())?;
        let mut bounce = Bounce::new()?;
        for (number, piece) in bytes.chunks(BOUNCE_BYTES).enumerate() {
            let to = offset + (number * BOUNCE_BYTES) as u64;
            let aligned = bounce.bytes(piece.len());
            aligned.copy_from_slice(piece);
            self.file.write_all_at(aligned, to)?;
        }
        Ok(())
    }

    /// What was written is on stable media when it returns. Blocks the thread.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> std::io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn check_alignment(&self, offset: u64, len: usize) -> std::io::Result<()> {
        let block = u64::from(self.block_bytes);
        let end = offset.checked_add(len as u64);
        if offset.is_multiple_of(block)
            && (len as u64).is_multiple_of(block)
            && end.is_some_and(|end| end <= self.bytes)
        {
            return Ok(());
        }
        let text =
            format!("{len} bytes at {offset} of {}: outside or not whole blocks", self.bytes);
        Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text))
    }
}

/// Names a device or file that is open, whatever its path leads to by now.
#[derive(Debug)]
pub struct Handle {
    file: File,
    path: PathBuf,
}

impl Handle {
    /// Opens it for reading, beside whoever has it.
    ///
    /// # Errors
    /// As [`Backing::open`].
    pub fn inspect(&self) -> Result<Backing, OpenError> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let backing = Backing::open(&path, OpenMode::Inspect)
            .map_err(|error| OpenError { path: self.path.clone(), ..error })?;
        Ok(Backing { path: self.path.clone(), ..backing })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

const BOUNCE_BYTES: usize = 64 << 10;

/// One aligned buffer, as `O_DIRECT` wants it.
struct Bounce {
    pool: Pool,
    buf: crate::replica::event::Buf,
}

impl Bounce {
    fn new() -> std::io::Result<Bounce> {
        let mut pool = Pool::new(1, BOUNCE_BYTES)?;
        let buf = pool.take().ok_or(Errno::NOMEM)?;
        Ok(Bounce { pool, buf })
    }

    fn bytes(&mut self, len: usize) -> &mut [u8] {
        self.pool.bytes_mut(self.buf, len)
    }
}

/// `Some(true)` for a block device, `Some(false)` for a regular file.
fn is_device(mode: u32) -> Option<bool> {
    match FileType::from_raw_mode(mode) {
        FileType::BlockDevice => Some(true),
        FileType::RegularFile => Some(false),
        _ => None,
    }
}

/// Opens with `O_DIRECT`, or without for files on a file system that has none; tells which.
fn open_as(path: &Path, flags: OFlags, device: bool) -> Result<(File, bool), Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
        Ok(fd) => Ok((fd.into(), true)),
        Err(Errno::INVAL) if !device => {
            Ok((rustix::fs::open(path, flags, Mode::empty())?.into(), false))
        }
        Err(errno) => Err(errno),
    }
}

fn open_exclusive(path: &Path, device: bool, wait: Duration) -> Result<(File, bool), OpenError> {
    let end = Instant::now() + wait;
    loop {
        let errno = match try_exclusive(path, device) {
            Ok(opened) => return Ok(opened),
            Err(errno) => errno,
        };
        if errno != Errno::BUSY {
            return Err(explain(path, &errno.into()));
        }
        if Instant::now() >= end {
            return Err(OpenError {
                path: path.to_owned(),
                why: format!("it is in use{}", super::holder::describe(path)),
                remedy: "unmount it or stop what uses it, then try again",
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `EBUSY` if somebody else has it.
fn try_exclusive(path: &Path, device: bool) -> Result<(File, bool), Errno> {
    if device {
        if let Ok(found) = std::fs::metadata(path)
            && queue_value(found.rdev(), "ro").is_some_and(|ro| ro != 0)
        {
            return Err(Errno::ROFS);
        }
        return open_as(path, OFlags::RDWR | OFlags::EXCL, true);
    }
    let (file, direct) = open_as(path, OFlags::RDWR, false)?;
    // The lock belongs to the open file: it ends when the last operation in the kernel has let go of it.
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok((file, direct)),
        Err(Errno::WOULDBLOCK) => Err(Errno::BUSY),
        Err(errno) => Err(errno),
    }
}

fn explain(path: &Path, error: &std::io::Error) -> OpenError {
    let (why, remedy) = match error.raw_os_error() {
        Some(libc::ENOENT) => ("it does not exist", "check 'disk' in the configuration"),
        Some(libc::EROFS) => ("it is read-only", "make it writable (blockdev --setrw, remount)"),
        Some(libc::EACCES | libc::EPERM) => (
            "permission denied, or it is read-only",
            "run as root, or give this user read and write access",
        ),
        Some(libc::ENXIO | libc::ENODEV) => {
            ("there is no such device", "check that the disk is attached to this machine")
        }
        _ => ("the system reports an error", "see the kernel log (dmesg)"),
    };
    OpenError { path: path.to_owned(), why: format!("{why} ({error})"), remedy }
}

/// A number below `/sys/dev/block`, of the device itself or, for a partition, of its disk.
fn queue_value(device: u64, name: &str) -> Option<u64> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let place = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let text = std::fs::read_to_string(place.join(name))
        .or_else(|_| std::fs::read_to_string(place.join("..").join(name)))
        .ok()?;
    text.trim().parse().ok()
}

/// True if the file system can punch holes: tried beyond the end, where it changes nothing.
fn punches_holes(file: &File, end: u64) -> bool {
    let beyond = end.next_multiple_of(4096);
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, mode, beyond, 4096).is_ok()
}

fn block_bytes(file: &File, device: bool, direct: bool) -> Result<u32, Errno> {
    if device {
        return rustix::fs::ioctl_blksszget(file);
    }
    if !direct {
        return Ok(512);
    }
    // Not every file system tells; then a read of 512 bytes is tried.
    let want = StatxFlags::BASIC_STATS | StatxFlags::DIOALIGN;
    if let Ok(told) = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, want)
        && told.stx_mask & StatxFlags::DIOALIGN.bits() != 0
        && told.stx_dio_offset_align != 0
    {
        return Ok(told.stx_dio_offset_align.max(512));
    }
    let mut bounce = Bounce::new().map_err(|_| Errno::NOMEM)?;
    match rustix::io::pread(file, bounce.bytes(512), 512) {
        Ok(_) => Ok(512),
        Err(Errno::INVAL) => Ok(4096),
        Err(errno) => Err(errno),
    }
}
