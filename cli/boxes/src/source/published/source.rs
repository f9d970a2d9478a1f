//! The source of a box that is fetched.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::assemble::{DiskForm, PublishedFiles, assemble};
use super::entry::Entry;
use crate::fetch::{Checksum, Client, Download, FetchError, FetchedFile, Meter, Route, download};
use crate::source::box_source::{BoxSource, MakeBox, Making, Target};
use crate::source::contents::BoxContents;
use crate::source::error::SourceError;

/// How often progress is reported while bytes arrive.
const TICK: Duration = Duration::from_millis(100);

/// A published box, fetched on one route.
#[derive(Debug)]
pub(super) struct FetchedBox<'a> {
    pub(super) entry: &'a Entry<'a>,
    pub(super) client: &'a Client,
    pub(super) route: Route,
    /// Published checksums of the archive with the kernel and of the disk.
    pub(super) checksums: &'a [Checksum; 2],
    /// The folder for partial files.
    pub(super) dir: &'a Path,
}

impl FetchedBox<'_> {
    fn make(&self, making: &mut Making<'_>) -> Result<BoxContents, SourceError> {
        let fetched = self.fetch(making).map_err(|source| SourceError::Fetch {
            name: self.entry.name().to_owned(),
            source,
        })?;
        let [archive, disk] = self.entry.files().map(|name| self.part(name));
        let files = PublishedFiles {
            archive: &archive,
            disk: &disk,
            fetched: &fetched,
        };
        assemble(self.entry, making, &files, DiskForm::Plain)
    }

    /// Returns the path of a partial file.
    fn part(&self, name: &str) -> std::path::PathBuf {
        self.dir.join(format!("{name}.part"))
    }

    /// Fetches both files at once.
    fn fetch(&self, making: &mut Making<'_>) -> Result<[FetchedFile; 2], FetchError> {
        let meter = Arc::new(Meter::default());
        let (sender, results) = mpsc::channel();
        for (index, name) in self.entry.files().into_iter().enumerate() {
            let file = Download {
                location: self.route.apply(self.entry.repository.file(name)),
                fresh: self.route.bypasses_caches(),
                expected: self.checksums[index].clone(),
                part: self.part(name),
            };
            let (client, meter, sender) = (self.client.clone(), Arc::clone(&meter), sender.clone());
            let started = std::thread::Builder::new().spawn(move || {
                // The receiver is gone when the other file has failed.
                let _ = sender.send((index, download(&client, &file, &meter)));
            });
            started.map_err(|error| FetchError::Client(format!("no thread: {error}")))?;
        }
        drop(sender);
        let mut done = [None, None];
        let mut mirror_error = None;
        loop {
            match results.recv_timeout(TICK) {
                Ok((index, Ok(fetched))) => done[index] = Some(fetched),
                // The other file continues: it may be right, and is not fetched again then.
                Ok((_, Err(error))) if error.may_be_a_mirrors() => {
                    mirror_error.get_or_insert(error);
                }
                Ok((_, Err(error))) => return Err(error),
                Err(mpsc::RecvTimeoutError::Timeout) => making.reporter.report(&meter.line()),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if making.interrupt.count() > 0 {
                return Err(FetchError::Interrupted);
            }
        }
        match (done, mirror_error) {
            ([Some(kernel), Some(disk)], None) => Ok([kernel, disk]),
            (_, Some(error)) => Err(error),
            // A thread that panicked.
            _ => Err(FetchError::Client(String::from("a thread ended early"))),
        }
    }
}

impl BoxSource for FetchedBox<'_> {
    fn target(&self) -> Target {
        self.entry.target()
    }

    fn prepare(&self) -> Result<MakeBox<'_>, SourceError> {
        // A fetch needs nothing of the host that the client does not have already.
        Ok(Box::new(|making| self.make(making)))
    }
}
