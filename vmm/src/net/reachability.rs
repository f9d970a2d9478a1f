//! Whether the two worlds of IP can be reached, by what has become of connections.
//!
//! A default route may lead nowhere. The kernel waits for two minutes for an answer to a SYN, and a program
//! that tries one address after the other with it. Where nothing at all has answered over one version of
//! IP, and there is the other one, the guest is told in seconds.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::host_network::HostNetwork;

/// Time for an answer over a version of IP that has not been seen to work, and after a few without one.
/// Three seconds are enough for a SYN that is lost once (RFC 6298: sent again after one second).
const PATIENCE: Duration = Duration::from_secs(3);
const IMPATIENCE: Duration = Duration::from_secs(1);
/// That many.
const FEW: u32 = 3;
/// How long an answer counts.
const GOOD: Duration = Duration::from_secs(60);

/// What has become of connections, by version of IP.
#[derive(Debug, Default)]
pub(super) struct Reachability {
    worlds: [World; 2],
}

#[derive(Debug, Default)]
struct World {
    answered: Option<Instant>,
    silent: u32,
}

impl Reachability {
    fn world(&mut self, ip: IpAddr) -> &mut World {
        let [v4, v6] = &mut self.worlds;
        if ip.is_ipv6() { v6 } else { v4 }
    }

    /// When a connection to `to`, an address of the Internet, is given up, if the kernel is not left to
    /// decide.
    pub(super) fn deadline(
        &mut self,
        to: SocketAddr,
        host: &HostNetwork,
        now: Instant,
    ) -> Option<Instant> {
        // Without the other version, there is nothing that the guest could try instead.
        if !host.ipv4 || !host.ipv6 {
            return None;
        }
        let world = self.world(to.ip());
        let good = world.answered.is_some_and(|answered| now < answered + GOOD);
        let patience = if world.silent < FEW {
            PATIENCE
        } else {
            IMPATIENCE
        };
        (!good).then(|| now + patience)
    }

    /// Notes an answer of `ip`: even a refusal.
    pub(super) fn answered(&mut self, ip: IpAddr, now: Instant) {
        *self.world(ip) = World {
            answered: Some(now),
            silent: 0,
        };
    }

    /// Notes that `ip` was given up.
    pub(super) fn silent(&mut self, ip: IpAddr) {
        let world = self.world(ip);
        world.silent = world.silent.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_that_does_not_answer_has_seconds_where_there_is_another_one() {
        let both = HostNetwork {
            ipv4: true,
            ipv6: true,
            ..HostNetwork::default()
        };
        let now = Instant::now();
        let six: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        let four: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let mut worlds = Reachability::default();
        assert_eq!(worlds.deadline(six, &both, now), Some(now + PATIENCE));
        for _ in 0..FEW {
            worlds.silent(six.ip());
        }
        assert_eq!(worlds.deadline(six, &both, now), Some(now + IMPATIENCE));
        // The other one is not touched, and is left to the kernel once it has answered.
        assert_eq!(worlds.deadline(four, &both, now), Some(now + PATIENCE));
        worlds.answered(four.ip(), now);
        assert_eq!(worlds.deadline(four, &both, now), None);
        assert!(worlds.deadline(four, &both, now + GOOD).is_some());
        worlds.answered(six.ip(), now);
        assert_eq!(worlds.deadline(six, &both, now), None);
        // A host with one of them.
        for one in [
            HostNetwork {
                ipv4: false,
                ..both.clone()
            },
            HostNetwork {
                ipv6: false,
                ..both
            },
        ] {
            let mut worlds = Reachability::default();
            assert_eq!(worlds.deadline(six, &one, now), None);
        }
    }
}
