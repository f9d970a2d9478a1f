//! The files of a description folder.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use boxbuild_host::digest::sha256_until;
use boxbuild_host::input;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::text::shown_path;
use serde::{Deserialize, Serialize};

/// Most files and folders of a description.
const MOST: usize = 20_000;

/// Most folders in each other.
const DEEPEST: usize = 64;

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes.
        bytes: u64,
        /// Its hash, if it was taken.
        sha256: Option<String>,
    },
    /// A folder.
    Folder,
    /// A link to this.
    Link(#[serde(with = "raw")] OsString),
    /// Anything else.
    Other,
}

/// A file or folder of a description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMark {
    /// Its path below the folder.
    #[serde(with = "raw")]
    path: OsString,
    kind: Kind,
    /// Permission bits.
    mode: u32,
    /// When it was changed last: seconds and nanoseconds since the epoch. 0 for what is no regular file.
    changed: (i64, i64),
}

/// Names as text, where they are, and else as bytes.
mod raw {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Name {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(name: &OsString, to: S) -> Result<S::Ok, S::Error> {
        match name.to_str() {
            Some(text) => Name::Text(text.to_owned()),
            None => Name::Bytes(name.as_bytes().to_vec()),
        }
        .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<OsString, D::Error> {
        Ok(match Name::deserialize(from)? {
            Name::Text(text) => text.into(),
            Name::Bytes(bytes) => OsString::from_vec(bytes),
        })
    }
}

impl FileMark {
    fn of(path: PathBuf, at: &Path, metadata: &Metadata) -> io::Result<FileMark> {
        let kind = if metadata.is_file() {
            Kind::File {
                bytes: metadata.len(),
                sha256: None,
            }
        } else if metadata.is_dir() {
            Kind::Folder
        } else if metadata.is_symlink() {
            Kind::Link(fs::read_link(at)?.into())
        } else {
            Kind::Other
        };
        let is_link = matches!(kind, Kind::Link(_));
        let changed = match kind {
            Kind::File { .. } => (metadata.mtime(), metadata.mtime_nsec()),
            _ => (0, 0),
        };
        Ok(FileMark {
            path: path.into(),
            kind,
            mode: if is_link { 0 } else { metadata.mode() & 0o7777 },
            changed,
        })
    }

    /// Its path below the folder.
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// What it is.
    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Adds the hash of a regular file below `folder`, if it can be read.
    pub(super) fn hash(&mut self, folder: &Path, stop: &StopCheck) {
        let path = folder.join(&self.path);
        if let Kind::File { sha256, .. } = &mut self.kind
            && stop.check().is_ok()
        {
            let hashed = input::open(&path).and_then(|mut file| sha256_until(&mut file, stop));
            *sha256 = hashed.ok().map(|(_, hash)| hash);
        }
    }

    /// Whether `now`, which is below `folder`, is what this was.
    pub(super) fn is_same(&self, now: &FileMark, folder: &Path, stop: &StopCheck) -> bool {
        let was = match (&self.kind, &now.kind) {
            (Kind::File { bytes, sha256 }, Kind::File { bytes: now, .. }) if bytes == now => sha256,
            (was, is) => return was == is && self.mode == now.mode,
        };
        if self.mode != now.mode {
            return false;
        }
        if self.changed == now.changed {
            return true;
        }
        // Checked out once more, for instance.
        let mut hashed = now.clone();
        hashed.hash(folder, stop);
        matches!(&hashed.kind, Kind::File { sha256: Some(hash), .. } if Some(hash) == was.as_ref())
    }
}

/// Returns what is below `folder` and `counts`, sorted by path.
///
/// # Errors
/// Fails, in words, if something cannot be read or there is too much.
pub(super) fn walk(folder: &Path, counts: impl Fn(&Path) -> bool) -> Result<Vec<FileMark>, String> {
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = open.pop() {
        let at = folder.join(&below);
        let problem = |error: io::Error| format!("{}: {error}", shown_path(&at));
        for entry in fs::read_dir(&at).map_err(problem)? {
            let entry = entry.map_err(problem)?;
            let path = below.join(entry.file_name());
            if !counts(&path) {
                continue;
            }
            let metadata = entry.metadata().map_err(problem)?;
            if metadata.is_dir() && depth < DEEPEST {
                open.push((path.clone(), depth + 1));
            }
            let is_too_much = found.len() >= MOST || (metadata.is_dir() && depth >= DEEPEST);
            if is_too_much {
                return Err(format!(
                    "{}: there are more than {MOST} files, or {DEEPEST} folders in each other",
                    shown_path(folder)
                ));
            }
            found.push(FileMark::of(path, &entry.path(), &metadata).map_err(problem)?);
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Whether only people read a file at the top of a description: what begins with a dot, texts about it, and what
/// builds leave.
pub(super) fn is_for_people(path: &Path) -> bool {
    const NAMES: [&str; 7] = [
        "CHANGELOG",
        "COPYING",
        "LICENSE",
        "README",
        "result.code",
        "result.log",
        "timings.html",
    ];
    let is_at_top = path.components().count() == 1;
    let name = path.as_os_str().as_bytes();
    let stem = path.file_stem().unwrap_or(OsStr::new("")).as_bytes();
    let is_named = NAMES
        .iter()
        .any(|known| name == known.as_bytes() || stem == known.as_bytes());
    is_at_top && (name.starts_with(b".") || is_named)
}
