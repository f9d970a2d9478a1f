//! Cleans up behind a boxbuild that was killed: a process that cannot be killed with it waits
//! for its end.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

/// Waits for the end of its input, which is the end of this process.
const SCRIPT: &str = "trap '' INT TERM HUP QUIT; read -r _; exec rm -rf -- \"$1\"";

/// Removes a folder as soon as this value is dropped or this process is gone, however it went.
#[derive(Debug)]
pub struct Guard {
    waiting: Child,
}

impl Guard {
    /// Starts to watch. The open file `lock` stays open until the folder is gone: a lock that
    /// belongs to it is held as long.
    ///
    /// # Errors
    /// If no process can be started.
    pub fn over(folder: &Path, lock: &File) -> io::Result<Guard> {
        let waiting = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "boxbuild-guard"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(lock.try_clone()?)
            .stderr(Stdio::null())
            // What is sent to the terminal's foreground processes is not for it.
            .process_group(0)
            .spawn()?;
        Ok(Guard { waiting })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.waiting.stdin.take());
        // An error means that it is gone already.
        let _ = self.waiting.wait();
    }
}

/// Lets the child get `signal` when this process dies. Set-user-id programs such as sudo
/// escape this; [`Guard`] does not depend on it.
pub(crate) fn die_with_parent(command: &mut Command, signal: Signal) {
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
    fn the_folder_goes_with_the_guard() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("-a 'folder' $HOME");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        let guard = Guard::over(&folder, &File::open(dir.path()).unwrap()).unwrap();
        assert!(folder.exists());
        drop(guard);
        assert!(!folder.exists());
    }
}
