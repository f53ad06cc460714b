//! The command line: one file per verb. Each verb is a struct of arguments with a `run`.
//!
//! Promises: exit code 0 only if it was done (the codes stand at [`crate::error::Kind::exit_code`]);
//! results on stdout, everything else on stderr; an error says what failed, why, and what to do. Never:
//! data lost without `--force`.

mod attach;
mod config;
mod connect;
mod create;
mod demo;
mod demote;
mod detach;
mod disconnect;
mod doctor;
mod drill;
mod dump_meta;
mod events;
mod explain;
mod import;
mod invalidate;
mod join;
mod keygen;
mod pages;
mod pair;
mod progress;
mod promote;
mod render;
mod resize;
mod salvage;
mod stats;
mod status;
mod udev;
mod units;
mod verify;
mod wait;
mod watch;

use crate::config::{Config, Name, RUN_DIR};
use crate::error::{Error, Kind, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Between two questions to the daemon of who waits for a state.
const POLL: Duration = Duration::from_millis(200);
/// Between two attempts at what must wait.
const INSIST_PAUSE: Duration = Duration::from_millis(500);

/// Codes and places, at the end of `rblk --help`.
const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed (stderr says why), 2 wrong usage,
4 `doctor` and `drill`: warnings, 5 `wait`: not reached in time.

Example, on both nodes:
  rblk create swarm
  rblk attach swarm
and, in another terminal, on the node whose data shall be kept, --force only this first time:
  rblk promote swarm --force";

/// A replicated block device: two nodes, every write on both.
#[derive(Parser)]
#[command(name = "rblk", version, max_term_width = 80, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

/// Where things are, for tests and for runs without root.
#[derive(Args, Clone)]
struct Place {
    /// Read this file instead of /etc/rblk/NAME.toml
    #[arg(long, global = true, value_name = "FILE", help_heading = "Places")]
    config: Option<PathBuf>,
    /// Be this node instead of the one with this host's name
    #[arg(long, global = true, value_name = "NODE", help_heading = "Places")]
    node: Option<String>,
    /// Directory of the control sockets
    #[arg(long, global = true, value_name = "DIR", default_value = RUN_DIR)]
    #[arg(help_heading = "Places")]
    run_dir: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    Create(create::Create),
    Attach(attach::Attach),
    Detach(detach::Detach),
    #[command(visible_alias = "primary")]
    Promote(promote::Promote),
    #[command(visible_alias = "secondary")]
    Demote(demote::Demote),
    Connect(connect::Connect),
    Disconnect(disconnect::Disconnect),
    Invalidate(invalidate::Invalidate),
    Resize(resize::Resize),
    Verify(verify::Verify),
    Status(status::Status),
    Stats(stats::Stats),
    Explain(explain::Explain),
    Doctor(doctor::Doctor),
    Drill(drill::Drill),
    Events(events::Events),
    Wait(wait::Wait),
    Config(config::ShowConfig),
    Pair(pair::Pair),
    Join(join::Join),
    Keygen(keygen::Keygen),
    DumpMeta(dump_meta::DumpMeta),
    Salvage(salvage::Salvage),
    Import(import::Import),
    Demo(demo::Demo),
    /// Started by `attach`: runs its handlers
    #[command(hide = true)]
    HandlerRunner,
    /// For packages
    #[command(hide = true)]
    Pages(pages::Pages),
    /// Started by `attach`: finds out who has its device open
    #[command(hide = true)]
    Lookout,
    /// Run by udev
    #[command(hide = true)]
    Udev(udev::Udev),
}

impl Place {
    /// The configuration of resource `name`.
    fn load(&self, name: &Name) -> Result<Config> {
        Config::load(name, self.config.as_deref())
    }
}

/// Whether the command line takes these arguments; the first is the name of the program. Does nothing: it is there so
/// that what documents tell people to type can be checked.
///
/// # Errors
/// Why it does not take them.
pub fn check(
    arguments: impl IntoIterator<Item = OsString>,
) -> std::result::Result<(), clap::Error> {
    Cli::try_parse_from(arguments).map(drop)
}

/// Does what the arguments say; the first is the name of the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with exit code 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    carry_out(cli.verb, &cli.place).unwrap_or_else(|error| {
        say(&error.report());
        ExitCode::from(error.kind().exit_code())
    })
}

fn carry_out(verb: Verb, place: &Place) -> Result<ExitCode> {
    let done = match verb {
        // Their exit code says how bad it is.
        Verb::Doctor(verb) => return verb.run(place),
        Verb::Drill(verb) => return verb.run(place),
        Verb::Create(verb) => verb.run(place),
        Verb::Attach(verb) => verb.run(place),
        Verb::Detach(verb) => verb.run(place),
        Verb::Promote(verb) => verb.run(place),
        Verb::Demote(verb) => verb.run(place),
        Verb::Connect(verb) => verb.run(place),
        Verb::Disconnect(verb) => verb.run(place),
        Verb::Invalidate(verb) => verb.run(place),
        Verb::Resize(verb) => verb.run(place),
        Verb::Verify(verb) => verb.run(place),
        Verb::Status(verb) => verb.run(place),
        Verb::Stats(verb) => verb.run(place),
        Verb::Explain(verb) => verb.run(place),
        Verb::Events(verb) => verb.run(place),
        Verb::Wait(verb) => verb.run(place),
        Verb::Config(verb) => verb.run(place),
        Verb::Pair(verb) => verb.run(place),
        Verb::Join(verb) => verb.run(place),
        Verb::Keygen(verb) => verb.run(place),
        Verb::DumpMeta(verb) => verb.run(place),
        Verb::Salvage(verb) => verb.run(place),
        Verb::Import(verb) => verb.run(place),
        Verb::Demo(verb) => verb.run(),
        Verb::Pages(verb) => verb.run(Cli::command()),
        Verb::HandlerRunner => crate::handlers::serve(),
        Verb::Lookout => crate::front::ublk::serve_lookout(),
        Verb::Udev(verb) => verb.run(place),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// A resource name on the command line.
fn name_argument(text: &str) -> std::result::Result<Name, String> {
    Name::parse(text)
}

/// Tries until it succeeds or fails in another way than `again`; says each new reason to wait once.
fn insist(again: &[Kind], mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let mut said = String::new();
    loop {
        match attempt() {
            Err(error) if again.contains(&error.kind()) => {
                if error.to_string() != said {
                    said = error.to_string();
                    say(&format!("Waiting. {said}"));
                }
                std::thread::sleep(INSIST_PAUSE);
            }
            ended => return ended,
        }
    }
}

/// Prints a result. A reader who has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("Cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// Prints `value` as indented JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::io("Cannot write JSON", std::io::Error::other(error)))?;
    print(&text)
}

/// Says something that is not the result. There is nobody left to tell if stderr is gone.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A sentence made to follow a colon: no capital, no full stop.
fn order(sentence: &str) -> String {
    let mut chars = sentence.trim_end_matches('.').chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
