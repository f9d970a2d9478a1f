//! The archive with a box's kernel and initial ramdisk (`.tar.xz`), unpacked as it arrives.
//!
//! Only the contents of two members are extracted, to paths that the caller chooses: no name in the
//! archive becomes a path. All sizes are bounded, and so is the decoder's memory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use boxbuild_host::digest::hex;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use sha2::{Digest, Sha256};

/// Chunks in the queue to the thread that unpacks.
const QUEUE: usize = 16;
/// Memory limit of the decoder in bytes: `xz -9` needs 65 MiB.
const DECODER_MEMORY: u64 = 256 << 20;
/// Larger than any kernel or initial ramdisk, in bytes.
const LARGEST_MEMBER: u64 = 1 << 30;
/// Bytes that the archive may unpack to in all.
const LARGEST_ARCHIVE: u64 = 4 << 30;

/// The archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A member is missing.
    #[error("it has no member *.{0}")]
    Missing(&'static str),
    /// A member is there twice.
    #[error("it has more than one member *.{0}")]
    Twice(&'static str),
    /// A member is not a plain file.
    #[error("its member {0} is not a plain file")]
    NotAFile(String),
    /// It is too large.
    #[error("it unpacks to more than {} MiB", .0 >> 20)]
    TooLarge(u64),
    /// It is damaged, or not an archive.
    #[error("it is damaged: {0}")]
    Damaged(io::Error),
    /// An unpacked file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// A file that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackedFile {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// The files of the archive that a box is booted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// The member `*.kernel`.
    pub kernel: UnpackedFile,
    /// The member `*.initrd`.
    pub initrd: Option<UnpackedFile>,
}

/// Paths that the archive is unpacked to.
#[derive(Debug, Clone)]
pub struct BootFilePaths {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial ramdisk; it is not unpacked if `None`.
    pub initrd: Option<PathBuf>,
}

/// Unpacks an archive in a thread, chunk by chunk.
#[derive(Debug)]
pub(super) struct Unpacker {
    /// `None` once the thread has failed.
    chunks: Option<SyncSender<Vec<u8>>>,
    thread: JoinHandle<Result<BootFiles, UnpackError>>,
}

impl Unpacker {
    /// Starts the thread.
    pub(super) fn start(paths: BootFilePaths) -> Unpacker {
        let (chunks, receiver) = sync_channel(QUEUE);
        let thread = std::thread::spawn(move || {
            let chunks = Chunks {
                receiver,
                current: Vec::new(),
                at: 0,
            };
            unpack(chunks, &paths)
        });
        Unpacker {
            chunks: Some(chunks),
            thread,
        }
    }

    /// Passes the next bytes of the archive on.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        // A thread that has ended has met an error, which `finish` returns.
        if let Some(chunks) = &self.chunks
            && chunks.send(bytes.to_vec()).is_err()
        {
            self.chunks = None;
        }
    }

    /// Waits until the whole archive is unpacked.
    pub(super) fn finish(mut self) -> Result<BootFiles, UnpackError> {
        drop(self.chunks.take());
        self.thread
            .join()
            .unwrap_or_else(|_| Err(UnpackError::Damaged(io::Error::other("the decoder failed"))))
    }
}

/// Unpacks an archive in a file.
///
/// # Errors
/// Fails if it is damaged, too large or lacks a member, or if a file cannot be written.
pub fn unpack_file(archive: &Path, paths: &BootFilePaths) -> Result<BootFiles, UnpackError> {
    let file = File::open(archive).map_err(UnpackError::Damaged)?;
    unpack(file, paths)
}

