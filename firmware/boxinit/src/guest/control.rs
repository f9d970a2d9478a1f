//! Reports to the host on the virtio-console port `org.boxbuild.control`, one line each.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use boxinit::job::CONTROL_PORT;
use nix::poll::{PollFd, PollFlags, poll};

/// How long a report waits for a host that does not read, in milliseconds.
const PATIENCE: u16 = 5000;

/// The device of the virtio-console port `name`, if the machine has it.
pub(super) fn port(name: &str) -> Option<PathBuf> {
    fs::read_dir("/sys/class/virtio-ports")
        .into_iter()
        .flatten()
        .flatten()
        .find(|port| {
            fs::read_to_string(port.path().join("name")).is_ok_and(|found| found.trim_end() == name)
        })
        .map(|port| Path::new("/dev").join(port.file_name()))
}

/// The port; without one, reports go nowhere.
#[derive(Debug, Default)]
pub(super) struct Control {
    port: Option<File>,
    /// Reports from before the port was there.
    early: Vec<String>,
}

impl Control {
    /// Looks for the port, unless it is open already.
    pub(super) fn open(&mut self) {
        if self.port.is_some() {
            return;
        }
        self.port = port(CONTROL_PORT).and_then(|device| {
            File::options()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open(device)
                .ok()
        });
        if self.port.is_some() {
            for line in std::mem::take(&mut self.early) {
                self.report(&line);
            }
        }
    }

    /// The port, for what the host says.
    pub(super) fn incoming(&self) -> Option<File> {
        self.port.as_ref()?.try_clone().ok()
    }

    /// Sends `boxbuild 1 TEXT`.
    pub(super) fn report(&mut self, text: &str) {
        let Some(port) = &mut self.port else {
            self.early.push(text.to_owned());
            return;
        };
        let line = format!("boxbuild 1 {text}\n");
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match port.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let mut ready = [PollFd::new(port.as_fd(), PollFlags::POLLOUT)];
                    if poll(&mut ready, PATIENCE) != Ok(1) {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // The host is gone, or does not want to know.
                Err(_) => return,
            }
        }
    }

    /// Says when a step was reached: milliseconds since the kernel's start.
    pub(super) fn mark(&mut self, step: &str) {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds = uptime
            .split(' ')
            .next()
            .and_then(|text| text.parse::<f64>().ok());
        if let Some(seconds) = seconds {
            self.report(&format!("mark {step} {:.0}", seconds * 1000.0));
        }
    }
}
