//! What the core's tables cost: the index of overlapping requests, and the bitmap.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rblk::limits::{BLOCK_BYTES, BLOCK_SECTORS, FRONT_REQUESTS_MAX, PAGE_BIT_BYTES, SECTOR_BYTES};
use rblk::replica::dirty::Dirty;
use rblk::replica::overlap::Overlap;
use rblk::span::Span;
use std::hint::black_box;

const VOLUME_BYTES: u64 = 1 << 40;

/// The next of numbers that look random; a multiplier of Knuth's MMIX.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 20
}

/// A block enters while so many are in the index, and leaves again.
fn overlap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("overlap");
    group.throughput(Throughput::Elements(1));
    let block = |at: u64| Span::new(at * BLOCK_SECTORS, BLOCK_SECTORS as u32).expect("valid");
    for inside in [0, 31, FRONT_REQUESTS_MAX - 1] {
        let (mut index, mut seed) = (Overlap::with_capacity(FRONT_REQUESTS_MAX), 1);
        (0..inside as u64).for_each(|n| {
            index.insert(n as u32 + 1, block(n * 7919));
        });
        let mut woken = Vec::with_capacity(FRONT_REQUESTS_MAX);
        group.bench_function(format!("in and out, beside {inside} others"), |bencher| {
            bencher.iter(|| {
                let span = block(random(&mut seed) % (VOLUME_BYTES / BLOCK_BYTES));
                black_box(index.insert(0, span));
                index.remove(0, span, &mut woken);
                woken.clear();
            });
        });
    }
    group.bench_function("32 of the same block, in and out", |bencher| {
        let mut index = Overlap::with_capacity(FRONT_REQUESTS_MAX);
        let mut woken = Vec::with_capacity(FRONT_REQUESTS_MAX);
        bencher.iter(|| {
            (0..32).for_each(|owner| {
                black_box(index.insert(owner, block(5)));
            });
            (0..32).for_each(|owner| index.remove(owner, block(5), &mut woken));
            woken.clear();
        });
    });
    group.finish();
}

fn bitmap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bitmap of 1 TiB");
    let blocks = VOLUME_BYTES / BLOCK_BYTES;
    let mut dirty = Dirty::new(VOLUME_BYTES / SECTOR_BYTES);
    let mut seed = 1;
    group.throughput(Throughput::Elements(1));
    group.bench_function("set and clear a block", |bencher| {
        bencher.iter(|| {
            let at = random(&mut seed) % blocks;
            dirty.set(at..at + 1);
            dirty.clear(at..at + 1)
        });
    });
    group.bench_function("set and clear an extent of 4 MiB", |bencher| {
        bencher.iter(|| {
            let at = random(&mut seed) % (blocks / 1024) * 1024;
            dirty.set(at..at + 1024);
            dirty.clear(at..at + 1024)
        });
    });
    let mut bits = [0; PAGE_BIT_BYTES];
    group.bench_function("copy a page out and add it", |bencher| {
        bencher.iter(|| {
            dirty.page_bits(7, &mut bits);
            dirty.or_page(7, black_box(&bits));
        });
    });
    group.throughput(Throughput::Bytes(blocks / 8));
    group.bench_function("look for a bit in an empty one", |bencher| {
        bencher.iter(|| black_box(&dirty).next(0));
    });
    group.finish();
}

criterion_group!(benches, overlap, bitmap);
criterion_main!(benches);
