//! The qemu engine: QEMU TCG, for foreign architectures and hosts without usable KVM.
//!
//! QEMU is a child that dies with boxbuild. The folders are served by threads of boxbuild
//! over connections that exist before QEMU starts; so is what the box has compressed. One thread
//! follows the child and turns what it says into events.

mod argv;
mod compress;
mod monitor;
mod overlay;
mod process;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxbuild_virtiofs::vhost_user::ShareServer;

use crate::boot_cache::kernel;
use crate::channel::EventSender;
use crate::engine::{Engine, Processor};
use crate::error::StartError;
use crate::handle::Running;
use crate::machine::{Machine, Share};
use crate::unusable::Unusable;
use argv::Descriptors;
use boxbuild_host::arch::Arch;
use compress::{Compressor, Limits};
use overlay::Disk;
use process::{Child, Parts, Streams};

/// Oldest QEMU that has everything used here (memfd sharing and fd-backed block nodes are
/// older; 6.2 is what the oldest supported distributions ship).
const OLDEST: u32 = 6;

/// The engine.
#[derive(Debug, Default)]
pub struct Qemu;

impl Engine for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn processor(&self) -> Processor {
        Processor::Emulated
    }

    fn probe(&self, arch: Arch) -> Result<(), Unusable> {
        let program = find_qemu(arch)?;
        find("qemu-img").ok_or_else(|| {
            Unusable(String::from(
                "the program qemu-img is not installed (Debian and Ubuntu: qemu-utils, Fedora: \
                 qemu-img, openSUSE: qemu-img)",
            ))
        })?;
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .map_err(|error| Unusable(format!("cannot run {}: {error}", program.display())))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match major_version(&said) {
            Some(version) if version < OLDEST => Err(Unusable(format!(
                "{} is too old (version {version}; {OLDEST} or newer is needed)",
                program.display()
            ))),
            Some(_) => Ok(()),
            None => Err(Unusable(format!(
                "{} does not say its version; it says: {}",
                program.display(),
                said.trim()
            ))),
        }
    }

    fn start(&self, machine: Machine, events: EventSender) -> Result<Box<dyn Running>, StartError> {
        let host = |action: String| move |source| StartError::Host { action, source };
        let program = find_qemu(machine.arch)?;
        let qemu_img =
            find("qemu-img").ok_or_else(|| Unusable("qemu-img is not installed".to_owned()))?;
        let kernel = if machine.unpack_kernel && machine.arch == Arch::X86_64 {
            kernel::open_for_qemu(&machine.kernel, &machine.kernel_sha256)
        } else {
            File::open(&machine.kernel)
        }
        .map_err(host(format!(
            "open the kernel {}",
            machine.kernel.display()
        )))?;
        let disk = Disk::open(&qemu_img, &machine.disk)
            .map_err(|(action, source)| StartError::Host { action, source })?;
        let changes = disk
            .private
            .then(|| disk.top.try_clone())
            .transpose()
            .map_err(host("keep the disk's changes open".to_owned()))?;
        let pair = || UnixStream::pair().map_err(host("create a socket".to_owned()));
        let (console, console_end) = pair()?;
        let (control, control_end) = pair()?;
        let (monitor, monitor_end) = pair()?;
        // What xz in the box could have taken: its processors, and a part of its memory.
        let limits = Limits {
            threads: machine.cpus,
            memory: (machine.memory_mib << 20) / 4,
        };
        let (compressor, xz_end) = Compressor::start(limits).map_err(host(
            "start the thread that compresses for the box".to_owned(),
        ))?;
        let (servers, share_ends) = serve(&machine.shares)?;
        if !servers
            .iter()
            .all(|server| server.confinement().is_enforced())
        {
            events.note(String::from(
                "this host's kernel has no usable Landlock (Linux 5.19 or newer): the shared \
                 folders are closed by name checks alone",
            ));
        }

        let descriptors = Descriptors {
            kernel: kernel.as_raw_fd(),
            initrd: machine.initrd.as_raw_fd(),
            bases: disk.bases.iter().map(AsRawFd::as_raw_fd).collect(),
            disk: disk.top.as_raw_fd(),
            private: disk.private,
            console: console_end.as_raw_fd(),
            control: control_end.as_raw_fd(),
            monitor: monitor_end.as_raw_fd(),
            xz: xz_end.as_raw_fd(),
            shares: share_ends.iter().map(AsRawFd::as_raw_fd).collect(),
        };
        let arguments = argv::arguments(&machine, &descriptors);
        // Its port was held until now; QEMU takes no listening socket, only the number.
        drop(machine.forward);
        let mut inherited: Vec<OwnedFd> = vec![
            kernel.into(),
            disk.top.into(),
            console_end.into(),
            control_end.into(),
            monitor_end.into(),
            xz_end.into(),
            machine.initrd,
        ];
        inherited.extend(disk.bases.into_iter().map(OwnedFd::from));
        inherited.extend(share_ends.into_iter().map(OwnedFd::from));
        let streams = Streams {
            console,
            control,
            monitor,
        };
        let parts = Parts {
            inherited,
            streams,
            servers,
            compressor,
            changes,
        };
        let child = Child::spawn(&program, arguments, parts, events)
            .map_err(host(format!("start {}", program.display())))?;
        Ok(Box::new(child))
    }
}

/// Starts a server for each share.
fn serve(shares: &[Share]) -> Result<(Vec<ShareServer>, Vec<UnixStream>), StartError> {
    let mut servers = Vec::new();
    let mut ends = Vec::new();
    for share in shares {
        let (server, end) =
            ShareServer::start(share.to_device()?).map_err(|source| StartError::Share {
                path: share.path.clone(),
                source: Box::new(source),
            })?;
        servers.push(server);
        ends.push(end);
    }
    Ok((servers, ends))
}

/// The QEMU program for guests of `arch`.
fn find_qemu(arch: Arch) -> Result<PathBuf, Unusable> {
    let name = argv::program(arch);
    let fallback = Path::new("/usr/libexec/qemu-kvm");
    find(&name)
        .or_else(|| (arch == Arch::host() && fallback.exists()).then(|| fallback.to_owned()))
        .ok_or_else(|| {
            let package = match arch {
                Arch::X86_64 => "qemu-system-x86",
                Arch::Aarch64 => "qemu-system-arm",
                Arch::Ppc64le => "qemu-system-ppc",
                Arch::S390x => "qemu-system-misc",
            };
            Unusable(format!(
                "the program {name} is not installed (Debian and Ubuntu: {package}, Fedora: \
                 {name}-core, openSUSE: qemu)"
            ))
        })
}

/// Where a program is.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok())
}

/// `10` from `QEMU emulator version 10.0.2 (…)`.
fn major_version(said: &str) -> Option<u32> {
    let (_, rest) = said.split_once("version ")?;
    rest.split('.').next()?.parse().ok()
}

/// For messages: an error that is not the operating system's.
fn other(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(
            major_version("QEMU emulator version 10.0.2 (Debian …)"),
            Some(10)
        );
        assert_eq!(major_version("QEMU emulator version 7.2.22"), Some(7));
        assert_eq!(major_version("something else"), None);
    }
}
