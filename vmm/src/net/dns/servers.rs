//! Which of the host's name servers is asked.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::resolv_conf::Resolver;
use crate::net::addresses::DNS_PORT;

/// How long one that does not answer is asked last; doubles each time.
const REST: Duration = Duration::from_secs(30);
/// Times that it doubles.
const DOUBLED: u32 = 3;

/// Asked where there is no other one, as the C library does (resolv.conf(5)).
const THIS_HOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DNS_PORT);

/// What is known of the name servers.
#[derive(Debug, Default)]
pub(super) struct Servers {
    known: HashMap<SocketAddr, Standing>,
    /// Questions so far, for servers that take turns.
    questions: usize,
}

#[derive(Debug, Default)]
struct Standing {
    heard: Option<Instant>,
    rests_until: Option<Instant>,
    rests: u32,
}

impl Servers {
    /// The servers for a new question: those that answer first, each group as `resolver` has them.
    pub(super) fn order(&mut self, resolver: &Resolver, now: Instant) -> Vec<SocketAddr> {
        let mut servers = resolver.servers.clone();
        if servers.is_empty() {
            servers.push(THIS_HOST);
        }
        self.known.retain(|server, _| servers.contains(server));
        if resolver.rotate {
            let turn = self.questions % servers.len();
            servers.rotate_left(turn);
        }
        self.questions = self.questions.wrapping_add(1);
        servers.sort_by_key(|server| self.rests(*server, now));
        servers
    }

    /// The first of these servers.
    pub(super) fn first(&mut self, resolver: &Resolver, now: Instant) -> SocketAddr {
        let order = self.order(resolver, now);
        order.first().copied().unwrap_or(THIS_HOST)
    }

    fn rests(&self, server: SocketAddr, now: Instant) -> bool {
        let standing = self.known.get(&server);
        standing.is_some_and(|standing| standing.rests_until.is_some_and(|until| until > now))
    }

    /// Notes that a server has answered.
    pub(super) fn heard(&mut self, server: SocketAddr, now: Instant) {
        let standing = self.known.entry(server).or_default();
        standing.heard = Some(now);
        standing.rests_until = None;
        standing.rests = 0;
    }

    /// Notes that a server has not answered what it was asked at `asked`.
    pub(super) fn silent(&mut self, server: SocketAddr, asked: Instant, now: Instant) {
        let standing = self.known.entry(server).or_default();
        let busy = standing.heard.is_some_and(|heard| heard >= asked);
        let rests = standing.rests_until.is_some_and(|until| until > now);
        if !busy && !rests {
            standing.rests_until = Some(now + REST * (1 << standing.rests.min(DOUBLED)));
            standing.rests += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(rotate: bool) -> Resolver {
        let server = |last| SocketAddr::from(([192, 0, 2, last], DNS_PORT));
        Resolver {
            servers: vec![server(1), server(2), server(3)],
            rotate,
            ..Resolver::default()
        }
    }

    #[test]
    fn a_silent_server_is_asked_last_until_it_has_rested() {
        let (resolver, now) = (resolver(false), Instant::now());
        let [one, two, _] = resolver.servers[..] else {
            unreachable!()
        };
        let mut servers = Servers::default();
        assert_eq!(servers.first(&resolver, now), one);
        servers.silent(one, now, now);
        assert_eq!(servers.order(&resolver, now).last(), Some(&one));
        assert_eq!(servers.first(&resolver, now), two);
        assert_eq!(servers.first(&resolver, now + REST), one);
        // Again, and it rests for longer.
        servers.silent(one, now + REST, now + REST);
        assert_eq!(servers.first(&resolver, now + 2 * REST), two);
        assert_eq!(servers.first(&resolver, now + 3 * REST), one);
        // One that answers others is slow, not silent.
        servers.heard(one, now + Duration::from_secs(2));
        servers.silent(
            one,
            now + Duration::from_secs(1),
            now + Duration::from_secs(3),
        );
        assert_eq!(servers.first(&resolver, now), one);
        // None is left out, even if all are silent.
        for server in &resolver.servers {
            servers.silent(*server, now + REST, now + REST);
        }
        assert_eq!(servers.order(&resolver, now).len(), 3);
        // What other networks had is forgotten.
        assert_eq!(
            servers.order(&Resolver::default(), now)[0].to_string(),
            "127.0.0.1:53"
        );
        assert!(servers.known.is_empty());
    }

    #[test]
    fn servers_take_turns_if_the_host_says_so() {
        let (resolver, now) = (resolver(true), Instant::now());
        let mut servers = Servers::default();
        let asked: Vec<SocketAddr> = (0..4).map(|_| servers.first(&resolver, now)).collect();
        assert_eq!(asked[..3], resolver.servers);
        assert_eq!(asked[3], asked[0]);
    }
}
