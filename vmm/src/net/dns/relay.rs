//! Questions of the guest, and their way to an answer.
//!
//! Each name server has a moment to answer before the next one is asked, and whichever answers first
//! counts. One that stays silent is asked last for a while (`servers`).

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::epoll::Epoll;

use super::asker::Asker;
use super::message::{NoQuestion, Question, Response, code};
use super::servers::Servers;
use super::upstream::{Received, Sent, Upstream};
use crate::net::addresses::ABSENT;
use crate::net::datagram;
use crate::net::egress::Egress;
use crate::net::host_network::HostNetwork;
use crate::net::limits;

/// Time for a server to answer before the next one is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Time until a question without an answer is given up: longer than the C library of the guest waits for
/// its first server (resolv.conf(5), `timeout` and `attempts`).
const END: Duration = Duration::from_secs(12);
/// The same if no server can be asked, and the time between two attempts: a host on its way from one
/// network to another has none for a moment.
const UNREACHABLE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(500);
/// Times that one question is sent for one of its names.
const ATTEMPTS: usize = 8;
/// Seconds that an address of the hosts file is good for.
const SECONDS: u32 = 5;
/// Longest name (RFC 1035, section 2.3.4, without the length of its first label and the root's).
const NAME: usize = 253;

/// What the relay works with.
#[derive(Debug)]
pub(in crate::net) struct Surroundings<'n> {
    pub(in crate::net) epoll: &'n Epoll,
    pub(in crate::net) host: &'n HostNetwork,
    pub(in crate::net) egress: &'n mut Egress,
    pub(in crate::net) now: Instant,
}

/// The questions of one guest that wait for an answer, and answers that wait for the guest.
#[derive(Debug, Default)]
pub(in crate::net) struct Relay {
    waiting: HashMap<Asker, Waiting>,
    upstream: Upstream,
    servers: Servers,
    /// Those that have to be sent, or sent again.
    due: VecDeque<Asker>,
    answers: VecDeque<(Asker, Vec<u8>)>,
}

/// A question that waits.
#[derive(Debug)]
struct Waiting {
    question: Question,
    /// The message to be sent for the name as it is.
    message: Vec<u8>,
    /// Only addresses are passed on.
    only_addresses: bool,
    /// Names to be looked up: as it is (`None`), or in a domain of the search list.
    names: VecDeque<Option<String>>,
    servers: Vec<SocketAddr>,
    sent: Vec<(Sent, SocketAddr, Instant)>,
    /// Times that it was to be sent for its present name.
    attempts: usize,
    began: Instant,
    next_at: Instant,
    /// What is said if nothing better comes.
    last_word: Option<Vec<u8>>,
}

impl Relay {
    /// Whether an event of `token` is one of its sockets'.
    pub(in crate::net) fn owns(token: u64) -> bool {
        Upstream::owns(token)
    }

    /// Whether a question waits.
    pub(in crate::net) fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes the next answer for the guest.
    pub(in crate::net) fn next_answer(&mut self) -> Option<(Asker, Vec<u8>)> {
        self.answers.pop_front()
    }

    /// Returns the server for a connection that asks over TCP.
    pub(in crate::net) fn server(&mut self, around: &Surroundings<'_>) -> SocketAddr {
        self.servers.first(&around.host.resolver, around.now)
    }

    /// Notes that a connection to a server has come about, or not.
    pub(in crate::net) fn connected(&mut self, server: SocketAddr, came: bool, now: Instant) {
        if came {
            self.servers.heard(server, now);
        } else {
            self.servers.silent(server, now, now);
        }
    }

