//! Replays the vectors beside this file: bytes from a second implementation, and what they must decode to.
//! What decodes is also encoded again, which must give the same bytes.

use rblk::limits::META_BLOCK_BYTES;
use rblk::meta::block::{BlockError, Owner};
use rblk::meta::layout::Layout;
use rblk::meta::records::{self, AlTransaction};
use rblk::meta::superblock::{NodeId, Superblock, VolumeId};
use rblk::wire::PROTOCOL_MAX;
use rblk::wire::frame::{self, FrameError, Header};

const OWNER: Owner =
    Owner { volume: VolumeId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff), node: NodeId(1) };
const DISK_BYTES: u64 = 64 << 20;

/// One case of a file.
#[derive(Default)]
struct Vector {
    name: String,
    bytes: Vec<u8>,
    /// The value as text, or the sentence of the error.
    expected: Option<Result<String, String>>,
}

/// Reads the format described at the head of each file.
fn parse(text: &str) -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        if !line.starts_with(' ') {
            vectors.push(Vector { name: line.to_string(), ..Vector::default() });
            continue;
        }
        let vector = vectors.last_mut().expect("a name before anything else");
        let line = line.trim();
        if let Some(value) = line.strip_prefix("= ") {
            vector.expected = Some(Ok(value.to_string()));
        } else if let Some(why) = line.strip_prefix("! ") {
            vector.expected = Some(Err(why.to_string()));
        } else {
            line.split(' ').for_each(|word| unhex(word, &mut vector.bytes));
        }
    }
    vectors
}

/// `0a0b0c`, or `00*24`.
fn unhex(word: &str, out: &mut Vec<u8>) {
    let (digits, count) = word.split_once('*').unwrap_or((word, "1"));
    for _ in 0..count.parse().expect("a count") {
        for at in (0..digits.len()).step_by(2) {
            out.push(u8::from_str_radix(&digits[at..at + 2], 16).expect("hex"));
        }
    }
}

/// Decodes every vector and shows all that differ.
fn replay(text: &str, least: usize, decode: impl Fn(&Vector) -> Result<String, String>) {
    let vectors = parse(text);
    assert!(vectors.len() >= least, "only {} vectors found", vectors.len());
    let mut failures = Vec::new();
    for vector in &vectors {
        let found = decode(vector);
        let expected = vector.expected.as_ref().expect("an expectation");
        if found != *expected {
            failures
                .push(format!("{}\n  expected {expected:?}\n  found    {found:?}", vector.name));
        }
    }
    assert!(failures.is_empty(), "{} vectors differ\n{}", failures.len(), failures.join("\n"));
}

fn decode_frame(bytes: &[u8]) -> Result<String, FrameError> {
    let (header, extension) = bytes.split_first_chunk().expect("a header");
    let header = Header::parse(header)?;
    let message = header.message(extension)?;
    assert_eq!(message.payload_bytes(), header.payload_bytes() as u64);
    let mut again = [0; frame::FRAME_BYTES_MAX];
    let length = frame::encode(&message, header.payload_crc(), &mut again);
    // What a later version has appended is not known here.
    if header.protocol().is_none_or(|(_, newest)| newest <= PROTOCOL_MAX) {
        assert_eq!(&again[..length], bytes);
    }
    Ok(format!("{message:?}"))
}

fn decode_block(name: &str, block: &[u8; META_BLOCK_BYTES]) -> Result<String, BlockError> {
    let layout = Layout::of_disk(DISK_BYTES).expect("a usual size");
    let mut again = [0; META_BLOCK_BYTES];
    let mut words = name.split(' ');
    let kind = words.next().expect("a kind");
    let number: u32 = words.next().and_then(|word| word.parse().ok()).expect("a number");
    let text = match kind {
        "superblock" => {
            let copy = u8::try_from(number).expect("a copy");
            let found = Superblock::decode(&layout, OWNER, copy, block)?;
            found.encode(&layout, copy, &mut again);
            format!("{found:?}")
        }
        "al" => {
            let found = AlTransaction::decode(&layout, OWNER, number, block)?;
            found.encode(&layout, OWNER, &mut again);
            format!("{found:?}")
        }
        "page" => {
            let bits = records::decode_page(&layout, OWNER, number, block)?;
            let (header, _) = rblk::meta::block::inspect(block)?;
            records::encode_page(&layout, OWNER, number, header.sequence, bits, &mut again);
            format!("{} bits set", bits.iter().map(|byte| byte.count_ones()).sum::<u32>())
        }
        _ => panic!("{kind} is no place"),
    };
    assert!(again == *block, "{name} is encoded differently");
    Ok(text)
}

#[test]
fn frames() {
    replay(include_str!("vectors/frames.txt"), 80, |vector| {
        decode_frame(&vector.bytes).map_err(|error| error.to_string())
    });
}

#[test]
fn meta() {
    replay(include_str!("vectors/meta.txt"), 40, |vector| {
        let block = vector.bytes.as_slice().try_into().expect("4096 bytes");
        decode_block(&vector.name, block).map_err(|error| error.to_string())
    });
}
