//! The nodes of a resource and what they keep it on: `on`, `floating`, `volume`, `address`.

use super::document::{At, Item, Word};
use super::settings::{Level, Settings, number};
use super::{Fault, Findings, options, shorten};
use crate::config::Address;
use std::collections::BTreeMap;

const STATEMENTS: &str = "address, device, disk, meta-disk, node-id or a volume section";
const EXTERNAL: &str = "`meta-disk` names a disk of its own";
const EXTERNAL_DO: &str = "rblk keeps its metadata at the end of the data disk, which is all data here: grow that \
                           disk, write `meta-disk internal` in a copy of the file, and import that";

/// What a volume lies on.
#[derive(Clone, Default, Debug)]
pub(super) struct Volume {
    pub(super) disk: Option<Word>,
    device: Option<At>,
}

/// A node.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) at: At,
    /// None if it is known by its address alone.
    pub(super) name: Option<Word>,
    pub(super) address: Option<Address>,
    /// Its end of a second path, and where that stands.
    pub(super) second: Option<(Address, At)>,
    pub(super) volume: Volume,
}

/// What is gathered while the sections of a resource are read.
pub(super) struct Gathered<'a> {
    pub(super) settings: Settings,
    pub(super) volumes: BTreeMap<u64, At>,
    /// The first `node-id`: only DRBD 9 has it.
    pub(super) node_id: Option<At>,
    pub(super) findings: &'a mut Findings,
}

