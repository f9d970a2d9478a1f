//! Programs and permissions of the host that making a box takes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use boxbuild_host::ids::has_subordinate_ids;
use boxbuild_host::program::SearchPath;
use nix::unistd::{User, getuid};

use super::error::SourceError;

/// A program, or another file by its absolute path, and the Debian package with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    name: &'static str,
    package: &'static str,
}

impl Program {
    /// The program `name` in the Debian package `package`.
    pub(super) const fn new(name: &'static str, package: &'static str) -> Program {
        Program { name, package }
    }
}

/// What to do on a host without apt.
const ELSEWHERE: &str = "\nOn other distributions: install the packages that have them, or use a \
     published box, which needs none of them: boxbuild --box leap -- …";

/// Programs that only a normal user needs.
const PROGRAMS_OF_USERS: &[Program] = &[
    Program::new("newuidmap", "uidmap"),
    Program::new("newgidmap", "uidmap"),
];

/// A host that has the programs and permissions that making a box takes.
#[derive(Debug)]
pub(super) struct Host {
    path: SearchPath,
    root: bool,
}

impl Host {
    /// Checks that the host has `programs`, and, for a normal user, user namespaces with subordinate
    /// ids. Changes nothing.
    ///
    /// # Errors
    /// Fails with [`SourceError::Host`] if something is missing. The text says how to get it.
    pub(super) fn check(programs: &[&[Program]]) -> Result<Host, SourceError> {
        let host = Host {
            path: SearchPath::with_system_folders(),
            root: getuid().is_root(),
        };
        let users = if host.root {
            &[][..]
        } else {
            PROGRAMS_OF_USERS
        };
        let missing: Vec<Program> = programs
            .iter()
            .copied()
            .flatten()
            .chain(users)
            .filter(|program| host.find(program.name).is_none())
            .copied()
            .collect();
        if !missing.is_empty() {
            let join = |word: fn(&Program) -> &'static str| {
                let mut words: Vec<_> = missing.iter().map(word).collect();
                words.dedup();
                words.join(" ")
            };
            let elsewhere = if host.find("apt-get").is_some() {
                ""
            } else {
                ELSEWHERE
            };
            return Err(SourceError::Host(format!(
                "making a box needs what is not installed: {}\n\
                 On Debian and Ubuntu: sudo apt-get install {}{elsewhere}",
                join(|program| program.name),
                join(|program| program.package),
            )));
        }
        if !host.root {
            check_subordinate_ids()?;
        }
        Ok(host)
    }

    /// Whether the user is root, who needs no user namespaces.
    pub(super) fn is_root(&self) -> bool {
        self.root
    }

    /// Returns the search path for programs, with the folders that users often lack.
    pub(super) fn path(&self) -> &OsStr {
        self.path.as_os_str()
    }

    /// Returns the path of a program.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        if program.starts_with('/') {
            // Keyrings are called .pgp from Debian 13 on.
            let file = PathBuf::from(program);
            return [file.with_extension("pgp"), file]
                .into_iter()
                .find(|file| file.exists());
        }
        self.path.find(program)
    }

    /// Checks that the file system of the folder `dir` has `needed` bytes of free space.
    ///
    /// # Errors
    /// Fails with [`SourceError::Host`] if it has not.
    pub(super) fn check_space(&self, dir: &Path, needed: u64) -> Result<(), SourceError> {
        let Ok(stat) = nix::sys::statvfs::statvfs(dir) else {
            return Ok(());
        };
        let free = stat.blocks_available() * stat.fragment_size();
        if free >= needed {
            return Ok(());
        }
        Err(SourceError::Host(format!(
            "making a box needs {} GiB of free space, but the file system of {} has {} MiB: free \
             some, or set KIWI_BOXED_CACHE_DIR to a folder on another one",
            needed >> 30,
            dir.parent().unwrap_or(dir).display(),
            free >> 20
        )))
    }
}

/// Checks that the user can have a user namespace with 65536 ids.
fn check_subordinate_ids() -> Result<(), SourceError> {
    let uid = getuid();
    let name = User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    for file in ["/etc/subuid", "/etc/subgid"] {
        if !has_subordinate_ids(file, &name, uid.as_raw()) {
            return Err(SourceError::Host(format!(
                "{file} gives {name} no range of 65536 subordinate ids, which making a box as a \
                 normal user needs. Get them with:\n    \
                 sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}\n\
                 (choose other numbers if that range is taken), or make the box as root"
            )));
        }
    }
    if fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|text| text.trim() == "0")
    {
        return Err(SourceError::Host(String::from(
            "this host allows no user namespaces (sysctl user.max_user_namespaces is 0), which \
             making a box as a normal user needs: raise it, or make the box as root",
        )));
    }
    Ok(())
}
