//! The `rblk` command as its users see it: the real binary, its exit codes, and what it says when
//! something is wrong.

use rblk::ctl::proto::{Event, Reply, Request};
use rblk::ctl::server::{Handler, Server};
use rblk::ctl::status::{
    Connection, ConnectionState, Device, DiskState, PeerDevice, ReplicationState, Resource, Role,
};
use rblk::error::{Error, Kind};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

const GOOD: &str = r#"[resource]
name = "swarm"

[[node]]
name = "docker1"
address = "192.168.1.1:7790"
disk = "/dev/docker/swarm"

[[node]]
name = "docker2"
address = "192.168.1.2:7790"
disk = "/dev/docker/swarm"
"#;

/// A directory with a configuration, and the command with it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(config: &str) -> Place {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join("swarm.toml"), config).expect("written");
        Place { dir }
    }

    /// With disks of `bytes` bytes in the directory.
    fn with_disks(bytes: u64) -> Place {
        let place = Place::new("");
        let mut text = GOOD.to_owned();
        for name in ["one", "two"] {
            let path = place.path(name);
            std::fs::File::create(&path).expect("made").set_len(bytes).expect("sized");
            text = text.replacen("/dev/docker/swarm", path.to_str().expect("UTF-8"), 1);
        }
        std::fs::write(place.path("swarm.toml"), text).expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rblk"));
        command.args(arguments).arg("--config").arg(self.path("swarm.toml"));
        command.arg("--run-dir").arg(self.path("run"));
        command
    }

    fn rblk(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("runs")
    }

    fn serve(&self) -> Server {
        Server::start(&self.path("run"), "swarm", Box::new(Fake::default())).expect("starts")
    }
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(output), stderr(output));
}

fn assert_fails(output: &Output, code: i32, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
}

/// A daemon that becomes connected with the third question, and can be promoted then.
#[derive(Default)]
struct Fake {
    asked: AtomicUsize,
}

impl Handler for Fake {
    fn call(&self, request: Request) -> Reply {
        match request {
            Request::Status => {
                let asked = self.asked.fetch_add(1, Ordering::SeqCst);
                Reply::Status { status: Box::new(status(asked >= 2)) }
            }
            Request::Events { after } => Reply::Events {
                events: vec![Event {
                    unix_ms: 1_790_000_000_000,
                    line: if after.is_some() { "change 1" } else { "exists -" }.to_owned(),
                }],
                next: 1,
                missed: 0,
            },
            Request::Promote { force: true }
            | Request::Demote
            | Request::Detach { .. }
            | Request::HandOver
            | Request::Disconnect
            | Request::Connect { discard_my_data: true, .. }
            | Request::Verify
            | Request::StopVerify
            | Request::Repair
            | Request::Resize
            | Request::Invalidate { peer: true } => Reply::Ok,
            Request::Connect { discard_my_data: false, .. }
            | Request::Invalidate { peer: false } => {
                Error::new(Kind::Refused, "Cannot do that to swarm")
                    .why("this node is Primary")
                    .remedy("run `rblk demote swarm` first")
                    .into()
            }
            Request::Promote { force: false } if self.asked.fetch_add(1, Ordering::SeqCst) >= 2 => {
                Reply::Ok
            }
            Request::Promote { force: false } => Error::new(Kind::Refused, "Cannot promote swarm")
                .why("the disk is Inconsistent")
                .remedy("wait for the resync")
                .into(),
        }
    }
}

fn status(connected: bool) -> Resource {
    let mut peer = Connection {
        peer_node_id: 1,
        name: "docker2".to_owned(),
        peer_devices: vec![PeerDevice { out_of_sync: 4096, ..PeerDevice::default() }],
        connection_state: ConnectionState::Connecting,
        ..Connection::default()
    };
    if connected {
        peer.connection_state = ConnectionState::Connected;
        peer.peer_role = Role::Primary;
        peer.peer_devices[0].replication_state = ReplicationState::SyncTarget;
        peer.peer_devices[0].peer_disk_state = DiskState::UpToDate;
    }
    let device = Device { disk_state: DiskState::Inconsistent, size: 1 << 20, ..Device::default() };
    Resource {
        name: "swarm".to_owned(),
        role: Role::Secondary,
        devices: vec![device],
        connections: vec![peer],
        ..Resource::default()
    }
}

