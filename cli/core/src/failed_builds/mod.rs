//! Failed builds that are kept, to be looked at: their disks, their logs, and what is needed to
//! enter them.
//!
//! Layout: `FOLDER/ID/` holds `build.json` ([`Record`]), `result.log`, `console.log`, the disk's
//! changes as the engine left them, and hard links to the box's kernel, initrd and disk, so that
//! an update or removal of the box changes nothing; `FOLDER/ID/checkpoint/` holds the disk's changes up to the end
//! of kiwi's `prepare`, over which the others lie, if the build came that far ([`Checkpoint`]). A build appears
//! as a whole.

mod builds;
mod checkpoint;
mod error;
mod keep;
mod record;
mod resume;
mod scratch;
#[cfg(test)]
mod tests;

pub use builds::{FailedBuild, FailedBuilds, KeptLog};
pub use checkpoint::{Checkpoint, Taken};
pub use error::FailedBuildError;
pub use keep::Failed;
pub use record::{KeptShare, Record};
pub use scratch::{check_scratch, scratch};
