//! The system calls used, as safe functions.
//!
//! Whatever is done to an inode goes through our own `O_PATH` descriptor of it, by the magic
//! link `/proc/self/fd/N` where a call takes no such descriptor. Whatever is done to a name goes
//! through the descriptor of its directory.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// `getxattrat`, Linux 6.13; the same number on all architectures with the generic table and
/// on x86_64 (`include/uapi/asm-generic/unistd.h`).
const SYS_GETXATTRAT: libc::c_long = 464;

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn length(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn descriptor(result: i64) -> io::Result<OwnedFd> {
    if result >= 0 {
        // SAFETY: a call that opens a file succeeded, so this is a new descriptor that nobody
        // else owns.
        return Ok(unsafe { OwnedFd::from_raw_fd(result as i32) });
    }
    let error = io::Error::last_os_error();
    // Whose limit it is does not matter to the guest; for its processes it is the system's.
    if error.raw_os_error() == Some(libc::EMFILE) {
        return Err(io::Error::from_raw_os_error(libc::ENFILE));
    }
    Err(error)
}

/// Opens any path. Only for the share's root and `/proc/self/fd`, never for the guest.
pub(super) fn open_path(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: path is a NUL-terminated string.
    descriptor(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }.into())
}

/// Opens `name` beneath `dir`: never through a symbolic link, never outside (openat2).
pub(super) fn open_beneath(
    dir: BorrowedFd<'_>,
    name: &CStr,
    flags: i32,
    mode: u32,
) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain integers, for which 0 is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC | libc::O_NOFOLLOW) as u64;
    how.mode = u64::from(mode);
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS;
    // SAFETY: name is NUL-terminated, how is valid and as large as stated.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    })
}

/// stat of an inode with birth time and mount id.
pub(super) fn statx(fd: BorrowedFd<'_>) -> io::Result<libc::statx> {
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID;
    // SAFETY: statx is plain integers, for which 0 is valid.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the path is NUL-terminated and stat is large enough.
    check(unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, mask, &raw mut stat) })?;
    Ok(stat)
}

/// Room and limits of the file system that an inode is in.
pub(super) fn statvfs(fd: BorrowedFd<'_>) -> io::Result<libc::statvfs64> {
    // SAFETY: statvfs64 is plain integers, for which 0 is valid.
    let mut stat: libc::statvfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: stat is large enough.
    check(unsafe { libc::fstatvfs64(fd.as_raw_fd(), &raw mut stat) })?;
    Ok(stat)
}

/// Creates a directory.
pub(super) fn mkdir(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: name is NUL-terminated.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) })
}

/// Creates a FIFO or a socket.
pub(super) fn mknod(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: name is NUL-terminated.
    check(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, 0) })
}

/// Creates a symbolic link.
pub(super) fn symlink(target: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: both are NUL-terminated.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) })
}

/// The target of the symbolic link that `fd` is.
pub(super) fn readlink(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut target = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: target is as large as stated.
    let len = length(unsafe {
        libc::readlinkat(
            fd.as_raw_fd(),
            c"".as_ptr(),
            target.as_mut_ptr().cast(),
            target.len(),
        )
    })?;
    target.truncate(len);
    Ok(target)
}

/// Removes a name; `flags` is 0 or `AT_REMOVEDIR`.
pub(super) fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> io::Result<()> {
    // SAFETY: name is NUL-terminated.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) })
}

/// renameat2(2)
pub(super) fn rename(
    dir: BorrowedFd<'_>,
    name: &CStr,
    new_dir: BorrowedFd<'_>,
    new_name: &CStr,
    flags: u32,
) -> io::Result<()> {
    // SAFETY: both names are NUL-terminated.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            dir.as_raw_fd(),
            name.as_ptr(),
            new_dir.as_raw_fd(),
            new_name.as_ptr(),
            flags,
        )
    };
    check(result as i32)
}

/// Sets the position and reads raw directory entries (`struct linux_dirent64`) into `buffer`;
/// returns the number of bytes, 0 at the end.
pub(super) fn getdents(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: buffer is as large as stated.
    let result = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            dir.as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    length(result as isize)
}

/// lseek(2); returns the new position.
pub(super) fn seek(fd: BorrowedFd<'_>, offset: u64, whence: i32) -> io::Result<u64> {
    let offset = signed(offset)?;
    // SAFETY: no memory is involved.
    let position = unsafe { libc::lseek64(fd.as_raw_fd(), offset, whence) };
    u64::try_from(position).map_err(|_| io::Error::last_os_error())
}

/// fsync(2) or fdatasync(2)
pub(super) fn sync(fd: BorrowedFd<'_>, data_only: bool) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe {
        if data_only {
            libc::fdatasync(fd.as_raw_fd())
        } else {
            libc::fsync(fd.as_raw_fd())
        }
    })
}

