//! The operations that are compared.

/// Names from the root to a file. Only the last one may be a symbolic link: the guest's
/// kernel, which is missing here, would follow others.
pub(crate) type Names = Vec<&'static str>;

/// One operation; the numbers are handles, offsets, bytes and sizes.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Create(Names, u32, usize),
    Open(Names, bool, usize),
    Close(usize),
    Write(usize, u64, u8, usize),
    Read(usize, u64, u32),
    Punch(usize, u64, u64),
    Stat(Names),
    Mkdir(Names, u32),
    Symlink(Names, &'static str),
    Readlink(Names),
    Link(Names, Names),
    Unlink(Names),
    Rmdir(Names),
    Rename(Names, Names, u32),
    Truncate(Names, u64),
    Chmod(Names, u32),
    Times(Names, u64),
    List(Names, bool),
}

/// The result of an operation, as far as both sides must agree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) bytes: Vec<u8>,
    pub(crate) names: Vec<Vec<u8>>,
    /// Mode, number of links (0 of a directory), size (0 unless a regular file).
    pub(crate) stat: Option<(u32, u32, u64)>,
}

/// A result, or its errno.
pub(crate) type Answer = Result<Seen, i32>;
