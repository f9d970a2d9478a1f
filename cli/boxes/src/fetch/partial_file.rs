//! Files that grow: written and hashed as their bytes arrive, and kept for the next attempt if it comes
//! to that.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use boxbuild_host::error::IoError;
use boxbuild_host::input;
use boxbuild_host::space::{Space, SpaceGuard};
use serde::{Deserialize, Serialize};

use super::checksum::{Algorithm, Checksum, Hasher};
use super::error::FetchError;
use super::http::Client;
use super::meter::Meter;

/// Bytes that are read at once.
pub(super) const CHUNK: usize = 128 << 10;

/// Longest file that is fetched, in bytes: many times the disk of any box.
const LONGEST: u64 = 64 << 30;
/// Longest state that is read, in bytes.
const LONGEST_STATE: u64 = 64 << 10;

/// The state of a partial file, in JSON beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Expected checksum of the whole file, in hex.
    pub(super) expected: String,
    /// Identifies the server's copy: its strong entity tag, or else the time of its last change.
    pub(super) validator: Option<String>,
    /// Size of the whole file in bytes.
    pub(super) total: Option<u64>,
}

impl State {
    /// Reads the state of the file `part`.
    pub(super) fn load(part: &Path) -> Option<State> {
        serde_json::from_slice(&input::read(&state_path(part), LONGEST_STATE).ok()?).ok()
    }

    /// Writes the state of the file `part` atomically.
    pub(super) fn store(&self, part: &Path) -> Result<(), FetchError> {
        let path = state_path(part);
        let new = path.with_extension("new");
        let text = serde_json::to_vec(self).unwrap_or_default();
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(IoError::on("write", &path))?;
        Ok(())
    }

    /// Removes the state of the file `part`.
    pub(super) fn remove(part: &Path) {
        // What stays is of no harm: the server's answer decides.
        let _ = fs::remove_file(state_path(part));
    }
}

fn state_path(part: &Path) -> PathBuf {
    let mut path = part.as_os_str().to_owned();
    path.push(".json");
    path.into()
}

/// Removes a partial file and its state.
pub(super) fn remove(part: &Path) {
    // A file that cannot be removed is truncated when it is opened.
    let _ = fs::remove_file(part);
    State::remove(part);
}

/// Parameters of a partial file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    /// Its path; the file outlives this process.
    pub(super) path: &'a Path,
    /// Expected checksum of the whole file.
    pub(super) expected: &'a Checksum,
}

/// A file that grows.
pub(super) struct PartialFile<'a> {
    options: Options<'a>,
    file: File,
    len: u64,
    hasher: Hasher,
    guard: SpaceGuard,
    meter: &'a Meter,
}

/// A file that is complete.
pub(super) struct CompleteFile {
    /// Size in bytes.
    pub(super) size: u64,
    /// SHA-256 in lower-case hex.
    pub(super) sha256: String,
    /// SHA-512, if the publisher's checksum is one.
    pub(super) sha512: Option<String>,
    /// The checksum by the publisher's function.
    pub(super) checksum: Checksum,
}

impl<'a> PartialFile<'a> {
    /// Opens the file, with the bytes of earlier attempts if those were of the same version.
    pub(super) fn open(
        client: &Client,
        options: Options<'a>,
        meter: &'a Meter,
    ) -> Result<PartialFile<'a>, FetchError> {
        let path = options.path;
        let state = State::load(path).filter(|state| state.expected == options.expected.hex);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(state.is_none())
            .open(path)
            .map_err(IoError::on("write", path))?;
        let mut partial = PartialFile {
            options,
            file,
            len: 0,
            hasher: Hasher::new(options.expected.algorithm),
            guard: SpaceGuard::default(),
            meter,
        };
        let mut buffer = vec![0; CHUNK];
        loop {
            client.check()?;
            let count = partial
                .file
                .read(&mut buffer)
                .map_err(IoError::on("read", path))?;
            if count == 0 {
                return Ok(partial);
            }
            partial.count(&buffer[..count]);
        }
    }

    /// Returns the number of bytes in the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Adds the size of the whole file to the expected bytes.
    pub(super) fn expect(&self, total: u64) {
        self.meter.expect(total);
    }

    /// Drops all bytes.
    pub(super) fn restart(&mut self) -> Result<(), FetchError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(IoError::on("write", self.options.path))?;
        self.meter.take_back(self.len);
        self.len = 0;
        self.hasher = Hasher::new(self.options.expected.algorithm);
        Ok(())
    }

    /// Appends bytes, as long as the file system has space: a server need not have announced them.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        let folder = || self.options.path.parent().unwrap_or(Path::new("."));
        if self.len + bytes.len() as u64 > LONGEST {
            return Err(FetchError::TooLong {
                path: self.options.path.to_owned(),
                most: LONGEST >> 30,
            });
        }
        self.guard
            .take(&self.file, bytes.len())
            .map_err(|_| FetchError::Full(folder().to_owned()))?;
        self.file
            .write_all(bytes)
            .map_err(IoError::on("write", self.options.path))?;
        self.count(bytes);
        Ok(())
    }

    /// Hashes and counts bytes that are in the file.
    fn count(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        self.meter.add(bytes.len() as u64);
    }

    /// Ends the file.
    pub(super) fn finish(self) -> CompleteFile {
        let algorithm = self.options.expected.algorithm;
        let (sha256, sha512) = self.hasher.finish();
        let hex = match algorithm {
            Algorithm::Sha256 => sha256.clone(),
            Algorithm::Sha512 => sha512.clone().unwrap_or_default(),
        };
        CompleteFile {
            size: self.len,
            sha256,
            sha512,
            checksum: Checksum { algorithm, hex },
        }
    }

    /// Fails if a file of `total` bytes would fill up the file system.
    pub(super) fn check_space(&self, total: u64) -> Result<(), FetchError> {
        let folder = self.options.path.parent().unwrap_or(Path::new("."));
        let needed = total.saturating_sub(self.len);
        let Some(space) = Space::at(folder).filter(|space| !space.has(needed)) else {
            return Ok(());
        };
        if needed == 0 {
            return Ok(());
        }
        Err(FetchError::Space {
            folder: folder.to_owned(),
            free: space.free >> 20,
            needed: needed >> 20,
        })
    }
}
