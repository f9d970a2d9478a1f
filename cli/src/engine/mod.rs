//! Engines: what runs a machine.
//!
//! An engine knows nothing of KIWI. It gets a [`Machine`], starts it, reports [`Event`]s and
//! says how the run ended. What the guest wrote into its shares is judged elsewhere.

pub mod kvm;
mod process;
pub mod qemu;

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use boxbuild_protocol::host_message::HostMessage;
use boxbuild_virtiofs::Traffic;

use crate::arch::Arch;

/// A machine that an engine shall run once.
#[derive(Debug)]
pub struct Machine {
    /// Name for messages and process listings.
    pub name: String,
    /// Architecture of the guest.
    pub arch: Arch,
    /// Kernel image, as the distribution ships it.
    pub kernel: PathBuf,
    /// SHA-256 of that in lower-case hex: names it in caches.
    pub kernel_sha256: String,
    /// The kernel may be unpacked on the host, if the engine can boot it like that.
    pub unpack_kernel: bool,
    /// The initial ramdisk, complete (the box's own one and our parts behind it), as a
    /// readable file that may have no name any more.
    pub initrd: OwnedFd,
    /// Kernel command line.
    pub cmdline: String,
    /// Root disk.
    pub disk: RootDisk,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// Folders shared over virtio-fs.
    pub shares: Vec<Share>,
    /// Network of the guest.
    pub network: Network,
    /// The guest reaches the host's loopback through the network's gateway.
    pub host_loopback: bool,
    /// Ways into the guest over that network.
    pub forward: Option<Forward>,
    /// Overrides of the machine type and CPU model (engine qemu only).
    pub machine_type: Option<OsString>,
    /// See `machine_type`.
    pub cpu_model: Option<OsString>,
}

/// The root disk of a machine, from a qcow2 image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootDisk {
    /// The image is only read; what the guest writes goes to a file without a name.
    Private {
        /// The image.
        image: PathBuf,
        /// A folder where [`Running::keep_disk`] of the same engine left what was written over
        /// this image. It is only read.
        kept: Option<PathBuf>,
        /// Length of the disk in bytes, if it shall be longer than the image.
        size: Option<u64>,
        /// Folder with room for that file.
        scratch: PathBuf,
    },
    /// The guest writes into the image.
    InPlace(PathBuf),
}

impl RootDisk {
    /// The image.
    pub fn image(&self) -> &Path {
        match self {
            RootDisk::Private { image, .. } | RootDisk::InPlace(image) => image,
        }
    }

    /// The folder whose file system takes what the guest writes.
    pub fn written_to(&self) -> &Path {
        match self {
            RootDisk::Private { scratch, .. } => scratch,
            RootDisk::InPlace(image) => image.parent().unwrap_or(image),
        }
    }
}

/// One folder shared with the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// virtio-fs mount tag, at most 36 bytes (virtio 1.2, section 5.11.4).
    pub tag: String,
    /// The folder on the host.
    pub path: PathBuf,
    /// The guest cannot change anything below it.
    pub read_only: bool,
}

/// What the guest's network interface reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// User-mode NAT: outgoing connections only; nothing listens on the host but
    /// [`Machine::forward`].
    User,
    /// No interface at all.
    None,
}

/// A port of the host that leads to one of the guest while the machine runs.
#[derive(Debug)]
pub struct Forward {
    /// Holds the host's port, on its loopback.
    pub listener: TcpListener,
    /// The guest's port.
    pub port: u16,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// The host's processor.
    Virtualized,
    /// A program that translates them.
    Emulated,
}

/// Something that happened in a running machine.
#[derive(Debug)]
pub enum Event {
    /// Bytes that the guest wrote to its console (hvc0), in order.
    Console(Vec<u8>),
    /// Bytes that the guest wrote to the control port `org.boxbuild.control`.
    Control(Vec<u8>),
    /// Something that the user should know, though the machine runs.
    Note(String),
    /// The host is in the machine's way, so that it cannot come to a good end; the text says
    /// how, and what to do. Whoever runs the machine ends it.
    Hopeless(String),
    /// The machine is gone. The last event of a run.
    Ended(Ended),
}

/// How a run ended, seen from outside the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest asked for a reset: `panic=` after a kernel panic, or `reboot`. A box never
    /// reboots, so this is never good.
    Reset,
    /// A CPU of the guest could not go on; the text says which, and where. Only some engines
    /// can tell it from a reset.
    TripleFault(String),
    /// The engine itself failed; the text says how (exit status and last words).
    Failed(String),
    /// Stopped by [`Running::kill`].
    Killed,
}

