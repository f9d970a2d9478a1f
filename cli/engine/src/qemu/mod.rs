//! The qemu engine: QEMU TCG, for foreign architectures and hosts without usable KVM.
//!
//! QEMU is a child that dies with boxbuild. The folders are served by another child, over
//! connections that exist before QEMU starts; what the box has compressed, by a thread. One thread
//! follows the child and turns what it says into events.

mod argv;
mod checkpoint;
mod compress;
mod confine;
mod follower;
pub mod image;
mod monitor;
mod overlay;
mod process;
mod program;
mod shared;
pub mod shares;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use boxbuild_jail::Program;
use boxbuild_vmm::net::{Handover, Policy, StreamNetwork};

use crate::boot_cache::kernel;
use crate::channel::EventSender;
use crate::engine::{Engine, Processor};
use crate::error::StartError;
use crate::handle::Running;
use crate::machine::{Forward, Machine};
use crate::network::network;
use crate::unusable::Unusable;
use argv::Descriptors;
use boxbuild_host::arch::Arch;
use checkpoint::Changes;
use compress::{Compressor, Limits};
use confine::Confinement;
use follower::Rules;
use monitor::Monitor;
use overlay::Disk;
use process::{Child, Parts};
use shared::Streams;
use shares::ShareProcess;

/// Runs machines in a child process of QEMU, which translates their instructions.
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
        program::probe(arch)
    }

    fn start(
        &self,
        mut machine: Machine,
        events: EventSender,
    ) -> Result<Box<dyn Running>, StartError> {
        let program = program::find_qemu(machine.arch)?;
        let qemu_img = boxbuild_host::program::find("qemu-img")
            .ok_or_else(|| Unusable("qemu-img is not installed".to_owned()))?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        // It starts while the rest is prepared.
        let (starting, shares) =
            ShareProcess::start(&Program::this(), &machine.shares, processors)?;
        let kernel = open_kernel(&machine)?;
        let disk = Disk::open(&qemu_img, &machine.disk)
            .map_err(|(action, source)| StartError::Host { action, source })?;
        let private = disk.maker.map(|maker| (maker, disk.top.try_clone()));
        let changes = private
            .map(|(maker, top)| Ok(Changes::new(top?, disk.bases.len(), maker)))
            .transpose()
            .map_err(host("keep the disk's changes open"))?;
        let (streams, ends) = Streams::pairs().map_err(host("create a socket"))?;
        // What xz in the box could have taken: its processors, and a part of its memory.
        let limits = Limits {
            threads: machine.cpus,
            memory: (machine.memory_mib << 20) / 4,
        };
        let (compressor, xz) = Compressor::start(limits)
            .map_err(host("start the thread that compresses for the box"))?;
        let (servers, weakness) = starting.ready()?;
        if let Some(weakness) = weakness {
            events.note(format!(
                "this host's kernel does not confine QEMU and the server of the shared folders \
                 as it should: {weakness}; names from the guest are checked all the same"
            ));
        }
        let (network, frames) = start_network(
            machine.network.clone(),
            machine.forward.take(),
            machine.handover.take(),
        )?;
        let descriptors = Descriptors {
            kernel: kernel.as_raw_fd(),
            initrd: machine.initrd.as_raw_fd(),
            bases: disk.bases.iter().map(AsRawFd::as_raw_fd).collect(),
            disk: disk.top.as_raw_fd(),
            private: disk.private,
            console: ends.console.as_raw_fd(),
            control: ends.control.as_raw_fd(),
            monitor: ends.monitor.as_raw_fd(),
            xz: xz.as_raw_fd(),
            network: frames.as_ref().map(AsRawFd::as_raw_fd),
            shares: shares.iter().map(AsRawFd::as_raw_fd).collect(),
        };
        let arguments = argv::arguments(&machine, &descriptors);
        let reopened = [kernel.as_fd(), machine.initrd.as_fd()];
        let confinement = Confinement::new(&program, &reopened, &[])
            .map_err(|error| StartError::Machine(error.into()))?;
        let hello = Monitor::hello(&machine.cmdline);
        let mut inherited: Vec<OwnedFd> = vec![
            kernel.into(),
            disk.top.into(),
            ends.console.into(),
            ends.control.into(),
            ends.monitor.into(),
            xz.into(),
            machine.initrd,
        ];
        inherited.extend(disk.bases.into_iter().map(OwnedFd::from));
        inherited.extend(shares.into_iter().map(OwnedFd::from));
        inherited.extend(frames.map(OwnedFd::from));
        let parts = Parts {
            inherited,
            hello,
            streams,
            network,
            servers: Some(servers),
            compressor: Some(compressor),
            changes,
            confinement,
            rules: Rules::BOX,
        };
        let action = format!("start {}", program.display());
        let child = Child::spawn(&program, arguments, parts, events).map_err(host(&action))?;
        Ok(Box::new(child))
    }
}

/// Starts the machine's network. Returns it, and QEMU's end of the stream of frames.
fn start_network(
    policy: Option<Policy>,
    forward: Option<Forward>,
    handover: Option<Handover>,
) -> Result<(Option<StreamNetwork>, Option<UnixStream>), StartError> {
    let Some(policy) = policy else {
        return Ok((None, None));
    };
    let config = network(policy, forward, handover);
    let (network, frames) =
        StreamNetwork::start(config).map_err(|error| StartError::Machine(Box::new(error)))?;
    Ok((Some(network), Some(frames)))
}

/// A problem of the host; `action` completes "cannot …".
fn host(action: &str) -> impl FnOnce(io::Error) -> StartError + use<> {
    let action = action.to_owned();
    move |source| StartError::Host { action, source }
}

/// The kernel, unpacked where QEMU can boot it like that.
fn open_kernel(machine: &Machine) -> Result<File, StartError> {
    let path = &machine.kernel;
    let opened = match machine.arch {
        Arch::X86_64 if machine.unpack_kernel => {
            kernel::open_for_qemu(path, &machine.kernel_sha256)
        }
        // Of those that are packed in an EFI program, QEMU knows only some.
        Arch::Aarch64 => kernel::open(path, &machine.kernel_sha256).map(|opened| opened.file),
        _ => File::open(path),
    };
    opened.map_err(host(&format!("open the kernel {}", path.display())))
}
