//! An answer that is kept, as a file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use boxbuild_host::digest::hex;
use http_cache_semantics::CachePolicy;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::http::Field;
use crate::is_sha256;

/// Longest file of one.
const LONGEST: u64 = 256 << 10;
/// Raised when older files cannot be read any more: they are fetched again.
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    version: u32,
    pub(super) key: String,
    /// Those of the answer that are not for one connection.
    pub(super) fields: Vec<Field>,
    pub(super) policy: CachePolicy,
    pub(super) sha256: String,
    pub(super) length: u64,
    /// The boot of the host in which the body was written or last read.
    pub(super) boot: String,
    /// When the server has said that it is this.
    pub(super) confirmed: SystemTime,
}

impl Entry {
    pub(super) fn new(
        key: &str,
        fields: Vec<Field>,
        policy: CachePolicy,
        (sha256, length): (String, u64),
        boot: &str,
    ) -> Entry {
        Entry {
            version: VERSION,
            key: key.to_owned(),
            fields,
            policy,
            sha256,
            length,
            boot: boot.to_owned(),
            confirmed: SystemTime::now(),
        }
    }

    pub(super) fn read(file: &File) -> Option<Entry> {
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        (entry.version == VERSION && is_sha256(&entry.sha256)).then_some(entry)
    }

    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    pub(super) fn body_name(&self) -> String {
        format!("{}{}", self.sha256, super::suffix::BODY)
    }

    /// Whether `body` is the one it had.
    pub(super) fn has_hash_of(&self, body: &File) -> bool {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while at < self.length {
            match body.read_at(&mut buffer, at) {
                Ok(0) => break,
                Ok(count) => {
                    hash.update(buffer.get(..count).unwrap_or_default());
                    at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        hex(&hash.finalize()) == self.sha256
    }
}
