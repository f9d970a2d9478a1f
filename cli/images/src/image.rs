//! An image, made ready to be started: found, recognised, unpacked.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use boxbuild_engine::qemu::image::{DiskFormat, head, virtual_size};
use boxbuild_host::arch::Arch;
use boxbuild_host::input;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::text::shown_path;
use boxbuild_host::untrusted::Dir;
use boxbuild_parsers::{Output, Parser, Part, TreeSource};

use crate::error::RunError;
use crate::folder;
use crate::kind::{self, Kind, Starts};
use crate::scratch::Sparse;

/// Bytes that an image may unpack to. Its zeros take no room.
const LARGEST: u64 = 1 << 40;
/// How often something unpacked may have to be unpacked again: a compressed disk in an archive.
const DEPTH: usize = 3;
/// Longest kernel command line.
const LONGEST_CMDLINE: u64 = 2048;

/// What can be started of an image.
#[derive(Debug)]
pub(crate) enum What {
    /// A disk.
    Disk {
        file: File,
        format: DiskFormat,
        size: u64,
        starts: Starts,
    },
    /// A disc.
    Disc {
        file: File,
        stick: bool,
        starts: Starts,
    },
    /// A kernel with what belongs to it.
    Kernel {
        kernel: File,
        initrd: Option<File>,
        disk: Option<File>,
        cmdline: Option<String>,
    },
    /// A root tree.
    Root { archive: File, source: TreeSource },
}

impl What {
    /// The name that users know it by.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            What::Disk { format, .. } => format.name(),
            What::Disc { .. } => "iso",
            What::Kernel { .. } => "kis",
            What::Root { source, .. } => match source {
                TreeSource::Archive => "root archive",
                TreeSource::OciArchive | TreeSource::OciFolder => "oci",
                TreeSource::DockerArchive => "docker",
            },
        }
    }
}

/// An image.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its path, for messages.
    pub(crate) path: PathBuf,
    pub(crate) what: What,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
    /// The file, to be known again.
    pub(crate) original: File,
    /// The architecture that its name has in it.
    pub(crate) arch: Option<Arch>,
}

impl Image {
    /// Whether it is a disc that installs a disk: by its name, or by that of its volume, as KIWI gives them.
    pub(crate) fn is_installation(&self) -> Result<bool, RunError> {
        let What::Disc { file, .. } = &self.what else {
            return Ok(false);
        };
        let read = |error| RunError::Read(self.path.clone(), error);
        let volume = kind::volume_of_disc(file).map_err(read)?;
        let name = self.path.file_name().unwrap_or_default();
        Ok(name.to_string_lossy().contains(".install.") || volume == "INSTALL")
    }

    /// All files that it is read from.
    pub(crate) fn files(&self) -> Vec<&File> {
        let mut files = vec![&self.original];
        match &self.what {
            What::Disk { file, .. } | What::Disc { file, .. } => files.push(file),
            What::Root { archive, .. } => files.push(archive),
            What::Kernel {
                kernel,
                initrd,
                disk,
                ..
            } => files.extend(
                [Some(kernel), initrd.as_ref(), disk.as_ref()]
                    .into_iter()
                    .flatten(),
            ),
        }
        files
    }
}

/// Files that the user adds to an image: it is started by them.
#[derive(Debug, Default)]
pub(crate) struct OwnKernel {
    pub(crate) kernel: Option<File>,
    pub(crate) initrd: Option<File>,
}

/// Makes images ready.
#[derive(Debug)]
pub(crate) struct Preparation<'a> {
    pub(crate) parser: &'a Parser,
    pub(crate) scratch: &'a Path,
    pub(crate) interrupt: &'a Interrupt,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

