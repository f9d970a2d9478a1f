//! Keeping a build that has just failed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::builds::{CONSOLE_NAME, FailedBuild, FailedBuilds, bytes};
use super::checkpoint::{self, Taken};
use super::error::FailedBuildError;
use super::record::Record;
use crate::held_folders::HeldFolders;
use crate::inputs::Inputs;
use crate::log_copy;
use crate::plan::Plan;
use boxbuild_engine::Running;
use boxbuild_host::error::IoError;
use boxbuild_host::reaper::Reaper;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::{Dir, Replacement};
use boxbuild_protocol::paths::LOG_NAME;

/// A file system with less free space than this part of it is too full to keep a disk on.
const LEAST_FREE_PERCENT: u64 = 5;

/// Beginning of the names of folders in the making.
const MAKING: &str = ".making-";

/// The failure, as it is recorded.
#[derive(Debug)]
pub struct Failed<'a> {
    /// The folders of the build.
    pub folders: &'a HeldFolders,
    /// Name of the engine.
    pub engine: &'a str,
    /// The reason, for the user.
    pub reason: String,
    /// boxbuild's exit code.
    pub exit_code: u8,
    /// The folder of the guest's that may have kiwi's log.
    pub share: &'a Dir,
    /// The end of what the box wrote to its console.
    pub console: &'a str,
    /// What came of the checkpoint after kiwi's `prepare`.
    pub taken: &'a Taken,
    /// What went into the build when it started.
    pub inputs: Option<&'a Inputs>,
}

impl FailedBuilds {
    /// Keeps the build by `plan` whose machine was `running`. Returns it, and the names of older
    /// ones that went to make room. `stop` is asked while the log is copied.
    ///
    /// # Errors
    /// Fails if it cannot be kept; nothing of it is left then.
    pub fn keep(
        &self,
        plan: &Plan,
        running: &dyn Running,
        failed: &Failed<'_>,
        stop: &StopCheck,
    ) -> Result<(FailedBuild, Vec<String>), FailedBuildError> {
        self.make()?;
        self.room()?;
        let making = tempfile::Builder::new()
            .prefix(MAKING)
            .tempdir_in(&self.folder)
            .map_err(IoError::on("create a folder in", &self.folder))?;
        let folder = making.path();
        // Nothing is left behind if this process is killed right now.
        let own = Dir::open(folder).map_err(IoError::on("open the folder", folder))?;
        let reaper = own
            .try_clone()
            .and_then(|handle| Reaper::watch(folder, &File::from(OwnedFd::from(handle))))
            .map_err(IoError::on("watch over", folder))?;
        let mut record = Record::new(plan, failed.folders, failed.engine, &failed.reason);
        record.exit_code = failed.exit_code;
        record.disk = running
            .keep_disk(folder)
            .map_err(IoError::on("keep the disk in", folder))?;
        if record.disk.is_some() {
            record.layered = checkpoint::keep_disk(plan, running, folder, &own)
                .map_err(IoError::on("keep the disk in", folder))?;
            match checkpoint::describe(plan, failed.taken, failed.inputs, stop) {
                Ok(checkpoint) => record.checkpoint = Some(checkpoint),
                Err(problem) => record.no_checkpoint = Some(problem),
            }
        } else if let Taken::Failed(problem) = failed.taken {
            record.no_checkpoint = Some(problem.clone());
        }
        if record.disk.is_some() && link_box(plan, folder).is_ok() {
            record.box_folder = None;
        }
        keep_log(failed.share, &own, stop)
            .map_err(IoError::on("copy the log to", &folder.join(LOG_NAME)))?;
        let console = folder.join(CONSOLE_NAME);
        Replacement::write(
            &own,
            OsStr::new(CONSOLE_NAME),
            failed.console.as_bytes(),
            0o600,
        )
        .map_err(IoError::on("write", &console))?;
        let place = self.publish(folder, &mut record)?;
        let _ = making.keep();
        drop(reaper);
        let gone = self.limit()?;
        let build = FailedBuild {
            bytes: bytes(&place),
            folder: place,
            record,
        };
        Ok((build, gone))
    }

    /// Whether there is room for what may still be in memory of this host.
    fn room(&self) -> Result<(), FailedBuildError> {
        let stat = nix::sys::statvfs::statvfs(&self.folder).map_err(|errno| {
            IoError::on("examine the file system of", &self.folder)(errno.into())
        })?;
        if stat.blocks_available() * 100 < stat.blocks() * LEAST_FREE_PERCENT {
            let error = io::Error::other("its file system is nearly full");
            return Err(IoError::on("keep the build in", &self.folder)(error).into());
        }
        Ok(())
    }

    /// Gives the folder the name of a build that there is not.
    fn publish(
        &self,
        folder: &Path,
        record: &mut Record,
    ) -> Result<std::path::PathBuf, FailedBuildError> {
        let name = record.info.name.clone();
        let number = |id: &String| {
            id.strip_prefix(&name)?
                .strip_prefix('-')?
                .parse::<u32>()
                .ok()
        };
        let mut next = self.ids()?.iter().filter_map(number).max().unwrap_or(0) + 1;
        loop {
            record.id = format!("{name}-{next}");
            record
                .write(folder)
                .map_err(IoError::on("write the description in", folder))?;
            let place = self.folder.join(&record.id);
            let flags = RenameFlags::RENAME_NOREPLACE;
            match renameat2(AT_FDCWD, folder, AT_FDCWD, &place, flags) {
                Ok(()) => return Ok(place),
                Err(Errno::EEXIST) => next += 1,
                Err(errno) => return Err(IoError::on("create", &place)(errno.into()).into()),
            }
        }
    }
}

/// Copies the log of the guest's, if it left one that is a regular file.
fn keep_log(share: &Dir, folder: &Dir, stop: &StopCheck) -> io::Result<()> {
    let log = match share.file(OsStr::new(LOG_NAME)) {
        Ok(log) => log,
        // What else the guest may have put there is no log.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut copy = folder.create(OsStr::new(LOG_NAME), 0o600)?;
    log_copy::copy(&log, &mut copy, stop)
}

/// Holds the box's files as they are, whatever becomes of the box.
#[expect(clippy::disallowed_methods, reason = "files of the box store")]
fn link_box(plan: &Plan, folder: &Path) -> io::Result<()> {
    let installed = &plan.installed;
    let info = &installed.info;
    for file in [&info.kernel, &info.initrd] {
        fs::hard_link(installed.path(file), folder.join(&file.name))?;
    }
    fs::hard_link(installed.disk(), folder.join(&info.disk.name))
}
