//! Finds the resource in a document and reads its sections, those of `common` first.

use super::document::{At, Document, Item, Word};
use super::hosts::{Gathered, Host, Volume, one};
use super::settings::{Level, Settings};
use super::{Fault, Findings, options, shorten};
use crate::config::Name;
use std::collections::BTreeMap;

const SECTIONS: &str = "on, floating, volume, connection, net, disk, syncer, options, startup, handlers, protocol, \
                        device or meta-disk";
/// Paths of a connection that have their like in rblk.
const PATHS_MAX: usize = 2;
/// More reasons than this help nobody.
const NAMES_SHOWN_MAX: usize = 20;

/// Everything that a resource says.
pub(super) struct Resource {
    pub(super) at: At,
    pub(super) name: Name,
    pub(super) settings: Settings,
    pub(super) hosts: Vec<Host>,
    /// What holds for both nodes.
    pub(super) volume: Volume,
    /// Written for DRBD 9.
    pub(super) node_id: Option<At>,
}

/// Reads resource `wanted`, or the only one.
pub(super) fn read(
    document: &Document,
    wanted: Option<&str>,
    findings: &mut Findings,
) -> Result<Resource, Fault> {
    let mut commons = Vec::new();
    let mut resources: Vec<(&Word, &Item)> = Vec::new();
    for item in &document.items {
        match (item.key.text.as_str(), item.body.is_some()) {
            ("common", true) => commons.push(item),
            ("global", true) => {
                findings.note(item.key.at, "`global`: not needed: it is about DRBD's own tools");
            }
            ("skip", true) => findings.note(item.key.at, "`skip`: left out, as DRBD does"),
            ("resource", true) => {
                let name = one(item, "the name of a resource")?;
                if resources.iter().any(|(other, _)| other.text == name.text) {
                    let what = format!(
                        "resource `{}` for the second time: expected it once",
                        shorten(&name.text)
                    );
                    return Err(Fault::new(name.at, what));
                }
                resources.push((name, item));
            }
            (key, _) => {
                let what = format!(
                    "unknown section `{}`: expected global, common, resource or include",
                    shorten(key)
                );
                return Err(Fault::new(item.key.at, what));
            }
        }
    }
    let (name, item) = choose(&resources, wanted)?;
    let name = Name::parse(&name.text)
        .map_err(|why| Fault::new(name.at, format!("resource `{}`: {why}", shorten(&name.text))))?;
    if commons.is_empty() && !document.includes {
        let text = format!(
            "no `common` section here: if /etc/drbd.d/global_common.conf has one, take it in with `rblk import \
             /etc/drbd.conf --resource {name}`"
        );
        findings.note(item.key.at, text);
    }
    let gathered = Gathered {
        settings: Settings::default(),
        volumes: BTreeMap::new(),
        node_id: None,
        findings,
    };
    sections(gathered, name, &commons, item)
}

fn choose<'a>(
    resources: &[(&'a Word, &'a Item)],
    wanted: Option<&str>,
) -> Result<(&'a Word, &'a Item), Fault> {
    let start = At { file: 0, offset: 0 };
    let names: Vec<&str> = resources.iter().map(|(name, _)| name.text.as_str()).collect();
    let names: Vec<String> = names.iter().take(NAMES_SHOWN_MAX).map(|name| shorten(name)).collect();
    let names = names.join(", ");
    let found = resources.iter().find(|(name, _)| Some(name.text.as_str()) == wanted);
    match (wanted, resources, found) {
        (_, [], _) => Err(Fault::new(start, "no resource: expected `resource NAME { ... }`")
            .remedy("name a file of /etc/drbd.d, or /etc/drbd.conf with --resource NAME")),
        (Some(_), _, Some(found)) | (None, [found], _) => Ok(*found),
        (Some(wanted), ..) => {
            Err(Fault::new(start, format!("no resource `{}`: there are {names}", shorten(wanted)))
                .remedy("name one of them with --resource"))
        }
        (None, [_, second, ..], _) => {
            let what = format!("{} resources: {names}", resources.len());
            Err(Fault::new(second.0.at, what).remedy("name one of them with --resource"))
        }
    }
}