/// What is changed in the good file (first match), to what, the line to blame, and what must be said.
const MISTAKES: &[(&str, &str, usize, &[&str])] = &[
    ("[resource]", "[resource", 1, &["not TOML"]),
    (
        "[resource]",
        "",
        2,
        &["unknown key `name` in the file", "resource, net, handlers, salvage, metrics, node"],
    ),
    ("[resource]\nname = \"swarm\"", "", 1, &["no [resource]", "expected"]),
    ("[resource]\nname = \"swarm\"", "resource = 1", 1, &["integer", "expected a table"]),
    ("name = \"swarm\"", "", 1, &["no `name`", "expected name = "]),
    ("\"swarm\"", "7", 2, &["has the type integer", "expected a string"]),
    ("\"swarm\"", "\"sw arm\"", 2, &["expected a name of 1 to 64"]),
    ("\"swarm\"", "\"../swarm\"", 2, &["expected a name of 1 to 64"]),
    ("\"swarm\"", "\"other\"", 2, &["named \"other\"", "expected \"swarm\""]),
    ("\n\n", "\nname = \"x\"\n", 3, &["not TOML", "duplicate key"]),
    ("\n\n", "\npeer-timeout = 9\n", 3, &["unknown key `peer-timeout`", "peer-timeout-ms"]),
    ("\n\n", "\npeer-timeout-ms = 499\n", 3, &["499", "from 500 to 25000"]),
    ("\n\n", "\npeer-timeout-ms = -1\n", 3, &["-1", "from 500 to 25000"]),
    ("\n\n", "\npeer-timeout-ms = 1e3\n", 3, &["float", "from 500 to 25000"]),
    ("\n\n", "\ndisk-timeout-ms = 99999999999999999999\n", 3, &["expected a whole number"]),
    ("\n\n", "\npromote-at-start = \"yes\"\n", 3, &["string", "expected true or false"]),
    ("\n\n", "\non-peer-lost = \"give-up\"\n", 3, &["give-up", "expected \"continue\""]),
    ("\n\n", "\non-peer-lost = \"fence\"\n", 3, &["needs a command", "`fence-peer` in [handlers]"]),
    ("\n\n", "\non-peer-lost = \"witness\"\n", 3, &["not available in this version", "fence"]),
    (
        "[resource]",
        "[handlers]\nsplit-brian = \"x\"\n[resource]",
        2,
        &["`split-brian` in [handlers]", "split-brain"],
    ),
    ("\n\n", "\ndual-primary = 1\n", 3, &["expected true or false"]),
    (
        "\n\n",
        "\n[resource.split-brain]\nafter-3pri = \"x\"\n",
        4,
        &["unknown key `after-3pri`", "after-0pri"],
    ),
    ("\n\n", "\n[resource.split-brain]\nafter-0pri = 0\n", 4, &["expected a string"]),
    (
        "\n\n",
        "\n[resource.split-brain]\nafter-0pri = \"consensus\"\n",
        4,
        &["one of disconnect, discard-younger"],
    ),
    (
        "\n\n",
        "\n[resource.split-brain]\nafter-0pri = \"discard-node-x\"\n",
        4,
        &["discard-node-docker1, discard-node-docker2"],
    ),
    ("\n\n", "\n[resource.split-brain]\nrr-conflict = \"auto-discard\"\n", 4, &["retry-connect"]),
    ("\n\n", "\nride-through-s = 3601\n", 3, &["`ride-through-s` is 3601", "from 0 to 3600"]),
    ("\n\n", "\non-peer-lost = \"prefer\"\n", 3, &["needs a node", "prefer = \"docker1\""]),
    ("\n\n", "\nprefer = \"docker1\"\n", 3, &["needs on-peer-lost = \"prefer\"", "both lines"]),
    ("\n\n", "\nprefer = \"x\"\non-peer-lost = \"prefer\"\n", 3, &["prefer = \"x\"", "docker2"]),
    ("[[node]]", "[node]", 9, &["not TOML", "duplicate key"]),
    ("\"docker1\"", "\"\"", 5, &["expected a name of 1 to 64"]),
    ("name = \"docker1\"", "", 4, &["[[node]] has no `name`", "expected"]),
    ("192.168.1.1:7790", "192.168.1.1", 6, &["expected host:port"]),
    ("192.168.1.1:7790", "192.168.1.256:7790", 6, &["expected host:port"]),
    ("192.168.1.1:7790", "192.168.1.2:7790", 11, &["both nodes", "two different ones"]),
    ("docker2", "docker1", 10, &["both nodes have the name", "two different ones"]),
    ("\"/dev/docker/swarm\"", "\"disk.img\"", 7, &["expected an absolute path"]),
    ("disk =", "disc =", 7, &["unknown key `disc` in [[node]]", "name, address, disk"]),
];

