//! The control port, a virtio-console port: reports to the host, messages from it.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxbuild_protocol::ports;
use boxbuild_protocol::report::{BootStep, Report};
use nix::poll::{PollFd, PollFlags, poll};

/// How long a report waits for a host that does not read, in milliseconds.
const WRITE_TIMEOUT: u16 = 5000;

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

/// The control port. Without one, reports are kept and never sent.
#[derive(Debug, Default)]
pub(super) struct Control {
    port: Option<File>,
    /// Reports from before the port was open.
    early: Vec<Report>,
}

impl Control {
    /// Opens the port, if there is one by now and it is not open yet.
    pub(super) fn open(&mut self) {
        if self.port.is_some() {
            return;
        }
        self.port = port(ports::CONTROL).and_then(|device| {
            File::options()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open(device)
                .ok()
        });
        if self.port.is_some() {
            for report in std::mem::take(&mut self.early) {
                self.report(report);
            }
        }
    }

    /// A second handle of the port, for messages from the host.
    pub(super) fn incoming(&self) -> Option<File> {
        self.port.as_ref()?.try_clone().ok()
    }

    /// Sends a report. One that the host does not take within [`WRITE_TIMEOUT`] is dropped.
    pub(super) fn report(&mut self, report: Report) {
        let Some(port) = &mut self.port else {
            self.early.push(report);
            return;
        };
        let line = format!("{report}\n");
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match port.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let mut ready = [PollFd::new(port.as_fd(), PollFlags::POLLOUT)];
                    if poll(&mut ready, WRITE_TIMEOUT) != Ok(1) {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // The host has closed its end. The build goes on without it.
                Err(_) => return,
            }
        }
    }

    /// Reports that `step` is reached now.
    pub(super) fn mark(&mut self, step: BootStep) {
        let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime = text
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if let Some(uptime) = uptime {
            self.report(Report::Mark(step, uptime));
        }
    }
}
