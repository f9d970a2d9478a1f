//! The folder: answers, and their bodies by their SHA-256.
//!
//! | name | |
//! |---|---|
//! | `KEY.entry` | an answer: its address, fields, policy, and which body it has |
//! | `SHA256.body` | a body, complete |
//! | `SERVER.server` | its time is that of the last change of anything but packages there |
//! | `.KEY.part`, `.KEY.head` | an answer that is being fetched, locked (flock(2)) by the process that fetches it |
//! | `.….new` | an entry that is being written |
//!
//! A body gets its name when it is complete, and its entry after that; the process may be killed anywhere.
//! After a crash of the host, what its kernel had not written is found by the hash: an entry is of one boot,
//! and what another boot has left is read once before it is used.

mod download;
mod entry;
mod evict;
mod files;
mod key;
mod suffix;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http_cache_semantics::CachePolicy;

use crate::http::Field;

pub(crate) use self::download::{Announced, Claim, Download, Waiting};
use self::entry::Entry;
use self::files::Folder;
pub(crate) use self::key::{Key, Server};

/// What an answer counts beside its body, in bytes: its files' blocks, and a share of the names that
/// [`evict`] looks at.
const OF_ANSWER: u64 = 64 << 10;

/// What is kept, for several processes at once.
#[derive(Debug)]
pub(crate) struct Store {
    folder: Folder,
    /// Names the boot of this host.
    boot: String,
    /// Bytes of all bodies, with [`OF_ANSWER`] for each answer.
    limit: u64,
    /// What this process may add: a guest fetches as much as it likes.
    room: AtomicU64,
}

/// An answer that is kept.
#[derive(Debug)]
pub(crate) struct Stored {
    entry: Entry,
    pub(crate) body: File,
}

impl Store {
    pub(crate) fn new(folder: OwnedFd, boot: String, limit: u64) -> Store {
        Store {
            folder: Folder::new(folder),
            boot,
            limit,
            room: AtomicU64::new(limit),
        }
    }

    /// Takes so many bytes of what this process may add.
    ///
    /// # Errors
    /// If it has added that already.
    fn take_room(&self, bytes: u64) -> io::Result<()> {
        let less = |room: u64| room.checked_sub(bytes);
        self.room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .map(|_| ())
            .map_err(|_| io::ErrorKind::QuotaExceeded.into())
    }

    /// The longest body that is kept.
    pub(crate) fn largest(&self) -> u64 {
        self.limit / 2
    }

    /// Returns what is kept, if it is whole.
    pub(crate) fn lookup(&self, key: &Key) -> Option<Stored> {
        let file = self.folder.open(&key.entry()).ok()?;
        let entry = Entry::read(&file).filter(|entry| entry.key == key.text());
        let Some(entry) = entry else {
            self.folder.remove(&key.entry());
            return None;
        };
        let body = self.folder.open(&entry.body_name()).ok();
        let body = body.filter(|body| self.is_whole(&entry, body));
        let Some(body) = body else {
            self.folder.remove(&key.entry());
            return None;
        };
        files::touch(&file);
        files::touch(&body);
        if entry.boot == self.boot {
            return Some(Stored { entry, body });
        }
        let mut entry = entry;
        entry.boot.clone_from(&self.boot);
        // Without, it is read again the next time.
        let _ = self.write(key, &entry);
        Some(Stored { entry, body })
    }

    fn is_whole(&self, entry: &Entry, body: &File) -> bool {
        let long = body
            .metadata()
            .is_ok_and(|metadata| metadata.len() == entry.length);
        let good = long && (entry.boot == self.boot || entry.has_hash_of(body));
        if !good {
            self.folder.remove(&entry.body_name());
        }
        good
    }

    fn write(&self, key: &Key, entry: &Entry) -> io::Result<()> {
        self.folder.replace(&key.entry(), &entry.to_bytes()?)
    }

    /// Notes that lists of packages of the key's server have changed: packages are asked about again that
    /// were confirmed before.
    pub(crate) fn server_has_changed(&self, key: &Key) {
        if let Ok(file) = self.folder.open_or_create(&key.changes()) {
            files::touch(&file);
        }
    }

    /// Whether what is kept was fetched or confirmed since lists of packages of its server changed. A
    /// package that is built again under its old name has another hash in these.
    pub(crate) fn is_unchanged(&self, key: &Key, stored: &Stored) -> bool {
        let changed = self.folder.open(&key.changes());
        let changed = changed.and_then(|file| file.metadata()?.modified());
        let Ok(changed) = changed else {
            // It was removed: what has changed since is not known.
            self.server_has_changed(key);
            return false;
        };
        stored.entry.confirmed > changed
    }

    /// Keeps an answer that its server has confirmed.
    pub(crate) fn refresh(&self, key: &Key, stored: &mut Stored, policy: CachePolicy) {
        stored.entry.policy = policy;
        stored.entry.confirmed = SystemTime::now();
        // Without, the server is asked again.
        let _ = self.write(key, &stored.entry);
    }
}

impl Stored {
    pub(crate) fn policy(&self) -> &CachePolicy {
        &self.entry.policy
    }

    pub(crate) fn length(&self) -> u64 {
        self.entry.length
    }

    pub(crate) fn fields(&self) -> &[Field] {
        &self.entry.fields
    }

    /// How old the answer is, in seconds.
    pub(crate) fn age(&self) -> u64 {
        self.entry.policy.age(SystemTime::now()).as_secs()
    }
}

#[cfg(test)]
mod tests;
