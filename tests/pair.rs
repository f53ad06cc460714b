//! Two bare nodes as their users pair them: `rblk pair` on one, `rblk join` on the other, in folders of one machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder for each of two nodes; the first has a configuration.
struct Pair {
    dir: tempfile::TempDir,
}

/// `rblk pair` that waits.
struct Waiting {
    child: Child,
    out: BufReader<ChildStdout>,
    token: String,
}

impl Pair {
    fn new() -> Pair {
        let dir = tempfile::tempdir().expect("dir");
        for node in ["one", "two"] {
            std::fs::create_dir(dir.path().join(node)).expect("made");
        }
        let pair = Pair { dir };
        std::fs::write(pair.config("one"), pair.plain()).expect("written");
        pair
    }

    fn plain(&self) -> String {
        let key = self.key("one");
        format!(
            "# Ours.\n[resource]\nname = \"swarm\" # a name\n[net]\nkey-file = \"{}\"\n\
             [[node]]\nname = \"one\"\naddress = \"127.0.0.1:17790\"\ndisk = \"/dev/a\"\n\
             [[node]]\nname = \"two\"\naddress = \"127.0.0.2:17790\"\ndisk = \"/dev/a\"\n# The end.\n",
            key.display()
        )
    }

    fn config(&self, node: &str) -> PathBuf {
        self.dir.path().join(node).join("swarm.toml")
    }

    fn key(&self, node: &str) -> PathBuf {
        self.dir.path().join(node).join("swarm.key")
    }

