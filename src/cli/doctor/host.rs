//! The host: its kernel, and what it lets the daemon do.

use super::Findings;
use super::kernels::has_flaw;
use crate::front::ublk;
use crate::io::clock;
use crate::io::ring::Ring;
use crate::limits::{BUFFERS_MAX, IO_BYTES_MAX, RING_ENTRIES};
use std::path::Path;
use std::process::Command;

/// Before it, io_uring lacks what the ring asks for.
const KERNEL_MIN: (u32, u32) = (6, 1);

pub(super) fn check(findings: &mut Findings) {
    kernel(findings);
    io_uring(findings);
    device(findings);
    memory(findings);
    time(findings);
    installed(findings);
}

fn kernel(findings: &mut Findings) {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy().into_owned();
    match version(&release) {
        Some(_) if has_flaw(findings, &release) => {}
        Some(version) if version >= KERNEL_MIN => findings.ok("kernel", release),
        Some(_) => {
            let (major, minor) = KERNEL_MIN;
            findings.error("kernel", release, format!("use Linux {major}.{minor} or newer"));
        }
        None => findings.warning("kernel", format!("{release}: an unknown version"), ""),
    }
}

/// Major and minor number.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The ring itself is tried: what forbids it, a setting, a filter or a limit, is looked for only then.
fn io_uring(findings: &mut Findings) {
    let Err(error) = Ring::new(RING_ENTRIES) else {
        return findings.ok("io_uring", "works");
    };
    let setting = read("/proc/sys/kernel/io_uring_disabled");
    let filtered = status_of("Seccomp").is_some_and(|mode| mode != "0");
    let remedy = match setting.as_str() {
        "1" | "2" => "sysctl kernel.io_uring_disabled=0, and the same line in /etc/sysctl.d".to_owned(),
        _ if filtered => {
            "a seccomp filter is in force, as in most containers: let it allow io_uring_setup, io_uring_enter and \
             io_uring_register"
                .to_owned()
        }
        _ => "raise the limit of locked memory (ulimit -l), or use a kernel with io_uring".to_owned(),
    };
    findings.error("io_uring", format!("cannot be used: {error}"), remedy);
}

fn device(findings: &mut Findings) {
    let Err(error) = ublk::availability() else {
        return findings.ok("ublk", "there: volumes can be block devices");
    };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let modules = format!("/lib/modules/{release}/modules.dep");
    let loadable = std::fs::read_to_string(modules).is_ok_and(|list| list.contains("/ublk_drv.ko"));
    let remedy = if loadable {
        "run `modprobe ublk_drv`; a line ublk_drv in /etc/modules-load.d/rblk.conf does it at each boot"
    } else {
        "use a kernel with ublk (Debian 13 has one), or serve volumes by NBD: `rblk attach NAME --front nbd=unix:PATH`"
    };
    findings.warning("ublk", format!("cannot be used: {error}"), remedy);
}

fn memory(findings: &mut Findings) {
    let needed = (BUFFERS_MAX * IO_BYTES_MAX) as u64 * 2;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    match limit {
        // Root, with its capabilities, has no limit.
        _ if rustix::process::geteuid().is_root() => findings.ok("memory lock", "not limited for root"),
        None => findings.ok("memory lock", "not limited"),
        Some(bytes) if bytes >= needed => findings.ok("memory lock", format!("up to {}", mib(bytes))),
        Some(bytes) => findings.warning(
            "memory lock",
            format!("at most {}, a volume has {}", mib(bytes), mib(needed)),
            "run the daemon as root, by rblk@NAME, or raise it (`ulimit -l`): clients may stall when memory is short",
        ),
    }
}

fn time(findings: &mut Findings) {
    match clock::synchronised() {
        Some(true) => findings.ok("clock", "synchronised"),
        Some(false) => findings.warning(
            "clock",
            "not synchronised: times in the logs of both nodes cannot be compared",
            "install chrony or systemd-timesyncd; in a container, look at the host",
        ),
        None => findings.warning("clock", "the system does not say whether it is synchronised", ""),
    }
}

/// What makes volumes start at boot and gives them their names.
fn installed(findings: &mut Findings) {
    if !Path::new("/run/systemd/system").is_dir() {
        return findings.ok("systemd", "does not run here: daemons are started by hand");
    }
    let answer = Command::new("systemctl").args(["is-enabled", "rblk.target"]).output();
    match answer.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()) {
        Ok(state) if state == "enabled" => findings.ok("systemd", "rblk.target is enabled"),
        Ok(state) if state.is_empty() || state == "not-found" => findings.warning(
            "systemd",
            "the units are not installed",
            "install the package, or run scripts/install",
        ),
        Ok(state) => findings.warning(
            "systemd",
            format!("rblk.target is {state}: volumes do not start at boot"),
            "run `systemctl enable rblk.target`",
        ),
        Err(error) => findings.warning("systemd", format!("systemctl does not run: {error}"), ""),
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// A field of what the kernel says of this process.
fn status_of(field: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.12.48+deb13-amd64"), Some((6, 12)));
        assert_eq!(version("10.0-rc1"), Some((10, 0)));
        assert_eq!(version("unknown"), None);
        assert!(version("5.19.0").expect("known") < KERNEL_MIN && (6, 10) > KERNEL_MIN);
    }
}
