//! A box as one file, for other hosts: a tar archive compressed with zstd, see
//! [`boxbuild_parsers::box_archive`].

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use boxbuild_host::digest::hex;
use boxbuild_host::error::{Classify, ErrorClass, IoError};
use boxbuild_host::input;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_parsers::box_archive::{DESCRIPTION, MEMBERS};
use sha2::{Digest, Sha256};

use crate::box_lock::{BoxLock, BoxLockError, DiskAccess};
use crate::store::{BoxFile, ContainerImage, IfExists, InstalledBox};

/// Level of the compression: a disk of a box becomes about a third, at the speed of a disk.
const LEVEL: i32 = 3;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// A box that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Length of the archive.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
}

/// A box cannot be exported. No file is left.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file is there.
    #[error("{0} exists already: name another file, or replace it with --force")]
    Exists(std::path::PathBuf),
    /// Something else than a file is there.
    #[error("{0} is not a regular file, and is not replaced: name another file")]
    NotAFile(std::path::PathBuf),
    /// The box is not as it was installed.
    #[error(
        "the box '{name}' is damaged: {file} is not what was installed; see 'boxbuild box verify'"
    )]
    Damaged {
        /// Name of the box.
        name: String,
        /// Its file.
        file: String,
    },
    /// A build writes into its disk.
    #[error(transparent)]
    Locked(#[from] BoxLockError),
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Classify for ExportError {
    fn class(&self) -> ErrorClass {
        match self {
            ExportError::Exists(_) | ExportError::NotAFile(_) => ErrorClass::Usage,
            ExportError::Interrupted => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}

/// Writes `installed` as an archive to `path`, which appears as a whole. The same box makes the same bytes.
///
/// # Errors
/// Fails if the file exists and may not be replaced, if the box is damaged, or if it cannot be written.
pub fn export(
    installed: &InstalledBox,
    path: &Path,
    if_exists: IfExists,
    interrupt: &Interrupt,
    reporter: &mut dyn Reporter,
) -> Result<Exported, ExportError> {
    check_place(path, if_exists)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let _lock = BoxLock::take(installed, DiskAccess::Read)?;
    let making = tempfile::Builder::new()
        .prefix(".boxbuild-export-")
        .tempfile_in(folder)
        .map_err(IoError::on("create a file in", folder))?;
    reporter.begin("compress");
    let hashed = Hashed::new(
        making
            .as_file()
            .try_clone()
            .map_err(IoError::on("write", path))?,
    );
    let work = Work {
        installed,
        interrupt,
    };
    let hashed = work.write(hashed).map_err(|error| match error {
        Broken::Io(error) => ExportError::Io(IoError::on("write", path)(error)),
        Broken::Refused(error) => error,
    })?;
    let (bytes, sha256) = hashed.finish();
    let mode = 0o666 & !boxbuild_host::umask::umask();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    making
        .as_file()
        .set_permissions(permissions)
        .and_then(|()| making.as_file().sync_all())
        .map_err(IoError::on("write", path))?;
    match if_exists {
        IfExists::Replace => making.persist(path),
        IfExists::Fail => making.persist_noclobber(path),
    }
    .map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => ExportError::Exists(path.to_owned()),
        _ => IoError::on("create", path)(error.error).into(),
    })?;
    Ok(Exported { bytes, sha256 })
}

/// Checks that a file can be put at `path`. A device or a pipe there, such as /dev/null, would be gone.
fn check_place(path: &Path, if_exists: IfExists) -> Result<(), ExportError> {
    match fs::symlink_metadata(path) {
        Ok(_) if if_exists == IfExists::Fail => Err(ExportError::Exists(path.to_owned())),
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            Err(ExportError::NotAFile(path.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Why the archive was not written.
enum Broken {
    Io(io::Error),
    Refused(ExportError),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Io(error)
    }
}

struct Work<'a> {
    installed: &'a InstalledBox,
    interrupt: &'a Interrupt,
}

impl Work<'_> {
    fn write(&self, out: Hashed) -> Result<Hashed, Broken> {
        let mut encoder = zstd::Encoder::new(BufWriter::with_capacity(PIECE, out), LEVEL)?;
        encoder.include_checksum(true)?;
        let mut tar = tar::Builder::new(encoder);
        let mut info = self.installed.info.redacted();
        // No publisher updates it, and no registry has its image.
        info.published = None;
        let container = match info.container.take() {
            Some(ContainerImage::Archive(file)) => {
                info.container = Some(ContainerImage::Archive(file.clone()));
                Some(file)
            }
            _ => None,
        };
        let text = serde_json::to_vec_pretty(&info).map_err(io::Error::other)?;
        tar.append(&header(DESCRIPTION, text.len() as u64)?, text.as_slice())?;
        let files = [
            Some(&info.kernel),
            Some(&info.initrd),
            Some(&info.disk),
            container.as_ref(),
        ];
        for (name, file) in MEMBERS.iter().zip(files) {
            if let Some(file) = file {
                self.add(&mut tar, name, file)?;
            }
        }
        let buffered = tar.into_inner()?.finish()?;
        Ok(buffered
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?)
    }

    /// Adds a file, which must be what was installed.
    fn add(
        &self,
        tar: &mut tar::Builder<impl Write>,
        name: &str,
        file: &BoxFile,
    ) -> Result<(), Broken> {
        let path = self.installed.path(file);
        let on = |error| Broken::Refused(IoError::on("read", &path)(error).into());
        let damaged = || {
            Broken::Refused(ExportError::Damaged {
                name: self.installed.info.name.clone(),
                file: file.name.clone(),
            })
        };
        let source = input::open(&path).map_err(on)?;
        let length = source.metadata().map_err(on)?.len();
        if length != file.size {
            return Err(damaged());
        }
        let mut content = Watched {
            source,
            hash: Sha256::new(),
            interrupt: self.interrupt,
        };
        let added = tar.append(&header(name, length)?, &mut content);
        if self.interrupt.count() > 0 {
            return Err(Broken::Refused(ExportError::Interrupted));
        }
        added?;
        if hex(&content.hash.finalize()) == file.sha256 {
            Ok(())
        } else {
            Err(damaged())
        }
    }
}

/// A header that says nothing of this host.
fn header(name: &str, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

/// A file that is hashed as it is read, until the user interrupts.
struct Watched<'a> {
    source: File,
    hash: Sha256,
    interrupt: &'a Interrupt,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.count() > 0 {
            return Err(io::Error::other("interrupted"));
        }
        let count = self.source.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// A file that is hashed as it is written.
struct Hashed {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Hashed {
    fn new(file: File) -> Hashed {
        Hashed {
            file,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn finish(self) -> (u64, String) {
        (self.bytes, hex(&self.hash.finalize()))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_a_file_is_replaced_and_only_if_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "").unwrap();
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        let code = |name: &str, if_exists| match check_place(&path(name), if_exists) {
            Ok(()) => "made",
            Err(ExportError::Exists(_)) => "exists",
            Err(_) => "not a file",
        };
        assert_eq!(code("new", IfExists::Fail), "made");
        assert_eq!(code("file", IfExists::Fail), "exists");
        assert_eq!(code("file", IfExists::Replace), "made");
        assert_eq!(code("pipe", IfExists::Replace), "not a file");
        assert_eq!(code(".", IfExists::Replace), "not a file");
        assert_eq!(code("pipe", IfExists::Fail), "exists");
    }
}
