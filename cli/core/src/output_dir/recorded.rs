//! The record beside the results: its files are made where the guest left the results, which no other
//! process can reach, and published with them.

use std::ffi::OsStr;
use std::io::{self, Read};

use boxbuild_host::digest::sha256_until;
use boxbuild_host::error::IoError;
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::untrusted::{Dir, FileKind, Replacement, Status, remove_tree};
use boxbuild_protocol::paths::{LOG_NAME, OBSERVED_NAME};
use boxbuild_provenance::{names, observed, packages, sign, tree};

use super::modes::{Modes, open_file};
use super::publish::{Candidate, ResultFile, Trouble};
use super::recorder::{Delivered, DeliveredFile, RecordError, RecordFile, Recorder};
use super::staging::OutputDir;

/// Longest log and most bytes in folders that are hashed for a record.
const MOST_HASHED: u64 = 1 << 40;

impl OutputDir<'_> {
    /// Has the record made of what is going to be published, and adds its files to that.
    pub(super) fn record(
        &self,
        recorder: &mut dyn Recorder,
        candidates: &mut Vec<Candidate>,
        files: &mut Vec<ResultFile>,
        modes: Modes,
        stop: &StopCheck,
    ) -> Result<(), Trouble> {
        let delivered = self.delivered(candidates, files, stop)?;
        let made = recorder.record(&delivered).map_err(|error| match error {
            RecordError::Sign(sign::SignError::Stopped(stopped)) => Trouble::Stopped(stopped),
            error => Trouble::Record(error),
        })?;
        for name in names::ALL {
            remove_tree(&self.share, OsStr::new(name), stop)
                .map_err(|error| self.trouble("make room for", name, error))?;
        }
        for RecordFile { name, text } in made {
            let on = |error| self.trouble("write", name, error);
            Replacement::write(&self.share, OsStr::new(name), &text, modes.file).map_err(on)?;
            let (bytes, sha256) = sha256_until(&mut &text[..], stop).map_err(on)?;
            candidates.push(Candidate {
                name: name.to_owned(),
                status: self.share.status(OsStr::new(name)).map_err(on)?,
            });
            files.push(ResultFile {
                path: self.target.path().join(name),
                bytes,
                sha256: Some(sha256),
            });
        }
        Ok(())
    }

    fn delivered(
        &self,
        candidates: &[Candidate],
        files: &[ResultFile],
        stop: &StopCheck,
    ) -> Result<Delivered, Trouble> {
        let mut delivered = Delivered::default();
        let (mut left, mut room) = (MOST_HASHED, packages::LONGEST);
        for (candidate, result) in candidates.iter().zip(files) {
            let name = &candidate.name;
            if candidate.status.kind == FileKind::Folder {
                self.inside(name, &mut left, &mut delivered.files, stop)?;
                continue;
            }
            let too_large = || Trouble::Record(RecordError::TooLarge(name.clone()));
            delivered.files.push(DeliveredFile {
                path: name.clone(),
                bytes: result.bytes,
                sha256: result.sha256.clone().ok_or_else(too_large)?,
            });
            if name.ends_with(packages::SUFFIX) {
                // A guest has as many lists as it likes: all of them have the room of one.
                let text = text(&self.share, name, room)
                    .map_err(|error| self.trouble("read", name, error))?;
                room = room.saturating_sub(text.len() as u64);
                delivered.packages.push(text);
            }
        }
        let log = self.share.find(OsStr::new(LOG_NAME));
        if matches!(log, Ok(Some(status)) if status.kind == FileKind::Regular) {
            let file = self.hashed(&self.share, LOG_NAME, LOG_NAME, &mut left, stop)?;
            delivered.log = Some(file);
        }
        // A guest that says nothing has seen nothing.
        delivered.observed =
            text(&self.share, OBSERVED_NAME, observed::LONGEST).unwrap_or_default();
        Ok(delivered)
    }

    /// Hashes everything in a folder among the results.
    fn inside(
        &self,
        folder: &str,
        left: &mut u64,
        files: &mut Vec<DeliveredFile>,
        stop: &StopCheck,
    ) -> Result<(), Trouble> {
        let on = |error| self.trouble("read", folder, error);
        let dir = self.share.folder(OsStr::new(folder)).map_err(on)?;
        for entry in tree::list(&dir, stop).map_err(on)? {
            let path = entry.path.to_string_lossy();
            let (mut place, mut name) = (dir.try_clone().map_err(on)?, &*path);
            while let Some((parent, rest)) = name.split_once('/') {
                place = place.folder(OsStr::new(parent)).map_err(on)?;
                name = rest;
            }
            let shown = format!("{folder}/{path}");
            files.push(self.hashed(&place, name, &shown, left, stop)?);
        }
        Ok(())
    }

    fn hashed(
        &self,
        dir: &Dir,
        name: &str,
        path: &str,
        left: &mut u64,
        stop: &StopCheck,
    ) -> Result<DeliveredFile, Trouble> {
        let on = |error| self.trouble("read", path, error);
        let file = open_file(dir, OsStr::new(name)).map_err(on)?;
        let len = Status::of(&file).map_err(on)?.len;
        *left = left
            .checked_sub(len)
            .ok_or_else(|| Trouble::Record(RecordError::TooLarge(path.to_owned())))?;
        let (bytes, sha256) = sha256_until(&mut file.take(len), stop).map_err(on)?;
        Ok(DeliveredFile {
            path: path.to_owned(),
            bytes,
            sha256,
        })
    }

    fn trouble(&self, action: &'static str, name: &str, error: io::Error) -> Trouble {
        match Stopped::of(&error) {
            Some(stopped) => Trouble::Stopped(stopped),
            None => Trouble::Io(IoError::on(action, &self.target.path().join(name))(error)),
        }
    }
}

/// The beginning of a text in `dir`.
fn text(dir: &Dir, name: &str, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    open_file(dir, OsStr::new(name))?
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
