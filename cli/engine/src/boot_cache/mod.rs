//! Kernels and initial ramdisks made ready for a boot on the host, once: in each boot, the guest
//! would need longer for it than the host.
//!
//! A jailed process makes them ([`boxbuild_parsers`]). They are kept in the user's cache under the hash
//! of what they are made from, and published by one rename when they are whole. The hash is that of
//! the very bytes that were read: what a box's description states is only looked up. Where nothing can
//! be made of a file, the reason is kept, so that it is not tried again in each boot. Losing the cache
//! costs making them again.

mod cache;
pub mod initrd;
pub mod kernel;
pub mod root;
