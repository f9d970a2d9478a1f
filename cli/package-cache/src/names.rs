//! Whether a server is the one that a name means: the parent asks the host's name servers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use boxbuild_jail::Channel;

use crate::message::{Answer, FromCache, Question};

/// Longest wait for an answer. Without one, what the server says is kept for its address only.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that are remembered.
const KNOWN: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Names {
    /// `None` while the answer is waited for.
    known: Mutex<HashMap<Question, Option<bool>>>,
    answered: Condvar,
}

impl Names {
    /// Whether `host`, which may have a port, is a name of `server`, or its address.
    pub(crate) fn are_of(&self, channel: &Channel, host: &str, server: SocketAddr) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        if port != Some(server.port()) {
            return false;
        }
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(ip) => ip == server.ip(),
            Err(_) => self.ask(channel, name, server.ip()),
        }
    }

    /// Whether a guest may ask for what `host` has said, which may have a port, where no server is reached.
    pub(crate) fn may_be_said(&self, channel: &Channel, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        // The network has let a connection to that address through.
        bare.parse::<IpAddr>().is_ok() || self.ask(channel, name, Ipv4Addr::UNSPECIFIED.into())
    }

    fn ask(&self, channel: &Channel, name: &str, ip: IpAddr) -> bool {
        let question = Question {
            name: name.to_owned(),
            ip,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&question) {
            Some(Some(yes)) => return *yes,
            Some(None) => {}
            None if known.len() >= KNOWN => return false,
            None => {
                known.insert(question.clone(), None);
                let message = serde_json::to_vec(&FromCache::Lookup(question.clone()));
                if !message.is_ok_and(|message| channel.send(&message, &[]).is_ok()) {
                    return false;
                }
            }
        }
        let waits = |known: &mut HashMap<_, _>| known.get(&question) == Some(&None);
        let waited = self.answered.wait_timeout_while(known, PATIENCE, waits);
        let (mut known, _) = waited.unwrap_or_else(PoisonError::into_inner);
        // A late answer still counts, but is not waited for again.
        *known.entry(question).or_default().get_or_insert(false)
    }

    /// Takes the parent's answer.
    pub(crate) fn take(&self, answer: &Answer) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = known.get_mut(&answer.question) {
            *place = Some(answer.yes);
        }
        self.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn addresses_are_themselves_and_names_are_what_the_host_says() {
        let (ours, theirs) = Channel::pair().unwrap();
        let names = Arc::new(Names::default());
        let server: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let six: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        assert!(names.are_of(&ours, "192.0.2.1", server));
        assert!(names.are_of(&ours, "192.0.2.1:80", server));
        assert!(names.are_of(&ours, "[2001:db8::1]", six));
        for host in ["192.0.2.2", "192.0.2.1:81", "deb.example:8080", "a:b"] {
            assert!(!names.are_of(&ours, host, server), "{host}");
        }
        let answers = Arc::clone(&names);
        let parent = std::thread::spawn(move || {
            for yes in [true, false] {
                let bytes = theirs.receive(Some(PATIENCE)).unwrap().unwrap();
                let FromCache::Lookup(question) = serde_json::from_slice(&bytes).unwrap() else {
                    panic!("another message");
                };
                answers.take(&Answer { question, yes });
            }
        });
        for _ in 0..2 {
            assert!(names.are_of(&ours, "deb.example", server));
            assert!(!names.are_of(&ours, "evil.example", server));
        }
        parent.join().unwrap();
    }
}
