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
     published box, which needs none of them: boxbuild --box universal -- …";

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
            let has_apt = host.find("apt-get").is_some();
            return Err(SourceError::Host(how_to_get(&missing, has_apt)));
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
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        // Some file systems of the network do not tell their size.
        if free >= needed || stat.blocks() == 0 {
            return Ok(());
        }
        Err(SourceError::Host(format!(
            "creating a box needs {} GiB of free space, but the file system of {} has {} MiB: free \
             some, or set KIWI_BOXED_CACHE_DIR to a folder on another one",
            needed >> 30,
            dir.parent().unwrap_or(dir).display(),
            free >> 20
        )))
    }
}

/// Says what is missing, and how to get it.
fn how_to_get(missing: &[Program], has_apt: bool) -> String {
    let join = |word: fn(&Program) -> &'static str| {
        let mut words: Vec<_> = missing.iter().map(word).collect();
        words.dedup();
        words.join(" ")
    };
    format!(
        "creating a box needs what is not installed: {}\n\
         On Debian and Ubuntu: sudo apt-get install {}{}",
        join(|program| program.name),
        join(|program| program.package),
        if has_apt { "" } else { ELSEWHERE },
    )
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
                "{file} gives {name} no range of 65536 subordinate ids, which creating a box as a \
                 normal user needs. Get them with:\n    \
                 sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}\n\
                 (choose other numbers if that range is taken), or create the box as root"
            )));
        }
    }
    if fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|text| text.trim() == "0")
    {
        return Err(SourceError::Host(String::from(
            "this host allows no user namespaces (sysctl user.max_user_namespaces is 0), which \
             creating a box as a normal user needs: raise it, or create the box as root",
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case E7.
    #[test]
    fn a_host_without_apt_is_told_what_works_there() {
        let missing = [
            Program::new("mmdebstrap", "mmdebstrap"),
            Program::new("newuidmap", "uidmap"),
            Program::new("newgidmap", "uidmap"),
        ];
        let text = how_to_get(&missing, true);
        assert!(text.contains("mmdebstrap newuidmap newgidmap\n"), "{text}");
        assert!(
            text.ends_with("sudo apt-get install mmdebstrap uidmap"),
            "{text}"
        );
        let text = how_to_get(&missing, false);
        assert!(text.contains("boxbuild --box universal"), "{text}");
    }

    #[test]
    fn a_file_counts_by_either_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host {
            path: SearchPath::with_system_folders(),
            root: true,
        };
        let key = dir.path().join("key.gpg");
        let name = key.to_str().unwrap();
        assert_eq!(host.find(name), None);
        fs::write(dir.path().join("key.pgp"), "").unwrap();
        assert_eq!(host.find(name), Some(dir.path().join("key.pgp")));
    }
}
