//! How long a build takes from now on, from the last build of the same.

use std::time::Duration;

/// How much longer than the last time a build may take before an estimate says nothing any more.
const LATE: Duration = Duration::from_secs(5);

/// How long a step and what follows took the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// The step.
    pub(crate) step: Duration,
    /// All steps after it.
    pub(crate) later: Duration,
}

impl Estimate {
    /// The estimate for the step `name`, if it was there the last time.
    pub(crate) fn of(last: &[(String, Duration)], name: &str) -> Option<Estimate> {
        let at = last.iter().position(|(step, _)| step == name)?;
        Some(Estimate {
            step: last[at].1,
            later: last[at + 1..].iter().map(|(_, time)| *time).sum(),
        })
    }

    /// How long it takes from now on, when the step has taken `time`. `None` when it takes longer than
    /// the last time: there is no telling then.
    pub(crate) fn left(self, time: Duration) -> Option<Duration> {
        if time > self.step + LATE && self.later < time - self.step {
            return None;
        }
        Some(self.step.saturating_sub(time) + self.later).filter(|left| !left.is_zero())
    }
}

/// A time left for people: it is none to the second.
pub(crate) fn about(left: Duration) -> String {
    match left.as_secs() {
        0..10 => String::from("a few seconds left"),
        seconds @ 10..60 => format!("about {} s left", seconds.next_multiple_of(10)),
        seconds @ 60..3600 => format!("about {} min left", (seconds + 30) / 60),
        seconds => format!(
            "about {} h {:02} min left",
            seconds / 3600,
            seconds % 3600 / 60
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_left_is_of_this_step_and_of_those_after_it() {
        let last = ["boot", "prepare", "create"].map(|step| (step.to_owned(), s(100)));
        let estimate = Estimate::of(&last, "prepare").unwrap();
        assert_eq!(estimate.left(s(0)), Some(s(200)));
        assert_eq!(estimate.left(s(60)), Some(s(140)));
        // A little late: the steps after it are still to come. Very late: who knows.
        assert_eq!(estimate.left(s(150)), Some(s(100)));
        assert_eq!(estimate.left(s(250)), None);
        assert_eq!(Estimate::of(&last, "create").unwrap().left(s(100)), None);
        assert_eq!(Estimate::of(&last, "bundle"), None);
        assert_eq!(Estimate::of(&[], "boot"), None);
    }

    #[test]
    fn times_left_are_round() {
        let cases = [
            (3, "a few seconds left"),
            (41, "about 50 s left"),
            (89, "about 1 min left"),
            (200, "about 3 min left"),
            (3700, "about 1 h 01 min left"),
        ];
        for (seconds, text) in cases {
            assert_eq!(about(s(seconds)), text);
        }
    }
}
