//! Keys as their users meet them: `rblk keygen`, and a daemon that is to use one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn rblk(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rblk")).args(arguments).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn keygen(file: &Path, more: &[&str]) -> Output {
    let file = file.to_str().expect("UTF-8");
    rblk(&[&["keygen", "swarm", "--node", "docker1", "--file", file][..], more].concat())
}

/// The key in a line for the configuration.
fn key_in(line: &str) -> String {
    let inner = line.strip_prefix("key = \"").and_then(|rest| rest.trim_end().strip_suffix('"'));
    inner.expect(line).to_owned()
}

fn made(file: &Path) -> String {
    let done = keygen(file, &[]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    key_in(&text(&done.stdout))
}

#[test]
fn a_folder_that_is_not_there_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().expect("dir");
    let done = keygen(&dir.path().join("none").join("swarm.key"), &[]);
    let said = text(&done.stderr);
    assert!(done.status.code() == Some(1) && said.contains("make the folder"), "{said}");
}

#[test]
fn a_key_is_made_once_shown_again_and_replaced_by_force_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("swarm.key");
    let done = keygen(&file, &[]);
    assert!(text(&done.stderr).contains("[[node]] of docker1"), "{}", text(&done.stderr));
    let key = key_in(&text(&done.stdout));
    let again = keygen(&file, &[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("--force"), "{}", text(&again.stderr));
    assert_eq!(key_in(&text(&keygen(&file, &["--show"]).stdout)), key);
    let json = keygen(&file, &["--show", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["key"], key.as_str());
    assert_eq!(json["key-file"], file.to_str().expect("UTF-8"));
    // One that waits for its turn beside it, as docs/security.md has it, is not touched.
    let next = dir.path().join("swarm.key.new");
    let waiting = key_in(&text(&keygen(&next, &[]).stdout));
    let forced = keygen(&file, &["--force"]);
    assert_eq!(key_in(&text(&keygen(&next, &["--show"]).stdout)), waiting);
    assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 2);
    assert_ne!(key_in(&text(&forced.stdout)), key);
    let absent = keygen(&dir.path().join("other"), &["--show"]);
    assert_eq!(absent.status.code(), Some(1));
}

/// A configuration with TLS in a directory, with two disks.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(keys: [&str; 2]) -> Place {
        let dir = tempfile::tempdir().expect("dir");
        let file = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "[resource]\nname = \"swarm\"\n[net]\nsecurity = \"tls\"\nkey-file = \"{}\"\n",
            file("swarm.key")
        );
        for (at, key) in (1..).zip(keys) {
            let disk = file(&format!("disk{at}"));
            std::fs::File::create(&disk).expect("made").set_len(8 << 20).expect("sized");
            config += &format!(
                "[[node]]\nname = \"docker{at}\"\naddress = \"127.0.0.{at}:17790\"\ndisk = \"{disk}\"\n{key}\n"
            );
        }
        std::fs::write(dir.path().join("swarm.toml"), config).expect("written");
        Place { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (config, run) = (self.path("swarm.toml"), self.path("run"));
        let place = ["--node", "docker1", "--config", config.to_str().expect("UTF-8")];
        let run = ["--run-dir", run.to_str().expect("UTF-8")];
        rblk(&[arguments, &place, &run].concat())
    }

    /// Why the daemon does not start.
    fn refusal(&self) -> String {
        let nbd = format!("nbd=unix:{}", self.path("nbd").display());
        let ended = self.run(&["attach", "swarm", "--front", &nbd]);
        assert_eq!(ended.status.code(), Some(1));
        text(&ended.stderr)
    }
}

#[test]
fn a_daemon_refuses_a_key_that_is_not_its_own_or_not_its_own_alone() {
    let keys = tempfile::tempdir().expect("dir");
    let [one, two, three] = ["1", "2", "3"].map(|name| made(&keys.path().join(name)));
    let place = Place::new([&format!("key = \"{one}\""), &format!("key = \"{two}\"")]);
    assert!(place.run(&["create", "swarm"]).status.success());
    let unpaired = Place::new([&format!("key = \"{one}\""), ""]);
    assert!(unpaired.run(&["create", "swarm"]).status.success());
    let lacks = unpaired.refusal();
    assert!(lacks.contains("rblk pair swarm") && lacks.contains("no key of docker2"), "{lacks}");
    let absent = place.refusal();
    assert!(absent.contains("rblk keygen"), "{absent}");
    let file = place.path("swarm.key");
    std::fs::copy(keys.path().join("3"), &file).expect("copied");
    let wrong = place.refusal();
    assert!(wrong.contains(&three) && wrong.contains("[[node]] of docker1"), "{wrong}");
    std::fs::copy(keys.path().join("1"), &file).expect("copied");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
    let open = place.refusal();
    assert!(open.contains("chmod 0600"), "{open}");
}

#[test]
fn a_configuration_with_tls_names_two_different_keys() {
    let keys = tempfile::tempdir().expect("dir");
    let [one, two] = ["1", "2"].map(|name| format!("\"{}\"", made(&keys.path().join(name))));
    let (first, second) = (format!("key = {one}"), format!("key = {two}"));
    let config = |first: &str, second: &str| Place::new([first, second]).run(&["config", "swarm"]);
    let printed = config(&first, &second);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    assert!(text(&printed.stdout).contains("security = \"tls\"") && printed.stderr.is_empty());
    let unpaired = config(&first, "");
    assert!(unpaired.status.success() && text(&unpaired.stderr).contains("docker2 has no key yet"));
    for (wrong, words) in [
        (first.clone(), "both nodes have this key"),
        (format!("{second}\nold-{first}"), "both nodes have this key"),
        (format!("old-{second}"), "`old-key` without `key`"),
        (format!("{second}\nold-{second}"), "the same as `key`"),
        ("key = \"ed25519:AAAA\"".to_owned(), "rblk keygen"),
        ("key = 7".to_owned(), "a string such as"),
    ] {
        let refused = config(&first, &wrong);
        assert_eq!(refused.status.code(), Some(1), "{words}");
        let said = text(&refused.stderr);
        assert!(said.contains(words) && said.contains("swarm.toml:"), "{words}: {said}");
    }
}
