//! Frames: whatever decodes is encoded to the same bytes again, and nothing else decodes.

use rblk::limits::IO_BYTES_MAX;
use rblk::wire::PROTOCOL_MAX;
use rblk::wire::frame::{
    EXTENSION_BYTES_MAX, FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Header, encode,
};

/// The first byte says what is repaired: 1 the checksum of the header, 2 that of the extension, 4 the magic number.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&repair, frame)) = bytes.split_first() else { return };
    let Some((header, rest)) = frame.split_first_chunk::<HEADER_BYTES>() else { return };
    let mut header = *header;
    if repair & 4 != 0 {
        header[..4].copy_from_slice(b"rblk");
    }
    if repair & 2 != 0 {
        let bytes = u32::from_le_bytes([header[36], header[37], header[38], header[39]]) as usize;
        let extension = &rest[..bytes.min(rest.len())];
        header[40..44].copy_from_slice(&crc32c::crc32c(extension).to_le_bytes());
    }
    if repair & 1 != 0 {
        let checksum = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&checksum.to_le_bytes());
    }
    // A reason that is shown to people must be printable, whatever it is about.
    if let Err(error) = decode(&header, rest) {
        assert!(!error.to_string().is_empty());
    }
}

fn decode(bytes: &[u8; HEADER_BYTES], rest: &[u8]) -> Result<(), FrameError> {
    let header = Header::parse(bytes)?;
    assert!(header.extension_bytes() <= EXTENSION_BYTES_MAX);
    assert!(header.payload_bytes() <= IO_BYTES_MAX);
    assert!(header.payload_bytes() > 0 || header.payload_crc() == 0);
    let extension = &rest[..header.extension_bytes().min(rest.len())];
    let message = header.message(extension)?;
    assert_eq!(message.payload_bytes(), header.payload_bytes() as u64);
    let mut again = [0; FRAME_BYTES_MAX];
    let length = encode(&message, header.payload_crc(), &mut again);
    // What a later version has appended to its Hello is not known here.
    if header.protocol().is_none_or(|(_, newest)| newest <= PROTOCOL_MAX) {
        assert_eq!(again[..HEADER_BYTES], bytes[..]);
        assert_eq!(again[HEADER_BYTES..length], extension[..]);
    }
    let payload = &rest[extension.len()..];
    let payload = &payload[..header.payload_bytes().min(payload.len())];
    if header.check_payload(payload).is_ok() {
        assert_eq!(payload.len(), header.payload_bytes());
    }
    Ok(())
}
