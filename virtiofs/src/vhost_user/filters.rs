//! The system calls of a server's threads.
//!
//! The threads of a connection start each other, so that the first one's filter has what all of
//! them need. Each of the other two makes its own narrower as soon as it gets to code of ours.

use std::sync::Arc;

use boxbuild_jail::seccomp::Check::{Is, Without};
use boxbuild_jail::seccomp::{COMMON, Condition, FILTER_SETUP, Filter, FilterError, Rule, SPAWN};

use crate::system_calls::SERVE;

/// To wait for the driver's events.
const EVENTS: &[Rule] = &[
    // The seed of a hash map.
    Rule::any(libc::SYS_getrandom),
    #[cfg(target_arch = "x86_64")]
    Rule::any(libc::SYS_epoll_wait),
    // On architectures that have nothing else.
    #[cfg(not(target_arch = "x86_64"))]
    Rule::any(libc::SYS_epoll_pwait),
];

/// To speak vhost-user: messages with descriptors, and the guest's memory.
const PROTOCOL: &[Rule] = &[
    Rule::any(libc::SYS_recvmsg),
    Rule::any(libc::SYS_sendmsg),
    Rule::any(libc::SYS_epoll_ctl),
    Rule::any(libc::SYS_lseek),
    Rule::when(
        libc::SYS_mmap,
        &[
            Condition::new(2, Without(libc::PROT_EXEC as u32)),
            Condition::new(3, Is((libc::MAP_SHARED | libc::MAP_NORESERVE) as u32)),
        ],
    ),
    Rule::any(libc::SYS_shutdown),
];

/// To set up the one connection.
const START: &[Rule] = &[
    Rule::any(libc::SYS_accept4),
    Rule::any(libc::SYS_epoll_create1),
    Rule::any(libc::SYS_eventfd2),
    Rule::when(
        libc::SYS_fcntl,
        &[Condition::new(1, Is(libc::F_DUPFD_CLOEXEC as u32))],
    ),
];

/// What each kind of thread may call. Clones are the same filters.
#[derive(Debug, Clone)]
pub struct Filters(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    start: Filter,
    protocol: Filter,
    queues: Filter,
}

impl Filters {
    /// Compiles the filters.
    ///
    /// # Errors
    /// If they cannot be compiled.
    pub fn new() -> Result<Filters, FilterError> {
        let start = [COMMON, SPAWN, FILTER_SETUP, START, PROTOCOL, EVENTS, SERVE];
        Ok(Filters(Arc::new(Compiled {
            start: Filter::compile(&start)?,
            protocol: Filter::compile(&[COMMON, PROTOCOL])?,
            queues: Filter::compile(&[COMMON, EVENTS, SERVE])?,
        })))
    }

    /// Installs the filter of the thread that sets the connection up.
    pub(super) fn install_start(&self) -> Result<(), FilterError> {
        self.0.start.install("share")
    }

    /// Installs the filter of the thread that speaks vhost-user.
    pub(super) fn install_protocol(&self) -> Result<(), FilterError> {
        self.0.protocol.install("share protocol")
    }

    /// Installs the filter of the thread that serves the queues.
    pub(super) fn install_queues(&self) -> Result<(), FilterError> {
        self.0.queues.install("share queues")
    }
}
