//! From the bytes of a configuration file to a [`Config`], or to an error with file, line and what was
//! expected.

use super::section::{Found, Section, Source, shorten};
use super::{
    Address, Config, HandlerKind, Handlers, Metrics, Name, Net, Node, OnPeerLost, Salvage,
    handlers, metrics, net, salvage, split_brain,
};
use crate::error::{Error, Result};
use crate::limits::{
    DISK_TIMEOUT_MS_MAX, DISK_TIMEOUT_MS_MIN, DUAL_RIDE_THROUGH_S_DEFAULT, PEER_TIMEOUT_MS_MAX,
    PEER_TIMEOUT_MS_MIN, RIDE_THROUGH_S_MAX,
};
use crate::wire::policy::Policies;
use serde::Serialize;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Keys of `[resource]`.
const RESOURCE: [&str; 9] = [
    "name",
    "dual-primary",
    "promote-at-start",
    "on-peer-lost",
    "prefer",
    "ride-through-s",
    "peer-timeout-ms",
    "disk-timeout-ms",
    "split-brain",
];
/// What is wrong with an address that stands there twice, unless it is the `address` of both nodes.
const FOUR: &str = "an address for the second time: expected four different ones in the `address` and the \
                    `second-address` of both nodes";
/// Values of `on-peer-lost` that a later version will know.
const ON_PEER_LOST_LATER: [&str; 1] = ["witness"];

/// The file as it would have to be written to give every value.
#[derive(Serialize)]
pub(super) struct Effective<'a> {
    resource: Resource<'a>,
    net: &'a Net,
    handlers: &'a Handlers,
    #[serde(skip_serializing_if = "Option::is_none")]
    salvage: Option<&'a Salvage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<&'a Metrics>,
    node: &'a [Node; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Resource<'a> {
    name: &'a Name,
    dual_primary: bool,
    promote_at_start: bool,
    on_peer_lost: OnPeerLost,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefer: Option<&'a Name>,
    ride_through_s: u64,
    peer_timeout_ms: u64,
    disk_timeout_ms: u64,
    split_brain: split_brain::Effective,
}

impl<'a> From<&'a Config> for Effective<'a> {
    fn from(config: &'a Config) -> Effective<'a> {
        Effective {
            resource: Resource {
                name: &config.name,
                dual_primary: config.policies.dual_primary,
                promote_at_start: config.promote_at_start,
                on_peer_lost: config.on_peer_lost,
                prefer: config.prefer.as_ref(),
                ride_through_s: config.ride_through_s,
                peer_timeout_ms: config.peer_timeout_ms,
                disk_timeout_ms: config.disk_timeout_ms,
                split_brain: split_brain::Effective::of(&config.policies, &config.nodes),
            },
            net: &config.net,
            handlers: &config.handlers,
            salvage: config.salvage.as_ref(),
            metrics: config.metrics.as_ref(),
            node: &config.nodes,
        }
    }
}

