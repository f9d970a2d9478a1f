//! What the machine itself needs beside its kernel: the agent, busybox, shared libraries. The host's
//! own where the architecture is the host's, Debian's packages elsewhere.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use boxbuild_tests::command::{command, find, output, require};
use boxbuild_tests::debian;
use boxbuild_tests::foreign::Libraries;
use boxbuild_tests::publish::{lock, sha256};
use boxbuild_tests::tree::Tree;

use crate::arch::Arch;
use crate::packages;

/// The agent's source: one file, compiled where it runs first.
const AGENT: &str = include_str!("agent.rs");

/// The machine's own programs.
#[derive(Debug)]
pub(crate) struct Tools {
    agent: PathBuf,
    busybox: PathBuf,
    userland: Userland,
}

/// Where programs and libraries of the machine's architecture are.
#[derive(Debug)]
enum Userland {
    /// On the host; the names of busybox's applets.
    Host { applets: Vec<String> },
    /// In unpacked packages.
    Packages {
        arch: Arch,
        /// What was asked for, to be put into the machine.
        asked: Option<PathBuf>,
        base: PathBuf,
    },
}

impl Tools {
    /// Gets what is missing.
    ///
    /// # Errors
    /// Says what cannot be had.
    pub(crate) fn get(arch: Arch, asked: &[String]) -> Result<Tools> {
        if arch != Arch::HOST {
            require([("readelf", "binutils")])?;
            let base = packages::base(arch)?;
            let asked = match asked {
                [] => None,
                names => Some(packages::folder(arch, names)?),
            };
            return Ok(Tools {
                agent: agent(arch)?,
                busybox: base.join("usr/bin/busybox"),
                userland: Userland::Packages { arch, asked, base },
            });
        }
        require([("busybox", "busybox-static"), ("ldd", "libc-bin")])?;
        let busybox = find("busybox")?;
        let linked = command("ldd").arg(&busybox).output();
        if linked.is_ok_and(|output| output.status.success()) {
            bail!(
                "{} is dynamically linked: install the package busybox-static",
                busybox.display()
            );
        }
        let applets = output(command(&busybox).arg("--list"))?;
        let applets = applets.lines().map(str::to_owned).collect();
        Ok(Tools {
            agent: agent(arch)?,
            busybox,
            userland: Userland::Host { applets },
        })
    }

    /// Puts them into the machine.
    pub(crate) fn put(&self, tree: &mut Tree) -> Result<()> {
        tree.copy(&self.agent, "/lab/agent", 0o755);
        match &self.userland {
            Userland::Host { applets } => tree.busybox(&self.busybox, applets),
            Userland::Packages { arch, asked, base } => {
                tree.copy(&self.busybox, "/bin/busybox", 0o755);
                // Its applets are known where it runs.
                tree.file("/lab/applets", 0o644, "");
                let roots = asked.iter().chain([base]).cloned().collect();
                tree.with_foreign_libraries(Libraries {
                    machine: arch.elf_machine(),
                    triplet: format!("{}-linux-gnu", arch.name()),
                    roots,
                });
                if let Some(asked) = asked {
                    tree.put(asked, "/")?;
                }
            }
        }
        Ok(())
    }

    /// Whether they have the program of this name.
    pub(crate) fn provide(&self, name: &str, tree: &Tree) -> bool {
        match &self.userland {
            Userland::Host { applets } => applets.iter().any(|applet| applet == name),
            // What busybox has not, the agent cannot run, and says so.
            Userland::Packages { arch, .. } => {
                let folders = ["/usr/bin", "/usr/sbin"];
                let packed = |folder: &&str| tree.contains(&format!("{folder}/{name}"));
                folders.iter().any(packed) || !find(name).is_ok_and(|path| is_for(*arch, &path))
            }
        }
    }
}

fn is_for(arch: Arch, program: &Path) -> bool {
    let machine = boxbuild_tests::foreign::machine(program);
    machine.is_ok_and(|machine| machine == Some(arch.elf_machine()))
}

/// The agent's program. A static one needs no libraries in the machine.
fn agent(arch: Arch) -> Result<PathBuf> {
    let cache = debian::cache()?;
    let sum = &sha256(AGENT.as_bytes())[..16];
    let agent = cache.join(format!("agent-{}-{sum}", arch.name()));
    if agent.exists() {
        return Ok(agent);
    }
    let _lock = lock(&cache.join("agent.lock"))?;
    if agent.exists() {
        return Ok(agent);
    }
    find("rustc").context("the lab's agent is compiled once")?;
    // One place, so that what a killed compiler left is overwritten.
    let new = cache.join("agent-new");
    let mut rustc = arch
        .rustc(&cache)
        .args(["--edition", "2024", "-O"])
        .args(["-C", "target-feature=+crt-static"])
        .args(["-C", "panic=abort", "-C", "strip=symbols"])
        .args(["--crate-name", "agent", "-o"])
        .arg(&new)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(io::stderr())
        .spawn()
        .context("cannot start rustc")?;
    if let Some(mut source) = rustc.stdin.take() {
        source.write_all(AGENT.as_bytes())?;
    }
    ensure!(
        rustc.wait()?.success(),
        "cannot compile the agent for {}: rustc, gcc and libc6-dev are needed, for another \
         architecture than the host's by `make toolchain-{}`",
        arch.name(),
        arch.name()
    );
    std::fs::rename(&new, &agent)?;
    Ok(agent)
}
