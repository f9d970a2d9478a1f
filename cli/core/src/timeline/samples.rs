//! What a machine uses, over time.

use std::time::Duration;

use boxbuild_engine::Usage;

/// Samples that are kept at most. Half of them go when there are more, and the rest stand for
/// twice the time.
const MOST: usize = 1200;
/// The shortest time between two samples.
const INTERVAL: Duration = Duration::from_millis(250);

/// What a machine used at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Since boxbuild's start.
    pub at: Duration,
    /// Memory now, everything else so far.
    pub usage: Usage,
}

/// Samples at even intervals, however long the run is.
#[derive(Debug, Clone)]
pub struct Samples {
    kept: Vec<Sample>,
    interval: Duration,
}

impl Default for Samples {
    fn default() -> Samples {
        Samples {
            kept: Vec::new(),
            interval: INTERVAL,
        }
    }
}

impl Samples {
    /// Whether it is time for the next one.
    pub fn is_due(&self, now: Duration) -> bool {
        self.kept
            .last()
            .is_none_or(|last| now >= last.at + self.interval)
    }

    /// Adds a sample; when there are too many, keeps every second one.
    pub fn push(&mut self, sample: Sample) {
        self.kept.push(sample);
        if self.kept.len() > MOST {
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.interval *= 2;
        }
    }

    /// All that are kept, in order.
    pub fn into_vec(self) -> Vec<Sample> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_few_samples() {
        let mut samples = Samples::default();
        let hour = 3600 * 1000 / 50;
        for tick in 0..hour {
            let now = Duration::from_millis(50 * tick);
            if samples.is_due(now) {
                samples.push(Sample {
                    at: now,
                    usage: Usage::default(),
                });
            }
        }
        let kept = samples.into_vec();
        assert!((MOST / 2..=MOST).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept[0].at, Duration::ZERO);
        let gaps: Vec<_> = kept.windows(2).map(|two| two[1].at - two[0].at).collect();
        assert!(gaps.iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
    }
}
