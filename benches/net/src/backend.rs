//! What stands behind the guest's TAP.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{SysconfVar, sysconf};

use crate::namespaces::{Guest, HostNamespace, ip};
use crate::tap;

/// How long a peer may take to make its TAP.
const LIMIT: Duration = Duration::from_secs(10);

/// Who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Passt,
    /// libslirp with frames of the largest size that it can do.
    Slirp,
    /// The same with an Ethernet's, as QEMU's user network has them.
    SlirpSmall,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Ours, Kind::Passt, Kind::Slirp, Kind::SlirpSmall];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ours => "boxbuild",
            Kind::Passt => "pasta",
            Kind::Slirp => "slirp4netns",
            Kind::SlirpSmall => "slirp4netns, 1500",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Ours => "boxbuild",
            Kind::Passt => "pasta",
            Kind::Slirp | Kind::SlirpSmall => "slirp4netns",
        }
    }
}

/// A guest with a network.
#[derive(Debug)]
pub(crate) struct Backend {
    kind: Kind,
    process: Child,
    pub(crate) guest: Guest,
}

impl Backend {
    /// A new guest whose network is served by a new process.
    pub(crate) fn start(kind: Kind, host: &HostNamespace) -> Result<Backend> {
        let guest = host.guest()?;
        // Only until the process has it.
        let mut tap = None;
        let mut command = match kind {
            Kind::Ours => {
                let fd = tap.insert(tap::create(&guest)?);
                fcntl(&*fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("serve").arg(fd.as_raw_fd().to_string());
                command
            }
            Kind::Passt => {
                let mut command = Command::new(kind.program());
                let options = "--foreground --quiet --netns-only --config-net --ns-ifname tap0 \
                               -t none -u none -T none -U none --netns";
                command.args(options.split_whitespace()).arg(guest.path());
                command
            }
            Kind::Slirp | Kind::SlirpSmall => {
                let mut command = Command::new(kind.program());
                let mtu = if kind == Kind::Slirp { "65520" } else { "1500" };
                command.args(["--configure", "--mtu", mtu, "--netns-type=path"]);
                command.arg(guest.path()).arg("tap0");
                command
            }
        };
        let log = tempfile::tempfile()?;
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {}", kind.program()))?;
        let mut backend = Backend {
            kind,
            process,
            guest,
        };
        let start = Instant::now();
        while backend.guest.run(|| ip("route get 198.51.100.1")).is_err() {
            if let Some(status) = backend.process.try_wait()? {
                bail!("it ended at once: {status}: {}", said(log)?);
            }
            if start.elapsed() > LIMIT {
                bail!("it makes no network: {}", said(log)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(backend)
    }

    /// One line about the program.
    pub(crate) fn version(&self) -> Result<String> {
        if self.kind == Kind::Ours {
            return Ok(String::from(
                "large segments (as a virtio network card), MTU 1500",
            ));
        }
        let output = Command::new(self.kind.program())
            .arg("--version")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default().to_owned();
        let library = lines.find(|line| line.starts_with("libslirp"));
        Ok(library.map_or(first.clone(), |library| format!("{first}, {library}")))
    }

    /// Processor time that its process has used, in seconds: fields 14 and 15 of
    /// /proc/PID/stat.
    pub(crate) fn processor_time(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
        let ticks: f64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        let rate = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
        Ok(ticks / rate as f64)
    }
}

fn said(mut log: fs::File) -> Result<String> {
    use std::io::{Read, Seek};

    let mut text = String::new();
    log.rewind()?;
    log.read_to_string(&mut text)?;
    Ok(text.trim().replace('\n', "; "))
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
