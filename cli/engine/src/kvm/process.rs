//! The machine's process: the role that this program has there.

use std::error::Error;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use boxbuild_host::notices::{self, Subscription};
use boxbuild_host::startup::shared_clock;
use boxbuild_jail::{Capabilities, Channel, Entered, Jail, Limits, Message, Role, TcpAccess};
use boxbuild_virtiofs::{PassthroughFs, Share};
use boxbuild_vmm::disk::{
    DiskConfig, ImageFormat, KeptChanges, NamedFile, OpenError, OverlayConfig,
};
use boxbuild_vmm::kvm::KvmError;
use boxbuild_vmm::machine::{self, Config, Handle};
use boxbuild_vmm::net::{CurrentNetwork, Forward, Handover, NetworkConfig};
use boxbuild_vmm::threads::{Starter, Threads};
use boxbuild_vmm::vcpu::VcpuError;
use boxbuild_vmm::virtio::Kind;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::wire::{self, MachineConfig, Part, Report, StartFailure, Times, ToMachine, Wish};
use crate::event::Ended;
use crate::handle::Moved;

/// Runs one machine. See [`Role`].
pub const ROLE: Role = Role {
    name: "machine",
    run,
};

/// Most open files: shares keep one for each inode that their guest holds.
const OPEN_FILES: u64 = 1 << 19;
/// Address space beside the guest's memory: stacks and heaps of some dozens of threads.
const OTHER_MEMORY: u64 = 4 << 30;

fn run(mut entered: Entered) -> Result<(), Box<dyn Error>> {
    let process = Instant::now();
    let config: MachineConfig = entered.config()?;
    let files = Files::take(&mut entered, &config)?;
    let confinement = lock(&config, &files.shares)?;
    let (threads, starter) = if confinement.seccomp {
        let (threads, starter) = Threads::confined()?;
        (threads, Some(starter))
    } else {
        (Threads::default(), None)
    };
    let begun = Instant::now();
    let channel = Arc::new(entered.into_channel());
    let _notices = report_notices(&channel);
    let config = assemble(config, files, threads)?;
    let host = config.network.as_ref().map(|network| network.host.clone());
    let started = machine::start(config, events(&channel));
    let handle = match started {
        Ok(handle) => handle,
        Err(error) => {
            wire::report(&channel, &Report::NotStarted(failure(&error)));
            return Ok(());
        }
    };
    let weakness = confinement.weakness();
    let times = Times {
        process: shared_clock(process),
        machine: shared_clock(begun),
        first_instruction: shared_clock(handle.first_instruction()),
    };
    wire::report(&channel, &Report::Started { weakness, times });
    if let Some(starter) = &starter {
        starter.lock(ROLE.name)?;
    }
    serve(
        &channel,
        starter.as_ref(),
        &handle,
        &host.unwrap_or_default(),
    )?;
    // The process ends with its threads, which are not waited for.
    std::mem::forget(handle);
    Ok(())
}

/// Sends the parent what this process logs. A notice is dropped if the channel is full: a thread that
/// logs must not wait.
fn report_notices(channel: &Arc<Channel>) -> Subscription {
    notices::install();
    let channel = Arc::clone(channel);
    notices::subscribe(move |text| {
        if let Ok(message) = wire::message(&Report::Note(wire::cut(text))) {
            let _ = channel.try_send(&message, &[]);
        }
    })
}

/// The files of a machine.
struct Files {
    kvm: File,
    kernel: File,
    initrd: File,
    disk: Vec<File>,
    listener: Option<TcpListener>,
    handover: Option<Channel>,
    shares: Vec<OwnedFd>,
}