/// An engine cannot be used on this host; the text says why and what would help.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// The machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See [`Unusable`].
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// A host file, process or limit is in the way.
    #[error("cannot {action}")]
    Host {
        /// What was tried, with the file or program it was tried on.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The root disk cannot be used.
    #[error("cannot use the disk {path}")]
    Disk {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The machine cannot be put together.
    #[error("cannot put the virtual machine together")]
    Machine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A share cannot be served.
    #[error("cannot share the folder {path}")]
    Share {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Something that can run machines.
pub trait Engine: std::fmt::Debug {
    /// The name users select it by.
    fn name(&self) -> &'static str;

    /// What executes the guest's instructions.
    fn processor(&self) -> Processor;

    /// Whether it works on this host for guests of `arch`, without starting anything heavy.
    fn probe(&self, arch: Arch) -> Result<(), Unusable>;

    /// Starts `machine`. Events go to `events` until [`Event::Ended`].
    ///
    /// Must be called on a thread that lives as long as the machine shall live: child
    /// processes are bound to it by the parent-death signal.
    fn start(
        &self,
        machine: Machine,
        events: SyncSender<Event>,
    ) -> Result<Box<dyn Running>, StartError>;
}

/// The console of a guest, and the way to tell it of the terminal behind it.
pub trait Console: Send + Sync + std::fmt::Debug {
    /// Types `bytes`. What the guest has no room for is lost, as on any terminal.
    fn send(&self, bytes: &[u8]);

    /// The terminal has this many columns and rows now. Guests that do not follow the control
    /// port do not learn of it.
    fn resize(&self, columns: u16, rows: u16);
}

/// The line on the control port that tells the guest of its terminal (docs/guest-contract.md).
pub fn size_line(columns: u16, rows: u16) -> String {
    format!("{}\n", HostMessage::TerminalSize { columns, rows })
}

/// A machine that runs. Dropping it kills it and cleans up.
pub trait Running: std::fmt::Debug {
    /// Ends the machine now and waits until nothing of it is left (at most `grace` for an
    /// orderly end of the engine's process, then SIGKILL). [`Event::Ended`] is sent.
    fn kill(&mut self, grace: Duration);

    /// Highest resident memory of the engine in bytes so far, if known.
    fn peak_memory(&self) -> Option<u64>;

    /// A handle for the guest's console, if it can be typed on.
    fn console(&self) -> Option<Arc<dyn Console>>;

    /// Once the machine is gone: gives what it wrote to its private disk names in `folder`,
    /// which is on the file system of [`RootDisk::Private::scratch`]. Returns the bytes that it
    /// takes there; `None` if there is nothing that could be kept.
    ///
    /// # Errors
    /// If the host does not allow it. Some files may be in the folder then.
    fn keep_disk(&self, folder: &Path) -> io::Result<Option<u64>>;

    /// What the machine uses now and has used so far, as far as the engine knows.
    fn usage(&self) -> Usage {
        Usage::default()
    }
}

/// What a machine uses. `None` is what the engine cannot know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory of the engine's process now, the guest's included, in bytes.
    pub memory: Option<u64>,
    /// Processor time of the engine's process so far.
    pub processor: Option<Duration>,
    /// Bytes that went through the root disk so far.
    pub disk: Option<Moved>,
    /// Bytes of files in shares.
    pub shares: Option<Moved>,
    /// Bytes of frames of the network.
    pub network: Option<Moved>,
}

/// Bytes that a guest has moved so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Read, received.
    pub to_guest: u64,
    /// Written, sent.
    pub from_guest: u64,
}

impl Moved {
    /// The sum over several devices; `None` if there is none.
    pub fn sum<'a>(traffic: impl IntoIterator<Item = &'a Traffic>) -> Option<Moved> {
        traffic.into_iter().fold(None, |sum, traffic| {
            let sum = sum.unwrap_or_default();
            Some(Moved {
                to_guest: sum.to_guest + traffic.to_guest(),
                from_guest: sum.from_guest + traffic.from_guest(),
            })
        })
    }
}

/// Names of the engines that can be asked for; `auto` takes the first of the others that works.
pub const NAMES: [&str; 3] = ["auto", "kvm", "qemu"];

/// An engine that works on this host.
#[derive(Debug)]
pub struct Selected {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// Why a better one was passed over, in words for the user.
    pub passed_over: Option<String>,
    /// Why it is this one, in any case.
    pub why: String,
}

/// The engine that the user asked for (one of [`NAMES`]), or the best one that works here.
///
/// # Errors
/// If it does not work here, or none does; with the reason of each.
pub fn select(wanted: &str, arch: Arch) -> Result<Selected, Unusable> {
    let mut reasons: Vec<String> = Vec::new();
    for engine in all() {
        if wanted != "auto" && wanted != engine.name() {
            continue;
        }
        match engine.probe(arch) {
            Ok(()) => {
                return Ok(Selected {
                    why: match (wanted, reasons.last()) {
                        ("auto", None) => String::from("the fastest engine, and it works here"),
                        ("auto", Some(reason)) => reason.clone(),
                        _ => String::from("asked for"),
                    },
                    engine,
                    // That a foreign guest cannot run on KVM is no news.
                    passed_over: reasons.pop().filter(|_| arch == Arch::host()),
                });
            }
            Err(Unusable(reason)) => reasons.push(format!("{}: {reason}", engine.name())),
        }
    }
    if reasons.is_empty() {
        reasons.push(format!(
            "{wanted}: no such engine (known: {})",
            NAMES.join(", ")
        ));
    }
    Err(Unusable(format!(
        "no engine can run this box here\n  {}",
        reasons.join("\n  ")
    )))
}

/// All engines that run machines, the best first.
pub fn all() -> Vec<Box<dyn Engine>> {
    vec![Box::new(kvm::Kvm), Box::new(qemu::Qemu)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_engine_is_refused_by_name() {
        let Unusable(text) = select("xen", Arch::host()).unwrap_err();
        assert!(
            text.contains("xen: no such engine (known: auto, kvm, qemu)"),
            "{text}"
        );
    }

    #[test]
    fn kvm_runs_no_foreign_guests() {
        let Unusable(text) = select("kvm", Arch::S390x).unwrap_err();
        assert!(text.contains("kvm:") && text.contains("s390x"), "{text}");
        assert!(!text.contains("qemu:"), "{text}");
    }
}
