//! Errors of file operations, and the class of every error.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::text::shown_path;

/// Who can correct an error. Each class is an exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The user, with other words on the command line or in a file.
    Usage,
    /// The host or the box has a problem.
    Host,
    /// The user interrupted the run.
    Interrupted,
}

/// An error that knows its class.
pub trait Classify: std::error::Error {
    /// Returns who can correct it.
    fn class(&self) -> ErrorClass;
}

/// An error of any type that knows its class, for interfaces with many implementations. It reads
/// like the error in it.
#[derive(Debug)]
pub struct ClassifiedError(Box<dyn Classify + Send + Sync>);

impl ClassifiedError {
    /// Wraps `error`.
    pub fn new(error: impl Classify + Send + Sync + 'static) -> ClassifiedError {
        ClassifiedError(Box::new(error))
    }
}

impl fmt::Display for ClassifiedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ClassifiedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Classify for ClassifiedError {
    fn class(&self) -> ErrorClass {
        self.0.class()
    }
}

/// A file operation that failed.
#[derive(Debug)]
pub struct IoError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
    /// The user named the file.
    named: bool,
}

impl IoError {
    /// Returns a function for `map_err` that adds to an I/O error what was done to which file.
    /// `action` completes "cannot …", e.g. "create the folder".
    pub fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IoError + use<> {
        let path = path.to_owned();
        move |source| IoError {
            action,
            path,
            source,
            named: false,
        }
    }

    /// As [`IoError::on`], for a file or folder that the user named: if it is not there, is something
    /// else or may not be used, another name corrects that.
    pub fn on_named(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> IoError + use<> {
        let error = IoError::on(action, path);
        move |source| IoError {
            named: true,
            ..error(source)
        }
    }

    /// Returns the kind of the operating system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.action, shown_path(&self.path))
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Classify for IoError {
    fn class(&self) -> ErrorClass {
        use io::ErrorKind::{
            InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
        };
        match self.source.kind() {
            NotFound | PermissionDenied | NotADirectory | IsADirectory | InvalidFilename
            | InvalidInput
                if self.named =>
            {
                ErrorClass::Usage
            }
            _ => ErrorClass::Host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case E15: a missing input was a wrong usage here and a problem of the host there.
    #[test]
    fn what_the_user_named_and_is_not_there_is_wrong_usage() {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let path = Path::new("x");
        assert_eq!(
            IoError::on_named("read", path)(missing()).class(),
            ErrorClass::Usage
        );
        assert_eq!(
            IoError::on("read", path)(missing()).class(),
            ErrorClass::Host
        );
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(
            IoError::on_named("write", path)(full).class(),
            ErrorClass::Host
        );
    }
}
