//! Who has a device open, in words for a message to the operator.
//!
//! Best effort: the kernel tells nobody. Looked at are the descriptors of all processes, all mount
//! tables (also of containers), devices stacked on top, and swap. Partitions count as the device. A node of the device
//! that is neither in `/dev` nor called `ublkb...` is not seen: its file system would have to be asked.
//!
//! To look may take long: a mount table is written by the file systems, some of which read from their disk for it, and
//! that may be this very device. Whoever serves a device lets another process look, and does not wait for its end:
//! not even a thread of his own, since one that hangs in the kernel keeps his device from being taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Major and minor number of a block device.
type Number = (u32, u32);

/// Who has `/dev/ublkbN` or a partition of it open: mounts with their place, processes with number and
/// name, stacked devices, swap. Empty if nobody is found. May block for long: see above.
pub fn openers(id: u32) -> Vec<String> {
    let targets = targets(id);
    let mut mounts = BTreeSet::new();
    let mut users = BTreeMap::new();
    let mut views = BTreeSet::new();
    for process in processes() {
        // Most processes see the same mounts.
        if views.insert(view(&process)) {
            for place in mounts_of(&process, &targets) {
                mounts.insert(format!("mounted at {place}"));
            }
        }
        if has_open(&process, &targets) {
            let pid = process.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            users.insert(pid.unwrap_or_default(), name.trim().to_owned());
        }
    }
    let processes = users.into_iter().map(|(pid, name)| format!("process {pid} ({name})"));
    let stacked = holders(id).into_iter().map(|name| format!("held by {name}"));
    mounts.into_iter().chain(stacked).chain(swaps(id)).chain(processes).collect()
}

/// Whether somebody holds `/dev/ublkbN` for himself, whom [`openers`] may not see: a ZFS pool, or a mount in a
/// namespace without processes. Who mounts it at this very moment is told that it is busy: to be asked before it is
/// taken away. May block: opening a device may make the kernel read from it.
pub fn is_held(id: u32) -> bool {
    let device = format!("/dev/ublkb{id}");
    let flags = libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened = fs::File::options().read(true).custom_flags(flags).open(device);
    opened.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

/// The numbers of the device and its partitions.
fn targets(id: u32) -> BTreeSet<Number> {
    let device = format!("/sys/block/ublkb{id}");
    let parts = children(Path::new(&device)).into_iter();
    let parts = parts.filter(|path| path.join("partition").exists());
    std::iter::once(PathBuf::from(&device))
        .chain(parts)
        .filter_map(|path| parse_number(fs::read_to_string(path.join("dev")).ok()?.trim()))
        .collect()
}

/// `MAJOR:MINOR`.
fn parse_number(text: &str) -> Option<Number> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `/proc/PID` of every process.
fn processes() -> Vec<PathBuf> {
    let is_pid = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    children(Path::new("/proc")).into_iter().filter(is_pid).collect()
}

/// What a directory holds; nothing if it is gone or not for us.
fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// True if a process has one of the devices open.
fn has_open(process: &Path, targets: &BTreeSet<Number>) -> bool {
    let links = children(&process.join("fd")).into_iter();
    let Ok(directory) = fs::File::open(process.join("fd")) else {
        return false;
    };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&directory);
    let links = links.filter(|link| fs::read_link(link).is_ok_and(|place| may_be_device(&place)));
    let mut names = links.filter_map(|link| link.file_name()?.to_str().map(str::to_owned));
    names.any(|name| block_number(fd, &name).is_some_and(|number| targets.contains(&number)))
}

/// What decides which mounts a process sees: its namespace and its root. `None` if it is gone or not for us.
fn view(process: &Path) -> Option<(PathBuf, PathBuf)> {
    let link = |name| fs::read_link(process.join(name)).ok();
    Some((link("ns/mnt")?, link("root")?))
}

/// True for a file whose place says that it may be a device. Its file system must not be asked: OCFS2 and GFS2 take
/// a lock of the cluster for an answer, whose owner may wait for a write to the very device that is asked about.
fn may_be_device(place: &Path) -> bool {
    let name = place.file_name().and_then(|name| name.to_str());
    place.starts_with("/dev") || name.is_some_and(|name| name.starts_with("ublkb"))
}

/// The number of the block device that a link in a directory leads to, whatever name it was opened by.
/// Asks for what the kernel has at hand: a file on a network server that hangs must not hang us.
fn block_number(directory: RawFd, name: &str) -> Option<Number> {
    let name = std::ffi::CString::new(name).ok()?;
    let flags = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    // SAFETY: statx is plain numbers, for which zeroes are valid.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is a C string and `stat` a statx to fill; both outlive the call.
    let result =
        unsafe { libc::statx(directory, name.as_ptr(), flags, libc::STATX_TYPE, &raw mut stat) };
    let is_block = u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFBLK;
    (result == 0 && is_block).then_some((stat.stx_rdev_major, stat.stx_rdev_minor))
}

