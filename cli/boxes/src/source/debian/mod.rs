//! Debian: boxes of its own packages.
//!
//! Nothing is mounted on the host, no loop device is used, and nothing needs root: for a normal user,
//! the root tree is made in user namespaces with the user's subordinate ids.

mod apt;
mod artifacts;
mod deb;
mod dracut;
mod emulation;
mod files;
mod initrd;
mod kiwi;
mod mirror;
mod packages;
mod release;
mod root_tree;
mod source;

pub use source::{DISTRIBUTION, UBUNTU_DISTRIBUTION, check_host};
