//! From what a resource says to what rblk shall be told, and to notes about the rest.

use super::document::At;
use super::hosts::Host;
use super::options::{Fate, Takes};
use super::output::{Node, OnPeerLost, Output};
use super::resource::Resource;
use super::settings::{Setting, Value};
use super::{Fault, Findings, shorten};
use crate::config::{HandlerKind, Name};
use crate::limits::{
    DISK_TIMEOUT_MS_DEFAULT, DISK_TIMEOUT_MS_MAX, DISK_TIMEOUT_MS_MIN, PEER_TIMEOUT_MS_DEFAULT,
    PEER_TIMEOUT_MS_MAX, PEER_TIMEOUT_MS_MIN,
};
use std::path::Path;

/// DRBD's unit of `timeout`, `ping-timeout` and `disk-timeout`.
const TENTH_MS: u64 = 100;
/// How long DRBD takes with its defaults to give up a peer that is silent.
const DRBD_SILENCE_MS: u64 = 10_500;
/// Policies after a split brain: DRBD's option, rblk's key, its words.
const SPLIT_BRAIN: [(&str, &str, &[&str]); 4] = [
    (
        "after-sb-0pri",
        "after-0pri",
        &[
            "disconnect",
            "discard-younger-primary",
            "discard-older-primary",
            "discard-zero-changes",
            "discard-least-changes",
        ],
    ),
    (
        "after-sb-1pri",
        "after-1pri",
        &[
            "disconnect",
            "consensus",
            "violently-as0p",
            "discard-secondary",
            "call-pri-lost-after-sb",
        ],
    ),
    ("after-sb-2pri", "after-2pri", &["disconnect", "violently-as0p", "call-pri-lost-after-sb"]),
    ("rr-conflict", "rr-conflict", &["disconnect", "retry-connect", "violently", "call-pri-lost"]),
];

/// Translates `resource`, read from `file`; `None` if what was refused leaves nothing to translate.
pub(super) fn translate(
    file: &Path,
    resource: &Resource,
    findings: &mut Findings,
) -> Result<Option<Output>, Fault> {
    let set = &resource.settings;
    for setting in set.all() {
        remark(setting, findings);
    }
    if let Some(protocol) = set.get("protocol").filter(|protocol| protocol.text() != "C") {
        findings.refuse(
            protocol.at,
            format!("protocol {}: rblk completes a write when both nodes have it, which is C", protocol.text()),
            "write `protocol C` in a copy of the file if the link is fast enough for it, and import that",
        );
    }
    let Some(nodes) = nodes(resource, findings)? else { return Ok(None) };
    let dual_primary = set.flag("allow-two-primaries");
    let promote_at_start = promote_at_start(resource, dual_primary, &nodes, findings)?;
    let on_peer_lost = on_peer_lost(resource, dual_primary, findings)?;
    let split_brain = split_brain(resource, &nodes, findings)?;
    if let (Some(at), None) = (resource.node_id, set.get("auto-promote")) {
        findings.warn(
            at,
            "DRBD 9 promotes whoever opens the device; with rblk: `rblk promote NAME`, or `promote-at-start`",
        );
    }
    let from = file.display().to_string().chars().flat_map(char::escape_debug).collect();
    Ok(Some(Output {
        from,
        name: resource.name.clone(),
        dual_primary,
        promote_at_start,
        on_peer_lost,
        peer_timeout_ms: peer_timeout(resource, findings),
        disk_timeout_ms: disk_timeout(resource, findings),
        split_brain,
        handlers: handlers(resource, findings),
        nodes,
    }))
}

/// Says what becomes of an option that is not translated.
fn remark(setting: &Setting, findings: &mut Findings) {
    let row = setting.row;
    if !row.same.is_empty() && setting.text() == row.same {
        return;
    }
    let shown = match row.takes {
        // It may be a secret or a command line.
        Takes::Text => row.name.to_owned(),
        _ => format!("{} {}", row.name, shorten(&setting.text())),
    };
    match row.fate {
        Fate::Becomes(_) => {}
        Fate::Unneeded(text) => findings.note(setting.at, format!("`{shown}`: not needed: {text}")),
        Fate::Differs(text) => findings.warn(setting.at, format!("`{shown}`: {text}")),
    }
}

