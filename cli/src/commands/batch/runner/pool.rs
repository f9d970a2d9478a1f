//! The hosts of a runner: which of them a build goes to.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a host that lost a build is left alone; twice as long each time.
const ASIDE: Duration = Duration::from_secs(20);

/// A host is given up after so many failures in a row.
const MOST_FAILURES: u32 = 4;

/// The hosts of a runner.
#[derive(Debug, Default)]
pub(in crate::commands::batch) struct Pool {
    hosts: Vec<Host>,
}

#[derive(Debug)]
struct Host {
    name: String,
    slots: usize,
    running: usize,
    /// Since it last did what it was asked for.
    failures: u32,
    /// It is left alone until then.
    aside: Option<Instant>,
    /// It is not used, and why.
    out: Option<String>,
}

/// Where a build can go.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::commands::batch) enum Choice {
    Host(String),
    /// None is free now.
    Wait,
    /// None ever will be.
    None,
}

impl Pool {
    pub(super) fn new(hosts: &[(String, usize)]) -> Pool {
        let host = |(name, slots): &(String, usize)| Host {
            name: name.clone(),
            slots: *slots,
            running: 0,
            failures: 0,
            aside: None,
            out: None,
        };
        Pool {
            hosts: hosts.iter().map(host).collect(),
        }
    }

    /// Chooses a host that is not in `avoid`, and not in `lost` where there is another one. It counts
    /// as running a build from then on ([`Pool::free`]).
    pub(in crate::commands::batch) fn choose(
        &mut self,
        avoid: &BTreeSet<String>,
        lost: &BTreeSet<String>,
        now: Instant,
    ) -> Choice {
        let usable = |host: &Host| host.out.is_none() && !avoid.contains(&host.name);
        let others = self
            .hosts
            .iter()
            .any(|host| usable(host) && !lost.contains(&host.name));
        let candidate = |host: &&mut Host| usable(host) && (!others || !lost.contains(&host.name));
        if !self.hosts.iter().any(usable) {
            return Choice::None;
        }
        let free = self.hosts.iter_mut().filter(candidate).filter(|host| {
            // One that failed is tried with one build.
            let slots = if host.failures > 0 { 1 } else { host.slots };
            host.running < slots && host.aside.is_none_or(|until| until <= now)
        });
        // The least busy one.
        let best = free.min_by_key(|host| host.running * 1000 / host.slots);
        match best {
            Some(host) => {
                host.running += 1;
                Choice::Host(host.name.clone())
            }
            None => Choice::Wait,
        }
    }

    /// A build has left the host.
    pub(in crate::commands::batch) fn free(&mut self, name: &str) {
        if let Some(host) = self.host(name) {
            host.running = host.running.saturating_sub(1);
        }
    }

    /// The host did what it was asked for.
    pub(in crate::commands::batch) fn good(&mut self, name: &str) {
        if let Some(host) = self.host(name) {
            host.failures = 0;
            host.aside = None;
        }
    }

    /// The host lost a build, or could not be reached. Those that it loses together count once.
    pub(in crate::commands::batch) fn failed(&mut self, name: &str, reason: &str, now: Instant) {
        let Some(host) = self.host(name) else { return };
        if host.aside.is_some_and(|until| until > now) {
            return;
        }
        host.failures += 1;
        host.aside = Some(now + ASIDE * 2u32.pow(host.failures.min(5) - 1));
        if host.failures >= MOST_FAILURES {
            host.out = Some(reason.to_owned());
        }
    }

    /// The host is not used.
    pub(in crate::commands::batch) fn take_out(&mut self, name: &str, reason: &str) {
        if let Some(host) = self.host(name) {
            host.out = Some(reason.to_owned());
        }
    }

    /// Returns each host that is not used, and why.
    pub(in crate::commands::batch) fn out(&self) -> Vec<(String, String)> {
        let hosts = self.hosts.iter();
        hosts
            .filter_map(|host| Some((host.name.clone(), host.out.clone()?)))
            .collect()
    }

    /// Returns the names of the hosts.
    pub(in crate::commands::batch) fn names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }

    fn host(&mut self, name: &str) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(hosts: &[(&str, usize)]) -> Pool {
        let hosts: Vec<_> = hosts
            .iter()
            .map(|(name, slots)| ((*name).to_owned(), *slots))
            .collect();
        Pool::new(&hosts)
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn host(name: &str) -> Choice {
        Choice::Host(name.to_owned())
    }

    #[test]
    fn builds_are_spread_and_wait_for_a_slot() {
        let mut pool = pool(&[("a", 1), ("b", 2)]);
        let now = Instant::now();
        let none = BTreeSet::new();
        let mut choose = || pool.choose(&none, &none, now);
        assert_eq!(
            [choose(), choose(), choose()],
            [host("a"), host("b"), host("b")]
        );
        assert_eq!(choose(), Choice::Wait);
        pool.free("b");
        assert_eq!(pool.choose(&none, &none, now), host("b"));
    }

    #[test]
    fn a_host_that_lost_a_build_gets_it_only_if_there_is_no_other() {
        let mut pool = pool(&[("a", 1), ("b", 1)]);
        let now = Instant::now();
        let none = BTreeSet::new();
        assert_eq!(pool.choose(&none, &set(&["a"]), now), host("b"));
        // The other one is busy, not gone.
        assert_eq!(pool.choose(&none, &set(&["a"]), now), Choice::Wait);
        pool.take_out("b", "no box");
        assert_eq!(pool.choose(&none, &set(&["a"]), now), host("a"));
        pool.free("a");
        assert_eq!(pool.choose(&set(&["a"]), &none, now), Choice::None);
        assert_eq!(pool.out(), [("b".to_owned(), "no box".to_owned())]);
    }

    #[test]
    fn a_host_that_fails_is_left_alone_and_given_up_at_last() {
        let mut pool = pool(&[("a", 4)]);
        let none = BTreeSet::new();
        let mut now = Instant::now();
        for failures in 1..MOST_FAILURES {
            // All builds of the host.
            pool.failed("a", "gone", now);
            pool.failed("a", "gone", now);
            assert_eq!(pool.choose(&none, &none, now), Choice::Wait);
            now += ASIDE * 2u32.pow(failures - 1);
            assert_eq!(pool.choose(&none, &none, now), host("a"));
            assert_eq!(
                pool.choose(&none, &none, now),
                Choice::Wait,
                "one build tries"
            );
            pool.free("a");
        }
        pool.failed("a", "gone", now);
        assert_eq!(pool.choose(&none, &none, now + ASIDE * 100), Choice::None);
        let mut pool = self::pool(&[("a", 2)]);
        pool.failed("a", "gone", now);
        pool.good("a");
        assert_eq!(pool.choose(&none, &none, now), host("a"));
        assert_eq!(pool.choose(&none, &none, now), host("a"));
    }
}