/// Options from the outside to the inside, then hosts, volumes and connections.
fn sections(
    mut gathered: Gathered<'_>,
    name: Name,
    commons: &[&Item],
    resource: &Item,
) -> Result<Resource, Fault> {
    gathered.commons(commons)?;
    let mut level = Level::new();
    let mut others = Vec::new();
    for item in resource.body.iter().flatten() {
        if !gathered.option_section(item, &mut level)? {
            others.push(item);
        }
    }
    let mut hosts: Vec<Host> = Vec::new();
    let mut volume = Volume::default();
    let mut connections = Vec::new();
    for item in others {
        match (item.key.text.as_str(), item.body.is_some()) {
            ("on" | "floating", true) => hosts.push(gathered.host(item)?),
            ("volume", true) => gathered.volume(item, &mut volume)?,
            ("connection" | "connection-mesh", true) => connections.push(item),
            ("stacked-on-top-of", true) => gathered.findings.refuse(
                item.key.at,
                "a stacked resource: rblk has two nodes and cannot stand on another resource",
                "import the lower resource; a third copy needs other means, such as backups",
            ),
            ("template-file", false) => {
                gathered.findings.warn(
                    item.key.at,
                    "`template-file`: not read: see that its options are not missed",
                );
            }
            (key, false) if key.starts_with("require-drbd-module-version-") => {
                gathered.findings.note(
                    item.key.at,
                    "`require-drbd-module-version`: not needed: there is no module",
                );
            }
            ("device" | "disk" | "meta-disk" | "flexible-meta-disk", false) => {
                gathered.part_of_volume(item, &mut volume, true)?;
            }
            (key, _) => {
                let what = format!(
                    "unknown keyword `{}` in a resource: expected {SECTIONS}",
                    shorten(key)
                );
                return Err(Fault::new(item.key.at, what));
            }
        }
    }
    gathered.connections(&connections, &mut hosts)?;
    gathered.counts(resource, &hosts)?;
    Ok(Resource {
        at: resource.key.at,
        name,
        settings: gathered.settings,
        hosts,
        volume,
        node_id: gathered.node_id,
    })
}

