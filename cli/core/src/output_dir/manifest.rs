//! Which entries of a target folder earlier builds made.

use std::ffi::OsStr;
use std::io::{self, Read};

use boxbuild_host::untrusted::{Dir, FileKind, Replacement, Status};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::names::objection;

/// Name of the manifest in the target folder.
pub(super) const NAME: &str = ".boxbuild.results";

/// Entries that are kept in it: the oldest go.
const MOST: usize = 8192;

/// Longest manifest that is read, in bytes.
const LONGEST: u64 = 8 << 20;

/// The results of earlier builds. Whoever can write into the folder can write this: it can only tell
/// more of the folder's own entries to be replaced.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The oldest first. A name can be there twice: what is being published, and what it replaces.
    results: Vec<Entry>,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    folder: bool,
    inode: u64,
    /// With the number of the inode, which may be used again, it tells one file from all others.
    born: Option<(i64, u32)>,
    bytes: u64,
    modified: (i64, u32),
}

impl Entry {
    fn new(name: &str, status: &Status) -> Entry {
        Entry {
            name: name.to_owned(),
            folder: status.kind == FileKind::Folder,
            inode: status.inode,
            born: status.born,
            bytes: status.len,
            modified: status.modified,
        }
    }

    /// Whether `status` is that of the result, or of a copy that has its times (a backup, another file
    /// system).
    fn is(&self, status: &Status) -> bool {
        let kind = if self.folder {
            FileKind::Folder
        } else {
            FileKind::Regular
        };
        let born_then = match (self.born, status.born) {
            (Some(then), Some(now)) => then == now,
            _ => true,
        };
        let same = self.inode == status.inode && born_then;
        // tar and others know seconds only.
        let copy = !self.folder && self.bytes == status.len && self.modified.0 == status.modified.0;
        kind == status.kind && (same || copy)
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

    /// Whether an earlier build made what is named `name`.
    pub(super) fn has(&self, name: &str, status: &Status) -> bool {
        let mut entries = self.results.iter().filter(|entry| entry.name == name);
        entries.any(|entry| entry.is(status))
    }

    /// Adds results that are going to be published.
    pub(super) fn add<'a>(&mut self, results: impl Iterator<Item = (&'a str, &'a Status)>) {
        self.results
            .extend(results.map(|(name, status)| Entry::new(name, status)));
    }

    /// Forgets what is no longer there, or is something else now.
    pub(super) fn prune(&mut self, target: &Dir) {
        self.results.retain(|entry| {
            let status = target.find(OsStr::new(&entry.name));
            matches!(status, Ok(Some(status)) if entry.is(&status))
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
