//! The guest's side of an answer: what it has got already is not written again.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use super::connection::{Broken, CHUNK, guest};

/// The beginning of a body that a file has, and the length of the whole.
#[derive(Debug)]
struct Had {
    file: File,
    bytes: u64,
    length: u64,
}

/// Where answers go.
#[derive(Debug)]
pub(super) struct Output<'f> {
    stream: &'f UnixStream,
    /// What the guest has of this answer.
    had: Option<Had>,
    /// Bytes of the body that have come by.
    at: u64,
}

impl<'f> Output<'f> {
    pub(super) fn new(stream: &'f UnixStream) -> Output<'f> {
        Output {
            stream,
            had: None,
            at: 0,
        }
    }

    /// Begins an answer of which the guest has the head and so many bytes.
    pub(super) fn resume(
        stream: &'f UnixStream,
        file: File,
        bytes: u64,
        length: u64,
    ) -> Output<'f> {
        Output {
            stream,
            had: Some(Had {
                file,
                bytes,
                length,
            }),
            at: 0,
        }
    }

    /// Fails if an answer of this length is not the one that the guest has the beginning of.
    pub(super) fn check(&self, length: Option<u64>) -> Result<(), Broken> {
        match &self.had {
            Some(had) if length != Some(had.length) => Err(Broken::Server),
            _ => Ok(()),
        }
    }

    /// Whether the guest has the head already.
    pub(super) fn is_resumed(&self) -> bool {
        self.had.is_some()
    }

    /// Writes bytes that are no body.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(bytes).map_err(guest)
    }

    /// Writes the next bytes of the body, but for those that the guest has. These must be the same.
    pub(super) fn body(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let left = self
            .had
            .as_ref()
            .map_or(0, |had| had.bytes.saturating_sub(self.at));
        let known = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (known, new) = bytes.split_at(known);
        if let (Some(Had { file, .. }), false) = (&self.had, known.is_empty()) {
            let mut seen = vec![0; known.len()];
            let read = file.read_exact_at(&mut seen, self.at);
            if read.is_err() || seen != known {
                return Err(Broken::Server);
            }
        }
        self.at += bytes.len() as u64;
        self.raw(new)
    }

    /// Writes bytes of a file from `at` to `end`, as far as it has them. Returns how many it had.
    pub(super) fn file(&mut self, file: &File, at: u64, end: u64) -> Result<u64, Broken> {
        let mut buffer = vec![0; CHUNK];
        let mut next = at;
        while next < end {
            let most = usize::try_from(end - next).unwrap_or(CHUNK).min(CHUNK);
            let place = buffer.get_mut(..most).unwrap_or_default();
            match file.read_at(place, next) {
                Ok(0) => break,
                Ok(count) => {
                    self.body(buffer.get(..count).unwrap_or_default())?;
                    next += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::Server),
            }
        }
        Ok(next - at)
    }
}
