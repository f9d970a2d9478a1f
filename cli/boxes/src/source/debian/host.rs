//! What making a box needs of the host.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{User, getuid};

use super::CreateError;
use boxbuild_host::arch::Arch;
use boxbuild_host::ids::has_subordinate_ids;

/// Programs, and the Debian packages that bring them.
const PROGRAMS: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("sfdisk", "fdisk"),
    ("qemu-img", "qemu-utils"),
    ("tar", "tar"),
    ("python3", "python3-pip"),
    ("unshare", "util-linux"),
];

/// Programs that make a disk of a root tree.
const PROGRAMS_FOR_DISKS: &[(&str, &str)] = &[
    ("mke2fs", "e2fsprogs"),
    ("sfdisk", "fdisk"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
];

/// Programs that only a normal user needs.
const PROGRAMS_OF_USERS: &[(&str, &str)] = &[("newuidmap", "uidmap"), ("newgidmap", "uidmap")];

/// Programs that a box of another architecture needs: mmdebstrap asks it what the host runs.
const PROGRAMS_FOR_FOREIGN: &[(&str, &str)] = &[("arch-test", "arch-test")];

/// The host, found good enough.
#[derive(Debug)]
pub(super) struct Host {
    path: OsString,
    root: bool,
}

impl Host {
    /// Checks everything that can be checked before anything is done, for a box of `arch`.
    pub(super) fn examine(arch: Arch) -> Result<Host, CreateError> {
        let foreign = if arch == Arch::host() {
            &[][..]
        } else {
            PROGRAMS_FOR_FOREIGN
        };
        Host::examine_for(&[PROGRAMS, foreign])
    }

    /// The same for what making a disk of a root tree needs.
    pub(super) fn examine_for_disk() -> Result<Host, CreateError> {
        Host::examine_for(&[PROGRAMS_FOR_DISKS])
    }

    fn examine_for(programs: &[&[(&'static str, &'static str)]]) -> Result<Host, CreateError> {
        let host = Host {
            path: search_path(),
            root: getuid().is_root(),
        };
        let users = if host.root {
            &[][..]
        } else {
            PROGRAMS_OF_USERS
        };
        let missing: Vec<_> = programs
            .iter()
            .copied()
            .flatten()
            .chain(users)
            .filter(|(program, _)| host.find(program).is_none())
            .collect();
        if !missing.is_empty() {
            let join = |pick: fn(&(&'static str, &'static str)) -> &'static str| {
                let mut words: Vec<_> = missing.iter().map(|entry| pick(entry)).collect();
                words.dedup();
                words.join(" ")
            };
            return Err(CreateError::Host(format!(
                "making a box needs programs that are not installed: {}\n\
                 On Debian and Ubuntu: sudo apt-get install {}",
                join(|(program, _)| program),
                join(|(_, package)| package),
            )));
        }
        if !host.root {
            check_subordinate_ids()?;
        }
        Ok(host)
    }

    /// The caller is root: no user namespaces are needed.
    pub(super) fn is_root(&self) -> bool {
        self.root
    }

    /// Search path for programs, with the places that users often lack.
    pub(super) fn path(&self) -> &OsStr {
        &self.path
    }

    /// Where a program is.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path)
            .map(|dir| dir.join(program))
            .find(|path| {
                fs::metadata(path).is_ok_and(|metadata| {
                    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
                })
            })
    }

    /// Refuses to start what would fill up a disk.
    pub(super) fn check_space(&self, dir: &Path, needed: u64) -> Result<(), CreateError> {
        let Ok(stat) = nix::sys::statvfs::statvfs(dir) else {
            return Ok(());
        };
        let free = stat.blocks_available() * stat.fragment_size();
        if free >= needed {
            return Ok(());
        }
        Err(CreateError::Host(format!(
            "making a box needs {} GiB of free space, but the file system of {} has {} MiB: free \
             some, or set KIWI_BOXED_CACHE_DIR to a folder on another one",
            needed >> 30,
            dir.parent().unwrap_or(dir).display(),
            free >> 20
        )))
    }
}

/// `PATH` and the system administrator's folders behind it.
fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    std::env::join_paths(dirs).unwrap_or(path)
}

/// A user namespace with more than one id needs subordinate ids.
fn check_subordinate_ids() -> Result<(), CreateError> {
    let uid = getuid();
    let name = User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    for file in ["/etc/subuid", "/etc/subgid"] {
        if !has_subordinate_ids(file, &name, uid.as_raw()) {
            return Err(CreateError::Host(format!(
                "{file} gives {name} no range of 65536 subordinate ids, which making a box as a \
                 normal user needs. Get them with:\n    \
                 sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}\n\
                 (choose other numbers if that range is taken), or make the box as root"
            )));
        }
    }
    if fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|text| text.trim() == "0")
    {
        return Err(CreateError::Host(String::from(
            "this host allows no user namespaces (sysctl user.max_user_namespaces is 0), which \
             making a box as a normal user needs: raise it, or make the box as root",
        )));
    }
    Ok(())
}
