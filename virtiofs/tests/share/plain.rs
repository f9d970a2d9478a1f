//! The model: the operations in a directory of the host.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2};
use tempfile::TempDir;

use crate::operation::{Answer, Operation, Seen};

/// A directory of the host, and its open files.
pub(crate) struct Plain {
    dir: TempDir,
    open: HashMap<usize, File>,
}

fn code(error: &io::Error) -> i32 {
    error.raw_os_error().expect("an error of the system")
}

impl Plain {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            open: HashMap::new(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self, names: &[&str]) -> PathBuf {
        names
            .iter()
            .fold(self.dir.path().to_owned(), |path, name| path.join(name))
    }

    pub(crate) fn apply(&mut self, operation: &Operation) -> Answer {
        self.try_apply(operation).map_err(|error| code(&error))
    }

    fn try_apply(&mut self, operation: &Operation) -> io::Result<Seen> {
        use Operation as O;
        let none = Seen::default();
        Ok(match operation {
            O::Create(names, mode, handle) => {
                let mut options = OpenOptions::new();
                options
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(0o600 | mode);
                let file = options.open(self.path(names))?;
                // Independent of the umask of the test.
                file.set_permissions(fs::Permissions::from_mode(0o600 | mode))?;
                self.open.insert(*handle, file);
                none
            }
            O::Open(names, truncate, handle) => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).truncate(*truncate);
                let file = options
                    .custom_flags(libc::O_NOFOLLOW)
                    .open(self.path(names))?;
                self.open.insert(*handle, file);
                none
            }
            O::Close(handle) => {
                self.open.remove(handle);
                none
            }
            O::Write(handle, offset, byte, size) => {
                if let Some(file) = self.open.get(handle) {
                    file.write_all_at(&vec![*byte; *size], *offset)?;
                }
                none
            }
            O::Read(handle, offset, size) => {
                let mut bytes = vec![0; *size as usize];
                let count = match self.open.get(handle) {
                    Some(file) => file.read_at(&mut bytes, *offset)?,
                    None => 0,
                };
                bytes.truncate(count);
                Seen { bytes, ..none }
            }
            O::Punch(handle, offset, size) => {
                if let Some(file) = self.open.get(handle) {
                    let (offset, size) = (offset.cast_signed(), size.cast_signed());
                    fallocate(file.as_fd(), punch(), offset, size)?;
                }
                none
            }
            O::Stat(names) => {
                let stat = fs::symlink_metadata(self.path(names))?;
                Seen {
                    stat: Some(shown(&stat)),
                    ..none
                }
            }
            O::Mkdir(names, mode) => {
                let path = self.path(names);
                fs::DirBuilder::new().mode(0o700 | mode).create(&path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o700 | mode))?;
                none
            }
            O::Symlink(names, target) => {
                std::os::unix::fs::symlink(target, self.path(names))?;
                none
            }
            O::Readlink(names) => {
                let target = fs::read_link(self.path(names))?;
                Seen {
                    bytes: target.into_os_string().into_encoded_bytes(),
                    ..none
                }
            }
            O::Link(from, to) => {
                fs::hard_link(self.path(from), self.path(to))?;
                none
            }
            O::Unlink(names) => {
                nix::unistd::unlink(&self.path(names))?;
                none
            }
            O::Rmdir(names) => {
                fs::remove_dir(self.path(names))?;
                none
            }
            O::Rename(from, to, flags) => {
                let flags = RenameFlags::from_bits_retain(*flags);
                renameat2(AT_FDCWD, &self.path(from), AT_FDCWD, &self.path(to), flags)?;
                none
            }
            O::Truncate(names, size) => {
                let path = self.path(names);
                regular(&path)?;
                OpenOptions::new().write(true).open(path)?.set_len(*size)?;
                none
            }
            O::Chmod(names, mode) => {
                let path = self.path(names);
                let kind = fs::symlink_metadata(&path)?;
                if kind.is_symlink() {
                    return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
                }
                let own = if kind.is_dir() { 0o700 } else { 0o600 };
                fs::set_permissions(path, fs::Permissions::from_mode(own | mode))?;
                none
            }
            O::Times(names, time) => {
                let time = nix::sys::time::TimeSpec::new(time.cast_signed(), 0);
                let nofollow = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
                let path = self.path(names);
                nix::sys::stat::utimensat(AT_FDCWD, &path, &time, &time, nofollow)?;
                none
            }
            O::List(names, _) => {
                let mut names = fs::read_dir(self.path(names))?
                    .map(|entry| Ok(entry?.file_name().into_encoded_bytes()))
                    .collect::<io::Result<Vec<_>>>()?;
                names.sort();
                Seen { names, ..none }
            }
        })
    }
}

pub(crate) fn punch() -> FallocateFlags {
    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE
}

fn regular(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?;
    let number = if kind.is_dir() {
        libc::EISDIR
    } else {
        libc::EINVAL
    };
    if kind.is_file() {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(number))
    }
}

pub(crate) fn summary(mode: u32, links: u32, size: u64) -> (u32, u32, u64) {
    match mode & libc::S_IFMT {
        libc::S_IFREG => (mode, links, size),
        libc::S_IFDIR => (mode, 0, 0),
        _ => (mode, links, 0),
    }
}

pub(crate) fn shown(stat: &fs::Metadata) -> (u32, u32, u64) {
    summary(stat.mode(), stat.nlink() as u32, stat.size())
}
