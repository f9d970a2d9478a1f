//! What a process of root may do beyond what any user may (capabilities(7)).

use std::io;

/// Capabilities that a process keeps. A process of any other user has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Capabilities {
    /// To read, write and change files of any owner, as root expects of a program that serves
    /// folders.
    Files,
    /// None.
    #[default]
    None,
}

/// Version of the structures (Linux `uapi/linux/capability.h`, `_LINUX_CAPABILITY_VERSION_3`).
const VERSION: u32 = 0x2008_0522;

/// CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER (the same file).
const FILES: u32 = 1 << 1 | 1 << 2 | 1 << 3;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl Capabilities {
    /// Gives up all others, for the calling thread.
    pub(crate) fn apply(self) -> io::Result<()> {
        let kept = match self {
            Capabilities::Files => FILES,
            Capabilities::None => 0,
        };
        let header = Header {
            version: VERSION,
            pid: 0,
        };
        let mut sets = [Sets::default(); 2];
        // SAFETY: the structures are those of this version, and live during the call.
        check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) })?;
        let had = sets.map(|set| set.permitted);
        sets = [Sets::default(); 2];
        for (set, had, kept) in [(0, had[0], kept), (1, had[1], 0)] {
            sets[set].permitted = had & kept;
            sets[set].effective = had & kept;
        }
        // SAFETY: as above.
        check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
