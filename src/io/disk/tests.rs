//! The disk against real files, with faults on purpose.

use super::*;
use crate::wire::message::ZeroKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tempfile::NamedTempFile;

const BUFFER: usize = 128 << 10;
const SERVE: OpenMode = OpenMode::Serve { wait: Duration::ZERO };

struct Rig {
    io: Io,
    disk: Disk,
    file: NamedTempFile,
}

impl Rig {
    fn new(bytes: u64, faults: &str) -> Rig {
        let file = NamedTempFile::new().expect("temporary file");
        file.as_file().set_len(bytes).expect("room");
        Rig::on(file, faults)
    }

    fn on(file: NamedTempFile, faults: &str) -> Rig {
        let mut io = Io::new(32, 8, BUFFER).expect("io_uring");
        let backing = Backing::open(file.path(), SERVE).expect("opens");
        let mut disk = Disk::new(backing, &mut io).expect("registers");
        disk.faults = Faults::parse(faults).expect("valid");
        Rig { io, disk, file }
    }

    /// Starts everything at once, and waits for all; results by `user`, which is the place in `all`.
    fn run(&mut self, all: &[Work]) -> Vec<DiskDone> {
        let free = self.io.pool.free();
        for (user, &what) in all.iter().enumerate() {
            let user = user as u64;
            self.disk.start(&mut self.io, DiskRequest { user, what });
        }
        let mut results: Vec<Option<DiskDone>> = vec![None; all.len()];
        while self.disk.in_flight() > 0 {
            self.io.ring.wait(Some(Duration::from_secs(10))).expect("usable");
            while let Some(completion) = self.io.ring.next() {
                if let Some(done) = self.disk.on_completion(&mut self.io, completion) {
                    let before = results[done.user as usize].replace(done);
                    assert!(before.is_none(), "answered twice");
                }
            }
        }
        assert_eq!(self.io.pool.free(), free, "references are balanced");
        results.into_iter().map(|done| done.expect("answered")).collect()
    }

