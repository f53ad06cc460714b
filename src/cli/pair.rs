//! `rblk pair`: invites the other node.

use super::{Place, name_argument, print, say};
use crate::config::{self, Address, Config, Name, key_file_of};
use crate::error::{Error, Kind, Result};
use crate::io::tls;
use crate::limits::{PAIR_MINUTES_DEFAULT, PAIR_MINUTES_MAX};
use crate::meta::superblock::NodeId;
use crate::pair::{Door, Home, Joined, Secret, Token};
use serde::Serialize;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const AFTER_HELP: &str = "\
Example, on the node that has /etc/rblk/swarm.toml:
  rblk pair swarm
and on the other, which needs nothing, with what the first has printed:
  rblk join
Both then have keys, the same configuration, and security = \"tls\" in it.

Example, while the daemon has the port:
  rblk pair swarm --listen 192.168.1.1:7799";

/// Let the other node join, with `security = "tls"`
///
/// Makes this node's key if it has none, prints a token, and waits until `rblk
/// join` has brought it back from the other node. Then the configurations of
/// both name both keys. Whoever has the token can join until then: hand it
/// over as you would a password.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Pair {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// Wait here instead of at this node's address in the configuration
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// How long the token is valid; parts of a minute are allowed
    #[arg(long, value_name = "N", default_value_t = PAIR_MINUTES_DEFAULT, value_parser = minutes)]
    minutes: f64,
    /// As JSON: a line with the token, and another once the node has joined
    #[arg(long)]
    json: bool,
}

/// The first line that `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Waiting<'a> {
    name: &'a Name,
    node: &'a Name,
    peer: &'a Name,
    key: String,
    key_file: &'a PathBuf,
    address: &'a Address,
    expires: String,
    token: &'a str,
}

/// The second one.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Done<'a> {
    name: &'a Name,
    joined: &'a Name,
    key: String,
    from: SocketAddr,
}

fn minutes(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.01..=PAIR_MINUTES_MAX).contains(&minutes) => Ok(minutes),
        _ => Err(format!("expected 0.01 to {PAIR_MINUTES_MAX} minutes")),
    }
}