impl Gathered<'_> {
    /// A host section.
    pub(super) fn host(&mut self, section: &Item) -> Result<Host, Fault> {
        let floating = section.key.text == "floating";
        let at = section.key.at;
        let mut host =
            Host { at, name: None, address: None, second: None, volume: Volume::default() };
        if floating {
            host.address = self.address(section)?;
        } else {
            host.name = Some(one(section, "the name of a host")?.clone());
        }
        let mut level = Level::new();
        for item in section.body.iter().flatten() {
            match (item.key.text.as_str(), item.body.is_some()) {
                ("address", false) if !floating => {
                    once(host.address.is_some(), item)?;
                    host.address = self.address(item)?;
                }
                ("node-id", false) => {
                    let word = one(item, "a number")?;
                    if number(&word.text).is_none_or(|id| id > 31) {
                        let what = format!("`node-id {}`: expected 0 to 31", shorten(&word.text));
                        return Err(Fault::new(word.at, what));
                    }
                    self.node_id.get_or_insert(item.key.at);
                }
                ("volume", true) => self.volume(item, &mut host.volume)?,
                (key, true) if options::SECTIONS.contains(&key) => {
                    self.settings.section(item, &mut level)?;
                }
                ("proxy", _) => self.proxy(item),
                _ => self.part_of_volume(item, &mut host.volume, true)?,
            }
        }
        Ok(host)
    }

    /// `volume N { ... }`.
    pub(super) fn volume(&mut self, section: &Item, volume: &mut Volume) -> Result<(), Fault> {
        let word = one(section, "the number of a volume")?;
        let Some(count) = number(&word.text).filter(|count| *count < 65_535) else {
            let what = format!("`volume {}`: expected 0 to 65534", shorten(&word.text));
            return Err(Fault::new(word.at, what));
        };
        self.volumes.entry(count).or_insert(section.key.at);
        // More than one is refused at the end; until then they must not mix.
        let mut other = Volume::default();
        let volume = if self.volumes.len() > 1 { &mut other } else { volume };
        let mut level = Level::new();
        for item in section.body.iter().flatten() {
            match (item.key.text.as_str(), item.body.is_some()) {
                ("disk", true) => self.settings.section(item, &mut level)?,
                ("tiebreaker", false) => {
                    self.findings.note(
                        item.key.at,
                        "`tiebreaker`: not needed: there are two nodes and no quorum",
                    );
                }
                _ => self.part_of_volume(item, volume, false)?,
            }
        }
        Ok(())
    }

    /// `device`, `disk` and `meta-disk`; outside of a volume section they mean volume 0 (`short`).
    pub(super) fn part_of_volume(
        &mut self,
        item: &Item,
        volume: &mut Volume,
        short: bool,
    ) -> Result<(), Fault> {
        let at = item.key.at;
        match (item.key.text.as_str(), item.body.is_some()) {
            ("device", false) => {
                once(volume.device.is_some(), item)?;
                if item.arguments.is_empty() || item.arguments.len() > 3 {
                    return Err(Fault::new(
                        at,
                        "`device`: expected a path, `minor` and a number, or both",
                    ));
                }
                volume.device = Some(at);
                let text = "`device`: rblk numbers its devices itself: `rblk status NAME` names it, and \
                            /dev/rblk/NAME links to it where the udev rule is installed";
                self.findings.note(at, text);
            }
            ("disk", false) => {
                once(volume.disk.is_some(), item)?;
                volume.disk = Some(self.disk(item)?);
            }
            ("meta-disk" | "flexible-meta-disk", false) => match item.arguments.first() {
                Some(word) if word.text == "internal" && item.arguments.len() == 1 => {}
                Some(_) => self.findings.refuse(at, EXTERNAL, EXTERNAL_DO),
                None => {
                    return Err(Fault::new(at, "`meta-disk` without a value: expected `internal`"));
                }
            },
            (key, _) => {
                let what =
                    format!("unknown keyword `{}` here: expected {STATEMENTS}", shorten(key));
                return Err(Fault::new(at, what));
            }
        }
        if short {
            self.volumes.entry(0).or_insert(at);
        }
        Ok(())
    }

    fn disk(&mut self, item: &Item) -> Result<Word, Fault> {
        let word = one(item, "the path of a disk")?;
        if word.text == "none" {
            self.findings.refuse(
                word.at,
                "a node without a disk: rblk has two nodes, and each has one",
                "leave that node out of a copy of the file and import that",
            );
        } else if !word.text.starts_with('/') || word.text.contains(char::is_control) {
            let what = format!("`disk {}`: expected an absolute path", shorten(&word.text));
            return Err(Fault::new(word.at, what));
        }
        Ok(word.clone())
    }

    /// `address [FAMILY] IP:PORT`, also with the port as `port N`; the same in `host` and `floating`.
    pub(super) fn address(&mut self, item: &Item) -> Result<Option<Address>, Fault> {
        self.address_words(item.key.at, &item.arguments)
    }

    pub(super) fn address_words(
        &mut self,
        at: At,
        words: &[Word],
    ) -> Result<Option<Address>, Fault> {
        const EXPECTED: &str =
            "expected an address and a port, such as 192.168.1.1:7790 or ipv6 [fd00::1]:7790";
        if let Some(via) = words.iter().find(|word| word.text == "via" && !word.quoted) {
            self.refuse_proxy(via.at);
            return Ok(None);
        }
        let words = match words {
            [family, rest @ ..] if ["ipv4", "ipv6"].contains(&family.text.as_str()) => rest,
            [family, ..] if ["ssocks", "sdp"].contains(&family.text.as_str()) => {
                let what = format!(
                    "the address family `{}`: rblk speaks TCP over IPv4 and IPv6",
                    family.text
                );
                self.findings.refuse(
                    family.at,
                    what,
                    "give the node an IP address in a copy of the file",
                );
                return Ok(None);
            }
            all => all,
        };
        let (first, text) = match words {
            [first] => (first, first.text.clone()),
            [first, keyword, port] if keyword.text == "port" => {
                (first, format!("{}:{}", first.text, port.text))
            }
            _ => return Err(Fault::new(at, format!("an address: {EXPECTED}"))),
        };
        let address = Address::parse(&text);
        address.map(Some).map_err(|_| {
            Fault::new(first.at, format!("the address `{}`: {EXPECTED}", shorten(&text)))
        })
    }

    pub(super) fn proxy(&mut self, item: &Item) {
        self.refuse_proxy(item.key.at);
    }

    fn refuse_proxy(&mut self, at: At) {
        self.findings.refuse(
            at,
            "DRBD Proxy: rblk mirrors synchronously and has no proxy",
            "a link that needs one is too slow for rblk; else leave it out of a copy of the file",
        );
    }
}

/// The only argument of `item`.
pub(super) fn one<'a>(item: &'a Item, expected: &str) -> Result<&'a Word, Fault> {
    let key = &item.key.text;
    match &item.arguments[..] {
        [word] => Ok(word),
        [] => Err(Fault::new(item.key.at, format!("`{key}` without a value: expected {expected}"))),
        [_, stray, ..] => {
            let what =
                format!("`{}` after the value of `{key}`: expected `;`", shorten(&stray.text));
            Err(Fault::new(stray.at, what))
        }
    }
}

fn once(already: bool, item: &Item) -> Result<(), Fault> {
    if already {
        let what = format!("`{}` is set twice here: expected it once", item.key.text);
        return Err(Fault::new(item.key.at, what));
    }
    Ok(())
}
