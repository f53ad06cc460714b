//! Recognises what a disk already holds, so that nothing is overwritten by mistake.
//!
//! It reads two windows, whatever the disk contains, and follows no pointer in it. It is meant to be too
//! careful: a stale signature also counts. Our own superblock is looked for elsewhere.

use super::open::Backing;

/// A signature at a fixed place from the start.
struct Mark {
    name: &'static str,
    offset: usize,
    bytes: &'static [u8],
}

const fn mark(name: &'static str, offset: usize, bytes: &'static [u8]) -> Mark {
    Mark { name, offset, bytes }
}

/// Containers come before what may lie in them.
const MARKS: &[Mark] = &[
    mark("a LUKS encrypted volume", 0, b"LUKS\xba\xbe"),
    mark("a LUKS encrypted volume", 0x4000, b"SKUL\xba\xbe"),
    mark("an LVM physical volume", 24, b"LVM2 001"),
    mark("an LVM physical volume", 512 + 24, b"LVM2 001"),
    mark("an LVM physical volume", 1024 + 24, b"LVM2 001"),
    mark("an LVM physical volume", 1536 + 24, b"LVM2 001"),
    mark("a member of a Linux RAID (md)", 0, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
    mark("a member of a Linux RAID (md)", 4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
    mark(
        "a bcache device",
        4096 + 24,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    mark(
        "a bcachefs file system",
        4096 + 24,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    ),
    mark("an XFS file system", 0, b"XFSB"),
    mark("a Btrfs file system", 0x1_0040, b"_BHRfS_M"),
    mark("an OCFS2 file system", 0x400, b"OCFSV2"),
    mark("an OCFS2 file system", 0x800, b"OCFSV2"),
    mark("an OCFS2 file system", 0x1000, b"OCFSV2"),
    mark("an OCFS2 file system", 0x2000, b"OCFSV2"),
    mark("a GFS2 file system", 0x1_0000, b"\x01\x16\x19\x70\0\0\0\x01"),
    mark("an F2FS file system", 0x400, b"\x10\x20\xf5\xf2"),
    mark("a ReiserFS file system", 0x1_0034, b"ReIsEr"),
    mark("a JFS file system", 0x8000, b"JFS1"),
    mark("an ISO 9660 file system", 0x8001, b"CD001"),
    mark("a SquashFS file system", 0, b"hsqs"),
    mark("swap space", 4096 - 10, b"SWAPSPACE2"),
    mark("swap space", 4096 - 10, b"SWAP-SPACE"),
    mark("swap space", 65536 - 10, b"SWAPSPACE2"),
    mark("an NTFS file system", 3, b"NTFS    "),
    mark("an exFAT file system", 3, b"EXFAT   "),
    mark("a FAT file system", 54, b"FAT"),
    mark("a FAT file system", 82, b"FAT32   "),
    mark("a GPT partition table", 512, b"EFI PART"),
    mark("a GPT partition table", 4096, b"EFI PART"),
    mark("an ext2/ext3/ext4 file system", 0x438, b"\x53\xef"),
];

const HEAD_BYTES: u64 = 256 << 10;
const TAIL_BYTES: u64 = 192 << 10;

/// What the disk seems to hold, in words that follow "there is"; `None` if nothing known was found.
///
/// # Errors
/// The disk cannot be read.
pub fn signature(backing: &Backing) -> std::io::Result<Option<&'static str>> {
    let block = u64::from(backing.block_bytes());
    let end = backing.bytes();
    let mut head = vec![0; end.min(HEAD_BYTES) as usize];
    backing.read_at(0, &mut head)?;
    let start = end.saturating_sub(TAIL_BYTES).next_multiple_of(block);
    let mut tail = vec![0; (end - start) as usize];
    backing.read_at(start, &mut tail)?;
    Ok(in_head(&head).or_else(|| in_tail(&tail, start, end)))
}

/// How far the ext2/3/4 or XFS file system at the start of the disk reaches, in bytes; `None` if there is none, or it
/// does not say.
///
/// # Errors
/// The disk cannot be read.
pub fn file_system_bytes(backing: &Backing) -> std::io::Result<Option<u64>> {
    let mut head = vec![0; backing.bytes().min(4096) as usize];
    backing.read_at(0, &mut head)?;
    Ok(ext_bytes(&head).or_else(|| xfs_bytes(&head)))
}

/// `s_log_block_size`, `s_blocks_count_lo`, and `_hi` with the feature `64bit`: the kernel's
/// Documentation/filesystems/ext4/super.rst.
fn ext_bytes(head: &[u8]) -> Option<u64> {
    let field = |offset: usize| {
        let bytes = head.get(1024 + offset..)?.first_chunk()?;
        Some(u64::from(u32::from_le_bytes(*bytes)))
    };
    if !has(head, 0x438, b"\x53\xef") {
        return None;
    }
    let high = if field(0x60)? & 0x80 != 0 { field(0x150)? } else { 0 };
    let blocks = high << 32 | field(0x4)?;
    // Of 64 KiB at most.
    let shift = field(0x18).filter(|shift| *shift <= 6)?;
    blocks.checked_mul(1024 << shift)
}

/// `sb_blocksize` and `sb_dblocks`: the kernel's fs/xfs/libxfs/xfs_format.h.
fn xfs_bytes(head: &[u8]) -> Option<u64> {
    if !has(head, 0, b"XFSB") {
        return None;
    }
    let block = u32::from_be_bytes(*head.get(4..)?.first_chunk()?);
    let blocks = u64::from_be_bytes(*head.get(8..)?.first_chunk()?);
    blocks.checked_mul(block.into())
}

fn has(bytes: &[u8], offset: usize, mark: &[u8]) -> bool {
    bytes.get(offset..).is_some_and(|rest| rest.starts_with(mark))
}

fn in_head(head: &[u8]) -> Option<&'static str> {
    let found = MARKS.iter().find(|mark| has(head, mark.offset, mark.bytes));
    found.map(|mark| mark.name).or_else(|| zfs(head)).or_else(|| mbr(head))
}

/// The uberblocks of a ZFS label lie 128 KiB into it, 1 KiB or more apart, in the byte order of their writer.
fn zfs(head: &[u8]) -> Option<&'static str> {
    let mut places = (128 << 10..256 << 10).step_by(1024);
    let found = places.any(|place| {
        has(head, place, b"\x0c\xb1\xba\0\0\0\0\0") || has(head, place, b"\0\0\0\0\0\xba\xb1\x0c")
    });
    found.then_some("a ZFS pool member")
}

