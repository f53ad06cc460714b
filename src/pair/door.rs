//! The host: listens until the guest has joined, or the token is worth nothing any more.
//!
//! One thread looks after all connections: no stranger can make it wait. Who has proved nothing has
//! [`PAIR_PROOF_S`] seconds and [`PAIR_GUEST_BYTES_MAX`] bytes, and is the first to go when others come.

use super::home::{Home, Offer};
use super::line::{Line, Look};
use super::message::{Message, Refusal, Trouble};
use super::proof::{PROOF_BYTES, Role};
use super::token::Token;
use crate::config::Name;
use crate::error::{Error, Kind, Result};
use crate::io::tls::{Secret, Visited};
use crate::key::PublicKey;
use crate::limits::{
    PAIR_GUEST_BYTES_MAX, PAIR_GUESTS_MAX, PAIR_PROOF_S, PAIR_REST_S, PAIR_TOLD_MAX, PAIR_WRONG_MAX,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// When the system has no more descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// The guest has joined: both configurations name both keys.
#[derive(Debug)]
pub struct Joined {
    /// Which node.
    pub node: Name,
    /// Its key.
    pub key: PublicKey,
    /// Where it came from.
    pub from: SocketAddr,
}

/// How far a guest has come.
enum Stage {
    /// Nobody.
    Stranger,
    /// It knows the token, and looks at this.
    Offered(Offer),
    /// This node's configuration names it.
    Kept,
}

struct Guest {
    stream: TcpStream,
    from: SocketAddr,
    line: Line,
    stage: Stage,
    since: Instant,
    until: Instant,
}

impl Guest {
    /// Who stays longest when others come.
    fn standing(&self) -> u8 {
        match self.stage {
            Stage::Stranger => self.line.standing(),
            Stage::Offered(_) | Stage::Kept => u8::MAX,
        }
    }

    fn flush(&mut self) -> bool {
        self.line.flush(&mut &self.stream).is_ok()
    }

    /// The last word. It is short: the system takes it at once.
    fn refuse(&mut self, why: Refusal) {
        self.line.say(&Message::Refused(why));
        self.line.say_goodbye();
        self.flush();
    }
}

/// What comes of a guest.
enum Next {
    Stay,
    /// It is let go; why, if that is worth telling.
    Leave(Option<String>),
    Joined(PublicKey),
}

/// A port on which the guest is waited for.
pub struct Door<'a> {
    listener: TcpListener,
    visited: Visited,
    token: &'a Token,
    home: &'a Home,
    until: Instant,
    guests: Vec<Guest>,
    wrong: u32,
    told: u32,
    /// The key that this node's configuration names since.
    kept: Option<PublicKey>,
    say: &'a mut dyn FnMut(&str),
}

