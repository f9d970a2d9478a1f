//! Files of many users: a guest's root tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use boxbuild_tests::command::command;

/// How the files of a guest, which belong to many users, are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Root,
    /// With subordinate ids, in a user namespace.
    Namespace,
}

impl Owner {
    pub(super) fn new() -> Owner {
        if nix::unistd::geteuid().is_root() {
            Owner::Root
        } else {
            Owner::Namespace
        }
    }

    /// A program that acts as the owner of all of them.
    pub(super) fn command(self, program: &str) -> Command {
        match self {
            Owner::Root => command(program),
            Owner::Namespace => {
                let mut command = command("unshare");
                command.args(["--map-root-user", "--map-auto", "--", program]);
                command
            }
        }
    }

    pub(super) fn remove(self, path: &Path) {
        // Not through `output`: it has to happen after a signal, too.
        let _ = self.command("rm").arg("-rf").arg(path).status();
    }
}

/// A folder with files of many users, removed with its owner's rights.
#[derive(Debug)]
pub(super) struct Folder {
    owner: Owner,
    pub(super) path: PathBuf,
}

impl Folder {
    pub(super) fn new(owner: Owner, prefix: &str, below: &Path) -> Result<Folder> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(below)?;
        let path = folder.keep();
        Ok(Folder { owner, path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.owner.remove(&self.path);
    }
}
