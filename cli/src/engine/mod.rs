//! Engines: what runs a machine.
//!
//! An engine knows nothing of KIWI. It gets a [`Machine`], starts it, reports [`Event`]s and
//! says how the run ended. What the guest wrote into its shares is judged elsewhere.

pub mod qemu;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

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
    /// The initial ramdisk, complete (the box's own one and our parts behind it), as a
    /// readable file that may have no name any more.
    pub initrd: OwnedFd,
    /// Kernel command line.
    pub cmdline: String,
    /// Root disk: a qcow2 image, read only for this run; writes go to a private overlay.
    pub disk: PathBuf,
    /// Grow the disk that the guest sees to this many bytes.
    pub disk_size: Option<u64>,
    /// Directory with room for the overlay. Nothing named stays in it.
    pub scratch: PathBuf,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// Folders shared over virtio-fs.
    pub shares: Vec<Share>,
    /// Network of the guest.
    pub network: Network,
    /// Overrides of the machine type and CPU model (engine qemu only).
    pub machine_type: Option<OsString>,
    /// See `machine_type`.
    pub cpu_model: Option<OsString>,
}

/// One folder shared with the guest.
#[derive(Debug, Clone)]
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
    /// User-mode NAT: outgoing connections only, nothing listens on the host.
    User,
    /// No interface at all.
    None,
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

/// A machine that runs. Dropping it kills it and cleans up.
pub trait Running: std::fmt::Debug {
    /// Ends the machine now and waits until nothing of it is left (at most `grace` for an
    /// orderly end of the engine's process, then SIGKILL). [`Event::Ended`] is sent.
    fn kill(&mut self, grace: Duration);

    /// Highest resident memory of the engine in bytes so far, if known.
    fn peak_memory(&self) -> Option<u64>;
}

/// The engine that the user asked for, or the best one that works here.
pub fn select(wanted: &str, arch: Arch) -> Result<Box<dyn Engine>, Unusable> {
    match wanted {
        "auto" | "qemu" => {
            let engine = qemu::Qemu;
            engine.probe(arch)?;
            Ok(Box::new(engine))
        }
        other => Err(Unusable(format!(
            "--engine {other}: no such engine (known: auto, qemu)"
        ))),
    }
}