impl<'a> Door<'a> {
    /// Waits on `listener` for who brings `token` within `time`. `secret` is the host's key; `say` tells what happens.
    ///
    /// # Errors
    /// The system or the TLS library does not do it.
    pub fn open(
        listener: TcpListener,
        secret: &Secret,
        token: &'a Token,
        home: &'a Home,
        time: Duration,
        say: &'a mut dyn FnMut(&str),
    ) -> Result<Door<'a>> {
        let what = "Cannot wait for the other node";
        listener.set_nonblocking(true).map_err(|error| Error::io(what, error))?;
        let visited = Visited::new(secret).map_err(|why| Error::new(Kind::Io, what).why(why))?;
        let until = Instant::now() + time;
        let (guests, wrong, told, kept) = (Vec::new(), 0, 0, None);
        Ok(Door { listener, visited, token, home, until, guests, wrong, told, kept, say })
    }

    /// Until it has joined.
    ///
    /// # Errors
    /// The token has expired, or was tried out too often.
    pub fn wait(mut self) -> Result<Joined> {
        loop {
            let over = self.expired();
            if over && self.guests.is_empty() {
                return Err(self.nobody());
            }
            self.sleep(over)?;
            if !over {
                self.accept();
            }
            let mut at = 0;
            while at < self.guests.len() {
                match self.step(at) {
                    Next::Stay => at += 1,
                    Next::Leave(why) => self.let_go(at, why),
                    Next::Joined(key) => {
                        let (node, from) = (self.home.guest()?, self.guests[at].from);
                        return Ok(Joined { node, key, from });
                    }
                }
                if self.wrong >= PAIR_WRONG_MAX {
                    return Err(self.tried_out());
                }
            }
        }
    }

    /// By either clock: a wall clock that is set back makes no token live longer.
    fn expired(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Instant::now() >= self.until || now >= self.token.expires
    }

    /// Until there is something to do.
    fn sleep(&self, over: bool) -> Result<()> {
        let listener = (!over).then(|| PollFd::new(&self.listener, PollFlags::IN));
        let of = |guest: &'_ Guest| match guest.line.wants_write() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        let guests = self.guests.iter().map(|guest| PollFd::new(&guest.stream, of(guest)));
        let mut all: Vec<PollFd<'_>> = listener.into_iter().chain(guests).collect();
        let until = self.guests.iter().map(|guest| guest.until);
        let until = until.chain((!over).then_some(self.until)).min().unwrap_or(self.until);
        // The wall clock may be set, too: it is looked at once a second.
        let wait = until.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
        let wait = wait + Duration::from_millis(1);
        let wait = Timespec::try_from(wait).map_err(|_| ());
        match poll(&mut all, wait.ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Error::io("Cannot wait for the other node", error.into())),
        }
    }

    fn accept(&mut self) {
        for _ in 0..PAIR_GUESTS_MAX {
            let (stream, from) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Of one connection, or the descriptors are used up: that passes.
                    std::thread::sleep(PAUSE);
                    return;
                }
            };
            let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
            let meeting = self.visited.meet(PAIR_GUEST_BYTES_MAX);
            let (Ok(()), Ok(meeting)) = (ready, meeting) else { continue };
            self.make_room();
            let since = Instant::now();
            let until = since + Duration::from_secs(PAIR_PROOF_S);
            let (line, stage) = (Line::new(meeting), Stage::Stranger);
            self.guests.push(Guest { stream, from, line, stage, since, until });
        }
    }

    /// Puts out who has said the least; of these, who came first.
    fn make_room(&mut self) {
        if self.guests.len() < PAIR_GUESTS_MAX {
            return;
        }
        let order = |(_, guest): &(usize, &Guest)| (guest.standing(), guest.since);
        if let Some((at, _)) = self.guests.iter().enumerate().min_by_key(order) {
            self.guests.remove(at);
        }
    }

    fn let_go(&mut self, at: usize, why: Option<String>) {
        let guest = self.guests.remove(at);
        let node =
            || self.home.guest().map_or_else(|_| "the other node".to_owned(), |n| n.to_string());
        match (&guest.stage, why) {
            (Stage::Kept, _) => {
                let node = node();
                (self.say)(&format!(
                    "{node} has left without saying that it is done. Run `rblk join` there once more, with this token."
                ));
            }
            (_, Some(why)) if self.told < PAIR_TOLD_MAX => {
                self.told += 1;
                (self.say)(&format!("{}: {why}.", guest.from));
            }
            _ => {}
        }
    }

    /// All that this guest has for us.
    fn step(&mut self, at: usize) -> Next {
        loop {
            let guest = &mut self.guests[at];
            if !guest.flush() {
                return Next::Leave(None);
            }
            match guest.line.look(&mut &guest.stream) {
                Ok(Look::Wait) if guest.line.wants_write() => {
                    if !guest.flush() {
                        return Next::Leave(None);
                    }
                    if guest.line.wants_write() {
                        return self.patience(at);
                    }
                }
                Ok(Look::Wait) => return self.patience(at),
                Ok(Look::Closed) => return Next::Leave(None),
                Ok(Look::Said(message)) => match self.hear(at, message) {
                    Next::Stay => {}
                    end => return end,
                },
                Err(why) => {
                    guest.flush();
                    return Next::Leave(Some(why));
                }
            }
        }
    }

    fn patience(&self, at: usize) -> Next {
        let guest = &self.guests[at];
        match (Instant::now() < guest.until, guest.standing()) {
            (true, _) => Next::Stay,
            (false, u8::MAX) => Next::Leave(Some("it does not go on".to_owned())),
            (false, _) => Next::Leave(None),
        }
    }

    fn hear(&mut self, at: usize, message: Message) -> Next {
        match (&self.guests[at].stage, message) {
            (Stage::Stranger, Message::Proof { expires, proof }) => {
                let Some(key) = self.guests[at].line.peer() else { return Next::Leave(None) };
                match self.judge(at, &key, expires, &proof) {
                    Ok(offer) => self.offer(at, offer),
                    Err((why, words)) => {
                        self.guests[at].refuse(why);
                        Next::Leave(Some(words))
                    }
                }
            }
            (Stage::Offered(_), Message::Ready) => self.keep(at),
            (Stage::Offered(_), Message::Sorry(trouble)) => Next::Leave(Some(words(trouble))),
            (Stage::Kept, Message::Done) => {
                let guest = &mut self.guests[at];
                guest.line.say_goodbye();
                guest.flush();
                self.kept.map_or(Next::Leave(None), Next::Joined)
            }
            _ => Next::Leave(Some("it says what does not belong there".to_owned())),
        }
    }

    /// Whether who has `key` knows the token, and may join.
    fn judge(
        &mut self,
        at: usize,
        key: &PublicKey,
        expires: u64,
        proof: &[u8; PROOF_BYTES],
    ) -> std::result::Result<Offer, (Refusal, String)> {
        let token = self.token;
        let right = self.guests[at]
            .line
            .claimed(Role::Guest, token, key, |claim| claim.is_proved_by(&token.secret, proof));
        if right != Ok(true) {
            self.wrong += 1;
            let count = format!("wrong proof {} of at most {PAIR_WRONG_MAX}", self.wrong);
            return Err(match expires == token.expires {
                true => (Refusal::Wrong, format!("it does not know the token ({count})")),
                false => (
                    Refusal::Older,
                    format!("its token is not this one: an earlier `rblk pair` made it ({count})"),
                ),
            });
        }
        if self.expired() {
            return Err((Refusal::Expired, "it knows the token, which has expired".to_owned()));
        }
        if *key == self.home.key {
            let words = "it has the same private key as this node: run `rblk keygen --force` on one of them";
            return Err((Refusal::SameKey, words.to_owned()));
        }
        if self.kept.is_some_and(|kept| kept != *key) {
            return Err((Refusal::Used, "another node has joined with the token".to_owned()));
        }
        self.home.offer(*key).map_err(|error| (Refusal::Host, error.to_string()))
    }

    fn offer(&mut self, at: usize, offer: Offer) -> Next {
        let token = self.token;
        let guest = &mut self.guests[at];
        let proof =
            guest.line.claimed(Role::Host, token, &offer.guest, |claim| claim.prove(&token.secret));
        let Ok(proof) = proof else { return Next::Leave(None) };
        guest.line.say(&Message::Offer { proof, config: offer.text.clone().into() });
        guest.until = Instant::now() + Duration::from_secs(PAIR_REST_S);
        let from = guest.from;
        guest.stage = Stage::Offered(offer);
        (self.say)(&format!("{from} knows the token, and gets the configuration."));
        Next::Stay
    }

    /// From here on the guest, and nobody else, is let in by this node.
    fn keep(&mut self, at: usize) -> Next {
        let guest = &mut self.guests[at];
        let Stage::Offered(offer) = &guest.stage else { return Next::Leave(None) };
        let (key, replaces) = (offer.guest, offer.replaces);
        if self.kept.is_some_and(|kept| kept != key) {
            guest.refuse(Refusal::Used);
            return Next::Leave(Some("another node has joined with the token".to_owned()));
        }
        if let Err(error) = self.home.keep(offer) {
            guest.refuse(Refusal::Host);
            return Next::Leave(Some(error.to_string()));
        }
        self.kept = Some(key);
        guest.stage = Stage::Kept;
        guest.line.say(&Message::Written);
        if let Some(old) = replaces {
            (self.say)(&format!("It was known by {old}, which is worth nothing any more."));
        }
        Next::Stay
    }

    fn nobody(&self) -> Error {
        let name = &self.home.name;
        let error = Error::new(Kind::Timeout, format!("Nobody has joined {name}"));
        match self.kept {
            None => error
                .why("the token has expired; the configuration is what it was")
                .remedy(format!("run `rblk pair {name}` for a new one")),
            Some(key) => error
                .why(format!(
                    "this node's configuration names the key {key}, but the other node has not said that it is done"
                ))
                .remedy(format!(
                    "run `rblk pair {name}` here and `rblk join` there once more; that does no harm if it was done"
                )),
        }
    }

    fn tried_out(&self) -> Error {
        let name = &self.home.name;
        Error::new(Kind::Refused, format!("Nobody has joined {name}"))
            .why(format!(
                "{PAIR_WRONG_MAX} wrong proofs have come: the token is worth nothing any more"
            ))
            .remedy(format!(
                "find out who else can reach {}; then run `rblk pair {name}` for a new token",
                self.token.address
            ))
    }
}

/// What the guest's trouble is, in words.
fn words(trouble: Trouble) -> String {
    let words = match trouble {
        Trouble::Exists => "it has another configuration already, and says there what to do",
        Trouble::Unfit => "it cannot use this configuration, and says there why",
        Trouble::Io => "it cannot write its files, and says there why",
    };
    format!("{words}; the token is still valid")
}
