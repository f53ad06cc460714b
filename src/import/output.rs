//! The rblk configuration that an import ends with, as text.

use crate::config::{Address, Name};
use std::fmt::Write;

/// What a Primary does when it loses its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OnPeerLost {
    Continue,
    Suspend,
    Fence,
}

impl OnPeerLost {
    /// As it stands in the file.
    pub(super) fn word(self) -> &'static str {
        match self {
            OnPeerLost::Continue => "continue",
            OnPeerLost::Suspend => "suspend",
            OnPeerLost::Fence => "fence",
        }
    }
}

/// One of both nodes.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Name,
    pub(super) address: Address,
    pub(super) second_address: Option<Address>,
    pub(super) disk: String,
}

/// Only what the DRBD configuration says: everything else keeps rblk's default.
#[derive(Debug)]
pub(super) struct Output {
    /// The file that it was read from.
    pub(super) from: String,
    pub(super) name: Name,
    pub(super) dual_primary: bool,
    pub(super) promote_at_start: bool,
    pub(super) on_peer_lost: Option<OnPeerLost>,
    pub(super) peer_timeout_ms: Option<u64>,
    pub(super) disk_timeout_ms: Option<u64>,
    /// Keys and words.
    pub(super) split_brain: Vec<(&'static str, String)>,
    /// Names and command lines.
    pub(super) handlers: Vec<(&'static str, String)>,
    pub(super) nodes: [Node; 2],
}

/// What the reader must know before the first `rblk create`.
const HEAD: &str = "\
# Check before use; the whole way is in docs/from-drbd.md:
# - The data stays where it is. DRBD's metadata lies at the end of the disk, and so does rblk's: `rblk create`
#   overwrites DRBD's. Never run both on one disk.
# - rblk's metadata is larger than that of DRBD 8.4, and of DRBD 9 made for one peer: by 256 KiB, and by 1.1 MiB for
#   each TiB, at most. GROW THE DISK FIRST, or `rblk create` overwrites the end of a file system that fills /dev/drbdN.
";

impl Output {
    pub(super) fn toml(&self) -> String {
        let mut text = format!(
            "# {name}.toml: resource {name}, from DRBD's {from}. The same file on both nodes: /etc/rblk/{name}.toml\n",
            name = self.name,
            from = self.from
        );
        text.push_str(HEAD);
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        line("\n[resource]".to_owned());
        line(format!("name = {}", quoted(self.name.as_str())));
        if self.dual_primary {
            line("dual-primary = true".to_owned());
        }
        if self.promote_at_start {
            line("promote-at-start = true".to_owned());
        }
        if let Some(on_peer_lost) = self.on_peer_lost {
            line(format!("on-peer-lost = {}", quoted(on_peer_lost.word())));
        }
        if self.dual_primary {
            let first = &self.nodes[0].name;
            line(format!(
                "# prefer = {}    # with on-peer-lost = \"prefer\"",
                quoted(first.as_str())
            ));
            line(
                "# ride-through-s = 15    # wait this long for the link before deciding".to_owned(),
            );
        }
        if let Some(ms) = self.peer_timeout_ms {
            line(format!("peer-timeout-ms = {ms}"));
        }
        if let Some(ms) = self.disk_timeout_ms {
            line(format!("disk-timeout-ms = {ms}"));
        }
        if !self.split_brain.is_empty() {
            line("\n[resource.split-brain]".to_owned());
            for (key, word) in &self.split_brain {
                line(format!("{key} = {}", quoted(word)));
            }
        }
        if !self.handlers.is_empty() {
            line("\n[handlers]".to_owned());
            for (key, command) in &self.handlers {
                line(format!("{key} = {}", quoted(command)));
            }
        }
        for node in &self.nodes {
            line("\n[[node]]".to_owned());
            line(format!("name = {}", quoted(node.name.as_str())));
            line(format!("address = {}", quoted(&node.address.to_string())));
            if let Some(second) = &node.second_address {
                line(format!("second-address = {}", quoted(&second.to_string())));
            }
            line(format!("disk = {}", quoted(&node.disk)));
        }
        text
    }
}

/// `text` as a TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
