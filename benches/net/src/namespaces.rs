//! Namespaces: one that stands for the host and its network, and one for each guest.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};

/// Where the servers are: an address of the host, but none that pasta gives to its guest.
pub(crate) const SERVER: &str = "198.51.100.1";

/// The host's side.
#[derive(Debug)]
pub(crate) struct HostNamespace {
    folder: tempfile::TempDir,
}

/// The guest's side: a network namespace, and a path of it.
#[derive(Debug)]
pub(crate) struct Guest {
    namespace: OwnedFd,
    path: PathBuf,
}

impl HostNamespace {
    /// Moves this process, which must have one thread, into namespaces of its own.
    pub(crate) fn enter() -> Result<HostNamespace> {
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
        Ok(HostNamespace { folder })
    }

    /// A guest without an interface.
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
    /// Does something in the guest.
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
        // The mount namespace, and with it this, goes with us at the latest.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

/// Runs `ip` with these words.
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
