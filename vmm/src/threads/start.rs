//! Starting threads, and what each does first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use boxbuild_jail::seccomp::{Filter, FilterError};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::calls;
use super::role::Role;
use crate::virtio::Kind;

/// Work for the thread that starts others.
type Start = Box<dyn FnOnce() + Send>;

/// How the threads of a machine are started. Clones are the same. The default starts them anywhere
/// and lets them make any system call.
#[derive(Debug, Clone, Default)]
pub struct Threads(Option<Arc<Confined>>);

#[derive(Debug)]
struct Confined {
    filters: Filters,
    starts: Mutex<Sender<Start>>,
    wake: EventFd,
}

/// One filter for each kind of thread.
#[derive(Debug)]
struct Filters {
    vcpu: Filter,
    unpack: Filter,
    devices: Vec<(Kind, Filter)>,
}

/// Starts the threads that [`Threads`] are asked for, on the thread that serves it.
#[derive(Debug)]
pub struct Starter {
    starts: Receiver<Start>,
    wake: EventFd,
    filter: Filter,
}

/// Threads cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum ThreadsError {
    /// See [`FilterError`].
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The host has no event descriptor left.
    #[error("cannot make an event for the start of threads")]
    Event(#[source] io::Error),
}

impl Threads {
    /// Returns threads with filters, and what starts them.
    ///
    /// # Errors
    /// If the host has no descriptor left.
    pub fn confined() -> Result<(Threads, Starter), ThreadsError> {
        let wake = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(ThreadsError::Event)?;
        let devices: Result<Vec<_>, FilterError> = Kind::ALL
            .iter()
            .map(|kind| Ok((*kind, Filter::compile(&calls::of(Role::Device(*kind)))?)))
            .collect();
        let filters = Filters {
            vcpu: Filter::compile(&calls::of(Role::Vcpu))?,
            unpack: Filter::compile(&calls::of(Role::Unpack))?,
            devices: devices?,
        };
        let (sender, starts) = channel();
        let starter = Starter {
            starts,
            wake: wake.try_clone().map_err(ThreadsError::Event)?,
            filter: Filter::compile(&calls::of_main())?,
        };
        let confined = Confined {
            filters,
            starts: Mutex::new(sender),
            wake,
        };
        Ok((Threads(Some(Arc::new(confined))), starter))
    }

    /// Runs `start`, which starts threads, where those may be started, and waits for its result.
    ///
    /// # Errors
    /// If the thread that does it is gone.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        start: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let Some(confined) = &self.0 else {
            return Ok(start());
        };
        let (sender, result) = channel();
        confined.send(Box::new(move || {
            // The other thread may be gone.
            let _ = sender.send(start());
        }))?;
        result.recv().map_err(|_| gone())
    }

    /// The same without waiting, for threads that their caller can do without: the thread that starts
    /// others may just be waiting for the caller.
    ///
    /// # Errors
    /// If the thread that does it is gone.
    pub(crate) fn post(&self, start: impl FnOnce() + Send + 'static) -> io::Result<()> {
        match &self.0 {
            Some(confined) => confined.send(Box::new(start)),
            None => {
                start();
                Ok(())
            }
        }
    }

    /// Locks the calling thread to the system calls of its role, irrevocably.
    ///
    /// # Errors
    /// If the kernel refuses; the thread must not go on then.
    pub fn enter(&self, role: Role, name: &str) -> io::Result<()> {
        let Some(confined) = &self.0 else {
            return Ok(());
        };
        let filters = &confined.filters;
        let filter = match role {
            Role::Vcpu => Some(&filters.vcpu),
            Role::Unpack => Some(&filters.unpack),
            Role::Device(wanted) => {
                let mut devices = filters.devices.iter();
                devices.find_map(|(kind, filter)| (*kind == wanted).then_some(filter))
            }
        };
        let filter = filter.ok_or_else(|| io::Error::other("there is no filter for a thread"))?;
        filter.install(name).map_err(io::Error::other)
    }
}

impl Confined {
    fn send(&self, start: Start) -> io::Result<()> {
        let starts = self.starts.lock();
        let sent = starts.unwrap_or_else(PoisonError::into_inner).send(start);
        sent.map_err(|_| gone())?;
        self.wake.write(1)
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts others is gone")
}

impl Starter {
    /// Locks the calling thread to what it takes to serve this, and to talk to its parent.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lock(&self, name: &str) -> Result<(), FilterError> {
        self.filter.install(name)
    }

    /// Does what has been asked for, when its descriptor is readable.
    pub fn serve(&self) {
        // An error means that another wake-up has been served already.
        let _ = self.wake.read();
        while let Ok(start) = self.starts.try_recv() {
            start();
        }
    }
}

impl AsFd for Starter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.wake.as_raw_fd()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn free_threads_are_started_where_they_are_wanted() {
        let here = std::thread::current().id();
        let there = Threads::default().start(|| std::thread::current().id());
        assert_eq!(there.unwrap(), here);
    }

    #[test]
    fn confined_threads_are_started_by_the_starter_alone() {
        let (threads, starter) = Threads::confined().unwrap();
        let wants = threads.clone();
        let wanting = std::thread::spawn(move || wants.start(|| std::thread::current().id()));
        while !wanting.is_finished() {
            starter.serve();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(
            wanting.join().unwrap().unwrap(),
            std::thread::current().id()
        );
        drop(starter);
        assert!(threads.start(|| ()).is_err());
    }
}
