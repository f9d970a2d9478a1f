//! The copy of a serial line in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use boxbuild_host::error::IoError;
use boxbuild_host::text::shown_path;

use crate::error::RunError;

/// Bytes that are written at most: a guest may write for ever.
const MOST: u64 = 256 << 20;

/// A log of text.
#[derive(Debug)]
pub(crate) struct SerialLog {
    file: io::BufWriter<File>,
    path: PathBuf,
    left: u64,
    failed: bool,
}

impl SerialLog {
    /// Begins a log. It replaces an earlier one, but none of the files `image`.
    pub(crate) fn begin(path: &Path, image: &[&File]) -> Result<SerialLog, RunError> {
        let failed = |error| {
            let cause = format!("{}: {error}", shown_path(path));
            RunError::Option(format!("--log: the log cannot be written to {cause}"))
        };
        // Looked at before it is cut.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        let own = file.metadata().map_err(failed)?;
        let mut of_image = image.iter().filter_map(|file| file.metadata().ok());
        if of_image.any(|of_image| (own.dev(), own.ino()) == (of_image.dev(), of_image.ino())) {
            return Err(RunError::Option(format!(
                "--log: {} is the image itself or a part of it: choose another file",
                shown_path(path)
            )));
        }
        if own.is_file() {
            file.set_len(0).map_err(failed)?;
        }
        Ok(SerialLog {
            file: io::BufWriter::new(file),
            path: path.to_owned(),
            left: MOST,
            failed: false,
        })
    }

    /// Writes a line. Returns what the user should know.
    pub(crate) fn line(&mut self, line: &str) -> Option<String> {
        if self.failed {
            return None;
        }
        let written = match self.left.checked_sub(line.len() as u64 + 1) {
            Some(left) => {
                self.left = left;
                writeln!(self.file, "{line}")
            }
            None => {
                self.failed = true;
                let text = format!("[boxbuild: no more than {} MiB are kept]", MOST >> 20);
                let written = writeln!(self.file, "{text}");
                return written.err().map(|error| self.problem(error));
            }
        };
        written.err().map(|error| {
            self.failed = true;
            self.problem(error)
        })
    }

    /// Writes what is left in memory.
    pub(crate) fn flush(&mut self) -> Option<String> {
        if self.failed {
            return None;
        }
        self.file.flush().err().map(|error| {
            self.failed = true;
            self.problem(error)
        })
    }

    fn problem(&self, error: io::Error) -> String {
        let error = IoError::on("write the log", &self.path)(error);
        let cause = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        format!("{error}: {cause}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_replaces_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("image"), "precious").unwrap();
        std::fs::hard_link(path("image"), path("link")).unwrap();
        std::fs::write(path("ramdisk"), "precious").unwrap();
        let image = File::open(path("image")).unwrap();
        let image = [&image, &File::open(path("ramdisk")).unwrap()];
        for name in ["image", "link", "ramdisk"] {
            let error = SerialLog::begin(&path(name), &image).unwrap_err();
            assert!(error.to_string().contains("is the image itself"), "{error}");
        }
        for name in ["image", "ramdisk"] {
            assert_eq!(std::fs::read_to_string(path(name)).unwrap(), "precious");
        }
        for text in ["a long first line", "second"] {
            let mut log = SerialLog::begin(&path("log"), &image).unwrap();
            assert_eq!(log.line(text), None);
            assert_eq!(log.flush(), None);
            assert_eq!(
                std::fs::read_to_string(path("log")).unwrap(),
                format!("{text}\n")
            );
        }
        assert!(SerialLog::begin(&path("none/log"), &image).is_err());
    }

    #[test]
    fn a_full_disk_is_told_once() {
        let mut log = SerialLog::begin(Path::new("/dev/full"), &[]).unwrap();
        let mut told = 0;
        for _ in 0..10_000 {
            told += usize::from(log.line("a line of the console").is_some());
        }
        assert_eq!(told, 1);
    }
}
