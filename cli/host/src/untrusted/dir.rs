//! An open folder.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags, StatxTimestamp, statx,
};
use rustix::io::Errno;

/// How a component is resolved: below its folder, through no link at all.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Where an entry waits while two are exchanged in steps.
const ASIDE: &str = ".boxbuild-aside";

/// An open folder. Other users and guests may do with its name what they like.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: FileKind,
    /// User id of its owner.
    pub owner: u32,
    /// Length in bytes.
    pub len: u64,
    /// Number of its inode.
    pub inode: u64,
    /// When it was made, where the file system knows: seconds and nanoseconds.
    pub born: Option<(i64, u32)>,
    /// When it was written last: seconds and nanoseconds.
    pub modified: (i64, u32),
}

impl Dir {
    /// Opens a folder of the user's, by its path.
    ///
    /// # Errors
    /// Fails if it cannot be opened, or is no folder.
    pub fn open(path: &Path) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Dir { fd })
    }

    /// Opens the folder `name` in it.
    ///
    /// # Errors
    /// Fails if it cannot be opened, or is no folder.
    pub fn folder(&self, name: &OsStr) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = self.open_at(name, flags, Mode::empty())?;
        Ok(Dir { fd })
    }

    /// Opens the regular file `name` in it for reading.
    ///
    /// # Errors
    /// Fails if it cannot be opened, or is no regular file.
    pub fn file(&self, name: &OsStr) -> io::Result<File> {
        // Asked first: to open a device can have effects.
        self.status(name).and_then(regular)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.open_at(name, flags, Mode::empty())?);
        // It may have become something else.
        Status::of(&file).and_then(regular)?;
        Ok(file)
    }

    /// Creates the file `name`, which must not exist, with exactly the mode `mode`.
    ///
    /// # Errors
    /// Fails if there is something of that name, or it cannot be created.
    pub fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = File::from(self.open_at(name, flags, Mode::RUSR | Mode::WUSR)?);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(file)
    }

    /// Makes the folder `name`, which must not exist, with exactly the mode `mode`.
    ///
    /// # Errors
    /// Fails if there is something of that name, or it cannot be made.
    pub fn make_folder(&self, name: &OsStr, mode: u32) -> io::Result<Dir> {
        rustix::fs::mkdirat(&self.fd, component(name)?, Mode::RWXU)?;
        let folder = self.folder(name)?;
        folder.set_mode(mode)?;
        Ok(folder)
    }

    /// Sets the mode of the folder itself.
    ///
    /// # Errors
    /// Fails if it belongs to another user.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode))?)
    }

    /// Has what was done to the folder's names written to the disk.
    ///
    /// # Errors
    /// Fails if the disk does.
    pub fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.fd) {
            // File systems that have no such thing for folders (CIFS before Linux 5.18, some FUSE
            // servers); for files they have.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    /// What `name` stands for; a link is not followed.
    ///
    /// # Errors
    /// Fails if there is no such name, or it cannot be examined.
    pub fn status(&self, name: &OsStr) -> io::Result<Status> {
        Status::read(self.fd.as_fd(), component(name)?)
    }

    /// What `name` stands for, or `None` if there is no such name.
    ///
    /// # Errors
    /// Fails if it cannot be examined.
    pub fn find(&self, name: &OsStr) -> io::Result<Option<Status>> {
        match self.status(name) {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names in the folder, in no order.
    ///
    /// # Errors
    /// Fails if it cannot be read. So can each of the names.
    pub fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
        let entries = rustix::fs::Dir::read_from(&self.fd)?;
        Ok(entries.filter_map(|entry| match entry {
            Err(error) => Some(Err(error.into())),
            Ok(entry) => match entry.file_name().to_bytes() {
                b"." | b".." => None,
                name => Some(Ok(OsString::from_vec(name.to_vec()))),
            },
        }))
    }

    /// Removes the name of anything but a folder. That there is none is no error.
    ///
    /// # Errors
    /// Fails if it cannot be removed, or is a folder.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, component(name)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes the empty folder `name`.
    ///
    /// # Errors
    /// Fails if it is not empty, or cannot be removed.
    pub fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.fd,
            component(name)?,
            AtFlags::REMOVEDIR,
        )?)
    }

    /// Moves `name` to `to`, where it is `new`. Replaces nothing.
    ///
    /// # Errors
    /// Fails with [`io::ErrorKind::AlreadyExists`] if there is something of that name.
    pub fn move_to(&self, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        match self.rename(name, to, new, RenameFlags::NOREPLACE) {
            // The file system does not know the flag (NFS).
            Err(error) if unknown_flag(&error) => {
                if to.find(new)?.is_some() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                self.rename(name, to, new, RenameFlags::empty())
            }
            result => result,
        }
    }

    pub(super) fn rename(
        &self,
        name: &OsStr,
        to: &Dir,
        new: &OsStr,
        flags: RenameFlags,
    ) -> io::Result<()> {
        let (name, new) = (component(name)?, component(new)?);
        Ok(rustix::fs::renameat_with(
            &self.fd, name, &to.fd, new, flags,
        )?)
    }

    /// Exchanges `name` and what `to` has as `new`.
    ///
    /// # Errors
    /// Fails if one of them is not there, or cannot be moved.
    pub fn exchange(&self, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        match self.rename(name, to, new, RenameFlags::EXCHANGE) {
            // The file system does not know the flag (NFS).
            Err(error) if unknown_flag(&error) => self.exchange_in_steps(name, to, new),
            result => result,
        }
    }

    fn exchange_in_steps(&self, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        let aside = OsStr::new(ASIDE);
        to.move_to(new, self, aside)?;
        if let Err(error) = self.move_to(name, to, new) {
            // Back to where it was: this folder may be removed with everything in it.
            let _ = self.move_to(aside, to, new);
            return Err(error);
        }
        self.move_to(aside, self, name)
    }

    /// Gives the user every right on the file or folder `name`, whatever mode it has.
    ///
    /// # Errors
    /// Fails if it belongs to another user, or is neither.
    pub fn unlock(&self, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let fd = self.open_at(name, flags, Mode::empty())?;
        if !matches!(Status::of(&fd)?.kind, FileKind::Regular | FileKind::Folder) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // fchmod(2) refuses a descriptor of O_PATH; its link in /proc is no guest's.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(rustix::fs::chmod(path, Mode::RWXU)?)
    }

    /// Another descriptor of the same folder.
    ///
    /// # Errors
    /// Fails if the process has too many.
    pub fn try_clone(&self) -> io::Result<Dir> {
        Ok(Dir {
            fd: self.fd.try_clone()?,
        })
    }

    fn open_at(&self, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let (name, flags) = (component(name)?, flags | OFlags::CLOEXEC);
        match rustix::fs::openat2(&self.fd, name, flags, mode, RESOLVE) {
            // Before Linux 5.6, and where a filter of a container runtime is older. For one component,
            // O_NOFOLLOW says the same.
            Err(Errno::NOSYS | Errno::PERM) => Ok(rustix::fs::openat(&self.fd, name, flags, mode)?),
            result => Ok(result?),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Dir {
        Dir { fd }
    }
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> OwnedFd {
        dir.fd
    }
}

impl Status {
    /// What is known of an open file.
    ///
    /// # Errors
    /// Fails if it cannot be examined.
    pub fn of(file: &impl AsFd) -> io::Result<Status> {
        Status::read(file.as_fd(), OsStr::new(""))
    }

    fn read(fd: BorrowedFd<'_>, name: &OsStr) -> io::Result<Status> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = statx(fd, name, flags, mask)?;
        let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
        // inode(7), "The file type and mode".
        let kind = match u32::from(stat.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => FileKind::Regular,
            libc::S_IFDIR => FileKind::Folder,
            libc::S_IFLNK => FileKind::Link,
            _ => FileKind::Special,
        };
        let known = StatxFlags::from_bits_retain(stat.stx_mask);
        Ok(Status {
            kind,
            owner: stat.stx_uid,
            len: stat.stx_size,
            inode: stat.stx_ino,
            born: known
                .contains(StatxFlags::BTIME)
                .then(|| time(stat.stx_btime)),
            modified: time(stat.stx_mtime),
        })
    }
}

fn regular(status: Status) -> io::Result<()> {
    match status.kind {
        FileKind::Regular => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a regular file",
        )),
    }
}

