//! What a configuration file may say. The messages themselves are tested through the binary in
//! `tests/cli.rs`.

use super::*;
use crate::transport::Transport;
use proptest::prelude::*;

const GOOD: &str = r#"
[resource]
name = "swarm"

[[node]]
name = "docker1"
address = "192.168.1.1:7790"
disk = "/dev/docker/swarm"

[[node]]
name = "docker2"
address = "[fd00::2]:7790"
disk = "/dev/docker/swarm"
"#;

fn parse(text: &str) -> Result<Config> {
    Config::parse(text.as_bytes(), Path::new("/etc/rblk/swarm.toml"), None)
}

#[test]
fn what_is_printed_parses_to_the_same() {
    for extra in [
        "",
        "promote-at-start = true\npeer-timeout-ms = 2_000\ndual-primary = false\n",
        "dual-primary = true\n",
        "dual-primary = true\nride-through-s = 0\n",
    ] {
        let text = GOOD.replacen("\n\n", &format!("\n{extra}\n"), 1);
        let config = parse(&text).expect("valid");
        let printed = config.to_toml().expect("printable");
        assert_eq!(parse(&printed).expect("valid"), config, "{printed}");
    }
}

#[test]
fn handlers_are_commands_with_a_deadline() {
    let config = parse(GOOD).expect("valid");
    assert!(!config.handlers.any());
    assert_eq!(config.handlers.timeout_s, 60);
    let with = |section: &str| parse(&format!("{GOOD}\n[handlers]\n{section}\n"));
    for kind in HandlerKind::ALL {
        let text = format!("timeout-s = 5\n{} = 'echo \"a\"\t; exit 4'", kind.name());
        let config = with(&text).expect("valid");
        assert_eq!(config.handlers.command(kind), Some("echo \"a\"\t; exit 4"));
        assert_eq!(config.handlers.timeout_s, 5);
        let printed = config.to_toml().expect("printable");
        assert_eq!(parse(&printed).expect("valid"), config, "{printed}");
    }
    let long = format!("split-brain = \"{}\"", "x".repeat(4097));
    for bad in [
        "timeout-s = 0",
        "timeout-s = 3601",
        "split-brain = ' '",
        "split-brain = 1",
        "pri-lost = 'x'",
        &long,
    ] {
        let error = with(bad).expect_err(bad).to_string();
        assert!(error.contains("/etc/rblk/swarm.toml:16"), "{error}");
    }
}

#[test]
fn discarded_data_is_kept_where_a_place_is_named() {
    let config = parse(GOOD).expect("valid");
    assert_eq!(config.saves_to(), None);
    let with = |section: &str| parse(&format!("{GOOD}\n[salvage]\n{section}\n"));
    let directory = "directory = \"/var/lib/rblk/salvage\"\n";
    let config = with(directory).expect("valid");
    let salvage = config.saves_to().expect("on by default");
    assert_eq!(salvage.directory, Path::new("/var/lib/rblk/salvage"));
    assert_eq!(salvage.max_bytes, 10 << 30);
    for (max, bytes) in
        [("1M", 1 << 20), ("1025K", 1025 << 10), ("3T", 3 << 40), ("2048M", 2 << 30)]
    {
        let config = with(&format!("{directory}max = \"{max}\"\nenabled = false")).expect("valid");
        assert_eq!(config.salvage.as_ref().map(|salvage| salvage.max_bytes), Some(bytes));
        assert_eq!(config.saves_to(), None, "one line switches it off");
        let printed = config.to_toml().expect("printable");
        assert_eq!(parse(&printed).expect("valid"), config, "{printed}");
    }
    for bad in [
        "max = \"1G\"",
        "directory = \"salvage\"",
        "directory = 5",
        "directory = \"/s\"\nmax = 5",
        "directory = \"/s\"\nmax = \"5\"",
        "directory = \"/s\"\nmax = \"G\"",
        "directory = \"/s\"\nmax = \"+5G\"",
        "directory = \"/s\"\nmax = \"1.5G\"",
        "directory = \"/s\"\nmax = \"10GB\"",
        "directory = \"/s\"\nmax = \"1K\"",
        "directory = \"/s\"\nmax = \"99999999T\"",
        "directory = \"/s\"\nenabled = 1",
        "directory = \"/s\"\nkeep = 1",
    ] {
        let error = with(bad).expect_err(bad).to_string();
        assert!(error.contains("/etc/rblk/swarm.toml:1"), "{error}");
    }
}

