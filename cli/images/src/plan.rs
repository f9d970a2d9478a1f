//! What will run.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxbuild_engine::qemu::image::{
    Accelerator, Bus, DiskFormat, ImageBoot, ImageMachine, Medium, Role, Secure, find_uefi, probe,
};
use boxbuild_engine::{CpuLevel, EngineChoice, Network, Policy, Reach, Unusable};
use boxbuild_host::arch::Arch;
use boxbuild_host::input;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::memory::HostMemory;
use boxbuild_host::text::shown_path;
use boxbuild_parsers::Parser;
use serde::Serialize;

use crate::error::RunError;
use crate::image::{Image, OwnKernel, Preparation, What};
use crate::kind::Starts;
use crate::log::SerialLog;
use crate::request::{FirmwareChoice, Request, TestRequest};
use crate::scratch;
use crate::watch::{Expectations, LOGIN_PROMPT, Step, parse, pattern};

/// Memory of a guest in MiB, unless the host has little.
const MEMORY_MIB: u64 = 2048;
/// CPUs of a guest, unless the host has fewer.
const CPUS: usize = 2;
/// Length of the empty disk that an installation gets.
const INSTALL_DISK: u64 = 32 << 30;
/// How often a guest under test may restart: installations and first boots do.
const MOST_RESTARTS: u32 = 5;
/// Longest pass phrase, in bytes, and longest script.
const LONGEST_PASSPHRASE: u64 = 64 << 10;
const LONGEST_SCRIPT: u64 = 1 << 20;

/// What will run, for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The image.
    #[serde(serialize_with = "text")]
    pub image: PathBuf,
    /// What it is: `raw`, `qcow2`, …, `iso`, `kis`, `oci`, `docker`, `root archive`.
    pub kind: &'static str,
    /// Its architecture.
    pub arch: &'static str,
    /// How it starts: `bios`, `uefi`, `secure-boot`, `kernel`; `None` for a container.
    pub firmware: Option<&'static str>,
    /// What it is connected to.
    pub bus: Option<&'static str>,
    /// What executes it: `kvm`, `tcg`, `podman`.
    pub accelerator: &'static str,
    /// Guest memory.
    pub memory_mib: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Bytes of a path that are not UTF-8 are replaced.
fn text<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// What will run.
#[derive(Debug)]
pub struct Plan {
    /// The same in words.
    pub facts: Facts,
    pub(crate) image: Image,
    pub(crate) arch: Arch,
    pub(crate) accelerator: Accelerator,
    firmware: FirmwareChoice,
    medium: (Role, Bus),
    disks: Vec<u64>,
    cpu_model: Option<std::ffi::OsString>,
    network: Option<Policy>,
    append: Option<String>,
    scratch: PathBuf,
    pub(crate) command: Option<String>,
    log: Option<PathBuf>,
}

