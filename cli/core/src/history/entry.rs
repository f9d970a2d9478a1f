//! A build that is being written into the history.

use std::io;
use std::time::Instant;

use boxbuild_host::lock_file::LockFile;
use boxbuild_host::untrusted::{Dir, Replacement};

use super::builds::{History, MOST, MOST_BYTES, record_name};
use super::record::{End, Record};
use crate::plan::Plan;

/// A build that runs. If it is dropped, it counts as lost.
#[derive(Debug)]
pub struct Entry {
    dir: Dir,
    record: Record,
    live: LockFile,
    started: Instant,
}

impl History {
    /// Begins the record of a build by `plan` with `engine`; older ones may go to make room.
    ///
    /// # Errors
    /// Fails if the history cannot be written to.
    pub fn begin(&self, plan: &Plan, engine: &str) -> io::Result<Entry> {
        self.begin_with(Record::new(plan, engine))
    }

    pub(super) fn begin_with(&self, mut record: Record) -> io::Result<Entry> {
        let dir = self.make()?;
        let (id, live) = self.next(&dir)?;
        record.id = id;
        let entry = Entry {
            dir,
            record,
            live,
            started: Instant::now(),
        };
        if let Err(error) = entry.write() {
            entry.live.remove();
            return Err(error);
        }
        // Some go later, if they cannot now.
        let _ = self.limit(&entry.dir, MOST, MOST_BYTES);
        Ok(entry)
    }
}

impl Entry {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// Takes what has changed about the plan.
    pub fn update(&mut self, plan: &Plan) {
        self.record.update(plan);
    }

    /// Writes how it ended.
    ///
    /// # Errors
    /// Fails if the history cannot be written to.
    pub fn end(mut self, mut end: End) -> io::Result<()> {
        end.seconds = self.started.elapsed().as_secs_f64();
        self.record.end = Some(end);
        let written = self.write();
        self.live.remove();
        written
    }

    fn write(&self) -> io::Result<()> {
        let text = self.record.text().map_err(io::Error::other)?;
        Replacement::write(&self.dir, &record_name(self.record.id), &text, 0o600)
    }
}