/// See [`Config::parse`].
pub(super) fn parse(bytes: &[u8], file: &Path, expected: Option<&Name>) -> Result<Config> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or("");
            let at = good.len()..good.len();
            let source = Source { file, text: good };
            return Err(source.error(&at, "not UTF-8: expected a TOML text file"));
        }
    };
    let source = Source { file, text };
    let document = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        source.error(&span, format!("not TOML: {}", error.message().replace('\n', "; ")))
    })?;
    let root = Section::new(source, "the file", document.get_ref(), 0..0);
    root.only(&["resource", "net", "handlers", "salvage", "metrics", "node"])?;
    let Some(resource) = root.table("resource", "[resource]")? else {
        return Err(source.error(&(0..0), "there is no [resource]: expected one with a name"));
    };
    resource.only(&RESOURCE)?;
    let name = resource_name(source, &resource, expected)?;
    let commands = root.table("handlers", "[handlers]")?;
    let commands = commands.map(|section| handlers::parse(source, &section)).transpose()?;
    let place = root.table("salvage", "[salvage]")?;
    let place = place.map(|section| salvage::parse(source, &section)).transpose()?;
    let scrapes = root.table("metrics", "[metrics]")?;
    let metrics = scrapes.map(|section| metrics::parse(source, &section)).transpose()?;
    let nodes = nodes(source, &root)?;
    let mut config = Config { salvage: place, metrics, ..Config::default_for(name, nodes) };
    net::read(source, &root, &mut config)?;
    let dual_primary = resource.boolean("dual-primary")?.is_some_and(|found| found.value);
    if dual_primary {
        config.ride_through_s = DUAL_RIDE_THROUGH_S_DEFAULT;
    }
    if let Some(found) = resource.boolean("promote-at-start")? {
        config.promote_at_start = found.value;
    }
    if let Some(ms) =
        resource.integer("peer-timeout-ms", PEER_TIMEOUT_MS_MIN..PEER_TIMEOUT_MS_MAX + 1)?
    {
        config.peer_timeout_ms = ms;
    }
    if let Some(ms) =
        resource.integer("disk-timeout-ms", DISK_TIMEOUT_MS_MIN..DISK_TIMEOUT_MS_MAX + 1)?
    {
        config.disk_timeout_ms = ms;
    }
    if let Some(seconds) = resource.integer("ride-through-s", 0..RIDE_THROUGH_S_MAX + 1)? {
        config.ride_through_s = seconds;
    }
    if let Some(commands) = commands {
        config.handlers = commands;
    }
    let lost = resource.string("on-peer-lost", "\"continue\"")?;
    if let Some(found) = &lost {
        config.on_peer_lost = on_peer_lost(source, found)?;
        let command = config.handlers.command(HandlerKind::FencePeer);
        if config.on_peer_lost == OnPeerLost::Fence && command.is_none() {
            let wrong =
                "on-peer-lost = \"fence\" needs a command: expected `fence-peer` in [handlers]";
            return Err(source.error(&found.span, wrong));
        }
    }
    config.prefer = prefer(source, &resource, lost.as_ref(), &config)?;
    let policies = split_brain::parse(source, &resource, &config.nodes)?;
    config.policies = Policies { dual_primary, ..policies };
    Ok(config)
}

/// The node that goes on: there is one exactly if `on-peer-lost` asks for it.
fn prefer(
    source: Source<'_>,
    resource: &Section<'_>,
    lost: Option<&Found<&str>>,
    config: &Config,
) -> Result<Option<Name>> {
    let [first, second] = config.nodes.each_ref().map(|node| node.name.as_str());
    let wanted = config.on_peer_lost == OnPeerLost::Prefer;
    match (resource.string("prefer", "\"docker1\"")?, lost) {
        (Some(found), _) if !wanted => {
            let wrong = "`prefer` needs on-peer-lost = \"prefer\": expected both lines, or neither";
            Err(source.error(&found.span, wrong))
        }
        (Some(found), _) if found.value != first && found.value != second => {
            let value = shorten(found.value);
            let wrong = format!("prefer = \"{value}\": expected \"{first}\" or \"{second}\"");
            Err(source.error(&found.span, wrong))
        }
        (Some(found), _) => Ok(Some(name(source, &found)?)),
        (None, Some(lost)) if wanted => {
            let wrong =
                format!("on-peer-lost = \"prefer\" needs a node: expected prefer = \"{first}\"");
            Err(source.error(&lost.span, wrong))
        }
        (None, _) => Ok(None),
    }
}

fn resource_name(
    source: Source<'_>,
    resource: &Section<'_>,
    expected: Option<&Name>,
) -> Result<Name> {
    let found = resource.required("name", "\"swarm\"")?;
    let name = name(source, &found)?;
    match expected {
        Some(expected) if *expected != name => Err(source.error(
            &found.span,
            format!(
                "the resource is named \"{name}\": expected \"{expected}\", as the command and \
                 the name of the file say"
            ),
        )),
        _ => Ok(name),
    }
}

fn name(source: Source<'_>, found: &Found<&str>) -> Result<Name> {
    Name::parse(found.value).map_err(|expected| {
        source.error(&found.span, format!("\"{}\": {expected}", shorten(found.value)))
    })
}

fn on_peer_lost(source: Source<'_>, found: &Found<&str>) -> Result<OnPeerLost> {
    const EXPECTED: &str = "expected \"continue\", \"suspend\", \"prefer\" or \"fence\"";
    let value = found.value;
    match value {
        "continue" => return Ok(OnPeerLost::Continue),
        "suspend" => return Ok(OnPeerLost::Suspend),
        "prefer" => return Ok(OnPeerLost::Prefer),
        "fence" => return Ok(OnPeerLost::Fence),
        _ => {}
    }
    if ON_PEER_LOST_LATER.contains(&value) {
        let wrong = format!("on-peer-lost = \"{value}\"");
        return Err(source.unavailable(&found.span, &wrong, EXPECTED));
    }
    let wrong = format!("on-peer-lost = \"{}\": {EXPECTED}", shorten(value));
    Err(source.error(&found.span, wrong))
}

