//! Network namespaces: one for the host and its servers, and one for each guest.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};

/// Address of the servers: one of the host's, but not one that pasta gives to its guest.
pub(crate) const SERVER: &str = "198.51.100.1";

/// The namespace of the host and its servers.
#[derive(Debug)]
pub(crate) struct HostNetwork {
    folder: tempfile::TempDir,
}

/// The namespace of a guest, and its path.
#[derive(Debug)]
pub(crate) struct Guest {
    namespace: OwnedFd,
    path: PathBuf,
}

impl HostNetwork {
    /// Moves this process, which must have one thread, into new namespaces.
    pub(crate) fn enter() -> Result<HostNetwork> {
        let (uid, gid) = (getuid(), getgid());
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .context("unshare")?;
        fs::write("/proc/self/setgroups", "deny").context("setgroups")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("uid_map")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("gid_map")?;
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .context("private mounts")?;
        File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .context("/dev/net/tun")?;
        ip("link set lo up")?;
        ip(&format!("addr add {SERVER}/32 dev lo"))?;
        // pasta takes the addresses of its guest from an interface with a default route.
        ip("tuntap add dev out0 mode tap")?;
        ip("addr add 192.0.2.1/24 dev out0")?;
        ip("link set out0 up")?;
        ip("route add default via 192.0.2.2 dev out0")?;
        let folder = tempfile::tempdir()?;
        Ok(HostNetwork { folder })
    }

    /// Creates a guest without an interface.
    pub(crate) fn guest(&self) -> Result<Guest> {
        let path = self.folder.path().join("guest");
        File::create(&path)?;
        let namespace = std::thread::scope(|scope| {
            let made = scope.spawn(|| -> Result<OwnedFd> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                let here = "/proc/thread-self/ns/net";
                mount(
                    Some(here),
                    &path,
                    None::<&str>,
                    MsFlags::MS_BIND,
                    None::<&str>,
                )?;
                ip("link set lo up")?;
                Ok(File::open(here)?.into())
            });
            join(made)
        })?;
        Ok(Guest { namespace, path })
    }
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| bail!("a thread in the guest panicked"))
}

impl Guest {
    /// Runs `act` in the guest's namespace.
    pub(crate) fn run<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            join(scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
                act()
            }))
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // At the latest, it ends with the process's mount namespace.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

/// Runs `ip` with these arguments, separated by spaces.
pub(crate) fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(words.split(' '))
        .output()
        .context("cannot start ip (package iproute2)")?;
    if !output.status.success() {
        bail!(
            "ip {words}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
