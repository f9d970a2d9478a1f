//! Files and folders whose names and contents a guest chose, or in whose folder a guest can write.
//!
//! This is the one door to them: a folder is a descriptor, everything in it is reached from there by
//! one component of a name, and only regular files and folders are ever opened. Nothing here follows
//! a link, opens something that blocks, or depends on the length of a path. The lint
//! `disallowed_methods` keeps the functions of `std::fs` that take a path away from such files
//! (`clippy.toml`).

mod dir;
mod remove;
mod replace;

pub use dir::{Dir, FileKind, Status};
pub use remove::remove_tree;
pub use replace::Replacement;
