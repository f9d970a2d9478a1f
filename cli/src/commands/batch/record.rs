//! The record of each build of a batch, `NAME.json` beside its log: what `--resume` reads.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use boxbuild_host::digest::sha256;
use boxbuild_host::umask::umask;
use boxbuild_host::untrusted::{Dir, Replacement};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::check::CheckedBuild;
use super::child::words_of;
use super::outcome::{Outcome, Verdict};
use crate::commands::worker::protocol::VERSION;
use crate::output::event::ResultFile;

/// Longest record that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// `result` of a build that has begun, and not ended.
const RUNNING: &str = "running";

/// The record of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Version of boxbuild.
    boxbuild: String,
    build: String,
    /// `running`, or as in the event `ended`.
    pub(super) result: String,
    exit_code: Option<u8>,
    reason: Option<String>,
    /// Where it was built, if not on the batch's host.
    host: Option<String>,
    attempts: Vec<Attempt>,
    seconds: f64,
    /// When the record was written.
    time: String,
    target_dir: String,
    log: String,
    files: Vec<ResultFile>,
    /// Of the command line, the box and the description: another one is another build.
    input: String,
}

impl Record {
    /// The record of a build that begins.
    pub(super) fn running(build: &CheckedBuild, log: &Path) -> Record {
        Record {
            boxbuild: VERSION.to_owned(),
            build: build.name.clone(),
            result: RUNNING.to_owned(),
            exit_code: None,
            reason: None,
            host: None,
            attempts: Vec::new(),
            seconds: 0.0,
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            target_dir: build.target_dir.display().to_string(),
            log: log.display().to_string(),
            files: Vec::new(),
            input: input_of(build),
        }
    }

    /// The record of a build that has ended.
    pub(super) fn ended(build: &CheckedBuild, outcome: &Outcome) -> Record {
        let log = outcome.log.as_deref().unwrap_or(Path::new(""));
        let summary = outcome.summary(&build.name);
        Record {
            result: summary.result.to_owned(),
            exit_code: summary.exit_code,
            reason: summary.reason.map(str::to_owned),
            host: outcome.host.clone(),
            attempts: outcome.attempts.clone(),
            seconds: summary.seconds,
            files: outcome.progress.files.clone(),
            ..Record::running(build, log)
        }
    }

    /// Writes it into `folder`, in the place of an earlier one, such that there is a whole one at any
    /// time.
    ///
    /// # Errors
    /// Fails if the disk is full.
    pub(super) fn write(&self, folder: &Dir) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        let text = boxbuild_host::text::json(&text).into_owned() + "\n";
        let name = name(&self.build);
        Replacement::write(folder, OsStr::new(&name), text.as_bytes(), 0o666 & !umask())
    }

    /// Reads the record of a build; `None` if there is none that can be used. One of another user's is
    /// none: it would make a build out of files of that user's choice.
    pub(super) fn read(folder: &Dir, build: &CheckedBuild) -> Option<Record> {
        let name = name(&build.name);
        let file: File = folder.file(OsStr::new(&name)).ok()?;
        if file.metadata().ok()?.uid() != geteuid().as_raw() {
            return None;
        }
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether it says that a build of the same has ended well, and the results are still there.
    pub(super) fn stands_for(&self, build: &CheckedBuild) -> bool {
        let there = |file: &ResultFile| {
            // Of a folder, the length is that of what is in it.
            fs::symlink_metadata(&file.path)
                .is_ok_and(|found| file.sha256.is_none() || found.len() == file.bytes)
        };
        self.result == Verdict::Built.word()
            && self.input == input_of(build)
            && !self.files.is_empty()
            && self.files.iter().all(there)
    }

    /// Whether the batch ended before the build did.
    pub(super) fn is_unfinished(&self) -> bool {
        self.result == RUNNING
    }

    /// Returns the outcome that it is the record of.
    pub(super) fn into_outcome(self) -> Outcome {
        let mut outcome = Outcome::not_started();
        outcome.verdict = Verdict::Built;
        outcome.before = true;
        outcome.host = self.host;
        outcome.attempts = self.attempts;
        outcome.log = Some(self.log.into());
        outcome.progress.files = self.files;
        outcome
    }
}

