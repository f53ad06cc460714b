//! Changes a configuration where it must be changed, and leaves the rest as somebody wrote it: comments, order, spaces.

use crate::config::Name;
use crate::error::{Error, Kind, Result};
use crate::key::PublicKey;
use std::path::Path;
use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

/// `text` with these keys of both nodes, no older ones, and TLS. The same if it has them already.
pub(super) fn paired(text: &str, keys: [(&Name, &PublicKey); 2]) -> Result<String> {
    let mut document = parse(text)?;
    let mut found = 0;
    each_node(&mut document, |node| {
        let name = node.get("name").and_then(Item::as_str).unwrap_or_default();
        let Some((_, key)) = keys.iter().find(|(of, _)| of.as_str() == name) else { return };
        found += 1;
        set(node, "key", &key.to_string());
        node.remove("old-key");
    });
    let net = net(&mut document)?;
    set(net, "security", "tls");
    match found {
        2 => Ok(document.to_string()),
        _ => Err(strange()),
    }
}

/// `text` with the private key of this node in `key_file`.
///
/// # Errors
/// It is no configuration, or the file has a name that is no text.
pub fn keep_key_in(text: &str, key_file: &Path) -> Result<String> {
    let file = key_file.to_str().ok_or_else(|| {
        Error::new(Kind::Usage, "Cannot name the key's file in the configuration")
            .why("its name is not UTF-8")
            .remedy("name another with --key-file")
    })?;
    let mut document = parse(text)?;
    set(net(&mut document)?, "key-file", file);
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<DocumentMut> {
    text.parse().map_err(|error: toml_edit::TomlError| strange().source(error))
}

fn strange() -> Error {
    Error::new(Kind::Config, "Cannot change the configuration")
        .why("its form is not understood")
        .remedy("write it as `rblk config --help` shows")
}

/// `[[node]]`, or `node = [{...}, {...}]`.
fn each_node(document: &mut DocumentMut, mut change: impl FnMut(&mut dyn TableLike)) {
    match document.get_mut("node") {
        Some(Item::ArrayOfTables(nodes)) => nodes.iter_mut().for_each(|node| change(node)),
        Some(Item::Value(Value::Array(nodes))) => {
            let tables = nodes.iter_mut().filter_map(Value::as_inline_table_mut);
            tables.for_each(|node| change(node));
        }
        _ => {}
    }
}

/// `[net]`, made if it is missing.
fn net(document: &mut DocumentMut) -> Result<&mut dyn TableLike> {
    let net = document.entry("net").or_insert_with(|| Item::Table(Table::new()));
    net.as_table_like_mut().ok_or_else(strange)
}

/// Sets a value; the comment beside it stays.
fn set(table: &mut dyn TableLike, key: &str, text: &str) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) if old.as_str() == Some(text) => {}
        Some(old) => {
            let decor = old.decor().clone();
            *old = Value::from(text);
            *old.decor_mut() = decor;
        }
        None => {
            table.insert(key, toml_edit::value(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Security};
    use proptest::prelude::*;

    const PLAIN: &str = r#"# Ours.
[resource]
name = "swarm"   # the name

[[node]]
name = "docker1"
address = "192.168.1.1:7790"  # eth1
disk = "/dev/docker/swarm"

# The other.
[[node]]
name = "docker2"
address = "192.168.1.2:7790"
disk = "/dev/docker/swarm"
# the end
"#;

    fn keys() -> [PublicKey; 2] {
        [1, 2].map(|byte| PublicKey::from_bytes([byte; 32]))
    }

    fn edit(text: &str) -> Result<String> {
        let [one, two] = ["docker1", "docker2"].map(|name| Name::parse(name).expect("good"));
        let [first, second] = keys();
        paired(text, [(&one, &first), (&two, &second)])
    }

    fn good(text: &str) -> Config {
        let config = Config::parse(text.as_bytes(), Path::new("x.toml"), None).expect(text);
        assert_eq!(config.net.security, Security::Tls, "{text}");
        let found = config.nodes.each_ref().map(|node| node.key.expect("a key"));
        assert_eq!(found, keys(), "{text}");
        assert!(config.nodes.iter().all(|node| node.old_key.is_none()), "{text}");
        config
    }

    #[test]
    fn all_that_stood_there_still_stands_there() {
        let edited = edit(PLAIN).expect("good");
        good(&edited);
        let mut rest = edited.as_str();
        for line in PLAIN.lines() {
            let at = rest.find(line).unwrap_or_else(|| panic!("{line} is missing:\n{edited}"));
            rest = &rest[at + line.len()..];
        }
        assert_eq!(edited.lines().filter(|line| line.starts_with("key = ")).count(), 2);
        assert_eq!(edit(&edited).expect("good"), edited, "a second time changes nothing");
    }

    #[test]
    fn every_form_of_the_file_is_changed() {
        let [one, two] = keys();
        let three = PublicKey::from_bytes([3; 32]);
        let with = |nets: &str, key: &str| {
            let nodes = PLAIN.replacen("docker/swarm\"\n", &format!("docker/swarm\"\n{key}\n"), 1);
            format!("{nodes}{nets}\n")
        };
        let two_paths = PLAIN
            .replace(":7790\"  # eth1", ":7790\"  # eth1\nsecond-address = \"10.1.0.1:7790\" # two")
            .replace(".2:7790\"", ".2:7790\"\nsecond-address = \"10.1.0.2:7790\"");
        let inline = "net = {security = \"none\"}\nnode = [{name = \"docker1\", address = \"a:1\", disk = \"/d\"},\n \
                      {name = \"docker2\", address = \"b:1\", disk = \"/d\"}, # two\n]\n[resource]\nname = \"swarm\"\n";
        for text in [
            inline.to_owned(),
            format!("net.security = \"none\" # open\n{PLAIN}"),
            with("[net]\nsecurity = 'none' # open\n", &format!("key = \"{one}\" # mine")),
            with("[net]\nkey-file = \"/k\"\n", &format!("key = \"{three}\"\nold-key = \"{one}\"")),
            with("[net]\n# nothing\n", &format!("key = \"{two}\"")),
            PLAIN.replace('\n', "\r\n"),
            two_paths,
        ] {
            let edited = edit(&text).expect(&text);
            let second =
                good(&edited).nodes.iter().filter_map(|node| node.second_address.clone()).count();
            assert_eq!(second, text.matches("second-address").count(), "{edited}");
            for comment in ["# two", "# open", "# mine", "# nothing", "# the end"] {
                assert_eq!(edited.contains(comment), text.contains(comment), "{edited}");
            }
        }
        assert!(edit(&PLAIN.replace("docker2", "docker3")).is_err());
        assert!(edit("net = 5").is_err());
        assert!(edit("[").is_err());
    }

    #[test]
    fn a_place_for_the_key_is_named() {
        let edited = edit(PLAIN).expect("good");
        let named = keep_key_in(&edited, Path::new("/keys/\"one\"")).expect("good");
        assert_eq!(good(&named).net.key_file, Path::new("/keys/\"one\""));
        let again = keep_key_in(&named, Path::new("/keys/two")).expect("good");
        assert_eq!(good(&again).net.key_file, Path::new("/keys/two"));
    }

    proptest! {
        #[test]
        fn a_file_with_a_mistake_never_panics(
            at in 0..PLAIN.len(), cut in 0..20usize, put in "[\\[\\]{}=\"'.#a-z0-9\n\\-]{0,20}",
        ) {
            let end = (at + cut).min(PLAIN.len());
            let text = format!("{}{put}{}", &PLAIN[..at], &PLAIN[end..]);
            let _edited = edit(&text);
        }
    }
}
