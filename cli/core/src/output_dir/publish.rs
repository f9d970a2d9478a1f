//! Publishing: what a guest delivered becomes the user's.
//!
//! Results are regular files and folders of them; kiwi makes nothing else (kiwi 11,
//! `kiwi/tasks/result_bundle.py`: the links it makes while it renames files are gone at the end). The
//! rest is left out, and a note says so. Everything is checked, gets its mode, is hashed and is
//! written to the disk first; then names appear in the target folder by renames, `result.code` last. A
//! name there that no earlier build made is never replaced: all results go into a folder of their
//! own then.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::PathBuf;

use boxbuild_host::digest::sha256_until;
use boxbuild_host::error::IoError;
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::untrusted::{Dir, FileKind, Replacement, Status, remove_tree};
use boxbuild_protocol::paths::{CODE_NAME, LOG_NAME, OBSERVED_NAME};
use boxbuild_provenance::names;
use nix::unistd::geteuid;

use super::error::{OutputDirError, PublishError};
use super::folder_result::{self, MOST_INSIDE};
use super::manifest::{self, Manifest};
use super::modes::{Modes, open_file};
use super::names::{is_of_kiwi, objection};
use super::notes::Notes;
use super::recorder::{RecordError, Recorder};
use super::staging::OutputDir;

/// How many results there may be. kiwi has about ten.
const MOST: usize = 1000;

/// How many bytes of results get a checksum: a hole of a file costs as much as data.
const MOST_HASHED: u64 = 1 << 40;

/// Beginning of the names of folders for results that cannot be published.
pub(super) const RESCUED: &str = "result.unpublished-";

/// Folders for results that cannot be published, at most, in one target folder.
const MOST_RESCUED: u32 = 1000;

/// What was published.
#[derive(Debug, Default)]
pub struct Published {
    /// The results, in the order of their names.
    pub files: Vec<ResultFile>,
    /// kiwi's log, if there is one.
    pub log: Option<File>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// A published result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hex; a folder has none, nor has what is too long.
    pub sha256: Option<String>,
}

/// A result that may be published.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) status: Status,
}

/// Why publishing ended.
#[derive(Debug)]
pub(super) enum Trouble {
    Stopped(Stopped),
    InTheWay(Vec<String>),
    Io(IoError),
    Record(RecordError),
}

