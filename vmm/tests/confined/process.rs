//! A process that is locked as that of a machine is, with one thread that hostile code has taken
//! over: it makes the attempt, and tells what came of it.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boxbuild_jail::{Channel, Entered, FileAccess, Jail, Role, TcpAccess};
use boxbuild_virtiofs::{MountTag, PassthroughFs, Share};
use boxbuild_vmm::kvm::{IoEvents, MsiSink};
use boxbuild_vmm::pci::Function;
use boxbuild_vmm::threads::{self, Starter, Threads};
use boxbuild_vmm::virtio::fs::Fs;
use boxbuild_vmm::virtio::{
    Attachment, Context, Device, DeviceConfig, FailureSink, Fault, Kind, VirtioPci,
};
use nix::poll::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use crate::attempts::{ATTEMPTS, LAST_WORDS, PANIC, PARENT};

pub const ROLE: Role = Role {
    name: "hostile",
    run,
};

/// Who is hostile, and what it tries: its place in [`ATTEMPTS`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The name of the kind of a device, or that of a CPU's thread.
    pub thread: String,
    pub attempt: usize,
}

/// The name of a CPU's thread.
pub const VCPU: &str = "vcpu0";
/// The name of a thread that unpacks parts of a disk.
pub const UNPACK: &str = "unpack";

fn run(mut entered: Entered) -> Result<(), Box<dyn Error>> {
    let plan: Plan = entered.config()?;
    let folder = entered.file()?;
    PARENT.store(nix::unistd::getppid().as_raw(), Ordering::Relaxed);
    nix::unistd::fchdir(&folder)?;
    Jail {
        tcp: TcpAccess::Connect,
        ..Jail::default()
    }
    .allow(&folder, FileAccess::Write)
    .lock()?;
    let (threads, starter) = Threads::confined()?;
    let channel = Arc::new(entered.into_channel());
    let (wakeup, mut writes) = std::io::pipe()?;
    writes.write_all(b"now")?;
    let hostile = Hostile {
        wakeup: wakeup.into(),
        kind: Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == plan.thread),
        unpacks: plan.thread == UNPACK,
        attempt: plan.attempt,
        channel: Arc::clone(&channel),
        fs: None,
    };
    let thread = std::thread::spawn(move || act(hostile, threads));
    starter.lock("machine")?;
    serve(&starter, &channel, &thread);
    Ok(())
}

/// Starts what is asked for until the parent or the first thread is gone.
fn serve(starter: &Starter, channel: &Channel, thread: &std::thread::JoinHandle<()>) {
    while !thread.is_finished() {
        let mut polled = [
            PollFd::new(starter.as_fd(), PollFlags::POLLIN),
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut polled, 100_u16).is_err() || polled[1].any() == Some(true) {
            return;
        }
        starter.serve();
    }
}

/// As a CPU: makes the attempt itself, or activates the hostile device.
fn act(mut hostile: Hostile, threads: Threads) {
    let failed = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&failed);
    let Some(kind) = hostile.kind else {
        let (role, name) = if hostile.unpacks {
            (threads::Role::Unpack, UNPACK)
        } else {
            (threads::Role::Vcpu, VCPU)
        };
        threads.enter(role, name).unwrap();
        return hostile.make_attempt();
    };
    if kind == Kind::Fs {
        let share = Share::new(MountTag::constant("share"), ".");
        hostile.fs = Some(Fs::new(PassthroughFs::new(share).unwrap(), 1));
    }
    let nothing = Arc::new(Nothing);
    let attachment = Attachment {
        msi: nothing.clone(),
        io_events: nothing,
        ram: boxbuild_vmm::memory::allocate(64).unwrap(),
        failures: FailureSink::new(move |_| told.store(true, Ordering::Relaxed)),
        threads: threads.clone(),
    };
    let mut function = VirtioPci::new(Box::new(hostile), attachment);
    threads.enter(threads::Role::Vcpu, VCPU).unwrap();
    // Acknowledge, driver; VIRTIO_F_VERSION_1 (bit 32); features are right; the driver is ready.
    for (offset, value) in [(0x14, 3), (0x08, 1), (0x0c, 1), (0x14, 11), (0x14, 15)] {
        let value: u32 = value;
        let len = if offset == 0x14 { 1 } else { 4 };
        let _ = function.write_bar(0, offset, &value.to_le_bytes()[..len]);
    }
    // A device that panics ends its machine.
    while !failed.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A device whose thread makes an attempt as soon as it serves.
#[derive(Debug)]
struct Hostile {
    kind: Option<Kind>,
    /// Not a CPU, without a kind.
    unpacks: bool,
    attempt: usize,
    channel: Arc<Channel>,
    /// Readable.
    wakeup: OwnedFd,
    /// What confines the thread of a share further.
    fs: Option<Fs>,
}

impl Hostile {
    fn make_attempt(&self) {
        assert!(self.attempt != PANIC, "{LAST_WORDS}");
        let (_, attempt) = ATTEMPTS[self.attempt];
        let result = attempt();
        let result = result.to_string();
        // A thread that has nothing to report has no sendmsg.
        let _ = match self.unpacks {
            true => nix::unistd::write(self.channel.as_fd(), result.as_bytes()).map_err(Into::into),
            false => self.channel.send(result.as_bytes(), &[]).map(|()| 0),
        };
    }
}

impl Device for Hostile {
    fn kind(&self) -> Kind {
        self.kind.unwrap()
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![8]
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::new(DeviceConfig::new(Vec::new(), 0..0))
    }

    fn wakeup(&self) -> Option<OwnedFd> {
        self.wakeup.try_clone().ok()
    }

    fn activate(&mut self, context: &mut Context) -> Result<(), Fault> {
        match &mut self.fs {
            Some(fs) => fs.activate(context),
            None => Ok(()),
        }
    }

    fn notified(&mut self, _: usize, _: &mut Context) -> Result<(), Fault> {
        Ok(())
    }

    fn woken(&mut self, _: &mut Context) -> Result<(), Fault> {
        self.make_attempt();
        std::thread::sleep(Duration::from_secs(600));
        Ok(())
    }
}

/// No guest.
#[derive(Debug)]
struct Nothing;

impl MsiSink for Nothing {
    fn send(&self, _: u64, _: u32) {}
}

impl IoEvents for Nothing {
    fn attach(&self, _: &EventFd, _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn detach(&self, _: &EventFd, _: u64) {}
}

/// The folder of a share with one file in it.
pub fn share() -> (tempfile::TempDir, File) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let file = File::open(folder.path()).unwrap();
    (folder, file)
}