/// One component of a path.
fn component(name: &OsStr) -> io::Result<&OsStr> {
    match name.as_encoded_bytes() {
        b"" | b"." | b".." => Err(io::ErrorKind::InvalidInput.into()),
        bytes if bytes.contains(&b'/') || bytes.contains(&0) => {
            Err(io::ErrorKind::InvalidInput.into())
        }
        _ => Ok(name),
    }
}

/// Whether renameat2(2) refused a flag.
pub(super) fn unknown_flag(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_never_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "x").unwrap();
        fs::create_dir(path("folder")).unwrap();
        symlink("file", path("link")).unwrap();
        symlink("folder", path("folder link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let open = Dir::open(dir.path()).unwrap();
        assert!(open.file("file".as_ref()).is_ok());
        assert!(open.folder("folder".as_ref()).is_ok());
        for name in [
            "folder",
            "link",
            "fifo",
            "none",
            "..",
            ".",
            "",
            "folder/../file",
        ] {
            assert!(open.file(name.as_ref()).is_err(), "{name}");
        }
        for name in ["file", "folder link", "..", "none", "/"] {
            assert!(open.folder(name.as_ref()).is_err(), "{name}");
        }
        let kind = |name: &str| open.status(name.as_ref()).unwrap().kind;
        assert_eq!(kind("file"), FileKind::Regular);
        assert_eq!(kind("folder"), FileKind::Folder);
        assert_eq!(kind("link"), FileKind::Link);
        assert_eq!(kind("fifo"), FileKind::Special);
        assert_eq!(open.find("none".as_ref()).unwrap(), None);
        assert_eq!(open.names().unwrap().count(), 5);
    }

    #[test]
    fn an_exchange_in_steps_that_fails_leaves_all_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let open = Dir::open(dir.path()).unwrap();
        let folder = open.make_folder("folder".as_ref(), 0o755).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        fs::write(dir.path().join("there"), "old").unwrap();
        let exchange = || folder.exchange_in_steps("new".as_ref(), &open, "there".as_ref());
        assert!(exchange().is_err());
        assert_eq!(read("there").as_deref(), Some("old"));
        assert_eq!(folder.names().unwrap().count(), 0);
        fs::write(dir.path().join("folder/new"), "new").unwrap();
        exchange().unwrap();
        assert_eq!(read("there").as_deref(), Some("new"));
        assert_eq!(read("folder/new").as_deref(), Some("old"));
        assert_eq!(folder.names().unwrap().count(), 1);
    }

    #[test]
    fn what_is_made_is_new_and_has_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let open = Dir::open(dir.path()).unwrap();
        open.create("new".as_ref(), 0o640).unwrap();
        open.make_folder("folder".as_ref(), 0o750).unwrap();
        let mode = |name: &str| {
            let metadata = fs::metadata(dir.path().join(name)).unwrap();
            metadata.permissions().mode() & 0o7777
        };
        assert_eq!((mode("new"), mode("folder")), (0o640, 0o750));
        for name in ["new", "folder", "link"] {
            assert!(open.create(name.as_ref(), 0o600).is_err(), "{name}");
            assert!(open.make_folder(name.as_ref(), 0o700).is_err(), "{name}");
        }
        let error = open.move_to("new".as_ref(), &open, "link".as_ref());
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        open.move_to("new".as_ref(), &open, "moved".as_ref())
            .unwrap();
        assert!(open.find("moved".as_ref()).unwrap().is_some());
    }
}
