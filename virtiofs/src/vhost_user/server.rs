//! A server in a thread of this process.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use vhost_user_backend::ShutdownHandle;

use super::error::StartError;
use super::filters::Filters;
use super::socket::connected_listener;
use super::status::ServerStatus;
use super::worker::{Confine, Worker};
use crate::confine::confine_thread;
use crate::passthrough::PassthroughFs;
use crate::server::Server;
use crate::share::Share;

/// Which of its locks a server has.
#[cfg(feature = "unchecked-names")]
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locks {
    /// Names from the guest are checked.
    pub checked_names: bool,
    /// The kernel confines the threads, to the share and to the system calls that they need.
    pub confined: bool,
}

/// A share that is being served. Dropping it closes the connection and waits for the threads.
pub struct ShareServer {
    connection: ShutdownHandle,
    thread: Option<JoinHandle<()>>,
    status: ServerStatus,
}

impl std::fmt::Debug for ShareServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShareServer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl ShareServer {
    /// Starts a server, without filters of system calls: a thread that breaks them would end the
    /// process. Returns its handle and the VMM's end of the connection.
    ///
    /// # Errors
    /// If the directory cannot be shared, or threads and sockets cannot be created.
    pub fn start(share: Share) -> Result<(ShareServer, UnixStream), StartError> {
        Self::spawn(
            Server::new(PassthroughFs::new(share)?),
            confine_thread,
            None,
        )
    }

    /// Starts a server without some of its locks. For the test that each one closes the share
    /// alone, and that the test would notice if none did.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[cfg(feature = "unchecked-names")]
    #[doc(hidden)]
    pub fn start_with_locks(
        share: Share,
        locks: Locks,
    ) -> Result<(ShareServer, UnixStream), StartError> {
        let fs = PassthroughFs::new(share)?;
        let server = if locks.checked_names {
            Server::new(fs)
        } else {
            Server::with_unchecked_names(fs)
        };
        if locks.confined {
            Self::spawn(server, confine_thread, Some(Filters::new()?))
        } else {
            let confine: Confine = |_| Ok(crate::confine::Confinement::Unavailable);
            Self::spawn(server, confine, None)
        }
    }

    fn spawn(
        server: Server<PassthroughFs>,
        confine: Confine,
        filters: Option<Filters>,
    ) -> Result<(ShareServer, UnixStream), StartError> {
        let (listener, end) =
            connected_listener().map_err(StartError::io("make a private socket"))?;
        let worker = Worker {
            server,
            confine,
            // Confinement hides the files that tell the limits of a container.
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            filters,
            listener,
            fault: Arc::default(),
        };
        let (sender, started) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(String::from("virtiofs"))
            .spawn(move || {
                let result = worker.run(|status, connection| {
                    let _ = sender.send(Ok((status, connection)));
                });
                if let Err(error) = result {
                    let _ = sender.send(Err(error));
                }
            })
            .map_err(StartError::io("start a thread"))?;
        let (status, connection) = started
            .recv()
            .unwrap_or_else(|_| Err(StartError::Protocol(String::from("the thread ended"))))?;
        Ok((
            ShareServer {
                connection,
                thread: Some(thread),
                status,
            },
            end,
        ))
    }

    /// Returns the state of the server.
    pub fn status(&self) -> &ServerStatus {
        &self.status
    }
}

impl Drop for ShareServer {
    fn drop(&mut self) {
        self.connection.shutdown();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add here.
            let _ = thread.join();
        }
    }
}
