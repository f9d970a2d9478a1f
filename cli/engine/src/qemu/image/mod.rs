//! Machines that start an image as its users will: firmware or a kernel, disks, a serial line.
//!
//! An image is only read: what the guest writes goes into a file without a name over it. QEMU runs
//! as for a box, confined and with everything as descriptors; it has no share and no port of
//! boxbuild's, and KVM where that works.

mod argv;
mod firmware;
mod format;
mod machine;
mod tool;

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use boxbuild_host::arch::Arch;
use boxbuild_vmm::disk::tmpfile;

pub use firmware::{Secure, Uefi, find as find_uefi};
pub use format::DiskFormat;
pub use machine::{Accelerator, Bus, ImageBoot, ImageMachine, Medium, Role};
pub use tool::{ImageError, head, virtual_size};

use super::confine::Confinement;
use super::follower::Rules;
use super::monitor::Monitor;
use super::overlay;
use super::process::{Child, Parts};
use super::shared::Streams;
use super::{host, program, start_network};
use crate::channel::EventSender;
use crate::error::StartError;
use crate::handle::Running;
use crate::unusable::Unusable;
use argv::{Descriptors, Drive, Start};
use machine::{Board, KVM};

/// Whether QEMU for guests of `arch` is here.
///
/// # Errors
/// If it is not; the text says what to install.
pub fn probe(arch: Arch) -> Result<(), Unusable> {
    program::probe(arch)
}

/// What the files of a machine become.
#[derive(Debug, Default)]
struct Files {
    inherited: Vec<OwnedFd>,
    /// Numbers of those that QEMU opens once more by their names in /proc.
    reopened: Vec<usize>,
}

impl Files {
    /// Takes a file for QEMU. Returns its number there.
    fn take(&mut self, file: impl Into<OwnedFd>) -> i32 {
        let file = file.into();
        let number = file.as_raw_fd();
        self.inherited.push(file);
        number
    }

    /// The same for one that is opened once more.
    fn take_reopened(&mut self, file: impl Into<OwnedFd>) -> i32 {
        self.reopened.push(self.inherited.len());
        self.take(file)
    }
}

/// Starts `machine`. What its guest writes to the serial line arrives as
/// [`Event::Console`](crate::Event::Console).
///
/// Must be called on a thread that outlives the machine.
///
/// # Errors
/// If QEMU is missing, or the host is in the way.
pub fn start(machine: ImageMachine, events: EventSender) -> Result<Box<dyn Running>, StartError> {
    let program = program::find_qemu(machine.arch)?;
    let qemu_img = boxbuild_host::program::find("qemu-img")
        .ok_or_else(|| Unusable("qemu-img is not installed".to_owned()))?;
    let (streams, ends) = Streams::pairs().map_err(host("create a socket"))?;
    let (network, frames) = start_network(machine.network.clone(), None, None)?;
    let board = Board {
        arch: machine.arch,
        accelerator: machine.accelerator,
        name: machine.name,
        memory_mib: machine.memory_mib,
        cpus: machine.cpus,
        cpu_level: machine.cpu_level,
        cpu_model: machine.cpu_model,
    };
    let mut files = Files::default();
    let start = boot(&mut files, machine.boot, &machine.scratch)?;
    let mut drives = Vec::new();
    for medium in machine.media {
        drives.push(drive(&mut files, &qemu_img, medium, &machine.scratch)?);
    }
    let descriptors = Descriptors {
        start,
        drives,
        serial: files.take(ends.console),
        monitor: files.take(ends.monitor),
        network: frames.map(|frames| files.take(frames)),
    };
    let arguments = argv::arguments(&board, &descriptors);
    let reopened: Vec<BorrowedFd<'_>> = files
        .reopened
        .iter()
        .filter_map(|place| files.inherited.get(*place))
        .map(AsFd::as_fd)
        .collect();
    let devices: &[&Path] = match machine.accelerator {
        Accelerator::Kvm => &[Path::new(KVM)],
        Accelerator::Tcg => &[],
    };
    let confinement = Confinement::new(&program, &reopened, devices)
        .map_err(|error| StartError::Machine(error.into()))?;
    let parts = Parts {
        inherited: files.inherited,
        // Its command line is public: it is the image's.
        hello: Monitor::hello(""),
        streams,
        network,
        servers: None,
        compressor: None,
        changes: None,
        confinement,
        rules: Rules {
            resets: machine.restarts,
            full: "the file system for what the guest writes to its disks is full: free some space, \
                   or set TMPDIR to a folder on another one",
        },
    };
    let action = format!("start {}", program.display());
    let child = Child::spawn(&program, arguments, parts, events).map_err(host(&action))?;
    Ok(Box::new(child))
}

