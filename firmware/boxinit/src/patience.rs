//! Patience for kiwi, which looks for its children's output all the time: see [`PROGRAM`].

use std::ffi::{OsStr, OsString};

/// What Python runs before kiwi. It says itself what it does.
pub const PROGRAM: &str = include_str!("sitecustomize.py");
/// The file's name: Python imports a module of this name at each start (Python's library
/// reference, "site").
pub const FILE: &str = "sitecustomize.py";
/// The variable with the folders that Python searches first.
pub const VARIABLE: &str = "PYTHONPATH";

/// A search path that begins with `folder`.
pub fn search_path(folder: &str, others: Option<&OsStr>) -> OsString {
    let mut path = OsString::from(folder);
    if let Some(others) = others.filter(|others| !others.is_empty()) {
        path.push(":");
        path.push(others);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_searches_already_comes_after() {
        assert_eq!(search_path("/a", None), "/a");
        assert_eq!(search_path("/a", Some(OsStr::new(""))), "/a");
        assert_eq!(search_path("/a", Some(OsStr::new("/b:/c"))), "/a:/b:/c");
    }
}
