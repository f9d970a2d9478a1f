//! Why a disk image cannot be used, and what the errors of its file say.

use std::fmt;
use std::io;

/// Why a disk image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be opened or read.
    #[error("cannot read the disk image")]
    Io(#[from] io::Error),
    /// It is not a qcow2 image.
    #[error("not a qcow2 image")]
    NotQcow2,
    /// Its metadata contradict themselves.
    #[error("the disk image is damaged: {0}")]
    Damaged(&'static str),
    /// It uses a feature that is not supported.
    #[error(
        "the disk image uses {0}, which is not supported; convert it with: qemu-img convert -O qcow2"
    )]
    Unsupported(String),
    /// It can be read, but not written.
    #[error(
        "the disk image has {0}, so it is not written in place; convert it with: \
         qemu-img convert -O qcow2"
    )]
    NotWritable(String),
    /// The program that wrote it last has left it in disorder.
    #[error("the disk image is not in order ({0}); repair it with: qemu-img check -r all")]
    NeedsRepair(&'static str),
    /// It is open elsewhere, and one of the two writes.
    #[error("the disk image is in use by another build or program")]
    InUse,
    /// A length that the image cannot have.
    #[error("a disk of {0} bytes: must be a multiple of 512, and not less than the image")]
    Length(u64),
}

/// Why a disk of a machine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What an earlier machine wrote over the image.
    #[error("cannot read the kept changes of the disk")]
    Kept(#[source] io::Error),
    /// The file that takes the guest's writes.
    #[error("cannot use the file for the disk's changes")]
    Changes(#[source] io::Error),
    /// The raw file.
    #[error("cannot find out the size of the disk")]
    Raw(#[source] io::Error),
}

/// `error` with the name of `what` it happened to, and what to do about it.
pub(super) fn with_context(what: impl fmt::Display, error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            format!("no space is left for {what}: {error}; free some, or choose another place")
        }
        _ => format!("{what}: {error}"),
    };
    io::Error::new(error.kind(), text)
}
