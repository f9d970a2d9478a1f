//! A line now and then about a step that takes long: systems that run jobs kill those that are silent.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::estimate::Estimate;

/// How long nothing need be said.
pub(crate) const INTERVAL: Duration = Duration::from_secs(60);

/// What is going on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beat {
    /// Name of the step.
    pub(crate) step: String,
    /// How long it has taken so far.
    pub(crate) time: Duration,
    /// How long the build takes from now on, if an earlier one has told.
    pub(crate) left: Option<Duration>,
    /// What the step works on, if it has told.
    pub(crate) text: Option<String>,
}

/// Says what is going on when nothing else was said for a while.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    step: Option<Step>,
    /// When something was last said.
    said: Instant,
    muted: bool,
    over: bool,
}

#[derive(Debug)]
struct Step {
    name: String,
    started: Instant,
    estimate: Option<Estimate>,
    text: Option<String>,
    /// The last line of log or console, for a step that tells nothing else.
    line: String,
}

impl Heartbeat {
    /// Starts to watch. `say` is called from a thread whenever nothing has been said for `interval`. If
    /// there can be no thread, nothing is said.
    pub(crate) fn start(
        interval: Duration,
        mut say: impl FnMut(&Beat) + Send + 'static,
    ) -> Heartbeat {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                step: None,
                said: Instant::now(),
                muted: false,
                over: false,
            }),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        let watch = move || {
            while let Some(beat) = watched.next(interval) {
                say(&beat);
            }
        };
        let thread = thread::Builder::new().name(String::from("heartbeat"));
        Heartbeat {
            shared,
            thread: thread.spawn(watch).ok(),
        }
    }

    /// A step begins.
    pub(crate) fn begin(&self, name: &str, estimate: Option<Estimate>) {
        let mut state = self.shared.state();
        state.said = Instant::now();
        state.step = Some(Step {
            name: name.to_owned(),
            started: Instant::now(),
            estimate,
            text: None,
            line: String::new(),
        });
    }

    /// What the step works on from now on.
    pub(crate) fn work(&self, text: &str) {
        if let Some(step) = &mut self.shared.state().step {
            step.text = Some(text.to_owned());
        }
    }

    /// The step wrote a line into its log or to its console.
    pub(crate) fn line(&self, text: &str) {
        if let Some(step) = &mut self.shared.state().step
            && step.text.is_none()
            && !text.is_empty()
        {
            text.clone_into(&mut step.line);
        }
    }

    /// Something was said.
    pub(crate) fn said(&self) {
        self.shared.state().said = Instant::now();
    }

    /// The step has ended.
    pub(crate) fn end(&self) {
        self.shared.state().step = None;
    }

    /// Something else has the terminal, or not any more.
    pub(crate) fn mute(&self, muted: bool) {
        self.shared.state().muted = muted;
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It says nothing that could panic.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is to be said; `None` at the end.
    fn next(&self, interval: Duration) -> Option<Beat> {
        let mut state = self.state();
        loop {
            if state.over {
                return None;
            }
            let left = interval.saturating_sub(state.said.elapsed());
            if left.is_zero() {
                state.said = Instant::now();
                if let Some(beat) = state.beat() {
                    return Some(beat);
                }
                continue;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn beat(&self) -> Option<Beat> {
        let step = self.step.as_ref().filter(|_| !self.muted)?;
        let time = step.started.elapsed();
        Some(Beat {
            step: step.name.clone(),
            time,
            left: step.estimate.and_then(|estimate| estimate.left(time)),
            text: step
                .text
                .clone()
                .or_else(|| Some(step.line.clone()).filter(|line| !line.is_empty())),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// E4: CI killed a job that had said nothing for seven minutes.
    #[test]
    fn a_long_step_says_what_is_going_on() {
        let (sender, beats) = mpsc::channel();
        let heartbeat = Heartbeat::start(SHORT, move |beat| {
            let _ = sender.send(beat.clone());
        });
        // There is no step yet.
        assert!(beats.recv_timeout(5 * SHORT).is_err());
        let estimate = Estimate {
            step: Duration::from_secs(60),
            later: Duration::from_secs(30),
        };
        heartbeat.begin("prepare", Some(estimate));
        heartbeat.work("Installing foo");
        for _ in 0..2 {
            let beat = beats.recv_timeout(PATIENCE).unwrap();
            assert_eq!(
                (beat.step.as_str(), beat.text.as_deref()),
                ("prepare", Some("Installing foo"))
            );
            assert!(beat.left.unwrap() > Duration::from_secs(60), "{beat:?}");
        }
        heartbeat.begin("create", None);
        let beat = std::iter::repeat_with(|| beats.recv_timeout(PATIENCE).unwrap());
        let mut beat = beat.skip_while(|beat| beat.step != "create");
        let beat = beat.next().unwrap();
        assert_eq!((beat.left, beat.text), (None, None));
        drop(heartbeat);
        while beats.try_recv().is_ok() {}
        assert!(beats.recv_timeout(PATIENCE).is_err());
    }

    #[test]
    fn nothing_is_said_beside_other_words_or_a_shell() {
        let (sender, beats) = mpsc::channel();
        let heartbeat = Heartbeat::start(10 * SHORT, move |beat| {
            let _ = sender.send(beat.clone());
        });
        heartbeat.begin("prepare", None);
        heartbeat.mute(true);
        assert!(beats.recv_timeout(25 * SHORT).is_err());
        heartbeat.mute(false);
        beats.recv_timeout(PATIENCE).unwrap();
        heartbeat.end();
        while beats.try_recv().is_ok() {}
        assert!(beats.recv_timeout(25 * SHORT).is_err());
    }
}