impl Gathered<'_> {
    fn commons(&mut self, commons: &[&Item]) -> Result<(), Fault> {
        for common in commons {
            let mut level = Level::new();
            for item in common.body.iter().flatten() {
                if !self.option_section(item, &mut level)? {
                    let what = format!(
                        "unknown section `{}` in common: expected options",
                        shorten(&item.key.text)
                    );
                    return Err(Fault::new(item.key.at, what));
                }
            }
        }
        Ok(())
    }

    /// Takes in a section of options; false if it is something else.
    fn option_section(&mut self, item: &Item, level: &mut Level) -> Result<bool, Fault> {
        match (item.key.text.as_str(), item.body.is_some()) {
            (key, true) if options::SECTIONS.contains(&key) => {
                self.settings.section(item, level)?;
            }
            ("protocol", false) => self.settings.option("resource", item, level)?,
            ("proxy", true) => self.proxy(item),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn connections(&mut self, connections: &[&Item], hosts: &mut [Host]) -> Result<(), Fault> {
        if let [_, second, ..] = connections {
            self.findings.refuse(
                second.key.at,
                "more than one connection: rblk has one, between its two nodes",
                "keep one in a copy of the file and import that",
            );
        }
        for connection in connections {
            let mut level = Level::new();
            self.connection(connection, hosts, &mut level, None)?;
        }
        Ok(())
    }

    /// The body of a `connection`, a `connection-mesh` or a `path`.
    fn connection(
        &mut self,
        section: &Item,
        hosts: &mut [Host],
        level: &mut Level,
        path: Option<usize>,
    ) -> Result<(), Fault> {
        let (mut paths, path_of) = (0, path.unwrap_or(0));
        let path = path.is_some();
        for item in section.body.iter().flatten() {
            match (item.key.text.as_str(), item.body.is_some()) {
                ("host", false) => self.end(item, hosts, path_of)?,
                ("hosts", false) if !path => {
                    for name in &item.arguments {
                        known(hosts, name)?;
                    }
                }
                ("net" | "disk", true) if !path => self.settings.section(item, level)?,
                ("volume", true) if !path => self.volume(item, &mut Volume::default())?,
                ("path", true) if !path && paths == PATHS_MAX => {
                    let text = "`path`: a third one is not used: rblk has two at most";
                    self.findings.warn(item.key.at, text);
                }
                ("path", true) if !path => {
                    self.connection(item, hosts, level, Some(paths))?;
                    paths += 1;
                }
                (key, _) => {
                    let expected =
                        if path { "host" } else { "host, hosts, path, net, disk or volume" };
                    let what = format!(
                        "unknown keyword `{}` in {}: expected {expected}",
                        shorten(key),
                        section.key.text
                    );
                    return Err(Fault::new(item.key.at, what));
                }
            }
        }
        Ok(())
    }

    /// `host NAME [address ADDRESS] [port N]`, of the first path or of the second.
    fn end(&mut self, item: &Item, hosts: &mut [Host], path: usize) -> Result<(), Fault> {
        let [name, rest @ ..] = &item.arguments[..] else {
            return Err(Fault::new(
                item.key.at,
                "`host` without a value: expected the name of a host",
            ));
        };
        let index = known(hosts, name)?;
        match rest {
            [] => {}
            [keyword, address @ ..] if keyword.text == "address" => {
                let found = self.address_words(item.key.at, address)?;
                match path {
                    0 => hosts[index].address = found,
                    _ => hosts[index].second = found.map(|found| (found, item.key.at)),
                }
            }
            [keyword, ..] => {
                let what = format!(
                    "`{}` after the name of a host: expected `address` and an address with its port, or `;`",
                    shorten(&keyword.text)
                );
                return Err(Fault::new(keyword.at, what));
            }
        }
        Ok(())
    }

    /// Two hosts, one volume.
    fn counts(&mut self, resource: &Item, hosts: &[Host]) -> Result<(), Fault> {
        if let Some(third) = hosts.get(2) {
            let what = format!("{} hosts: rblk has two nodes, and each has the data", hosts.len());
            self.findings.refuse(
                third.at,
                what,
                "keep two of them in a copy of the file and import that",
            );
        } else if hosts.len() < 2 && self.findings.refusals.is_empty() {
            let what = format!("{} of two hosts: expected two `on NAME {{ ... }}`", hosts.len());
            return Err(Fault::new(resource.key.at, what));
        }
        if self.volumes.len() > 1 {
            let at = self.volumes.values().copied().max().unwrap_or(resource.key.at);
            let what = format!("{} volumes: a resource of rblk has one", self.volumes.len());
            self.findings.refuse(
                at,
                what,
                "make a file for each volume, with a name and a port of its own, and import each; the order of \
                 writes between volumes is not kept then",
            );
        }
        Ok(())
    }
}

/// The index of host `name`.
fn known(hosts: &[Host], name: &Word) -> Result<usize, Fault> {
    let is = |host: &Host| host.name.as_ref().is_some_and(|known| known.text == name.text);
    hosts.iter().position(is).ok_or_else(|| {
        let known: Vec<&str> =
            hosts.iter().filter_map(|host| Some(host.name.as_ref()?.text.as_str())).collect();
        let known: Vec<String> =
            known.iter().take(NAMES_SHOWN_MAX).map(|name| shorten(name)).collect();
        let what = format!(
            "`{}` is no host of this resource: expected one of {}",
            shorten(&name.text),
            known.join(", ")
        );
        Fault::new(name.at, what)
    })
}
