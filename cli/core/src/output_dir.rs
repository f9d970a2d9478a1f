//! The target directory of a build: locked while a build runs, staged, published as a whole.
//!
//! The guest writes into a hidden folder inside the target directory, so that publishing is a
//! rename on one file system. Only `result.log` and `result.code` are published from a failed
//! build.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use boxbuild_protocol::paths::{CODE_NAME, LOG_NAME};
use nix::fcntl::{Flock, FlockArg};

use boxbuild_host::error::IoError;
use boxbuild_host::file::open_regular;
use boxbuild_host::reaper::Reaper;

/// Name of the staging folder inside the target directory.
const STAGING: &str = ".boxbuild.partial";

/// Longest `result.code` that is read, in bytes.
const LONGEST_CODE: u64 = 64;

/// The target directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutputDirError {
    /// Another build holds it.
    #[error("{0} is in use by another build: wait for it, or choose another --target-dir")]
    InUse(PathBuf),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// A target directory that this build holds.
#[derive(Debug)]
pub struct OutputDir {
    dir: PathBuf,
    staging: PathBuf,
    /// The outermost folder that was made for this build, if any.
    made: Option<PathBuf>,
    published: bool,
    /// Removes the staging folder even if this process is killed. Goes before the lock.
    _reaper: Reaper,
    _lock: Flock<File>,
}

/// What the guest said with `result.code`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultCode {
    /// It wrote a number.
    Code(i32),
    /// It wrote something else.
    Unreadable(String),
    /// It wrote none.
    Missing,
}

impl OutputDir {
    /// Makes the directory if need be, takes it for this build, and removes what an earlier
    /// build said about its own outcome.
    pub fn acquire(dir: &Path) -> Result<OutputDir, OutputDirError> {
        let io = IoError::on;
        let mut made = None;
        let mut missing = dir;
        while !missing.exists() {
            made = Some(missing.to_owned());
            let Some(parent) = missing.parent() else {
                break;
            };
            missing = parent;
        }
        fs::create_dir_all(dir).map_err(io("create the folder", dir))?;
        let handle = File::open(dir).map_err(io("open the folder", dir))?;
        // The lock is on the folder itself: no lock file that could be left behind.
        let lock =
            Flock::lock(handle, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    nix::errno::Errno::EWOULDBLOCK => OutputDirError::InUse(dir.to_owned()),
                    errno => io("lock the folder", dir)(errno.into()).into(),
                },
            )?;
        let staging = dir.join(STAGING);
        remove_tree(&staging).map_err(io("remove the leftover folder", &staging))?;
        for stale in [CODE_NAME, LOG_NAME] {
            let stale = dir.join(stale);
            match fs::remove_file(&stale) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io("remove the stale file", &stale)(error).into());
                }
                _ => {}
            }
        }
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&staging)
            .map_err(io("create the folder", &staging))?;
        let reaper = Reaper::watch(&staging, &lock)
            .map_err(io("start the process that cleans up the folder", &staging))?;
        Ok(OutputDir {
            dir: dir.to_owned(),
            staging,
            made,
            published: false,
            _reaper: reaper,
            _lock: lock,
        })
    }

    /// The folder to share with the guest.
    pub fn share(&self) -> &Path {
        &self.staging
    }

    /// The log as it grows.
    pub fn log(&self) -> PathBuf {
        self.staging.join(LOG_NAME)
    }

    /// Reads `result.code`.
    pub fn result_code(&self) -> ResultCode {
        use std::io::Read;
        let mut text = String::new();
        let read = open_regular(&self.staging.join(CODE_NAME))
            .and_then(|file| file.take(LONGEST_CODE).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => ResultCode::Missing,
            Err(error) => ResultCode::Unreadable(error.to_string()),
            Ok(_) => match text.trim().parse() {
                Ok(code) => ResultCode::Code(code),
                Err(_) => ResultCode::Unreadable(format!("it contains '{}'", text.trim())),
            },
        }
    }

    /// Moves everything the guest delivered into the target directory. Returns the files, in
    /// the order of their names, without `result.log` and `result.code`.
    pub fn publish(mut self) -> Result<Vec<PathBuf>, OutputDirError> {
        let mut names: Vec<_> = fs::read_dir(&self.staging)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(IoError::on("read the folder", &self.staging))?
            .into_iter()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        // The verdict comes last: who sees a code of 0 finds the files.
        names.sort_by_key(|name| name == CODE_NAME);
        let mut files = Vec::new();
        for name in names {
            let place = self.move_out(Path::new(&name))?;
            if name != LOG_NAME && name != CODE_NAME {
                files.push(place);
            }
        }
        self.published = true;
        Ok(files)
    }

    /// Publishes the log and `code` of a failed build, and removes everything else. Returns
    /// where the log is, if there is one.
    pub fn publish_failure(mut self, code: i32) -> Result<Option<PathBuf>, OutputDirError> {
        let log = if open_regular(&self.log()).is_ok() {
            Some(self.move_out(Path::new(LOG_NAME))?)
        } else {
            None
        };
        // On a full disk, this makes the room for the verdict.
        remove_tree(&self.staging).map_err(IoError::on("remove the folder", &self.staging))?;
        let path = self.dir.join(CODE_NAME);
        fs::write(&path, format!("{code}\n")).map_err(IoError::on("write", &path))?;
        self.published = true;
        Ok(log)
    }

    fn move_out(&self, name: &Path) -> Result<PathBuf, OutputDirError> {
        let from = self.staging.join(name);
        let to = self.dir.join(name);
        let moved = fs::symlink_metadata(&from).and_then(|metadata| {
            if metadata.is_file() {
                fs::set_permissions(&from, Permissions::from_mode(0o644))?;
                // A name that appears stands for the whole file, whatever the host does next.
                File::open(&from)?.sync_all()?;
            }
            // A folder in the way of a new one is an earlier result of that name.
            if metadata.is_dir() {
                remove_tree(&to)?;
            }
            fs::rename(&from, &to)
        });
        moved.map_err(IoError::on("publish the result", &to))?;
        Ok(to)
    }
}

