//! The builds of a user, those that run and those that have ended: a small file for each, in the user's
//! folder of state (`~/.local/state/boxbuild/history`).
//!
//! A build makes its record as it starts, holds a lock beside it while it runs, and writes it anew when it
//! ends: one that is neither locked nor ended was killed. Their number and their size are bounded.
//! Nothing secret is in them.

mod builds;
mod entry;
mod error;
mod follow;
mod record;

#[cfg(test)]
mod tests;

pub use builds::{History, Listed, State};
pub use entry::Entry;
pub use error::HistoryError;
pub use follow::LiveLog;
pub use record::{End, FileRecord, PackageBytes, Record, Status};
