//! The types of files that a root tree can have.

/// The type of a file.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Folder,
    File,
    /// A symbolic link, with its target.
    Link(Vec<u8>),
    Fifo,
}
