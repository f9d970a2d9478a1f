//! The files in a folder, by descriptor.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;

use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::{Dir, FileKind};

/// How deep folders may be.
const DEEPEST: usize = 64;

/// How many entries a folder may have, with everything in it.
pub const MOST: usize = 100_000;

/// An entry that is no folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the folder.
    pub path: OsString,
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Lists what is in `dir`, at all depths, in the order of paths. No link is followed.
///
/// # Errors
/// Fails if it cannot be read, has more than [`MOST`] entries, or `stop` says to stop.
pub fn list(dir: &Dir, stop: &StopCheck) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut count = 0;
    let mut open = vec![(OsString::new(), dir.try_clone()?, names(dir)?)];
    while let Some((prefix, dir, left)) = open.last_mut() {
        stop.check().map_err(io::Error::other)?;
        let Some(name) = left.pop() else {
            open.pop();
            continue;
        };
        count += 1;
        if count > MOST {
            return Err(too_much("too many files and folders"));
        }
        let status = dir.status(&name)?;
        let mut path = prefix.clone();
        path.push(&name);
        if status.kind == FileKind::Folder {
            let inside = dir.folder(&name)?;
            let names = names(&inside)?;
            path.push("/");
            open.push((path, inside, names));
            if open.len() > DEEPEST {
                return Err(too_much("folders that are too deep"));
            }
            continue;
        }
        found.push(Entry {
            path,
            kind: status.kind,
            bytes: status.len,
        });
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Opens the regular file at a path in `dir`. No link is followed.
///
/// # Errors
/// Fails if it is not there, or is something else.
pub fn open(dir: &Dir, path: &str) -> io::Result<File> {
    let mut components = path.split('/');
    let name = components.next_back().unwrap_or_default();
    let mut folder = dir.try_clone()?;
    for component in components {
        folder = folder.folder(OsStr::new(component))?;
    }
    folder.file(OsStr::new(name))
}

fn names(dir: &Dir) -> io::Result<Vec<OsString>> {
    dir.names()?.take(MOST + 1).collect()
}

fn too_much(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it has {text}"))
}
