//! `rblk pages`: man pages and completions, for those who make packages. What `--help` says, in other forms: there is
//! one text, and it cannot be forgotten.

use crate::error::{Error, Result};
use clap::Command;
use clap_complete::Shell;
use std::path::{Path, PathBuf};

/// All commands are for administrators.
const SECTION: &str = "8";

/// Write man pages and shell completions into a directory
#[derive(clap::Args)]
pub(super) struct Pages {
    /// Gets man8, bash, zsh and fish
    directory: PathBuf,
}

impl Pages {
    pub(super) fn run(self, mut command: Command) -> Result<()> {
        let name = command.get_name().to_owned();
        for (shell, folder) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let folder = self.folder(folder)?;
            // Bash finds completions by the name of the command alone.
            let written =
                clap_complete::generate_to(shell, &mut command, &name, &folder).and_then(|path| {
                    match shell {
                        Shell::Bash => std::fs::rename(path, folder.join(&name)),
                        _ => Ok(()),
                    }
                });
            written.map_err(|error| Error::io("Cannot write completions", error))?;
        }
        // Fills in the full names of verbs, and the options that all of them have.
        command.build();
        manual(&command, &self.folder("man8")?)
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.directory.join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| Error::io(format!("Cannot make {}", folder.display()), error))?;
        Ok(folder)
    }
}

/// The page of `command`, and those of its verbs.
fn manual(command: &Command, folder: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.{SECTION}"));
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).section(SECTION);
    let man = man.source(concat!("rblk ", env!("CARGO_PKG_VERSION")));
    man.render(&mut page)
        .and_then(|()| std::fs::write(&path, with_examples(&String::from_utf8_lossy(&page))))
        .map_err(|error| Error::io(format!("Cannot write {}", path.display()), error))?;
    for verb in command.get_subcommands().filter(|verb| shown(verb)) {
        manual(verb, folder)?;
    }
    Ok(())
}

/// The text that `--help` ends with, line by line as it stands there: filled lines would run commands together.
fn with_examples(page: &str) -> String {
    let page = page.replace(".SH EXTRA\n", ".SH EXAMPLES\n.nf\n");
    page.replace("\n.SH VERSION", "\n.fi\n.SH VERSION")
}

/// Verbs for programs have no page, and `help` is what the pages are.
fn shown(verb: &Command) -> bool {
    !verb.is_hide_set() && verb.get_name() != "help"
}
