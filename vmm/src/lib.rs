//! A micro virtual machine for builds, in this process.

pub mod disk;