#[test]
fn a_second_path_has_two_ends_of_its_own() {
    let config = parse(GOOD).expect("valid");
    assert!(config.nodes.iter().all(|node| node.addresses().count() == 1));
    let printed = config.to_toml().expect("printable");
    assert!(!printed.contains("second-address"), "{printed}");
    let with = |seconds: [&str; 2]| {
        let mut lines = seconds.into_iter();
        let mut text = String::new();
        for part in GOOD.split_inclusive("disk = \"/dev/docker/swarm\"\n") {
            text += part;
            match lines.next() {
                Some("") | None => {}
                Some(address) => text += &format!("second-address = {address}\n"),
            }
        }
        parse(&text)
    };
    let config = with(["\"10.1.0.1:7790\"", "\"docker2-direct:7790\""]).expect("valid");
    let [_, second] = &config.nodes;
    let all: Vec<String> = second.addresses().map(Address::to_string).collect();
    assert_eq!(all, ["[fd00::2]:7790", "docker2-direct:7790"]);
    let printed = config.to_toml().expect("printable");
    assert_eq!(parse(&printed).expect("valid"), config, "{printed}");
    // The line is of the value, or of the [[node]] that has none.
    for (line, bad) in [
        (9, ["\"10.1.0.1\"", "\"10.1.0.2:7790\""]),
        (9, ["5", "\"10.1.0.2:7790\""]),
        (9, ["\"192.168.1.1:7790\"", "\"10.1.0.2:7790\""]),
        (13, ["\"[fd00::2]:7790\"", "\"10.1.0.2:7790\""]),
        (15, ["\"10.1.0.1:7790\"", "\"10.1.0.1:7790\""]),
        (15, ["\"10.1.0.1:7790\"", "\"192.168.1.1:7790\""]),
        (15, ["\"10.1.0.1:7790\"", "\"[fd00::2]:7790\""]),
        (15, ["\"10.1.0.1:7790\"", "\":7790\""]),
        (9, ["\"192.168.1.1:7791\"", "\"10.1.0.2:7790\""]),
        (14, ["", "\"10.1.0.2:7790\""]),
        (11, ["\"10.1.0.1:7790\"", ""]),
    ] {
        let error = with(bad).expect_err("wrong").to_string();
        assert!(
            error.contains(&format!("/etc/rblk/swarm.toml:{line}: ")),
            "{bad:?} {line}: {error}"
        );
    }
}

#[test]
fn a_fence_needs_a_command() {
    let fence = GOOD.replacen("\n\n", "\non-peer-lost = \"fence\"\n", 1);
    let error = parse(&fence).expect_err("no command").to_string();
    assert!(error.contains("swarm.toml:4") && error.contains("fence-peer"), "{error}");
    let config = parse(&format!("{fence}\n[handlers]\nfence-peer = 'x'\n")).expect("valid");
    assert_eq!(config.on_peer_lost, OnPeerLost::Fence);
}

#[test]
fn the_volume_depends_on_names_and_order_only() {
    let config = parse(GOOD).expect("valid");
    let moved = parse(&GOOD.replace("192.168.1.1", "10.0.0.1")).expect("valid");
    assert_eq!(config.volume_id(), moved.volume_id());
    let mut swapped = config.clone();
    swapped.nodes.swap(0, 1);
    assert_ne!(config.volume_id(), swapped.volume_id());
    let renamed = parse(&GOOD.replace("swarm\"", "swarn\"")).expect("valid");
    assert_ne!(config.volume_id(), renamed.volume_id());
    assert_ne!(config.in_sync_generation(), renamed.in_sync_generation());
}

