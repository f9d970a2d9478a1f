//! The private copy-on-write image of a run.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// First bytes of a qcow2 image (QEMU, docs/interop/qcow2.rst).
const MAGIC: [u8; 4] = *b"QFI\xfb";

/// A base image and the overlay for it, both open; the overlay has no name.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) base: File,
    pub(super) overlay: File,
}

impl Disk {
    /// Opens `base` and makes an empty overlay of its size, or of `size` bytes if that is
    /// more, in the file system of `scratch`.
    pub(super) fn new(
        qemu_img: &Path,
        base: &Path,
        size: Option<u64>,
        scratch: &Path,
    ) -> Result<Disk, (String, io::Error)> {
        let at = |action: &str, path: &Path| {
            let action = format!("{action} {}", path.display());
            move |error| (action, error)
        };
        let mut file = File::open(base).map_err(at("open the box's disk", base))?;
        let base_size = virtual_size(&mut file).map_err(at("read the box's disk", base))?;
        let size = size.unwrap_or(0).max(base_size);
        let dir = tempfile::Builder::new()
            .prefix(".overlay-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(scratch)
            .map_err(at("create a folder for the overlay in", scratch))?;
        let path = dir.path().join("overlay.qcow2");
        let output = Command::new(qemu_img)
            .args(["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on"])
            .arg(&path)
            .arg(size.to_string())
            .stdin(Stdio::null())
            .output()
            .map_err(at("run", qemu_img))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(at("create the overlay in", scratch)(io::Error::other(said)));
        }
        let overlay = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(at("open the overlay", &path))?;
        // From here on it exists only as long as somebody holds it open.
        dir.close()
            .map_err(at("remove the folder of the overlay in", scratch))?;
        Ok(Disk {
            base: file,
            overlay,
        })
    }
}

/// Size of the disk inside a qcow2 image, in bytes: bytes 24 to 31 of its header.
fn virtual_size(file: &mut File) -> io::Result<u64> {
    let mut header = [0; 32];
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "it is not a qcow2 image");
    file.read_exact(&mut header)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => bad(),
            _ => error,
        })?;
    let (magic, rest) = header.split_at(4);
    if magic != MAGIC {
        return Err(bad());
    }
    let mut size = [0; 8];
    size.copy_from_slice(&rest[20..28]);
    Ok(u64::from_be_bytes(size))
}
