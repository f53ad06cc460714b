//! `scripts/install`: every verb comes with its man page and completions, and nothing stays when it is removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const RBLK: &str = env!("CARGO_BIN_EXE_rblk");

fn help(verb: &[String]) -> String {
    let output = Command::new(RBLK).args(verb).arg("--help").output().expect("runs");
    assert!(output.status.success(), "{verb:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// All verbs that `--help` names, each with those below it.
fn verbs(of: &[String]) -> Vec<Vec<String>> {
    let text = help(of);
    let Some((_, list)) = text.split_once("\nCommands:\n") else { return Vec::new() };
    let names = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then(|| name.to_owned())
    });
    let mut found = Vec::new();
    for name in names {
        let verb: Vec<String> = of.iter().cloned().chain([name]).collect();
        found.extend(verbs(&verb));
        found.push(verb);
    }
    found
}

fn install(into: &Path, options: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install");
    let mut command = Command::new(script);
    command.args(["--program", RBLK, "--prefix", "/usr", "--destdir"]).arg(into).args(options);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// All files and folders below `folder`.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path);
    }
    found
}

#[test]
fn every_verb_has_an_example_a_man_page_and_completions() {
    let dir = tempfile::tempdir().expect("dir");
    install(dir.path(), &[]);
    let share = dir.path().join("usr/share");
    let read = |path: &str| std::fs::read_to_string(share.join(path)).expect("is there");
    let completions = [
        read("bash-completion/completions/rblk"),
        read("zsh/site-functions/_rblk"),
        read("fish/vendor_completions.d/rblk.fish"),
    ];
    let all = verbs(&[]);
    let words = |verb: &[&str]| verb.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    assert!(all.contains(&words(&["promote"])) && all.contains(&words(&["salvage", "list"])));
    let mut pages = BTreeSet::from(["rblk.8".to_owned()]);
    for verb in &all {
        let name = verb.join("-");
        assert!(help(verb).contains("Example"), "{name}");
        let page = read(&format!("man/man8/rblk-{name}.8"));
        assert!(
            page.contains(".SH EXAMPLES\n.nf\n") && page.contains(".SH OPTIONS"),
            "{name}: {page}"
        );
        for shell in &completions {
            assert!(shell.contains(&verb[verb.len() - 1]), "{name}");
        }
        pages.insert(format!("rblk-{name}.8"));
    }
    let found = std::fs::read_dir(share.join("man/man8")).expect("pages");
    let found = found.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"));
    assert_eq!(found.collect::<BTreeSet<_>>(), pages);
}

/// What the links of a page lead to, below `folder`: neither the web nor another place in the page itself.
fn links(folder: &Path, page: &str) -> Vec<PathBuf> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets
        .filter(|to| !to.is_empty() && !to.starts_with("http"))
        .map(|to| folder.join(to))
        .collect()
}

#[test]
fn the_links_of_installed_pages_lead_somewhere() {
    let dir = tempfile::tempdir().expect("dir");
    install(dir.path(), &[]);
    let folder = dir.path().join("usr/share/doc/rblk");
    let mut seen = 0;
    for path in tree(&folder).iter().filter(|path| path.extension().is_some_and(|ext| ext == "md"))
    {
        let page = std::fs::read_to_string(path).expect("UTF-8");
        for link in links(&folder, &page) {
            assert!(link.exists(), "{}: {}", path.display(), link.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} links");
    let handlers = std::fs::read_to_string(folder.join("handlers.md")).expect("there");
    assert!(
        handlers.contains("`/usr/local/sbin:/usr/local/bin:"),
        "a path that is nobody's own has changed"
    );
}

#[test]
fn what_is_installed_has_its_prefix_and_can_be_removed() {
    let dir = tempfile::tempdir().expect("dir");
    let lib = dir.path().join("usr/lib");
    std::fs::create_dir_all(lib.join("other")).expect("made");
    let before = tree(dir.path());
    install(dir.path(), &[]);
    let files = tree(dir.path());
    let program = dir.path().join("usr/bin/rblk");
    assert_eq!(std::fs::read(&program).expect("there"), std::fs::read(RBLK).expect("there"));
    for path in files.iter().filter(|path| path.is_file() && **path != program) {
        let text = std::fs::read_to_string(path).expect("UTF-8");
        assert!(!text.contains("/usr/local/lib/rblk"), "{}", path.display());
    }
    let unit = std::fs::read_to_string(lib.join("systemd/system/rblk@.service")).expect("there");
    assert!(unit.contains("ExecStart=/usr/bin/rblk attach"), "{unit}");
    // A file that an older version brought.
    let (old, record) = (lib.join("rblk/old.sh"), lib.join("rblk/installed"));
    std::fs::write(&old, "").expect("written");
    let listed = std::fs::read_to_string(&record).expect("there");
    std::fs::write(&record, format!("{listed}/usr/lib/rblk/old.sh\n")).expect("written");
    install(dir.path(), &[]);
    assert_eq!(tree(dir.path()), files);
    install(dir.path(), &["--remove"]);
    let left: Vec<_> = tree(dir.path()).into_iter().filter(|path| path.is_file()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    assert!(before.is_subset(&tree(dir.path())), "a folder of others is gone");
    assert!(!lib.join("rblk").exists() && !dir.path().join("usr/share/doc/rblk").exists());
}
