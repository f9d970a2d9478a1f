//! The folder that a guest writes its results into.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use boxbuild_host::error::IoError;
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::text::plain;
use boxbuild_host::untrusted::{Dir, FileKind, remove_tree};
use boxbuild_protocol::paths::{CODE_NAME, LOG_NAME};

use super::error::OutputDirError;
use super::manifest::Manifest;
use super::target_dir::{STAGING, TargetDir};

/// Name of the folder in the staging folder that the guest sees.
const SHARE: &str = "bundle";

/// Longest `result.code` that is read, in bytes.
const LONGEST_CODE: u64 = 64;

/// The results of a build in the making, inside of its target folder.
#[derive(Debug)]
pub struct OutputDir<'t> {
    pub(super) target: &'t TargetDir,
    pub(super) share: Dir,
    share_path: PathBuf,
    /// A build of a boxbuild that kept no manifest was here before.
    pub(super) is_of_old: bool,
}

/// The contents of the `result.code` that the guest wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultCode {
    /// It wrote a number.
    Code(i32),
    /// It wrote something else.
    Unreadable(String),
    /// There is no such file.
    Missing,
}

/// Where the guest of a build into `target` writes its results and its log.
pub fn share_of(target: &Path) -> PathBuf {
    target.join(STAGING).join(SHARE)
}

impl<'t> OutputDir<'t> {
    /// Makes the folder for the guest, and removes what an earlier build said about its own outcome.
    ///
    /// # Errors
    /// Fails if that is not possible, or `stop` says to stop.
    pub fn stage(target: &'t TargetDir, stop: &StopCheck) -> Result<OutputDir<'t>, OutputDirError> {
        let (dir, staging) = (target.dir(), target.staging());
        let place = target.path().join(STAGING);
        empty(staging, stop).map_err(|error| match Stopped::of(&error) {
            Some(stopped) => OutputDirError::Publish(stopped.into()),
            None => IoError::on("remove what is left in", &place)(error).into(),
        })?;
        let verdict = dir.status(OsStr::new(CODE_NAME));
        let was_used = verdict.is_ok_and(|status| status.kind == FileKind::Regular);
        for stale in [CODE_NAME, LOG_NAME] {
            dir.remove(OsStr::new(stale)).map_err(IoError::on(
                "remove the stale file",
                &target.path().join(stale),
            ))?;
        }
        let share = staging
            .make_folder(OsStr::new(SHARE), 0o755)
            .map_err(IoError::on("create the folder", &place.join(SHARE)))?;
        Ok(OutputDir {
            is_of_old: was_used && Manifest::read(dir).is_none(),
            target,
            share,
            share_path: place.join(SHARE),
        })
    }

    /// The folder to share with the guest.
    pub fn share(&self) -> &Path {
        &self.share_path
    }

    /// The same, opened before any guest saw it.
    pub fn share_dir(&self) -> &Dir {
        &self.share
    }

    /// Reads `result.code`.
    pub fn result_code(&self) -> ResultCode {
        let mut text = Vec::new();
        let read = self
            .share
            .file(OsStr::new(CODE_NAME))
            .and_then(|file| file.take(LONGEST_CODE).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => ResultCode::Missing,
            Err(error) => ResultCode::Unreadable(error.to_string()),
            Ok(_) => {
                let text = text.trim_ascii();
                let code = std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.parse().ok());
                code.map_or_else(
                    || ResultCode::Unreadable(format!("it contains '{}'", plain(text))),
                    ResultCode::Code,
                )
            }
        }
    }
}

/// Removes everything in `folder`.
fn empty(folder: &Dir, stop: &StopCheck) -> io::Result<()> {
    for name in folder.names()? {
        remove_tree(folder, &name?, stop)?;
    }
    Ok(())
}
