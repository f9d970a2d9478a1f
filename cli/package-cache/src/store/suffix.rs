//! Ends of the names of files.

/// An answer.
pub(super) const ENTRY: &str = ".entry";
/// A body, complete.
pub(super) const BODY: &str = ".body";
/// A body that is being fetched.
pub(super) const PART: &str = ".part";
/// What is known of that one.
pub(super) const HEAD: &str = ".head";
/// A file that is being written.
pub(super) const NEW: &str = ".new";
/// When a server's lists have changed.
pub(super) const SERVER: &str = ".server";
