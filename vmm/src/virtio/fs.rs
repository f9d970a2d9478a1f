//! File system (virtio 1.2, section 5.11): a folder of the host, served in this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boxbuild_virtiofs::{PassthroughFs, Server, Traffic, confine_thread};
use vmm_sys_util::eventfd::EventFd;

use super::config::DeviceConfig;
use super::device::{Context, Device};
use super::fault::Fault;
use super::interrupt::Interrupt;
use super::kind::Kind;
use super::queue::ActiveQueue;
use super::queue_thread::QueueThread;
use crate::memory::GuestRam;

/// Number of the queue for urgent requests; those for all others follow.
const URGENT: usize = 0;
/// Entries of a queue: FUSE's readahead keeps some dozens of requests under way.
const QUEUE: u16 = 512;
/// Most queues for ordinary requests: one for each CPU. Linux has a use for more than one from 6.11 on.
const MOST_QUEUES: u32 = 2;

/// A shared folder.
pub struct Fs {
    server: Arc<Server<PassthroughFs>>,
    config: Arc<DeviceConfig>,
    queues: u32,
    /// The queue for urgent requests, where several threads serve others.
    urgent: Option<Arc<Mutex<ActiveQueue>>>,
    /// All queues for ordinary requests but the first, which has the device's own thread.
    threads: Vec<QueueThread>,
}

impl std::fmt::Debug for Fs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fs")
            .field("share", self.server.file_system().share())
            .finish_non_exhaustive()
    }
}

impl Fs {
    /// Creates the device of a share, with one queue for each of `cpus` virtual CPUs, up to
    /// [`MOST_QUEUES`].
    pub fn new(fs: PassthroughFs, cpus: u32) -> Fs {
        let queues = cpus.clamp(1, MOST_QUEUES);
        let mut config = fs.share().tag.to_field().to_vec();
        config.extend(queues.to_le_bytes());
        Fs {
            server: Arc::new(Server::new(fs)),
            config: Arc::new(DeviceConfig::new(config, 0..0)),
            queues,
            urgent: None,
            threads: Vec::new(),
        }
    }

    /// Starts a thread for each queue but the first for ordinary requests. Threads inherit what confines
    /// this one to the share.
    fn start_threads(&mut self, context: &mut Context) -> Result<(), Fault> {
        let further: Vec<ActiveQueue> = (context.queues.iter_mut().skip(2))
            .filter_map(Option::take)
            .collect();
        let urgent = context.queues.get_mut(URGENT).and_then(Option::take);
        let Some(urgent) = urgent.map(|urgent| Arc::new(Mutex::new(urgent))) else {
            return Ok(());
        };
        self.urgent = Some(Arc::clone(&urgent));
        for queue in further {
            let (server, ram) = (Arc::clone(&self.server), context.ram.clone());
            let (interrupt, urgent) = (context.interrupt.clone(), Arc::clone(&urgent));
            let serve = move |queue: &mut ActiveQueue| {
                drain(&server, &ram, &interrupt, queue, || {
                    drain_urgent(&server, &ram, &interrupt, &mut lock(&urgent))
                })
            };
            let thread = QueueThread::start(Kind::Fs, queue, context, serve);
            self.threads
                .push(thread.map_err(|error| Fault::Host(error.to_string()))?);
        }
        Ok(())
    }
}

fn lock(queue: &Mutex<ActiveQueue>) -> MutexGuard<'_, ActiveQueue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves the requests of a queue, and before each the urgent ones: the guest gives a file back with one
/// of them and then removes its folder, which some file systems of the host (NFS) allow only when the file
/// is closed here.
fn drain(
    server: &Server<PassthroughFs>,
    ram: &GuestRam,
    interrupt: &Interrupt,
    queue: &mut ActiveQueue,
    mut urgent: impl FnMut() -> Result<(), Fault>,
) -> Result<(), Fault> {
    queue.drain(ram, interrupt, |chain| {
        urgent()?;
        server
            .handle(ram, chain)
            .map_err(|error| Fault::Request(error.to_string()))
    })
}

fn drain_urgent(
    server: &Server<PassthroughFs>,
    ram: &GuestRam,
    interrupt: &Interrupt,
    urgent: &mut ActiveQueue,
) -> Result<(), Fault> {
    if !urgent.has_next(ram)? {
        return Ok(());
    }
    drain(server, ram, interrupt, urgent, || Ok(()))
}

impl Device for Fs {
    fn kind(&self) -> Kind {
        Kind::Fs
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE; 1 + self.queues as usize]
    }

    fn traffic(&self) -> Traffic {
        self.server.traffic()
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::clone(&self.config)
    }

    fn activate(&mut self, context: &mut Context) -> Result<(), Fault> {
        let confinement = confine_thread(self.server.file_system())
            .map_err(|error| Fault::Host(error.to_string()))?;
        if !confinement.is_enforced() {
            log::warn!(
                "this host's kernel does not confine the server of {} (Landlock: {confinement:?}); \
                 names from the guest are checked all the same",
                self.server.file_system().share().root.display()
            );
        }
        if context.queues.iter().skip(2).any(Option::is_some) {
            self.start_threads(context)?;
        }
        Ok(())
    }

    fn shared_queue(&self) -> Option<(usize, EventFd)> {
        let urgent = lock(self.urgent.as_ref()?);
        Some((URGENT, urgent.event().try_clone().ok()?))
    }

    fn deactivate(&mut self) {
        self.threads.clear();
        self.urgent = None;
    }

    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        let (ram, interrupt) = (&context.ram, &context.interrupt);
        let server = &*self.server;
        let (urgent, others) = context.queues.split_at_mut(1);
        let mut own = urgent.first_mut().and_then(Option::as_mut);
        let shared = self.urgent.as_deref();
        let mut urgent = || match (&mut own, shared) {
            (Some(urgent), _) => drain_urgent(server, ram, interrupt, urgent),
            (None, Some(urgent)) => drain_urgent(server, ram, interrupt, &mut lock(urgent)),
            (None, None) => Ok(()),
        };
        let queue = index.checked_sub(1).and_then(|at| others.get_mut(at));
        if let Some(Some(queue)) = queue {
            return drain(server, ram, interrupt, queue, urgent);
        }
        urgent()
    }
}

#[cfg(test)]
#[path = "fs_tests.rs"]
mod tests;
