//! Attending a machine from its start to its end.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::outcome::Reason;
use crate::kiwi_log::Phase;
use crate::run::monitor::Monitor;
use crate::terminal::{self, Session};
use boxbuild_engine::{Ended, Event, Running};
use boxbuild_host::interrupt::Interrupt;

/// Time for the engine's process to end in order when it is told to.
const GRACE: Duration = Duration::from_secs(5);

/// When the user's terminal becomes the guest's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attach {
    /// Not at all.
    Never,
    /// When the guest says that there is a shell.
    ToShell,
    /// From the start: this guest says nothing of shells.
    AtOnce,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) ended: Ended,
    /// Why it was stopped, if the host stopped it.
    pub(super) stop: Option<Reason>,
    /// The user left the console, which stopped it.
    pub(super) left: bool,
}

/// Attends `running` until nothing of it runs any more.
pub(super) fn supervise(
    monitor: &mut Monitor<'_>,
    running: &mut dyn Running,
    events: &Receiver<Event>,
    interrupt: &Interrupt,
    attach: Attach,
) -> End {
    let mut session = None;
    let mut tried = attach == Attach::Never;
    let mut stop = None;
    let mut hopeless = None;
    let mut left = false;
    let ended = loop {
        match events.recv_timeout(monitor.tick()) {
            Ok(Event::Console(bytes)) => {
                show(session.as_ref(), &bytes);
                monitor.console(&bytes);
            }
            Ok(Event::Control(bytes)) => monitor.control(&bytes),
            Ok(Event::Note(text)) => monitor.note(&text, session.as_ref()),
            Ok(Event::Hopeless(text)) => hopeless = Some(Reason::Engine(text)),
            Ok(Event::Ended(ended)) => break ended,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                break Ended::Failed(String::from("it ended without saying how"));
            }
        }
        monitor.look();
        monitor.recorder.sample(|| running.usage());
        if stop.is_some() || left {
            continue;
        }
        if !tried && (attach == Attach::AtOnce || monitor.reached(Phase::Shell)) {
            tried = true;
            session = open(monitor, running);
        }
        stop = hopeless.take().or_else(|| {
            // Nobody is pushed who sits at the console.
            monitor.reason_to_stop(interrupt, session.is_none())
        });
        left = session.as_ref().is_some_and(Session::left);
        if stop.is_some() || left {
            // A second Ctrl-C does not wait for an orderly end: there is none to lose.
            let grace = if interrupt.count() > 1 {
                Duration::ZERO
            } else {
                GRACE
            };
            running.kill(grace);
        }
    };
    if session.take().is_some() {
        monitor.progress.mute(false);
    }
    monitor.end();
    End { ended, stop, left }
}

fn show(session: Option<&Session>, bytes: &[u8]) {
    if let Some(session) = session {
        session.show(bytes);
    }
}

/// Hands the user's terminal to the guest.
fn open(monitor: &mut Monitor<'_>, running: &dyn Running) -> Option<Session> {
    monitor.progress.finish(true);
    let outcome = match monitor.exit_code() {
        Some(0) => "the build succeeded; ",
        Some(_) => "the build failed; ",
        None => "",
    };
    let leave = if monitor.reached(Phase::Shell) {
        "'exit' leaves the box"
    } else {
        "'poweroff' in it ends the box in order"
    };
    monitor.progress.note(&format!(
        "{outcome}this is the box's console: {leave}, {}",
        terminal::LEAVE
    ));
    let opened = running
        .console()
        .ok_or_else(|| std::io::Error::other("it has no console"))
        .and_then(Session::open);
    match opened {
        Ok(session) => {
            monitor.progress.mute(true);
            Some(session)
        }
        Err(error) => {
            monitor
                .progress
                .note(&format!("the box's console cannot be shown: {error}"));
            None
        }
    }
}
