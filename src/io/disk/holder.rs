//! Who has a disk open, as far as the system tells: for error messages only.

use std::fs::{metadata, read_dir, read_to_string};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What is known about who uses `path`, to follow "it is in use".
pub(super) fn describe(path: &Path) -> String {
    let Ok(found) = metadata(path) else {
        return String::new();
    };
    let known = if found.file_type().is_block_device() {
        let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        device_user(&format!("{major}:{minor}"), path)
    } else {
        lock_owner(found.dev(), found.ino())
    };
    let unknown = || "; perhaps by another rblk daemon that serves it".to_owned();
    known.map_or_else(unknown, |known| format!(": {known}"))
}

fn device_user(number: &str, path: &Path) -> Option<String> {
    let mounts = read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(2)? == number).then_some(fields.nth(1)?)
    });
    if let Some(place) = mounted {
        return Some(format!("mounted on {place}"));
    }
    let holders = read_dir(format!("/sys/dev/block/{number}/holders"));
    if let Some(holder) = holders.ok().and_then(|mut entries| entries.next()?.ok()) {
        return Some(format!("/dev/{} is on it", holder.file_name().to_string_lossy()));
    }
    let swaps = read_to_string("/proc/swaps").unwrap_or_default();
    let real = path.canonicalize().ok()?;
    let name = real.to_string_lossy();
    let swap = swaps.lines().any(|line| line.split(' ').next() == Some(&name));
    swap.then(|| "it is swap space".to_owned())
}

/// The process that has locked the file, from lines like `1: FLOCK ADVISORY WRITE 1234 fd:00:5678 0 EOF`.
fn lock_owner(device: u64, inode: u64) -> Option<String> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let locks = read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let process = fields.nth(4)?;
        (fields.next()? == file).then_some(process)
    })?;
    let name = read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(format!("locked by process {process} {}", name.trim_end()).trim_end().to_owned())
}
