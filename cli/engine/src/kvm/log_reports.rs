//! Warnings of the machine's process, as notes for the user.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use boxbuild_jail::Channel;
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::wire::{self, Report};

/// Notes of one machine. A guest that causes a warning again and again is not news.
const MOST: u32 = 32;

/// Sends warnings to the parent.
pub(super) struct LogReports {
    channel: Arc<Channel>,
    sent: AtomicU32,
}

impl LogReports {
    /// Takes over the log of this process.
    pub(super) fn install(channel: &Arc<Channel>) {
        let reports = LogReports {
            channel: Arc::clone(channel),
            sent: AtomicU32::new(0),
        };
        if log::set_boxed_logger(Box::new(reports)).is_ok() {
            log::set_max_level(LevelFilter::Warn);
        }
    }
}

impl Log for LogReports {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = match self.sent.fetch_add(1, Ordering::Relaxed) {
            sent if sent < MOST => record.args().to_string(),
            MOST => String::from("further warnings of the machine are not shown"),
            // It stays there, so that it never begins anew.
            _ => return self.sent.store(MOST + 1, Ordering::Relaxed),
        };
        wire::report(&self.channel, &Report::Note(wire::cut(text)));
    }

    fn flush(&self) {}
}
