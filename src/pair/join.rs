//! The guest: brings the token back, and takes the configuration home.

use super::edit::paired;
use super::file::Written;
use super::line::{Line, Look};
use super::message::{Message, Refusal, Trouble};
use super::proof::Role;
use super::token::Token;
use crate::config::{Config, Security};
use crate::error::{Error, Kind, Result};
use crate::io::tls::{Meeting, Secret};
use crate::limits::{PAIR_ATTEMPTS, PAIR_HOST_BYTES_MAX, PAIR_PROOF_S, PAIR_REST_S};
use crate::meta::superblock::NodeId;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two looks at the clock.
const LOOK: Duration = Duration::from_millis(100);
/// Before the first attempt once more; each further one waits longer.
const PAUSE: Duration = Duration::from_millis(200);

/// What the host offers, checked: its own key and this node's are in it, and TLS.
pub struct Offered {
    /// The configuration.
    pub config: Config,
    /// As it is written.
    pub text: String,
    /// Which node this is.
    pub node: NodeId,
}

impl Offered {
    /// `text`, another file with the same configuration, with the keys and TLS of this one.
    ///
    /// # Errors
    /// It is not.
    pub fn applied_to(&self, text: &str) -> Result<String> {
        let [first, second] = &self.config.nodes;
        let [Some(one), Some(two)] = [first.key, second.key] else { return Ok(text.to_owned()) };
        paired(text, [(&first.name, &one), (&second.name, &two)])
    }
}

/// What the two have agreed on.
type Prepared = std::result::Result<Option<Written>, (Trouble, Error)>;

/// Joins. `secret` is this node's key; `prepare` writes what is offered beside the file that it is to replace, or
/// nothing if that is the same already. It is put in its place once the host has changed its own.
///
/// # Errors
/// Why it is refused, or cannot be done; then this node's configuration is what it was.
pub fn join(
    token: &Token,
    secret: &Secret,
    prepare: impl FnOnce(&Offered) -> Prepared,
) -> Result<Offered> {
    let mut visit = enter(token, secret)?;
    let (proof, config) = match visit.next(PAIR_PROOF_S).map_err(|lost| lost.error(token))? {
        Message::Offer { proof, config } => (proof, config),
        Message::Refused(why) => return Err(refused(token, why)),
        _ => return Err(strange(token)),
    };
    let right = visit.line.claimed(Role::Host, token, &secret.public, |claim| {
        claim.is_proved_by(&token.secret, &proof)
    });
    if right != Ok(true) {
        return Err(failed(token)
            .why("who answers has the host's key, but does not know the token")
            .remedy(
                "look who has that key; make new ones on the host with `rblk keygen --force`",
            ));
    }
    let offered = check(token, secret, &config).map_err(|error| (Trouble::Unfit, error));
    let prepared = offered.and_then(|offered| Ok((prepare(&offered)?, offered)));
    let (written, offered) = match prepared {
        Ok(prepared) => prepared,
        Err((trouble, error)) => {
            visit.leave_with(&Message::Sorry(trouble));
            return Err(error);
        }
    };
    visit.line.say(&Message::Ready);
    match visit.next(PAIR_REST_S) {
        Ok(Message::Written) => {}
        Ok(Message::Refused(why)) => return Err(refused(token, why)),
        Ok(_) => return Err(strange(token)),
        Err(lost) => return Err(lost.error(token)),
    }
    written.map_or(Ok(()), Written::place)?;
    visit.leave_with(&Message::Done);
    Ok(offered)
}

/// A conversation with the host.
pub(super) struct Visit {
    stream: TcpStream,
    pub(super) line: Line,
}

/// Why it has ended.
#[derive(Debug)]
pub(super) enum Lost {
    /// It may be worth another attempt.
    Gone(&'static str),
    /// The other end is not to be talked to.
    Bad(String),
}

impl Lost {
    pub(super) fn error(self, token: &Token) -> Error {
        let name = &token.name;
        match self {
            Lost::Gone(why) => failed(token).why(why).remedy(format!(
                "see what `rblk pair {name}` says there, and run this once more; if it has ended, begin with a new \
                 token"
            )),
            Lost::Bad(why) => failed(token).why(why).remedy(format!(
                "run `rblk pair {name}` on the host, and take the token that it prints; if it does run, somebody is in \
                 between"
            )),
        }
    }
}

/// Connects and proves that the token is known. Strangers may push us out before that: then once more.
fn enter(token: &Token, secret: &Secret) -> Result<Visit> {
    let mut attempt = 1;
    loop {
        let mut visit = connect(token, secret)?;
        match visit.prove(token, secret) {
            Ok(()) => return Ok(visit),
            Err(Lost::Gone(_)) if attempt < PAIR_ATTEMPTS => {
                std::thread::sleep(PAUSE * attempt);
                attempt += 1;
            }
            Err(lost) => return Err(lost.error(token)),
        }
    }
}

pub(super) fn connect(token: &Token, secret: &Secret) -> Result<Visit> {
    let mut last = None;
    let addresses = token.address.resolve().map_err(|error| {
        failed(token).source(error).remedy("make the host's name known here, or pair by an address")
    })?;
    for address in addresses {
        let stream = match TcpStream::connect_timeout(&address, Duration::from_secs(PAIR_PROOF_S)) {
            Ok(stream) => stream,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(LOOK)));
        let set = set.and_then(|()| stream.set_write_timeout(Some(LOOK)));
        set.map_err(|error| failed(token).source(error))?;
        let meeting = Meeting::visit(secret, token.host, address.ip(), PAIR_HOST_BYTES_MAX);
        let line = Line::new(meeting.map_err(|why| failed(token).why(why))?);
        return Ok(Visit { stream, line });
    }
    Err(unreachable(token, last))
}

