//! What the guest meets at power-on: the kernel command line, the parts of the initial
//! ramdisk that come from boxbuild, the guest side of a build, and kernel images.

pub mod cmdline;
pub mod cpio;
pub mod guest;
pub mod initrd;
pub mod kernel;