    fn errno(&mut self, work: Work) -> Option<i32> {
        self.run(&[work])[0].result.expect_err("fails").errno
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(self.file.path()).expect("readable")
    }
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Writes, zeroes and reads at random; after each round the file and all reads equal the model.
fn exercise(rig: &mut Rig, seed: u64, rounds: usize) {
    let sectors = rig.disk.backing().bytes() / 512;
    let mut seed = seed;
    let mut model = rig.content();
    let buf = rig.io.pool.take().expect("free");
    for round in 0..rounds {
        let len = (1 + random(&mut seed) % (BUFFER as u64 / 512).min(sectors)) * 512;
        let offset = random(&mut seed) % (sectors - len / 512 + 1) * 512;
        let place = offset as usize..(offset + len) as usize;
        let fua = random(&mut seed).is_multiple_of(3);
        let kinds = [ZeroKind::Discard, ZeroKind::Zeroes, ZeroKind::ZeroesAllocated];
        let work = match random(&mut seed) % 6 {
            0 => {
                let kind = kinds[random(&mut seed) as usize % 3];
                model[place.clone()].fill(0);
                Work::Zero { offset, len, kind, fua }
            }
            _ => {
                let bytes = rig.io.pool.bytes_mut(buf, len as usize);
                bytes.fill_with(|| random(&mut seed) as u8);
                model[place.clone()].copy_from_slice(bytes);
                Work::Write { offset, len: len as u32, buf, fua }
            }
        };
        let done = rig.run(&[work]);
        assert_eq!(done[0].result, Ok(()), "round {round}: {work:?}");
        rig.io.pool.bytes_mut(buf, BUFFER).fill(0xee);
        let read = Work::Read { offset, len: len as u32, buf, detect_zero: true };
        let done = rig.run(&[read])[0];
        assert_eq!(done.result, Ok(()), "round {round}: {read:?}");
        assert!(rig.io.pool.bytes(buf, len as usize) == &model[place.clone()], "round {round}");
        assert_eq!(done.zero, model[place].iter().all(|&byte| byte == 0));
    }
    assert!(rig.content() == model, "nothing else was touched");
    rig.io.pool.release(buf);
}

#[test]
fn what_was_written_is_read() {
    exercise(&mut Rig::new(1 << 20, ""), 1, 200);
}

#[test]
fn short_transfers_are_continued() {
    exercise(&mut Rig::new(1 << 20, "short-read=1,short-write=1"), 2, 60);
    exercise(&mut Rig::new(1 << 20, "short-read=2,short-write=3"), 3, 100);
}

#[test]
fn shortage_and_signals_are_tried_again() {
    exercise(&mut Rig::new(1 << 20, "eagain=3,eintr=5"), 4, 60);
    exercise(&mut Rig::new(1 << 20, "eagain=2,eintr=3,short-read=2,short-write=2"), 5, 60);
}

#[test]
fn a_pool_that_is_not_registered_works_the_same() {
    let mut rig = Rig::new(1 << 20, "short-read=2,short-write=3,eagain=7");
    rig.io.pool = Pool::new(8, BUFFER).expect("memory");
    exercise(&mut rig, 6, 60);
}

#[test]
fn zeroes_are_exact_however_they_are_made() {
    for (punch_hole, zero_range) in [(true, true), (false, true), (false, false), (true, false)] {
        let mut rig = Rig::new(1 << 20, "short-write=2");
        rig.disk.abilities = Abilities { punch_hole, zero_range };
        rig.file.as_file().write_all_at(&[7; 1 << 20], 0).expect("writes");
        let mut model = vec![7; 1 << 20];
        for (offset, len) in [(512, 512), (4096, 65536), (131_072 + 1536, 300 << 10)] {
            for kind in [ZeroKind::Discard, ZeroKind::Zeroes, ZeroKind::ZeroesAllocated] {
                let work = Work::Zero { offset, len, kind, fua: true };
                assert_eq!(rig.run(&[work])[0].result, Ok(()));
            }
            model[offset as usize..(offset + len) as usize].fill(0);
        }
        assert!(rig.content() == model, "{punch_hole} {zero_range}");
    }
}

#[test]
fn errors_are_not_tried_again() {
    let mut rig = Rig::new(1 << 20, "");
    let buf = rig.io.pool.take().expect("free");
    let read = Work::Read { offset: 0, len: 4096, buf, detect_zero: true };
    let write = Work::Write { offset: 0, len: 4096, buf, fua: false };
    for work in [read, write, Work::Flush] {
        for (fault, errno) in [("cancel=1", libc::ECANCELED), ("eio=1", libc::EIO)] {
            rig.disk.faults = Faults::parse(fault).expect("valid");
            assert_eq!(rig.errno(work), Some(errno), "{work:?}");
        }
    }
    rig.disk.faults = Faults::parse("flush-fail-after=1").expect("valid");
    assert_eq!(rig.run(&[Work::Flush])[0].result, Ok(()));
    assert_eq!(rig.errno(Work::Flush), Some(libc::EIO));
}

#[test]
fn attempts_are_bounded() {
    for (fault, errno) in [("eagain=1", libc::EAGAIN), ("eintr=1", libc::EINTR)] {
        let mut rig = Rig::new(1 << 20, fault);
        assert_eq!(rig.errno(Work::Flush), Some(errno));
    }
}

#[test]
fn the_end_of_the_disk_is_an_error_and_no_short_read() {
    let mut rig = Rig::new(1 << 20, "");
    let buf = rig.io.pool.take().expect("free");
    let read = |offset, len| Work::Read { offset, len, buf, detect_zero: true };
    assert_eq!(rig.errno(read((1 << 20) - 4096, 8192)), Some(libc::ENOSPC));
    assert_eq!(rig.errno(read(u64::MAX - 4095, 8192)), Some(libc::ENOSPC));
    let kind = ZeroKind::Discard;
    let zero = Work::Zero { offset: 4096, len: 1 << 20, kind, fua: false };
    assert_eq!(rig.errno(zero), Some(libc::ENOSPC));
    // Somebody cuts the file under our feet.
    rig.file.as_file().set_len(8192).expect("cut");
    let done = rig.run(&[read(4096, 8192)])[0];
    assert!(!done.zero);
    let error = done.result.expect_err("half of it is gone");
    assert_eq!(error.to_string(), "Reading 8192 bytes at 4096 failed: the disk ends there");
}

#[test]
fn many_requests_at_once_are_answered_each() {
    let mut rig = Rig::new(8 << 20, "short-read=3,short-write=2,eagain=5,flush-delay-ms=5");
    let bufs: Vec<Buf> = std::iter::from_fn(|| rig.io.pool.take()).collect();
    for (number, &buf) in bufs.iter().enumerate() {
        rig.io.pool.bytes_mut(buf, BUFFER).fill(number as u8 + 1);
    }
    let len = BUFFER as u32;
    let place = |number: usize| (number * BUFFER) as u64;
    let mut all = Vec::new();
    for number in 0..50 {
        let (offset, buf) = (place(number), bufs[number % 8]);
        all.push(Work::Write { offset, len, buf, fua: number.is_multiple_of(2) });
        all.push(Work::Flush);
    }
    assert!(rig.run(&all).iter().all(|done| done.result.is_ok()));
    let content = rig.content();
    for number in 0..50 {
        let part = &content[number * BUFFER..(number + 1) * BUFFER];
        assert!(part.iter().all(|&byte| byte == (number % 8) as u8 + 1), "write {number}");
    }
}

#[test]
fn metadata_blocks_go_through_buffers_of_their_own() {
    let mut rig = Rig::new(1 << 20, "eagain=3");
    let (a, b) = (rig.disk.meta.take().expect("free"), rig.disk.meta.take().expect("free"));
    rig.disk.meta.bytes_mut(a, 4096).fill(0x5a);
    let done = rig.run(&[Work::MetaWrite { offset: 8192, block: a }]);
    assert_eq!(done[0].result, Ok(()));
    let done = rig.run(&[Work::MetaRead { offset: 8192, block: b }]);
    assert_eq!(done[0].result, Ok(()));
    assert!(rig.disk.meta.bytes(b, 4096).iter().all(|&byte| byte == 0x5a));
    rig.disk.meta.release(a);
    rig.disk.meta.release(b);
    assert_eq!(rig.disk.meta.free(), META_BUFFERS_MAX);
}

#[test]
fn a_hung_disk_keeps_its_buffer_until_cancelled() {
    let mut rig = Rig::new(1 << 20, "hang-after=0");
    let buf = rig.io.pool.take().expect("free");
    let what = Work::Read { offset: 0, len: 4096, buf, detect_zero: false };
    rig.disk.start(&mut rig.io, DiskRequest { user: 9, what });
    rig.io.pool.release(buf);
    rig.io.ring.wait(Some(Duration::from_millis(10))).expect("usable");
    assert_eq!(rig.io.ring.next(), None);
    assert_eq!((rig.disk.in_flight(), rig.io.pool.free()), (1, 7));
    rig.io.ring.cancel(token(0));
    let completion = rig.io.ring.next().expect("cancelled");
    let done = rig.disk.on_completion(&mut rig.io, completion).expect("ended");
    assert_eq!(done.result.expect_err("cancelled").errno, Some(libc::ECANCELED));
    assert_eq!((rig.disk.in_flight(), rig.io.pool.free()), (0, 8));
}

#[test]
fn blocking_helpers_read_back_what_they_wrote() {
    let file = NamedTempFile::new().expect("temporary file");
    file.as_file().set_len(1 << 20).expect("room");
    let backing = Backing::open(file.path(), SERVE).expect("opens");
    assert!(backing.bytes() == 1 << 20 && backing.discard());
    let bytes: Vec<u8> = (0..200 << 10).map(|n: u32| (n / 7) as u8).collect();
    backing.write_at_durable(4096, &bytes).expect("writes");
    let mut back = vec![0; bytes.len()];
    backing.read_at(4096, &mut back).expect("reads");
    assert!(back == bytes);
    for (offset, len) in [(1, 4096), (4096, 100), (1 << 20, 4096), (u64::MAX - 4095, 4096)] {
        assert!(backing.read_at(offset, &mut vec![0; len]).is_err(), "{len} at {offset}");
    }
}

#[test]
fn a_file_belongs_to_one_daemon_at_a_time() {
    let mut rig = Rig::new(1 << 20, "");
    let path = rig.file.path().to_owned();
    let error = Backing::open(&path, SERVE).expect_err("locked").to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    Backing::open(&path, OpenMode::Inspect).expect("looking is allowed");
    let Rig { mut io, disk, file } = rig;
    // The ring has the file as well: dropping the descriptor alone would not do.
    disk.close(&mut io).expect("registered");
    let wait = Duration::from_secs(10);
    Backing::open(&path, OpenMode::Serve { wait }).expect("free again");
    rig = Rig::on(file, "");
    drop(rig.disk);
    assert!(Backing::open(&path, SERVE).is_err(), "operations might still be in the kernel");
    drop(rig.io);
    Backing::open(&path, OpenMode::Serve { wait }).expect("free after the ring has ended");
}

#[test]
fn unusable_paths_are_explained() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("FIFO");
    let missing = dir.path().join("missing");
    let cases: [(&Path, &str); 4] = [
        (dir.path(), "neither a block device nor a regular file"),
        (&fifo, "neither a block device nor a regular file"),
        (Path::new("/dev/null"), "neither a block device nor a regular file"),
        (&missing, "does not exist"),
    ];
    for (path, word) in cases {
        for mode in [SERVE, OpenMode::Inspect] {
            let error = Backing::open(path, mode).expect_err("unusable").to_string();
            assert!(error.contains(word) && error.contains("Cannot use"), "{error}");
        }
    }
}

