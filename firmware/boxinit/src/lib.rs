//! The decisions of `boxinit`, process 1 of a guest that is booted fast, as functions without side
//! effects: which kernel modules a device needs, where the root file system is. The program itself is
//! `main.rs` (docs/fast-boot.md).

#![warn(missing_docs)]

pub mod fstab;
pub mod host_xz;
pub mod index_files;
pub mod kiwi_patch;
pub mod modules;
pub mod partition;
pub mod root;
pub mod seccomp;
pub mod signature;
pub mod superblock;
