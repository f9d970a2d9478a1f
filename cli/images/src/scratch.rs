//! Files without names for what images unpack to.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use boxbuild_vmm::disk::tmpfile;
use nix::unistd::{AccessFlags, access};

use crate::error::RunError;

/// A piece of this many zeros becomes a hole.
const PIECE: usize = 64 << 10;

/// Finds the folder for what a guest writes and images unpack to, which can be as much as they are
/// long.
///
/// # Errors
/// If none can be written.
pub(crate) fn folder() -> Result<PathBuf, RunError> {
    let asked = std::env::var_os("TMPDIR").map(PathBuf::from);
    let candidates = asked
        .into_iter()
        .chain(["/var/tmp", "/tmp"].map(PathBuf::from));
    let writable = |folder: &PathBuf| access(folder, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    // Programs that run in another folder get its path.
    let candidates = candidates.into_iter().flat_map(std::path::absolute);
    candidates.into_iter().find(writable).ok_or_else(|| {
        RunError::Option(String::from(
            "no folder for large temporary files can be written (TMPDIR, /var/tmp, /tmp): set TMPDIR to one \
             that has room for an image",
        ))
    })
}

/// A file that has holes where zeros are written.
#[derive(Debug)]
pub(crate) struct Sparse {
    file: File,
    /// Bytes of zeros that have been written last and are not in the file.
    hole: u64,
    length: u64,
}

impl Sparse {
    pub(crate) fn create(folder: &Path) -> Result<Sparse, RunError> {
        let file = tmpfile::create(folder).map_err(|error| {
            RunError::Host(format!("create a file in {}", folder.display()), error)
        })?;
        Ok(Sparse {
            file,
            hole: 0,
            length: 0,
        })
    }

    /// Returns the file, from its beginning, and only to be read: QEMU takes no other for an image.
    pub(crate) fn finish(self) -> io::Result<File> {
        self.file.set_len(self.length)?;
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Up to the end of a piece, so that holes lie where blocks of the file do.
        let room = PIECE - (self.length % PIECE as u64) as usize;
        let piece = &bytes[..bytes.len().min(room)];
        if piece.iter().all(|byte| *byte == 0) {
            self.hole += piece.len() as u64;
        } else {
            if self.hole > 0 {
                self.file.seek(SeekFrom::Start(self.length))?;
                self.hole = 0;
            }
            self.file.write_all(piece)?;
        }
        self.length += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn zeros_take_no_room_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut sparse = Sparse::create(dir.path()).unwrap();
        let mut wanted = vec![0; 3 << 20];
        wanted[100] = 1;
        wanted[(2 << 20) + 5] = 2;
        for chunk in wanted.chunks(1000) {
            sparse.write_all(chunk).unwrap();
        }
        let mut file = sparse.finish().unwrap();
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert!(found == wanted);
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