fn boot(files: &mut Files, boot: ImageBoot, scratch: &Path) -> Result<Start, StartError> {
    Ok(match boot {
        ImageBoot::Bios => Start::Bios,
        ImageBoot::Uefi(uefi) => {
            let variables = contents(&uefi.variables, scratch)
                .map_err(host("make the variables of the firmware"))?;
            Start::Uefi {
                code: files.take(uefi.code),
                variables: files.take(variables),
                secure: uefi.secure,
            }
        }
        ImageBoot::Kernel {
            kernel,
            initrd,
            cmdline,
        } => Start::Kernel {
            kernel: files.take_reopened(kernel),
            initrd: initrd.map(|initrd| files.take_reopened(initrd)),
            cmdline,
        },
    })
}

/// A file without a name that has these bytes.
fn contents(bytes: &[u8], folder: &Path) -> io::Result<File> {
    let mut file = tmpfile::create(folder)?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// The image of a medium, and what the guest writes over it.
fn drive(
    files: &mut Files,
    qemu_img: &Path,
    medium: Medium,
    scratch: &Path,
) -> Result<Drive, StartError> {
    let base = medium
        .image
        .map(|(file, format)| (files.take(file), format));
    let changes = match medium.role {
        Role::Cd => None,
        Role::Disk => {
            let action = format!(
                "create a file for the disk's changes in {}",
                scratch.display()
            );
            let file = tmpfile::create(scratch).map_err(host(&action))?;
            overlay::format(qemu_img, &file, medium.size.next_multiple_of(512))
                .map_err(host(&action))?;
            Some(files.take(file))
        }
    };
    Ok(Drive {
        base,
        changes,
        bus: medium.bus,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Output, Stdio};

    use super::*;

    /// QEMU with KVM and no machine, confined as for an image; it ends at once.
    fn qemu(program: &Path, devices: &[&Path]) -> Output {
        let confinement = Confinement::new(program, &[], devices).unwrap();
        let mut command = Command::new(program);
        command
            .args(["-machine", "none", "-accel", "kvm", "-nodefaults", "-S"])
            .args(["-display", "none", "-qmp", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: it makes system calls only.
        unsafe { command.pre_exec(confinement.apply()) };
        let mut child = command.spawn().unwrap();
        let quit = b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}";
        // A QEMU that has failed reads nothing.
        let _ = child.stdin.take().unwrap().write_all(quit);
        child.wait_with_output().unwrap()
    }

    /// The rules of Landlock have the right to control a device since Linux 6.10.
    #[test]
    fn a_confined_qemu_uses_kvm_if_it_may() {
        let has = boxbuild_jail::Landlock::of_host();
        let program = program::find_qemu(Arch::host());
        let usable = nix::unistd::access(KVM, nix::unistd::AccessFlags::W_OK).is_ok();
        let (Ok(program), true, boxbuild_jail::Landlock::Enforced(_)) = (program, usable, has)
        else {
            let text = "skipped: a_confined_qemu_uses_kvm_if_it_may: no QEMU, /dev/kvm or Landlock";
            let _ = writeln!(io::stderr(), "{text}");
            return;
        };
        let output = qemu(&program, &[]);
        assert!(!output.status.success(), "it needs no right: {output:?}");
        let output = qemu(&program, &[Path::new(KVM)]);
        assert!(output.status.success(), "{output:?}");
    }
}
