//! Processes of this program, with folders to serve.

use std::path::Path;
use std::time::{Duration, Instant};

use boxbuild_engine::qemu::shares::ShareProcess;
use boxbuild_engine::{MountTag, Share};
use boxbuild_jail::Program;
use boxbuild_virtiofs_client::Client;
use tempfile::TempDir;

/// Two shares, the second one read-only, their clients, and the file `victim` beside them.
pub(crate) struct Machine {
    pub(crate) process: ShareProcess,
    pub(crate) guests: Vec<Client>,
    pub(crate) weakness: Option<String>,
    pub(crate) dir: TempDir,
}

pub(crate) fn this_program() -> Program {
    Program::at(std::env::current_exe().unwrap())
}

fn share(dir: &Path, name: &str) -> Share {
    let path = dir.join(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("file"), name).unwrap();
    Share::new(MountTag::new(name).unwrap(), path)
}

impl Machine {
    pub(crate) fn start() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("victim"), "secret").unwrap();
        let shares = [
            share(dir.path(), "one"),
            share(dir.path(), "two").read_only(),
        ];
        let (starting, ends) = ShareProcess::start(&this_program(), &shares, 2).unwrap();
        let (process, weakness) = starting.ready().unwrap();
        Machine {
            process,
            guests: ends.into_iter().map(Client::mount).collect(),
            weakness,
            dir,
        }
    }

    /// A file of `/proc/PID`.
    pub(crate) fn proc(&self, name: &str) -> String {
        let pid = self.process.pid().unwrap();
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap()
    }
}

/// Waits until there is something; at most 10 s.
pub(crate) fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "nothing came");
        std::thread::sleep(Duration::from_millis(10));
    }
}
