//! The source of a box that another host has exported.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;
use boxbuild_host::error::IoError;
use boxbuild_host::input;
use boxbuild_parsers::{BoxOutputs, Output, Parser};
use boxbuild_protocol::kernel_args::is_console;

use crate::source::box_source::{BoxSource, MakeBox, Making, Target};
use crate::source::contents::{BoxContents, FileNames};
use crate::source::error::SourceError;
use crate::store::{BoxFile, BoxInfo, ContainerImage, HashedFile, Inventory, name_for};

/// Larger than any kernel or initial ramdisk, in bytes.
const LARGEST_BOOT_FILE: u64 = 1 << 30;

/// Larger than any disk or container image, in bytes.
const LARGEST: u64 = 4 << 40;

/// Largest memory of a box by its own description, in MiB, and most processors.
const MOST_MEMORY: u64 = 1 << 20;
const MOST_CPUS: u32 = 254;

/// A box in an archive of `boxbuild box export`.
#[derive(Debug)]
pub struct ExportedBox {
    name: String,
    archive: PathBuf,
    arch: Arch,
}

impl ExportedBox {
    /// The box in `archive`, which is for `arch`, under the name `name`.
    pub fn new(name: String, archive: PathBuf, arch: Arch) -> ExportedBox {
        ExportedBox {
            name,
            archive,
            arch,
        }
    }

    fn unusable(&self, problem: &str) -> SourceError {
        SourceError::Unusable(format!("{}: {problem}", self.archive.display()))
    }

    fn unpack(&self, archive: &File, making: &mut Making<'_>) -> Result<BoxContents, SourceError> {
        let names = FileNames::of(self.arch);
        let staging = making.staging;
        let create = |name: &str| {
            let path = staging.path().join(name);
            HashedFile::create(&path).map_err(IoError::on("create", &path))
        };
        let mut kernel = create(&names.kernel)?;
        let mut initrd = create(&names.initrd)?;
        let mut disk = create(&names.disk)?;
        let mut container = create(&names.container)?;
        let parser = Parser::new(making.interrupt.clone());
        making.reporter.begin("unpack");
        let parse_error = |source| SourceError::Parse {
            context: format!("{} cannot be imported", self.archive.display()),
            source,
        };
        let text = parser
            .box_archive(
                archive,
                BoxOutputs {
                    kernel: Output::new(&mut kernel, LARGEST_BOOT_FILE),
                    initrd: Output::new(&mut initrd, LARGEST_BOOT_FILE),
                    disk: Output::new(&mut disk, LARGEST),
                    container: Output::new(&mut container, LARGEST),
                },
            )
            .map_err(parse_error)?;
        let info = self.described(&text)?;
        making.reporter.begin("check and publish");
        let adopt = |file: HashedFile, known: &BoxFile, name: &str| -> Result<_, SourceError> {
            let (size, sha256) = file.finish();
            if (size, sha256.as_str()) != (known.size, known.sha256.as_str()) {
                let text = format!("it is damaged: {name} is not what its checksum says");
                return Err(self.unusable(&text));
            }
            Ok(staging.adopt(name, size, sha256)?)
        };
        let kernel = adopt(kernel, &info.kernel, &names.kernel)?;
        let initrd = adopt(initrd, &info.initrd, &names.initrd)?;
        let disk = adopt(disk, &info.disk, &names.disk)?;
        let container = match &info.container {
            Some(ContainerImage::Archive(known)) => {
                let file = adopt(container, known, &names.container)?;
                Some(ContainerImage::Archive(file))
            }
            _ => {
                drop(container);
                let path = staging.path().join(&names.container);
                fs::remove_file(&path).map_err(IoError::on("remove", &path))?;
                None
            }
        };
        let path = staging.path().join(&names.disk);
        let image = input::open(&path).map_err(IoError::on("read", &path))?;
        let facts = parser.disk(&image, true).map_err(parse_error)?;
        Ok(BoxContents {
            kernel,
            initrd,
            disk,
            disk_size: facts.len,
            cmdline: info.cmdline,
            console: info.console,
            guest: info.guest,
            kiwi: info.kiwi,
            memory_mib: info.memory_mib,
            cpus: info.cpus,
            container,
            inventory: info.inventory,
            published: None,
        })
    }

    /// Reads what the archive says of the box: its author's words.
    fn described(&self, text: &str) -> Result<BoxInfo, SourceError> {
        let info: BoxInfo = serde_json::from_str(text).map_err(|error| {
            self.unusable(&format!(
                "its description cannot be read, perhaps for it is of another version of boxbuild: {error}"
            ))
        })?;
        let bad_word = |word: &String| {
            word.is_empty()
                || word.contains(|c: char| c == '"' || c.is_whitespace() || c.is_control())
        };
        let version = |kiwi: &String| {
            kiwi.len() < 64
                && kiwi
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".+-~".contains(c))
        };
        let problem = if info.format != BoxInfo::FORMAT {
            format!("its description has the format {}", info.format)
        } else if info.arch != self.arch {
            return Err(SourceError::Usage(format!(
                "{}: the box in it is for {arch}: say --arch {arch}",
                self.archive.display(),
                arch = info.arch
            )));
        } else if !is_console(&info.console) {
            String::from("its console is not valid")
        } else if info.cmdline.len() > 64 || info.cmdline.iter().any(bad_word) {
            String::from("its kernel command line is not valid")
        } else if !(64..=MOST_MEMORY).contains(&info.memory_mib)
            || !(1..=MOST_CPUS).contains(&info.cpus)
        {
            String::from("its memory or its number of processors is out of range")
        } else if !info.inventory.as_ref().is_none_or(is_plain) {
            String::from("its inventory is not valid")
        } else if !info.kiwi.as_ref().is_none_or(version) {
            String::from("its version of KIWI is not valid")
        } else {
            return Ok(info);
        };
        Err(self.unusable(&problem))
    }
}

/// Whether all that a box says that it has are plain words.
fn is_plain(inventory: &Inventory) -> bool {
    let plain = |word: &String| {
        word.len() < 256
            && !word.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"')
    };
    let repository = inventory.repository.as_ref();
    inventory.with.iter().all(plain)
        && inventory.programs.keys().all(plain)
        && inventory.modules.keys().all(plain)
        && repository.is_none_or(|repository| {
            plain(&repository.path)
                && repository.path.starts_with('/')
                && repository.packages.iter().all(plain)
        })
}

impl BoxSource for ExportedBox {
    fn target(&self) -> Target {
        Target {
            name: name_for(&self.name, self.arch),
            arch: self.arch,
            origin: format!("export:{}", self.archive.display()),
        }
    }

    fn prepare(&self) -> Result<MakeBox<'_>, SourceError> {
        let path: &Path = &self.archive;
        let archive = input::open(path).map_err(IoError::on_named("read", path))?;
        Ok(Box::new(move |making| self.unpack(&archive, making)))
    }
}
