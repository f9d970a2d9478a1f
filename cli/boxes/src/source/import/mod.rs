//! Boxes of files that the user has: a disk with its kernel, a root tree, or a container image.
//!
//! Such a box is booted by its own init, by the contract of the published boxes
//! (docs/guest-contract.md), unless `--guest fast` declares that its initial ramdisk has what
//! boxbuild's init needs.

mod boot_files;
mod exported;
mod options;
mod root_tree;
mod source;

pub use exported::ExportedBox;
pub use options::{ImportInput, ImportOptions};
pub use source::ImportedBox;
