//! The kvm engine: a micro virtual machine in this process, over `/dev/kvm`.
//!
//! Nothing has to be cleaned up behind it: the machine, its servers and its overlay are
//! threads, mappings and files without names, and are gone with the process however it ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use boxbuild_virtiofs::config::ShareConfig;
use boxbuild_vmm::disk::{Disk, Image, ImageError, Overlay, open_in_place};
use boxbuild_vmm::kvm::KvmError;
use boxbuild_vmm::machine::{self, Config};
use boxbuild_vmm::net::{Forward, NetworkConfig};
use boxbuild_vmm::smoke;
use boxbuild_vmm::virtio::Kind;
use boxbuild_vmm::virtio::console::{Input, Port};

use super::{
    Console, Ended, Engine, Event, Machine, Moved, Network, Processor, RootDisk, Running,
    StartError, Unusable, Usage, size_line, usage,
};
use crate::boot_cache::kernel;
use boxbuild_host::arch::Arch;

/// The device.
const DEVICE: &str = "/dev/kvm";

/// How often a full channel is tried again: its reader prints, the guest waits meanwhile.
const RETRY: Duration = Duration::from_millis(1);

/// The engine.
#[derive(Debug, Default)]
pub struct Kvm;

impl Engine for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn processor(&self) -> Processor {
        Processor::Virtualized
    }

    fn probe(&self, arch: Arch) -> Result<(), Unusable> {
        if arch != Arch::host() || arch != Arch::X86_64 {
            return Err(Unusable(format!(
                "the kvm engine runs x86_64 guests on x86_64 hosts, not {arch} guests on {}",
                Arch::host()
            )));
        }
        smoke::run().map_err(|error| unusable(&error))
    }

    fn start(
        &self,
        machine: Machine,
        events: SyncSender<Event>,
    ) -> Result<Box<dyn Running>, StartError> {
        let scratch = machine.disk.written_to().to_owned();
        let overlay = overlay(&machine.disk)?.map(Arc::new);
        let disk: Box<dyn Disk> = match &overlay {
            Some(overlay) => Box::new(Arc::clone(overlay)),
            None => open_in_place(machine.disk.image(), None)
                .map_err(|error| unusable_image(machine.disk.image(), error))?,
        };
        let (config, note) = config(machine, disk)?;
        if let Some(note) = note {
            // Nobody waits at the other end yet if the channel is that small; it may be lost.
            let _ = events.try_send(Event::Note(note));
        }
        let closing = Arc::new(AtomicBool::new(false));
        let running = machine::start(config, forward(events, Arc::clone(&closing), scratch))
            .map_err(|error| StartError::Machine(Box::new(error)))?;
        Ok(Box::new(InProcess {
            running,
            closing,
            overlay,
        }))
    }
}

/// Over the root disk's image, if the guest does not write into that.
fn overlay(disk: &RootDisk) -> Result<Option<Overlay>, StartError> {
    let RootDisk::Private {
        image,
        kept,
        size,
        scratch,
    } = disk
    else {
        return Ok(None);
    };
    let host = |action: String| move |source| StartError::Host { action, source };
    let mut opened = Image::open_qcow2(image).map_err(|error| unusable_image(image, error))?;
    if let Some(kept) = kept {
        opened = opened
            .with_changes(kept)
            .map_err(host(format!("read the kept disk in {}", kept.display())))?;
    }
    let overlay = Overlay::new(opened, *size, scratch).map_err(host(format!(
        "make a file for the disk's changes in {}",
        scratch.display()
    )))?;
    Ok(Some(overlay))
}

fn unusable_image(path: &Path, error: ImageError) -> StartError {
    StartError::Disk {
        path: path.to_owned(),
        source: Box::new(error),
    }
}

