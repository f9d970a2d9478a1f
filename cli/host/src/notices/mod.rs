//! What packages log as warnings and errors, as notices for the user.
//!
//! A package below does not know where its words go: it logs (crate `log`). A program installs this
//! ([`install`]), and while a run takes notices ([`subscribe`], [`collect`]) they come there, made
//! fit for a terminal, and not more of them than a user can read: a guest may make a device warn as
//! often as it likes.

mod limiter;

use std::cell::Cell;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use log::{LevelFilter, Log, Metadata, Record};

use crate::text::plain;
use limiter::{Limiter, Source};

/// Packages whose words are for users begin with this; those of others are for programmers.
const OURS: &str = "boxbuild";
/// The longest notice in bytes, cut at a character.
const LONGEST: usize = 500;
/// Notices that wait for the first who takes them; the limits let no more through at once.
const MOST_WAITING: usize = 32;

/// Takes notices. It is called with a lock held: it must neither wait for long nor log.
type Receiver = Box<dyn FnMut(String) + Send>;

static NOTICES: Notices = Notices::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is handing a notice on: what it logs meanwhile is lost.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Takes the log of this process. Called again, or where something else has it, it does nothing.
pub fn install() {
    if log::set_logger(&NOTICES).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// Lets `receive` take all notices, those that have been waiting first, until the result is dropped or
/// there is another. It must neither wait for long nor log.
#[must_use]
pub fn subscribe(receive: impl FnMut(String) + Send + 'static) -> Subscription {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    NOTICES.state().subscribe(id, Box::new(receive));
    Subscription(id)
}

/// Collects notices, to be looked at now and then.
#[must_use]
pub fn collect() -> Collected {
    let texts = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&texts);
    let subscription = subscribe(move |text| lock(&taken).push(text));
    Collected {
        texts,
        subscription,
    }
}

/// Where notices go. Dropping it lets them wait for the next.
#[derive(Debug)]
pub struct Subscription(u64);

impl Subscription {
    /// Hands on how many messages were not, if any: before the end of what they are about.
    pub fn finish(&self) {
        NOTICES.state().finish();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = NOTICES.state();
        if state.receiver.as_ref().is_some_and(|(id, _)| *id == self.0) {
            state.receiver = None;
        }
    }
}

/// Notices that have come.
#[derive(Debug)]
pub struct Collected {
    texts: Arc<Mutex<Vec<String>>>,
    subscription: Subscription,
}

impl Collected {
    /// Takes what has come since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.texts))
    }

    /// Takes what has come, and how many messages were not handed on.
    #[must_use]
    pub fn finish(self) -> Vec<String> {
        self.subscription.finish();
        self.take()
    }
}

/// The log of this process.
struct Notices(Mutex<State>);

struct State {
    limiter: Limiter,
    receiver: Option<(u64, Receiver)>,
    waiting: Vec<String>,
}

impl Notices {
    const fn new() -> Notices {
        Notices(Mutex::new(State {
            limiter: Limiter::new(),
            receiver: None,
            waiting: Vec::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn take(&self, record: &Record<'_>, now: Instant) {
        let source = Source {
            module: record.module_path_static().unwrap_or_default(),
            line: record.line().unwrap_or_default(),
        };
        let mut state = self.state();
        if let Some(suppressed) = state.limiter.admit(source, now) {
            state.hand_on(text(record, suppressed));
        }
    }
}

impl State {
    fn subscribe(&mut self, id: u64, receiver: Receiver) {
        self.receiver = Some((id, receiver));
        for text in std::mem::take(&mut self.waiting) {
            self.hand_on(text);
        }
    }

    fn hand_on(&mut self, text: String) {
        match &mut self.receiver {
            Some((_, receive)) => receive(text),
            None if self.waiting.len() < MOST_WAITING => self.waiting.push(text),
            None => self.limiter.suppress(),
        }
    }

    fn finish(&mut self) {
        match self.limiter.take_suppressed() {
            0 => {}
            1 => self.hand_on(String::from("one more warning is not shown")),
            count => self.hand_on(format!("{count} more warnings are not shown")),
        }
    }
}

impl Log for Notices {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Warn && metadata.target().starts_with(OURS)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) && !BUSY.replace(true) {
            self.take(record, Instant::now());
            BUSY.set(false);
        }
    }

    fn flush(&self) {}
}

/// The words of a record, on one line.
fn text(record: &Record<'_>, suppressed: u64) -> String {
    let mut text = plain(record.args().to_string().as_bytes());
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    if suppressed > 0 {
        // Writing to a string does not fail.
        let _ = write!(text, " (and {suppressed} more of these)");
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
