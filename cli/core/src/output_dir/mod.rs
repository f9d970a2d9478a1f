//! The target folder of a build: locked while a build runs, staged, published as a whole.
//!
//! The guest writes into a folder inside of the target folder, so that publishing is a rename on one
//! file system: `.boxbuild.partial/bundle`. The outer one has mode 0700: no other user reaches
//! what a guest makes, whatever mode that gives its share, and none can lock it. What is published, and how, is in
//! [`publish`]. Only `result.log` and `result.code` are published from a failed build.
//!
//! Both folders are descriptors from the start, and nothing of the guest's is reached by a path.

mod error;
#[cfg(test)]
mod file_system_tests;
mod folder_result;
mod hidden;
mod manifest;
mod modes;
mod names;
mod notes;
mod publish;
mod recorded;
mod recorder;
mod staging;
mod target_dir;
#[cfg(test)]
mod tests;

pub use error::{OutputDirError, PublishError};
pub use hidden::{VisibleEntry, hidden_everywhere};
pub use publish::{Published, ResultFile};
pub use recorder::{Delivered, DeliveredFile, RecordError, RecordFile, Recorder};
pub use staging::{OutputDir, ResultCode, share_of};
pub use target_dir::TargetDir;

/// Name of the page about where the time went, in the target folder.
pub const TIMINGS_PAGE: &str = "timings.html";

/// Whether a path leads into the folder of a build under way, which goes when that ends.
pub fn is_in_staging(path: &std::path::Path) -> bool {
    path.components()
        .any(|component| component.as_os_str() == target_dir::STAGING)
}