/// What the machine consists of, and what the user should know about it.
fn config(machine: Machine, disk: Box<dyn Disk>) -> Result<(Config, Option<String>), StartError> {
    let host = |action: String| move |source| StartError::Host { action, source };
    let opened = kernel::open(&machine.kernel, &machine.kernel_sha256).map_err(host(format!(
        "open the kernel {}",
        machine.kernel.display()
    )))?;
    let shares = machine
        .shares
        .into_iter()
        .map(|share| {
            let mut config = ShareConfig::new(share.path);
            config.read_only = share.read_only;
            machine::Share {
                tag: share.tag,
                config,
            }
        })
        .collect();
    let config = Config {
        memory_mib: machine.memory_mib,
        cpus: machine.cpus,
        kernel: opened.file,
        initrd: Some(File::from(machine.initrd)),
        cmdline: machine.cmdline,
        disks: vec![disk],
        network: (machine.network == Network::User).then_some(NetworkConfig {
            host_loopback: machine.host_loopback,
            forward: machine.forward.map(|forward| Forward {
                listener: forward.listener,
                port: forward.port,
            }),
        }),
        shares,
        config_ports: false,
        standard_devices: true,
    };
    Ok((config, opened.note))
}

/// Hands the machine's events on. The guest waits while the reader does not read, unless the
/// machine is being ended: what it says then is lost.
fn forward(
    sender: SyncSender<Event>,
    closing: Arc<AtomicBool>,
    scratch: PathBuf,
) -> machine::Events {
    Arc::new(move |event| {
        let (mut event, last) = match event {
            machine::Event::Serial(bytes) | machine::Event::Console(bytes) => {
                (Event::Console(bytes), false)
            }
            machine::Event::Control(bytes) => (Event::Control(bytes), false),
            machine::Event::Notice(text) => (Event::Note(text), false),
            machine::Event::StorageFull(text) => (Event::Hopeless(full(&text, &scratch)), false),
            machine::Event::Ended(ended) => (Event::Ended(translate(ended)), true),
        };
        if last {
            // The reader is waiting for it, or gone.
            let _ = sender.send(event);
            return;
        }
        while !closing.load(Ordering::Relaxed) {
            match sender.try_send(event) {
                Err(TrySendError::Full(back)) => event = back,
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
            }
            std::thread::sleep(RETRY);
        }
    })
}

/// There is no room for the changes of the box's disk.
fn full(text: &str, scratch: &Path) -> String {
    format!(
        "{text}: the file system of {}, which holds the changes of the box's disk, is full: free \
         some space, or set KIWI_BOXED_CACHE_DIR to a folder on another one",
        scratch.display()
    )
}

fn translate(ended: machine::Ended) -> Ended {
    match ended {
        machine::Ended::PoweredOff => Ended::PoweredOff,
        machine::Ended::Reset => Ended::Reset,
        machine::Ended::TripleFault(text) => Ended::TripleFault(text),
        machine::Ended::Failed(text) => Ended::Failed(text),
        machine::Ended::Killed => Ended::Killed,
    }
}

/// A machine in this process.
#[derive(Debug)]
struct InProcess {
    running: machine::Running,
    overlay: Option<Arc<Overlay>>,
    closing: Arc<AtomicBool>,
}

impl Running for InProcess {
    fn kill(&mut self, _grace: Duration) {
        // There is no process to end in order; its reader is told by the last event.
        self.closing.store(true, Ordering::Relaxed);
        self.running.stop();
    }

    fn peak_memory(&self) -> Option<u64> {
        usage::kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
    }

    fn usage(&self) -> Usage {
        let (memory, processor) = usage::usage("self");
        let moved = |wanted: Kind| {
            let traffic = self.running.traffic().iter();
            Moved::sum(traffic.filter_map(|(kind, moved)| (*kind == wanted).then_some(moved)))
        };
        Usage {
            memory,
            processor,
            disk: moved(Kind::Block),
            shares: moved(Kind::Fs),
            network: moved(Kind::Net),
        }
    }

