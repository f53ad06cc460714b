//! Every option of DRBD 8.3, 8.4 and 9 that this importer knows: where it may stand, which values it takes, and what
//! becomes of it. The table in `docs/from-drbd.md` is printed from here.

/// Which values an option takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Takes {
    /// `yes`, `no`, or nothing for `yes`; `no-NAME` for `no`.
    Flag,
    /// A whole number in a range, without a unit.
    Count(u64, u64),
    /// A number with or without a unit: k, M, G, or s for sectors of 512 bytes.
    Size,
    /// One of these words.
    One(&'static [&'static str]),
    /// Any one word or text.
    Text,
    /// One word or more.
    Words,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It is translated, into what this says.
    Becomes(&'static str),
    /// rblk does not need it, for this reason.
    Unneeded(&'static str),
    /// rblk behaves differently: the reader must know.
    Differs(&'static str),
}

/// One option.
#[derive(Debug)]
pub(super) struct Row {
    /// Sections that it may stand in; `resource` is the resource itself.
    pub(super) sections: &'static [&'static str],
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    /// The value that means the same in rblk, so that nothing has to be said.
    pub(super) same: &'static str,
    pub(super) fate: Fate,
}

/// Sections of options.
pub(super) const SECTIONS: [&str; 6] = ["net", "disk", "syncer", "options", "startup", "handlers"];

/// Where options of the link may stand: 8.3 has some of them in `syncer`.
const NET: &[&str] = &["net"];
const DISK: &[&str] = &["disk"];
const DISK_SYNCER: &[&str] = &["disk", "syncer"];
const NET_SYNCER: &[&str] = &["net", "syncer"];
const OPTIONS: &[&str] = &["options"];
const STARTUP: &[&str] = &["startup"];
const HANDLERS: &[&str] = &["handlers"];

const SPLIT_BRAIN: &str = "the same key and word in `[resource.split-brain]`";
const TIMEOUT: &str = "`peer-timeout-ms`";
const BUFFERS: &str = "requests in flight and buffers have fixed limits of their own";
const PACE: &str = "a resync yields to the clients by their measured latency and has no fixed rate";
const UNSEEN: &str =
    "the link is TLS, with a key of each node: run `rblk pair`; security.md in the documentation";
const STABLE: &str =
    "rblk always flushes its data and its metadata; a disk with a protected cache answers at once";
const AT_BOOT: &str = "a daemon never waits for its peer at boot; a script can: `rblk wait NAME connected --timeout S`";
const WITNESS: &str = "there are two nodes and no quorum: see `on-peer-lost`";
const RDMA: &str = "the link is one connection; for RDMA say `transport = \"rdma\"` in [net]: transports.md in the \
                    documentation";
const INSIDE: &str = "a setting of DRBD's own machinery";
const COMMAND: &str = "the same key in `[handlers]`; see [handlers.md](handlers.md)";
const WATCH: &str = "no command is called: watch `rblk status NAME --json`";

const fn row(
    sections: &'static [&'static str],
    name: &'static str,
    takes: Takes,
    same: &'static str,
    fate: Fate,
) -> Row {
    Row { sections, name, takes, same, fate }
}

use Fate::{Becomes, Differs, Unneeded};
use Takes::{Count, Flag, One, Size, Text, Words};