impl OutputDir<'_> {
    /// Publishes what the guest delivered, with a verdict of 0.
    ///
    /// # Errors
    /// Fails if `stop` says to stop (nothing is published then), or it is not possible: the error
    /// says where the results are.
    pub fn publish(
        &mut self,
        recorder: Option<&mut dyn Recorder>,
        stop: &StopCheck,
    ) -> Result<Published, PublishError> {
        self.publish_within(recorder, stop, MOST_HASHED)
    }

    pub(super) fn publish_within(
        &mut self,
        recorder: Option<&mut dyn Recorder>,
        stop: &StopCheck,
        most_hashed: u64,
    ) -> Result<Published, PublishError> {
        let modes = Modes::of_user();
        let mut notes = Notes::default();
        let mut candidates = match self.candidates(recorder.is_some(), &mut notes) {
            Ok(Some(candidates)) => candidates,
            Ok(None) => return Err(PublishError::TooMany { most: MOST }),
            Err(source) => {
                return Err(PublishError::Io {
                    rescued: None,
                    source: self.on("read the results for", "")(source),
                });
            }
        };
        let published = self
            .prepare(&candidates, modes, most_hashed, &mut notes, stop)
            .and_then(|mut files| {
                if let Some(recorder) = recorder {
                    self.record(recorder, &mut candidates, &mut files, modes, stop)?;
                }
                self.move_all(&candidates)?;
                Ok(files)
            })
            .and_then(|files| Ok((files, self.conclude(modes, 0, &mut notes)?)));
        match published {
            Ok((files, log)) => Ok(Published {
                files,
                log,
                notes: notes.lines(),
            }),
            Err(Trouble::Stopped(stopped)) => Err(stopped.into()),
            Err(Trouble::InTheWay(names)) => Err(PublishError::Conflict {
                paths: names
                    .iter()
                    .map(|name| self.target.path().join(name))
                    .collect(),
                rescued: self.rescue(&candidates),
            }),
            Err(Trouble::Io(source)) => Err(PublishError::Io {
                rescued: self.rescue(&candidates),
                source,
            }),
            Err(Trouble::Record(source)) => Err(PublishError::Record {
                rescued: self.rescue(&candidates),
                source,
            }),
        }
    }

    /// Publishes the log and `code` of a failed build.
    ///
    /// # Errors
    /// Fails if the verdict cannot be written.
    pub fn publish_failure(&mut self, code: i32) -> Result<Published, OutputDirError> {
        let mut notes = Notes::default();
        let log = match self.conclude(Modes::of_user(), code, &mut notes) {
            Ok(log) => log,
            Err(Trouble::Io(_) | Trouble::Record(_)) => {
                // On a full disk, this makes the room for the verdict.
                self.empty();
                self.write_code(Modes::of_user(), code)?;
                None
            }
            Err(Trouble::Stopped(_) | Trouble::InTheWay(_)) => None,
        };
        Ok(Published {
            files: Vec::new(),
            log,
            notes: notes.lines(),
        })
    }

    /// What the guest delivered, in the order of names, without `result.log`, `result.code` and, if it is
    /// going to be `recorded`, what has a name of the record; `None` if that is too much.
    fn candidates(&self, recorded: bool, notes: &mut Notes) -> io::Result<Option<Vec<Candidate>>> {
        let mut names = Vec::new();
        for name in self.share.names()? {
            let name = name?;
            if name == LOG_NAME || name == CODE_NAME || name == OBSERVED_NAME {
                continue;
            }
            if recorded && names::ALL.iter().any(|own| name == *own) {
                notes.left_out(&name, "the record has a file of this name");
                continue;
            }
            if names.len() == MOST {
                return Ok(None);
            }
            names.push(name);
        }
        names.sort();
        let mut candidates = Vec::new();
        for name in names {
            match self.candidate(&name)? {
                Ok(candidate) => candidates.push(candidate),
                Err(why) => notes.left_out(&name, why),
            }
        }
        Ok(Some(candidates))
    }

    fn candidate(&self, name: &OsStr) -> io::Result<Result<Candidate, &'static str>> {
        let status = self.share.status(name)?;
        let objection = objection(name).or(match status.kind {
            FileKind::Link => Some("a symbolic link"),
            FileKind::Special => Some("neither a file nor a folder"),
            _ if status.owner != geteuid().as_raw() => Some("it belongs to another user"),
            FileKind::Regular | FileKind::Folder => None,
        });
        Ok(match (objection, name.to_str()) {
            (None, Some(name)) => Ok(Candidate {
                name: name.to_owned(),
                status,
            }),
            (why, _) => Err(why.unwrap_or("its name is not UTF-8")),
        })
    }

    /// Gives results their modes and checksums, and has them written to the disk.
    fn prepare(
        &self,
        candidates: &[Candidate],
        modes: Modes,
        mut most_hashed: u64,
        notes: &mut Notes,
        stop: &StopCheck,
    ) -> Result<Vec<ResultFile>, Trouble> {
        let mut files = Vec::new();
        let mut room = MOST_INSIDE;
        for candidate in candidates {
            let name = OsStr::new(&candidate.name);
            let mut prepare = || -> io::Result<Option<String>> {
                stop.check().map_err(io::Error::other)?;
                if candidate.status.kind == FileKind::Folder {
                    let left_out =
                        folder_result::prepare(&self.share, name, modes, &mut room, stop)?;
                    if let Some((inside, why)) = left_out.example {
                        notes.left_out_inside(name, &inside, why, left_out.count);
                    }
                    return Ok(None);
                }
                let mut file = open_file(&self.share, name)?;
                modes.set(&file)?;
                let hashed = match most_hashed.checked_sub(candidate.status.len) {
                    None => {
                        notes.no_checksum(&candidate.name, candidate.status.len);
                        None
                    }
                    Some(rest) => {
                        most_hashed = rest;
                        Some(sha256_until(&mut file, stop)?.1)
                    }
                };
                // A name that appears stands for the whole file, whatever the host does next.
                file.sync_all()?;
                Ok(hashed)
            };
            let sha256 = prepare().map_err(|error| match Stopped::of(&error) {
                Some(stopped) => Trouble::Stopped(stopped),
                None => Trouble::Io(self.on("prepare the result", &candidate.name)(error)),
            })?;
            files.push(ResultFile {
                path: self.target.path().join(&candidate.name),
                bytes: candidate.status.len,
                sha256,
            });
        }
        Ok(files)
    }

    /// Moves all results into the target folder, or none if something is in the way.
    fn move_all(&self, candidates: &[Candidate]) -> Result<(), Trouble> {
        if candidates.is_empty() {
            return Ok(());
        }
        let target = self.target.dir();
        let earlier = Manifest::read(target).unwrap_or_default();
        let mut in_the_way = Vec::new();
        for Candidate { name, .. } in candidates {
            let found = target
                .find(OsStr::new(name))
                .map_err(|error| Trouble::Io(self.on("examine", name)(error)))?;
            if found.is_some_and(|there| !self.may_replace(&earlier, target, name, &there)) {
                in_the_way.push(name.clone());
            }
        }
        if !in_the_way.is_empty() {
            return Err(Trouble::InTheWay(in_the_way));
        }
        // Before the names are there: if this process is killed, both old and new ones are known.
        let mut known = earlier.clone();
        known.prune(target);
        candidates
            .iter()
            .try_for_each(|result| known.add(&self.share, &result.name, &result.status))
            .and_then(|()| known.write(target))
            .map_err(|error| Trouble::Io(self.on("write", manifest::NAME)(error)))?;
        self.remove_stale_record(candidates, &earlier)?;
        for Candidate { name, .. } in candidates {
            self.move_one(name, &earlier)?;
        }
        target
            .sync()
            .map_err(|error| Trouble::Io(self.on("publish the results in", "")(error)))
    }

    fn move_one(&self, name: &str, earlier: &Manifest) -> Result<(), Trouble> {
        let (share, target) = (&self.share, self.target.dir());
        let os_name = OsStr::new(name);
        let io = |error| Trouble::Io(self.on("publish the result", name)(error));
        match share.move_to(os_name, target, os_name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map_err(io),
        }
        share.exchange(os_name, target, os_name).map_err(io)?;
        // What has been there a moment ago may have become something else.
        let there = share.status(os_name).map_err(io)?;
        if self.may_replace(earlier, share, name, &there) {
            return Ok(());
        }
        share.exchange(os_name, target, os_name).map_err(io)?;
        Err(Trouble::InTheWay(vec![name.to_owned()]))
    }

    /// Removes what earlier builds recorded: it is about other results.
    fn remove_stale_record(
        &self,
        candidates: &[Candidate],
        earlier: &Manifest,
    ) -> Result<(), Trouble> {
        let target = self.target.dir();
        for name in names::ALL {
            if candidates.iter().any(|result| result.name == name) {
                continue;
            }
            let found = target.find(OsStr::new(name));
            let is_stale = matches!(found, Ok(Some(there)) if earlier.has(target, name, &there));
            if is_stale {
                target
                    .remove(OsStr::new(name))
                    .map_err(|error| Trouble::Io(self.on("remove the stale file", name)(error)))?;
            }
        }
        Ok(())
    }

    /// Whether an earlier build made what `dir` has as `name`. One that kept no manifest
    /// is believed to have made what is named as kiwi's results are.
    fn may_replace(&self, earlier: &Manifest, dir: &Dir, name: &str, there: &Status) -> bool {
        let old = || {
            self.is_of_old
                && there.kind == FileKind::Regular
                && there.owner == geteuid().as_raw()
                && is_of_kiwi(name)
        };
        earlier.has(dir, name, there) || old()
    }

    /// Publishes the log, if there is one, and writes the verdict last.
    fn conclude(
        &self,
        modes: Modes,
        code: i32,
        notes: &mut Notes,
    ) -> Result<Option<File>, Trouble> {
        let log = self.publish_log(modes, notes);
        self.write_code(modes, code).map_err(Trouble::Io)?;
        Ok(log)
    }

    fn publish_log(&self, modes: Modes, notes: &mut Notes) -> Option<File> {
        let name = OsStr::new(LOG_NAME);
        let publish = || -> io::Result<File> {
            let file = open_file(&self.share, name)?;
            if Status::of(&file)?.owner != geteuid().as_raw() {
                return Err(io::Error::other("it belongs to another user"));
            }
            modes.set(&file)?;
            // The name is ours: nothing else is expected to have it.
            match self.share.move_to(name, self.target.dir(), name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.share.exchange(name, self.target.dir(), name)?;
                }
                result => result?,
            }
            Ok(file)
        };
        match publish() {
            Ok(file) => Some(file),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    notes.add(format!("{LOG_NAME} is not published: {error}"));
                }
                None
            }
        }
    }

    fn write_code(&self, modes: Modes, code: i32) -> Result<(), IoError> {
        let text = format!("{code}\n");
        Replacement::write(
            self.target.dir(),
            OsStr::new(CODE_NAME),
            text.as_bytes(),
            modes.file,
        )
        .map_err(self.on("write", CODE_NAME))
    }

    /// Moves results that cannot be published into a folder of their own, as far as possible: a build
    /// takes long. Returns the folder.
    fn rescue(&self, candidates: &[Candidate]) -> Option<PathBuf> {
        let target = self.target.dir();
        let (name, folder) = (1..=MOST_RESCUED).find_map(|number| {
            let name = OsString::from(format!("{RESCUED}{number}"));
            match target.make_folder(&name, 0o700) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                made => Some((name, made)),
            }
        })?;
        let folder = folder.ok()?;
        let mut rescued = false;
        for candidate in candidates {
            let name = OsStr::new(&candidate.name);
            // Some may be published already.
            rescued |= self.share.move_to(name, &folder, name).is_ok();
        }
        rescued.then(|| self.target.path().join(name))
    }

    /// Removes everything that the guest delivered.
    fn empty(&self) {
        let stop = StopCheck::default();
        for name in self.share.names().into_iter().flatten().flatten() {
            // What cannot be removed now is removed later.
            let _ = remove_tree(&self.share, &name, &stop);
        }
    }

    pub(super) fn on(
        &self,
        action: &'static str,
        name: &str,
    ) -> impl FnOnce(io::Error) -> IoError + use<> {
        IoError::on(action, &self.target.path().join(name))
    }
}