/// A partition table of the old kind: four entries, of which one at least is in use and all make sense.
fn mbr(head: &[u8]) -> Option<&'static str> {
    let entries = head.get(446..510)?;
    let sane = entries.chunks_exact(16).all(|entry| entry[0] & 0x7f == 0);
    let used = entries.chunks_exact(16).any(|entry| entry[4] != 0 && entry[12..] != [0; 4]);
    (has(head, 510, b"\x55\xaa") && sane && used).then_some("a partition table (MBR)")
}

fn in_tail(tail: &[u8], start: u64, end: u64) -> Option<&'static str> {
    let at = |place: Option<u64>, mark: &[u8]| {
        let offset = place.and_then(|place| place.checked_sub(start));
        offset
            .and_then(|offset| usize::try_from(offset).ok())
            .is_some_and(|offset| has(tail, offset, mark))
    };
    let md_1_0 = (end / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
    let md_0_90 = (end & !0xffff).checked_sub(0x1_0000);
    if at(md_1_0, b"\xfc\x4e\x2b\xa9\x01\0\0\0")
        || at(md_0_90, b"\xfc\x4e\x2b\xa9")
        || at(md_0_90, b"\xa9\x2b\x4e\xfc")
    {
        return Some("a member of a Linux RAID (md)");
    }
    // The magic is field 60 of the last 4 KiB block; its last digit tells the version and whether it is
    // clean.
    let drbd = (end & !0xfff).checked_sub(4096 - 60);
    if [b"\x83\x74\x02\x6b", b"\x83\x74\x02\x6c", b"\x83\x74\x02\x6d"].iter().any(|m| at(drbd, *m))
    {
        return Some("DRBD metadata");
    }
    let last = [512, 4096].into_iter().any(|block| at(end.checked_sub(block), b"EFI PART"));
    last.then_some("a GPT partition table (its copy at the end)")
}

#[cfg(test)]
mod tests {
    use super::super::open::OpenMode;
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::process::Command;

    fn image(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        file.as_file().set_len(bytes).expect("room");
        file
    }

