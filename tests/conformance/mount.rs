//! A share that is mounted here.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use boxbuild_tests::env::target;
use boxbuild_tests::{Running, names};
use nix::mount::{MntFlags, umount2};

/// Has no name and no rights on any machine.
const SERVER_UID: u32 = 54321;

/// More than a run of all tests takes.
const LIMIT: Duration = Duration::from_secs(900);

/// Why there is no mount.
#[derive(Debug)]
pub(crate) enum MountError {
    /// This root may not mount, as in a container.
    NotPermitted(String),
    /// The server failed.
    Failed(String),
}

/// A mounted share and its server; both go with this value, and the share's files.
#[derive(Debug)]
pub(crate) struct Mount {
    // In this order: the server ends with the mount, and the files go last.
    mounted: Mounted,
    server: Running,
    work: tempfile::TempDir,
}

impl Mount {
    pub(crate) fn new() -> Result<Mount, MountError> {
        let work = tempfile::Builder::new()
            .prefix("boxbuild-conformance.")
            .tempdir()
            .expect("a folder");
        let path = |name: &str| work.path().join(name);
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(work.path(), all).unwrap();
        for name in ["share", "mount", "artifacts"] {
            fs::create_dir(path(name)).unwrap();
        }
        chown(path("share"), Some(SERVER_UID), Some(SERVER_UID)).unwrap();
        let mut command = Command::new(target().join("release/examples/mount"));
        command.arg(path("share")).arg(path("mount"));
        let mut server = Running::start(command.arg(SERVER_UID.to_string())).limit(LIMIT);
        while !is_mounted(&path("mount")) {
            if server.has_ended() {
                let output = server.finish();
                let reason = output.stderr.lines().last().unwrap_or_default().to_owned();
                return Err(if reason.contains("PermissionDenied") {
                    MountError::NotPermitted(reason)
                } else {
                    MountError::Failed(reason)
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Mount {
            mounted: Mounted(path("mount")),
            server,
            work,
        })
    }

    /// A path beside the share.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Where the share is mounted.
    pub(crate) fn folder(&self) -> PathBuf {
        self.mounted.0.clone()
    }

    /// Fails unless the server lived to the end without an error, and no file is left.
    #[track_caller]
    pub(crate) fn end(mut self) {
        assert_eq!(names(&self.folder()), [""; 0], "files are left");
        let log = self.server.stderr();
        let ended = log.contains("panicked") || log.lines().any(|line| line.starts_with("ended"));
        assert!(!self.server.has_ended() && !ended, "the server:\n{log}");
    }
}

/// A mount point that is unmounted with this value.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily if something is still inside.
        if umount2(&self.0, MntFlags::empty()).is_err() {
            let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        }
    }
}

fn is_mounted(folder: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The mount point is the fifth field (proc(5)).
    table.lines().any(|line| {
        let point = line.split(' ').nth(4);
        point.is_some_and(|point| Path::new(point) == folder)
    })
}
