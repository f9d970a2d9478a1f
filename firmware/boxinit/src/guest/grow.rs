//! Grows the root file system to the size of its disk, as the box's own init would on a first boot:
//! the disk may be larger than when the box was made (`--disk-size`).

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Least free space that is used, in sectors of 512 bytes.
const MIN_GAIN: u64 = 2048;

/// Grows the partition `device` to the end of its disk, in the kernel's view only: the table on the
/// disk is never read again. Returns `None` if it is not the last partition, or has no free space
/// behind it.
pub(super) fn partition(device: &Path) -> Option<()> {
    let name = device.file_name()?;
    let folder = fs::canonicalize(Path::new("/sys/class/block").join(name)).ok()?;
    let number = |path: &Path| {
        fs::read_to_string(path)
            .ok()?
            .trim_end()
            .parse::<u64>()
            .ok()
    };
    let index = number(&folder.join("partition"))?;
    let disk = folder.parent()?;
    let (start, size) = (
        number(&folder.join("start"))?,
        number(&folder.join("size"))?,
    );
    let end = number(&disk.join("size"))?;
    let has_successor = fs::read_dir(disk)
        .ok()?
        .flatten()
        .any(|entry| number(&entry.path().join("start")).is_some_and(|other| other > start));
    if has_successor || end < start + size + MIN_GAIN {
        return None;
    }
    let path = Path::new("/dev").join(disk.file_name()?);
    if let Err(error) = resize(&path, index, start, end - start) {
        eprintln!(
            "boxbuild: cannot grow the partition {}: {error}",
            device.display()
        );
    }
    Some(())
}

/// `BLKPG_RESIZE_PARTITION` (linux/blkpg.h). Start and length in sectors of 512 bytes.
fn resize(disk: &Path, number: u64, start: u64, length: u64) -> io::Result<()> {
    /// `BLKPG` (linux/fs.h): `_IO(0x12, 105)`.
    const BLKPG: libc::c_ulong = 0x1269;
    const RESIZE: libc::c_int = 3;
    #[repr(C)]
    struct Partition {
        start: i64,
        length: i64,
        number: libc::c_int,
        names: [u8; 128],
    }
    #[repr(C)]
    struct Argument {
        op: libc::c_int,
        flags: libc::c_int,
        data_length: libc::c_int,
        data: *mut Partition,
    }
    let bytes = |sectors: u64| i64::try_from(sectors << 9).map_err(io::Error::other);
    let mut partition = Partition {
        start: bytes(start)?,
        length: bytes(length)?,
        number: libc::c_int::try_from(number).map_err(io::Error::other)?,
        names: [0; 128],
    };
    let argument = Argument {
        op: RESIZE,
        flags: 0,
        data_length: size_of::<Partition>() as libc::c_int,
        data: &raw mut partition,
    };
    let disk = File::open(disk)?;
    // SAFETY: the kernel reads both structures, which live through the call.
    check(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw const argument) })
}

/// Grows the mounted file system of the type `kind` to the size of its `device`.
pub(super) fn file_system(root: &Path, device: &Path, kind: &str) {
    let result = match kind {
        "ext4" => ext4(root, device),
        "btrfs" => btrfs(root),
        _ => return,
    };
    if let Err(error) = result {
        eprintln!("boxbuild: cannot grow the root file system ({kind}): {error}");
    }
}

fn ext4(root: &Path, device: &Path) -> io::Result<()> {
    /// `EXT4_IOC_RESIZE_FS` (linux/ext4.h): `_IOW('f', 16, __u64)`, the new number of blocks.
    const RESIZE: libc::c_ulong = 0x4008_6610;
    let name = device.file_name().unwrap_or_default();
    let size = fs::read_to_string(Path::new("/sys/class/block").join(name).join("size"))?;
    let sectors: u64 = size.trim_end().parse().map_err(io::Error::other)?;
    let block = nix::sys::statvfs::statvfs(root)?.block_size().max(512);
    let blocks: u64 = (sectors << 9) / block;
    let folder = File::open(root)?;
    // SAFETY: the kernel reads one number.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), RESIZE as _, &raw const blocks) })
}

fn btrfs(root: &Path) -> io::Result<()> {
    /// `BTRFS_IOC_RESIZE` (linux/btrfs.h): `_IOW(0x94, 3, struct btrfs_ioctl_vol_args)`.
    const RESIZE: libc::c_ulong = 0x5000_9403;
    #[repr(C)]
    struct Argument {
        fd: i64,
        name: [u8; 4088],
    }
    let mut argument = Argument {
        fd: 0,
        name: [0; 4088],
    };
    argument.name[..3].copy_from_slice(b"max");
    let folder = File::open(root)?;
    // SAFETY: the kernel reads the structure.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), RESIZE as _, &raw const argument) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
