//! Serving one connection, on the calling thread and one that it starts.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use vhost_user_backend::{ShutdownHandle, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventFlag, new_event_consumer_and_notifier};

use super::backend::{Backend, STOP};
use super::error::StartError;
use super::fault::Fault;
use super::filters::Filters;
use super::status::ServerStatus;
use crate::confine::{ConfineError, Confinement, confine_thread};
use crate::passthrough::PassthroughFs;
use crate::server::Server;

/// How a thread is confined to a share: [`confine_thread`], or a test's replacement.
pub(super) type Confine = fn(&PassthroughFs) -> Result<Confinement, ConfineError>;

/// What a server needs, whether in a thread or in a process of its own.
#[derive(Debug)]
pub struct ServerInput {
    /// What is served, opened already.
    pub fs: PassthroughFs,
    /// Where the one connection comes in ([`connected_listener`](super::connected_listener)).
    pub listener: UnixListener,
    /// Processors of the machine.
    pub processors: usize,
    /// The filters of its threads; `None` if the kernel has none.
    pub filters: Option<Filters>,
}

/// Serves one connection until the VMM closes it: the main loop of a thread in a server
/// process.
///
/// Confines the calling thread irrevocably, and calls `started` once the connection is up.
///
/// # Errors
/// If the thread cannot be confined, or there is no connection.
/// How the connection ends is no error ([`ServerStatus::fault`] tells).
pub fn serve(input: ServerInput, started: impl FnOnce(ServerStatus)) -> Result<(), StartError> {
    let worker = Worker {
        server: Server::new(input.fs),
        confine: confine_thread,
        processors: input.processors,
        filters: input.filters,
        listener: input.listener,
        fault: Arc::default(),
    };
    worker.run(|status, _| started(status))
}

/// A server that is ready to run.
pub(super) struct Worker {
    pub(super) server: Server<PassthroughFs>,
    pub(super) confine: Confine,
    pub(super) processors: usize,
    pub(super) filters: Option<Filters>,
    pub(super) listener: UnixListener,
    pub(super) fault: Arc<Fault>,
}

impl Worker {
    /// Serves until the connection ends. Calls `started` once it is up, with what ends it from
    /// another thread.
    pub(super) fn run(
        self,
        started: impl FnOnce(ServerStatus, ShutdownHandle),
    ) -> Result<(), StartError> {
        let status = ServerStatus {
            confinement: (self.confine)(self.server.file_system())?,
            traffic: self.server.traffic(),
            fault: Arc::clone(&self.fault),
        };
        if let Some(filters) = &self.filters {
            filters.install_start()?;
        }
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let backend = Arc::new(Backend::new(
            self.server,
            memory.clone(),
            self.processors,
            self.filters,
            Arc::clone(&self.fault),
        ));
        let flags = EventFlag::NONBLOCK | EventFlag::CLOEXEC;
        let (stopped, stop) =
            new_event_consumer_and_notifier(flags).map_err(StartError::io("create an event"))?;
        // The queue worker starts here and inherits the confinement.
        let mut daemon = VhostUserDaemon::new(String::from("virtiofs-io"), backend, memory)?;
        for worker in daemon.get_epoll_handlers() {
            let added = worker.register_listener(stopped.as_raw_fd(), EventSet::IN, STOP.into());
            if let Err(source) = added {
                // Dropping it would wait for the queue worker, which cannot be stopped now.
                std::mem::forget(daemon);
                return Err(StartError::io("watch an event")(source));
            }
        }
        let result = serve_connection(&mut daemon, self.listener, |handle| {
            started(status, handle);
        });
        // A guest that never pauses must not keep the queue worker from seeing the event.
        self.fault.stop();
        if let Err(error) = stop.notify() {
            log::warn!("cannot stop the threads of a share: {error}");
            std::mem::forget(daemon);
        }
        result
    }
}

fn serve_connection(
    daemon: &mut VhostUserDaemon<Arc<Backend>>,
    listener: UnixListener,
    started: impl FnOnce(ShutdownHandle),
) -> Result<(), StartError> {
    daemon.start(&mut listener.into())?;
    let handle = daemon
        .shutdown_handle()
        .ok_or_else(|| StartError::Protocol(String::from("no connection")))?;
    started(handle);
    // Any end is the same to the server: the VMM is gone, or was told to go.
    if let Err(error) = daemon.wait() {
        log::debug!("the vhost-user connection has ended: {error}");
    }
    Ok(())
}
