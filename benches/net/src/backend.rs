//! The processes that serve the guest's TAP.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::{SysconfVar, sysconf};

use crate::namespaces::{Guest, HostNetwork, ip};
use crate::tap;

/// How long a peer may take to make its TAP.
const LIMIT: Duration = Duration::from_secs(10);

/// Which program serves the TAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Passt,
    /// libslirp with the largest frames that it supports.
    Slirp,
    /// libslirp with frames of an Ethernet, as in QEMU's user network.
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
    /// Starts a process that serves the network of a new guest.
    pub(crate) fn start(kind: Kind, host: &HostNetwork) -> Result<Backend> {
        let guest = host.guest()?;
        let mut input = Stdio::null();
        let mut command = match kind {
            Kind::Ours => {
                input = Stdio::from(tap::create(&guest)?);
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("serve");
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
            .stdin(input)
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
                bail!("it ended at once: {status}: {}", read_log(log)?);
            }
            if start.elapsed() > LIMIT {
                bail!("it makes no network: {}", read_log(log)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(backend)
    }

    /// Returns the program's version, in one line.
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

    /// Returns the processor time that the process has used, in seconds: fields 14 and 15 of
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

fn read_log(mut log: fs::File) -> Result<String> {
    use std::io::{Read, Seek};

    let mut text = String::new();
    log.rewind()?;
    log.read_to_string(&mut text)?;
    Ok(text.trim().replace('\n', "; "))
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
