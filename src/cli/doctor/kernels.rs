//! Kernels that are known not to serve a ublk device.

use super::Findings;

/// What is wrong with some kernels, and where that is told.
struct Flaw {
    has: fn(&str) -> bool,
    what: &'static str,
    remedy: &'static str,
}

/// Queues of a ublk device were made before what they are made from: a null pointer, and a command that never ends.
/// Upstream 6.18.4 and 6.18.5, mended in 6.18.6, and Ubuntu's kernels for clouds that took the same change:
/// <https://github.com/kvcache-ai/AgentENV/issues/20>, <https://github.com/actions/runner-images/issues/14175>,
/// <https://github.com/longhorn/longhorn/issues/13509>. In 6.7 the end of a daemon that is to be followed by another
/// may crash the same way: <https://github.com/spdk/spdk/issues/3384>.
const FLAWS: [Flaw; 3] = [
    Flaw {
        has: |release| is(release, "6.18.4") || is(release, "6.18.5"),
        what: "crashes when a ublk device is made",
        remedy: "use Linux 6.18.6 or newer, or serve volumes by NBD: `rblk attach NAME --front nbd=unix:PATH`",
    },
    Flaw {
        has: |release| {
            is(release, "6.17.0")
                && ["-aws", "-azure", "-gcp"].iter().any(|of| release.ends_with(of))
        },
        what: "may crash when a ublk device is made: some of Ubuntu's 6.17 for clouds do",
        remedy: "use another kernel, or serve volumes by NBD: `rblk attach NAME --front nbd=unix:PATH`",
    },
    Flaw {
        has: |release| is(release, "6.7"),
        what: "may crash when a daemon is restarted under its ublk device",
        remedy: "use another kernel: this one is not maintained any more",
    },
];

/// Whether this kernel is one of them: true, and it is told.
pub(super) fn has_flaw(findings: &mut Findings, release: &str) -> bool {
    let Some(flaw) = FLAWS.iter().find(|flaw| (flaw.has)(release)) else { return false };
    findings.warning("kernel", format!("{release} {}", flaw.what), flaw.remedy);
    true
}

/// The version, or a part of it: `6.7` is 6.7.0 and 6.7.12-1, not 6.70.
fn is(release: &str, version: &str) -> bool {
    let rest = release.strip_prefix(version);
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_reported_are_known_and_their_neighbours_are_not() {
        let flawed = |release: &str| FLAWS.iter().any(|flaw| (flaw.has)(release));
        for bad in [
            "6.18.4",
            "6.18.5-arch1-1",
            "6.17.0-1017-aws",
            "6.17.0-1018-azure",
            "6.7.0-68.fc38.x86_64",
            "6.7.12",
        ] {
            assert!(flawed(bad), "{bad}");
        }
        for good in [
            "6.18.6",
            "6.18.40",
            "6.17.0-5-generic",
            "6.17.13-amd64",
            "6.70.1",
            "6.12.117+deb13-amd64",
            "7.3.4",
        ] {
            assert!(!flawed(good), "{good}");
        }
    }
}
