//! What end-to-end tests share: where the program and the boxes are ([`env`]), a [`Sandbox`] for
//! each test, programs that run with a deadline ([`process`]), and what must not be left of them
//! ([`leftovers`]).
//!
//! The box `small` runs `script.sh` of the description in place of kiwi ([`small_box`]),
//! so a test decides what happens in the guest.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "for tests only"
)]

pub mod boot_sector;
pub mod command;
pub mod cross;
pub mod daemons;
pub mod debian;
pub mod env;
pub mod executable;
pub mod foreign;
pub mod interrupt;
pub mod lab;
pub mod leftovers;
pub mod process;
pub mod pty;
pub mod publish;
pub mod sandbox;
pub mod slurm;
pub mod small_box;
pub mod smoke;
pub mod ssh_hosts;
pub mod sshd;
pub mod tree;
pub mod watch;

use std::fs;
use std::path::Path;

pub use env::{TestEnv, engine, scaled_timeout, skip, test_env};
pub use process::{ProcessOutput, Running};
pub use sandbox::Sandbox;
pub use watch::Watch;

/// What boxbuild notes of its results in a target folder.
const MANIFEST: &str = ".boxbuild.results";

/// Returns the names in a folder, sorted and without boxbuild's own [`MANIFEST`]; none if there is no
/// such folder.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != MANIFEST)
        .collect();
    names.sort();
    names
}
