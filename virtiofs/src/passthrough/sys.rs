//! System calls that are more than one call into rustix.
//!
//! An inode is reached through our own `O_PATH` descriptor of it, by the magic link
//! `/proc/self/fd/N` where a call takes no such descriptor ([`Proc`]). A name is reached through
//! the descriptor of its directory.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, SeekFrom, Statx, StatxFlags};
use rustix::fs::{Timestamps, XattrFlags};
use rustix::io::Errno;

/// `getxattrat`, Linux 6.13; the same number on all architectures with the generic table and
/// on x86_64 (`include/uapi/asm-generic/unistd.h`).
const SYS_GETXATTRAT: libc::c_long = 464;
/// The longest list of attribute names in bytes (`XATTR_LIST_MAX`, Linux `uapi/linux/limits.h`).
const XATTR_LIST_MAX: usize = 65536;

/// Reports this process's limit of open files (`EMFILE`) as the system's (`ENFILE`), which is
/// what it is to the guest's processes.
fn opened(result: rustix::io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    result.map_err(|error| match error {
        Errno::MFILE => Errno::NFILE.into(),
        error => error.into(),
    })
}

/// Converts the result of [`libc::syscall`] to a length in bytes.
fn length(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Fails with `EINVAL` if `offset` is too large for the kernel's signed `loff_t`.
fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| Errno::INVAL.into())
}

/// Turns the error for an attribute that is not there into success.
pub(super) fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => {
            Ok(())
        }
        result => result,
    }
}

/// Opens any path. Only for the share's root and `/proc/self/fd`, never for a guest's name.
pub(super) fn open_path(path: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    opened(rustix::fs::openat(CWD, path, flags, Mode::empty()))
}

/// Opens `name` beneath `dir`: never through a symbolic link, never outside (openat2(2)).
pub(super) fn open_beneath(
    dir: impl AsFd,
    name: &CStr,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    opened(rustix::fs::openat2(dir, name, flags, mode, resolve))
}

/// Returns an inode's stat with birth time and mount id.
pub(super) fn statx(fd: impl AsFd) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    Ok(rustix::fs::statx(fd, c"", flags, mask)?)
}

/// Returns the target of the symbolic link that `fd` refers to.
pub(super) fn readlink(fd: impl AsFd) -> io::Result<Vec<u8>> {
    let mut target = vec![0_u8; libc::PATH_MAX as usize];
    let len = rustix::fs::readlinkat_raw(fd, c"", target.as_mut_slice())?;
    target.truncate(len);
    Ok(target)
}

/// Reads raw directory entries (`struct linux_dirent64`) from the descriptor's position on into
/// `buffer`; returns the number of bytes, 0 at the end.
///
/// rustix has this only behind an iterator that borrows the buffer. A buffer here outlives the
/// request that filled it.
pub(super) fn getdents(dir: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: getdents64(2) writes at most buffer.len() bytes to buffer, which is borrowed
    // mutably for the call.
    length(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            dir.as_fd().as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })
}

/// Finds data or a hole from an offset on; returns its offset. Fails with `EINVAL` if the offset is
/// too large for any file, where the kernel would answer `ENXIO`.
pub(super) fn seek_sparse(fd: impl AsFd, from: SeekFrom) -> io::Result<u64> {
    if let SeekFrom::Data(offset) | SeekFrom::Hole(offset) = from {
        signed(offset)?;
    }
    Ok(rustix::fs::seek(fd, from)?)
}

/// The path of a descriptor's magic link in `/proc/self/fd`.
#[derive(Debug)]
struct FdPath {
    text: [u8; 32],
    len: usize,
}

impl FdPath {
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
        Self {
            text,
            len: Self::PREFIX.len() + count,
        }
    }

    fn tail(&self, start: usize) -> &CStr {
        // There are 32 - 24 NULs at least, so the default is never taken.
        self.text
            .get(start..=self.len)
            .and_then(|text| CStr::from_bytes_with_nul(text).ok())
            .unwrap_or_default()
    }

    /// The absolute path.
    fn path(&self) -> &CStr {
        self.tail(0)
    }

    /// The name relative to `/proc/self/fd`.
    fn name(&self) -> &CStr {
        self.tail(Self::PREFIX.len())
    }
}

/// `/proc/self/fd`, to reach inodes by our descriptors of them.
#[derive(Debug)]
pub(super) struct Proc {
    dir: OwnedFd,
    getxattrat: bool,
}

