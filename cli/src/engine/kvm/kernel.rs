//! Kernels for the micro-VMM: the ELF file inside of a distribution's bzImage, unpacked once.
//!
//! Unpacking in the guest costs a tenth of its boot. The unpacked kernel is kept in the user's
//! cache under the hash of the packed one, and is published by one rename when it is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use boxbuild_firmware::kernel::BzImage;
use etcetera::BaseStrategy;

/// Larger than any kernel with all its drivers built in, in bytes.
const LARGEST: u64 = 256 << 20;

/// A kernel to boot.
#[derive(Debug)]
pub(super) struct Opened {
    /// bzImage or ELF.
    pub(super) file: File,
    /// What the user should know.
    pub(super) note: Option<String>,
}

/// Opens the kernel `path`, whose content has the hash `sha256`, or rather what is packed into
/// it. Where that does not work, the packed one boots as well, with a note.
pub(super) fn open(path: &Path, sha256: &str) -> io::Result<Opened> {
    let packed = File::open(path)?;
    let unpacked = folder().and_then(|folder| unpacked(&packed, sha256, &folder));
    Ok(match unpacked {
        Ok(file) => Opened { file, note: None },
        Err(error) => Opened {
            file: packed,
            note: Some(format!(
                "the kernel {} is unpacked in the box, which takes longer: {error}",
                path.display()
            )),
        },
    })
}

fn folder() -> io::Result<PathBuf> {
    let base = etcetera::choose_base_strategy().map_err(io::Error::other)?;
    Ok(base.cache_dir().join("boxbuild").join("kernels"))
}

/// The unpacked kernel in `folder`, made if it is not there.
fn unpacked(packed: &File, sha256: &str, folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("{sha256}.elf"));
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let elf = unpack(packed)?;
    // Has a name only once it is whole; another build that made it too made the same.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&elf)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    File::open(&path)
}

fn unpack(mut packed: &File) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    packed.take(LARGEST).read_to_end(&mut bytes)?;
    packed.rewind()?;
    BzImage::parse(&bytes)
        .map_err(io::Error::other)?
        .vmlinux()
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_unpacked_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("kernels");
        let path = dir.path().join("vmlinuz");
        fs::write(&path, "no kernel").unwrap();
        let error = unpacked(&File::open(&path).unwrap(), "0123", &folder).unwrap_err();
        assert!(error.to_string().contains("not an x86 kernel"), "{error}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn what_is_kept_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("0123.elf");
        fs::write(&kept, "kept").unwrap();
        let packed = File::open("/dev/null").unwrap();
        let mut file = unpacked(&packed, "0123", dir.path()).unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "kept");
    }
}
