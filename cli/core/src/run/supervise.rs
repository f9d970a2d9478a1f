//! The supervision of a machine, from its start to its end.

use std::time::Duration;

use boxbuild_engine::{Ended, Event, EventReceiver, Running};
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::notices::{self, Collected};

use super::monitor::Monitor;
use super::outcome::Reason;
use crate::kiwi_log::Phase;
use crate::terminal::{self, Session};

/// Time for the engine's process to end cleanly when it is told to.
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

/// How a supervised run ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) ended: Ended,
    /// Why it was stopped, if the host stopped it.
    pub(super) stop: Option<Reason>,
    /// The user left the console, which stopped it.
    pub(super) left: bool,
}

/// The user's terminal.
#[derive(Debug)]
enum Terminal {
    /// It does not become the guest's console (any more).
    Ours,
    /// It will become the guest's console.
    Waiting,
    /// It is the guest's console.
    Attached(Session),
}

/// Why the machine was told to end.
#[derive(Debug)]
enum Stopping {
    /// The host has a reason.
    Because(Reason),
    /// The user left the console.
    Left,
}

struct Supervisor<'a, 'm> {
    monitor: &'a mut Monitor<'m>,
    running: &'a mut dyn Running,
    /// What the packages below have to say.
    notices: Collected,
    attach: Attach,
    terminal: Terminal,
    /// The host is in the machine's way: it is to be ended for this reason.
    hopeless: Option<Reason>,
    stopping: Option<Stopping>,
    /// How often the user had asked for the end when the machine was last told to end.
    interrupts: usize,
}

/// Supervises `running` until nothing of it runs any more.
pub(super) fn supervise(
    monitor: &mut Monitor<'_>,
    running: &mut dyn Running,
    events: &EventReceiver,
    interrupt: &Interrupt,
    attach: Attach,
) -> End {
    let mut supervisor = Supervisor {
        monitor,
        running,
        notices: notices::collect(),
        attach,
        terminal: match attach {
            Attach::Never => Terminal::Ours,
            Attach::ToShell | Attach::AtOnce => Terminal::Waiting,
        },
        hopeless: None,
        stopping: None,
        interrupts: 0,
    };
    let ended = loop {
        let event = events.next(supervisor.monitor.tick());
        if let Some(ended) = event.and_then(|event| supervisor.take(event)) {
            break ended;
        }
        supervisor.look(interrupt);
    };
    supervisor.finish(ended)
}

impl Supervisor<'_, '_> {
    /// Takes an event. Returns how the machine ended, if that was the event.
    fn take(&mut self, event: Event) -> Option<Ended> {
        match event {
            Event::Console(bytes) => {
                if let Terminal::Attached(session) = &self.terminal {
                    session.show(&bytes);
                }
                self.monitor.console(&bytes);
            }
            Event::Control(bytes) => {
                self.monitor.control(&bytes);
                self.answer_checkpoint();
            }
            Event::Note(text) => self.note(&text),
            Event::Hopeless(text) => self.hopeless = Some(Reason::Engine(text)),
            Event::Ended(ended) => return Some(ended),
        }
        None
    }

    /// Takes a checkpoint of the disk, if the guest waits for one.
    fn answer_checkpoint(&mut self) {
        let running = &mut *self.running;
        if let Some(kept) = self.monitor.checkpoint(|| running.checkpoint())
            && let Some(console) = self.running.console()
        {
            console.answer_checkpoint(kept);
        }
    }

    /// Shows what the user must see.
    fn note(&mut self, text: &str) {
        let session = match &self.terminal {
            Terminal::Attached(session) => Some(session),
            Terminal::Ours | Terminal::Waiting => None,
        };
        self.monitor.note(text, session);
    }

    /// Looks at everything that is not an event.
    fn look(&mut self, interrupt: &Interrupt) {
        for text in self.notices.take() {
            self.note(&text);
        }
        self.monitor.look();
        if let Some(time) = self.monitor.time_to_tell()
            && let Some(console) = self.running.console()
        {
            console.tell_time(time);
        }
        self.monitor.sample(|| self.running.usage());
        if self.stopping.is_some() {
            // The user does not wait any longer.
            if interrupt.count() > self.interrupts {
                self.interrupts = interrupt.count();
                self.running.kill(Duration::ZERO);
            }
            return;
        }
        let wanted = self.attach == Attach::AtOnce || self.monitor.reached(Phase::Shell);
        if wanted && matches!(self.terminal, Terminal::Waiting) {
            self.terminal = self.open();
        }
        self.stopping = self.reason_to_stop(interrupt);
        if self.stopping.is_some() {
            self.interrupts = interrupt.count();
            // A second Ctrl-C does not wait for an orderly end: there is none to lose.
            let grace = if interrupt.count() > 1 {
                Duration::ZERO
            } else {
                GRACE
            };
            self.running.kill(grace);
        }
    }

    fn reason_to_stop(&mut self, interrupt: &Interrupt) -> Option<Stopping> {
        let (attached, left) = match &self.terminal {
            Terminal::Attached(session) => (true, session.left()),
            Terminal::Ours | Terminal::Waiting => (false, false),
        };
        self.hopeless
            .take()
            // A user at the console has all the time there is.
            .or_else(|| self.monitor.reason_to_stop(interrupt, attached))
            .map(Stopping::Because)
            .or_else(|| left.then_some(Stopping::Left))
    }

    fn finish(self, ended: Ended) -> End {
        if let Terminal::Attached(session) = self.terminal {
            drop(session);
            self.monitor.progress().mute(false);
        }
        for text in self.notices.finish() {
            self.monitor.note(&text, None);
        }
        self.monitor.end();
        let (stop, left) = match self.stopping {
            Some(Stopping::Because(reason)) => (Some(reason), false),
            Some(Stopping::Left) => (None, true),
            None => (None, false),
        };
        End { ended, stop, left }
    }

    /// Hands the user's terminal to the guest.
    fn open(&mut self) -> Terminal {
        self.monitor.progress().finish(true);
        let outcome = match self.monitor.exit_code() {
            Some(0) => "the build succeeded; ",
            Some(_) => "the build failed; ",
            None => "",
        };
        let leave = if self.monitor.reached(Phase::Shell) {
            "'exit' leaves the box"
        } else {
            "'poweroff' stops the box in order"
        };
        self.monitor.progress().note(&format!(
            "{outcome}this is the box's console: {leave}, {}",
            terminal::LEAVE
        ));
        let opened = self
            .running
            .console()
            .ok_or_else(|| std::io::Error::other("it has no console"))
            .and_then(Session::open);
        match opened {
            Ok(session) => {
                self.monitor.progress().mute(true);
                Terminal::Attached(session)
            }
            Err(error) => {
                let text = format!("the box's console cannot be shown: {error}");
                self.monitor.progress().note(&text);
                Terminal::Ours
            }
        }
    }
}