impl Drop for OutputDir {
    fn drop(&mut self) {
        // Errors have nowhere to go; the guard and the next build remove what is left.
        let _ = remove_tree(&self.staging);
        if !self.published
            && let Some(made) = &self.made
        {
            let mut empty = self.dir.as_path();
            while fs::remove_dir(empty).is_ok() && empty != made {
                let Some(parent) = empty.parent() else { break };
                empty = parent;
            }
        }
    }
}

/// Removes a folder and everything in it, if it is there. Modes that forbid it are changed
/// first: the guest may have left any.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => return fs::remove_file(path),
        Ok(_) => {}
    }
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(_) => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
    }
}

fn make_writable(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        (dir, root)
    }

    #[test]
    fn results_appear_whole_and_with_sane_modes() {
        let (_dir, root) = root();
        let target = OutputDir::acquire(&root).unwrap();
        for (name, mode) in [
            ("image.raw", 0o600),
            ("result.log", 0o400),
            ("result.code", 0o600),
        ] {
            fs::write(target.share().join(name), "0\n").unwrap();
            fs::set_permissions(target.share().join(name), Permissions::from_mode(mode)).unwrap();
        }
        assert!(!root.join("image.raw").exists());
        assert_eq!(target.result_code(), ResultCode::Code(0));
        let files = target.publish().unwrap();
        assert_eq!(files, [root.join("image.raw")]);
        for name in ["image.raw", "result.log", "result.code"] {
            let mode = fs::metadata(root.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o644, "{name}");
        }
        assert!(!root.join(STAGING).exists());
    }

    #[test]
    fn a_failed_build_leaves_log_and_code_and_nothing_else() {
        let (_dir, root) = root();
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("precious"), "mine").unwrap();
        fs::write(root.join("result.code"), "0\n").unwrap();
        let target = OutputDir::acquire(&root).unwrap();
        assert!(
            !root.join("result.code").exists(),
            "a stale verdict must go at once"
        );
        assert_eq!(target.result_code(), ResultCode::Missing);
        fs::write(target.share().join("half-an-image"), "x").unwrap();
        fs::write(target.share().join("result.log"), "why").unwrap();
        assert_eq!(
            target.publish_failure(1).unwrap(),
            Some(root.join("result.log"))
        );
        assert!(!root.join("half-an-image").exists());
        assert_eq!(fs::read_to_string(root.join("precious")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(root.join("result.code")).unwrap(), "1\n");
    }

    #[test]
    fn two_builds_cannot_share_a_target() {
        let (_dir, root) = root();
        let first = OutputDir::acquire(&root).unwrap();
        assert!(matches!(
            OutputDir::acquire(&root),
            Err(OutputDirError::InUse(_))
        ));
        drop(first);
        assert!(
            !root.exists(),
            "a folder made for a build that never ran must go"
        );
        OutputDir::acquire(&root).unwrap();
    }

    #[test]
    fn leftovers_of_a_killed_build_are_removed() {
        let (_dir, root) = root();
        let locked = root.join(STAGING).join("deep");
        fs::create_dir_all(&locked).unwrap();
        fs::write(locked.join("file"), "").unwrap();
        fs::set_permissions(&locked, Permissions::from_mode(0o000)).unwrap();
        let target = OutputDir::acquire(&root).unwrap();
        assert_eq!(fs::read_dir(target.share()).unwrap().count(), 0);
    }

    #[test]
    fn only_a_number_in_a_regular_file_is_a_code() {
        let (_dir, root) = root();
        let target = OutputDir::acquire(&root).unwrap();
        let code = target.share().join("result.code");
        for (text, expected) in [("", false), ("0x", false), (" 7 \n", true)] {
            fs::write(&code, text).unwrap();
            assert_eq!(
                target.result_code() == ResultCode::Code(7),
                expected,
                "{text:?}"
            );
        }
        fs::remove_file(&code).unwrap();
        fs::write(root.join("zero"), "0").unwrap();
        std::os::unix::fs::symlink(root.join("zero"), &code).unwrap();
        assert!(matches!(target.result_code(), ResultCode::Unreadable(_)));
    }
}
