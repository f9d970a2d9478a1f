//! The control port, a virtio-console port: reports to the host, messages from it.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use boxbuild_protocol::ports;
use boxbuild_protocol::report::{BootStep, Report};
use nix::poll::{PollFd, PollFlags, poll};

/// How long a report waits for a host that does not read, in milliseconds.
const WRITE_TIMEOUT: u16 = 5000;
/// How long the last reports wait for a port that has no name yet.
const PORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked for then.
const PORT_TICK: Duration = Duration::from_millis(10);

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

/// Whether the driver of the ports serves a device, so that its ports have names sooner or later.
pub(super) fn is_driven() -> bool {
    fs::read_dir("/sys/bus/virtio/drivers/virtio_console")
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"virtio"))
}

/// The control port. Without one, reports are kept and never sent.
#[derive(Debug)]
pub(super) struct Control {
    port: Option<File>,
    /// Reports from before the port was open.
    early: Vec<Report>,
    /// Finds the device of the port.
    find: fn() -> Option<PathBuf>,
}

impl Default for Control {
    fn default() -> Control {
        Control {
            port: None,
            early: Vec::new(),
            find: || port(ports::CONTROL),
        }
    }
}

impl Control {
    /// Opens the port, if there is one by now and it is not open yet.
    pub(super) fn open(&mut self) {
        if self.port.is_some() {
            return;
        }
        self.port = (self.find)().and_then(|device| {
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

    /// Whether reports reach the host.
    pub(super) fn is_open(&self) -> bool {
        self.port.is_some()
    }

    /// A second handle of the port, for messages from the host.
    pub(super) fn incoming(&self) -> Option<File> {
        self.port.as_ref()?.try_clone().ok()
    }

    /// Sends a report, once there is a port. One that the host does not take within
    /// [`WRITE_TIMEOUT`] is dropped.
    ///
    /// Linux names a port when it is done with the messages of the device before that, one of which
    /// has it print its whole log on hvc0: on a busy host that takes longer than to mount the root.
    pub(super) fn report(&mut self, report: Report) {
        let Some(port) = &mut self.port else {
            self.early.push(report);
            self.open();
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

    /// Gives the port [`PORT_TIMEOUT`] to appear if there are reports that wait for it and
    /// `expected` says that it will.
    pub(super) fn flush(&mut self, expected: fn() -> bool) {
        let deadline = Instant::now() + PORT_TIMEOUT;
        while !self.early.is_empty() && expected() && Instant::now() < deadline {
            self.open();
            std::thread::sleep(PORT_TICK);
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        /// Where this test's port is.
        static DEVICE: RefCell<PathBuf> = const { RefCell::new(PathBuf::new()) };
    }

    fn find() -> Option<PathBuf> {
        let device = DEVICE.with_borrow(Clone::clone);
        device.exists().then_some(device)
    }

    /// A control whose port is the file of that name, which is not there yet.
    fn control(name: &str) -> (Control, PathBuf) {
        let device = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_file(&device);
        DEVICE.set(device.clone());
        let control = Control {
            find,
            ..Control::default()
        };
        (control, device)
    }

    fn said(device: &Path) -> String {
        let text = fs::read_to_string(device).unwrap();
        fs::remove_file(device).unwrap();
        text
    }

    fn lines(codes: &[i32]) -> String {
        let line = |code: &i32| format!("{}\n", Report::Exit(*code));
        codes.iter().map(line).collect()
    }

    #[test]
    fn a_port_that_appears_late_gets_all_reports_in_order() {
        let (mut control, device) = control("late-port");
        control.open();
        control.report(Report::Exit(1));
        fs::write(&device, "").unwrap();
        control.report(Report::Exit(2));
        control.report(Report::Exit(3));
        assert_eq!(said(&device), lines(&[1, 2, 3]));
    }

    #[test]
    fn the_last_reports_wait_for_their_port() {
        let (mut control, device) = control("last-port");
        control.report(Report::Exit(1));
        let begin = Instant::now();
        control.flush(|| false);
        assert!(begin.elapsed() < PORT_TIMEOUT, "there will be no port");
        let late = device.clone();
        let appears = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            fs::write(late, "").unwrap();
        });
        control.flush(|| true);
        appears.join().unwrap();
        assert_eq!(said(&device), lines(&[1]));
    }
}