impl Plan {
    /// Recognises an image, unpacks what has to be, and decides on its machine.
    ///
    /// # Errors
    /// If it is nothing that can be started, or the host lacks something.
    pub fn new(request: &Request, interrupt: &Interrupt) -> Result<Plan, RunError> {
        let parser = Parser::new(interrupt.clone());
        let scratch = scratch::folder()?;
        let preparation = Preparation {
            parser: &parser,
            scratch: &scratch,
            interrupt,
            notes: Vec::new(),
        };
        if request.initrd.is_some() && request.kernel.is_none() {
            let text = "--initrd needs the kernel of that ramdisk: --kernel FILE";
            return Err(RunError::Option(String::from(text)));
        }
        let own = OwnKernel {
            kernel: request.kernel.as_deref().map(open).transpose()?,
            initrd: request.initrd.as_deref().map(open).transpose()?,
        };
        let mut image = preparation.image(&request.image, own)?;
        let arch = request.arch.or(image.arch).unwrap_or(Arch::host());
        let mut notes = std::mem::take(&mut image.notes);
        check_options(request, &image)?;
        let in_machine = !matches!(image.what, What::Root { .. });
        let accelerator = if in_machine {
            probe(arch)?;
            accelerator(request.engine, arch)?
        } else {
            Accelerator::Tcg
        };
        let firmware = firmware(request.firmware, &image, arch, &mut notes)?;
        let mut disks = request.disks.clone();
        let install = image.is_installation()?;
        if install && disks.is_empty() {
            disks.push(INSTALL_DISK);
            notes.push(String::from(
                "the installation gets an empty disk of 32 GiB",
            ));
        }
        let medium = medium(request, &image);
        notes.extend(ignored(request).filter(|_| !in_machine));
        let facts = Facts {
            image: image.path.clone(),
            kind: image.what.name(),
            arch: arch.name(),
            firmware: match (&image.what, firmware) {
                (What::Root { .. }, _) => None,
                (What::Kernel { .. }, _) => Some("kernel"),
                (_, firmware) => Some(firmware.name()),
            },
            bus: in_machine.then(|| bus_name(medium.1)),
            accelerator: if in_machine {
                accelerator.name()
            } else {
                "podman"
            },
            memory_mib: request.memory_mib.unwrap_or_else(memory_mib),
            cpus: request.cpus.unwrap_or_else(cpus),
            notes,
        };
        Ok(Plan {
            facts,
            image,
            arch,
            accelerator,
            firmware,
            medium,
            disks,
            cpu_model: request.cpu_model.clone(),
            network: policy(request.network),
            append: request.append.clone(),
            scratch,
            command: request.command.clone(),
            log: request.log.clone(),
        })
    }

    /// Whether the image runs in a machine; others run in a container.
    pub fn in_machine(&self) -> bool {
        !matches!(self.image.what, What::Root { .. })
    }

    /// Whether an emulated machine with a processor of the level `wanted` is another than one of `level`.
    pub(crate) fn may_emulate(&self, wanted: CpuLevel, level: CpuLevel) -> bool {
        self.cpu_model.is_none() && wanted > level && wanted <= CpuLevel::EMULATED
    }

    /// The folder for what is large.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Begins the log that is asked for.
    pub(crate) fn begin_log(&self) -> Result<Option<SerialLog>, RunError> {
        let log = self.log.as_deref();
        log.map(|path| SerialLog::begin(path, &self.image.files()))
            .transpose()
    }

    /// The machine, with a processor of at least this level.
    pub(crate) fn machine(
        &self,
        level: CpuLevel,
        restarts: Option<u32>,
    ) -> Result<ImageMachine, RunError> {
        let clone = |file: &std::fs::File| {
            file.try_clone()
                .map_err(|error| RunError::Host(String::from("open the image once more"), error))
        };
        let mut media = Vec::new();
        let mut medium = |file, format, size| {
            media.push(Medium {
                image: Some((file, format)),
                size,
                role: self.medium.0,
                bus: self.medium.1,
            });
        };
        let boot = match &self.image.what {
            What::Disk {
                file, format, size, ..
            } => {
                medium(clone(file)?, *format, *size);
                self.firmware()?
            }
            What::Disc { file, .. } => {
                let size = length(file)?;
                medium(clone(file)?, DiskFormat::Raw, size);
                self.firmware()?
            }
            What::Kernel {
                kernel,
                initrd,
                disk,
                cmdline,
            } => {
                if let Some(disk) = disk {
                    let size = length(disk)?;
                    medium(clone(disk)?, DiskFormat::Raw, size);
                }
                ImageBoot::Kernel {
                    kernel: clone(kernel)?,
                    initrd: initrd.as_ref().map(clone).transpose()?,
                    cmdline: self.cmdline(cmdline.as_deref(), disk.is_some()),
                }
            }
            What::Root { .. } => {
                let text = "run an archive in a machine";
                return Err(RunError::Host(
                    String::from(text),
                    io::ErrorKind::Unsupported.into(),
                ));
            }
        };
        let empty = self.disks.iter().map(|size| Medium {
            image: None,
            size: *size,
            role: Role::Disk,
            bus: if self.medium.1 == Bus::Usb {
                Bus::Virtio
            } else {
                self.medium.1
            },
        });
        media.extend(empty);
        Ok(ImageMachine {
            name: String::from("boxbuild-image"),
            arch: self.arch,
            accelerator: self.accelerator,
            boot,
            media,
            memory_mib: self.facts.memory_mib,
            cpus: self.facts.cpus,
            cpu_level: level,
            cpu_model: self.cpu_model.clone(),
            network: self.network.clone(),
            scratch: self.scratch.clone(),
            restarts,
        })
    }