/// Both nodes, different from each other.
fn nodes(source: Source<'_>, root: &Section<'_>) -> Result<[Node; 2]> {
    let list = match root.get("node") {
        None => &[][..],
        Some((value, span)) => match value.as_array() {
            Some(array) => array,
            None => return Err(root.wrong_type("node", value, &span, "two tables [[node]]")),
        },
    };
    let mut nodes = Vec::with_capacity(2);
    for (index, entry) in list.iter().enumerate() {
        let Some(table) = entry.get_ref().as_table() else {
            let span = entry.span();
            return Err(root.wrong_type("node", entry.get_ref(), &span, "two tables [[node]]"));
        };
        if index == 2 {
            let wrong = format!("there are {} [[node]]: expected exactly two", list.len());
            return Err(source.error(&entry.span(), wrong));
        }
        let section = Section::new(source, "[[node]]", table, entry.span());
        nodes.push(node(source, &section, nodes.first())?);
    }
    let end = source.text.trim_end().len();
    <[Node; 2]>::try_from(nodes).map_err(|nodes| {
        let wrong = format!("there are {} [[node]]: expected exactly two", nodes.len());
        source.error(&(end..end), wrong)
    })
}

fn node(source: Source<'_>, section: &Section<'_>, other: Option<&Node>) -> Result<Node> {
    section.only(&["name", "address", "disk", "second-address", "key", "old-key"])?;
    let twice = |found: &Found<&str>, key: &str| -> Error {
        let wrong = format!(
            "both nodes have the {key} \"{}\": expected two different ones",
            shorten(found.value)
        );
        source.error(&found.span, wrong)
    };
    let found = section.required("name", "\"docker1\"")?;
    let name = name(source, &found)?;
    if other.is_some_and(|other| other.name == name) {
        return Err(twice(&found, "name"));
    }
    let found = section.required("address", "\"192.168.1.1:7790\"")?;
    let address = address(source, "address", &found)?;
    if other.is_some_and(|other| other.address == address) {
        return Err(twice(&found, "address"));
    }
    if other.is_some_and(|other| other.second_address.as_ref() == Some(&address)) {
        return Err(source.error(&found.span, FOUR));
    }
    let second_address = second_address(source, section, &address, other)?;
    let found = section.required("disk", "\"/dev/vg/swarm\"")?;
    let disk = PathBuf::from(found.value);
    if !disk.is_absolute() || found.value.contains('\0') {
        let wrong = format!(
            "disk \"{}\": expected an absolute path such as \"/dev/vg/swarm\"",
            shorten(found.value)
        );
        return Err(source.error(&found.span, wrong));
    }
    let (key, old_key) = net::keys(source, section, other)?;
    Ok(Node { name, address, second_address, disk, key, old_key })
}

fn address(source: Source<'_>, key: &str, found: &Found<&str>) -> Result<Address> {
    Address::parse(found.value).map_err(|expected| {
        let wrong = format!("{key} \"{}\": {expected}", shorten(found.value));
        source.error(&found.span, wrong)
    })
}

/// The end of the second path of a node whose end of the first is `first`.
fn second_address(
    source: Source<'_>,
    section: &Section<'_>,
    first: &Address,
    other: Option<&Node>,
) -> Result<Option<Address>> {
    const KEY: &str = "second-address";
    const BOTH: &str =
        "a second path has two ends: expected `second-address` in both [[node]], or in neither";
    let Some(found) = section.string(KEY, "\"10.1.0.1:7790\"")? else {
        return match other {
            Some(Node { second_address: Some(_), .. }) => Err(source.error(&section.span(), BOTH)),
            _ => Ok(None),
        };
    };
    let address = address(source, KEY, &found)?;
    if other.is_some_and(|other| other.second_address.is_none()) {
        return Err(source.error(&found.span, BOTH));
    }
    if first.host() == address.host() {
        let wrong = "the host of `address` again: expected that of another network, or no \
                     `second-address`: one network is one path";
        return Err(source.error(&found.span, wrong));
    }
    let others = other.iter().flat_map(|other| other.addresses());
    if others.chain([first]).any(|known| *known == address) {
        return Err(source.error(&found.span, FOUR));
    }
    Ok(Some(address))
}
