//! Files of ours in a folder where a guest or another user may write.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};

use rustix::fs::RenameFlags;

use super::dir::Dir;

/// Names that are tried for a file in the making.
const TRIES: u32 = 100;

/// A file in the making: it gets its name when it is complete, and takes the place of what has that
/// name then, a link itself among it.
#[derive(Debug)]
pub struct Replacement<'a> {
    dir: &'a Dir,
    file: File,
    making: OsString,
    complete: bool,
}

impl<'a> Replacement<'a> {
    /// Begins the file `name` in `dir`, with exactly the mode `mode`.
    ///
    /// # Errors
    /// Fails if no file can be created there.
    pub fn begin(dir: &'a Dir, name: &OsStr, mode: u32) -> io::Result<Replacement<'a>> {
        let mut number = 0;
        loop {
            let mut making = OsString::from(".");
            // A long name leaves no room for more (255 bytes).
            making.push(OsStr::new(name.to_str().map_or("file", |name| {
                name.get(..name.len().min(64)).unwrap_or("file")
            })));
            making.push(format!(".{}-{number}", std::process::id()));
            match dir.create(&making, mode) {
                Ok(file) => {
                    return Ok(Replacement {
                        dir,
                        file,
                        making,
                        complete: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < TRIES => {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the contents go.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// Fails if the disk is full, or a folder has the name. Nothing is left of it then.
    pub fn finish(mut self, name: &OsStr) -> io::Result<()> {
        self.file.sync_all()?;
        self.dir
            .rename(&self.making, self.dir, name, RenameFlags::empty())?;
        self.complete = true;
        Ok(())
    }

    /// Writes a small file as a whole.
    ///
    /// # Errors
    /// Fails if it cannot be written. What was there is as it was then.
    pub fn write(dir: &Dir, name: &OsStr, contents: &[u8], mode: u32) -> io::Result<()> {
        let mut new = Replacement::begin(dir, name, mode)?;
        new.file().write_all(contents)?;
        new.finish(name)
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        if !self.complete {
            // The first error is the one to report.
            let _ = self.dir.remove(&self.making);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "mine").unwrap();
        symlink(&precious, dir.path().join("page")).unwrap();
        let open = Dir::open(dir.path()).unwrap();
        Replacement::write(&open, "page".as_ref(), b"new", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
        let page = dir.path().join("page");
        assert!(page.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_to_string(page).unwrap(), "new");
        // A folder is in the way, and nothing is left of the attempt.
        fs::create_dir(dir.path().join("folder")).unwrap();
        assert!(Replacement::write(&open, "folder".as_ref(), b"new", 0o644).is_err());
        assert_eq!(open.names().unwrap().count(), 3);
    }
}
