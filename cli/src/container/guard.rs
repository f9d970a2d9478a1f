//! Ends the container and removes its private folder, even if boxbuild is killed: a process
//! that cannot be killed with it waits for a word, or for the end of its input.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::caller::Caller;
use super::host::Host;

/// Arguments: container, folder, and podman with its global options. The word on the input is
/// the number of seconds that the container gets to clean up (loop devices). Without a word,
/// boxbuild was killed, and podman may be in the middle of starting the container.
const SCRIPT: &str = "trap '' INT TERM HUP QUIT; name=$1 folder=$2; shift 2; \
    read -r seconds && said=yes || said= seconds=10; \
    \"$@\" rm --force --ignore --time \"$seconds\" \"$name\" >/dev/null 2>&1; \
    if [ -z \"$said\" ]; then for try in 1 2 3; do sleep 1; \
    \"$@\" rm --force --ignore --time 0 \"$name\" >/dev/null 2>&1; done; fi; \
    rm -rf -- \"$folder\"";

/// Watches over one container.
#[derive(Debug)]
pub(super) struct Guard {
    waiting: Child,
}

impl Guard {
    /// Starts to watch. It has root's rights from the start if it needs them at the end:
    /// sudo may want a password again by then.
    pub(super) fn over(
        caller: &Caller,
        host: &Host,
        container: &str,
        folder: &Path,
    ) -> io::Result<Guard> {
        let mut args: Vec<OsString> = vec![
            "-c".into(),
            SCRIPT.into(),
            "boxbuild-guard".into(),
            container.into(),
            folder.into(),
            host.program.clone().into(),
        ];
        args.extend(host.global_options());
        let waiting = caller
            .command(Path::new("/bin/sh"), args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Guard { waiting })
    }

    /// Ends the container, which has `grace` to clean up. Does not wait.
    pub(super) fn stop(&mut self, grace: Duration) {
        if let Some(mut input) = self.waiting.stdin.take() {
            // A guard that is gone has nothing left to do.
            let _ = writeln!(input, "{}", grace.as_secs());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
        // An error means that it is gone already.
        let _ = self.waiting.wait();
    }
}