fn name(build: &str) -> String {
    format!("{build}.json")
}

/// A hash of what a build is made from, as far as the batch knows it.
fn input_of(build: &CheckedBuild) -> String {
    let mut bytes: Vec<u8> = Vec::new();
    for word in words_of(build) {
        bytes.extend(word.as_encoded_bytes());
        bytes.push(0);
    }
    bytes.extend(build.description.as_os_str().as_encoded_bytes());
    bytes.push(0);
    bytes.extend(build.fingerprint.iter().flat_map(|text| text.bytes()));
    for (name, hash) in build.box_files.iter().flatten() {
        bytes.extend(name.bytes().chain([0]).chain(hash.bytes()));
    }
    // Bytes in memory can be read.
    sha256(&mut bytes.as_slice()).map_or_else(|_| String::new(), |(_, hash)| hash)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::commands::batch::check::tests::build;

    fn built(folder: &Path) -> (CheckedBuild, Outcome) {
        let build = CheckedBuild {
            name: String::from("ü-1"),
            ..build("small", false)
        };
        let image = folder.join("image");
        fs::write(&image, "image").unwrap();
        let mut outcome = Outcome::not_started();
        outcome.verdict = Verdict::Built;
        outcome.host = Some(String::from("n1"));
        outcome.progress.files = vec![ResultFile {
            path: image.display().to_string(),
            bytes: 5,
            sha256: Some(String::from("abc")),
        }];
        (build, outcome)
    }

    #[test]
    fn a_record_stands_for_the_same_build_with_its_results() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Dir::open(dir.path()).unwrap();
        let (build, outcome) = built(dir.path());
        assert_eq!(Record::read(&logs, &build), None);
        let running = Record::running(&build, Path::new("log"));
        running.write(&logs).unwrap();
        let read = Record::read(&logs, &build).unwrap();
        assert!(read.is_unfinished() && !read.stands_for(&build));
        Record::ended(&build, &outcome).write(&logs).unwrap();
        let read = Record::read(&logs, &build).unwrap();
        assert!(!read.is_unfinished() && read.stands_for(&build));
        assert_eq!(read.clone().into_outcome().host.as_deref(), Some("n1"));
        // Another command line, another description, other results.
        let mut other = CheckedBuild {
            fingerprint: Some(String::from("00")),
            ..self::build("small", false)
        };
        other.name.clone_from(&build.name);
        assert!(!read.stands_for(&other));
        other.fingerprint.clone_from(&build.fingerprint);
        assert!(read.stands_for(&other));
        other.argv.push("--x".into());
        assert!(!read.stands_for(&other));
        fs::write(dir.path().join("image"), "image2").unwrap();
        assert!(!read.stands_for(&build));
        fs::remove_file(dir.path().join("image")).unwrap();
        assert!(!read.stands_for(&build));
    }

    #[test]
    fn a_record_of_another_user_is_none() {
        if !geteuid().is_root() {
            // Not by a macro, whose text the test harness keeps.
            let _ = writeln!(
                io::stderr(),
                "skipped: a_record_of_another_user_is_none: only root can give a file away"
            );
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let logs = Dir::open(dir.path()).unwrap();
        let (build, outcome) = built(dir.path());
        Record::ended(&build, &outcome).write(&logs).unwrap();
        assert!(Record::read(&logs, &build).is_some());
        std::os::unix::fs::chown(dir.path().join("ü-1.json"), Some(12345), None).unwrap();
        assert_eq!(Record::read(&logs, &build), None);
    }

    #[test]
    fn what_is_no_record_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Dir::open(dir.path()).unwrap();
        let (build, _) = built(dir.path());
        for text in ["", "{}", "[1]", "{\"result\":\"built\""] {
            fs::write(dir.path().join("ü-1.json"), text).unwrap();
            assert_eq!(Record::read(&logs, &build), None, "{text}");
        }
        fs::remove_file(dir.path().join("ü-1.json")).unwrap();
        std::os::unix::fs::symlink("image", dir.path().join("ü-1.json")).unwrap();
        assert_eq!(Record::read(&logs, &build), None);
    }
}
