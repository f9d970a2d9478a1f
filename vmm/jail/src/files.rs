//! What of the file system and of TCP a jailed process reaches by name: Landlock.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use nix::sys::stat::{SFlag, fstat};

/// The newest Landlock ABI whose rights are used (Linux 7.2). An older kernel uses those that it
/// knows.
const NEWEST: ABI = ABI::V10;

/// The oldest ABI that is used (Linux 5.19): ABI 1 refuses every rename between two folders.
const OLDEST: ABI = ABI::V2;

/// What a process may do with an open file or folder, and everything beneath it, by name. What is
/// open already stays usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAccess {
    /// Read files and list folders.
    Read,
    /// Also write, create, rename and remove; never execute, make a device, send an ioctl to one,
    /// or connect to a socket.
    Write,
}

impl FileAccess {
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            FileAccess::Read => AccessFs::ReadFile | AccessFs::ReadDir,
            FileAccess::Write => {
                let never = AccessFs::Execute
                    | AccessFs::MakeChar
                    | AccessFs::MakeBlock
                    | AccessFs::IoctlDev
                    | AccessFs::ResolveUnix;
                AccessFs::from_all(NEWEST) & !never
            }
        }
    }
}

/// What a process may do over TCP and UDP with new sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TcpAccess {
    /// Neither listen nor connect.
    #[default]
    None,
    /// Connect to any address, but not listen.
    Connect,
}

/// How much of it the kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landlock {
    /// Landlock with this ABI or a newer one, up to the newest that is used. What an older one does
    /// not know (TCP from 4, ioctl from 5, signals and abstract sockets from 6) is closed by the
    /// filters of system calls alone.
    Enforced(u8),
    /// Linux 5.13 to 5.18, whose Landlock refuses every rename between two folders. Not used.
    TooOld,
    /// There is no Landlock, or it is switched off.
    Unavailable,
}

impl Landlock {
    /// Returns what this host has.
    pub fn of_host() -> Landlock {
        match kernel_abi() {
            0 => Landlock::Unavailable,
            abi if abi < OLDEST as u8 => Landlock::TooOld,
            abi => Landlock::Enforced(abi.min(NEWEST as u8)),
        }
    }
}

/// Returns the ABI of the kernel's Landlock, 0 without one.
fn kernel_abi() -> u8 {
    /// Asks for the version (linux/landlock.h).
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no structure (landlock_create_ruleset(2)).
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    };
    // It is -1 where there is none.
    u8::try_from(abi.clamp(0, i64::from(u8::MAX) as libc::c_long)).unwrap_or_default()
}

/// Why the kernel refused the rules.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// An open file of the rules cannot be looked at.
    #[error("cannot look at a file of the rules")]
    Look(#[source] nix::Error),
    /// Landlock refuses.
    #[error(transparent)]
    Landlock(#[from] RulesetError),
}

/// Restricts the calling thread, and those it starts, to `rules`. It cannot be undone.
pub(crate) fn restrict(
    rules: &[(BorrowedFd<'_>, FileAccess)],
    tcp: TcpAccess,
) -> Result<Landlock, FilesError> {
    let level = Landlock::of_host();
    if !matches!(level, Landlock::Enforced(_)) {
        return Ok(level);
    }
    let mut net = AccessNet::from_all(NEWEST);
    if tcp == TcpAccess::Connect {
        // A UDP socket is bound by the kernel when it first sends, which is a bind as well.
        net = AccessNet::BindTcp.into();
    }
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(net)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (fd, access) in rules {
        let kind = SFlag::from_bits_truncate(fstat(fd).map_err(FilesError::Look)?.st_mode);
        let mut rights = access.rights();
        if !kind.contains(SFlag::S_IFDIR) {
            rights &= AccessFs::from_file(NEWEST);
        }
        ruleset = ruleset.add_rule(PathBeneath::new(fd, rights))?;
    }
    ruleset.restrict_self()?;
    Ok(level)
}
