//! `rblk explain`: why things are as they are, with the facts, and the commands that help.

use super::{Place, name_argument, print, print_json, units};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::status::{Generation, Resource, Role};
use crate::error::Result;
use crate::limits::UNIX_MS_MAX;
use serde::Serialize;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

const AFTER_HELP: &str = "\
Example:
  rblk explain swarm
  rblk explain swarm --json | jq -r '.commands[]'
and what is for the other node alone:
  rblk explain swarm --json | jq -r '.\"commands-there\"[]?'";

/// Say why it cannot promote, why it is not connected, why writes wait, why
/// everything is copied: facts, then the commands that help
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Explain {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// All that there is to say.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Explanation {
    resource: String,
    /// Each question with its answers; none for what needs no explanation.
    questions: Vec<Question>,
    /// The data of both nodes, if they met and are not in touch now.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
    /// Every command that was named, for this node.
    commands: Vec<String>,
    /// And those that are for the other one alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    commands_there: Vec<String>,
}

#[derive(Serialize)]
struct Question {
    question: &'static str,
    because: Vec<String>,
}

/// Whose data is what.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Data {
    here: Side,
    peer: Side,
    /// The newest state that both have in common; null if there is none.
    common: Option<String>,
    /// Of the volume.
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Side {
    name: String,
    role: Role,
    generation: Option<String>,
    /// When that generation began, by the clock of the node that began it.
    since: Option<String>,
    /// Changed since the disks were last equal, as its bitmap says, in bytes.
    changed_bytes: u64,
}

impl Explain {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let status = Client::connect(&place.run_dir, self.name.as_str())?.status()?;
        let explanation = explain(&status);
        match self.json {
            true => print_json(&explanation),
            false => print(&text(&explanation)),
        }
    }
}

fn explain(status: &Resource) -> Explanation {
    let why = &status.rblk.why;
    let all = [
        ("Why do writes wait?", &why.suspended),
        ("Why is the peer not connected?", &why.not_connected),
        ("Why can this node not become Primary?", &why.not_promotable),
        ("Why is everything copied?", &why.full_resync),
    ];
    let given = all.into_iter().filter(|(_, because)| !because.is_empty());
    let mut questions: Vec<Question> =
        given.map(|(question, because)| Question { question, because: because.clone() }).collect();
    questions.extend(second_path(status));
    let there = format!("on {}: ", status.connection().name);
    let (mut commands, mut commands_there) = (Vec::new(), Vec::new());
    for sentence in questions.iter().flat_map(|question| &question.because) {
        for (before, command) in commands_in(sentence) {
            let list = if before.ends_with(&there) { &mut commands_there } else { &mut commands };
            if !list.contains(&command) {
                list.push(command);
            }
        }
    }
    let resource = status.name.clone();
    Explanation { resource, questions, data: data(status), commands, commands_there }
}

/// The connection is not on the path that is preferred.
fn second_path(status: &Resource) -> Option<Question> {
    let peer = status.connection();
    let [first, second] = &peer.paths[..] else { return None };
    if !second.established {
        return None;
    }
    let name = &status.name;
    // The node that dials is the first in the configuration.
    let dials = if status.node_id == 0 { "this node" } else { peer.name.as_str() };
    Some(Question {
        question: "Why does the connection run on the second path?",
        because: vec![
            format!(
                "it was made when the first ({first}) did not work, and stays where it works: to change costs clients \
                 a stall; `rblk doctor {name}` looks at each path"
            ),
            format!(
                "`rblk disconnect {name}` and `rblk connect {name}` on {dials} go back to the first, if it works again"
            ),
        ],
    })
}

/// What the nodes said to each other when they last met, while they are apart.
fn data(status: &Resource) -> Option<Data> {
    let peer = status.rblk.peer.as_ref().filter(|_| !status.connected())?;
    let device = status.connection().peer_devices.first().cloned().unwrap_or_default();
    let here = &status.rblk.generation;
    Some(Data {
        here: Side {
            name: "this node".to_owned(),
            role: status.role,
            generation: here.current.clone(),
            since: since(here),
            changed_bytes: device.out_of_sync * 1024,
        },
        peer: Side {
            name: status.connection().name,
            role: peer.role,
            generation: peer.generation.current.clone(),
            since: since(&peer.generation),
            changed_bytes: peer.out_of_sync_bytes,
        },
        common: common(here, &peer.generation),
        bytes: status.devices.first().map_or(0, |device| device.size * 1024),
    })
}

/// The ids of a side, newest first.
fn line(of: &Generation) -> impl Iterator<Item = &String> {
    of.current.iter().chain(of.base.iter()).chain(&of.history)
}

fn common(here: &Generation, peer: &Generation) -> Option<String> {
    line(here).find(|id| line(peer).any(|other| other == *id)).cloned()
}

