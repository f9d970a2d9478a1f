//! The source of a box that is imported.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use boxbuild_host::error::IoError;
use boxbuild_vmm::disk::{Image, ImageError};

use super::options::{ImportInput, ImportOptions};
use super::{boot_files, partitions, root_tree};
use crate::source::box_source::{BoxSource, MakeBox, Making, Target};
use crate::source::contents::{BoxContents, FileNames, write_empty_initrd, write_plain_disk};
use crate::source::error::SourceError;
use crate::source::host::Host;
use crate::source::root_disk::{self, ROOT_DEVICE};
use crate::store::{BoxFile, Staging, name_for};

/// A box of files that the user has.
#[derive(Debug)]
pub struct ImportedBox {
    options: ImportOptions,
}

/// Paths of a box's files, before they are copied to the staging folder.
#[derive(Debug)]
struct Files<'a> {
    disk: &'a Path,
    kernel: &'a Path,
    initrd: Option<&'a Path>,
}

impl ImportedBox {
    /// Returns the source of the box that `options` describe.
    pub fn new(options: ImportOptions) -> ImportedBox {
        ImportedBox { options }
    }

    /// Makes the box of a disk and its kernel.
    fn import_disk(
        &self,
        disk: &Path,
        kernel: &Path,
        making: &mut Making<'_>,
    ) -> Result<BoxContents, SourceError> {
        let files = Files {
            disk,
            kernel,
            initrd: self.options.initrd.as_deref(),
        };
        making.reporter.begin("write the disk");
        let contents = self.import(&files, making.staging, |image| {
            partitions::root_device(image, disk)
        })?;
        making.reporter.begin("check and publish");
        Ok(contents)
    }

    /// Makes the box of a root tree or a container image.
    fn import_tree(
        &self,
        host: &Host,
        making: &mut Making<'_>,
    ) -> Result<BoxContents, SourceError> {
        let made = root_tree::make(&self.options, host, making)?;
        let files = Files {
            disk: &made.disk,
            kernel: &made.kernel,
            initrd: made.initrd.as_deref(),
        };
        making.reporter.begin("write the disk");
        let contents = self.import(&files, making.staging, |_| Ok(ROOT_DEVICE.to_owned()))?;
        fs::remove_dir_all(&made.dir).map_err(IoError::on("remove", &made.dir))?;
        making.reporter.begin("check and publish");
        Ok(contents)
    }

    /// Copies the files to the staging folder. `root_device` finds the root file system of the disk,
    /// if the options have no command line.
    fn import(
        &self,
        files: &Files<'_>,
        staging: &Staging,
        root_device: impl FnOnce(&Image) -> Result<String, SourceError>,
    ) -> Result<BoxContents, SourceError> {
        let options = &self.options;
        let names = FileNames::of(options.arch);
        let image = Image::open(files.disk).map_err(disk_error(files.disk))?;
        let disk = write_disk(&image, files.disk, staging, &names.disk)?;
        let kernel = boot_files::copy(staging, files.kernel, &names.kernel)?;
        let initrd = match files.initrd {
            Some(path) => boot_files::copy(staging, path, &names.initrd)?,
            None => write_empty_initrd(staging, &names.initrd)?,
        };
        let cmdline = match &options.cmdline {
            Some(words) => words.split_whitespace().map(str::to_owned).collect(),
            None => vec![format!("root={}", root_device(&image)?)],
        };
        Ok(BoxContents {
            kernel,
            initrd,
            disk,
            disk_size: image.len(),
            cmdline,
            console: options.console.clone(),
            guest: options.guest,
            kiwi: None,
            memory_mib: options.memory_mib,
            cpus: options.cpus,
            container: None,
            published: None,
        })
    }

    /// Returns the kernel that the options name, which a disk needs.
    fn kernel(&self) -> Result<PathBuf, SourceError> {
        self.options.kernel.clone().ok_or_else(|| {
            SourceError::Usage(String::from(
                "--disk: name the kernel of the box as well, with --kernel",
            ))
        })
    }
}

impl BoxSource for ImportedBox {
    fn target(&self) -> Target {
        let options = &self.options;
        Target {
            name: name_for(&options.name, options.arch),
            arch: options.arch,
            origin: options.input.origin(),
        }
    }

    fn prepare(&self) -> Result<MakeBox<'_>, SourceError> {
        let options = &self.options;
        for path in [&options.kernel, &options.initrd].into_iter().flatten() {
            File::open(path).map_err(IoError::on("read", path))?;
        }
        match &options.input {
            ImportInput::Disk(disk) => {
                let kernel = self.kernel()?;
                Image::open(disk).map_err(disk_error(disk))?;
                Ok(Box::new(move |making| {
                    self.import_disk(disk, &kernel, making)
                }))
            }
            ImportInput::RootTree(path) | ImportInput::OciImage(path) => {
                fs::metadata(path).map_err(IoError::on("read", path))?;
                let host = Host::check(&[root_disk::PROGRAMS])?;
                Ok(Box::new(move |making| self.import_tree(&host, making)))
            }
        }
    }
}

/// Writes a disk as plain qcow2 to the file `name` in the staging folder. `path` is the image's.
fn write_disk(
    image: &Image,
    path: &Path,
    staging: &Staging,
    name: &str,
) -> Result<BoxFile, SourceError> {
    if image.is_empty() || !image.len().is_multiple_of(512) {
        return Err(disk_error(path)(ImageError::Length(image.len())));
    }
    write_plain_disk(image, staging, name, "write the disk to")
}

/// Returns a function that makes an error of the image at `path` one of its import.
fn disk_error(path: &Path) -> impl FnOnce(ImageError) -> SourceError {
    let context = format!("the disk {} cannot be imported", path.display());
    move |source| SourceError::Disk { context, source }
}
