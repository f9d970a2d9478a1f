//! Locks the process.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::allocator;
use crate::capabilities::Capabilities;
use crate::files::{self, FileAccess, FilesError, Landlock, TcpAccess};
use crate::limits::Limits;
use crate::seccomp;

/// What a process may reach when it is locked. The default is nothing by name, no network and no
/// capability; what is open stays usable.
#[derive(Debug, Default)]
pub struct Jail<'a> {
    /// Files and folders that are opened by name later.
    pub files: Vec<(BorrowedFd<'a>, FileAccess)>,
    /// New connections.
    pub tcp: TcpAccess,
    /// Resource limits.
    pub limits: Limits,
    /// What is left of root's rights.
    pub capabilities: Capabilities,
}

/// How far a process is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// Names of files, and TCP.
    pub landlock: Landlock,
    /// Whether the kernel has filters of system calls.
    pub seccomp: bool,
}

impl Confinement {
    /// Returns how far this host can confine a process.
    pub fn of_host() -> Confinement {
        Confinement {
            landlock: Landlock::of_host(),
            seccomp: seccomp::is_available(),
        }
    }

    /// Returns what is missing, in words for the user; `None` if nothing is.
    pub fn weakness(self) -> Option<String> {
        let landlock = match self.landlock {
            Landlock::Enforced(_) => None,
            Landlock::TooOld => {
                Some("its Landlock cannot be used (it is that of Linux 5.13 to 5.18)")
            }
            Landlock::Unavailable => Some(
                "it has no Landlock (Linux 5.19 or newer with CONFIG_SECURITY_LANDLOCK, and \
                 'landlock' in /sys/kernel/security/lsm)",
            ),
        };
        let seccomp =
            (!self.seccomp).then_some("it has no filters of system calls (CONFIG_SECCOMP_FILTER)");
        let missing: Vec<&str> = landlock.into_iter().chain(seccomp).collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

/// The process cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// A limit or an attribute of the process.
    #[error("cannot {action} of the jailed process")]
    Process {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: nix::Error,
    },
    /// The capabilities of the process.
    #[error("cannot drop the capabilities of the jailed process")]
    Capabilities(#[source] std::io::Error),
    /// See [`FilesError`].
    #[error("cannot confine the jailed process with Landlock")]
    Files(#[from] FilesError),
    /// See [`seccomp::FilterError`].
    #[error(transparent)]
    Filter(#[from] seccomp::FilterError),
}

impl<'a> Jail<'a> {
    /// Lets the process open `file` and what is beneath it by name.
    #[must_use]
    pub fn allow(mut self, file: &'a impl AsFd, access: FileAccess) -> Jail<'a> {
        self.files.push((file.as_fd(), access));
        self
    }

    /// Locks this process, irrevocably. Must be called before it has a second thread.
    ///
    /// After this the process gains no privileges by exec, leaves no core dump, and cannot be
    /// traced; limits hold; files are only opened beneath [`Jail::files`]. Threads are made by
    /// clone(2), whose flags the filters of threads see, and not by clone3(2).
    ///
    /// # Errors
    /// If the kernel has one of these and refuses it. The process must end then.
    pub fn lock(&self) -> Result<Confinement, JailError> {
        let process = |action| move |source| JailError::Process { action, source };
        self.limits.apply().map_err(process("set the limits"))?;
        self.capabilities.apply().map_err(JailError::Capabilities)?;
        // SAFETY: it sets no handler.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }
            .map_err(process("set the signals"))?;
        prctl::set_dumpable(false).map_err(process("forbid core dumps"))?;
        prctl::set_no_new_privs().map_err(process("forbid new privileges"))?;
        let landlock = files::restrict(&self.files, self.tcp)?;
        let seccomp = seccomp::is_available();
        if seccomp {
            allocator::open_no_files();
            seccomp::prepare()?;
        }
        Ok(Confinement { landlock, seccomp })
    }
}