/// All options, section by section.
pub(super) const ROWS: &[Row] = &[
    row(
        &["net", "resource"],
        "protocol",
        One(&["A", "B", "C"]),
        "C",
        Becomes("what rblk does; A and B are refused"),
    ),
    row(NET, "allow-two-primaries", Flag, "", Becomes("`dual-primary`")),
    row(NET, "after-sb-0pri", Text, "", Becomes(SPLIT_BRAIN)),
    row(NET, "after-sb-1pri", Text, "", Becomes(SPLIT_BRAIN)),
    row(NET, "after-sb-2pri", Text, "", Becomes(SPLIT_BRAIN)),
    row(
        &["net", "disk"],
        "fencing",
        One(&["dont-care", "resource-only", "resource-and-stonith"]),
        "",
        Becomes("`on-peer-lost`"),
    ),
    row(NET, "timeout", Count(1, 600), "", Becomes(TIMEOUT)),
    row(NET, "ko-count", Count(0, 200), "", Becomes(TIMEOUT)),
    row(NET, "ping-int", Count(1, 120), "", Becomes(TIMEOUT)),
    row(NET, "ping-timeout", Count(1, 300), "", Becomes(TIMEOUT)),
    row(NET, "rr-conflict", Text, "", Becomes(SPLIT_BRAIN)),
    row(
        NET,
        "always-asbp",
        Flag,
        "no",
        Differs("policies apply only if the nodes have a generation in common"),
    ),
    row(
        NET,
        "on-congestion",
        One(&["block", "pull-ahead", "disconnect"]),
        "block",
        Differs("rblk always waits for the peer, up to `peer-timeout-ms`"),
    ),
    row(
        NET,
        "allow-remote-read",
        Flag,
        "yes",
        Differs("a node without its disk always reads from its peer"),
    ),
    row(NET, "cram-hmac-alg", Text, "", Differs(UNSEEN)),
    row(NET, "shared-secret", Text, "", Differs(UNSEEN)),
    row(NET, "tls", Flag, "no", Differs(UNSEEN)),
    row(NET, "tls-keyring", Text, "", Unneeded("see `tls`")),
    row(NET, "tls-privkey", Text, "", Unneeded("see `tls`")),
    row(NET, "tls-certificate", Text, "", Unneeded("see `tls`")),
    row(NET, "transport", Text, "tcp", Differs(RDMA)),
    row(NET, "load-balance-paths", Flag, "no", Differs(RDMA)),
    row(NET, "rdma-ctrl-rcvbuf-size", Size, "", Unneeded(RDMA)),
    row(NET, "rdma-ctrl-sndbuf-size", Size, "", Unneeded(RDMA)),
    row(
        NET,
        "csums-alg",
        Text,
        "",
        Differs(
            "a resync does not compare before it copies; it copies what the bitmap names, without zeroes",
        ),
    ),
    row(NET_SYNCER, "csums-after-crash-only", Flag, "", Unneeded("see `csums-alg`")),
    row(
        &["syncer"],
        "csums-alg",
        Text,
        "",
        Differs(
            "a resync does not compare before it copies; it copies what the bitmap names, without zeroes",
        ),
    ),
    row(
        NET,
        "data-integrity-alg",
        Text,
        "",
        Unneeded("every frame and its payload carry a checksum (crc32c)"),
    ),
    row(NET_SYNCER, "verify-alg", Text, "", Unneeded("rblk chooses its checksums itself")),
    row(
        NET_SYNCER,
        "use-rle",
        Flag,
        "",
        Unneeded("the bitmap is sent in pages, and only those with set bits"),
    ),
    row(NET, "connect-int", Count(1, 120), "", Unneeded("rblk tries again every half second")),
    row(NET, "max-buffers", Count(32, 131_072), "", Unneeded(BUFFERS)),
    row(NET, "max-epoch-size", Count(1, 20_000), "", Unneeded(BUFFERS)),
    row(NET, "unplug-watermark", Count(1, 131_072), "", Unneeded(BUFFERS)),
    row(NET, "sndbuf-size", Size, "", Unneeded("the kernel sizes the buffers of a socket")),
    row(NET, "rcvbuf-size", Size, "", Unneeded("the kernel sizes the buffers of a socket")),
    row(NET, "tcp-cork", Flag, "", Unneeded("frames are gathered before they are sent")),
    row(NET, "congestion-fill", Size, "", Unneeded("see `on-congestion`")),
    row(NET, "congestion-extents", Count(1, 65_534), "", Unneeded("see `on-congestion`")),
    row(NET, "socket-check-timeout", Count(0, 300), "", Unneeded("see `peer-timeout-ms`")),
    row(NET, "_name", Text, "", Unneeded(INSIDE)),
    row(NET, "on-disconnect", Text, "", Differs("see `on-peer-lost`")),
    row(
        DISK,
        "on-io-error",
        One(&["detach", "pass_on", "call-local-io-error"]),
        "detach",
        Differs("a disk that fails is given up and the peer's is used, as with `detach`"),
    ),
    row(DISK, "disk-timeout", Count(0, 6_000), "", Becomes("`disk-timeout-ms`")),
    row(DISK, "disk-barrier", Flag, "no", Unneeded(STABLE)),
    row(DISK, "disk-flushes", Flag, "yes", Unneeded(STABLE)),
    row(DISK, "disk-drain", Flag, "yes", Unneeded(STABLE)),
    row(DISK, "md-flushes", Flag, "yes", Unneeded(STABLE)),
    row(
        DISK_SYNCER,
        "al-extents",
        Count(7, 65_534),
        "",
        Unneeded("the activity log has 992 extents of 4 MiB, always"),
    ),
    row(DISK_SYNCER, "al-updates", Flag, "yes", Differs("the activity log is always written")),
    row(DISK, "resync-rate", Size, "", Unneeded(PACE)),
    row(&["syncer"], "rate", Size, "", Unneeded(PACE)),
    row(DISK_SYNCER, "c-plan-ahead", Count(0, 300), "", Unneeded(PACE)),
    row(DISK_SYNCER, "c-delay-target", Count(1, 100), "", Unneeded(PACE)),
    row(DISK_SYNCER, "c-fill-target", Size, "", Unneeded(PACE)),
    row(DISK_SYNCER, "c-max-rate", Size, "", Unneeded(PACE)),
    row(DISK_SYNCER, "c-min-rate", Size, "", Unneeded(PACE)),
    row(
        DISK_SYNCER,
        "resync-after",
        Text,
        "",
        Differs("resources do not wait for each other's resync"),
    ),
    row(&["syncer"], "after", Text, "", Differs("resources do not wait for each other's resync")),
    row(
        DISK,
        "resync-without-replication",
        Flag,
        "",
        Unneeded("writes are mirrored during a resync, too"),
    ),
    row(
        DISK,
        "read-balancing",
        Text,
        "prefer-local",
        Differs("a node reads from its own disk while it can"),
    ),
    row(DISK, "size", Size, "", Differs("the volume is as large as the smaller disk has room for")),
    row(DISK, "bitmap", Flag, "yes", Differs("there always is a bitmap")),
    row(DISK, "peer-tiebreaker", Flag, "", Unneeded(WITNESS)),
    row(
        DISK,
        "discard-zeroes-if-aligned",
        Flag,
        "",
        Unneeded("a discarded range always reads as zeroes"),
    ),
    row(DISK, "disable-write-same", Flag, "", Unneeded(INSIDE)),
    row(DISK, "rs-discard-granularity", Size, "", Unneeded("a resync sends no zeroes")),
    row(DISK, "discard-granularity", Size, "", Unneeded(INSIDE)),
    row(
        DISK,
        "block-size",
        Size,
        "512",
        Differs(
            "compare the logical block size of `/dev/rblk/NAME` with what the file system needs",
        ),
    ),
    row(DISK, "max-bio-size", Size, "", Unneeded(INSIDE)),
    row(DISK, "max-bio-bvecs", Size, "", Unneeded(INSIDE)),
    row(DISK, "use-bmbv", Flag, "", Unneeded(INSIDE)),
    row(
        &["options", "syncer"],
        "cpu-mask",
        Text,
        "",
        Unneeded("the scheduler places the daemon; `taskset` can"),
    ),
    row(
        &["options", "syncer", "disk"],
        "on-no-data-accessible",
        One(&["io-error", "suspend-io"]),
        "suspend-io",
        Differs("without any disk with data, requests wait, as with `suspend-io`"),
    ),
    row(
        OPTIONS,
        "auto-promote",
        Flag,
        "no",
        Differs("opening the device promotes nobody: `rblk promote NAME`, or `promote-at-start`"),
    ),
    row(OPTIONS, "auto-promote-timeout", Count(0, 600), "", Unneeded("see `auto-promote`")),
    row(OPTIONS, "quorum", Text, "", Becomes("`on-peer-lost`")),
    row(
        OPTIONS,
        "on-no-quorum",
        One(&["suspend-io", "io-error"]),
        "suspend-io",
        Differs("a suspended Primary holds its requests back and does not fail them"),
    ),
    row(OPTIONS, "quorum-minimum-redundancy", Text, "off", Differs(WITNESS)),
    row(
        OPTIONS,
        "on-suspended-primary-outdated",
        One(&["disconnect", "force-secondary"]),
        "disconnect",
        Differs("a suspended Primary is demoted by an operator"),
    ),
    row(OPTIONS, "peer-ack-window", Size, "", Unneeded(INSIDE)),
    row(OPTIONS, "peer-ack-delay", Size, "", Unneeded(INSIDE)),
    row(OPTIONS, "twopc-timeout", Size, "", Unneeded(INSIDE)),
    row(OPTIONS, "twopc-retry-timeout", Size, "", Unneeded(INSIDE)),
    row(OPTIONS, "max-io-depth", Size, "", Unneeded(BUFFERS)),
    row(OPTIONS, "drbd8-api-compatibility", Flag, "", Unneeded(INSIDE)),
    row(
        STARTUP,
        "become-primary-on",
        Words,
        "",
        Becomes(
            "`promote-at-start` if both nodes are named; for one node, `rblk attach NAME --primary` there",
        ),
    ),
    row(STARTUP, "wfc-timeout", Size, "", Unneeded(AT_BOOT)),
    row(STARTUP, "degr-wfc-timeout", Size, "", Unneeded(AT_BOOT)),
    row(STARTUP, "outdated-wfc-timeout", Size, "", Unneeded(AT_BOOT)),
    row(STARTUP, "wait-after-sb", Flag, "", Unneeded(AT_BOOT)),
    row(STARTUP, "stacked-timeouts", Flag, "", Unneeded(AT_BOOT)),
    row(HANDLERS, "fence-peer", Text, "", Becomes(COMMAND)),
    row(HANDLERS, "outdate-peer", Text, "", Becomes("`fence-peer` in `[handlers]`")),
    row(HANDLERS, "unfence-peer", Text, "", Becomes(COMMAND)),
    row(HANDLERS, "split-brain", Text, "", Becomes(COMMAND)),
    row(HANDLERS, "initial-split-brain", Text, "", Differs(WATCH)),
    row(HANDLERS, "pri-lost-after-sb", Text, "", Becomes(COMMAND)),
    row(HANDLERS, "pri-lost", Text, "", Differs(WATCH)),
    row(HANDLERS, "pri-on-incon-degr", Text, "", Differs(WATCH)),
    row(HANDLERS, "local-io-error", Text, "", Becomes(COMMAND)),
    row(HANDLERS, "before-resync-target", Text, "", Becomes(COMMAND)),
    row(HANDLERS, "after-resync-target", Text, "", Becomes(COMMAND)),
    row(HANDLERS, "before-resync-source", Text, "", Differs(WATCH)),
    row(HANDLERS, "out-of-sync", Text, "", Becomes(COMMAND)),
    row(HANDLERS, "quorum-lost", Text, "", Differs(WATCH)),
    row(
        HANDLERS,
        "disconnected",
        Text,
        "",
        Differs("no command is called; a script can wait: `rblk wait NAME connected`"),
    ),
];

/// The option `name` in `section`.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name && row.sections.contains(&section))
}

/// The names that `section` knows.
pub(super) fn names(section: &str) -> Vec<&'static str> {
    ROWS.iter().filter(|row| row.sections.contains(&section)).map(|row| row.name).collect()
}

/// The table of all options in Markdown, as it stands in `docs/from-drbd.md`.
pub fn markdown() -> String {
    let mut text = "| section | option | in rblk |\n|---|---|---|\n".to_owned();
    for row in ROWS {
        let said = match row.fate {
            Becomes(text) => format!("becomes {text}"),
            Unneeded(text) => format!("not needed: {text}"),
            Differs(text) => format!("**differs**: {text}"),
        };
        let same = match row.same {
            "" => String::new(),
            same => format!(" (`{same}`: the same)"),
        };
        let line = format!("| {} | `{}` | {said}{same} |\n", row.sections.join(", "), row.name);
        text.push_str(&line);
    }
    text
}
