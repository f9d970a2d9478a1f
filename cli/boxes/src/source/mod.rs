//! Sources of boxes: a distribution's packages, files of this host, published boxes.
//!
//! Each is a [`BoxSource`]: it describes the box that it makes, checks what it needs of the host,
//! and makes the box's files in a staging folder. [`install`] runs a source and publishes the box
//! in the store, at once and as a whole. A distribution for `box create` adds one file, and one line
//! to the table in `create.rs`.

mod box_source;
mod command;
mod contents;
pub mod create;
pub mod debian;
mod distribution;
mod error;
mod host;
pub mod import;
mod look_up;
pub mod published;
mod root_disk;

pub use box_source::{BoxSource, MakeBox, Making, Target, install};
pub use contents::BoxContents;
pub use distribution::{CreateOptions, Distribution, KIWI_VERSION, check_package};
pub use error::{CommandError, SourceError};
