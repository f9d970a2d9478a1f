//! Files that are hashed as they are written.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use boxbuild_host::digest::hex;
use boxbuild_host::space::GuardedFile;
use sha2::{Digest, Sha256};

/// A new file whose content is hashed as it is written. It grows as long as its file system has space.
#[derive(Debug)]
pub struct HashedFile {
    file: GuardedFile,
    hash: Sha256,
    size: u64,
}

impl HashedFile {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// Fails if it cannot be created.
    pub fn create(path: &Path) -> io::Result<HashedFile> {
        Ok(HashedFile {
            file: GuardedFile::new(File::create(path)?),
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Returns the number of bytes written and their SHA-256 in lower-case hex.
    pub fn finish(self) -> (u64, String) {
        (self.size, hex(&self.hash.finalize()))
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