    /// Takes a message of the guest's from `guest` to the name server it knows as `remote`.
    pub(in crate::net) fn question(
        &mut self,
        (guest, remote): (SocketAddr, SocketAddr),
        message: &[u8],
        around: &mut Surroundings<'_>,
    ) {
        let asker = |id| Asker { guest, remote, id };
        let question = match Question::read(message) {
            Ok(question) => question,
            Err(NoQuestion(answer)) => {
                self.answers.extend(answer.map(|answer| (asker(0), answer)));
                return;
            }
        };
        let asker = asker(question.id);
        match self.waiting.get(&asker) {
            // The guest asks once more; so do we, in our own time.
            Some(known) if known.question == question => return,
            Some(_) => self.forget(asker),
            None if self.waiting.len() >= limits::QUESTIONS => {
                log::debug!("a question is lost: {} wait", limits::QUESTIONS);
                return;
            }
            None => {}
        }
        if let Some(answer) = local(&question, around) {
            self.answers.push_back((asker, answer));
            return;
        }
        let names = names(&question, around);
        if names.is_empty() {
            let answer = question.answer(code::NO_SUCH_NAME, &[]);
            self.answers.push_back((asker, answer));
            return;
        }
        let only_addresses = around.egress.names.is_some();
        let message = match &question.name {
            Some(name) if only_addresses => question.for_name(name),
            _ => message.to_vec(),
        };
        let waiting = Waiting {
            question,
            message,
            only_addresses,
            names,
            servers: self.servers.order(&around.host.resolver, around.now),
            sent: Vec::new(),
            attempts: 0,
            began: around.now,
            next_at: around.now,
            last_word: None,
        };
        self.waiting.insert(asker, waiting);
        self.due.push_back(asker);
        self.send(around);
    }

    /// Sends what is due.
    fn send(&mut self, around: &Surroundings<'_>) {
        while let Some(asker) = self.due.pop_front() {
            let Some(waiting) = self.waiting.get_mut(&asker) else {
                continue;
            };
            let mut message = match waiting.names.front() {
                Some(Some(name)) => waiting.question.for_name(name),
                _ => waiting.message.clone(),
            };
            waiting.next_at = around.now + AGAIN;
            // Each server in turn, until one can be asked.
            for _ in 0..waiting.servers.len() {
                let server = waiting.servers[waiting.attempts % waiting.servers.len()];
                waiting.attempts += 1;
                match self
                    .upstream
                    .send(around.epoll, server, asker, &mut message)
                {
                    Ok(sent) => {
                        waiting.sent.push((sent, server, around.now));
                        waiting.next_at = around.now + PATIENCE;
                        break;
                    }
                    Err(error) => {
                        log::debug!("the name server {server} cannot be asked: {error}");
                        self.servers.silent(server, around.now, around.now);
                    }
                }
            }
        }
    }

    /// Takes what has come for one of its sockets, but not without end. `buffer` is for one message.
    pub(in crate::net) fn receive(
        &mut self,
        socket: u64,
        buffer: &mut [u8],
        around: &mut Surroundings<'_>,
    ) {
        // Over IPv6, a server can send more than what fits a datagram to the guest.
        let room = buffer.len().min(datagram::LARGEST);
        let buffer = &mut buffer[..room];
        for _ in 0..limits::BURST {
            match self.upstream.receive(socket, buffer) {
                Received::Nothing => break,
                Received::Failed(server, askers) => {
                    self.servers.silent(server, around.now, around.now);
                    for asker in askers {
                        self.lost(asker, socket, around);
                    }
                    break;
                }
                Received::Message(count) => {
                    let message = buffer.get(..count).unwrap_or_default();
                    if let Some(server) = self.upstream.server(socket) {
                        self.servers.heard(server, around.now);
                    }
                    if let Some(response) = Response::read(message) {
                        let id = response.id();
                        self.answered(Sent { socket, id }, &response, around);
                    }
                }
            }
        }
        self.send(around);
    }

    /// What went through a socket has no answer: the next server is asked at once, if there is another.
    fn lost(&mut self, asker: Asker, socket: u64, around: &Surroundings<'_>) {
        if let Some(waiting) = self.waiting.get_mut(&asker) {
            waiting.sent.retain(|(sent, ..)| sent.socket != socket);
            if waiting.sent.is_empty() && waiting.attempts < waiting.servers.len() {
                self.due.push_back(asker);
            } else if waiting.sent.is_empty() {
                waiting.next_at = around.now + AGAIN;
            }
        }
    }

