//! The source of a box that is imported.

use std::fs;
use std::path::{Path, PathBuf};

use boxbuild_host::error::IoError;
use boxbuild_host::input;
use boxbuild_parsers::{DiskFacts, Parser};

use super::options::{ImportInput, ImportOptions};
use super::{boot_files, root_tree};
use crate::source::box_source::{BoxSource, MakeBox, Making, Target};
use crate::source::contents::{
    BoxContents, DiskError, FileNames, write_empty_initrd, write_plain_disk,
};
use crate::source::error::SourceError;
use crate::source::host::Host;
use crate::source::root_disk::{self, ROOT_DEVICE};
use crate::store::name_for;

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
        let contents = self.import(&files, making, root_device)?;
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
        let mut contents = self.import(&files, making, |_| Ok(ROOT_DEVICE.to_owned()))?;
        contents.inventory = Some(made.inventory);
        fs::remove_dir_all(&made.dir).map_err(IoError::on("remove", &made.dir))?;
        making.reporter.begin("check and publish");
        Ok(contents)
    }

    /// Copies the files to the staging folder. `root_device` finds the root file system of the disk,
    /// if the options have no command line.
    fn import(
        &self,
        files: &Files<'_>,
        making: &Making<'_>,
        root_device: impl FnOnce(&DiskFacts) -> Result<String, SourceError>,
    ) -> Result<BoxContents, SourceError> {
        let (options, staging) = (&self.options, making.staging);
        let names = FileNames::of(options.arch);
        let parser = Parser::new(making.interrupt.clone());
        let image = input::open(files.disk).map_err(IoError::on_named("read", files.disk))?;
        let unusable = |source| SourceError::Parse {
            context: format!("the disk {} cannot be imported", files.disk.display()),
            source,
        };
        let facts = parser.disk(&image, false).map_err(unusable)?;
        let disk =
            write_plain_disk(&parser, &image, staging, &names.disk).map_err(
                |error| match error {
                    DiskError::Parse(source) => unusable(source),
                    DiskError::Store(error) => error.into(),
                    DiskError::Io(error) => error.into(),
                },
            )?;
        let kernel = boot_files::copy(staging, files.kernel, &names.kernel)?;
        let initrd = match files.initrd {
            Some(path) => boot_files::copy(staging, path, &names.initrd)?,
            None => write_empty_initrd(staging, &names.initrd)?,
        };
        let cmdline = match &options.cmdline {
            Some(words) => words.split_whitespace().map(str::to_owned).collect(),
            None => vec![format!("root={}", root_device(&facts)?)],
        };
        Ok(BoxContents {
            kernel,
            initrd,
            disk,
            disk_size: facts.len,
            cmdline,
            console: options.console.clone(),
            guest: options.guest,
            kiwi: None,
            memory_mib: options.memory_mib,
            cpus: options.cpus,
            container: None,
            inventory: None,
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
            input::open(path).map_err(IoError::on_named("read", path))?;
        }
        match &options.input {
            ImportInput::Disk(disk) => {
                let kernel = self.kernel()?;
                input::open(disk).map_err(IoError::on_named("read", disk))?;
                Ok(Box::new(move |making| {
                    self.import_disk(disk, &kernel, making)
                }))
            }
            ImportInput::RootTree(path) | ImportInput::OciImage(path) => {
                fs::metadata(path).map_err(IoError::on_named("read", path))?;
                let host = Host::check(&[root_disk::PROGRAMS])?;
                Ok(Box::new(move |making| self.import_tree(&host, making)))
            }
        }
    }
}

/// Returns the device of the root file system of a disk in the guest: the only Linux partition, or
/// the whole disk if it has none.
///
/// # Errors
/// Fails if there are several Linux partitions.
fn root_device(facts: &DiskFacts) -> Result<String, SourceError> {
    let disk = "/dev/vda";
    match facts.linux_partitions.as_slice() {
        [] => Ok(disk.to_owned()),
        [only] => Ok(format!("{disk}{only}")),
        several => {
            let list: Vec<String> = several
                .iter()
                .map(|number| format!("{disk}{number}"))
                .collect();
            Err(SourceError::Usage(format!(
                "the disk has several partitions that can be the root ({}): say which one with \
                 --cmdline root=/dev/vdaN",
                list.join(", ")
            )))
        }
    }
}
