//! The folder with the records.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use boxbuild_host::error::IoError;
use boxbuild_host::lock_file::{LockFile, LockKind};
use boxbuild_host::untrusted::Dir;
use etcetera::BaseStrategy;
use nix::unistd::getuid;

use super::error::HistoryError;
use super::record::{LONGEST, Record};

/// Builds that are remembered at most: the oldest go.
pub(super) const MOST: usize = 1000;

/// Bytes of their records at most.
pub(super) const MOST_BYTES: u64 = 8 << 20;

/// Names that are looked at in the folder at most.
const MOST_NAMES: usize = 10_000;

/// Ends of the names of a record, and of the lock that a build holds while it runs.
const RECORD: &str = ".json";
const LIVE: &str = ".live";

/// The records of a user.
#[derive(Debug, Clone)]
pub struct History {
    folder: PathBuf,
}

/// What a build does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It has ended.
    Ended,
    /// It was killed before it could say how it ended.
    Lost,
}

/// A build in the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub state: State,
    /// What is known of it, or why that cannot be read.
    pub record: Result<Record, String>,
}

impl History {
    /// The user's.
    ///
    /// # Errors
    /// Fails if the user has no home folder.
    pub fn of_user() -> Result<History, HistoryError> {
        let base = etcetera::choose_base_strategy().map_err(|_| HistoryError::NoHome)?;
        let state = base.state_dir().ok_or(HistoryError::NoHome)?;
        Ok(History::at(state.join("boxbuild").join("history")))
    }

    /// The one in `folder`, which need not exist.
    pub fn at(folder: PathBuf) -> History {
        History { folder }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the folder; makes it if need be. It must be the user's own: what is in it is believed.
    pub(super) fn make(&self) -> io::Result<Dir> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        self.open()
    }

    fn open(&self) -> io::Result<Dir> {
        let metadata = fs::symlink_metadata(&self.folder)?;
        if !metadata.is_dir() || metadata.uid() != getuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        Dir::open(&self.folder)
    }

    /// Returns all builds, the oldest first.
    ///
    /// # Errors
    /// Fails if the folder cannot be read. A record that cannot be is told in its place.
    pub fn list(&self) -> Result<Vec<Listed>, HistoryError> {
        let failed = IoError::on("read", &self.folder);
        let dir = match self.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            dir => dir.map_err(failed)?,
        };
        let ids = ids(&dir, RECORD).map_err(IoError::on("read", &self.folder))?;
        let listed = ids.into_iter().filter_map(|id| self.listed(&dir, id));
        Ok(listed.collect())
    }

    /// Returns the build `id`, if there is one.
    ///
    /// # Errors
    /// Fails if the folder cannot be read.
    pub fn get(&self, id: u64) -> Result<Option<Listed>, HistoryError> {
        match self.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IoError::on("read", &self.folder)(error).into()),
            Ok(dir) => Ok(self.listed(&dir, id)),
        }
    }

    fn listed(&self, dir: &Dir, id: u64) -> Option<Listed> {
        // The lock first: a build writes its end before it lets go.
        let runs = self.runs(dir, id);
        let record = match read(dir, id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error.to_string()),
            Ok(text) => Record::read(&text),
        };
        let ended = record.as_ref().is_ok_and(|record| record.end.is_some());
        let state = match (runs, ended) {
            (_, true) => State::Ended,
            (true, false) => State::Running,
            (false, false) => State::Lost,
        };
        let state = match (&record, state) {
            // What it says cannot be read.
            (Err(_), State::Lost) => State::Ended,
            (_, state) => state,
        };
        Some(Listed { id, state, record })
    }

    /// Whether the build `id` runs.
    fn runs(&self, dir: &Dir, id: u64) -> bool {
        let name = live_name(id);
        if !dir.find(&name).is_ok_and(|found| found.is_some()) {
            return false;
        }
        matches!(
            LockFile::take(&self.folder.join(&name), LockKind::Shared),
            Ok(None)
        )
    }

    /// Removes the oldest builds while there are too many, or they are too large; one that runs stays.
    pub(super) fn limit(&self, dir: &Dir, most: usize, most_bytes: u64) -> io::Result<()> {
        let ids = ids(dir, RECORD)?;
        let bytes = |id: &u64| {
            let path = self.folder.join(record_name(*id));
            fs::symlink_metadata(path).map_or(0, |found| found.len())
        };
        let mut total = 0_u64;
        for (number, id) in ids.iter().rev().enumerate() {
            total = total.saturating_add(bytes(id));
            if (number >= most || total > most_bytes) && number > 0 && !self.runs(dir, *id) {
                self.remove_in(dir, *id)?;
            }
        }
        Ok(())
    }

    /// Removes the build `id` from the history.
    ///
    /// # Errors
    /// Fails if it runs, or cannot be removed.
    pub fn remove(&self, id: u64) -> io::Result<()> {
        let dir = self.open()?;
        if self.runs(&dir, id) {
            return Err(io::Error::other("it runs"));
        }
        self.remove_in(&dir, id)
    }

    fn remove_in(&self, dir: &Dir, id: u64) -> io::Result<()> {
        dir.remove(&record_name(id))?;
        dir.remove(&live_name(id))
    }

    /// Takes the next number, and the lock on it.
    pub(super) fn next(&self, dir: &Dir) -> io::Result<(u64, LockFile)> {
        let known = [ids(dir, RECORD)?, ids(dir, LIVE)?].concat();
        let mut id = known.into_iter().max().unwrap_or(0) + 1;
        loop {
            match dir.create(&live_name(id), 0o600) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    id += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            // A build that has begun and ended since the numbers were read has this one.
            if dir.find(&record_name(id))?.is_some() {
                dir.remove(&live_name(id))?;
                id += 1;
                continue;
            }
            let path = self.folder.join(live_name(id));
            // `boxbuild builds` takes the lock for a moment to see whether the build runs.
            for _ in 0..100 {
                if let Some(lock) = LockFile::take(&path, LockKind::Exclusive)? {
                    return Ok((id, lock));
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            return Err(io::Error::other("its lock is taken"));
        }
    }
}

/// Name of the record of a build.
pub(super) fn record_name(id: u64) -> OsString {
    format!("{id}{RECORD}").into()
}

fn live_name(id: u64) -> OsString {
    format!("{id}{LIVE}").into()
}

/// Numbers of the files with the end `end`, the lowest first.
fn ids(dir: &Dir, end: &str) -> io::Result<Vec<u64>> {
    let mut ids: Vec<u64> = dir
        .names()?
        .take(MOST_NAMES)
        .filter_map(|name| {
            let name = name.ok()?.into_string().ok()?;
            let digits = name.strip_suffix(end)?;
            let id: u64 = digits.parse().ok()?;
            // 007.json is no name of ours.
            (id.to_string() == digits && id < u64::MAX).then_some(id)
        })
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

fn read(dir: &Dir, id: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let name: &OsStr = &record_name(id);
    let limit = 2 * LONGEST as u64;
    dir.file(name)?.take(limit).read_to_end(&mut text)?;
    Ok(text)
}
