//! The vhost-user door: serves a share to a VMM in another process.
//!
//! One connection is served, by threads of this process that are confined to the share. The
//! socket has a name only while the connection is made, in a private directory.

mod device;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use vhost_user_backend::{ShutdownHandle, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventFlag, new_event_consumer_and_notifier};

use crate::config::ShareConfig;
use crate::confine::{ConfineError, Confinement, confine_thread};
use crate::passthrough::{PassthroughFs, ShareError};
use crate::server::Server;
use crate::traffic::Traffic;
use device::{Device, STOP};

/// A share cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The confinement of the serving thread.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// A socket or thread.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The vhost-user protocol.
    #[error("cannot serve vhost-user: {0}")]
    Protocol(String),
}

/// A share that is being served. Dropping it ends that.
#[derive(Debug)]
pub struct ShareServer {
    stop: Option<Stop>,
    thread: Option<JoinHandle<()>>,
    confinement: Confinement,
    fault: Arc<Fault>,
    traffic: Traffic,
}

/// Whether the serving has stopped, and why, if it did so by itself.
#[derive(Debug, Default)]
struct Fault {
    stopped: AtomicBool,
    text: Mutex<Option<String>>,
}

impl Fault {
    fn set(&self, text: String) {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(text);
        self.stop();
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Ends the connection from outside of the serving thread.
struct Stop(ShutdownHandle);

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stop")
    }
}

impl ShareServer {
    /// Starts to serve. Returns the handle and the other end of the connection, for the VMM.
    ///
    /// # Errors
    /// If the directory cannot be shared, or threads and sockets cannot be made.
    pub fn start(config: ShareConfig) -> Result<(ShareServer, UnixStream), StartError> {
        let server = Server::new(PassthroughFs::new(config.clone())?);
        Self::serve(config, server, confine_thread)
    }

    /// Starts to serve with only some of the locks. For the test that each closes the share
    /// alone, and that the test would notice if none did.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[cfg(feature = "unchecked-names")]
    #[doc(hidden)]
    pub fn start_with_locks(
        config: ShareConfig,
        checked_names: bool,
        confined: bool,
    ) -> Result<(ShareServer, UnixStream), StartError> {
        let fs = PassthroughFs::new(config.clone())?;
        let server = if checked_names {
            Server::new(fs)
        } else {
            Server::with_unchecked_names(fs)
        };
        if confined {
            Self::serve(config, server, confine_thread)
        } else {
            Self::serve(config, server, |_| Ok(Confinement::Unavailable))
        }
    }

    fn serve(
        config: ShareConfig,
        server: Server<PassthroughFs>,
        confine: fn(&ShareConfig) -> Result<Confinement, ConfineError>,
    ) -> Result<(ShareServer, UnixStream), StartError> {
        let io = |action| move |source| StartError::Io { action, source };
        let (listener, end) = connection().map_err(io("make a private socket"))?;
        let fault = Arc::new(Fault::default());
        let traffic = server.traffic();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let serving = Serving {
            config,
            confine,
            server,
            listener,
            fault: Arc::clone(&fault),
        };
        let thread = std::thread::Builder::new()
            .name(String::from("virtiofs"))
            .spawn(move || serving.run(&ready))
            .map_err(io("start a thread"))?;
        let (confinement, stop) = is_ready
            .recv()
            .unwrap_or_else(|_| Err(StartError::Protocol(String::from("the thread ended"))))?;
        Ok((
            ShareServer {
                stop: Some(stop),
                thread: Some(thread),
                confinement,
                fault,
                traffic,
            },
            end,
        ))
    }

    /// Whether the kernel keeps the serving threads inside of the share.
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// How much of its files the guest has read and written.
    pub fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// Why the share does not work any more: the guest's driver broke the rules of the
    /// device. The guest waits for answers that will not come.
    pub fn fault(&self) -> Option<String> {
        if !self.fault.is_stopped() {
            return None;
        }
        self.fault
            .text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for ShareServer {
    fn drop(&mut self) {
        if let Some(Stop(stop)) = self.stop.take() {
            stop.shutdown();
        }
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add here.
            let _ = thread.join();
        }
    }
}

/// A listener with one connection waiting, and the other end of that.
fn connection() -> io::Result<(UnixListener, UnixStream)> {
    let dir = tempfile::Builder::new().prefix("boxbuild-").tempdir()?;
    // A socket's name has at most 107 bytes (unix(7)); TMPDIR may be longer than that.
    let handle = std::fs::File::open(dir.path())?;
    let name = format!("/proc/self/fd/{}/share", handle.as_raw_fd());
    let listener = UnixListener::bind(&name)?;
    let end = UnixStream::connect(&name)?;
    dir.close()?;
    Ok((listener, end))
}

/// What the serving thread owns.
struct Serving {
    config: ShareConfig,
    confine: fn(&ShareConfig) -> Result<Confinement, ConfineError>,
    server: Server<PassthroughFs>,
    listener: UnixListener,
    fault: Arc<Fault>,
}

type Ready = Result<(Confinement, Stop), StartError>;

impl Serving {
    fn run(self, ready: &SyncSender<Ready>) {
        // Asked before the confinement, which hides the files that tell of limits.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let confinement = match (self.confine)(&self.config) {
            Ok(confinement) => confinement,
            Err(error) => {
                let _ = ready.send(Err(error.into()));
                return;
            }
        };
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let device = Arc::new(Device::new(
            self.server,
            memory.clone(),
            processors,
            Arc::clone(&self.fault),
        ));
        let protocol = |error: vhost_user_backend::Error| StartError::Protocol(error.to_string());
        let events = new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC);
        let (stopped, stop) = match events {
            Ok(events) => events,
            Err(source) => {
                let action = "make an event";
                let _ = ready.send(Err(StartError::Io { action, source }));
                return;
            }
        };
        // The worker threads start here and inherit the confinement.
        let mut daemon = match VhostUserDaemon::new(String::from("virtiofs-io"), device, memory) {
            Ok(daemon) => daemon,
            Err(error) => {
                let _ = ready.send(Err(protocol(error)));
                return;
            }
        };
        for worker in daemon.get_epoll_handlers() {
            let event = worker.register_listener(stopped.as_raw_fd(), EventSet::IN, STOP.into());
            if let Err(source) = event {
                let action = "watch an event";
                let _ = ready.send(Err(StartError::Io { action, source }));
                // Would wait for ever for the workers, which cannot be told to end.
                std::mem::forget(daemon);
                return;
            }
        }
        let mut listener = self.listener.into();
        let started = daemon
            .start(&mut listener)
            .map_err(protocol)
            .and_then(|()| {
                daemon
                    .shutdown_handle()
                    .map(|handle| (confinement, Stop(handle)))
                    .ok_or_else(|| StartError::Protocol(String::from("no connection")))
            });
        let good = started.is_ok();
        let _ = ready.send(started);
        if good {
            // However the connection ends: the VMM is gone, or is told to go.
            if let Err(error) = daemon.wait() {
                log::debug!("vhost-user connection ended: {error}");
            }
        }
        // A guest that never pauses must not keep the workers from looking at the event.
        self.fault.stop();
        if let Err(error) = stop.notify() {
            log::warn!("cannot end the threads of a share: {error}");
            std::mem::forget(daemon);
        }
    }
}