    fn answered(&mut self, sent: Sent, response: &Response<'_>, around: &mut Surroundings<'_>) {
        let Some((asker, server)) = self.upstream.asker(sent) else {
            return;
        };
        let Some(waiting) = self.waiting.get_mut(&asker) else {
            return;
        };
        let name = waiting.names.front().cloned().flatten();
        let asked = match &name {
            Some(name) => waiting.question.for_name(name),
            None => waiting.message.clone(),
        };
        if !response.is_to(&asked) {
            return;
        }
        let refused = matches!(
            response.code(),
            code::SERVER_FAILURE | code::NOT_IMPLEMENTED | code::REFUSED
        );
        let raw = name.is_none() && !waiting.only_addresses;
        if refused || response.code() == code::NO_SUCH_NAME {
            let word = if raw {
                response.with_id(asker.id)
            } else {
                waiting.question.answer(response.code(), &[])
            };
            // Of the name as it is, the server's own words tell most.
            if name.is_none() || waiting.last_word.is_none() {
                waiting.last_word = Some(word);
            }
            if refused {
                // Another server may know (the C library's res_send does the same).
                waiting.sent.retain(|(own, ..)| *own != sent);
                self.upstream.forget(sent);
                if waiting.servers.iter().any(|other| *other != server)
                    && waiting.attempts < waiting.servers.len()
                {
                    self.due.push_back(asker);
                    return;
                }
                if !waiting.sent.is_empty() {
                    return;
                }
            }
            self.next_name(asker);
            return;
        }
        let answer = if raw {
            response.with_id(asker.id)
        } else {
            waiting.synthesise(name.as_deref(), response, around)
        };
        self.answers.push_back((asker, answer));
        self.forget(asker);
    }

    /// Has the next name looked up; without any, the question is answered.
    fn next_name(&mut self, asker: Asker) {
        let Some(waiting) = self.waiting.get_mut(&asker) else {
            return;
        };
        for (sent, ..) in waiting.sent.drain(..) {
            self.upstream.forget(sent);
        }
        waiting.names.pop_front();
        waiting.attempts = 0;
        if waiting.names.is_empty() {
            self.give_up(asker);
        } else {
            self.due.push_back(asker);
        }
    }

    fn give_up(&mut self, asker: Asker) {
        if let Some(waiting) = self.waiting.get_mut(&asker) {
            let last = waiting.last_word.take();
            let failure = || waiting.question.answer(code::SERVER_FAILURE, &[]);
            let answer = last.unwrap_or_else(failure);
            self.answers.push_back((asker, answer));
        }
        self.forget(asker);
    }

    fn forget(&mut self, asker: Asker) {
        if let Some(waiting) = self.waiting.remove(&asker) {
            for (sent, ..) in waiting.sent {
                self.upstream.forget(sent);
            }
        }
    }

    /// Asks the next servers for what has waited long enough, and gives up what has waited too long.
    pub(in crate::net) fn tick(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now;
        let mut over = Vec::new();
        for (asker, waiting) in &mut self.waiting {
            let waited = now.duration_since(waiting.began);
            let unreachable = waiting.sent.is_empty() && waited >= UNREACHABLE;
            if waited >= END || unreachable {
                over.push(*asker);
            }
            if waiting.next_at > now {
                continue;
            }
            for (_, server, asked) in &waiting.sent {
                self.servers.silent(*server, *asked, now);
            }
            if waiting.sent.len() < ATTEMPTS {
                self.due.push_back(*asker);
            } else {
                waiting.next_at = now + END;
            }
        }
        for asker in over {
            self.give_up(asker);
        }
        self.send(around);
    }

    /// Returns how many questions wait, and through how many sockets.
    #[cfg(test)]
    pub(in crate::net) fn load(&self) -> (usize, usize) {
        (self.waiting.len(), self.upstream.len())
    }
}