impl Preparation<'_> {
    /// Finds the image at `path`, and makes it ready.
    pub(crate) fn image(mut self, path: &Path, own: OwnKernel) -> Result<Image, RunError> {
        let read = |error| RunError::Read(path.to_owned(), error);
        let is_folder = std::fs::metadata(path).map_err(read)?.is_dir();
        let (path, file) = if is_folder {
            let folder = Dir::open(path).map_err(read)?;
            let plain = |file| self.plain(path, file);
            if let Some((kernel, name)) = loose_kis(&folder, path, &own, &plain)? {
                let original = folder.file(name.as_ref()).map_err(read)?;
                let path = path.join(&name);
                return self.done(path, kernel, original);
            }
            let found = folder::find(&folder, path)?;
            self.notes.extend(found.note);
            (path.join(found.name), found.file)
        } else {
            (path.to_owned(), input::open(path).map_err(read)?)
        };
        let original = file.try_clone().map_err(read)?;
        let what = match own.kernel {
            Some(kernel) => {
                let disk = self.plain(&path, file)?;
                What::Kernel {
                    kernel,
                    initrd: own.initrd,
                    disk: Some(disk),
                    cmdline: None,
                }
            }
            None => self.recognise(&path, file, 0)?,
        };
        self.done(path, what, original)
    }

    fn done(self, path: PathBuf, what: What, original: File) -> Result<Image, RunError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Image {
            arch: arch_of(&name),
            path,
            what,
            notes: self.notes,
            original,
        })
    }

    pub(crate) fn recognise(
        &mut self,
        path: &Path,
        file: File,
        depth: usize,
    ) -> Result<What, RunError> {
        let read = |error| RunError::Read(path.to_owned(), error);
        match kind::of(&file).map_err(read)? {
            Kind::Disk(format) => disk(path, file, format, self.interrupt),
            Kind::Iso { stick } => Ok(What::Disc {
                starts: kind::starts_of_disc(&file).map_err(read)?,
                file,
                stick,
            }),
            Kind::Compressed("bzip2") => Err(not_bootable(
                path,
                "it is compressed with bzip2, which is not read here: unpack it first",
            )),
            Kind::Compressed(_) | Kind::Tar if depth >= DEPTH => Err(not_bootable(
                path,
                "it is an archive in an archive in an archive",
            )),
            Kind::Compressed(_) | Kind::Tar => self.archive(path, file, depth),
            Kind::FileSystem(name) => Err(not_bootable(
                path,
                &format!(
                    "a file system ({name}) has no boot loader and no partition: give a kernel with --kernel, \
                     and its ramdisk with --initrd"
                ),
            )),
            Kind::Extents => Err(not_bootable(
                path,
                "it only describes a disk whose data is in other files, and what an image names is never opened: \
                 make one file of it with 'qemu-img convert'",
            )),
            Kind::Kernel => Err(not_bootable(
                path,
                "it is a kernel: name the folder or the archive that has its ramdisk and file system as well",
            )),
            Kind::Cpio => Err(not_bootable(
                path,
                "an archive of cpio is started by a kernel only: give it with --kernel and the archive with --initrd",
            )),
            Kind::Unknown => Err(not_bootable(
                path,
                "it is no image that is known: neither a disk, a disc nor an archive",
            )),
        }
    }

    /// An entry of an archive, as a file.
    pub(crate) fn part(&self, path: &Path, archive: &File, part: &Part) -> Result<File, RunError> {
        self.written(path, |output| {
            self.parser.part(archive, part.number, output)
        })
    }

    /// What a compressed file unpacks to; another one as it is.
    pub(crate) fn plain(&self, path: &Path, file: File) -> Result<File, RunError> {
        let kind = kind::of(&file).map_err(|error| RunError::Read(path.to_owned(), error))?;
        match kind {
            Kind::Compressed(_) => self.unpacked(path, &file),
            _ => Ok(file),
        }
    }

    pub(crate) fn unpacked(&self, path: &Path, file: &File) -> Result<File, RunError> {
        self.written(path, |output| self.parser.unpack(file, output))
    }

    fn written(
        &self,
        path: &Path,
        write: impl FnOnce(Output<'_>) -> Result<(), boxbuild_parsers::ParseError>,
    ) -> Result<File, RunError> {
        let mut sparse = Sparse::create(self.scratch)?;
        write(Output::new(&mut sparse, LARGEST)).map_err(parse(path))?;
        let action = format!("write into {}", self.scratch.display());
        sparse
            .finish()
            .map_err(|error| RunError::Host(action, error))
    }
}

