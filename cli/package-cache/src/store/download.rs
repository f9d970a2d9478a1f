//! Answers that are being fetched: by one process, and used by all meanwhile.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use boxbuild_host::digest::hex;
use boxbuild_host::space::SpaceGuard;
use http_cache_semantics::CachePolicy;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entry::Entry;
use super::{Key, OF_ANSWER, Store, Stored, files};
use crate::http::Field;
use crate::kind::Kind;

/// Times that a file is looked for which others create and remove meanwhile.
const ATTEMPTS: u32 = 16;
/// Longest file of an announcement.
const LONGEST: u64 = 64 << 10;

/// Who fetches an answer.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The caller.
    Ours(Download),
    /// Another one, in this process or another.
    Others(Waiting),
}

/// An answer that the caller fetches. Dropped, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Download {
    store: Arc<Store>,
    key: Key,
    /// Locked.
    file: File,
    hash: Sha256,
    length: u64,
    space: SpaceGuard,
    kept: bool,
}

/// The head of an answer whose body is being fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announced {
    pub(crate) fields: Vec<Field>,
    pub(crate) length: u64,
}

/// An answer that another one fetches.
#[derive(Debug)]
pub(crate) struct Waiting {
    store: Arc<Store>,
    key: Key,
    pub(crate) file: File,
}

impl Store {
    /// Begins to fetch an answer, if no other one does.
    ///
    /// # Errors
    /// If a file cannot be created.
    pub(crate) fn claim(self: &Arc<Store>, key: &Key) -> io::Result<Claim> {
        let name = key.part();
        for _ in 0..ATTEMPTS {
            match self.folder.create(&name) {
                Ok(file) => {
                    // Between the two, another one may have taken it for an abandoned one.
                    if files::lock(&file) && self.folder.is_linked(&file, &name) {
                        return Ok(Claim::Ours(Download {
                            store: Arc::clone(self),
                            key: key.clone(),
                            file,
                            hash: Sha256::new(),
                            length: 0,
                            space: SpaceGuard::default(),
                            kept: false,
                        }));
                    }
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    match self.folder.open_to_write(&name) {
                        Ok(file) if files::lock(&file) => self.abandoned(&file, key),
                        Ok(file) => {
                            return Ok(Claim::Others(Waiting {
                                store: Arc::clone(self),
                                key: key.clone(),
                                file,
                            }));
                        }
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Removes what a killed process has left. The lock is the caller's.
    fn abandoned(&self, file: &File, key: &Key) {
        if self.folder.is_linked(file, &key.part()) {
            // In this order: an announcement without its file would be taken for that of the next one.
            self.folder.remove(&key.head());
            self.folder.remove(&key.part());
        }
    }
}

impl Download {
    /// Tells those that wait what the answer is.
    pub(crate) fn announce(&self, announced: &Announced) -> io::Result<()> {
        let bytes = serde_json::to_vec(announced)?;
        self.store.folder.replace(&self.key.head(), &bytes)
    }

    /// Returns the file, to be read while it is written.
    pub(crate) fn reader(&self) -> io::Result<File> {
        self.store.folder.open(&self.key.part())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let more = if self.length == 0 { OF_ANSWER } else { 0 };
        self.store.take_room(more + bytes.len() as u64)?;
        self.space.take(&self.file, bytes.len())?;
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Keeps the answer, whose body is complete.
    ///
    /// # Errors
    /// If it is not the one that its address says, or a file cannot be written.
    pub(crate) fn keep(
        mut self,
        fields: Vec<Field>,
        policy: CachePolicy,
        kind: &Kind,
    ) -> io::Result<()> {
        let (hash, is_list) = match kind {
            Kind::Hashed(hash) => (Some(hash), false),
            Kind::Package => (None, false),
            Kind::Other => (None, true),
        };
        let sha256 = hex(&std::mem::take(&mut self.hash).finalize());
        if hash.is_some_and(|hash| *hash != sha256) {
            return Err(ErrorKind::InvalidData.into());
        }
        let store = Arc::clone(&self.store);
        let body = (sha256, self.length);
        let entry = Entry::new(self.key.text(), fields, policy, body, &store.boot);
        let before = store.folder.open(&self.key.entry()).ok();
        let before = before.and_then(|file| Entry::read(&file));
        // Until the entry is there, those that look for it find the download.
        if store
            .folder
            .link(&self.key.part(), &entry.body_name())
            .is_err()
        {
            // A file system without such links.
            store.folder.remove(&self.key.head());
            store.folder.rename(&self.key.part(), &entry.body_name())?;
            self.kept = true;
        }
        if is_list && before.is_none_or(|before| before.sha256 != entry.sha256) {
            store.server_has_changed(&self.key);
        }
        store.write(&self.key, &entry)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if !self.kept {
            self.store.abandoned(&self.file, &self.key);
        }
    }
}

impl Waiting {
    /// Returns what the answer is, once it is known.
    pub(crate) fn announced(&self) -> Option<Announced> {
        let file = self.store.folder.open(&self.key.head()).ok()?;
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).ok()?;
        let announced = serde_json::from_slice(&bytes).ok()?;
        // It may be that of a later one. One that is of this file is removed before the file is.
        let linked = self.store.folder.is_linked(&self.file, &self.key.part());
        linked.then_some(announced)
    }

    /// Whether the one that fetched it has ended, with or without success.
    pub(crate) fn is_over(&self) -> bool {
        files::is_unlocked(&self.file)
    }

    /// Returns what is kept now.
    pub(crate) fn stored(&self) -> Option<Stored> {
        self.store.lookup(&self.key)
    }
}