#[test]
fn a_buffer_is_filled_until_its_read_has_ended_however_it_ends() {
    for faults in ["read-delay-ms=20", "short-read=1", "eagain=1", "eio=1"] {
        let mut rig = Rig::new(1 << 20, faults);
        let [read, written] = [(); 2].map(|()| rig.io.pool.take().expect("free"));
        rig.io.pool.bytes_mut(written, 8192).fill(1);
        let all = [
            Work::Read { offset: 0, len: 8192, buf: read, detect_zero: true },
            Work::Write { offset: 65536, len: 8192, buf: written, fua: false },
        ];
        for what in all {
            rig.disk.start(&mut rig.io, DiskRequest { user: 0, what });
        }
        while rig.disk.in_flight() > 0 {
            let reads = |op: &Operation| matches!(op.work, Work::Read { .. });
            let under_way = rig.disk.operations.iter().flatten().any(reads);
            assert_eq!(rig.io.pool.is_filled(read), under_way, "{faults}");
            assert!(!rig.io.pool.is_filled(written), "the disk only takes from it");
            rig.io.ring.wait(Some(Duration::from_secs(10))).expect("usable");
            if let Some(completion) = rig.io.ring.next() {
                rig.disk.on_completion(&mut rig.io, completion);
            }
        }
        assert!(!rig.io.pool.is_filled(read), "{faults}");
        assert_eq!(rig.io.pool.references(read), 1);
    }
}

