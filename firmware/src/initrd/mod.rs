//! Initial ramdisks of boxes, unpacked and reduced on the host: once for each box instead of in each
//! boot.
//!
//! A ramdisk is any number of consecutive cpio archives, each compressed or not (Linux,
//! Documentation/driver-api/early-userspace/buffer-format.rst). [`reduce`] makes one uncompressed
//! archive of what boxbuild's init needs of it.

mod read;
mod reduce;

pub use read::{Entry, ReadError, entries, unpack};
pub use reduce::{FORMAT, reduce};
