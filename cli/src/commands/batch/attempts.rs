//! The attempts at one build through a runner: where they ran, what became of them, and whether there
//! is another one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::attempt::Attempt;
use super::runner::config::Kind;
use super::runner::{Pool, Runner};
use super::setback::{Setback, SetbackKind};

/// Hosts of a queue that may be unfit for one build, before it is given up.
const MOST_UNFIT: usize = 100;

/// How long a queue that did not take a build is left alone; twice as long each time.
const QUEUE_PAUSE: Duration = Duration::from_secs(5);

/// What is known of a build between its attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    pub(super) ended: Vec<Attempt>,
    /// Hosts that cannot do it.
    pub(super) unfit: BTreeSet<String>,
    /// Hosts that have lost it.
    pub(super) lost: BTreeSet<String>,
    /// An earlier attempt may still run until then.
    pub(super) not_before: Option<Instant>,
    losses: u32,
}

/// What comes after a setback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Another attempt, after so long.
    Again(Duration),
    /// No other one.
    GiveUp,
}

impl Attempts {
    /// Takes a setback of an attempt that took `time`, on `host`.
    pub(super) fn set_back(
        &mut self,
        setback: &Setback,
        host: Option<&str>,
        time: Duration,
        runner: &Runner,
        pool: Option<&mut Pool>,
    ) -> Next {
        let now = Instant::now();
        self.ended.push(Attempt {
            host: host.map(str::to_owned),
            result: setback.kind.word().to_owned(),
            reason: Some(setback.reason.clone()),
            seconds: time.as_secs_f64(),
        });
        let has_pool = pool.is_some();
        if let (Some(pool), Some(host)) = (pool, host)
            && matches!(setback.kind, SetbackKind::Lost | SetbackKind::Unreachable)
        {
            pool.failed(host, &setback.reason, now);
        }
        let set = match setback.kind {
            SetbackKind::Unfit | SetbackKind::Host => &mut self.unfit,
            _ => &mut self.lost,
        };
        let is_new = host.is_some_and(|host| set.insert(host.to_owned()));
        // What says nothing about the build does not count against it, unless it would go on for ever:
        // not every queue can be told to avoid a host.
        let counts = match setback.kind {
            SetbackKind::Unfit => !is_new || self.unfit.len() > MOST_UNFIT,
            SetbackKind::Unreachable => !has_pool,
            _ => true,
        };
        if counts {
            self.losses += 1;
        }
        if self.losses > runner.config.retries {
            return Next::GiveUp;
        }
        let wait = match setback.kind {
            SetbackKind::Lost => runner.afterlife(),
            SetbackKind::Unreachable if runner.config.kind != Kind::Ssh => {
                QUEUE_PAUSE * 2u32.pow(self.losses.saturating_sub(1).min(6))
            }
            _ => Duration::ZERO,
        };
        self.not_before = Some(now + wait);
        Next::Again(wait)
    }

    /// Returns why the build was not carried out, by its attempts and the hosts that are not used.
    pub(super) fn reason(&self, out: &[(String, String)]) -> String {
        let mut reasons: Vec<String> = Vec::new();
        let attempts = self.ended.iter().map(|attempt| {
            let reason = attempt.reason.as_deref().unwrap_or_default();
            match &attempt.host {
                Some(host) => format!("{host}: {}: {reason}", attempt.result),
                None => format!("{}: {reason}", attempt.result),
            }
        });
        let hosts = out
            .iter()
            .map(|(host, reason)| format!("{host}: not used: {reason}"));
        for reason in attempts.chain(hosts) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::batch::runner::config::tests::runner_of;

    fn setback(kind: SetbackKind) -> Setback {
        Setback {
            kind,
            reason: String::from("why"),
        }
    }

    #[test]
    fn a_lost_build_waits_until_the_earlier_attempt_is_surely_over() {
        let runner = Runner::new(runner_of("kind = 'slurm'\nlost-after = '7s'"));
        let mut attempts = Attempts::default();
        let time = Duration::from_secs(1);
        let lost = setback(SetbackKind::Lost);
        let next = attempts.set_back(&lost, Some("n1"), time, &runner, None);
        assert_eq!(next, Next::Again(Duration::from_secs(17)));
        assert!(attempts.lost.contains("n1"));
        let next = attempts.set_back(&lost, None, time, &runner, None);
        assert_eq!(next, Next::GiveUp);
        assert_eq!(attempts.reason(&[]), "n1: lost: why; lost: why");
    }

    #[test]
    fn unfit_hosts_do_not_count_against_a_build() {
        let runner = Runner::new(runner_of("kind = 'slurm'\nretries = 0"));
        let mut attempts = Attempts::default();
        let unfit = setback(SetbackKind::Unfit);
        for host in ["n1", "n2", "n3"] {
            let next = attempts.set_back(&unfit, Some(host), Duration::ZERO, &runner, None);
            assert_eq!(next, Next::Again(Duration::ZERO));
        }
        assert_eq!(attempts.unfit.len(), 3);
        // The same one again, or one without a name, would be so for ever.
        for host in [Some("n2"), None] {
            let next = attempts.set_back(&unfit, host, Duration::ZERO, &runner, None);
            assert_eq!(next, Next::GiveUp);
        }
    }

    #[test]
    fn a_host_that_is_not_reached_counts_against_the_host() {
        let runner = Runner::new(runner_of("kind = 'ssh'\nhosts = ['a']\nretries = 0"));
        let mut pool = runner.pool().unwrap();
        let mut attempts = Attempts::default();
        let unreachable = setback(SetbackKind::Unreachable);
        let next = attempts.set_back(
            &unreachable,
            Some("a"),
            Duration::ZERO,
            &runner,
            Some(&mut pool),
        );
        assert_eq!(next, Next::Again(Duration::ZERO));
        let out = [(String::from("b"), String::from("no box"))];
        let text = attempts.reason(&out);
        assert_eq!(text, "a: unreachable: why; b: not used: no box");
    }
}
