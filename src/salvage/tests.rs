//! Whatever is in the files of a set: it is read as it was written, or refused in words.

use super::index::{RECORD_BYTES, Reader, Writer};
use super::store::{DATA, INDEX};
use super::*;
use crate::error::Kind;
use crate::io::disk::{Backing, OpenMode};
use crate::limits::{BLOCK_BYTES, DATA_BYTES_MAX, SALVAGE_EXTENT_BLOCKS, SALVAGE_SETS_MAX};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

const BLOCKS: u64 = 700;
const MIB: u64 = 1 << 20;

fn header() -> Header {
    Header {
        format: FORMAT,
        resource: "swarm".to_owned(),
        volume: "A".repeat(32),
        node: "docker2".to_owned(),
        generation: "B".repeat(32),
        source: "C".repeat(32),
        base: Some("D".repeat(32)),
        saved_unix_ms: 1_790_000_000_000,
        volume_bytes: BLOCKS * BLOCK_BYTES,
        blocks: 0,
        extents: 0,
    }
}

/// What block `number` of the disk holds; some are zeroes.
fn content(number: u64) -> [u8; BLOCK_BYTES as usize] {
    [if number % 7 == 3 { 0 } else { number as u8 | 1 }; BLOCK_BYTES as usize]
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a folder");
        let disk: Vec<u8> = (0..BLOCKS).flat_map(content).collect();
        fs::write(dir.path().join("disk"), disk).expect("written");
        Place { dir }
    }

    fn store(&self) -> Store {
        Store::new(&self.dir.path().join("kept"), "swarm")
    }

    fn order(&self, marks: Marks) -> Order {
        let disk = Backing::open(&self.dir.path().join("disk"), OpenMode::Inspect).expect("opened");
        let (store, disk) = (self.store(), disk.handle().expect("descriptors"));
        Order { store, max_bytes: 8 * MIB, disk, marks, header: header() }
    }

    /// Saves these blocks, and says where.
    fn save(&self, blocks: &[u64]) -> PathBuf {
        let saved = save(&self.order(marks(blocks)), &Progress::default()).expect("saved");
        self.store().folder().join(saved.id)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store().folder()).expect("there");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    fn image(&self, set: &Set) -> crate::error::Result<Vec<u8>> {
        let path = self.dir.path().join("image");
        export(set, &new_output(&path, true)?, |_, _| {})?;
        Ok(fs::read(path).expect("readable"))
    }
}

fn marks(blocks: &[u64]) -> Marks {
    let mut words = vec![0; 20];
    for block in blocks {
        words[(block / 64) as usize] |= 1 << (block % 64);
    }
    Marks::of(&words, BLOCKS)
}

fn index_of(header: &Header, extents: &[Extent]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header).expect("written");
    extents.iter().for_each(|extent| writer.extent(*extent).expect("written"));
    writer.finish().expect("written")
}

fn read(bytes: &[u8]) -> Result<Vec<Extent>, String> {
    let mut reader = Reader::new(bytes, bytes.len() as u64)?;
    let mut extents = Vec::new();
    while let Some(extent) = reader.extent()? {
        extents.push(extent);
    }
    Ok(extents)
}

