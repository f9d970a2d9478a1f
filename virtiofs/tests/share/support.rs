//! A share in a temporary directory, and a client of it.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use boxbuild_virtiofs::vhost_user::{Locks, ShareServer};
use boxbuild_virtiofs::{Confinement, MountTag, Share};
use boxbuild_virtiofs_client::Client;
use tempfile::TempDir;

pub(crate) use boxbuild_virtiofs::fuse::abi::ROOT_ID as ROOT;

pub(crate) const ALL_LOCKS: Locks = Locks {
    checked_names: true,
    confined: true,
};

/// A client of a new share `share` in a directory that also has the file `victim`, which no
/// guest may reach.
pub(crate) struct TestShare {
    // In this order: the connection ends before the server is waited for.
    client: Client,
    pub(crate) server: ShareServer,
    pub(crate) dir: TempDir,
}

impl TestShare {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Share)) -> Self {
        Self::in_dir(directory(), change, ALL_LOCKS)
    }

    /// With only these locks.
    pub(crate) fn with_locks(locks: Locks) -> Self {
        Self::in_dir(directory(), |_| {}, locks)
    }

    pub(crate) fn in_dir(dir: TempDir, change: impl FnOnce(&mut Share), locks: Locks) -> Self {
        let mut share = share(&dir);
        change(&mut share);
        let (server, stream) = ShareServer::start_with_locks(share, locks).unwrap();
        Self {
            client: Client::mount(stream),
            server,
            dir,
        }
    }

    /// Returns the host's path of a file in the share.
    pub(crate) fn host(&self, path: &str) -> PathBuf {
        self.dir.path().join("share").join(path)
    }

    /// Whether the kernel confines the server; prints `skipped` if it does not.
    pub(crate) fn is_confined(&self) -> bool {
        let confined = self.server.status().confinement() == Confinement::Landlock;
        if !confined {
            skip("this kernel does not enforce Landlock");
        }
        confined
    }

    /// Checks that nothing beside the share was created, changed, or removed.
    pub(crate) fn assert_unharmed(&self) {
        assert_eq!(self.beside(), ["share", "victim"]);
        let victim = std::fs::read(self.dir.path().join("victim")).unwrap();
        assert_eq!(victim, b"secret");
    }

    /// Returns the names beside the share, sorted.
    pub(crate) fn beside(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Creates a directory with an empty share and the victim.
pub(crate) fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("share")).unwrap();
    std::fs::write(dir.path().join("victim"), "secret").unwrap();
    dir
}

/// A read-write share of `share` in a [`directory`].
pub(crate) fn share(dir: &TempDir) -> Share {
    Share::new(MountTag::new("share").unwrap(), dir.path().join("share"))
}

impl Deref for TestShare {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for TestShare {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Prints that the current test cannot run here. The test harness would swallow `eprintln!`.
pub(crate) fn skip(reason: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}
