//! `boxbuild box import`: a box from what is there already: a disk with its kernel, a root tree,
//! or a container image.
//!
//! Such a box is booted by its own init, by the contract of the published boxes
//! (docs/guest-contract.md), unless `--guest fast` says that its initial ramdisk has what
//! boxbuild's init needs.

mod layers;
mod oci;
mod root;

use boxbuild_host::error::{Classify, ErrorClass};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use boxbuild_vmm::disk::{Image, ImageError};

use crate::source::debian::{CommandError, CreateError};
use crate::store::{
    BoxFile, BoxInfo, Guest, HashedFile, InstalledBox, Staging, Store, StoreError, check_name,
    name_for,
};
use boxbuild_host::arch::Arch;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

pub use layers::LayerError;
pub use oci::OciError;

/// Larger than any kernel or initial ramdisk, in bytes.
const LARGEST_PART: u64 = 1 << 30;

/// What a box is made of.
#[derive(Debug, Clone)]
pub enum Material {
    /// A disk image, raw or qcow2.
    Disk(PathBuf),
    /// A root tree: a folder or an archive.
    RootFs(PathBuf),
    /// A container image in the OCI layout: a folder or an archive.
    Oci(PathBuf),
}

/// What box to make.
#[derive(Debug)]
pub struct ImportOptions {
    /// Name of the new box.
    pub name: String,
    /// What from.
    pub material: Material,
    /// Kernel; that of the root tree if `None`.
    pub kernel: Option<PathBuf>,
    /// Initial ramdisk; that of the root tree if `None`.
    pub initrd: Option<PathBuf>,
    /// Architecture of the box.
    pub arch: Arch,
    /// Kernel command line; found out if `None`.
    pub cmdline: Option<String>,
    /// Guest console.
    pub console: String,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Virtual size of a disk that is made, in bytes.
    pub disk_size: u64,
    /// What the guest side can do.
    pub guest: Guest,
    /// Replace a box of that name.
    pub replace: bool,
}

