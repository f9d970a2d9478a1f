//! The modes of results.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;

use boxbuild_host::umask::umask;
use boxbuild_host::untrusted::Dir;

/// The modes of results.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modes {
    pub(super) file: u32,
    pub(super) folder: u32,
}

impl Modes {
    /// As if the user had made them.
    pub(super) fn of_user() -> Modes {
        let mask = umask();
        Modes {
            file: 0o666 & !mask,
            folder: 0o777 & !mask,
        }
    }

    pub(super) fn set(self, file: &File) -> io::Result<()> {
        match file.set_permissions(Permissions::from_mode(self.file)) {
            // A file system without modes, as some FUSE servers have it: they are what its mount says.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }
}

/// Opens a result, whatever mode it has.
pub(super) fn open_file(dir: &Dir, name: &OsStr) -> io::Result<File> {
    match dir.file(name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            dir.unlock(name)?;
            dir.file(name)
        }
        file => file,
    }
}

/// Opens a folder of results, whatever mode it has.
pub(super) fn open_folder(dir: &Dir, name: &OsStr) -> io::Result<Dir> {
    match dir.folder(name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            dir.unlock(name)?;
            dir.folder(name)
        }
        folder => folder,
    }
}
