//! The box store: installed boxes below one folder.
//!
//! Layout: `ROOT/NAME/` holds `box.json` ([`BoxInfo`]) and the files it names. The names of files
//! contain the beginning of their hash, so that a new version of a box is put beside the old one,
//! and one rename, that of `box.json`, makes it the box. Builds hold a shared lock
//! (`NAME/.lock`) until they have opened what they need: files of an old version are removed when no
//! build holds it. `DISK.in-place` is a copy of a disk that builds with `--no-snapshot` have written
//! into; it is the box's disk as long as it exists ([`crate::in_place`]).

mod box_store;
mod error;
mod hashed_file;
mod info;
mod installed;
mod inventory;
mod names;
pub(crate) mod staging;

pub use box_store::Store;
pub use error::StoreError;
pub use hashed_file::HashedFile;
pub use info::{BoxFile, BoxInfo, ContainerImage, Guest, Published, PublishedFile};
pub use installed::InstalledBox;
pub(crate) use installed::{disk_lock_path, lock_path as box_lock_path};
pub use inventory::{Inventory, LocalRepository};
pub use names::{check_file_name, check_name, name_for, published_name};
pub use staging::{IfExists, Staging};

#[cfg(test)]
mod tests;