fn since(of: &Generation) -> Option<String> {
    // A peer may name its generation as it likes.
    let time = of.made_unix_ms.filter(|ms| *ms <= UNIX_MS_MAX)?;
    let time = UNIX_EPOCH + Duration::from_millis(time);
    Some(humantime::format_rfc3339_seconds(time).to_string())
}

/// What stands between backticks, and what before.
fn commands_in(sentence: &str) -> Vec<(&str, String)> {
    let parts: Vec<&str> = sentence.split('`').collect();
    let pairs = parts.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let commands = pairs.filter(|(_, text)| text.starts_with("rblk "));
    commands.map(|(before, text)| (before, text.to_owned())).collect()
}

fn text(explanation: &Explanation) -> String {
    let mut out = String::new();
    for question in &explanation.questions {
        let _ = writeln!(out, "{}", question.question);
        for because in &question.because {
            let _ = writeln!(out, "  {because}");
        }
    }
    if let Some(data) = &explanation.data {
        let _ = writeln!(out, "Whose data is what, as the nodes said when they last met?");
        side(&mut out, &data.here, data.bytes);
        side(&mut out, &data.peer, data.bytes);
        let _ = match &data.common {
            _ if data.here.generation == data.peer.generation => {
                writeln!(out, "  both are of one generation")
            }
            Some(id) => writeln!(out, "  they parted after generation {id}"),
            None => writeln!(out, "  they have no known state in common"),
        };
    }
    if out.is_empty() {
        return format!("{}: nothing stands in the way.", explanation.resource);
    }
    let lists = [("", &explanation.commands), (" on the other node", &explanation.commands_there)];
    for (node, commands) in lists.into_iter().filter(|(_, commands)| !commands.is_empty()) {
        let _ = writeln!(out, "Commands that help{node}, each as its sentence says:");
        for command in commands {
            let _ = writeln!(out, "  {command}");
        }
    }
    out
}

fn side(out: &mut String, side: &Side, bytes: u64) {
    let since = side.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    let generation = side.generation.as_deref().unwrap_or("none");
    // Of a disk that was new, or declared void, everything is marked: that is not what somebody wrote.
    let changed = match side.changed_bytes {
        _ if side.generation.is_none() => "no data".to_owned(),
        changed if changed >= bytes && bytes > 0 => {
            "nothing in common with the other's (a new disk, or one that was declared void, has that)".to_owned()
        }
        changed => format!("{} changed apart", units::bytes(changed)),
    };
    let _ =
        writeln!(out, "  {}: {}, generation {generation}{since}, {changed}", side.name, side.role);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::status::{ConnectionState, sample};

    #[test]
    fn a_generation_of_a_time_that_cannot_be_told_has_none() {
        let made = |ms| Generation { made_unix_ms: Some(ms), ..Generation::default() };
        assert_eq!(since(&made(0)).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(since(&made(UNIX_MS_MAX)).as_deref(), Some("9999-12-31T23:59:59Z"));
        for ms in [UNIX_MS_MAX + 1, (1 << 48) - 1, u64::MAX] {
            assert_eq!(since(&made(ms)), None);
        }
    }

    #[test]
    fn a_split_brain_is_told_with_its_facts() {
        let mut status = sample();
        status.connections[0].connection_state = ConnectionState::StandAlone;
        status.rblk.why.not_connected =
            vec!["split brain: run `rblk connect swarm --discard-my-data`".to_owned()];
        let explanation = explain(&status);
        assert_eq!(explanation.commands, ["rblk connect swarm --discard-my-data"]);
        let text = text(&explanation);
        for part in [
            "Why is the peer not connected?\n  split brain",
            "this node: Primary, generation AAAAAAAA",
            "since 2026-09-21T",
            "docker2: Secondary, generation DDDDDDDD",
            "8.0 KiB changed apart",
            "they parted after generation BBBBBBBB",
            "Commands that help",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_connection_on_the_second_path_is_explained() {
        let mut status = sample();
        status.rblk.why = crate::ctl::status::Why::default();
        let first = status.connections[0].paths[0].clone();
        status.connections[0].paths.push(crate::ctl::status::Path { established: false, ..first });
        assert_eq!(text(&explain(&status)), "swarm: nothing stands in the way.");
        status.connections[0].paths.swap(0, 1);
        status.node_id = 1;
        let text = text(&explain(&status));
        for part in ["on the second path?", "192.168.1.1:7790 to", "on docker2 go back"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_good_state_needs_no_explanation() {
        let mut status = sample();
        status.rblk.why = crate::ctl::status::Why::default();
        assert_eq!(text(&explain(&status)), "swarm: nothing stands in the way.");
    }
}
