//! The clients that people use, as judges: libnbd, QEMU, fio.
//!
//! A judge that is not installed is skipped with a word, except where `CI=true`: there it is missing by
//! mistake.

use super::server::{Plan, Server};
use std::process::Command;

/// True if `tool` can be run.
fn installed(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(found || !ci, "{tool} is not installed");
    if !found {
        eprintln!("skipped: {tool} is not installed");
    }
    found
}

/// Runs a tool, in bounds of time, and returns what it prints.
fn run(tool: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new("timeout").arg("120").arg(tool).args(args).output().expect("runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let all = text(&output.stdout) + &text(&output.stderr);
    if output.status.success() { Ok(all) } else { Err(format!("{tool} {args:?}: {all}")) }
}

fn ok(tool: &str, args: &[&str]) -> String {
    run(tool, args).unwrap_or_else(|failure| panic!("{failure}"))
}

fn random(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

#[test]
fn nbdinfo_sees_the_export_as_it_is() {
    if !installed("nbdinfo") {
        return;
    }
    for tcp in [false, true] {
        let plan = Plan { tcp, block_bytes: 4096, ..Plan::default() };
        let server = Server::start(&plan);
        let text = ok("nbdinfo", &[&server.uri]);
        for line in [
            "newstyle-fixed without TLS, using simple packets",
            "export=\"vol\"",
            "export-size: 67108864",
            "can_flush: true",
            "can_fua: true",
            "can_trim: true",
            "can_zero: true",
            "can_multi_conn: true",
            "can_df: false",
            "is_read_only: false",
            "block_size_minimum: 4096",
            "block_size_preferred: 4096",
            "block_size_maximum: 33554432",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        let listed = ok("nbdinfo", &["--list", &server.uri]);
        assert!(listed.contains("export=\"vol\""), "{listed}");
        let wrong = server.uri.replace("/vol", "/other");
        assert!(run("nbdinfo", &[&wrong]).is_err());
        let default = server.uri.replace("/vol", "/");
        assert!(ok("nbdinfo", &["--size", &default]).starts_with("67108864"));
    }
}

#[test]
fn nbdcopy_brings_back_what_it_took_there() {
    if !installed("nbdcopy") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    let content = random(64 << 20);
    std::fs::write(&there, &content).expect("writes");
    for tcp in [false, true] {
        let server = Server::start(&Plan { tcp, ..Plan::default() });
        let (from, to) = (there.display().to_string(), back.display().to_string());
        let flags = ["--connections=4", "--requests=64", "--flush"];
        ok("nbdcopy", &[&flags[..], &[&from, &server.uri]].concat());
        ok("nbdcopy", &[&flags[..], &[&server.uri, &to]].concat());
        assert!(std::fs::read(&back).expect("reads") == content, "another file came back");
        assert!(server.stop() == content, "another file arrived");
    }
}

#[test]
fn nbdcopy_works_with_the_largest_requests_and_few_buffers() {
    if !installed("nbdcopy") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    let content = random(64 << 20);
    std::fs::write(&there, &content).expect("writes");
    let server = Server::start(&Plan { buffers: 5, ..Plan::default() });
    let (from, to) = (there.display().to_string(), back.display().to_string());
    let flags = ["--connections=2", "--requests=4", "--request-size=33554432"];
    ok("nbdcopy", &[&flags[..], &[&from, &server.uri]].concat());
    ok("nbdcopy", &[&flags[..], &[&server.uri, &to]].concat());
    assert!(std::fs::read(&back).expect("reads") == content, "another file came back");
}

#[test]
fn qemu_reads_what_it_wrote_zeroed_and_discarded() {
    if !installed("qemu-io") {
        return;
    }
    let server = Server::start(&Plan::default());
    let commands = [
        "write -P 0x11 0 1M",
        "read -P 0x11 0 1M",
        "write -f -P 0x22 1M 4k",
        "write -P 0x33 512 512",
        "read -P 0x11 0 512",
        "read -P 0x33 512 512",
        "read -P 0x11 1024 1000k",
        "read -P 0x22 1M 4k",
        "write -z 4k 64k",
        "read -P 0 4k 64k",
        "write -z -u 128k 64k",
        "read -P 0 128k 64k",
        "discard 256k 64k",
        "read -P 0 256k 64k",
        "flush",
        "aio_write -P 0x44 8M 17M",
        "aio_flush",
        "read -P 0x44 8M 17M",
        "write -z 0 64M",
        "read -P 0 0 31M",
    ];
    let mut args = vec!["-f", "raw", "-t", "none"];
    for command in &commands {
        args.extend(["-c", command]);
    }
    args.push(&server.uri);
    let text = ok("qemu-io", &args);
    assert!(!text.contains("failed"), "{text}");
}

#[test]
fn qemu_copies_and_compares_an_image() {
    if !installed("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let image = dir.path().join("image").display().to_string();
    std::fs::write(&image, random(32 << 20)).expect("writes");
    let server = Server::start(&Plan { bytes: 32 << 20, ..Plan::default() });
    let raw = ["-f", "raw"];
    ok("qemu-img", &[&["convert", "-n"], &raw[..], &["-O", "raw", &image, &server.uri]].concat());
    let text = ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", &image, &server.uri]);
    assert!(text.contains("identical"), "{text}");
}

#[test]
fn fio_finds_every_block_it_wrote() {
    if !installed("fio") {
        return;
    }
    let server = Server::start(&Plan::default());
    let uri = format!("--uri=nbd+unix:///vol?socket={}", server.place);
    let common = [
        "--ioengine=nbd",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--size=16m",
        &uri,
    ];
    for job in [
        &["--rw=randwrite", "--bs=4k", "--iodepth=32", "--fsync=64"][..],
        &["--rw=randrw", "--bsrange=4k-1m", "--blockalign=4k", "--iodepth=16", "--fsync=8"],
        &["--rw=write", "--bs=4m", "--iodepth=8"],
        &["--rw=randtrimwrite", "--bs=64k", "--iodepth=8", "--verify=0"],
    ] {
        let text = ok("fio", &[&["--name=verify"], &common[..], job].concat());
        assert!(text.contains("err= 0"), "{text}");
    }
}