#[test]
fn zero_detection_sees_a_single_bit_anywhere() {
    let mut bytes = vec![0; 4096 + 7];
    assert!(is_zero(&bytes) && is_zero(&[]));
    for place in [0, 1, 255, 256, 4095, 4096, 4102] {
        bytes[place] = 0x80;
        assert!(!is_zero(&bytes), "{place}");
        bytes[place] = 0;
    }
}

/// Ends what a test has set up on the host.
struct Undo(&'static str, std::path::PathBuf);

impl Drop for Undo {
    fn drop(&mut self) {
        let option: &[&str] = if self.0 == "losetup" { &["-d"] } else { &[] };
        // The kernel ends a ring, and lets go of its files, a moment after its descriptor is closed.
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while tool(&[&[self.0], option].concat(), &self.1).is_none() {
            assert!(std::time::Instant::now() < end, "{} {:?}", self.0, self.1);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn tool(words: &[&str], path: &Path) -> Option<String> {
    let output = std::process::Command::new(words[0]).args(&words[1..]).arg(path).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

#[test]
fn a_file_system_without_direct_io_and_holes_works_with_a_warning() {
    let dir = tempfile::tempdir().expect("temporary directory");
    if tool(&["mount", "-t", "ramfs", "ramfs"], dir.path()).is_none() {
        eprintln!("skipped: mounting is not allowed here");
        return;
    }
    let _undo = Undo("umount", dir.path().to_owned());
    let file = NamedTempFile::new_in(dir.path()).expect("temporary file");
    file.as_file().set_len(1 << 20).expect("room");
    let mut rig = Rig::on(file, "short-read=2,short-write=2");
    assert!(rig.disk.backing().warning().expect("warned").contains("O_DIRECT"));
    assert!(!rig.disk.backing().discard());
    exercise(&mut rig, 7, 60);
    let abilities = Abilities { punch_hole: false, zero_range: false };
    assert_eq!(rig.disk.abilities, abilities, "the refusals of this file system are remembered");
}

/// A rig on a loop device with blocks of 4 KiB, and its path; `None` where that is not allowed.
fn loop_rig() -> Option<(Undo, String, Rig)> {
    let file = NamedTempFile::new().expect("temporary file");
    file.as_file().set_len((1 << 20) + 512).expect("room");
    let make = ["losetup", "-f", "--show", "--direct-io=on", "-b", "4096"];
    let device = tool(&make, file.path())?;
    let undo = Undo("losetup", device.clone().into());
    let mut io = Io::new(32, 8, BUFFER).expect("io_uring");
    let backing = Backing::open(Path::new(&device), SERVE).expect("opens");
    let disk = Disk::new(backing, &mut io).expect("registers");
    Some((undo, device, Rig { io, disk, file }))
}

#[test]
fn a_block_device_is_opened_for_us_alone() {
    let Some((_undo, device, mut rig)) = loop_rig() else {
        eprintln!("skipped: loop devices are not allowed here");
        return;
    };
    let backing = rig.disk.backing();
    assert_eq!((backing.block_bytes(), backing.bytes()), (4096, 1 << 20));
    let error = Backing::open(Path::new(&device), SERVE).expect_err("held").to_string();
    assert!(error.contains("in use"), "{error}");
    let buf = rig.io.pool.take().expect("free");
    rig.io.pool.bytes_mut(buf, 8192).fill(0x77);
    let write = Work::Write { offset: 4096, len: 8192, buf, fua: true };
    assert_eq!(rig.run(&[write])[0].result, Ok(()));
    let zero = Work::Zero { offset: 8192, len: 4096, kind: ZeroKind::Discard, fua: true };
    assert_eq!(rig.run(&[zero, Work::Flush])[0].result, Ok(()));
    let read = Work::Read { offset: 0, len: 16384, buf, detect_zero: true };
    assert_eq!(rig.run(&[read])[0].result, Ok(()));
    let blocks = rig.io.pool.bytes(buf, 16384).chunks(4096);
    let firsts: Vec<u8> = blocks.map(|block| block[0]).collect();
    assert_eq!(firsts, [0, 0x77, 0, 0]);
}

/// The loop device has a volatile cache, so the kernel turns what must be stable into flushes, and counts
/// them.
#[test]
fn what_must_be_stable_flushes_the_device_and_nothing_else_does() {
    let Some((_undo, device, mut rig)) = loop_rig() else {
        eprintln!("skipped: loop devices are not allowed here");
        return;
    };
    let stat = device.replace("/dev/", "/sys/block/") + "/stat";
    let flushes = || -> u64 {
        let text = std::fs::read_to_string(&stat).expect("readable");
        text.split_ascii_whitespace().nth(15).expect("field 16").parse().expect("a number")
    };
    let buf = rig.io.pool.take().expect("free");
    let block = rig.disk.meta.take().expect("free");
    let write = |fua| Work::Write { offset: 0, len: 4096, buf, fua };
    let zero = |fua| Work::Zero { offset: 0, len: 4096, kind: ZeroKind::Discard, fua };
    let cases = [
        (write(false), 0),
        (zero(false), 0),
        (Work::Read { offset: 0, len: 4096, buf, detect_zero: false }, 0),
        (write(true), 1),
        (zero(true), 1),
        (Work::Flush, 1),
        (Work::MetaWrite { offset: 8192, block }, 1),
    ];
    for (work, expected) in cases {
        let before = flushes();
        assert_eq!(rig.run(&[work])[0].result, Ok(()));
        assert_eq!(flushes() - before, expected, "{work:?}");
    }
}