/// syncfs(2)
pub(super) fn syncfs(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syncfs(fd.as_raw_fd()) })
}

/// ftruncate(2)
pub(super) fn ftruncate(fd: BorrowedFd<'_>, size: u64) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::ftruncate64(fd.as_raw_fd(), signed(size)?) })
}

/// fallocate(2)
pub(super) fn fallocate(fd: BorrowedFd<'_>, mode: u32, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (signed(offset)?, signed(len)?);
    // SAFETY: no memory is involved.
    check(unsafe { libc::fallocate64(fd.as_raw_fd(), mode as i32, offset, len) })
}

/// copy_file_range(2)
pub(super) fn copy_file_range(
    from: (BorrowedFd<'_>, u64),
    to: (BorrowedFd<'_>, u64),
    len: usize,
) -> io::Result<usize> {
    let (mut off_in, mut off_out) = (signed(from.1)?, signed(to.1)?);
    // SAFETY: both offsets live for the call.
    length(unsafe {
        libc::copy_file_range(
            from.0.as_raw_fd(),
            &raw mut off_in,
            to.0.as_raw_fd(),
            &raw mut off_out,
            len,
            0,
        )
    })
}

fn signed(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// A descriptor's number as text, as its name in `/proc/self/fd`.
#[derive(Debug)]
struct FdName([u8; 32]);

impl FdName {
    const PREFIX: &'static [u8; 14] = b"/proc/self/fd/";

    fn new(fd: BorrowedFd<'_>) -> Self {
        // Digits are written from the back: at most 10, then the NUL that is there already.
        let mut text = [0_u8; 32];
        let mut digits = [0_u8; 10];
        let mut rest = fd.as_raw_fd().unsigned_abs();
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        let used = digits.get(10 - count..).unwrap_or_default();
        for (to, from) in text.iter_mut().zip(Self::PREFIX.iter().chain(used)) {
            *to = *from;
        }
        Self(text)
    }

    /// The absolute path.
    fn path(&self) -> *const libc::c_char {
        self.0.as_ptr().cast()
    }

    /// The name relative to `/proc/self/fd`.
    fn name(&self) -> *const libc::c_char {
        self.0.as_ptr().wrapping_add(Self::PREFIX.len()).cast()
    }
}

/// `/proc/self/fd`, to reach inodes by our descriptors of them.
#[derive(Debug)]
pub(super) struct Proc {
    dir: OwnedFd,
    getxattrat: bool,
}

#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Whether the kernel has `getxattrat`, once it has been asked.
static GETXATTRAT: OnceLock<bool> = OnceLock::new();

impl Proc {
    /// Opens it, and finds out whether the kernel has `getxattrat`.
    pub(super) fn new() -> io::Result<Self> {
        let dir = open_path(c"/proc/self/fd", libc::O_PATH | libc::O_DIRECTORY)?;
        let mut proc = Self {
            dir,
            getxattrat: true,
        };
        let probe = || {
            let name = c"user.containers.override_stat";
            let answer = proc.getxattr(borrow(&proc.dir), name, &mut []);
            matches!(
                answer.map_err(|error| error.raw_os_error()),
                Ok(_) | Err(Some(libc::ENODATA | libc::EOPNOTSUPP))
            )
        };
        proc.getxattrat = *GETXATTRAT.get_or_init(probe);
        Ok(proc)
    }

    fn dir(&self) -> i32 {
        self.dir.as_raw_fd()
    }

    /// Opens the inode once more. Only for regular files and directories: opening a device or a
    /// FIFO would touch hardware or wait.
    pub(super) fn reopen(&self, fd: BorrowedFd<'_>, flags: i32, mode: u32) -> io::Result<OwnedFd> {
        let name = FdName::new(fd);
        // SAFETY: the name is NUL-terminated.
        descriptor(
            unsafe { libc::openat(self.dir(), name.name(), flags | libc::O_CLOEXEC, mode) }.into(),
        )
    }

    /// Changes permission bits on the host.
    pub(super) fn chmod(&self, fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
        let name = FdName::new(fd);
        // SAFETY: the name is NUL-terminated.
        check(unsafe { libc::fchmodat(self.dir(), name.name(), mode, 0) })
    }

    /// Sets access and modification time.
    pub(super) fn utimens(
        &self,
        fd: BorrowedFd<'_>,
        times: &[libc::timespec; 2],
    ) -> io::Result<()> {
        let name = FdName::new(fd);
        // SAFETY: the name is NUL-terminated and there are two times.
        check(unsafe { libc::utimensat(self.dir(), name.name(), times.as_ptr(), 0) })
    }

    /// Changes the size of a regular file that is not open.
    pub(super) fn truncate(&self, fd: BorrowedFd<'_>, size: u64) -> io::Result<()> {
        let name = FdName::new(fd);
        // SAFETY: the path is NUL-terminated.
        check(unsafe { libc::truncate64(name.path(), signed(size)?) })
    }

    /// Gives the inode one more name.
    pub(super) fn link(
        &self,
        fd: BorrowedFd<'_>,
        dir: BorrowedFd<'_>,
        new_name: &CStr,
    ) -> io::Result<()> {
        let name = FdName::new(fd);
        let flags = libc::AT_SYMLINK_FOLLOW;
        // SAFETY: both names are NUL-terminated.
        check(unsafe {
            libc::linkat(
                self.dir(),
                name.name(),
                dir.as_raw_fd(),
                new_name.as_ptr(),
                flags,
            )
        })
    }

    /// Reads an extended attribute of a regular file or directory; an empty `value` asks only
    /// for the size.
    pub(super) fn getxattr(
        &self,
        fd: BorrowedFd<'_>,
        name: &CStr,
        value: &mut [u8],
    ) -> io::Result<usize> {
        let path = FdName::new(fd);
        if self.getxattrat {
            return getxattr_at(self.dir(), path.name(), 0, name, value);
        }
        // SAFETY: both strings are NUL-terminated, value is as large as stated.
        length(unsafe {
            libc::getxattr(
                path.path(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        })
    }

    /// Reads an extended attribute by name in a directory, `ENOSYS` if the kernel cannot.
    pub(super) fn getxattr_in(
        &self,
        dir: BorrowedFd<'_>,
        file: &CStr,
        name: &CStr,
        value: &mut [u8],
    ) -> io::Result<usize> {
        if !self.getxattrat {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let flags = libc::AT_SYMLINK_NOFOLLOW as u32;
        getxattr_at(dir.as_raw_fd(), file.as_ptr(), flags, name, value)
    }

    /// Sets an extended attribute.
    pub(super) fn setxattr(
        &self,
        fd: BorrowedFd<'_>,
        name: &CStr,
        value: &[u8],
        flags: i32,
    ) -> io::Result<()> {
        let path = FdName::new(fd);
        let (data, len) = (value.as_ptr().cast(), value.len());
        // SAFETY: both strings are NUL-terminated, value is as large as stated.
        check(unsafe { libc::setxattr(path.path(), name.as_ptr(), data, len, flags) })
    }

    /// Removes an extended attribute.
    pub(super) fn removexattr(&self, fd: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let path = FdName::new(fd);
        // SAFETY: both strings are NUL-terminated.
        check(unsafe { libc::removexattr(path.path(), name.as_ptr()) })
    }

    /// Names of all extended attributes, each with a NUL.
    pub(super) fn listxattr(&self, fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        let path = FdName::new(fd);
        // XATTR_LIST_MAX (Linux uapi/linux/limits.h)
        let mut list = vec![0_u8; 65536];
        // SAFETY: the path is NUL-terminated, list is as large as stated.
        let len =
            length(unsafe { libc::listxattr(path.path(), list.as_mut_ptr().cast(), list.len()) })?;
        list.truncate(len);
        Ok(list)
    }
}

fn getxattr_at(
    dir: i32,
    path: *const libc::c_char,
    at_flags: u32,
    name: &CStr,
    value: &mut [u8],
) -> io::Result<usize> {
    let mut args = XattrArgs {
        value: if value.is_empty() {
            0
        } else {
            value.as_mut_ptr() as u64
        },
        size: u32::try_from(value.len()).unwrap_or(u32::MAX),
        flags: 0,
    };
    // SAFETY: both callers pass a NUL-terminated path that lives for the call, name is
    // NUL-terminated, args is as large as stated and names a buffer as large as it states.
    let result = unsafe {
        libc::syscall(
            SYS_GETXATTRAT,
            dir,
            path,
            at_flags,
            name.as_ptr(),
            &raw mut args,
            size_of::<XattrArgs>(),
        )
    };
    length(result as isize)
}

/// A borrow for a call.
pub(super) fn borrow(fd: &OwnedFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_have_their_names() {
        for number in [0, 7, 10, 123, 1_048_575, i32::MAX] {
            // SAFETY: the descriptor is never used, only its number.
            let name = FdName::new(unsafe { BorrowedFd::borrow_raw(number) });
            // SAFETY: FdName is NUL-terminated.
            let text = unsafe { CStr::from_ptr(name.name()) };
            assert_eq!(text.to_str().unwrap(), number.to_string());
            // SAFETY: FdName is NUL-terminated.
            let path = unsafe { CStr::from_ptr(name.path()) };
            assert_eq!(path.to_str().unwrap(), format!("/proc/self/fd/{number}"));
        }
    }
}
