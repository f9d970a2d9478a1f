//! A share in a directory of its own, and a client of it.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use boxbuild_virtiofs::vhost_user::ShareServer;
use boxbuild_virtiofs::{Confinement, ShareConfig};
use boxbuild_virtiofs_client::Client;
use tempfile::TempDir;

pub(crate) use boxbuild_virtiofs::fuse::abi::ROOT_ID as ROOT;

/// A client of a fresh share `share` in a directory that also has the file `victim`, which no
/// guest may reach.
pub(crate) struct Share {
    // In this order: the connection ends before the server is waited for.
    client: Client,
    pub(crate) server: ShareServer,
    pub(crate) dir: TempDir,
}

impl Share {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut ShareConfig)) -> Self {
        Self::in_dir(directory(), change, true, true)
    }

    /// With only some of the locks.
    pub(crate) fn with_locks(names: bool, kernel: bool) -> Self {
        Self::in_dir(directory(), |_| {}, names, kernel)
    }

    pub(crate) fn in_dir(
        dir: TempDir,
        change: impl FnOnce(&mut ShareConfig),
        names: bool,
        kernel: bool,
    ) -> Self {
        let mut config = ShareConfig::new(dir.path().join("share"));
        change(&mut config);
        let (server, stream) = ShareServer::start_with_locks(config, names, kernel).unwrap();
        Self {
            client: Client::mount(stream),
            server,
            dir,
        }
    }

    /// A path in the share on the host.
    pub(crate) fn host(&self, path: &str) -> PathBuf {
        self.dir.path().join("share").join(path)
    }

    /// Whether the kernel confines the server; says so if it does not.
    pub(crate) fn is_confined(&self) -> bool {
        let confined = self.server.confinement() == Confinement::Landlock;
        if !confined {
            skip("this kernel does not enforce Landlock");
        }
        confined
    }

    /// Checks that nothing beside the share was made, changed, or removed.
    pub(crate) fn assert_unharmed(&self) {
        assert_eq!(self.beside(), ["share", "victim"]);
        let victim = std::fs::read(self.dir.path().join("victim")).unwrap();
        assert_eq!(victim, b"secret");
    }

    /// What lies beside the share, sorted.
    pub(crate) fn beside(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("share")).unwrap();
    std::fs::write(dir.path().join("victim"), "secret").unwrap();
    dir
}

impl Deref for Share {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Share {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Says that the current test cannot run here. The test harness would swallow `eprintln!`.
pub(crate) fn skip(reason: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}