proptest! {
    #[test]
    fn marks_are_cut_into_extents(
        set in proptest::collection::btree_set(0..BLOCKS, 0..400), solid in any::<bool>(),
    ) {
        let blocks: Vec<u64> = if solid { (5..BLOCKS).collect() } else { set.into_iter().collect() };
        let marks = marks(&blocks);
        let extents: Vec<_> = marks.extents().collect();
        prop_assert!(extents.iter().all(|extent| extent.end - extent.start <= SALVAGE_EXTENT_BLOCKS));
        prop_assert_eq!(marks.count(), (blocks.len() as u64, extents.len() as u64));
        prop_assert_eq!(extents.into_iter().flatten().collect::<Vec<u64>>(), blocks);
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn a_hostile_header_is_refused_or_harmless(
        volume in any::<u64>(), blocks in any::<u64>(), extents in any::<u64>(),
        tail in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let header = Header { volume_bytes: volume & !4095, blocks, extents, ..header() };
        let mut bytes = serde_json::to_vec(&header).expect("serialises");
        bytes.push(b'\n');
        bytes.extend(tail);
        prop_assert!(read(&bytes).is_err());
    }
}

#[test]
fn marks_beyond_the_volume_are_nobodys() {
    assert_eq!(Marks::of(&[u64::MAX; 3], 70).count(), (70, 1));
    assert_eq!(Marks::of(&[u64::MAX], 700).count(), (64, 1), "fewer words than blocks");
    assert_eq!(Marks::all(700).count(), (700, 3));
    assert_eq!(Marks::of(&[], 700).count(), (0, 0));
}

#[test]
fn what_was_saved_is_exported_in_its_place() {
    let place = Place::new();
    let blocks: Vec<u64> = [0, 1, 2, 3, 10, 17, 699].into_iter().chain(100..400).collect();
    let path = place.save(&blocks);
    let listed = place.store().list().expect("listed");
    let [Listed { set: Ok(set), .. }] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(set.header.blocks, blocks.len() as u64);
    let image = place.image(set).expect("exported");
    assert_eq!(image.len() as u64, BLOCKS * BLOCK_BYTES);
    for (number, block) in (0..).zip(image.chunks(BLOCK_BYTES as usize)) {
        let expected = if blocks.contains(&number) { content(number) } else { [0; 4096] };
        assert!(block == expected, "block {number}");
    }
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(
        [mode(&path), mode(&path.join(DATA)), mode(&path.join(INDEX))],
        [0o700, 0o600, 0o600]
    );
    assert_eq!(mode(place.store().folder()), 0o700);
}

#[test]
fn all_of_a_volume_and_none_of_it_are_sets_too() {
    let place = Place::new();
    let order = place.order(Marks::all(BLOCKS));
    let progress = Progress::default();
    let saved = save(&order, &progress).expect("saved");
    assert_eq!(saved.bytes, BLOCKS * BLOCK_BYTES);
    assert_eq!(progress.done.load(Ordering::Relaxed), saved.bytes);
    let found = place.store().find(&saved.id).expect("found");
    let image = place.image(&found.set.expect("whole")).expect("exported");
    assert!(image == fs::read(place.dir.path().join("disk")).expect("readable"));
    let none = place.save(&[]);
    assert!(Set::open(&none).expect("whole").header.blocks == 0);
}

#[test]
fn zeroes_take_no_room() {
    let place = Place::new();
    fs::write(place.dir.path().join("disk"), vec![0; (BLOCKS * BLOCK_BYTES) as usize])
        .expect("written");
    let path = place.save(&(0..512).collect::<Vec<_>>());
    let data = fs::metadata(path.join(DATA)).expect("there");
    assert_eq!(data.len(), 512 * BLOCK_BYTES);
    assert!(data.blocks() * 512 < data.len() / 4, "{} sectors", data.blocks());
}

#[test]
fn a_cut_index_is_refused_wherever_it_ends() {
    let place = Place::new();
    let path = place.save(&[1, 2, 3, 9, 300]);
    let whole = fs::read(path.join(INDEX)).expect("readable");
    for end in 0..whole.len() {
        fs::write(path.join(INDEX), &whole[..end]).expect("written");
        let why = Set::open(&path).expect_err("cut");
        assert!(why.starts_with("its index"), "{end}: {why}");
    }
    let longer = [&whole[..], b"x"].concat();
    fs::write(path.join(INDEX), longer).expect("written");
    assert!(Set::open(&path).is_err());
    fs::write(path.join(INDEX), whole).expect("written");
    assert!(Set::open(&path).is_ok());
}

#[test]
fn every_flipped_bit_of_an_index_is_noticed() {
    let extents =
        [Extent { first: 4, blocks: 2, crc: 1 }, Extent { first: 9, blocks: 256, crc: 2 }];
    let whole = index_of(&Header { blocks: 258, extents: 2, ..header() }, &extents);
    assert_eq!(read(&whole).expect("whole"), extents);
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn a_flipped_bit_or_a_lack_of_data_is_noticed() {
    let place = Place::new();
    let path = place.save(&(100..400).collect::<Vec<_>>());
    let set = Set::open(&path).expect("whole");
    let whole = fs::read(path.join(DATA)).expect("readable");
    for at in [0, BLOCK_BYTES as usize, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(path.join(DATA), bytes).expect("written");
        let error = place.image(&set).expect_err("flipped");
        assert!(error.kind() == Kind::Metadata && error.reason().contains("checksum"), "{error}");
    }
    fs::write(path.join(DATA), &whole[..whole.len() - 1]).expect("written");
    assert!(Set::open(&path).expect_err("cut").contains("its data has"));
    let error = place.image(&set).expect_err("cut after it was opened");
    assert!(error.reason().contains("cannot be read"), "{error}");
    fs::remove_file(path.join(DATA)).expect("removed");
    assert!(Set::open(&path).is_err());
    assert!(place.image(&set).is_err());
}

#[test]
fn extents_that_cannot_be_are_refused_although_the_checksum_is_right() {
    let good = Extent { first: 4, blocks: 2, crc: 1 };
    let at = |first, blocks| Extent { first, blocks, crc: 1 };
    let cases = [
        ("overlaps", [good, at(5, 2)]),
        ("goes back", [good, at(0, 2)]),
        ("is empty", [good, at(9, 0)]),
        ("is too long", [good, at(9, 257)]),
        ("exceeds the volume", [good, at(BLOCKS - 1, 2)]),
        ("wraps", [good, at(u64::MAX, 2)]),
        ("are more than said", [good, at(9, 3)]),
        ("are fewer than said", [good, at(9, 1)]),
    ];
    for (case, extents) in cases {
        let header = Header { blocks: 4, extents: 2, ..header() };
        assert!(read(&index_of(&header, &extents)).is_err(), "{case}");
    }
}

#[test]
fn impossible_headers_are_refused_before_anything_is_allocated() {
    let cases = [
        Header { extents: u64::MAX, ..header() },
        Header { extents: u64::MAX / RECORD_BYTES, blocks: BLOCKS, ..header() },
        Header { blocks: BLOCKS + 1, extents: 1, ..header() },
        Header { volume_bytes: DATA_BYTES_MAX + BLOCK_BYTES, ..header() },
        Header { volume_bytes: 4097, ..header() },
    ];
    for case in cases {
        assert!(read(&index_of(&case, &[])).is_err(), "{case:?}");
    }
    let long = Header { node: "x".repeat(3000), ..header() };
    assert!(read(&index_of(&long, &[])).is_ok(), "a long name is no harm");
    let mut endless = b"{\"rblk-salvage\":1,".to_vec();
    endless.resize(1 << 20, b' ');
    assert!(read(&endless).is_err());
}

#[test]
fn a_later_format_is_named() {
    let why = read(b"{\"rblk-salvage\":2,\"all\":\"else\"}\n whatever").expect_err("later");
    assert!(why.contains("format 2") && why.contains("newer"), "{why}");
}

#[test]
fn a_newer_set_of_the_same_generation_takes_the_place_of_the_older() {
    let place = Place::new();
    let first = place.save(&[1]);
    let second = place.save(&[1, 2]);
    assert!(!first.exists() && second.exists());
    let mut order = place.order(marks(&[5]));
    order.header.generation = "E".repeat(32);
    save(&order, &Progress::default()).expect("saved");
    order.header.node = "docker1".to_owned();
    save(&order, &Progress::default()).expect("saved");
    assert_eq!(place.names().len(), 3, "other data is kept: {:?}", place.names());
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_left_of_it() {
    let place = Place::new();
    let mut order = place.order(marks(&(0..256).collect::<Vec<_>>()));
    order.max_bytes = MIB;
    let error = save(&order, &Progress::default()).expect_err("the bound counts the index, too");
    assert!(error.kind() == Kind::Refused && error.reason().contains("`max`"), "{error}");
    order.max_bytes = MIB + 8192;
    save(&order, &Progress::default()).expect("saved");
    save(&order, &Progress::default()).expect("the older one is replaced, and does not count");
    order.header.generation = "E".repeat(32);
    let error = save(&order, &Progress::default()).expect_err("no room beside the other");
    assert!(error.reason().contains("1 take"), "{error}");
    assert_eq!(place.names().len(), 1, "{:?}", place.names());
}

#[test]
fn saving_ends_when_told_to_and_leaves_nothing() {
    let place = Place::new();
    let progress = Progress::default();
    progress.cancel.store(true, Ordering::Relaxed);
    save(&place.order(marks(&[1])), &progress).expect_err("cancelled");
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn a_disk_that_cannot_be_read_is_not_saved() {
    let place = Place::new();
    let disk = place.dir.path().join("disk");
    fs::File::options()
        .write(true)
        .open(&disk)
        .expect("open")
        .set_len(5 * BLOCK_BYTES)
        .expect("cut");
    let error = save(&place.order(marks(&[1, 9])), &Progress::default()).expect_err("too short");
    assert!(error.reason().contains("read"), "{error}");
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn the_disk_that_is_open_is_saved_whatever_has_its_name_by_now() {
    let place = Place::new();
    let order = place.order(marks(&[1]));
    let disk = place.dir.path().join("disk");
    fs::rename(&disk, place.dir.path().join("other")).expect("renamed");
    fs::write(&disk, vec![9; (BLOCKS * BLOCK_BYTES) as usize]).expect("written");
    let saved = save(&order, &Progress::default()).expect("saved");
    let set = place.store().find(&saved.id).expect("found").set.expect("whole");
    let image = place.image(&set).expect("exported");
    assert!(image[BLOCK_BYTES as usize..][..BLOCK_BYTES as usize] == content(1));
}

#[test]
fn what_a_crash_left_goes_with_the_next_one_and_is_never_listed() {
    let place = Place::new();
    place.save(&[1]);
    let folder = place.store().folder().to_owned();
    for name in [".docker2.partial", ".x.deleted", ".docker1.partial"] {
        fs::create_dir(folder.join(name)).expect("made");
        fs::write(folder.join(name).join(INDEX), "half").expect("written");
    }
    fs::write(folder.join("file"), "of somebody").expect("written");
    assert_eq!(place.store().list().expect("listed").len(), 1);
    place.save(&[1, 2]);
    let names = place.names();
    assert_eq!(&names[..1], [".docker1.partial"], "another node may be at it: {names:?}");
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn sets_are_found_by_the_beginning_of_their_name() {
    let place = Place::new();
    let id = place.save(&[1]).file_name().expect("named").to_string_lossy().into_owned();
    let mut order = place.order(marks(&[5]));
    order.header.generation = "E".repeat(32);
    save(&order, &Progress::default()).expect("saved");
    let store = place.store();
    assert_eq!(store.find(&id).expect("found").id, id);
    assert_eq!(store.find(&id[..id.len() - 1]).expect("found").id, id);
    let error = store.find(&id[..8]).expect_err("both begin so");
    assert!(error.reason().contains("more than one"), "{error}");
    for none in ["", "x", "../swarm", "."] {
        store.find(none).expect_err(none);
    }
    let listed = store.find(&id).expect("found");
    store.delete(&listed).expect("deleted");
    assert_eq!(place.names().len(), 1);
}

#[test]
fn an_index_says_nothing_that_harms_a_terminal_or_cannot_be_told() {
    let whole = |header: &Header| read(&index_of(header, &[]));
    assert_eq!(whole(&header()), Ok(Vec::new()));
    let lies: [fn(&mut Header); 7] = [
        |header| header.resource = "\x1b[2Jswarm".to_owned(),
        |header| header.node = "docker1\n\nall is well".to_owned(),
        |header| header.volume = "\u{202e}".to_owned(),
        |header| header.generation.push('\x08'),
        |header| header.source.push(' '),
        |header| header.base = Some("\x07".to_owned()),
        |header| header.saved_unix_ms = u64::MAX,
    ];
    for lie in lies {
        let mut header = header();
        lie(&mut header);
        whole(&header).expect_err("a lie");
    }
}

#[test]
fn one_set_too_many_is_not_made_and_all_others_are_still_listed() {
    let place = Place::new();
    place.save(&[1]);
    for number in 1..SALVAGE_SETS_MAX {
        fs::create_dir(place.store().folder().join(format!("x{number}"))).expect("made");
    }
    let error = save(&place.order(marks(&[1])), &Progress::default()).expect_err("full");
    assert!(error.reason().contains("1024 sets"), "{error}");
    let listed = place.store().list().expect("still listed");
    assert_eq!(listed.len(), SALVAGE_SETS_MAX);
    place.store().delete(&listed[1]).expect("deleted");
    place.save(&[1]);
}

#[test]
fn a_folder_whose_name_would_move_a_cursor_is_no_set() {
    let place = Place::new();
    let path = place.save(&[1]);
    fs::rename(&path, path.with_file_name("set\x1b[2J")).expect("renamed");
    assert!(place.store().list().expect("listed").is_empty());
}

#[test]
fn damage_is_listed_with_its_reason() {
    let place = Place::new();
    let path = place.save(&[1]);
    fs::remove_file(path.join(INDEX)).expect("removed");
    let listed = place.store().list().expect("listed");
    let why = listed[0].set.as_ref().expect_err("no index");
    assert!(why.contains("cannot be opened"), "{why}");
    std::os::unix::fs::symlink("/dev/zero", path.join(INDEX)).expect("linked");
    let listed = place.store().list().expect("listed");
    let why = listed[0].set.as_ref().expect_err("a link");
    assert!(why.contains("not a regular file"), "{why}");
}

#[test]
fn an_existing_file_is_not_overwritten_unasked() {
    let place = Place::new();
    let path = place.dir.path().join("image");
    new_output(&path, false).expect("made");
    let error = new_output(&path, false).expect_err("there");
    assert!(error.advice().contains("--force"), "{error}");
    new_output(&path, true).expect("overwritten");
    new_output(place.dir.path(), true).expect_err("a folder");
    new_output(Path::new("/dev/null"), true).expect_err("a device");
}
