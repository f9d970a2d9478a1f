//! A disk made of a root tree or a container image.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;
use boxbuild_host::error::IoError;
use boxbuild_host::input;
use boxbuild_host::space::GuardedFile;
use boxbuild_parsers::{Output, Parser, TreeFacts, TreeOutputs, TreeSource};

use super::options::{ImportInput, ImportOptions};
use crate::source::box_source::Making;
use crate::source::command::Workshop;
use crate::source::error::SourceError;
use crate::source::host::Host;
use crate::source::root_disk;
use crate::store::Inventory;

/// Names of kernel and initial ramdisk of the tree in the workshop.
const KERNEL: &str = "kernel";
const INITRD: &str = "initrd";

/// Larger than any kernel or initial ramdisk, in bytes.
const LARGEST: u64 = 1 << 30;

/// Files of a box in the workshop.
#[derive(Debug)]
pub(super) struct RootTreeFiles {
    /// The folder of the workshop, which the caller removes.
    pub(super) dir: PathBuf,
    /// What the tree has of what builds may need.
    pub(super) inventory: Inventory,
    /// A raw disk, whose root is [`root_disk::ROOT_DEVICE`].
    pub(super) disk: PathBuf,
    /// The kernel that the options name, or the one in the tree.
    pub(super) kernel: PathBuf,
    /// The initial ramdisk that the options name, or the one in the tree.
    pub(super) initrd: Option<PathBuf>,
}

/// Makes a disk of the root tree or container image that `options` name.
pub(super) fn make(
    options: &ImportOptions,
    host: &Host,
    making: &mut Making<'_>,
) -> Result<RootTreeFiles, SourceError> {
    let path = options.input.path();
    let dir = making.staging.path().join("work");
    let workshop = Workshop::new(dir.clone(), host, making.interrupt);
    fs::create_dir(&dir).map_err(IoError::on("create", &dir))?;

    making.reporter.begin("read the root tree");
    let source = match &options.input {
        ImportInput::OciImage(_) if path.is_dir() => TreeSource::OciFolder,
        ImportInput::OciImage(_) => TreeSource::OciArchive,
        _ => TreeSource::Archive,
    };
    let archive = if path.is_dir() && source == TreeSource::Archive {
        let archive = dir.join("folder.tar");
        root_disk::pack_folder(&workshop, path, &archive)?;
        archive
    } else {
        path.to_owned()
    };
    let found = put_together(options, source, &archive, &dir, making)?;
    let kernel = match &options.kernel {
        Some(kernel) => kernel.clone(),
        None if found.kernel => dir.join(KERNEL),
        None => {
            return Err(SourceError::Usage(format!(
                "there is no kernel in {} (boot/vmlinuz-*, usr/lib/modules/*/vmlinuz): name one \
                 with --kernel",
                path.display()
            )));
        }
    };
    let in_tree = || found.initrd.then(|| dir.join(INITRD));
    let initrd = options.initrd.clone().or_else(in_tree);

    making.reporter.begin("make the disk");
    let inventory = root_disk::make_disk(&workshop, options.disk_size, "")?;
    Ok(RootTreeFiles {
        disk: dir.join(root_disk::DISK),
        inventory,
        dir,
        kernel,
        initrd,
    })
}

/// Writes the tree to the archive `root.tar` in the folder `dir`, and kernel and initial ramdisk beside
/// it, if the options name none.
fn put_together(
    options: &ImportOptions,
    source: TreeSource,
    archive: &Path,
    dir: &Path,
    making: &Making<'_>,
) -> Result<TreeFacts, SourceError> {
    let create = |name: &str| {
        let path = dir.join(name);
        File::create(&path)
            .map(GuardedFile::new)
            .map_err(IoError::on("create", &path))
    };
    let mut tree = create("root.tar")?;
    let mut kernel = options
        .kernel
        .is_none()
        .then(|| create(KERNEL))
        .transpose()?;
    let mut initrd = options
        .initrd
        .is_none()
        .then(|| create(INITRD))
        .transpose()?;
    let outputs = TreeOutputs {
        // What the disk is to hold, and the headers of its archive.
        tree: Output::new(&mut tree, options.disk_size.saturating_mul(2)),
        kernel: kernel.as_mut().map(|file| Output::new(file, LARGEST)),
        initrd: initrd.as_mut().map(|file| Output::new(file, LARGEST)),
    };
    let input = match source {
        TreeSource::OciFolder => None,
        _ => Some(input::open(archive).map_err(IoError::on_named("read", archive))?),
    };
    // The names come from the process that reads the image.
    let mut open = |name: &str| {
        if oci_part(name) {
            input::open(&archive.join(name))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    };
    // GOARCH: Debian's names, but for one.
    let arch = match options.arch {
        Arch::Ppc64le => "ppc64le",
        other => other.debian_name(),
    };
    Parser::new(making.interrupt.clone())
        .tree(source, arch, input.as_ref(), outputs, &mut open)
        .map_err(|source| SourceError::Parse {
            context: format!("{} cannot be imported", options.input.path().display()),
            source,
        })
}

/// Whether a name is that of a file in an OCI layout.
fn oci_part(name: &str) -> bool {
    let is_hash =
        |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    name == "index.json" || name.strip_prefix("blobs/sha256/").is_some_and(is_hash)
}
