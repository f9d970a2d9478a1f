//! What boxbuild's process 1 of a box decides without touching anything: the job it is given,
//! which kernel modules a device needs, where the root file system is. The program itself is
//! `main.rs` (docs/fast-boot.md).

pub mod cmdline;
pub mod fstab;
pub mod host_xz;
pub mod job;
pub mod modules;
pub mod partition;
pub mod patience;
pub mod root;
pub mod seccomp;
pub mod signature;
pub mod superblock;
pub mod wishes;