    fn found(path: &Path) -> Option<&'static str> {
        let backing = Backing::open(path, OpenMode::Inspect).expect("opens");
        signature(&backing).expect("reads")
    }

    #[test]
    fn nothing_is_found_on_an_empty_disk_of_any_size() {
        for bytes in [0, 512, 4096, 8192, 100 << 10, 300 << 10, 5 << 20] {
            assert_eq!(found(image(bytes).path()), None, "{bytes}");
        }
    }

    #[test]
    fn every_mark_is_found_where_it_belongs() {
        for mark in MARKS {
            let file = image(1 << 20);
            file.as_file().write_all_at(mark.bytes, mark.offset as u64).expect("writes");
            assert_eq!(found(file.path()), Some(mark.name), "{:#x}", mark.offset);
        }
    }

    #[test]
    fn marks_at_the_end_are_found_on_odd_sizes() {
        for end in [1u64 << 20, (1 << 20) + 512, (5 << 20) + 3 * 512] {
            let places: [(u64, &[u8], &str); 4] = [
                ((end & !0xfff) - 4096 + 60, b"\x83\x74\x02\x6d", "DRBD"),
                ((end & !0xffff) - 65536, b"\xfc\x4e\x2b\xa9", "RAID"),
                (((end / 512 - 16) & !7) * 512, b"\xfc\x4e\x2b\xa9\x01\0\0\0", "RAID"),
                (end - 512, b"EFI PART", "GPT"),
            ];
            for (offset, bytes, word) in places {
                let file = image(end);
                file.as_file().write_all_at(bytes, offset).expect("writes");
                let name = found(file.path()).expect("found");
                assert!(name.contains(word), "{name} instead of {word} at {offset} of {end}");
            }
        }
    }

    #[test]
    fn partition_tables_and_zfs_labels_are_found() {
        let file = image(1 << 20);
        file.as_file().write_all_at(b"\x55\xaa", 510).expect("writes");
        assert_eq!(found(file.path()), None, "a boot sector without partitions");
        let entry = [0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0x10, 0, 0];
        file.as_file().write_all_at(&entry, 446).expect("writes");
        assert_eq!(found(file.path()), Some("a partition table (MBR)"));
        let file = image(1 << 20);
        file.as_file().write_all_at(b"\x0c\xb1\xba\0\0\0\0\0", (128 << 10) + 4096).expect("writes");
        assert_eq!(found(file.path()), Some("a ZFS pool member"));
    }

    #[test]
    fn how_far_a_file_system_reaches_is_read_or_not_known() {
        let ext = |size: u32, blocks: u32, high: Option<u32>| {
            let mut head = vec![0; 4096];
            head[0x438..0x43a].copy_from_slice(b"\x53\xef");
            head[1024 + 0x18..1024 + 0x1c].copy_from_slice(&size.to_le_bytes());
            head[1024 + 0x4..1024 + 0x8].copy_from_slice(&blocks.to_le_bytes());
            if let Some(high) = high {
                head[1024 + 0x60] = 0x80;
                head[1024 + 0x150..1024 + 0x154].copy_from_slice(&high.to_le_bytes());
            }
            ext_bytes(&head)
        };
        assert_eq!(ext(2, 1000, None), Some(4_096_000));
        assert_eq!(ext(2, 1, Some(1)), Some((1 << 32 | 1) * 4096));
        assert_eq!(ext(7, 1, None), None, "no such block");
        assert_eq!(ext(6, u32::MAX, Some(u32::MAX)), None, "more than there can be");
        let mut xfs = b"XFSB\0\0\x10\0\0\0\0\0\0\0\x03\xe8".to_vec();
        assert_eq!(xfs_bytes(&xfs), Some(4_096_000));
        xfs[8] = 0xff;
        assert_eq!(xfs_bytes(&xfs), None);
        for cut in 0..xfs.len() {
            assert_eq!(xfs_bytes(&xfs[..cut]), None);
        }
        for bytes in [0, 1024, 0x43a, 1024 + 0x18] {
            assert_eq!(ext_bytes(&vec![0x53; bytes]), None);
        }
    }

    #[test]
    fn what_the_real_tools_write_is_found() {
        let tools: &[(&[&str], &str)] = &[
            (&["mkfs.ext4", "-q", "-F"], "an ext2/ext3/ext4 file system"),
            (&["mkfs.ext2", "-q", "-F"], "an ext2/ext3/ext4 file system"),
            (&["mkfs.xfs", "-q", "-f"], "an XFS file system"),
            (&["mkfs.btrfs", "-q", "-f"], "a Btrfs file system"),
            (&["mkfs.ocfs2", "-q", "-F"], "an OCFS2 file system"),
            (&["mkfs.vfat"], "a FAT file system"),
            (&["mkswap", "-q"], "swap space"),
        ];
        let mut tried = 0;
        for (command, name) in tools {
            let file = image(400 << 20);
            let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
            let made = Command::new(command[0])
                .args(&command[1..])
                .arg(file.path())
                .env("PATH", path)
                .output();
            if made.is_ok_and(|made| made.status.success()) {
                tried += 1;
                assert_eq!(found(file.path()), Some(*name));
                let backing = Backing::open(file.path(), OpenMode::Inspect).expect("opens");
                let reaches = file_system_bytes(&backing).expect("readable");
                let told = name.contains("ext") || name.contains("XFS");
                assert_eq!(reaches, told.then_some(400 << 20), "{name}");
            }
        }
        eprintln!("{tried} of {} tools exist here", tools.len());
    }
}
