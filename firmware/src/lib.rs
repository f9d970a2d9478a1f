//! What the guest starts from: kernel images, the kernel command line, boxbuild's part of the initial
//! ramdisk, and the guest side of a build.

#![warn(missing_docs)]

pub mod cmdline;
pub mod cpio;
pub mod guest;
pub mod initrd;
pub mod kernel;