fn unpack(archive: impl Read, paths: &BootFilePaths) -> Result<BootFiles, UnpackError> {
    let decoder = Stream::new_stream_decoder(DECODER_MEMORY, CONCATENATED)
        .map_err(|error| UnpackError::Damaged(error.into()))?;
    let plain = XzDecoder::new_stream(archive, decoder).take(LARGEST_ARCHIVE);
    let mut tar = tar::Archive::new(plain);
    let mut kernel = None;
    let mut initrd = None;
    for member in tar.entries().map_err(UnpackError::Damaged)? {
        let mut member = member.map_err(UnpackError::Damaged)?;
        let name = member.path_bytes().into_owned();
        let (slot, file, kind) = if name.ends_with(b".kernel") {
            (&mut kernel, Some(&paths.kernel), "kernel")
        } else if name.ends_with(b".initrd") {
            (&mut initrd, paths.initrd.as_ref(), "initrd")
        } else {
            continue;
        };
        let Some(file) = file else {
            continue;
        };
        if !member.header().entry_type().is_file() {
            let name = String::from_utf8_lossy(&name).escape_debug().to_string();
            return Err(UnpackError::NotAFile(name));
        }
        if slot.is_some() {
            return Err(UnpackError::Twice(kind));
        }
        *slot = Some(copy(&mut member, file)?);
    }
    // To the end, where xz has the checksum of the whole.
    let mut plain = tar.into_inner();
    io::copy(&mut plain, &mut io::sink()).map_err(UnpackError::Damaged)?;
    if plain.limit() == 0 {
        return Err(UnpackError::TooLarge(LARGEST_ARCHIVE));
    }
    if paths.initrd.is_some() && initrd.is_none() {
        return Err(UnpackError::Missing("initrd"));
    }
    Ok(BootFiles {
        kernel: kernel.ok_or(UnpackError::Missing("kernel"))?,
        initrd,
    })
}

fn copy(member: &mut impl Read, path: &Path) -> Result<UnpackedFile, UnpackError> {
    let write_error = |source| UnpackError::Write {
        path: path.to_owned(),
        source,
    };
    let mut file = File::create(path).map_err(write_error)?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = member.read(&mut buffer).map_err(UnpackError::Damaged)?;
        if count == 0 {
            break;
        }
        size += count as u64;
        if size > LARGEST_MEMBER {
            return Err(UnpackError::TooLarge(LARGEST_MEMBER));
        }
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(write_error)?;
    }
    Ok(UnpackedFile {
        size,
        sha256: hex(&hash.finalize()),
    })
}

/// Reads the chunks of a queue.
struct Chunks {
    receiver: Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            match self.receiver.recv() {
                Ok(chunk) => {
                    self.current = chunk;
                    self.at = 0;
                }
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len() - self.at);
        buffer[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o4777);
            if *kind == tar::EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            // As written, also what a careful library refuses.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        xz.write_all(&tar.into_inner().unwrap()).unwrap();
        xz.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> (Result<BootFiles, UnpackError>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut unpacker = Unpacker::start(BootFilePaths {
            kernel: dir.path().join("k"),
            initrd: Some(dir.path().join("i")),
        });
        for chunk in bytes.chunks(100) {
            unpacker.feed(chunk);
        }
        (unpacker.finish(), dir)
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn kernel_and_initrd_are_unpacked() {
        let bytes = archive(&[
            ("README", FILE, b"x"),
            ("a/Leap.x86_64-1.0.kernel", FILE, b"kernel"),
            ("b.initrd", FILE, &[7; 100_000]),
        ]);
        let (result, dir) = unpacked(&bytes);
        let result = result.unwrap();
        assert_eq!(result.kernel.size, 6);
        assert_eq!(result.initrd.unwrap().size, 100_000);
        assert_eq!(std::fs::read(dir.path().join("k")).unwrap(), b"kernel");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn no_name_in_the_archive_becomes_a_path() {
        for name in [
            "../../k.kernel",
            "/tmp/boxbuild-escaped.kernel",
            "a/../../b.kernel",
        ] {
            let bytes = archive(&[(name, FILE, b"k"), ("../x.initrd", FILE, b"i")]);
            let (result, dir) = unpacked(&bytes);
            result.unwrap();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
            assert!(!Path::new("/tmp/boxbuild-escaped.kernel").exists());
        }
    }

    #[test]
    fn errors_tell_what_is_wrong() {
        let link = tar::EntryType::Symlink;
        let initrd = ("x.initrd", FILE, &b"i"[..]);
        let kernel = ("x.kernel", FILE, &b"k"[..]);
        for (members, text) in [
            (vec![initrd], "no member *.kernel"),
            (vec![kernel], "no member *.initrd"),
            (vec![kernel, kernel, initrd], "more than one"),
            (
                vec![("x.kernel", link, &b""[..]), initrd],
                "not a plain file",
            ),
        ] {
            let error = unpacked(&archive(&members)).0.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let good = archive(&[kernel, initrd]);
        for cut in [0, 5, good.len() / 2, good.len() - 1] {
            assert!(unpacked(&good[..cut]).0.is_err(), "{cut}");
        }
        let mut flipped = good.clone();
        let middle = good.len() / 2;
        flipped[middle] ^= 0xff;
        assert!(unpacked(&flipped).0.is_err());
        assert!(unpacked(b"<html>404</html>").0.is_err());
    }
}