/// `struct xattr_args` (Linux `include/uapi/linux/xattr.h`).
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
        let dir = open_path(c"/proc/self/fd", OFlags::PATH | OFlags::DIRECTORY)?;
        let mut proc = Self {
            dir,
            getxattrat: true,
        };
        let probe = || {
            let name = c"user.containers.override_stat";
            let answer = proc.getxattr(&proc.dir, name, &mut []);
            matches!(
                answer.map_err(|error| error.raw_os_error()),
                Ok(_) | Err(Some(libc::ENODATA | libc::EOPNOTSUPP))
            )
        };
        proc.getxattrat = *GETXATTRAT.get_or_init(probe);
        Ok(proc)
    }

    /// Opens the inode once more. Only for regular files and directories: opening a device or a
    /// FIFO would touch hardware or wait.
    pub(super) fn reopen(&self, fd: impl AsFd, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = FdPath::new(fd.as_fd());
        let flags = flags | OFlags::CLOEXEC;
        opened(rustix::fs::openat(&self.dir, path.name(), flags, mode))
    }

    /// Changes permission bits on the host.
    pub(super) fn chmod(&self, fd: impl AsFd, mode: u32) -> io::Result<()> {
        let (path, mode) = (FdPath::new(fd.as_fd()), Mode::from_bits_retain(mode));
        Ok(rustix::fs::chmodat(
            &self.dir,
            path.name(),
            mode,
            AtFlags::empty(),
        )?)
    }

    /// Sets access and modification time.
    pub(super) fn utimens(&self, fd: impl AsFd, times: &Timestamps) -> io::Result<()> {
        let path = FdPath::new(fd.as_fd());
        Ok(rustix::fs::utimensat(
            &self.dir,
            path.name(),
            times,
            AtFlags::empty(),
        )?)
    }

    /// Changes the size of a regular file that is not open.
    pub(super) fn truncate(&self, fd: impl AsFd, size: u64) -> io::Result<()> {
        // rustix has no truncate(2).
        let path = FdPath::new(fd.as_fd());
        Ok(nix::unistd::truncate(path.path(), signed(size)?)?)
    }

    /// Adds a name for the inode: `new_name` in `dir`.
    pub(super) fn link(&self, fd: impl AsFd, dir: impl AsFd, new_name: &CStr) -> io::Result<()> {
        let path = FdPath::new(fd.as_fd());
        let flags = AtFlags::SYMLINK_FOLLOW;
        Ok(rustix::fs::linkat(
            &self.dir,
            path.name(),
            dir,
            new_name,
            flags,
        )?)
    }

    /// Reads an extended attribute of a regular file or directory; returns its length. An empty
    /// `value` asks only for the length.
    pub(super) fn getxattr(
        &self,
        fd: impl AsFd,
        name: &CStr,
        value: &mut [u8],
    ) -> io::Result<usize> {
        let path = FdPath::new(fd.as_fd());
        if self.getxattrat {
            return getxattrat(&self.dir, path.name(), AtFlags::empty(), name, value);
        }
        Ok(rustix::fs::getxattr(path.path(), name, value)?)
    }

    /// Reads an extended attribute of the file with this name in a directory; fails with
    /// `ENOSYS` if the kernel has no `getxattrat`.
    pub(super) fn getxattr_in(
        &self,
        dir: impl AsFd,
        file: &CStr,
        name: &CStr,
        value: &mut [u8],
    ) -> io::Result<usize> {
        if !self.getxattrat {
            return Err(Errno::NOSYS.into());
        }
        getxattrat(dir, file, AtFlags::SYMLINK_NOFOLLOW, name, value)
    }

    /// Sets an extended attribute.
    pub(super) fn setxattr(
        &self,
        fd: impl AsFd,
        name: &CStr,
        value: &[u8],
        flags: XattrFlags,
    ) -> io::Result<()> {
        let path = FdPath::new(fd.as_fd());
        Ok(rustix::fs::setxattr(path.path(), name, value, flags)?)
    }

    /// Removes an extended attribute.
    pub(super) fn removexattr(&self, fd: impl AsFd, name: &CStr) -> io::Result<()> {
        let path = FdPath::new(fd.as_fd());
        Ok(rustix::fs::removexattr(path.path(), name)?)
    }

    /// Returns the names of all extended attributes, each with a NUL.
    pub(super) fn listxattr(&self, fd: impl AsFd) -> io::Result<Vec<u8>> {
        let path = FdPath::new(fd.as_fd());
        let mut list = vec![0_u8; XATTR_LIST_MAX];
        let len = rustix::fs::listxattr(path.path(), list.as_mut_slice())?;
        list.truncate(len);
        Ok(list)
    }
}

/// getxattrat(2), which rustix does not have.
fn getxattrat(
    dir: impl AsFd,
    path: &CStr,
    flags: AtFlags,
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
    // SAFETY: path and name are NUL-terminated, args is as large as stated and names a buffer at
    // least as large as it states; all of them are borrowed for the call.
    length(unsafe {
        libc::syscall(
            SYS_GETXATTRAT,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags.bits(),
            name.as_ptr(),
            &raw mut args,
            size_of::<XattrArgs>(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_have_their_paths() {
        for number in [0, 7, 10, 123, 1_048_575, i32::MAX] {
            // SAFETY: the descriptor is never used, only its number.
            let path = FdPath::new(unsafe { BorrowedFd::borrow_raw(number) });
            assert_eq!(path.name().to_str().unwrap(), number.to_string());
            let whole = format!("/proc/self/fd/{number}");
            assert_eq!(path.path().to_str().unwrap(), whole);
        }
    }
}