    fn console(&self) -> Option<Arc<dyn Console>> {
        Some(Arc::new(Ports(self.running.input())))
    }

    fn keep_disk(&self, folder: &Path) -> io::Result<Option<u64>> {
        self.overlay
            .as_ref()
            .map(|overlay| overlay.keep(folder))
            .transpose()
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

/// What the host says to the guest.
#[derive(Debug)]
struct Ports(Input);

impl Console for Ports {
    fn send(&self, bytes: &[u8]) {
        self.0.send(Port::Console, bytes);
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.0
            .send(Port::Control, size_line(columns, rows).as_bytes());
    }
}

/// Why there is no KVM, and what would help.
fn unusable(error: &smoke::Unusable) -> Unusable {
    let smoke::Unusable::Kvm(KvmError::Open(source)) = error else {
        return Unusable(chain(error));
    };
    Unusable(match source.kind() {
        io::ErrorKind::NotFound => String::from(
            "there is no /dev/kvm: switch virtualization on in the firmware of this machine \
             (Intel VT-x, AMD-V) or, if it is a virtual machine itself, nested virtualization \
             on its host, and load the module: sudo modprobe kvm_intel (or kvm_amd)",
        ),
        io::ErrorKind::PermissionDenied => match device_group() {
            Some(group) => format!(
                "you may not use /dev/kvm, which belongs to the group {group}: \
                 sudo usermod -aG {group} \"$USER\", then log in again"
            ),
            None => {
                String::from("you may not use /dev/kvm: ask for read and write permission on it")
            }
        },
        _ => chain(error),
    })
}

/// The group that /dev/kvm belongs to, if membership would help.
fn device_group() -> Option<String> {
    const GROUP_READ_WRITE: u32 = 0o060;
    let metadata = fs::metadata(DEVICE).ok()?;
    if !metadata.file_type().is_char_device()
        || metadata.mode() & GROUP_READ_WRITE != GROUP_READ_WRITE
        || metadata.gid() == 0
    {
        return None;
    }
    let group = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(metadata.gid()));
    Some(group.ok()??.name)
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_missing_permission_names_the_group_or_the_device() {
        let denied =
            smoke::Unusable::Kvm(KvmError::Open(io::Error::from_raw_os_error(libc::EACCES)));
        let Unusable(text) = unusable(&denied);
        assert!(text.contains("/dev/kvm"), "{text}");
        let missing =
            smoke::Unusable::Kvm(KvmError::Open(io::Error::from_raw_os_error(libc::ENOENT)));
        let Unusable(text) = unusable(&missing);
        assert!(text.contains("modprobe"), "{text}");
    }

    #[test]
    fn a_full_file_system_is_named() {
        let (sender, receiver) = mpsc::sync_channel(1);
        let events = forward(sender, Arc::default(), PathBuf::from("/scratch"));
        events(machine::Event::StorageFull(String::from("no room")));
        let Ok(Event::Hopeless(text)) = receiver.recv() else {
            panic!("the build must be ended");
        };
        assert!(
            text.starts_with("no room: ") && text.contains("/scratch") && text.contains("is full"),
            "{text}"
        );
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nothing_up_at_the_end() {
        let (sender, receiver) = mpsc::sync_channel(1);
        let closing = Arc::new(AtomicBool::new(false));
        let events = forward(sender, Arc::clone(&closing), PathBuf::from("/scratch"));
        events(machine::Event::Console(b"kept".to_vec()));
        let blocked = std::thread::spawn({
            let events = Arc::clone(&events);
            move || events(machine::Event::Console(b"lost".to_vec()))
        });
        closing.store(true, Ordering::Relaxed);
        blocked.join().unwrap();
        assert!(matches!(receiver.recv(), Ok(Event::Console(bytes)) if bytes == b"kept"));
        events(machine::Event::Ended(machine::Ended::Killed));
        assert!(matches!(receiver.recv(), Ok(Event::Ended(Ended::Killed))));
    }
}