impl Waiting {
    /// Builds an answer with the addresses of `response`, as far as the guest may have them.
    fn synthesise(
        &self,
        name: Option<&str>,
        response: &Response<'_>,
        around: &mut Surroundings<'_>,
    ) -> Vec<u8> {
        let mut found = response.addresses();
        found.retain(|(ip, _)| self.question.is_for(*ip) && around.egress.may_reach(*ip));
        let asked = self.question.name.as_deref().unwrap_or_default();
        let ips: Vec<IpAddr> = found.iter().map(|(ip, _)| *ip).collect();
        around.egress.learn([asked, name.unwrap_or(asked)], &ips);
        if found.is_empty() && response.is_truncated() {
            return self.question.answer(code::SERVER_FAILURE, &[]);
        }
        self.question.answer(code::NO_ERROR, &found)
    }
}

/// The answer that needs no name server, if there is one.
fn local(question: &Question, around: &mut Surroundings<'_>) -> Option<Vec<u8>> {
    if around.egress.offline {
        return Some(without_servers(question, around.egress));
    }
    let Some(name) = question.name.as_deref() else {
        // Such a name is nothing that `--allow` takes.
        let closed = around.egress.names.is_some();
        return closed.then(|| question.answer(code::NO_SUCH_NAME, &[]));
    };
    if !question.is_for_addresses() {
        // There is such a name, with nothing but addresses.
        let names = around.egress.names.as_ref()?;
        let known = names.has_rule_for([name, name]);
        let code = if known {
            code::NO_ERROR
        } else {
            code::NO_SUCH_NAME
        };
        return Some(question.answer(code, &[]));
    }
    let entries = around.host.hosts.iter().filter(|entry| entry.name == name);
    let listed: Vec<IpAddr> = entries.map(|entry| entry.ip).collect();
    if listed.is_empty() || !around.egress.may_ask([name, name]) {
        return None;
    }
    // A list of names that the host does not want to know leads there.
    if listed.iter().all(IpAddr::is_unspecified) {
        return Some(question.answer(code::NO_SUCH_NAME, &[]));
    }
    let ips: Vec<IpAddr> = listed
        .into_iter()
        .filter(|ip| around.egress.may_reach(*ip))
        .collect();
    if ips.is_empty() {
        return None;
    }
    around.egress.learn([name, name], &ips);
    let addresses: Vec<(IpAddr, u32)> = ips.iter().map(|ip| (*ip, SECONDS)).collect();
    Some(question.answer(code::NO_ERROR, &addresses))
}

/// Answers where nothing leaves the host: every name that may be asked for has one address.
fn without_servers(question: &Question, egress: &mut Egress) -> Vec<u8> {
    let name = question.name.as_deref();
    let Some(name) = name.filter(|name| egress.may_ask([name, name])) else {
        return question.answer(code::NO_SUCH_NAME, &[]);
    };
    if !question.is_for_addresses() || !question.is_for(ABSENT.into()) {
        return question.answer(code::NO_ERROR, &[]);
    }
    egress.learn([name, name], &[ABSENT.into()]);
    question.answer(code::NO_ERROR, &[(ABSENT.into(), SECONDS)])
}

/// The names that are looked up for a question, in their order, as the C library has it
/// (resolv.conf(5), `search` and `ndots`). None that the guest may not ask for.
fn names(question: &Question, around: &Surroundings<'_>) -> VecDeque<Option<String>> {
    let Some(name) = question
        .name
        .as_deref()
        .filter(|_| question.is_for_addresses())
    else {
        return VecDeque::from([None]);
    };
    let resolver = &around.host.resolver;
    let searched = resolver
        .search
        .iter()
        .map(|domain| format!("{name}.{domain}"));
    let mut names: VecDeque<Option<String>> = searched
        .filter(|full| full.len() <= NAME && !name.is_empty())
        .map(Some)
        .collect();
    let dots = name.bytes().filter(|byte| *byte == b'.').count();
    if dots >= usize::from(resolver.ndots) {
        names.push_front(None);
    } else {
        names.push_back(None);
    }
    names.retain(|full| {
        let full = full.as_deref().unwrap_or(name);
        around.egress.may_ask([name, full])
    });
    names
}