    fn command(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rblk"));
        command.args(arguments).arg("--config").arg(self.config(node));
        if !arguments.contains(&"--node") {
            command.args(["--node", node]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn wait_with(&self, more: &[&str]) -> Waiting {
        let any: &[&str] = &["--listen", "127.0.0.1:0"];
        let place = if more.contains(&"--listen") { &[] } else { any };
        let all = [&["pair", "swarm"], place, more].concat();
        let mut child = self.command("one", &all).spawn().expect("runs");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut token = String::new();
        out.read_line(&mut token).expect("a token");
        Waiting { child, out, token }
    }

    /// The token comes on standard input.
    fn join(&self, token: &str, more: &[&str]) -> Output {
        let key = self.key("two");
        let all = [&["join", "--key-file", key.to_str().expect("UTF-8")], more].concat();
        let mut child = self.command("two", &all).stdin(Stdio::piped()).spawn().expect("runs");
        child.stdin.take().expect("piped").write_all(token.as_bytes()).expect("written");
        child.wait_with_output().expect("ends")
    }
}

impl Waiting {
    /// Exit code, the rest of what it printed, and what it said.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut said) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("text");
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (self.child.wait().expect("ends").code(), out, said)
    }

    fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("readable")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").mode() & 0o7777
}

fn done(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

fn refused(output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("do:"), "{said}");
    said
}

#[test]
fn two_bare_nodes_become_a_pair_that_can_be_paired_again() {
    let pair = Pair::new();
    let waiting = pair.wait_with(&[]);
    let secret = waiting.token.trim().to_owned();
    assert!(secret.starts_with("rblk1-") && waiting.token.lines().count() == 1);
    let joined = pair.join(&waiting.token, &[]);
    let said = done(&joined);
    assert!(said.contains("rblk create swarm") && joined.stdout.is_empty(), "{said}");
    let (code, out, told) = waiting.end();
    assert_eq!((code, out.as_str()), (Some(0), ""), "{told}");
    assert!(
        told.contains("two has joined") && told.contains("systemctl restart rblk@swarm"),
        "{told}"
    );
    for words in [&said, &told, &read(&pair.config("one")), &read(&pair.config("two"))] {
        assert!(!words.contains(&secret[6..]), "the token is shown: {words}");
    }
    for node in ["one", "two"] {
        assert_eq!((mode(&pair.key(node)), mode(&pair.config(node))), (0o600, 0o644));
        let shown = done(&pair.command(node, &["config", "swarm"]).output().expect("runs"));
        assert!(shown.is_empty(), "{shown}");
        let config = read(&pair.config(node));
        assert!(config.contains("security = \"tls\"") && config.contains("# a name"), "{config}");
        assert!(config.contains(&format!("/{node}/swarm.key")), "{config}");
        assert_eq!(config.matches("key = \"ed25519:").count(), 2);
    }
    // Once more: nothing changes, not even the files.
    let files = [pair.config("one"), pair.config("two"), pair.key("one"), pair.key("two")];
    let before = files.each_ref().map(|file| std::fs::metadata(file).expect("there").ino());
    let waiting = pair.wait_with(&[]);
    done(&pair.join(&waiting.token, &[]));
    assert_eq!(waiting.end().0, Some(0));
    assert_eq!(files.map(|file| std::fs::metadata(file).expect("there").ino()), before);
}

#[test]
fn programs_get_json() {
    let pair = Pair::new();
    let waiting = pair.wait_with(&["--json"]);
    let first: serde_json::Value = serde_json::from_str(&waiting.token).expect("JSON");
    assert_eq!((&first["node"], &first["peer"]), (&"one".into(), &"two".into()));
    let token = first["token"].as_str().expect("text");
    let key = pair.key("two");
    let all = ["join", token, "--json", "--key-file", key.to_str().expect("UTF-8")];
    let joined = pair.command("two", &all).output().expect("runs");
    done(&joined);
    let joined: serde_json::Value = serde_json::from_slice(&joined.stdout).expect("JSON");
    assert_eq!((&joined["node"], &joined["peer-key"]), (&"two".into(), &first["key"]));
    let second: serde_json::Value = serde_json::from_str(&waiting.end().1).expect("JSON");
    assert_eq!((&second["joined"], &second["key"]), (&"two".into(), &joined["key"]));
}

#[test]
fn a_port_that_is_taken_is_told_with_the_way_out_and_nothing_is_made() {
    let pair = Pair::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let config = pair.plain().replace("127.0.0.1:17790", &address);
    std::fs::write(pair.config("one"), config).expect("written");
    let said = refused(&pair.command("one", &["pair", "swarm"]).output().expect("runs"));
    assert!(
        said.contains("--listen 127.0.0.1:PORT") && said.contains("rblk detach swarm"),
        "{said}"
    );
    assert!(!pair.key("one").exists());
    let elsewhere = pair.command("one", &["pair", "swarm", "--listen", "192.0.2.1:7790"]).output();
    assert!(refused(&elsewhere.expect("runs")).contains("does not have that address"));
}

#[test]
fn a_token_ends_with_its_time() {
    let pair = Pair::new();
    let waiting = pair.wait_with(&["--minutes", "0.03"]);
    let token = waiting.token.clone();
    let (code, _, said) = waiting.end();
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("has expired") && said.contains("rblk pair swarm"), "{said}");
    let said = refused(&pair.join(&token, &[]));
    assert!(said.contains("nobody waits there any more") && said.contains("expired"), "{said}");
    assert!(!pair.config("two").exists());
    assert_eq!(read(&pair.config("one")), pair.plain());
    // One that was made before is refused by the next, which it does not end.
    let port = 20_000 + u16::try_from(std::process::id() % 10_000).expect("small");
    let listen = format!("127.0.0.1:{port}");
    let first = pair.wait_with(&["--listen", &listen]);
    let old = first.token.clone();
    first.kill();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = pair.wait_with(&["--listen", &listen]);
    let said = refused(&pair.join(&old, &[]));
    assert!(said.contains("from an earlier `rblk pair`"), "{said}");
    done(&pair.join(&second.token, &[]));
    let (code, _, said) = second.end();
    assert!(code == Some(0) && said.contains("an earlier `rblk pair` made it"), "{said}");
}

#[test]
fn another_configuration_is_replaced_by_force_alone() {
    let pair = Pair::new();
    let waiting = pair.wait_with(&[]);
    let other = pair.plain().replace("[resource]", "[resource]\npeer-timeout-ms = 3000");
    for theirs in [&other, "nonsense ["] {
        std::fs::write(pair.config("two"), theirs).expect("written");
        let said = refused(&pair.join(&waiting.token, &[]));
        assert!(said.contains("--force"), "{said}");
        assert_eq!(
            (read(&pair.config("two")).as_str(), read(&pair.config("one"))),
            (theirs, pair.plain())
        );
    }
    done(&pair.join(&waiting.token, &["--force"]));
    assert!(read(&pair.config("two")).contains("tls"));
    let (code, _, said) = waiting.end();
    assert!(code == Some(0) && said.contains("another configuration"), "{said}");
    assert_eq!(std::fs::read_dir(pair.dir.path().join("two")).expect("listed").count(), 2);
}

#[test]
fn the_same_file_without_keys_keeps_its_comments() {
    let pair = Pair::new();
    let own = pair.plain().replace("# The end.", "# Of node two.").replace("/one/", "/two/");
    std::fs::write(pair.config("two"), own).expect("written");
    std::fs::set_permissions(pair.config("two"), std::fs::Permissions::from_mode(0o640))
        .expect("set");
    let waiting = pair.wait_with(&[]);
    done(&pair.join(&waiting.token, &[]));
    assert_eq!(waiting.end().0, Some(0));
    let config = read(&pair.config("two"));
    assert!(config.contains("# Of node two.") && config.contains("security = \"tls\""), "{config}");
    assert!(config.contains("/two/swarm.key") && !config.contains("/one/"), "{config}");
    assert_eq!(mode(&pair.config("two")), 0o640);
}

#[test]
fn a_file_that_asks_for_tls_already_gets_its_keys() {
    let pair = Pair::new();
    let locked = |node: &str| {
        let text = pair.plain().replace("[net]\n", "[net]\nsecurity = \"tls\" # always\n");
        std::fs::write(pair.config(node), text.replace("/one/", &format!("/{node}/")))
            .expect("written");
    };
    locked("one");
    locked("two");
    let lacks = pair.command("one", &["config", "swarm"]).output().expect("runs");
    assert!(text(&lacks.stderr).contains("rblk pair"), "{}", text(&lacks.stderr));
    let waiting = pair.wait_with(&[]);
    done(&pair.join(&waiting.token, &[]));
    assert_eq!(waiting.end().0, Some(0));
    for node in ["one", "two"] {
        done(&pair.command(node, &["config", "swarm"]).output().expect("runs"));
        assert!(read(&pair.config(node)).contains("security = \"tls\" # always"));
    }
    // What else is wrong is told by its line.
    let wrong = pair.plain().replace("[resource]\n", "[resource]\ncolour = 1\n");
    std::fs::write(pair.config("one"), wrong).expect("written");
    let said = refused(&pair.command("one", &["pair", "swarm"]).output().expect("runs"));
    assert!(said.contains("swarm.toml:3") && said.contains("colour"), "{said}");
}

#[test]
fn another_key_for_the_host_is_another_configuration() {
    let pair = Pair::new();
    let waiting = pair.wait_with(&[]);
    done(&pair.join(&waiting.token, &[]));
    assert_eq!(waiting.end().0, Some(0));
    std::fs::remove_file(pair.key("one")).expect("removed");
    let waiting = pair.wait_with(&[]);
    let said = refused(&pair.join(&waiting.token, &[]));
    assert!(said.contains("--force"), "whom a node trusts is not exchanged unasked: {said}");
    done(&pair.join(&waiting.token, &["--force"]));
    assert_eq!(waiting.end().0, Some(0));
}

#[test]
fn what_is_no_token_or_no_second_node_is_refused() {
    let pair = Pair::new();
    for bad in ["", "rblk1-AAAA\n", "rblk9-AAAA\n", &"x".repeat(100_000), "\u{e4}\n"] {
        let key = pair.key("two");
        let mut child = pair.command("two", &["join", "--key-file", key.to_str().expect("UTF-8")]);
        let mut child = child.stdin(Stdio::piped()).spawn().expect("runs");
        // It may have seen enough before the end.
        let _ = child.stdin.take().expect("piped").write_all(bad.as_bytes());
        let ended = child.wait_with_output().expect("ends");
        let said = text(&ended.stderr);
        assert!(ended.status.code() == Some(2) && said.contains("rblk pair"), "{said}");
        assert!(!pair.key("two").exists());
    }
    let waiting = pair.wait_with(&[]);
    let said = refused(&pair.join(&waiting.token, &["--node", "one"]));
    assert!(said.contains("--node two"), "{said}");
    // The host's own key, as after copying its folder.
    let own = pair.key("one");
    let all = ["join", waiting.token.trim(), "--key-file", own.to_str().expect("UTF-8")];
    let said = refused(&pair.command("two", &all).output().expect("runs"));
    assert!(said.contains("same private key"), "{said}");
    waiting.kill();
}