/// Where a process sees one of the devices mounted.
fn mounts_of(process: &Path, targets: &BTreeSet<Number>) -> Vec<String> {
    let table = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    table.lines().filter_map(|line| mounted_at(line, targets)).collect()
}

/// The mount point of a line of mountinfo (`36 35 98:0 /root /mnt ...`) if it is of one of the devices.
fn mounted_at(line: &str, targets: &BTreeSet<Number>) -> Option<String> {
    let mut fields = line.split(' ');
    let number = parse_number(fields.nth(2)?)?;
    let place = fields.nth(1)?;
    targets.contains(&number).then(|| place.replace("\\040", " "))
}

/// Devices stacked on the device or a partition of it: dm, md, bcache.
fn holders(id: u32) -> Vec<String> {
    let device = PathBuf::from(format!("/sys/block/ublkb{id}"));
    let parts = children(&device).into_iter().filter(|path| path.join("partition").exists());
    let lists = parts.chain([device.clone()]).map(|path| path.join("holders"));
    let holders = lists.flat_map(|list| children(&list));
    let mut names: Vec<String> = holders
        .filter_map(|holder| holder.file_name()?.to_str().map(str::to_owned))
        .chain(loops_on(id))
        .collect();
    names.sort();
    names
}

/// Loop devices on the device: the kernel opens it for them, without a process or a holder.
fn loops_on(id: u32) -> Vec<String> {
    let device = format!("/dev/ublkb{id}");
    let named = |path: PathBuf| {
        let file = fs::read_to_string(path.join("loop/backing_file")).ok()?;
        let name = path.file_name()?.to_str()?.to_owned();
        is_device_or_part(file.trim(), &device).then_some(name)
    };
    children(Path::new("/sys/block")).into_iter().filter_map(named).collect()
}

/// Swap on the device or a partition of it.
fn swaps(id: u32) -> Vec<String> {
    let device = format!("/dev/ublkb{id}");
    let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let used = table.lines().filter_map(|line| line.split_whitespace().next());
    used.filter(|name| is_device_or_part(name, &device))
        .map(|name| format!("swap on {name}"))
        .collect()
}

/// True for `/dev/ublkb1` and `/dev/ublkb1p2`, not for `/dev/ublkb12`.
fn is_device_or_part(name: &str, device: &str) -> bool {
    name.strip_prefix(device).is_some_and(|rest| rest.is_empty() || rest.starts_with('p'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_number() {
        let targets = BTreeSet::from([(259, 3)]);
        let line = "36 35 259:3 / /srv/my\\040data rw,relatime shared:1 - ext4 /dev/ublkb0 rw";
        assert_eq!(mounted_at(line, &targets).as_deref(), Some("/srv/my data"));
        assert_eq!(mounted_at(&line.replace("259:3", "259:4"), &targets), None);
        assert_eq!(mounted_at("36 35", &targets), None);
    }

    #[test]
    fn device_twelve_is_no_part_of_device_one() {
        assert!(is_device_or_part("/dev/ublkb1", "/dev/ublkb1"));
        assert!(is_device_or_part("/dev/ublkb1p2", "/dev/ublkb1"));
        assert!(!is_device_or_part("/dev/ublkb12", "/dev/ublkb1"));
    }

    #[test]
    fn file_systems_are_not_asked_what_their_files_are() {
        for place in ["/dev/ublkb0", "/dev/dm-1", "/srv/chroot/dev/ublkb0"] {
            assert!(may_be_device(Path::new(place)), "{place}");
        }
        for place in
            ["/srv/ocfs2/log", "/srv/ocfs2/dev/log", "/devices/a", "socket:[17]", "pipe:[3]"]
        {
            assert!(!may_be_device(Path::new(place)), "{place}");
        }
    }

    #[test]
    fn processes_that_see_the_same_mounts_are_looked_at_once() {
        let own = view(Path::new("/proc/self"));
        assert!(own.is_some());
        assert_eq!(view(Path::new("/proc/thread-self")), own);
        assert_eq!(view(Path::new("/proc/no-such-process")), None);
    }

    #[test]
    fn an_open_descriptor_is_seen() {
        // /dev/vda and the like cannot be opened everywhere; that character devices are not taken for
        // block devices can be seen anywhere.
        let directory = fs::File::open("/dev").expect("/dev");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&directory);
        assert_eq!(block_number(fd, "null"), None);
        assert_eq!(block_number(fd, "no-such-node"), None);
    }
}