impl Files {
    fn take(entered: &mut Entered, config: &MachineConfig) -> std::io::Result<Files> {
        let disk = match &config.disk {
            wire::DiskConfig::InPlace { .. } => 1,
            wire::DiskConfig::Private { kept, .. } => kept.saturating_mul(2).saturating_add(2),
        };
        let network = config.network.as_ref();
        let forward = network.and_then(|network| network.forward);
        let handover = network.and_then(|network| network.handover.as_ref());
        Ok(Files {
            kvm: entered.file()?,
            kernel: entered.file()?,
            initrd: entered.file()?,
            disk: (0..disk)
                .map(|_| entered.file())
                .collect::<Result<_, _>>()?,
            listener: match forward {
                Some(_) => Some(entered.descriptor()?.into()),
                None => None,
            },
            handover: match handover {
                Some(_) => Some(entered.descriptor()?.into()),
                None => None,
            },
            shares: (config.shares.iter())
                .map(|_| entered.descriptor())
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Locks the process: names are opened beneath the shares only.
fn lock(
    config: &MachineConfig,
    shares: &[OwnedFd],
) -> Result<boxbuild_jail::Confinement, boxbuild_jail::JailError> {
    Jail {
        files: (config.shares.iter().zip(shares))
            .map(|(share, root)| (root.as_fd(), share.access()))
            .collect(),
        tcp: match config.network {
            Some(_) => TcpAccess::Connect,
            None => TcpAccess::None,
        },
        capabilities: Capabilities::Files,
        limits: Limits {
            open_files: Some(OPEN_FILES),
            memory: Some((config.memory_mib << 20).saturating_add(OTHER_MEMORY)),
            ..Limits::default()
        },
    }
    .lock()
}

/// Puts the parts of the machine together.
fn assemble(
    config: MachineConfig,
    files: Files,
    threads: Threads,
) -> Result<Config, Box<dyn Error>> {
    let network = config.network.map(|network| NetworkConfig {
        policy: network.policy,
        host: network.host.into(),
        forward: files
            .listener
            .zip(network.forward)
            .map(|(listener, port)| Forward { listener, port }),
        handover: (files.handover.zip(network.handover))
            .map(|(channel, ports)| Handover { channel, ports }),
    });
    let shares: Result<Vec<_>, Box<dyn Error>> = (config.shares.into_iter().zip(files.shares))
        .map(|(share, root)| Ok(PassthroughFs::with_root(Share::try_from(share)?, root)?))
        .collect();
    Ok(Config {
        kvm: Some(files.kvm),
        threads,
        memory_mib: config.memory_mib,
        cpus: config.cpus,
        nested: config.nested,
        kernel: files.kernel,
        initrd: Some(files.initrd),
        cmdline: config.cmdline,
        disks: vec![disk(config.disk, files.disk)?],
        network,
        shares: shares?,
        config_ports: false,
        standard_devices: true,
    })
}

fn disk(disk: wire::DiskConfig, files: Vec<File>) -> std::io::Result<DiskConfig> {
    let mut files = files.into_iter();
    let mut next = || files.next().ok_or(std::io::ErrorKind::NotFound);
    Ok(match disk {
        wire::DiskConfig::InPlace { name } => DiskConfig::InPlace {
            image: NamedFile {
                file: next()?,
                name: name.into(),
            },
            len: None,
        },
        wire::DiskConfig::Private {
            name,
            kept,
            len,
            scratch,
        } => DiskConfig::Overlay(OverlayConfig {
            image: NamedFile {
                file: next()?,
                name: name.into(),
            },
            format: ImageFormat::Qcow2,
            kept: (0..kept)
                .map(|_| Ok(KeptChanges::from_files([next()?, next()?])))
                .collect::<std::io::Result<_>>()?,
            len,
            changes: NamedFile {
                file: next()?,
                name: scratch.into(),
            },
        }),
    })
}

/// Tells the parent what happens. Waits for it where the guest's output is faster than its reader.
fn events(channel: &Arc<Channel>) -> machine::Events {
    use boxbuild_vmm::virtio::console::Port;
    let channel = Arc::clone(channel);
    let tell = move |event| {
        let report = match event {
            machine::Event::Serial(bytes) | machine::Event::Console(bytes) => {
                return send_bytes(&channel, Port::Console, &bytes);
            }
            machine::Event::Control(bytes) => return send_bytes(&channel, Port::Control, &bytes),
            machine::Event::Mark(_) => return,
            machine::Event::Notice(text) => Report::Note(wire::cut(text)),
            machine::Event::StorageFull(text) => Report::StorageFull(wire::cut(text)),
            machine::Event::Ended(ended) => Report::Ended(translate(ended)),
        };
        wire::report(&channel, &report);
    };
    Arc::new(tell)
}

fn send_bytes(channel: &Channel, port: boxbuild_vmm::virtio::console::Port, bytes: &[u8]) {
    for part in bytes.chunks(boxbuild_jail::MAX_MESSAGE / 2) {
        // An error means that the parent is gone, and this process with it.
        let _ = channel.send(&wire::port(port, part), &[]);
    }
}

fn translate(ended: machine::Ended) -> Ended {
    match ended {
        machine::Ended::PoweredOff => Ended::PoweredOff,
        machine::Ended::Reset => Ended::Reset,
        machine::Ended::TripleFault(text) => Ended::TripleFault(wire::cut(text)),
        machine::Ended::Failed(text) => Ended::Failed(wire::cut(text)),
        machine::Ended::Killed => Ended::Killed,
    }
}

fn failure(error: &machine::StartError) -> StartFailure {
    let (part, error): (Part, &dyn Error) = match error {
        machine::StartError::Disk { source, .. } => match source {
            OpenError::Image(error) => (Part::Image, error),
            OpenError::Kept(error) => (Part::Kept, error),
            OpenError::Changes(error) | OpenError::Raw(error) => (Part::Changes, error),
        },
        machine::StartError::Kvm(error @ KvmError::Width { .. })
        | machine::StartError::Vcpu(VcpuError::Kvm(error @ KvmError::Width { .. })) => {
            (Part::Memory, error)
        }
        error => (Part::Machine, error),
    };
    let mut chain = vec![wire::cut(error.to_string())];
    let mut source = error.source();
    while let Some(error) = source.filter(|_| chain.len() < 8) {
        chain.push(wire::cut(error.to_string()));
        source = error.source();
    }
    StartFailure { part, chain }
}

/// Does what the parent wants, and starts threads of devices, until the parent is gone.
fn serve(
    channel: &Channel,
    starter: Option<&Starter>,
    handle: &Handle,
    host: &CurrentNetwork,
) -> Result<(), Box<dyn Error>> {
    loop {
        let mut polled = vec![PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        polled.extend(starter.map(|starter| PollFd::new(starter.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        if let (Some(starter), Some(true)) = (starter, ready.get(1)) {
            starter.serve();
        }
        if ready.first() == Some(&true) {
            let Some(message) = channel.receive_descriptors(None)? else {
                return Ok(());
            };
            obey(message, channel, handle, host)?;
        }
    }
}

fn obey(
    message: Message,
    channel: &Channel,
    handle: &Handle,
    host: &CurrentNetwork,
) -> std::io::Result<()> {
    match ToMachine::decode(&message.bytes)? {
        ToMachine::Input(port, bytes) => {
            // Input beyond the guest's buffer is dropped.
            handle.input().send(port, &bytes);
        }
        ToMachine::Wish(Wish::Stop) => handle.stop(),
        ToMachine::Wish(Wish::Figures) => wire::report(channel, &Report::Figures(figures(handle))),
        ToMachine::Wish(Wish::HostNetwork(now)) => host.set(now),
        ToMachine::Wish(Wish::WriteMap) => {
            let map = message.descriptors.into_iter().next().map(File::from);
            let missing = || std::io::Error::other("no file for the map");
            let written = map
                .ok_or_else(missing)
                .and_then(|map| handle.write_map(0, map));
            let written = written.map(|_| ()).map_err(|error| error.to_string());
            wire::report(channel, &Report::MapWritten(written));
        }
        ToMachine::Wish(Wish::Checkpoint) => {
            let mut files = message.descriptors.into_iter().map(File::from);
            let missing = || std::io::Error::other("no files for the checkpoint");
            let taken = files
                .next()
                .zip(files.next())
                .ok_or_else(missing)
                .and_then(|(file, map)| handle.checkpoint(0, file, map));
            let taken = taken.map(|_| ()).map_err(|error| error.to_string());
            wire::report(channel, &Report::MapWritten(taken));
        }
    }
    Ok(())
}

fn figures(handle: &Handle) -> wire::Figures {
    let moved = |wanted: Kind| {
        let traffic = handle.traffic().iter();
        Moved::sum(traffic.filter_map(|(kind, moved)| (*kind == wanted).then_some(moved)))
    };
    wire::Figures {
        disk: moved(Kind::Block),
        shares: moved(Kind::Fs),
        network: moved(Kind::Net),
    }
}
