//! The kernel's start, the ramdisk and the command line, as the caller gave them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::error::BootError;
use crate::memory::{GuestRam, read_from_file};

/// Where the ramdisk lies in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InitrdRange {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// The first `len` bytes of a file, fewer only if it is that short.
pub(crate) fn read_start(file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut start = vec![0; len];
    let mut len = 0;
    loop {
        match file.read_at(start.get_mut(len..).unwrap_or_default(), len as u64) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if len >= start.len() {
            break;
        }
    }
    start.truncate(len);
    Ok(start)
}

/// Checks a command line against the longest that a kernel takes, in bytes without the final NUL.
pub(crate) fn check_cmdline(cmdline: &str, limit: u64) -> Result<(), BootError> {
    if cmdline.len() as u64 > limit {
        return Err(BootError::Cmdline {
            length: cmdline.len(),
            limit,
        });
    }
    if cmdline.contains('\0') {
        return Err(BootError::CmdlineNul);
    }
    Ok(())
}

/// Loads the ramdisk as high in `room` (guest addresses) as it goes: out of the way of the kernel,
/// which lies before it and unpacks itself there.
pub(crate) fn load_initrd(
    ram: &GuestRam,
    file: &File,
    room: Range<u64>,
) -> Result<InitrdRange, BootError> {
    const PAGE: u64 = 4096;
    let len = file.metadata().map_err(BootError::InitrdFile)?.len();
    let top = room.end & !(PAGE - 1);
    let start = top.saturating_sub(len) & !(PAGE - 1);
    if len > top || start < room.start {
        return Err(BootError::InitrdRoom {
            size: len,
            room: top.saturating_sub(room.start),
        });
    }
    read_from_file(ram, (start, len), file, 0).map_err(BootError::InitrdFile)?;
    Ok(InitrdRange { start, len })
}
