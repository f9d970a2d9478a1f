//! Cleans up behind a boxbuild that was killed: a process that cannot be killed with it waits
//! for its end.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

/// Waits for the end of its input, which is the end of this process. Programs that this process had
/// started and that get a signal at its end may still work in the folder, so that it tries for some
/// time. Modes that forbid it are changed: a guest may have left any.
const SCRIPT: &str = "trap '' INT TERM HUP QUIT; read -r _; folder=$1; shift; tries=0; \
     while [ -e \"$folder\" ] && [ $tries -lt 20 ]; do \
     \"$@\" -- \"$folder\"; tries=$((tries + 1)); \
     [ ! -e \"$folder\" ] || { chmod -R u+rwx -- \"$folder\"; \"$@\" -- \"$folder\"; }; \
     [ ! -e \"$folder\" ] || sleep 1; done";

/// Removes a folder as soon as this value is dropped or this process is gone, however it went.
#[derive(Debug)]
pub struct Reaper {
    waiting: Child,
}

impl Reaper {
    /// Starts to watch. The open file `lock` stays open until the folder is gone: a lock that
    /// belongs to it is held as long.
    ///
    /// # Errors
    /// Fails if no process can be started.
    pub fn watch(folder: &Path, lock: &File) -> io::Result<Reaper> {
        Reaper::start(folder, &["rm", "-rf"].map(OsString::from), Some(lock))
    }

    /// Starts to watch a folder with files of other owners. `remove` and the folder are a command
    /// that can remove them.
    ///
    /// # Errors
    /// Fails if no process can be started.
    pub fn watch_tree(folder: &Path, remove: &[OsString]) -> io::Result<Reaper> {
        Reaper::start(folder, remove, None)
    }

    fn start(folder: &Path, remove: &[OsString], lock: Option<&File>) -> io::Result<Reaper> {
        let hold = match lock {
            Some(lock) => lock.try_clone()?.into(),
            None => Stdio::null(),
        };
        let waiting = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "boxbuild-reaper"])
            .arg(folder)
            .args(remove)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(hold)
            .stderr(Stdio::null())
            // What is sent to the terminal's foreground processes is not for it.
            .process_group(0)
            .spawn()?;
        Ok(Reaper { waiting })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.waiting.stdin.take());
        // An error means that it is gone already.
        let _ = self.waiting.wait();
    }
}

/// Lets the child get `signal` when this process dies. Set-user-id programs such as sudo
/// escape this; [`Reaper`] does not depend on it.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec, only prctl and getppid are called, which are
    // async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(signal)?;
            // The parent may have died before the call.
            if nix::unistd::getppid() != parent {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_the_reaper() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("-a 'folder' $HOME");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        let reaper = Reaper::watch(&folder, &File::open(dir.path()).unwrap()).unwrap();
        assert!(folder.exists());
        drop(reaper);
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_goes_although_a_process_still_writes_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tree");
        std::fs::create_dir(&folder).unwrap();
        let remove = ["env", "rm", "-rf"].map(OsString::from);
        let reaper = Reaper::watch_tree(&folder, &remove).unwrap();
        let mut writer = Command::new("/bin/sh")
            .args([
                "-c",
                "for i in 1 2 3 4 5 6 7 8 9; do mkdir -p \"$i/a/b\"; sleep 0.1; done",
            ])
            .current_dir(&folder)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(reaper);
        assert!(!folder.exists());
        writer.wait().unwrap();
    }
}