impl Pair {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let file = place.config.clone().unwrap_or_else(|| config::file_of(&self.name));
        let config = Config::parse(&config::read(&file)?, &file, Some(&self.name))?;
        let node = config.local(place.node.as_deref())?;
        // Before anything is made: most often it is this that fails.
        let listener = self.listen(&config, node)?;
        let key_file = config.net.key_file.clone();
        let (secret, made) = tls::Secret::load_or_create(&key_file)?;
        if made {
            say(&format!("This node has a key now, in {}.", key_file.display()));
        }
        let time = Duration::from_secs_f64(self.minutes * 60.0);
        let token = self.token(&config, node, &listener, secret.public, time)?;
        self.show(&config, node, &token)?;
        let home = Home { file, name: self.name.clone(), node, key: secret.public };
        let mut tell = |text: &str| say(text);
        let joined = Door::open(listener, &secret, &token, &home, time, &mut tell)?.wait()?;
        self.done(&joined)
    }

    fn listen(&self, config: &Config, node: NodeId) -> Result<TcpListener> {
        let address = &config.node(node).address;
        let place = self.listen.map_or_else(|| address.to_string(), |listen| listen.to_string());
        let what = || format!("Cannot wait for the other node at {place}");
        let bound = match self.listen {
            Some(listen) => TcpListener::bind(listen),
            None => address.resolve().and_then(|all| TcpListener::bind(&all[..])),
        };
        bound.map_err(|error| {
            let (name, host) = (&self.name, address.host());
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            let other = format!("rblk pair {name} --listen {host}:PORT");
            match error.kind() {
                ErrorKind::AddrInUse => Error::new(Kind::Busy, what())
                    .why(format!("somebody has that port, as the daemon of {name} has if it runs"))
                    .remedy(format!("wait on another with `{other}`, or end the daemon: `rblk detach {name}`")),
                ErrorKind::AddrNotAvailable => Error::new(Kind::Refused, what())
                    .why("this host does not have that address")
                    .remedy(format!(
                        "correct `address` of {} in the configuration, run it on that node, or use `{other}`",
                        config.node(node).name
                    )),
                _ => Error::io(what(), error).remedy(format!("wait at another address with `{other}`")),
            }
        })
    }

    fn token(
        &self,
        config: &Config,
        node: NodeId,
        listener: &TcpListener,
        host: crate::key::PublicKey,
        time: Duration,
    ) -> Result<Token> {
        let what = "Cannot make a token";
        let failed = |error| Error::io(what, error);
        let bound = listener.local_addr().map_err(failed)?;
        // Of all addresses the other node knows the configured one.
        let configured = &config.node(node).address;
        let address = match (self.listen, bound.ip().is_unspecified()) {
            (Some(_), false) => bound.to_string(),
            (Some(_), true) if configured.host().contains(':') => {
                format!("[{}]:{}", configured.host(), bound.port())
            }
            (Some(_), true) => format!("{}:{}", configured.host(), bound.port()),
            (None, _) => configured.to_string(),
        };
        let address = Address::parse(&address)
            .map_err(|why| Error::new(Kind::Usage, what).why(why).remedy("correct --listen"))?;
        let until = SystemTime::now() + time;
        let expires = until.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let key_file = &config.net.key_file;
        let key_file = (*key_file != key_file_of(&self.name)).then(|| key_file.clone());
        let secret = Secret::fresh().map_err(failed)?;
        Ok(Token { name: self.name.clone(), address, host, secret, expires, key_file })
    }

    fn show(&self, config: &Config, node: NodeId, token: &Token) -> Result<()> {
        let text = token.to_text().map_err(|why| {
            Error::new(Kind::Config, "Cannot make a token").why(why).remedy("use shorter names")
        })?;
        let (own, peer) = (&config.node(node).name, &config.peer_of(node).name);
        let expires = UNIX_EPOCH + Duration::from_secs(token.expires);
        let expires = humantime::format_rfc3339_seconds(expires).to_string();
        if self.json {
            let key_file = &config.net.key_file;
            let (name, address, key) = (&self.name, &token.address, token.host.to_string());
            let token = text.as_str();
            return print_line(&Waiting {
                name,
                node: own,
                peer,
                key,
                key_file,
                address,
                expires,
                token,
            });
        }
        say(&format!(
            "{own} waits for {peer} at {}, until {expires}. On {peer} run\n  rblk join\n\
             and give it this token, which is as good as a password until then:",
            token.address
        ));
        print(&text)
    }

    fn done(&self, joined: &Joined) -> Result<()> {
        let (name, node, from) = (&self.name, &joined.node, joined.from);
        if self.json {
            return print_line(&Done { name, joined: node, key: joined.key.to_string(), from });
        }
        say(&format!(
            "{node} has joined from {}. Both configurations name both keys, and ask for TLS.\n{}",
            from.ip(),
            next_steps(name)
        ));
        Ok(())
    }
}

/// Prints `value` as one line of JSON: more may follow.
fn print_line(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value)
        .map_err(|error| Error::io("Cannot write JSON", std::io::Error::other(error)))?;
    print(&text)
}

/// What is left to do on the two nodes.
pub(super) fn next_steps(name: &Name) -> String {
    let (create, restart) =
        (format!("rblk create {name}"), format!("systemctl restart rblk@{name}"));
    format!(
        "Next, on both nodes:\n  \
           {create:<width$}  if its disk has no metadata yet\n  \
           {restart}  or, without systemd: rblk attach {name}\n\
         and, the first time, on the node whose data shall be kept:\n  \
           rblk promote {name} --force",
        width = restart.len()
    )
}
