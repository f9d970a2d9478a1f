//! Disk images in QEMU's format qcow2 (QEMU, docs/interop/qcow2.rst). Nothing in an image is
//! trusted.

mod codec;
mod compressed;
mod header;
mod l2_tables;
mod metadata;
mod parts;
mod read;
mod refcounts;
mod table;
mod write;

pub(super) use header::MAGIC;
pub(super) use read::Qcow2;
pub(super) use write::Qcow2Disk;

#[cfg(test)]
mod ahead_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