    fn firmware(&self) -> Result<ImageBoot, RunError> {
        Ok(match self.firmware {
            FirmwareChoice::Bios | FirmwareChoice::Auto => ImageBoot::Bios,
            FirmwareChoice::Uefi => ImageBoot::Uefi(find_uefi(self.arch, Secure::Off)?),
            FirmwareChoice::SecureBoot => ImageBoot::Uefi(find_uefi(self.arch, Secure::On)?),
        })
    }

    /// The command line of a kernel that is started without a boot loader.
    fn cmdline(&self, own: Option<&str>, disk: bool) -> String {
        let console = match self.arch {
            Arch::X86_64 => "console=ttyS0",
            Arch::Aarch64 => "console=ttyAMA0",
            Arch::Ppc64le => "console=hvc0",
            Arch::S390x => "console=ttysclp0",
        };
        let own = own.unwrap_or_default();
        let append = self.append.as_deref().unwrap_or_default();
        let has_root = |text: &str| {
            text.split_whitespace()
                .any(|word| word.starts_with("root="))
        };
        let root = match disk && !has_root(own) && !has_root(append) {
            true => "root=/dev/vda",
            false => "",
        };
        // The timer of an emulated machine may be late, and its clocks go apart on a busy host.
        let timer = match (self.arch, self.accelerator) {
            (Arch::X86_64, Accelerator::Tcg) => "no_timer_check tsc=reliable clocksource=tsc",
            _ => "",
        };
        let words = [console, timer, root, own, append].into_iter();
        words
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Limits and steps of a test, from what is asked for.
///
/// # Errors
/// If a file cannot be read, or an expression or a script is wrong.
pub(crate) fn expectations(request: &TestRequest, slow: bool) -> Result<Expectations, RunError> {
    let expect = request.expect.as_deref().unwrap_or(LOGIN_PROMPT);
    let wrong = |problem| RunError::Option(format!("--expect: {problem}"));
    let mut steps = vec![Step::Expect {
        pattern: pattern(expect).map_err(wrong)?,
        patience: None,
        line: 0,
    }];
    let mut secrets = Vec::new();
    if let Some(path) = &request.script {
        let text = input::read(path, LONGEST_SCRIPT)
            .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
            .map_err(|error| RunError::Read(path.clone(), error))?;
        let script = parse(&text, |name| std::env::var_os(name))
            .map_err(|error| RunError::Option(format!("--script {}: {error}", shown_path(path))))?;
        steps.extend(script.steps);
        secrets = script.secrets;
    }
    // A translated guest is some ten times slower.
    let (timeout, idle) = if slow { (3600, 900) } else { (600, 180) };
    let limit = |asked: Option<Duration>, own| {
        let time = asked.unwrap_or(Duration::from_secs(own));
        Some(time).filter(|time| !time.is_zero())
    };
    Ok(Expectations {
        steps,
        timeout: limit(request.timeout, timeout),
        idle: limit(request.idle, idle),
        passphrase: passphrase(request)?,
        secrets,
    })
}

fn passphrase(request: &TestRequest) -> Result<Option<String>, RunError> {
    let text = match (&request.passphrase_file, &request.passphrase_env) {
        (Some(path), _) => {
            let bytes = input::read(path, LONGEST_PASSPHRASE)
                .map_err(|error| RunError::Read(path.clone(), error))?;
            String::from_utf8(bytes)
                .map_err(|error| RunError::Read(path.clone(), io::Error::other(error)))?
        }
        (None, Some(name)) => {
            let value = std::env::var(name);
            value.map_err(|_| {
                RunError::Option(format!(
                    "--passphrase-env: the environment variable '{name}' is not set, or not text"
                ))
            })?
        }
        (None, None) => return Ok(None),
    };
    let line = text.lines().next().unwrap_or_default();
    Ok(Some(line.to_owned()))
}

fn open(path: &Path) -> Result<std::fs::File, RunError> {
    input::open(path).map_err(|error| RunError::Read(path.to_owned(), error))
}

fn length(file: &std::fs::File) -> Result<u64, RunError> {
    let length = file.metadata().map(|metadata| metadata.len());
    length.map_err(|error| RunError::Host(String::from("look at the image"), error))
}

/// Refuses options that say nothing about an image of this kind.
fn check_options(request: &Request, image: &Image) -> Result<(), RunError> {
    let what = &image.what;
    let refuse = |option: &str, needs: &str| {
        Err(RunError::Option(format!(
            "{option} is for {needs}; {} is {}",
            shown_path(&image.path),
            what.name()
        )))
    };
    let direct = matches!(what, What::Kernel { .. });
    let container = matches!(what, What::Root { .. });
    if request.append.is_some() && !direct {
        return refuse("--append", "kernels that are started without a boot loader");
    }
    if request.firmware != FirmwareChoice::Auto && (direct || container) {
        return refuse("--firmware", "disks and discs");
    }
    if request.usb && !matches!(what, What::Disc { .. } | What::Disk { .. }) {
        return refuse("--usb", "disks and discs");
    }
    if request.command.is_some() && !container {
        return refuse("--command", "container images and root archives");
    }
    if let What::Disc { stick: false, .. } = what
        && request.usb
    {
        return Err(RunError::Option(format!(
            "--usb: {} is a disc without a boot sector, so that it starts from no USB stick",
            shown_path(&image.path)
        )));
    }
    Ok(())
}

/// What is to be known of options on a machine, where the image runs in a container. They are no mistake:
/// a batch has them for all of its builds.
fn ignored(request: &Request) -> impl Iterator<Item = String> + use<> {
    let options = [
        ("--memory", request.memory_mib.is_some()),
        ("--cpus", request.cpus.is_some()),
        ("--cpu-model", request.cpu_model.is_some()),
        ("--add-disk", !request.disks.is_empty()),
    ];
    let given = options.into_iter().filter(|(_, given)| *given);
    given.map(|(option, _)| format!("{option} is for machines: this image runs in a container"))
}

fn accelerator(engine: EngineChoice, arch: Arch) -> Result<Accelerator, RunError> {
    match engine {
        EngineChoice::Qemu => Ok(Accelerator::Tcg),
        EngineChoice::Auto => Ok(Accelerator::for_guest(arch)),
        EngineChoice::Kvm => match Accelerator::for_guest(arch) {
            Accelerator::Kvm => Ok(Accelerator::Kvm),
            Accelerator::Tcg => {
                let selected = boxbuild_engine::select(EngineChoice::Kvm, arch);
                Err(selected
                    .err()
                    .unwrap_or_else(|| Unusable(String::from("KVM does not work on this host")))
                    .into())
            }
        },
    }
}

/// The firmware that starts an image.
fn firmware(
    asked: FirmwareChoice,
    image: &Image,
    arch: Arch,
    notes: &mut Vec<String>,
) -> Result<FirmwareChoice, RunError> {
    let starts = match &image.what {
        What::Disk { starts, .. } | What::Disc { starts, .. } => *starts,
        What::Kernel { .. } | What::Root { .. } => return Ok(FirmwareChoice::Auto),
    };
    match (asked, arch) {
        (FirmwareChoice::Bios, Arch::Aarch64) => Err(RunError::Option(String::from(
            "--firmware bios: machines of aarch64 have UEFI only",
        ))),
        (FirmwareChoice::Auto, Arch::Aarch64) | (FirmwareChoice::Uefi, _) => {
            find_uefi(arch, Secure::Off)?;
            Ok(FirmwareChoice::Uefi)
        }
        (FirmwareChoice::SecureBoot, _) => {
            find_uefi(arch, Secure::On)?;
            Ok(FirmwareChoice::SecureBoot)
        }
        (FirmwareChoice::Auto, Arch::X86_64) => match (starts, find_uefi(arch, Secure::Off)) {
            (Starts { uefi: true, .. }, Ok(_)) => Ok(FirmwareChoice::Uefi),
            (
                Starts {
                    uefi: true,
                    bios: true,
                },
                Err(missing),
            ) => {
                notes.push(format!(
                    "the image starts by UEFI, too, which is not tried: {missing}"
                ));
                Ok(FirmwareChoice::Bios)
            }
            (
                Starts {
                    uefi: true,
                    bios: false,
                },
                Err(missing),
            ) => Err(missing.into()),
            (Starts { bios, .. }, _) => {
                if !bios {
                    notes.push(String::from(
                        "the image has neither a boot sector with a program nor an EFI system partition",
                    ));
                }
                Ok(FirmwareChoice::Bios)
            }
        },
        // What is in the place of a BIOS there is a part of QEMU.
        (_, Arch::Ppc64le | Arch::S390x) | (FirmwareChoice::Bios, Arch::X86_64) => {
            Ok(FirmwareChoice::Bios)
        }
    }
}

fn medium(request: &Request, image: &Image) -> (Role, Bus) {
    let role = match image.what {
        What::Disc { .. } if !request.usb => Role::Cd,
        _ => Role::Disk,
    };
    let bus = if request.usb { Bus::Usb } else { request.bus };
    (role, bus)
}

const fn bus_name(bus: Bus) -> &'static str {
    match bus {
        Bus::Virtio => "virtio",
        Bus::Sata => "sata",
        Bus::Usb => "usb",
    }
}

fn policy(network: Network) -> Option<Policy> {
    let reach = match network {
        Network::User => Reach::Host,
        Network::Public => Reach::Public,
        Network::None => return None,
    };
    Some(Policy {
        reach,
        ..Policy::default()
    })
}

/// Half of what the host has free, at most what most images need.
fn memory_mib() -> u64 {
    let available = HostMemory::now().available;
    let available = available.map_or(MEMORY_MIB, |bytes| (bytes >> 20) / 2);
    MEMORY_MIB.min(available).max(512)
}

fn cpus() -> u32 {
    let host = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(host.min(CPUS)).unwrap_or(1)
}

/// How often a guest may restart during a test.
pub(crate) const fn most_restarts() -> Option<u32> {
    Some(MOST_RESTARTS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_path_of_any_bytes_is_told_to_programs() {
        let facts = Facts {
            image: PathBuf::from(std::ffi::OsStr::from_bytes(b"/x/\xff.raw")),
            kind: "raw",
            arch: "x86_64",
            firmware: None,
            bus: None,
            accelerator: "tcg",
            memory_mib: 512,
            cpus: 1,
            notes: Vec::new(),
        };
        let text = serde_json::to_string(&facts).unwrap();
        assert!(text.contains("/x/\u{fffd}.raw"), "{text}");
    }

    #[test]
    fn firmware_that_an_architecture_does_not_have_is_refused() {
        let file = || tempfile::tempfile().unwrap();
        let image = Image {
            path: PathBuf::from("disk.raw"),
            what: What::Disk {
                file: file(),
                format: DiskFormat::Raw,
                size: 512,
                starts: Starts::default(),
            },
            notes: Vec::new(),
            original: file(),
            arch: None,
        };
        let mut notes = Vec::new();
        for arch in [Arch::Ppc64le, Arch::S390x] {
            for asked in [FirmwareChoice::Uefi, FirmwareChoice::SecureBoot] {
                assert!(firmware(asked, &image, arch, &mut notes).is_err());
            }
            let own = firmware(FirmwareChoice::Auto, &image, arch, &mut notes);
            assert_eq!(own.unwrap(), FirmwareChoice::Bios);
        }
    }
}