/// A box cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An option is wrong or missing.
    #[error("{0}")]
    Option(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host, or a program on it.
    #[error(transparent)]
    Host(#[from] CreateError),
    /// The disk.
    #[error("the disk {path} cannot be imported")]
    Disk {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ImageError,
    },
    /// An archive.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A container image.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Classify for ImportError {
    fn class(&self) -> ErrorClass {
        match self {
            ImportError::Option(_)
            | ImportError::Store(StoreError::BadName(_) | StoreError::Exists(_)) => {
                ErrorClass::Usage
            }
            ImportError::Host(CreateError::Command(CommandError::Interrupted)) => {
                ErrorClass::Interrupted
            }
            _ => ErrorClass::Host,
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.to_owned();
    move |source| ImportError::Io {
        action,
        path,
        source,
    }
}

/// Makes a box of what is there.
///
/// # Errors
/// If something is missing or is not what it should be; there is no new box then.
pub fn import(
    store: &Store,
    options: &ImportOptions,
    interrupt: &Interrupt,
    progress: &mut dyn Reporter,
) -> Result<InstalledBox, ImportError> {
    let arch = options.arch;
    let name = name_for(&options.name, arch);
    check_name(&name)?;
    if !options.replace && store.names()?.contains(&name) {
        return Err(StoreError::Exists(name).into());
    }
    for path in [&options.kernel, &options.initrd].into_iter().flatten() {
        File::open(path).map_err(io_error("read", path))?;
    }
    let staging = store.stage()?;
    let kernel_name = format!("kernel.{arch}");
    let initrd_name = format!("initrd.{arch}");
    let (origin, raw, found) = match &options.material {
        Material::Disk(path) => {
            let Some(kernel) = &options.kernel else {
                return Err(ImportError::Option(String::from(
                    "--disk: name the kernel of the box as well, with --kernel",
                )));
            };
            (
                format!("disk:{}", path.display()),
                path.clone(),
                Found::named(kernel, options),
            )
        }
        Material::RootFs(path) | Material::Oci(path) => {
            let (found, raw) = root::make(options, path, &staging, interrupt, progress)?;
            let kind = if matches!(options.material, Material::Oci(_)) {
                "oci"
            } else {
                "rootfs"
            };
            (format!("{kind}:{}", path.display()), raw, found)
        }
    };
    progress.begin("write the disk");
    let disk = write_disk(&staging, &raw, &format!("system.{arch}.qcow2"))?;
    let kernel = copy(&staging, &found.kernel, &kernel_name)?;
    let initrd = match &found.initrd {
        Some(path) => copy(&staging, path, &initrd_name)?,
        None => {
            let path = staging.path().join(&initrd_name);
            fs::write(&path, crate::source::published::empty_initrd())
                .map_err(io_error("write", &path))?;
            staging.describe(&initrd_name)?
        }
    };
    let cmdline = match &options.cmdline {
        Some(words) => words.split_whitespace().map(str::to_owned).collect(),
        None => vec![found.root(&raw)?],
    };
    let disk_size = Image::open(&staging.path().join(&disk.name))
        .map_err(|source| ImportError::Disk {
            path: raw.clone(),
            source,
        })?
        .len();
    if let Some(work) = &found.work {
        fs::remove_dir_all(work).map_err(io_error("remove", work))?;
    }
    progress.begin("check and publish");
    let info = BoxInfo {
        format: BoxInfo::FORMAT,
        name,
        origin,
        arch,
        created: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs()),
        kernel,
        initrd,
        disk,
        disk_size,
        cmdline,
        console: options.console.clone(),
        guest: options.guest,
        kiwi: None,
        memory_mib: options.memory_mib,
        cpus: options.cpus,
        container: None,
        published: None,
    };
    Ok(staging.publish(store, info, options.replace)?)
}

/// Where the parts of the box are.
#[derive(Debug)]
struct Found {
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    /// The disk was made here, and its root is this.
    root: Option<&'static str>,
    /// A folder that must not become part of the box.
    work: Option<PathBuf>,
}

impl Found {
    fn named(kernel: &Path, options: &ImportOptions) -> Found {
        Found {
            kernel: kernel.to_owned(),
            initrd: options.initrd.clone(),
            root: None,
            work: None,
        }
    }

    /// `root=` for the kernel command line.
    fn root(&self, disk: &Path) -> Result<String, ImportError> {
        if let Some(root) = self.root {
            return Ok(format!("root={root}"));
        }
        let image = Image::open(disk).map_err(|source| ImportError::Disk {
            path: disk.to_owned(),
            source,
        })?;
        let mut table = vec![0; 34 * 512];
        if image.len() < table.len() as u64 {
            return Ok(String::from("root=/dev/vda"));
        }
        image
            .read_at(0, &mut table)
            .map_err(io_error("read", disk))?;
        match linux_partitions(&table).as_slice() {
            [] => Ok(String::from("root=/dev/vda")),
            [only] => Ok(format!("root=/dev/vda{only}")),
            several => {
                let list: Vec<String> = several
                    .iter()
                    .map(|number| format!("/dev/vda{number}"))
                    .collect();
                Err(ImportError::Option(format!(
                    "the disk has several partitions that can be the root ({}): say which one \
                     with --cmdline root=/dev/vdaN",
                    list.join(", ")
                )))
            }
        }
    }
}

/// Numbers of the partitions with a Linux file system (type 0x83 of a DOS partition table; "Linux
/// filesystem" and the root types of the discoverable partitions specification in a GPT). None if
/// there is no table.
fn linux_partitions(table: &[u8]) -> Vec<usize> {
    const LINUX: u8 = 0x83;
    const PROTECTIVE: u8 = 0xee;
    /// Type GUIDs as they stand in the table: Linux file system, root of x86-64, of arm64.
    const TYPES: [[u8; 16]; 3] = [
        *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4",
        *b"\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09",
        *b"\x45\xb0\x21\xb9\xf0\x1d\xc3\x41\xaf\x44\x4c\x6f\x28\x0d\x3f\xae",
    ];
    if table.len() < 34 * 512 || table[510..512] != [0x55, 0xaa] {
        return Vec::new();
    }
    let kinds: Vec<u8> = (0..4).map(|number| table[446 + 16 * number + 4]).collect();
    if !kinds.contains(&PROTECTIVE) {
        return (1..=4)
            .filter(|number| kinds[number - 1] == LINUX)
            .collect();
    }
    // The entries of a GPT begin in sector 2 (UEFI, 5.3.3), 128 bytes each as everybody makes them.
    table[1024..]
        .chunks_exact(128)
        .enumerate()
        .filter(|(_, entry)| TYPES.iter().any(|kind| entry[..16] == *kind))
        .map(|(index, _)| index + 1)
        .collect()
}

/// Writes a disk image as plain qcow2.
fn write_disk(staging: &Staging, from: &Path, name: &str) -> Result<BoxFile, ImportError> {
    let image = Image::open(from).map_err(|source| ImportError::Disk {
        path: from.to_owned(),
        source,
    })?;
    if image.is_empty() || image.len() % 512 != 0 {
        return Err(ImportError::Disk {
            path: from.to_owned(),
            source: ImageError::Length(image.len()),
        });
    }
    let path = staging.path().join(name);
    let mut out = HashedFile::create(&path).map_err(io_error("create", &path))?;
    let mut buffered = BufWriter::with_capacity(1 << 20, &mut out);
    image
        .write_plain(&mut buffered)
        .and_then(|()| buffered.flush())
        .map_err(io_error("write the disk to", &path))?;
    drop(buffered);
    let (size, sha256) = out.finish();
    Ok(staging.adopt(name, size, sha256)?)
}

/// Copies a kernel or an initial ramdisk.
fn copy(staging: &Staging, from: &Path, name: &str) -> Result<BoxFile, ImportError> {
    let to = staging.path().join(name);
    let file = File::open(from).map_err(io_error("read", from))?;
    let metadata = file.metadata().map_err(io_error("read", from))?;
    if !metadata.is_file() || metadata.len() == 0 || metadata.len() > LARGEST_PART {
        return Err(ImportError::Option(format!(
            "{} is no kernel and no initial ramdisk: it has {} bytes",
            from.display(),
            metadata.len()
        )));
    }
    let mut out = HashedFile::create(&to).map_err(io_error("create", &to))?;
    io::copy(&mut file.take(LARGEST_PART), &mut out).map_err(io_error("write", &to))?;
    let (size, sha256) = out.finish();
    Ok(staging.adopt(name, size, sha256)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_root_is() {
        assert!(linux_partitions(&[0; 34 * 512]).is_empty());
        assert!(linux_partitions(b"short").is_empty());
        let mut dos = vec![0; 34 * 512];
        dos[510..512].copy_from_slice(&[0x55, 0xaa]);
        dos[446 + 4] = 0xef;
        dos[446 + 16 + 4] = 0x83;
        assert_eq!(linux_partitions(&dos), [2]);
        let mut gpt = dos.clone();
        gpt[446 + 4] = 0xee;
        let linux = b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";
        gpt[1024 + 256..1024 + 272].copy_from_slice(linux);
        assert_eq!(linux_partitions(&gpt), [3]);
    }
}
