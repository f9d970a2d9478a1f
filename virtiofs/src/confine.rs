//! Confines the serving threads to the shared directory, in the kernel.
//!
//! This is the second of two independent locks; the first is the check of names from the guest
//! ([`Name`](crate::fuse::name::Name)). Each one alone keeps a guest inside of the share.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use crate::passthrough::PassthroughFs;

/// Result of [`confine_thread`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// The kernel enforces that the thread stays inside of the share.
    Landlock,
    /// This kernel has no Landlock, or it is disabled; names are still checked.
    Unavailable,
    /// This kernel's Landlock (ABI 1, Linux 5.13 to 5.18) refuses every rename between two
    /// directories, so it is not used; names are still checked.
    TooOld,
}

impl Confinement {
    /// Whether the kernel enforces the confinement.
    pub fn is_enforced(self) -> bool {
        self == Self::Landlock
    }

    /// Returns the result that [`confine_thread`] would have on this host.
    pub fn supported() -> Self {
        let has = |abi| {
            Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(AccessFs::from_all(abi))
                .and_then(Ruleset::create)
                .is_ok()
        };
        if has(OLDEST_ABI) {
            Self::Landlock
        } else if has(ABI::V1) {
            Self::TooOld
        } else {
            Self::Unavailable
        }
    }
}

/// A thread cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// unshare(2) failed.
    #[error("cannot give the serving thread its own umask: {0}")]
    Unshare(nix::Error),
    /// The kernel has Landlock but refused the rules.
    #[error("cannot confine the serving thread with Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
}

/// The newest Landlock ABI whose rights are used (Linux 6.10: devices' ioctls); an older kernel
/// uses those that it knows.
const NEWEST_ABI: ABI = ABI::V5;
/// The oldest useful one (Linux 5.19): can allow renames between directories.
const OLDEST_ABI: ABI = ABI::V2;

/// Confines the calling thread, and threads that it starts later, irrevocably to the share of `fs`.
///
/// The thread gets its own umask (0, so that modes of new files are the guest's). By Landlock it
/// may open, create, rename and remove files only beneath the share's root, execute none, create
/// no device, and use no TCP. Files that are open already stay usable. Landlock needs no
/// privilege.
///
/// The caller shall tell its user if the result is not [`Confinement::Landlock`].
///
/// # Errors
/// If the kernel refuses; the thread must then not serve.
pub fn confine_thread(fs: &PassthroughFs) -> Result<Confinement, ConfineError> {
    own_umask(unshare(CloneFlags::CLONE_FS))?;

    let supported = Confinement::supported();
    if !supported.is_enforced() {
        return Ok(supported);
    }

    let allowed = allowed(fs.share().read_only);
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST_ABI))?
        .handle_access(AccessNet::from_all(NEWEST_ABI))?
        .create()?
        .add_rule(PathBeneath::new(fs.root(), allowed))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::NotEnforced => Confinement::Unavailable,
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Confinement::Landlock,
    })
}

/// Sets the umask to 0: of this thread if it has been `unshared`, else of the whole process. Profiles of
/// containers (Docker's, for one) forbid every unshare(2) to those who are not root of the host. The server
/// runs in a process of its own, and what else that creates is in folders of the user alone.
fn own_umask(unshared: nix::Result<()>) -> Result<(), ConfineError> {
    match unshared {
        Ok(()) | Err(Errno::EPERM | Errno::ENOSYS) => {
            umask(Mode::empty());
            Ok(())
        }
        Err(error) => Err(ConfineError::Unshare(error)),
    }
}

/// Returns the rights of the thread beneath the root.
fn allowed(read_only: bool) -> BitFlags<AccessFs> {
    if read_only {
        return AccessFs::ReadFile | AccessFs::ReadDir;
    }
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    AccessFs::from_all(NEWEST_ABI) & !never
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E9: in a container whose profile forbids unshare(2), no build started.
    #[test]
    fn a_profile_that_forbids_unshare_stops_no_share() {
        // The umask is that of this test's process: it is put back.
        let before = umask(Mode::empty());
        let set = |unshared| {
            umask(before);
            let done = own_umask(unshared);
            let now = umask(before);
            done.map(|()| now)
        };
        for unshared in [Ok(()), Err(Errno::EPERM), Err(Errno::ENOSYS)] {
            assert_eq!(set(unshared).unwrap(), Mode::empty());
        }
        assert!(set(Err(Errno::ENOMEM)).is_err());
    }
}