/// Both nodes; `None` if one of them is refused already.
fn nodes(resource: &Resource, findings: &mut Findings) -> Result<Option<[Node; 2]>, Fault> {
    let mut nodes: Vec<Node> = Vec::new();
    // A third one is refused already; the others are looked at all the same.
    for (index, host) in resource.hosts.iter().take(2).enumerate() {
        let node = node(resource, host, index, findings)?;
        let name = node.as_ref().map(|node| &node.name);
        if let Some(name) = name.filter(|name| nodes.iter().any(|other| other.name == **name)) {
            return Err(Fault::new(
                host.at,
                format!("host `{name}` for the second time: expected two hosts"),
            ));
        }
        let twin = |other: &Node| node.as_ref().is_some_and(|node| node.address == other.address);
        if nodes.iter().any(twin) {
            return Err(Fault::new(
                host.at,
                "both hosts have the same address: expected two different ones",
            ));
        }
        nodes.extend(node);
    }
    match <[Node; 2]>::try_from(nodes) {
        Ok(mut nodes) => {
            second_path(resource, &mut nodes, findings);
            Ok(Some(nodes))
        }
        Err(_) if findings.refusals.is_empty() => {
            Err(Fault::new(resource.at, "expected two hosts"))
        }
        Err(_) => Ok(None),
    }
}

/// One node; `None` if its address or its volume is refused already.
fn node(
    resource: &Resource,
    host: &Host,
    index: usize,
    findings: &mut Findings,
) -> Result<Option<Node>, Fault> {
    let Some(address) = &host.address else {
        if findings.refusals.is_empty() {
            let what =
                "a host without an address: expected `address IP:PORT;`, here or in `connection`";
            return Err(Fault::new(host.at, what));
        }
        return Ok(None);
    };
    let (at, text) = match &host.name {
        Some(word) => (word.at, word.text.clone()),
        None => {
            let text = format!("node-{index}");
            findings.warn(
                host.at,
                format!("`floating` names no host: replace {text} by the name (`uname -n`) of the host with {address}"),
            );
            (host.at, text)
        }
    };
    let name = Name::parse(&text)
        .map_err(|why| Fault::new(at, format!("host `{}`: {why}", shorten(&text))))?;
    let Some(disk) = host.volume.disk.as_ref().or(resource.volume.disk.as_ref()) else {
        if findings.refusals.is_empty() {
            let what = format!("no disk for host `{name}`: expected `disk PATH;`");
            return Err(Fault::new(host.at, what));
        }
        return Ok(None);
    };
    let (address, disk) = (address.clone(), disk.text.clone());
    Ok(Some(Node { name, address, second_address: None, disk }))
}

/// The second path, if the file has one with two ends of its own.
fn second_path(resource: &Resource, nodes: &mut [Node; 2], findings: &mut Findings) {
    let ends: Vec<_> =
        resource.hosts.iter().take(2).filter_map(|host| host.second.as_ref()).collect();
    match ends[..] {
        [] => {}
        [(one, at), (other, _)] => {
            let known = nodes.iter().map(|node| &node.address);
            let mut all: Vec<String> = known.chain([one, other]).map(ToString::to_string).collect();
            all.sort_unstable();
            all.dedup();
            if all.len() < 4 {
                let text = "`path`: the second one is not used: it has an address of the first, or the same twice";
                return findings.warn(*at, text);
            }
            for (node, end) in nodes.iter_mut().zip([one, other]) {
                node.second_address = Some(end.clone());
            }
        }
        [(_, at), ..] => {
            findings.warn(
                *at,
                "`path`: the second one is not used: it has an address of one host only",
            );
        }
    }
}

