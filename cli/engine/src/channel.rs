//! The channel that events go through: bounded, so that a guest that floods its console waits
//! for its reader, and closed by the owner of the run, so that nothing waits for a reader that
//! does not read any more.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select};

use crate::event::{Ended, Event};

/// Events that may wait to be received; more, and the guest waits.
const CAPACITY: usize = 64;

/// The sending half. Clones send into the same channel.
#[derive(Debug, Clone)]
pub struct EventSender {
    events: Sender<Event>,
    muted: Receiver<()>,
    abandoned: Receiver<()>,
}

/// The receiving half.
#[derive(Debug)]
pub struct EventReceiver(Receiver<Event>);

/// Closes the channel on the sending side, for the owner of what sends. Dropping it abandons the
/// channel: no send waits any more.
#[derive(Debug)]
pub(crate) struct EventGate {
    mute: Option<Sender<()>>,
    _abandon: Sender<()>,
}

/// A channel that has no gate yet.
pub fn events() -> (EventSender, EventReceiver) {
    let (events, receiver) = bounded(CAPACITY);
    let sender = EventSender {
        events,
        muted: never(),
        abandoned: never(),
    };
    (sender, EventReceiver(receiver))
}

impl EventSender {
    /// A sender into the same channel that `EventGate` closes.
    pub(crate) fn gated(self) -> (EventSender, EventGate) {
        // Nothing is ever sent: the receivers wait for their senders to go.
        let (mute, muted) = bounded(0);
        let (abandon, abandoned) = bounded(0);
        let sender = EventSender {
            events: self.events,
            muted,
            abandoned,
        };
        let gate = EventGate {
            mute: Some(mute),
            _abandon: abandon,
        };
        (sender, gate)
    }

    /// Sends an event; waits for room. It is lost if the channel is closed.
    pub(crate) fn send(&self, event: Event) {
        select! {
            send(self.events, event) -> _ => {}
            recv(self.muted) -> _ => {}
            recv(self.abandoned) -> _ => {}
        }
    }

    /// Sends a note if there is room. It may be lost: before the run starts, its reader does not
    /// read yet.
    pub(crate) fn note(&self, text: String) {
        let _ = self.events.try_send(Event::Note(text));
    }

    /// Sends the last event, which is only lost if the channel is abandoned.
    pub(crate) fn end(&self, ended: Ended) {
        select! {
            send(self.events, Event::Ended(ended)) -> _ => {}
            recv(self.abandoned) -> _ => {}
        }
    }
}

impl EventGate {
    /// Lets all events but the last be lost.
    pub(crate) fn mute(&mut self) {
        self.mute = None;
    }
}

impl EventReceiver {
    /// The next event, or `None` if there is none within `time`. When the sending side is gone
    /// without a last event, the run has failed.
    pub fn next(&self, time: Duration) -> Option<Event> {
        match self.0.recv_timeout(time) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Ended(Ended::Failed(String::from(
                "it ended without a report",
            )))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Event {
        Event::Console(text.as_bytes().to_vec())
    }

    fn full() -> (EventSender, EventGate, EventReceiver) {
        let (sender, receiver) = events();
        let (sender, gate) = sender.gated();
        for _ in 0..CAPACITY {
            sender.send(console("kept"));
        }
        (sender, gate, receiver)
    }

    fn blocked(sender: &EventSender, send: fn(&EventSender)) -> std::thread::JoinHandle<()> {
        let sender = sender.clone();
        let thread = std::thread::spawn(move || send(&sender));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!thread.is_finished(), "the channel is full");
        thread
    }

    #[test]
    fn a_sender_waits_for_its_reader() {
        let (sender, _gate, receiver) = full();
        let waiting = blocked(&sender, |sender| sender.send(console("last")));
        assert!(receiver.next(Duration::ZERO).is_some());
        waiting.join().unwrap();
    }

    #[test]
    fn a_muted_channel_still_carries_the_end() {
        let (sender, mut gate, receiver) = full();
        let waiting = blocked(&sender, |sender| sender.send(console("lost")));
        gate.mute();
        waiting.join().unwrap();
        let ending = blocked(&sender, |sender| sender.end(Ended::Killed));
        let mut last = None;
        while let Some(event) = receiver.next(Duration::from_secs(1)) {
            let ended = matches!(event, Event::Ended(_));
            last = Some(event);
            if ended {
                break;
            }
        }
        assert!(
            matches!(last, Some(Event::Ended(Ended::Killed))),
            "{last:?}"
        );
        ending.join().unwrap();
    }

    #[test]
    fn an_abandoned_channel_holds_nothing_up() {
        let (sender, gate, _receiver) = full();
        let ending = blocked(&sender, |sender| sender.end(Ended::PoweredOff));
        drop(gate);
        ending.join().unwrap();
    }

    #[test]
    fn a_run_that_is_gone_without_a_word_has_failed() {
        let (sender, receiver) = events();
        drop(sender);
        assert!(matches!(
            receiver.next(Duration::ZERO),
            Some(Event::Ended(Ended::Failed(_)))
        ));
    }
}
