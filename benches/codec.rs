//! What the codecs cost: per frame, per metadata block, and the checksum of a payload.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rblk::limits::{AL_SLOTS, IO_BYTES_MAX, META_BLOCK_BYTES, PAGE_BIT_BYTES};
use rblk::meta::block::Owner;
use rblk::meta::layout::Layout;
use rblk::meta::records::{self, AlTransaction};
use rblk::meta::superblock::{NodeId, VolumeId};
use rblk::span::Span;
use rblk::wire::frame::{self, FRAME_BYTES_MAX, Header};
use rblk::wire::message::Message;
use std::hint::black_box;

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let span = Span::new(2048, 8).expect("valid");
    let message = Message::Write { id: 5, span, fua: false };
    let mut out = [0; FRAME_BYTES_MAX];
    group.bench_function("encode write", |bencher| {
        bencher.iter(|| frame::encode(black_box(&message), 1, &mut out));
    });
    frame::encode(&message, 1, &mut out);
    let header = *out.first_chunk().expect("a header");
    group.bench_function("decode write", |bencher| {
        bencher.iter(|| Header::parse(black_box(&header)).and_then(|header| header.message(&[])));
    });
    for bytes in [4096, IO_BYTES_MAX] {
        let payload = vec![0x5a; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("checksum of {bytes} bytes"), |bencher| {
            bencher.iter(|| crc32c::crc32c(black_box(&payload)));
        });
    }
    group.finish();
}

fn blocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("meta");
    let layout = Layout::of_disk(64 << 30).expect("a usual size");
    let owner = Owner { volume: VolumeId(1), node: NodeId(0) };
    let mut out = [0; META_BLOCK_BYTES];
    // Scattered, as slots of a log that has run for a while are.
    let extents = (0..AL_SLOTS as u32).map(|n| n * 7919 % layout.extents()).collect();
    let transaction = AlTransaction { sequence: 64, extents };
    group.bench_function("encode full transaction", |bencher| {
        bencher.iter(|| black_box(&transaction).encode(&layout, owner, &mut out));
    });
    transaction.encode(&layout, owner, &mut out);
    group.bench_function("decode full transaction", |bencher| {
        bencher.iter(|| AlTransaction::decode(&layout, owner, 0, black_box(&out)));
    });
    let bits = [0x5a; PAGE_BIT_BYTES];
    group.bench_function("encode page", |bencher| {
        bencher.iter(|| records::encode_page(&layout, owner, 1, 0, black_box(&bits), &mut out));
    });
    group.finish();
}

criterion_group!(benches, frames, blocks);
criterion_main!(benches);