fn promote_at_start(
    resource: &Resource,
    dual_primary: bool,
    nodes: &[Node; 2],
    findings: &mut Findings,
) -> Result<bool, Fault> {
    let Some(setting) = resource.settings.get("become-primary-on") else {
        return Ok(false);
    };
    let Value::Words(words) = &setting.value else { return Ok(false) };
    let named = |node: &Node| words.iter().any(|word| word == node.name.as_str());
    let known =
        |word: &String| word == "both" || nodes.iter().any(|node| node.name.as_str() == word);
    if let Some(stranger) = words.iter().find(|word| !known(word)) {
        let [first, second] = nodes;
        let what = format!(
            "become-primary-on `{}`: expected both, {} or {}",
            shorten(stranger),
            first.name,
            second.name
        );
        return Err(Fault::new(setting.at, what));
    }
    let [first, second] = nodes;
    let both = words.iter().any(|word| word == "both") || (named(first) && named(second));
    if !both {
        let node = if named(first) { first } else { second };
        findings.warn(
            setting.at,
            format!(
                "become-primary-on {}: the file is the same on both nodes, so it cannot say that: on that node run \
                 `rblk attach {} --primary`",
                node.name, resource.name
            ),
        );
    } else if !dual_primary {
        findings.warn(
            setting.at,
            "become-primary-on both without allow-two-primaries: the node that can first becomes Primary",
        );
    }
    Ok(both)
}

/// From fencing and quorum; said in any case where two Primaries may part.
fn on_peer_lost(
    resource: &Resource,
    dual_primary: bool,
    findings: &mut Findings,
) -> Result<Option<OnPeerLost>, Fault> {
    let set = &resource.settings;
    let by_quorum = by_quorum(resource, findings)?;
    let mut chosen = by_quorum;
    if let Some(fencing) = set.get("fencing") {
        let word = fencing.text();
        let called = ["fence-peer", "outdate-peer"].iter().any(|name| set.get(name).is_some());
        // Quorum holds requests back whatever fencing says.
        let stricter = by_quorum == Some(OnPeerLost::Suspend);
        let (by_fencing, text) = match word.as_str() {
            "resource-and-stonith" if stricter => {
                (OnPeerLost::Fence, "no fence-peer handler is called")
            }
            "resource-and-stonith" if called => (OnPeerLost::Fence, ""),
            "resource-and-stonith" => (
                OnPeerLost::Suspend,
                "there is no fence-peer handler, so nobody says when this node may go on, as with DRBD",
            ),
            "resource-only" => (
                OnPeerLost::Continue,
                "no handler is called; a node that may have missed writes is promoted only with --force",
            ),
            _ => (OnPeerLost::Continue, ""),
        };
        let result = if stricter { OnPeerLost::Suspend } else { by_fencing };
        if !text.is_empty() {
            let key = result.word();
            findings.warn(fencing.at, format!("fencing {word}: on-peer-lost = \"{key}\": {text}"));
        }
        chosen = Some(result);
    }
    if let Some(dual) = set.get("allow-two-primaries").filter(|_| dual_primary) {
        let result = chosen.unwrap_or(OnPeerLost::Continue);
        if result == OnPeerLost::Continue {
            let text = "two Primaries that lose each other both go on, as with DRBD without fencing, and their data \
                        parts: consider on-peer-lost = \"prefer\", \"suspend\" or \"fence\"";
            findings.warn(dual.at, text);
        }
        chosen = Some(result);
    }
    Ok(chosen)
}

fn by_quorum(resource: &Resource, findings: &mut Findings) -> Result<Option<OnPeerLost>, Fault> {
    let Some(quorum) = resource.settings.get("quorum") else { return Ok(None) };
    match quorum.text().as_str() {
        "off" => Ok(None),
        "1" => Ok(Some(OnPeerLost::Continue)),
        text @ ("majority" | "all" | "2") => {
            let text = format!("quorum {text} of two nodes: on-peer-lost = \"suspend\"");
            findings.warn(quorum.at, text);
            Ok(Some(OnPeerLost::Suspend))
        }
        text => {
            let what = format!("`quorum {}`: expected off, majority, all, 1 or 2", shorten(text));
            Err(Fault::new(quorum.at, what))
        }
    }
}