#[test]
fn a_node_is_found_by_its_name() {
    let config = parse(GOOD).expect("valid");
    assert_eq!(config.local(Some("docker2")).expect("known"), NodeId(1));
    assert_eq!(config.peer_of(NodeId(1)).name.as_str(), "docker1");
    let error = config.local(Some("docker2.example.org")).expect_err("stranger");
    assert!(error.to_string().contains("docker1 and docker2"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Config::parse(&bytes, Path::new("x"), None);
    }

    #[test]
    fn a_file_with_a_mistake_never_panics(
        at in 0..GOOD.len(), cut in 0..20usize, put in "[\\[\\]{}=\"'.#a-z0-9\n\\-]{0,20}",
    ) {
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{put}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(error) = parse(&text) {
            prop_assert!(error.to_string().contains("/etc/rblk/swarm.toml:"), "{error}");
        }
    }
}

#[test]
fn policies_after_a_split_brain_are_read_and_printed() {
    use crate::wire::policy::{After0pri, After1pri, After2pri, RrConflict};
    let table = "\n[resource.split-brain]\nafter-0pri = \"discard-node-docker2\"\nafter-1pri = \"consensus\"\n\
                 after-2pri = \"violently-as0p\"\nrr-conflict = \"call-pri-lost\"\n";
    let text = GOOD.replacen("\n\n", table, 1);
    let config = parse(&text).expect("valid");
    assert_eq!(config.policies.after_0pri, After0pri::DiscardSecondNode);
    assert_eq!(config.policies.after_1pri, After1pri::Consensus);
    assert_eq!(config.policies.after_2pri, After2pri::ViolentlyAs0p);
    assert_eq!(config.policies.rr_conflict, RrConflict::CallPriLost);
    let printed = config.to_toml().expect("printable");
    assert!(printed.contains("after-0pri = \"discard-node-docker2\""), "{printed}");
    assert_eq!(parse(&printed).expect("valid"), config, "{printed}");
}

#[test]
fn the_link_is_locked_unless_the_file_says_otherwise() {
    let open = parse(&format!("{GOOD}\n[net]\nsecurity = \"none\"\n")).expect("valid");
    assert_eq!((open.net.security, open.lacks_key()), (Security::None, None));
    let config = parse(GOOD).expect("valid");
    assert_eq!(config.net.security, Security::Tls);
    assert_eq!(config.net.key_file, Path::new("/etc/rblk/swarm.key"));
    let key = |letter: &str| format!("key = \"ed25519:{}=\"\n", letter.repeat(42) + "A");
    let mut nodes = GOOD.replacen("\n\n[[node]]", &format!("\n\n[[node]]\n{}", key("A")), 1);
    let locked = |nodes: &str| parse(&format!("{nodes}\n[net]\nsecurity = \"tls\"\n"));
    let lacks = |config: &Config| config.lacks_key().map(|node| node.name.to_string());
    assert_eq!(lacks(&config).as_deref(), Some("docker1"));
    assert_eq!(lacks(&locked(&nodes).expect("valid")).as_deref(), Some("docker2"));
    nodes.push_str(&format!("{}old-{}", key("B"), key("C")));
    let config = locked(&nodes).expect("valid");
    assert_eq!((config.net.security, config.lacks_key()), (Security::Tls, None));
    assert_eq!(config.net.transport, Transport::Tcp);
    let rdma = parse(&format!("{nodes}\n[net]\ntransport = \"rdma\"\n")).expect("valid");
    assert_eq!(rdma.net.transport, Transport::Rdma);
    assert_eq!(parse(&rdma.to_toml().expect("printable")).expect("valid"), rdma);
    assert_eq!(config.nodes[1].keys().count(), 2);
    let printed = config.to_toml().expect("printable");
    assert_eq!(parse(&printed).expect("valid"), config, "{printed}");
    for bad in [
        "security = \"ssl\"",
        "security = true",
        "key-file = \"swarm.key\"",
        "transport = \"ib\"",
        "tls = true",
    ] {
        let error = parse(&format!("{nodes}\n[net]\n{bad}\n")).expect_err(bad).to_string();
        assert!(error.contains("/etc/rblk/swarm.toml:"), "{error}");
    }
}
