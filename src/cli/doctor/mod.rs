//! `rblk doctor`: what of this host, and of a resource on it, is not as it should be. Changes nothing.
//!
//! A check is a subject, what was found, and, unless all is well, what to do about it. `rblk drill` uses the same.

mod host;
mod kernels;
mod network;
mod resource;

use super::{Place, name_argument, print, print_json, status};
use crate::config::Name;
use crate::error::{Error, Result};
use serde::Serialize;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Example, of this host and all resources that run or are configured on it:
  rblk doctor
Example, of one, for a program:
  rblk doctor swarm --json | jq '.checks[] | select(.level != \"ok\")'

Exit codes: 0 all is well, 4 there are warnings, 1 there are errors.
Run it on both nodes: each can only look at itself.";

/// The exit code of warnings without an error.
const WARNINGS: u8 = 4;

/// Check this host, and resources on it: each finding with what to do about it
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Doctor {
    /// Resource; all that are configured here if absent
    #[arg(value_parser = name_argument)]
    name: Option<Name>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warning,
    Error,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Check {
    /// The resource; absent if it is about the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    subject: &'static str,
    level: Level,
    finding: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

/// What was found, in the order in which it was looked for.
#[derive(Default)]
pub(super) struct Findings {
    checks: Vec<Check>,
    resource: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    worst: Level,
    checks: &'a [Check],
}

impl Findings {
    /// From now on about this resource.
    pub(super) fn about(&mut self, name: &Name) {
        self.resource = Some(name.to_string());
    }

    pub(super) fn ok(&mut self, subject: &'static str, finding: impl Into<String>) {
        self.add(subject, Level::Ok, finding.into(), String::new());
    }

    pub(super) fn warning(
        &mut self,
        subject: &'static str,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(subject, Level::Warning, finding.into(), remedy.into());
    }

    pub(super) fn error(
        &mut self,
        subject: &'static str,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(subject, Level::Error, finding.into(), remedy.into());
    }

    /// What kept a check from being made.
    pub(super) fn failed(&mut self, subject: &'static str, error: &Error) {
        let finding = format!("{}: {}", error.what(), error.reason());
        self.error(subject, finding, error.advice());
    }

    fn add(&mut self, subject: &'static str, level: Level, finding: String, remedy: String) {
        let resource = self.resource.clone();
        self.checks.push(Check { resource, subject, level, finding, remedy });
    }

    fn worst(&self) -> Level {
        self.checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok)
    }

    /// Prints all of it; the exit code says how bad the worst is.
    pub(super) fn show(&self, json: bool) -> Result<ExitCode> {
        if json {
            print_json(&Report { worst: self.worst(), checks: &self.checks })?;
        } else {
            print(&self.text())?;
        }
        Ok(match self.worst() {
            Level::Ok => ExitCode::SUCCESS,
            Level::Warning => ExitCode::from(WARNINGS),
            Level::Error => ExitCode::FAILURE,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut about = &None;
        for check in &self.checks {
            if &check.resource != about {
                about = &check.resource;
                text += &format!("{}:\n", about.as_deref().unwrap_or("this host"));
            }
            let level = match check.level {
                Level::Ok => "ok",
                Level::Warning => "WARNING",
                Level::Error => "ERROR",
            };
            text += &format!("{level:8} {:14} {}\n", check.subject, check.finding);
            if !check.remedy.is_empty() {
                text += &format!("{:8} {:14} do: {}\n", "", "", check.remedy);
            }
        }
        text
    }
}

impl Doctor {
    pub(super) fn run(self, place: &Place) -> Result<ExitCode> {
        let mut findings = Findings::default();
        host::check(&mut findings);
        let names = match self.name {
            Some(name) => vec![name],
            None => all(place)?,
        };
        for name in &names {
            findings.about(name);
            resource::check(&mut findings, place, name);
        }
        findings.show(self.json)
    }
}

/// Checks of the host that a drill needs as well.
pub(super) fn host(findings: &mut Findings) {
    host::check(findings);
}

/// Resources that run or are configured here.
fn all(place: &Place) -> Result<Vec<Name>> {
    let mut names = status::names(place)?;
    if let Some(file) = &place.config {
        names.push(crate::config::Config::load_any(file)?.name);
    } else if let Ok(entries) = std::fs::read_dir(crate::config::CONFIG_DIR) {
        for entry in entries.flatten() {
            let file = entry.file_name();
            let stem = file.to_str().and_then(|file| file.strip_suffix(".toml"));
            names.extend(stem.and_then(|stem| Name::parse(stem).ok()));
        }
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_as_documented_and_the_worst_counts() {
        let mut findings = Findings::default();
        findings.ok("kernel", "6.12");
        assert_eq!(findings.worst(), Level::Ok);
        findings.about(&Name::parse("swarm").expect("valid"));
        findings.warning("clock", "not synchronised", "install chrony");
        assert_eq!(findings.worst(), Level::Warning);
        findings.error("disk", "it is not there", "plug it in");
        findings.ok("peer", "answers");
        assert_eq!(findings.worst(), Level::Error);
        assert_eq!(
            findings.text(),
            "ok       kernel         6.12\n\
             swarm:\n\
             WARNING  clock          not synchronised\n                        do: install chrony\n\
             ERROR    disk           it is not there\n                        do: plug it in\n\
             ok       peer           answers\n"
        );
    }
}