fn split_brain(
    resource: &Resource,
    nodes: &[Node; 2],
    findings: &mut Findings,
) -> Result<Vec<(&'static str, String)>, Fault> {
    let mut found = Vec::new();
    for (option, key, words) in SPLIT_BRAIN {
        let Some(setting) = resource.settings.get(option) else { continue };
        let word = setting.text();
        let node = word.strip_prefix("discard-node-").filter(|_| option == "after-sb-0pri");
        let of_ours = node.is_some_and(|name| nodes.iter().any(|node| node.name.as_str() == name));
        if !(of_ours || words.contains(&word.as_str())) {
            let what =
                format!("`{option} {}`: expected one of {}", shorten(&word), words.join(", "));
            return Err(Fault::new(setting.at, what));
        }
        if word.starts_with("call-pri-lost") {
            findings
                .warn(setting.at, format!("{option} {word}: see the handler pri-lost-after-sb"));
        }
        found.push((key, word));
    }
    Ok(found)
}

/// Commands for events that rblk has, too. `outdate-peer` is an older name of `fence-peer`.
fn handlers(resource: &Resource, findings: &mut Findings) -> Vec<(&'static str, String)> {
    let set = &resource.settings;
    let mut found = Vec::new();
    for kind in HandlerKind::ALL {
        let old = (kind == HandlerKind::FencePeer).then(|| set.get("outdate-peer")).flatten();
        let Some(setting) = set.get(kind.name()).or(old) else { continue };
        let command = setting.text();
        if command.trim().is_empty() {
            findings.note(setting.at, format!("`{}`: it is empty: not taken over", kind.name()));
            continue;
        }
        if command.to_ascii_lowercase().contains("drbd") {
            let text = format!(
                "{}: the command is taken over as it is: see that it needs neither drbdadm nor anything else of DRBD",
                kind.name()
            );
            findings.warn(setting.at, text);
        }
        found.push((kind.name(), command));
    }
    found
}

/// DRBD looks after an idle peer every `ping-int` and waits `ping-timeout`; a peer that does not answer requests is
/// given up after `ko-count` times `timeout`. rblk has one time for both.
fn peer_timeout(resource: &Resource, findings: &mut Findings) -> Option<u64> {
    let set = &resource.settings;
    let names = ["ping-int", "ping-timeout", "timeout", "ko-count"];
    let at: At = names.iter().filter_map(|name| Some(set.get(name)?.at)).min()?;
    let count = |name: &str, default: u64| set.count(name).unwrap_or(default);
    let silence = count("ping-int", 10) * 1_000 + count("ping-timeout", 5) * TENTH_MS;
    let stall = count("timeout", 60) * TENTH_MS * count("ko-count", 7);
    let lost = if stall == 0 { silence } else { silence.min(stall) };
    if lost == DRBD_SILENCE_MS {
        let text = format!(
            "timeout, ko-count, ping-int and ping-timeout make {lost} ms, as by default: rblk's own default of \
             {PEER_TIMEOUT_MS_DEFAULT} ms holds"
        );
        findings.note(at, text);
        return None;
    }
    let ms = lost.clamp(PEER_TIMEOUT_MS_MIN, PEER_TIMEOUT_MS_MAX);
    let text = format!(
        "timeout, ko-count, ping-int and ping-timeout: DRBD gives up a silent peer after {lost} ms, so \
         peer-timeout-ms = {ms}; without that line it is {PEER_TIMEOUT_MS_DEFAULT}"
    );
    findings.note(at, text);
    Some(ms)
}

fn disk_timeout(resource: &Resource, findings: &mut Findings) -> Option<u64> {
    let setting = resource.settings.get("disk-timeout")?;
    let tenths = resource.settings.count("disk-timeout")?;
    if tenths == 0 {
        let text = format!(
            "disk-timeout 0: rblk gives up a disk that is silent for {DISK_TIMEOUT_MS_DEFAULT} ms if its peer can \
             take over"
        );
        findings.note(setting.at, text);
        return None;
    }
    let wanted = tenths * TENTH_MS;
    let ms = wanted.clamp(DISK_TIMEOUT_MS_MIN, DISK_TIMEOUT_MS_MAX);
    if ms != wanted {
        findings
            .note(setting.at, format!("disk-timeout: {wanted} ms is less than rblk allows: {ms}"));
    }
    Some(ms)
}
