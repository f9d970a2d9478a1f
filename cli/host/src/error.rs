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
        ErrorClass::Host
    }
}
