//! `rblk stats`: where the time of requests goes.

use super::{Place, name_argument, print, print_json};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::status::Latency;
use crate::error::Result;
use std::fmt::Write;

const AFTER_HELP: &str = "\
Example:
  rblk stats swarm
  hop               count      mean       p50       p99       max
  front-write      812734     96 µs     91 µs    180 µs    4.2 ms
  ...

A write takes the longer of disk-write and peer. docs/status.md says from
where to where each hop is.";

/// Show where the time of requests goes
///
/// Since the start of the daemon on this node.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Stats {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// As JSON, times in microseconds
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let status = Client::connect(&place.run_dir, self.name.as_str())?.status()?;
        let latency = status.rblk.latency;
        if self.json { print_json(&latency) } else { print(&table(&latency)) }
    }
}

fn table(hops: &[Latency]) -> String {
    let [mean, p50, p99, max] = ["mean", "p50", "p99", "max"];
    let mut out = format!("{:14}{:>12}{mean:>10}{p50:>10}{p99:>10}{max:>10}", "hop", "count");
    for Latency { hop, count, sum_us, p50_us, p99_us, max_us, .. } in hops {
        let _ = write!(out, "\n{hop:14}{count:>12}");
        let mean_us = sum_us.checked_div(*count);
        for us in [mean_us, Some(*p50_us), Some(*p99_us), Some(*max_us)] {
            let text = us.filter(|_| *count > 0).map_or("-".to_owned(), time);
            let _ = write!(out, "{text:>10}");
        }
    }
    out
}

/// Three digits or so, with the unit that makes them short.
pub(super) fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_that_was_never_passed_has_no_times() {
        let passed = Latency {
            hop: "peer".into(),
            count: 2,
            sum_us: 3_000_100,
            p50_us: 99,
            p99_us: 3_000_000,
            max_us: 3_000_000,
            buckets: vec![],
        };
        let text = table(&[passed, Latency { hop: "disk-read".into(), ..Latency::default() }]);
        let lines: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["peer", "2", "1.5", "s", "99", "µs", "3.0", "s", "3.0", "s"]);
        assert_eq!(lines[1], ["disk-read", "0", "-", "-", "-", "-"]);
    }
}
