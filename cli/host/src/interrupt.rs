//! Ctrl-C, SIGTERM and SIGHUP, counted.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The signals' count.
static OF_PROCESS: OnceLock<Interrupt> = OnceLock::new();

/// Counts requests to stop. Cloning shares the count.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    count: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Takes over the signals that ask this process to stop.
    pub fn install() -> io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let count = Arc::clone(&interrupt.count);
            // SAFETY: the handler only does an atomic addition, which is async-signal-safe.
            unsafe {
                signal_hook::low_level::register(signal, move || {
                    count.fetch_add(1, Ordering::Relaxed);
                })?;
            }
        }
        // The first one counts all signals.
        let _ = OF_PROCESS.set(interrupt.clone());
        Ok(interrupt)
    }

    /// Returns the count of this process's signals: for what is done on the way to something that the
    /// user can interrupt. Without [`Interrupt::install`] it stays 0.
    pub fn of_process() -> Interrupt {
        OF_PROCESS.get().cloned().unwrap_or_default()
    }

    /// How often the user asked.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Asks as a signal would.
    pub fn request(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}
