//! FSYNC, FSYNCDIR and SYNCFS.

use std::io::Result;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};

use super::fs::PassthroughFs;
use super::handles::OpenFile;

/// Calls fsync(2) or fdatasync(2).
pub(super) fn sync(open: &OpenFile, data_only: bool) -> Result<()> {
    let result = if data_only {
        rustix::fs::fdatasync(&open.file)
    } else {
        rustix::fs::fsync(&open.file)
    };
    Ok(result?)
}

impl PassthroughFs {
    /// Writes the host's file system to its disk.
    pub(super) fn sync_file_system(&self) -> Result<()> {
        let root = self.inodes.root();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let open = self.proc.reopen(&root.fd, flags, Mode::empty())?;
        std::thread::sleep(self.sync_pace.turn(Instant::now()));
        Ok(rustix::fs::syncfs(&open)?)
    }
}
