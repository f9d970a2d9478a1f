//! The program podman, and as whom it runs.

use std::ffi::OsString;
use std::process::{Output, Stdio};
use std::time::Duration;

use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reaper::die_with_parent;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::caller::Caller;
use super::error::{ContainerError, io_error};
use super::host::Host;

/// podman, found usable.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) caller: Caller,
    pub(super) host: Host,
}

impl Program {
    /// Runs podman to its end, or until the user has had enough.
    pub(super) fn collect(
        &self,
        args: Vec<OsString>,
        interrupt: &Interrupt,
    ) -> Result<Output, ContainerError> {
        let mut all = self.host.global_options();
        all.extend(args);
        let mut command = self.caller.command(&self.host.program, all);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut command, Signal::SIGTERM);
        let child = command.spawn().map_err(io_error("run podman"))?;
        let group = i32::try_from(child.id()).map(Pid::from_raw);
        let waiting = std::thread::Builder::new()
            .spawn(move || child.wait_with_output())
            .map_err(|error| {
                // Its pipes are closed; it must not work on without its reader.
                if let Ok(group) = group {
                    let _ = killpg(group, Signal::SIGTERM);
                }
                io_error("run podman")(error)
            })?;
        let mut told = false;
        while !waiting.is_finished() {
            if interrupt.count() > 0 {
                if !told && let Ok(group) = group {
                    let _ = killpg(group, Signal::SIGTERM);
                }
                told = true;
                // Under sudo, podman is not ours to end: it finishes in peace.
                if self.caller.uses_sudo() {
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if told {
            return Err(ContainerError::Interrupted);
        }
        waiting
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("its reader is gone")))
            .map_err(io_error("run podman"))
    }
}