impl Visit {
    /// Sends the proof, as soon as there is a session.
    pub(super) fn prove(
        &mut self,
        token: &Token,
        secret: &Secret,
    ) -> std::result::Result<(), Lost> {
        let until = Instant::now() + Duration::from_secs(PAIR_PROOF_S);
        while self.line.peer().is_none() {
            match self.turn(until)? {
                None => {}
                Some(_) => return Err(Lost::Bad("it speaks before it is asked".to_owned())),
            }
        }
        let proof = self
            .line
            .claimed(Role::Guest, token, &secret.public, |claim| claim.prove(&token.secret));
        let proof = proof.map_err(Lost::Bad)?;
        self.line.say(&Message::Proof { expires: token.expires, proof });
        Ok(())
    }

    /// What the host says next.
    pub(super) fn next(&mut self, seconds: u64) -> std::result::Result<Message, Lost> {
        let until = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(message) = self.turn(until)? {
                return Ok(message);
            }
        }
    }

    pub(super) fn turn(&mut self, until: Instant) -> std::result::Result<Option<Message>, Lost> {
        // A broken wire may still have words for us.
        let written = self.line.flush(&mut &self.stream);
        let look = self.line.look(&mut &self.stream);
        match look {
            Ok(Look::Said(message)) => Ok(Some(message)),
            Ok(Look::Closed) => Err(Lost::Gone("the host has closed the connection")),
            Ok(Look::Wait) if written.is_err() => Err(Lost::Gone("the connection broke")),
            Ok(Look::Wait) if Instant::now() >= until => {
                Err(Lost::Gone("the host does not answer"))
            }
            Ok(Look::Wait) => Ok(None),
            Err(why) => {
                let _told = self.line.flush(&mut &self.stream);
                Err(Lost::Bad(why))
            }
        }
    }

    /// Says it as the last word, and waits until the host has heard it: whoever closes too soon may take it back.
    pub(super) fn leave_with(&mut self, message: &Message) {
        self.line.say(message);
        let until = Instant::now() + Duration::from_secs(PAIR_PROOF_S);
        while let Ok(None) = self.turn(until) {}
    }
}

/// Whether what is offered is a configuration of these two nodes.
fn check(token: &Token, secret: &Secret, config: &[u8]) -> Result<Offered> {
    let place = format!("{} of the host", token.name);
    let config_of = Config::parse(config, Path::new(&place), Some(&token.name))?;
    let by = |key| config_of.nodes.iter().position(|node| node.key == Some(key));
    let nodes = (by(token.host), by(secret.public));
    let node = match nodes {
        (Some(0), Some(1)) => NodeId(1),
        (Some(1), Some(0)) => NodeId(0),
        _ => return Err(strange(token)),
    };
    if config_of.net.security != Security::Tls {
        return Err(strange(token));
    }
    let text = String::from_utf8_lossy(config).into_owned();
    Ok(Offered { config: config_of, text, node })
}

fn failed(token: &Token) -> Error {
    Error::new(Kind::Refused, format!("Cannot join {} at {}", token.name, token.address))
}

fn strange(token: &Token) -> Error {
    failed(token)
        .why("the host says what does not belong there")
        .remedy("install the same version of rblk on both nodes")
}

fn refused(token: &Token, why: Refusal) -> Error {
    let name = &token.name;
    let new = format!("run `rblk pair {name}` there, and take the token that it prints");
    let (why, remedy) = match why {
        Refusal::Wrong => ("the host does not know this token", new),
        Refusal::Older => {
            ("the token is from an earlier `rblk pair`, and is worth nothing any more", new)
        }
        Refusal::Expired => ("the token has expired", new),
        Refusal::Used => ("another node has joined with this token", new),
        Refusal::SameKey => (
            "both nodes have the same private key, as after copying one to the other",
            format!("run `rblk keygen {name} --force` here, and this once more"),
        ),
        Refusal::Host => (
            "the host cannot use or write its own configuration, and says there why",
            "see what `rblk pair` says there".to_owned(),
        ),
    };
    failed(token).why(why).remedy(remedy)
}

fn unreachable(token: &Token, last: Option<std::io::Error>) -> Error {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let name = &token.name;
    let refused = last.as_ref().is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    let why = match (refused, now >= token.expires) {
        (true, true) => "nobody waits there any more: by this node's clock the token has expired",
        (true, false) => {
            "nobody waits there: `rblk pair` has ended, or the address is another host's"
        }
        (false, true) => "it cannot be reached, and by this node's clock the token has expired",
        (false, false) => "it cannot be reached",
    };
    let error = failed(token).why(why).remedy(format!(
        "run `rblk pair {name}` on the host for a new token; if it still waits, see whether a firewall is between, or \
         give it another place with --listen"
    ));
    match last {
        Some(last) => error.source(last),
        None => error,
    }
}
