//! Which entries of a target folder earlier builds made.

use std::ffi::OsStr;
use std::io::{self, Read};

use boxbuild_host::untrusted::{Dir, FileKind, Replacement, Status};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::folder_result::fingerprint;
use super::names::objection;

/// Name of the manifest in the target folder.
pub(super) const NAME: &str = ".boxbuild.results";

/// Entries that are kept in it: the oldest go.
const MOST: usize = 8192;

/// Longest manifest that is read, in bytes.
const LONGEST: u64 = 8 << 20;

/// The results of earlier builds. Every user who can write into the folder can write this: all that it
/// can do is to let more of the folder's own entries be replaced.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The oldest first. A name can be there twice: what is being published, and what it replaces.
    results: Vec<Entry>,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    /// Of a folder: [`fingerprint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    inode: u64,
    /// With the number of the inode, which may be used again, it tells one file from all others.
    born: Option<(i64, u32)>,
    bytes: u64,
    modified: (i64, u32),
}

impl Entry {
    fn new(dir: &Dir, name: &str, status: &Status) -> io::Result<Entry> {
        let folder = match status.kind {
            FileKind::Folder => Some(fingerprint(dir, OsStr::new(name))?),
            _ => None,
        };
        Ok(Entry {
            name: name.to_owned(),
            folder,
            inode: status.inode,
            born: status.born,
            bytes: status.len,
            modified: status.modified,
        })
    }

    /// Whether what `dir` has as `name`, with this status, is the result: itself, or, of a file, a copy
    /// that has its times (a backup, another file system). A folder in which the user added or replaced
    /// something is the user's.
    fn is(&self, dir: &Dir, name: &OsStr, status: &Status) -> bool {
        let born_then = match (self.born, status.born) {
            (Some(then), Some(now)) => then == now,
            _ => true,
        };
        let same = self.inode == status.inode && born_then;
        // tar and others know seconds only.
        let copy = self.bytes == status.len && self.modified.0 == status.modified.0;
        match &self.folder {
            None => status.kind == FileKind::Regular && (same || copy),
            Some(known) => {
                status.kind == FileKind::Folder
                    && same
                    && fingerprint(dir, name).is_ok_and(|now| now == *known)
            }
        }
    }
}

impl Manifest {
    /// Reads the manifest of `target`; `None` if there is none that can be used.
    pub(super) fn read(target: &Dir) -> Option<Manifest> {
        let mut text = Vec::new();
        let file = target.file(OsStr::new(NAME)).ok()?;
        if Status::of(&file).ok()?.owner != geteuid().as_raw() {
            return None;
        }
        file.take(LONGEST).read_to_end(&mut text).ok()?;
        let mut manifest: Manifest = serde_json::from_slice(&text).ok()?;
        manifest
            .results
            .retain(|entry| objection(OsStr::new(&entry.name)).is_none());
        Some(manifest)
    }

    /// Whether there was a result of this name.
    pub(super) fn names(&self, name: &str) -> bool {
        self.results.iter().any(|entry| entry.name == name)
    }

    /// Whether an earlier build made what `dir` has as `name`, with this status.
    pub(super) fn has(&self, dir: &Dir, name: &str, status: &Status) -> bool {
        let mut entries = self.results.iter().filter(|entry| entry.name == name);
        entries.any(|entry| entry.is(dir, OsStr::new(name), status))
    }

    /// Adds the result `name` of `dir`, which is going to be published.
    pub(super) fn add(&mut self, dir: &Dir, name: &str, status: &Status) -> io::Result<()> {
        self.results.push(Entry::new(dir, name, status)?);
        Ok(())
    }

    /// Forgets what is no longer there, or is something else now.
    pub(super) fn prune(&mut self, target: &Dir) {
        self.results.retain(|entry| {
            let name = OsStr::new(&entry.name);
            let status = target.find(name);
            matches!(status, Ok(Some(status)) if entry.is(target, name, &status))
        });
        let excess = self.results.len().saturating_sub(MOST);
        self.results.drain(..excess);
    }

    /// Writes it as a whole, for the user alone.
    pub(super) fn write(&self, target: &Dir) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        Replacement::write(target, OsStr::new(NAME), &text, 0o600)
    }
}
