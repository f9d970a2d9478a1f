//! The images of a run's root disk, and the private one for what the guest writes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use boxbuild_vmm::disk::tmpfile;

use crate::RootDisk;

/// First bytes of a qcow2 image (QEMU, docs/interop/qcow2.rst).
const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Name of a kept overlay in its folder.
const KEPT: &str = "changes.qcow2";

/// Open images, the topmost of which the guest writes to.
#[derive(Debug)]
pub(super) struct Disk {
    /// Read-only ones, from the bottom up: the box's own, and kept overlays.
    pub(super) bases: Vec<File>,
    /// The one that is written.
    pub(super) top: File,
    /// It has no name and is gone with the machine.
    pub(super) private: bool,
    /// Makes further ones over the topmost, if that is private.
    pub(super) maker: Option<Maker>,
}

/// Makes private images of a disk.
#[derive(Debug)]
pub(super) struct Maker {
    qemu_img: PathBuf,
    scratch: PathBuf,
    size: u64,
}

impl Maker {
    /// One for images of a disk of `size` bytes in `scratch`.
    pub(super) fn new(qemu_img: &Path, scratch: &Path, size: u64) -> Maker {
        Maker {
            qemu_img: qemu_img.to_owned(),
            scratch: scratch.to_owned(),
            size,
        }
    }

    /// An empty image in a file without a name.
    pub(super) fn make(&self) -> io::Result<File> {
        let file = tmpfile::create(&self.scratch)?;
        format(&self.qemu_img, &file, self.size)?;
        Ok(file)
    }
}

type At = (String, io::Error);

fn at(action: &str, path: &Path) -> impl Fn(io::Error) -> At {
    let action = format!("{action} {}", path.display());
    move |error| (action.clone(), error)
}

impl Disk {
    /// Opens the images of `disk`; a private one is made with `qemu_img`.
    pub(super) fn open(qemu_img: &Path, disk: &RootDisk) -> Result<Disk, At> {
        let in_place = matches!(disk, RootDisk::InPlace(_));
        let path = disk.image();
        let mut base = File::options()
            .read(true)
            .write(in_place)
            .open(path)
            .map_err(at("open the box's disk", path))?;
        let mut longest = virtual_size(&mut base).map_err(at("read the box's disk", path))?;
        let RootDisk::Private {
            kept,
            size,
            scratch,
            ..
        } = disk
        else {
            return Ok(Disk {
                bases: Vec::new(),
                top: base,
                private: false,
                maker: None,
            });
        };
        let mut bases = vec![base];
        for folder in kept {
            let path = folder.join(KEPT);
            let mut kept = File::open(&path).map_err(at("open the kept disk", &path))?;
            let size = virtual_size(&mut kept).map_err(at("read the kept disk", &path))?;
            longest = longest.max(size);
            bases.push(kept);
        }
        let maker = Maker::new(qemu_img, scratch, size.unwrap_or(0).max(longest));
        let top = maker
            .make()
            .map_err(at("create the disk's overlay in", scratch))?;
        Ok(Disk {
            bases,
            top,
            private: true,
            maker: Some(maker),
        })
    }
}

/// Makes an empty qcow2 image of a disk of `size` bytes in `file`, which may have no name.
pub(super) fn format(qemu_img: &Path, file: &File, size: u64) -> io::Result<()> {
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let output = Command::new(qemu_img)
        .args(["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on"])
        .arg(path)
        .arg(size.to_string())
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("qemu-img: {said}")))
}

/// Gives the private overlay `file` a name in `folder`. Returns the bytes it takes there.
pub(super) fn keep(file: &File, folder: &Path) -> io::Result<u64> {
    file.sync_all()?;
    tmpfile::link(file, &folder.join(KEPT))?;
    Ok(file.metadata()?.blocks() * 512)
}

/// Bit of the incompatible features: the data is in another file, which the image names.
const EXTERNAL_DATA: u64 = 1 << 2;

/// Size of the disk inside a qcow2 image, in bytes. Fails if the image names another file, which
/// QEMU would open: a backing file or an external data file.
fn virtual_size(file: &mut File) -> io::Result<u64> {
    let mut header = [0; 80];
    let bad = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    file.read_exact(&mut header)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => bad("it is not a qcow2 image"),
            _ => error,
        })?;
    let field = |at: usize| {
        let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
        u64::from_be_bytes(*bytes.unwrap_or(&[0; 8]))
    };
    if !header.starts_with(&MAGIC) {
        return Err(bad("it is not a qcow2 image"));
    }
    // QEMU, docs/interop/qcow2.rst: the version at 4, the offset of the backing file's name at 8,
    // the size at 24, the incompatible features of version 3 at 72.
    let version = field(4) >> 32;
    if field(8) != 0 {
        return Err(bad(
            "it has a backing file, which the disk of a box must not have",
        ));
    }
    if version > 2 && field(72) & EXTERNAL_DATA != 0 {
        return Err(bad(
            "its data is in another file, which the disk of a box must not have",
        ));
    }
    Ok(field(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 3 with these fields of 8 bytes set.
    fn image(fields: &[(usize, u64)]) -> (tempfile::TempDir, RootDisk) {
        let mut header = [0; 104];
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&3_u32.to_be_bytes());
        header[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
        for (at, value) in fields {
            header[*at..at + 8].copy_from_slice(&value.to_be_bytes());
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.qcow2");
        std::fs::write(&path, header).unwrap();
        (dir, RootDisk::InPlace(path))
    }

    #[test]
    fn an_image_that_names_another_file_is_refused() {
        let qemu_img = Path::new("qemu-img");
        let (_dir, plain) = image(&[]);
        Disk::open(qemu_img, &plain).unwrap();
        for (fields, words) in [
            ([(8, 200)], "a backing file"),
            ([(72, EXTERNAL_DATA)], "in another file"),
        ] {
            let (_dir, disk) = image(&fields);
            let (action, error) = Disk::open(qemu_img, &disk).unwrap_err();
            assert!(action.contains("disk.qcow2"), "{action}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
