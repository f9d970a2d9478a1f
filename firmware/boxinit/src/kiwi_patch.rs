//! A patch for kiwi, which polls its children's output: see [`PROGRAM`].

use std::ffi::{OsStr, OsString};

/// The Python module that is imported before kiwi and makes it wait for output instead. Its
/// docstring describes how.
pub const PROGRAM: &str = include_str!("sitecustomize.py");
/// Name of the module's file: Python imports a module of this name at each start (Python library
/// reference, "site").
pub const FILE: &str = "sitecustomize.py";
/// The environment variable with the folders that Python searches first.
pub const VARIABLE: &str = "PYTHONPATH";

/// A search path of `folder`, then the `current` one.
pub fn search_path(folder: &str, current: Option<&OsStr>) -> OsString {
    let mut path = OsString::from(folder);
    if let Some(current) = current.filter(|current| !current.is_empty()) {
        path.push(":");
        path.push(current);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_search_path_comes_after() {
        assert_eq!(search_path("/a", None), "/a");
        assert_eq!(search_path("/a", Some(OsStr::new(""))), "/a");
        assert_eq!(search_path("/a", Some(OsStr::new("/b:/c"))), "/a:/b:/c");
    }
}