#[test]
fn every_mistake_is_told_with_file_line_and_expectation() {
    let mut wrong = Vec::new();
    for (from, to, line, parts) in MISTAKES {
        assert!(GOOD.contains(from), "{from}");
        let place = Place::new(&GOOD.replacen(from, to, 1));
        let output = place.rblk(&["config", "swarm"]);
        assert_fails(&output, 1, &["why: ", "do:  "]);
        assert_eq!(stdout(&output), "");
        let at = format!("swarm.toml:{line}\n");
        let text = stderr(&output);
        let told = |part: &&str| text.contains(part);
        if !told(&at.as_str()) || !parts.iter().all(told) {
            wrong.push(format!("{to:?}: expected line {line}, {parts:?}:\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn too_few_and_too_many_nodes_are_told() {
    let (one, _) = GOOD.rsplit_once("\n[[node]]").expect("two nodes");
    let output = Place::new(one).rblk(&["config", "swarm"]);
    assert_fails(&output, 1, &["swarm.toml:7\n", "there are 1 [[node]]", "exactly two"]);
    let three = format!("{GOOD}\n[[node]]\nname = \"docker3\"\n");
    let output = Place::new(&three).rblk(&["config", "swarm"]);
    assert_fails(&output, 1, &["swarm.toml:14\n", "there are 3 [[node]]", "exactly two"]);
    let output = Place::new("[resource]\nname = \"swarm\"\n").rblk(&["config", "swarm"]);
    assert_fails(&output, 1, &["there are 0 [[node]]"]);
    let output = Place::new(&one.replace("[[node]]", "[node]")).rblk(&["config", "swarm"]);
    assert_fails(&output, 1, &["swarm.toml:4\n", "expected two tables [[node]]"]);
}

#[test]
fn unreadable_configurations_are_explained() {
    let place = Place::new("");
    std::fs::write(place.path("swarm.toml"), b"[resource]\nname = \"\xff\"").expect("written");
    assert_fails(&place.rblk(&["config", "swarm"]), 1, &["swarm.toml:2\n", "not UTF-8"]);
    std::fs::write(place.path("swarm.toml"), vec![b'#'; (1 << 20) + 1]).expect("written");
    assert_fails(&place.rblk(&["config", "swarm"]), 1, &["larger than 1048576 bytes"]);
    std::fs::remove_file(place.path("swarm.toml")).expect("removed");
    assert_fails(&place.rblk(&["config", "swarm"]), 1, &["No such file", "do:  write"]);
    std::fs::create_dir(place.path("swarm.toml")).expect("made");
    assert_fails(&place.rblk(&["config", "swarm"]), 1, &["not a regular file"]);
}

#[test]
fn the_effective_configuration_parses_to_itself() {
    let good = format!("{GOOD}\n[net]\nsecurity = \"none\"\n");
    let first = Place::new(&good).rblk(&["config", "swarm"]);
    assert_done(&first);
    for part in ["peer-timeout-ms = 4000", "on-peer-lost = \"continue\""] {
        assert!(stdout(&first).contains(part), "{}", stdout(&first));
    }
    let place = Place::new(stdout(&first));
    let second = place.rblk(&["config", "swarm"]);
    assert_eq!(stdout(&first), stdout(&second));
    let json: serde_json::Value =
        serde_json::from_str(stdout(&place.rblk(&["config", "swarm", "--json"]))).expect("JSON");
    assert_eq!(json["resource"]["disk-timeout-ms"], 30_000);
    assert_eq!(json["node"][1]["name"], "docker2");
    assert!(stderr(&first).contains("is not a node of swarm"), "{}", stderr(&first));
    let as_node = place.rblk(&["config", "swarm", "--node", "docker1"]);
    assert_eq!((stderr(&as_node), stdout(&as_node)), ("", stdout(&first)));
}

#[test]
fn every_verb_has_an_example_within_80_columns() {
    let verbs = [
        "create",
        "attach",
        "detach",
        "promote",
        "primary",
        "demote",
        "secondary",
        "connect",
        "disconnect",
        "invalidate",
        "status",
        "wait",
        "stats",
        "explain",
        "events",
        "config",
        "pair",
        "join",
        "keygen",
        "dump-meta",
        "salvage",
        "import",
        "demo",
    ];
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rblk")).args(arguments).output();
        let output = output.expect("runs");
        assert_done(&output);
        let text = stdout(&output).to_owned();
        assert!(text.contains("Example"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
        text
    };
    let all = help(&["--help"]);
    for verb in verbs {
        assert!(all.contains(verb), "{verb} in {all}");
        help(&[verb, "--help"]);
    }
    for verb in ["list", "export", "delete"] {
        help(&["salvage", verb, "--help"]);
    }
    assert!(!help(&["attach", "--help"]).contains("--faults"));
}

#[test]
fn wrong_usage_ends_with_2() {
    let place = Place::new(GOOD);
    for arguments in [
        &["frobnicate"][..],
        &["promote"],
        &["promote", "a/b"],
        &["connect"],
        &["connect", "swarm", "--discard-data"],
        &["disconnect", "swarm", "--peer"],
        &["invalidate", "--peer"],
        &["wait", "swarm", "happy"],
        &["wait", "swarm", "synced", "--timeout", "-1"],
        &["attach", "swarm", "--front", "iscsi"],
        &["dump-meta", "a b"],
    ] {
        assert_fails(&place.rblk(arguments), 2, &[]);
    }
}

#[test]
fn a_host_that_is_no_node_is_told_which_there_are() {
    let place = Place::new(GOOD);
    let output = place.rblk(&["attach", "swarm", "--node", "docker3"]);
    assert_fails(&output, 1, &["docker3 is not a node of swarm", "docker1 and docker2"]);
}

#[test]
fn a_daemon_that_does_not_run_is_told() {
    let place = Place::new(GOOD);
    for verb in ["status", "promote", "demote", "detach", "connect", "disconnect", "invalidate"] {
        let output = place.rblk(&[verb, "swarm"]);
        assert_fails(&output, 1, &["does not run", "rblk attach swarm"]);
    }
    let output = place.rblk(&["status"]);
    assert_done(&output);
    assert_eq!(stdout(&output), "No resource runs on this node.\n");
    assert_eq!(stdout(&place.rblk(&["status", "--json"])), "[]\n");
    // The socket of a killed daemon.
    std::fs::create_dir(place.path("run")).expect("made");
    let socket = place.path("run").join("swarm.sock");
    drop(std::os::unix::net::UnixListener::bind(socket).expect("bound"));
    assert!(stdout(&place.rblk(&["status"])).contains("swarm does not run"));
}

#[test]
fn status_shows_what_the_daemon_says() {
    let place = Place::new(GOOD);
    let _server = place.serve();
    let output = place.rblk(&["status", "swarm"]);
    assert_done(&output);
    assert_eq!(
        stdout(&output),
        "swarm role:Secondary\n  disk:Inconsistent open:no size:1.0 GiB\n  \
         docker2 connection:Connecting\n    out-of-sync:4.0 MiB\n"
    );
    let output = place.rblk(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!(json[0]["connections"][0]["peer_devices"][0]["out-of-sync"], 4096);
    assert_eq!(json[0]["devices"][0]["disk-state"], "Inconsistent");
}

#[test]
fn commands_reach_the_daemon_and_its_refusals_come_back() {
    let place = Place::new(GOOD);
    let _server = place.serve();
    let output = place.rblk(&["promote", "swarm"]);
    assert_fails(
        &output,
        1,
        &[
            "rblk: Cannot promote swarm\n",
            "  why: the disk is Inconsistent\n",
            "  do:  wait for the resync\n",
        ],
    );
    assert_done(&place.rblk(&["primary", "swarm", "--force"]));
    assert_done(&place.rblk(&["secondary", "swarm"]));
    assert_done(&place.rblk(&["disconnect", "swarm"]));
    for (verb, option, said) in [
        ("connect", "--discard-my-data", "swarm looks for the other node"),
        ("invalidate", "--peer", "The other node's data of swarm is out of sync"),
    ] {
        let output = place.rblk(&[verb, "swarm", option]);
        assert_done(&output);
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        // Without the option the fake refuses: it was not lost on the way.
        assert_fails(
            &place.rblk(&[verb, "swarm"]),
            1,
            &["this node is Primary", "rblk demote swarm"],
        );
    }
}

#[test]
fn a_promotion_may_wait_and_says_once_what_for() {
    let place = Place::new(GOOD);
    let _server = place.serve();
    let waited = place.rblk(&["promote", "swarm", "--wait"]);
    assert_done(&waited);
    let said = stderr(&waited);
    assert_eq!(said.matches("Waiting. ").count(), 1, "{said}");
    assert!(said.contains("the disk is Inconsistent") && said.contains("is Primary"), "{said}");
    assert_fails(&place.rblk(&["promote", "swarm", "--wait", "--force"]), 2, &["--force"]);
}

#[test]
fn udev_learns_only_of_devices_that_have_a_daemon() {
    let place = Place::new(GOOD);
    let server = place.serve();
    std::fs::write(place.path("run").join("swarm.ublk"), "3\n").expect("written");
    std::fs::write(place.path("run").join("dead.ublk"), "4\n").expect("written");
    let name = |number| stdout(&place.rblk(&["udev", number])).trim().to_owned();
    assert_eq!([name("3"), name("4"), name("33")], ["RBLK_NAME=swarm", "", ""]);
    drop(server);
    // A child that another test is starting holds the lock of this process until it runs its program.
    assert!((0..100).any(|_| name("3").is_empty()), "nobody serves it");
}

#[test]
fn wait_ends_when_the_state_is_reached_or_the_time_is_over() {
    let place = Place::new(GOOD);
    let output = place.rblk(&["wait", "swarm", "connected", "--timeout", "0.1"]);
    assert_fails(&output, 5, &["swarm is not connected", "does not run"]);
    let _server = place.serve();
    let output = place.rblk(&["wait", "swarm", "connected", "--timeout", "60"]);
    assert_done(&output);
    assert!(stderr(&output).contains("connection:Connecting"), "{}", stderr(&output));
    let output = place.rblk(&["wait", "swarm", "synced", "--timeout", "0.1"]);
    assert_fails(&output, 5, &["swarm is not in sync", "disk:Inconsistent"]);
}

fn create(place: &Place, node: &str, options: &[&str]) -> Output {
    place.rblk(&[&["create", "swarm", "--node", node], options].concat())
}

fn dump(place: &Place, target: &str) -> (i32, serde_json::Value) {
    let output = place.rblk(&["dump-meta", target, "--json", "--node", "docker1"]);
    let json = serde_json::from_str(stdout(&output)).expect("JSON");
    (output.status.code().expect("code"), json)
}

#[test]
fn disks_created_in_sync_share_a_generation() {
    let place = Place::with_disks(8 << 20);
    let output = create(&place, "docker1", &["--in-sync"]);
    assert_done(&output);
    assert!(stderr(&output).contains("on docker2, if not yet done"), "{}", stderr(&output));
    assert_done(&create(&place, "docker2", &["--in-sync"]));
    let (code, one) = dump(&place, "swarm");
    assert_eq!(code, 0);
    let (_, two) = dump(&place, place.path("two").to_str().expect("UTF-8"));
    assert!(one["superblock"]["current"].is_string());
    assert_eq!(one["superblock"]["current"], two["superblock"]["current"]);
    assert_eq!(one["superblock"]["volume"], two["superblock"]["volume"]);
    assert_eq!((&one["superblock"]["node"], &two["superblock"]["node"]), (&0.into(), &1.into()));
    assert_eq!(one["superblock"]["consistent"], true);
}

#[test]
fn a_fresh_disk_knows_nothing_and_is_not_overwritten_unasked() {
    let place = Place::with_disks(8 << 20);
    assert_done(&create(&place, "docker1", &[]));
    let (code, json) = dump(&place, "swarm");
    assert_eq!(code, 0);
    assert_eq!(json["superblock"]["current"], serde_json::Value::Null);
    assert_eq!(json["superblock"]["consistent"], false);
    assert_eq!(json["bitmap"]["out-of-sync-bytes"], 0);
    let before = std::fs::read(place.path("one")).expect("read");
    let output = create(&place, "docker1", &["--in-sync"]);
    assert_fails(&output, 1, &["there is rblk metadata of volume", "--force"]);
    assert_eq!(std::fs::read(place.path("one")).expect("read"), before);
    assert_done(&create(&place, "docker1", &["--in-sync", "--force"]));
    assert_eq!(dump(&place, "swarm").1["superblock"]["consistent"], true);
}

#[test]
fn create_leaves_the_data_alone_and_respects_file_systems() {
    let place = Place::with_disks(8 << 20);
    let mut content = vec![0xa5; 8 << 20];
    content[0x438..0x43a].copy_from_slice(b"\x53\xef");
    std::fs::write(place.path("one"), &content).expect("written");
    assert_fails(&create(&place, "docker1", &[]), 1, &["there is an ext2/ext3/ext4"]);
    assert_eq!(std::fs::read(place.path("one")).expect("read"), content);
    assert_done(&create(&place, "docker1", &["--force"]));
    let (_, json) = dump(&place, "swarm");
    let data = json["layout"]["data-bytes"].as_u64().expect("number") as usize;
    assert!(data > 7 << 20);
    let after = std::fs::read(place.path("one")).expect("read");
    assert!(after[..data] == content[..data]);
}

#[test]
fn create_refuses_disks_that_are_too_small_missing_or_in_use() {
    let place = Place::with_disks(1 << 20);
    assert_fails(&create(&place, "docker1", &[]), 1, &["the disk has 1048576 bytes"]);
    std::fs::remove_file(place.path("one")).expect("removed");
    assert_fails(&create(&place, "docker1", &[]), 1, &["Cannot create metadata for swarm", "do:"]);
    let place = Place::with_disks(8 << 20);
    let file = std::fs::File::open(place.path("one")).expect("open");
    file.lock().expect("locked");
    assert_fails(&create(&place, "docker1", &["--force"]), 1, &["in use"]);
}

/// Overwrites `len` bytes at `offset`.
fn damage(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(path).expect("open");
    file.write_all_at(bytes, offset).expect("written");
}

#[test]
fn damaged_metadata_shows_what_is_readable_and_why_not_the_rest() {
    let place = Place::with_disks(8 << 20);
    assert_done(&create(&place, "docker1", &["--in-sync"]));
    let whole = dump(&place, "swarm").1;
    let at = |key: &str| whole["layout"][key].as_u64().expect("number");
    let disk = place.path("one");

    damage(&disk, at("superblock-0") + 200, b"x");
    damage(&disk, at("activity-log") + 3 * 4096 + 130, b"x");
    damage(&disk, at("bitmap") + 1000, b"x");
    let (code, json) = dump(&place, "swarm");
    assert_eq!(code, 1);
    assert_eq!(json["superblock"], whole["superblock"]);
    let error = json["superblocks"][0]["error"].as_str().expect("text");
    assert!(error.contains("checksum"), "{error}");
    assert_eq!(json["activity-log"]["bad"][0]["number"], 3);
    assert_eq!(json["bitmap"]["bad-pages"], 1);

    damage(&disk, at("superblock-1") + 200, b"x");
    let before = std::fs::read(&disk).expect("read");
    let (code, json) = dump(&place, "swarm");
    assert_eq!(code, 1);
    assert_eq!(json["superblock"], serde_json::Value::Null);
    // By path alone, the ring still tells whose it was.
    let (_, by_path) = dump(&place, disk.to_str().expect("UTF-8"));
    assert_eq!(by_path["activity-log"]["bad"].as_array().expect("list").len(), 1);
    let text = place.rblk(&["dump-meta", "swarm", "--node", "docker1"]);
    assert_fails(&text, 1, &["superblock copy 0", "superblock copy 1", "pages of the bitmap"]);
    assert!(stdout(&text).contains("page 0: The checksum is wrong"), "{}", stdout(&text));
    assert_eq!(std::fs::read(&disk).expect("read"), before);
}

#[test]
fn a_disk_without_metadata_is_told_so() {
    let place = Place::with_disks(8 << 20);
    let (code, json) = dump(&place, "swarm");
    assert_eq!(code, 1);
    let error = json["superblock-error"].as_str().expect("text");
    assert!(error.contains("all zeroes"), "{error}");
}

#[test]
fn another_resource_s_disk_is_not_taken_for_ours() {
    let place = Place::with_disks(8 << 20);
    assert_done(&create(&place, "docker1", &[]));
    let output = place.rblk(&["dump-meta", "swarm", "--node", "docker2"]);
    assert_fails(&output, 1, &["not sound"]);
    std::fs::copy(place.path("one"), place.path("two")).expect("copied");
    let output = place.rblk(&["dump-meta", "swarm", "--node", "docker2"]);
    assert_fails(&output, 1, &["no usable superblock"]);
    assert!(stdout(&output).contains("belongs to node 0"), "{}", stdout(&output));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let place = Place::new(GOOD);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rblk"));
    command.args(["config", "swarm", "--config"]).arg(place.path("swarm.toml"));
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let output = command.stdout(writer).output().expect("runs");
    assert_done(&output);
}

#[test]
fn import_prints_toml_on_stdout_and_everything_else_on_stderr() {
    let place = Place::new(GOOD);
    let file = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name).display().to_string()
    };
    let output = place.rblk(&["import", &file("single-83.res")]);
    assert_done(&output);
    assert!(
        stderr(&output).contains("single-83.res:10:5: note: `unplug-watermark 128`"),
        "{}",
        stderr(&output)
    );
    let output = place.rblk(&["import", &file("timeouts-84.res")]);
    assert_done(&output);
    let taken = Place::new(stdout(&output)).rblk(&["config", "db"]);
    assert_done(&taken);
    assert!(stdout(&taken).contains("peer-timeout-ms = 3000"), "{}", stdout(&taken));

    let output = place.rblk(&["import", &file("drbd.conf"), "--resource", "a"]);
    assert_done(&output);
    assert!(stdout(&output).contains("dual-primary = true"), "{}", stdout(&output));

    for (name, parts) in [
        ("refused.res", &["7 things", "protocol A", "do:  "][..]),
        ("unknown-option.res", &["unknown-option.res:3:5", "unknown option `protcol`", "protocol"]),
        ("drbd.conf", &["--resource"]),
        ("drbd.d", &["not a regular file"]),
        ("absent.res", &["No such file"]),
    ] {
        let output = place.rblk(&["import", &file(name)]);
        assert_fails(&output, 1, parts);
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn events_are_told_as_they_come_until_nobody_reads() {
    let place = Place::new(GOOD);
    let _server = place.serve();
    let output = place.rblk(&["events", "swarm", "--now", "--timestamps"]);
    assert_done(&output);
    assert_eq!(stdout(&output), "2026-09-21T14:13:20.000Z exists -\n");
    let mut command = place.command(&["events", "swarm"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("a line").expect("text");
    assert_eq!([line(), line(), line()], ["exists -", "change 1", "change 1"]);
    drop(lines);
    assert!(child.wait().expect("it ends by itself").success());
}

#[test]
fn an_explanation_can_be_read_by_programs() {
    let place = Place::new(GOOD);
    let _server = place.serve();
    let output = place.rblk(&["explain", "swarm", "--json"]);
    assert_done(&output);
    let json: serde_json::Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!(json["resource"], "swarm");
    assert!(json["questions"].is_array() && json["commands"].is_array());
    let output = place.rblk(&["explain", "swarm"]);
    assert_eq!(stdout(&output), "swarm: nothing stands in the way.\n");
}

/// A place with `[salvage]` and a set in it, of blocks 3 to 5 of a volume of ten; the name of the set.
fn place_with_set() -> (Place, String) {
    let place = Place::new("");
    let kept = place.path("kept");
    let text = format!("{GOOD}\n[salvage]\ndirectory = {kept:?}\n");
    std::fs::write(place.path("swarm.toml"), text).expect("written");
    let disk = place.path("disk");
    std::fs::write(&disk, [7; 10 * 4096]).expect("written");
    let disk = rblk::io::disk::Backing::open(&disk, rblk::io::disk::OpenMode::Inspect);
    let disk = disk.expect("opened");
    let order = rblk::salvage::Order {
        store: rblk::salvage::Store::new(&kept, "swarm"),
        max_bytes: 1 << 20,
        disk: disk.handle().expect("descriptors"),
        marks: rblk::salvage::Marks::of(&[0b11_1000], 10),
        header: rblk::salvage::Header {
            format: rblk::salvage::FORMAT,
            resource: "swarm".to_owned(),
            volume: "A".repeat(32),
            node: "docker2".to_owned(),
            generation: "B".repeat(32),
            source: "C".repeat(32),
            base: None,
            saved_unix_ms: 1_790_000_000_000,
            volume_bytes: 10 * 4096,
            blocks: 0,
            extents: 0,
        },
    };
    let saved = rblk::salvage::save(&order, &rblk::salvage::Progress::default());
    (place, saved.expect("saved").id)
}

#[test]
fn what_was_saved_is_listed_read_back_and_deleted() {
    let (place, set) = place_with_set();
    assert_eq!(set, "20260921T141320Z-BBBBBBBB");
    let output = place.rblk(&["salvage", "list", "--extents"]);
    assert_done(&output);
    for part in [
        "swarm 20260921T141320Z-BBBBBBBB\n  12.0 KiB in 3 blocks, saved 2026-09-21T14:13:20Z on docker2\n",
        "parted after   nothing known: everything was saved",
        "bytes 12288 to 24576 (12.0 KiB)",
    ] {
        assert!(stdout(&output).contains(part), "{part:?} in {}", stdout(&output));
    }
    let output = place.rblk(&["salvage", "list", "swarm", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!(listed[0]["set"], set.as_str());
    assert_eq!((&listed[0]["bytes"], &listed[0]["extents"]), (&12288.into(), &().into()));
    let image = place.path("image");
    let to = image.to_str().expect("UTF-8");
    assert_done(&place.rblk(&["salvage", "export", "swarm", "2026", "--output", to]));
    let bytes = std::fs::read(&image).expect("readable");
    assert_eq!(bytes.len(), 10 * 4096);
    assert!(
        bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| { *byte == if (3 * 4096..6 * 4096).contains(&at) { 7 } else { 0 } })
    );
    let export = ["salvage", "export", "swarm", &set, "--output", to];
    assert_fails(&place.rblk(&export), 1, &["it is there already", "--force"]);
    assert_done(&place.rblk(&[&export[..], &["--force"]].concat()));
    let delete = ["salvage", "delete", "swarm", &set];
    assert_fails(&place.rblk(&delete), 1, &["exist nowhere else", "12.0 KiB", "--force"]);
    assert_done(&place.rblk(&[&delete[..], &["--force"]].concat()));
    assert_fails(&place.rblk(&delete), 2, &["there is none", "rblk salvage list swarm"]);
    let output = place.rblk(&["salvage", "list", "swarm"]);
    assert_eq!(stdout(&output), "Nothing is saved of swarm.\n");
}

#[test]
fn a_damaged_set_is_told_and_leaves_no_image() {
    let (place, set) = place_with_set();
    let folder = place.path("kept").join("swarm").join(&set);
    let image = place.path("image");
    let to = image.to_str().expect("UTF-8");
    let export = ["salvage", "export", "swarm", &set, "--output", to];
    damage(&folder.join("data"), 5000, b"x");
    assert_fails(&place.rblk(&export), 1, &["bytes 12288 to 24576", "checksum"]);
    assert!(!image.exists(), "half an image looks like a whole one");
    damage(&folder.join("index"), 0, b"{\"rblk-salvage\":9,");
    assert_fails(&place.rblk(&export), 1, &["format 9", "newer"]);
    let output = place.rblk(&["salvage", "list", "swarm"]);
    assert_fails(&output, 1, &["Not every set is sound", "format 9"]);
    assert!(stdout(&output).contains("damaged: it has format 9"), "{}", stdout(&output));
    assert_fails(&place.rblk(&["salvage", "delete", "swarm", &set]), 1, &["format 9", "--force"]);
    assert_done(&place.rblk(&["salvage", "delete", "swarm", &set, "--force"]));
}

#[test]
fn without_a_place_nothing_is_saved_and_another_can_be_named() {
    let (with, _) = place_with_set();
    let place = Place::new(GOOD);
    let list = ["salvage", "list", "swarm"];
    assert_fails(&place.rblk(&list), 1, &["has no [salvage]", "--directory"]);
    assert_eq!(stdout(&place.rblk(&["salvage", "list"])), "Nothing is saved.\n");
    let kept = with.path("kept");
    for list in [&["salvage", "list"][..], &list] {
        let there = ["--directory", kept.to_str().expect("UTF-8")];
        let output = place.rblk(&[list, &there].concat());
        assert_done(&output);
        assert!(stdout(&output).contains("20260921T141320Z-BBBBBBBB"), "{}", stdout(&output));
    }
    let output = place.rblk(&["connect", "swarm", "--no-salvage"]);
    assert_fails(&output, 2, &["--discard-my-data"]);
}
