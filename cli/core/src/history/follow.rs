//! The log of a build that runs, as another process sees it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use boxbuild_host::untrusted::Dir;
use boxbuild_protocol::paths::LOG_NAME;

use super::record::{Record, identity};
use crate::kiwi_log::{Gained, Tail};
use crate::output_dir::share_of;

/// kiwi's log of a build: in the folder that the guest writes into, then in the target folder.
#[derive(Debug)]
pub struct LiveLog {
    share: PathBuf,
    /// The folder that it is in: another attempt has another one.
    folder: Option<(u64, u64)>,
    tail: Option<Tail>,
}

impl LiveLog {
    /// The log of the build of `record`.
    pub fn of(record: &Record) -> LiveLog {
        LiveLog {
            share: share_of(Path::new(&record.target_dir)),
            folder: None,
            tail: None,
        }
    }

    /// Calls `line` for each new line, as far as one look goes. There may be no log yet.
    ///
    /// # Errors
    /// Fails if what is there is no log, or cannot be read.
    pub fn poll(&mut self, line: impl FnMut(&str)) -> io::Result<Gained> {
        let found = fs::symlink_metadata(&self.share).ok();
        let found = found.map(|found| (found.dev(), found.ino()));
        if found.is_some()
            && found != self.folder
            && let Ok(folder) = Dir::open(&self.share)
        {
            self.tail = Some(Tail::new(folder, OsStr::new(LOG_NAME)));
            self.folder = found;
        }
        match &mut self.tail {
            Some(tail) => tail.poll(line),
            None => Ok(Gained::default()),
        }
    }

    /// Takes what came last; what was not seen while the build ran is not shown.
    ///
    /// # Errors
    /// Fails if it cannot be read.
    pub fn end(&mut self, mut line: impl FnMut(&str)) -> io::Result<()> {
        let Some(tail) = &mut self.tail else {
            return Ok(());
        };
        while tail.poll_end(&mut line)?.more {}
        if let Some(rest) = tail.rest() {
            line(&rest);
        }
        Ok(())
    }

    /// Whether there was a log.
    pub fn was_found(&self) -> bool {
        self.tail.is_some()
    }
}

impl Record {
    /// Opens kiwi's log in the target folder, if it is still the one of this build.
    ///
    /// # Errors
    /// Fails if it cannot be opened.
    pub fn open_log(&self) -> io::Result<Option<File>> {
        let Some(known) = self.end.as_ref().and_then(|end| end.log) else {
            return Ok(None);
        };
        let found = Dir::open(Path::new(&self.target_dir))
            .and_then(|target| target.file(OsStr::new(LOG_NAME)));
        let file = match found {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((identity(&file) == Some(known)).then_some(file))
    }
}
