//! Resource limits of a jailed process.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Resource limits (getrlimit(2)). `None` leaves what the process inherited; no limit is ever
/// raised over the inherited hard limit. There are never core dumps, which would contain what the
/// process works on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open descriptors, at most. The soft limit is raised to it as far as the hard one allows.
    pub open_files: Option<u64>,
    /// Address space in bytes; an allocation beyond it fails.
    pub memory: Option<u64>,
    /// Length of a file in bytes; a write beyond it fails with EFBIG.
    pub file_size: Option<u64>,
    /// Processor time. The process is killed when it is used up (SIGXCPU), in whole seconds.
    pub processor: Option<Duration>,
}

impl Limits {
    pub(crate) fn apply(&self) -> nix::Result<()> {
        limit(Resource::RLIMIT_CORE, Some(0))?;
        limit(Resource::RLIMIT_NOFILE, self.open_files)?;
        limit(Resource::RLIMIT_AS, self.memory)?;
        limit(Resource::RLIMIT_FSIZE, self.file_size)?;
        // At least one second: with 0 the process would be killed at once.
        let seconds = self.processor.map(|time| time.as_secs().max(1));
        // At the hard limit it would be SIGKILL, which tells the parent nothing (getrlimit(2)).
        limits(Resource::RLIMIT_CPU, seconds, 1)
    }
}

/// Sets the soft and the hard limit.
fn limit(resource: Resource, wanted: Option<rlim_t>) -> nix::Result<()> {
    limits(resource, wanted, 0)
}

/// Sets the soft limit, and the hard one to `more` than that.
fn limits(resource: Resource, wanted: Option<rlim_t>, more: rlim_t) -> nix::Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let (_, hard) = getrlimit(resource)?;
    setrlimit(
        resource,
        wanted.min(hard),
        wanted.saturating_add(more).min(hard),
    )
}