/// Kernel, ramdisk and file system that lie in a folder side by side. Returns the name of the kernel,
/// too.
fn loose_kis(
    folder: &Dir,
    path: &Path,
    own: &OwnKernel,
    plain: &dyn Fn(File) -> Result<File, RunError>,
) -> Result<Option<(What, String)>, RunError> {
    if own.kernel.is_some() {
        return Ok(None);
    }
    let read = |error| RunError::Read(path.to_owned(), error);
    let names = folder.names().map_err(read)?.take(4000);
    let names: Vec<String> = names
        .filter_map(|name| name.ok()?.into_string().ok())
        .collect();
    let one = |end: &str| {
        let mut found = names.iter().filter(|name| name.ends_with(end));
        found.next().filter(|_| found.next().is_none())
    };
    let (Some(kernel), Some(initrd)) = (one(".kernel"), one(".initrd")) else {
        return Ok(None);
    };
    let open = |name: &String| folder.file(name.as_ref()).map_err(read);
    let root = initrd.trim_end_matches(".initrd");
    let packed = format!("{root}.xz");
    let disk = [root, &packed]
        .into_iter()
        .find_map(|wanted| names.iter().find(|name| *name == wanted))
        .map(|name| plain(open(name)?))
        .transpose()?;
    let cmdline = match one(".append") {
        Some(name) => Some(words(&open(name)?).map_err(read)?),
        None => None,
    };
    let what = What::Kernel {
        kernel: open(kernel)?,
        initrd: Some(open(initrd)?),
        disk,
        cmdline,
    };
    Ok(Some((what, kernel.clone())))
}

/// Whether a file lies beside a file system, and is none.
pub(crate) fn is_beside(name: &str) -> bool {
    const ENDS: [&str; 9] = [
        ".md5",
        ".sha256",
        ".append",
        ".bootoptions",
        ".packages",
        ".changes",
        ".verified",
        ".json",
        ".asc",
    ];
    ENDS.iter().any(|end| name.ends_with(end))
}

/// The words of a kernel command line in a file.
pub(crate) fn words(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(LONGEST_CMDLINE).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let printable = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char });
    Ok(printable.collect::<String>().trim().to_owned())
}

fn disk(
    path: &Path,
    file: File,
    format: DiskFormat,
    interrupt: &Interrupt,
) -> Result<What, RunError> {
    let failed = |error| RunError::Image(path.to_owned(), error);
    let size = match format {
        DiskFormat::Raw => {
            let metadata = file.metadata();
            metadata
                .map_err(|error| RunError::Read(path.to_owned(), error))?
                .len()
        }
        format => virtual_size(&file, format, interrupt).map_err(failed)?,
    };
    let tables = kind::TABLES.min(size / 512 * 512);
    let head = head(&file, format, tables, interrupt).map_err(failed)?;
    Ok(What::Disk {
        starts: kind::starts_of_disk(&head),
        file,
        format,
        size,
    })
}

pub(crate) fn not_bootable(path: &Path, problem: &str) -> RunError {
    RunError::NotBootable(PathBuf::from(shown_path(path)), problem.to_owned())
}

pub(crate) fn parse(path: &Path) -> impl FnOnce(boxbuild_parsers::ParseError) -> RunError + use<> {
    let path = path.to_owned();
    move |error| RunError::Parse(path, error)
}

/// The architecture in a name such as KIWI gives (`NAME.ARCH-VERSION`).
fn arch_of(name: &str) -> Option<Arch> {
    let words = name.split(['.', '-', '_']).collect::<Vec<_>>();
    Arch::ALL.into_iter().find(|arch| {
        name.contains(&format!(".{}-", arch.name())) || words.contains(&arch.name())
            // An underscore is in the name of one of them.
            || *arch == Arch::X86_64 && name.contains("x86_64")
            || words.contains(&arch.debian_name())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_architecture() {
        for (name, arch) in [
            ("mini.x86_64-1.0.0.raw", Some(Arch::X86_64)),
            ("mini.aarch64-1.0.0-0.qcow2", Some(Arch::Aarch64)),
            ("debian-13-genericcloud-arm64.qcow2", Some(Arch::Aarch64)),
            ("disk.raw", None),
        ] {
            assert_eq!(arch_of(name), arch, "{name}");
        }
    }

    /// A type with compressed="true" has its file system as xz, in a folder as in an archive.
    #[test]
    fn a_compressed_file_system_beside_its_kernel_is_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["k-6.1.kernel", "k.initrd", "k.xz", "k.xz.md5"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let folder = Dir::open(dir.path()).unwrap();
        let unpacked = |mut packed: File| {
            let mut text = String::new();
            packed.read_to_string(&mut text).unwrap();
            assert_eq!(text, "k.xz");
            Ok(tempfile::tempfile().unwrap())
        };
        let own = OwnKernel::default();
        let found = loose_kis(&folder, dir.path(), &own, &unpacked).unwrap();
        let Some((What::Kernel { disk, .. }, _)) = found else {
            panic!("it is not found");
        };
        assert_eq!(disk.unwrap().metadata().unwrap().len(), 0);
    }
}
