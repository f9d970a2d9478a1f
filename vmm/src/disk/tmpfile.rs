//! Files without a name (`O_TMPFILE`), which are gone when they are closed unless they get one.
//!
//! Where the file system has none (NFS, FAT; FUSE and overlayfs on older kernels), the file has a name
//! for an instant, and gets a later one by a copy.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{Whence, linkat, lseek64};

/// Bytes that are copied at once. A piece of only zeros becomes a hole.
const PIECE: usize = 64 << 10;

/// Creates a file without a name in the file system of `folder`, readable and writable by its owner alone.
///
/// # Errors
/// If it cannot be made.
pub fn create(folder: &Path) -> io::Result<File> {
    // Without O_EXCL, which would rule out a name for ever (open(2), O_TMPFILE).
    let unnamed = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(folder);
    match unnamed {
        // EISDIR: the kernel knows no such flag and sees a folder opened for writing (open(2)).
        // EINVAL: so answer some FUSE servers.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
            ) =>
        {
            create_and_unlink(folder)
        }
        result => result,
    }
}

fn create_and_unlink(folder: &Path) -> io::Result<File> {
    let named = tempfile::Builder::new()
        .prefix(".boxbuild-")
        .tempfile_in(folder)?;
    let (file, path) = named.into_parts();
    path.close()?;
    Ok(file)
}

/// Gives a file that [`create`] made the name `path`, in the same file system.
///
/// # Errors
/// If there is such a name already, or it cannot be given.
pub fn link(file: &File, path: &Path) -> io::Result<()> {
    // The way that takes no privilege (open(2), O_TMPFILE).
    let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    match linkat(AT_FDCWD, descriptor.as_str(), AT_FDCWD, path, flags) {
        // It has had a name, and gets no other one.
        Err(Errno::ENOENT) => copy(file, path),
        result => Ok(result?),
    }
}

/// Copies `from`, whose holes stay holes, to a new file.
fn copy(from: &File, path: &Path) -> io::Result<()> {
    let to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let result = copy_data(from, &to);
    if result.is_err() {
        let _ = std::fs::remove_file(path);
    }
    result
}

fn copy_data(from: &File, to: &File) -> io::Result<()> {
    let len = from.metadata()?.size();
    to.set_len(len)?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < len {
        // Where the file system does not tell its holes, zeros do.
        at = match lseek64(from, at.cast_signed(), Whence::SeekData) {
            Ok(data) => data.cast_unsigned(),
            Err(Errno::ENXIO) => break,
            Err(_) => at,
        };
        let piece = &mut piece[..PIECE.min((len - at) as usize)];
        from.read_exact_at(piece, at)?;
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, at)?;
        }
        at += piece.len() as u64;
    }
    to.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The scratch folder of a container on an older kernel, or of a home folder on NFS, is on such
    /// a file system; no build began there.
    #[test]
    fn a_file_system_without_unnamed_files_will_do() {
        const LEN: u64 = 1 << 30;
        let dir = tempfile::tempdir().unwrap();
        let file = create_and_unlink(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        file.set_len(LEN + 5).unwrap();
        for at in [0, 5 << 20, LEN + 1] {
            file.write_all_at(b"data", at).unwrap();
        }
        let path = dir.path().join("name");
        link(&file, &path).unwrap();
        assert!(link(&file, &path).is_err());
        let copy = File::open(&path).unwrap();
        let metadata = copy.metadata().unwrap();
        assert_eq!(metadata.len(), LEN + 5);
        assert_eq!(metadata.mode() & 0o777, 0o600);
        assert!(metadata.blocks() * 512 <= 4 << 20, "{}", metadata.blocks());
        for at in [0, 5 << 20, LEN + 1] {
            let mut bytes = [0; 4];
            copy.read_exact_at(&mut bytes, at).unwrap();
            assert_eq!(&bytes, b"data");
        }
        let nowhere = link(&file, &dir.path().join("none/name"));
        assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_gets_its_name_late() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = create(dir.path()).unwrap();
        file.write_all(b"kept").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let path = dir.path().join("name");
        link(&file, &path).unwrap();
        assert!(link(&file, &path).is_err());
        drop(file);
        assert_eq!(std::fs::read(path).unwrap(), b"kept");
    }
}
