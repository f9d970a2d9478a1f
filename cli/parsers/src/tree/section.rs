//! Parts of open files.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// A part of a file, read front to back. A clone begins where the original is.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    file: Rc<File>,
    at: u64,
    left: u64,
}

impl Section {
    /// All of a file.
    pub(crate) fn whole(file: File) -> Section {
        Section::new(Rc::new(file), 0, u64::MAX)
    }

    /// `len` bytes of a file from `at` on, or less if it is shorter.
    pub(super) fn new(file: Rc<File>, at: u64, len: u64) -> Section {
        Section {
            file,
            at,
            left: len,
        }
    }

    /// A part of this one, `at` bytes from its beginning.
    pub(super) fn part(&self, at: u64, len: u64) -> Section {
        let at = at.min(self.left);
        Section {
            file: Rc::clone(&self.file),
            at: self.at.saturating_add(at),
            left: len.min(self.left - at),
        }
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at = self.at.saturating_add(count as u64);
        self.left -= count as u64;
        Ok(count)
    }
}
