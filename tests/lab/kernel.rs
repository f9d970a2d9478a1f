//! Kernels of Debian, unpacked: downloaded once, published by one rename.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use boxbuild_firmware::kernel::BzImage;
use boxbuild_tests::command::require;
use boxbuild_tests::debian::{self, Apt, KEYRING, Kernel};
use boxbuild_tests::interrupt::Unwind;
use boxbuild_tests::publish::{lock, publish, remove_abandoned};
use clap::ValueEnum;

use crate::arch::Arch;

/// A release of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    Bookworm,
    Trixie,
    TrixieBackports,
}

/// A kernel package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavour {
    CloudAmd64,
    Amd64,
    CloudArm64,
    Arm64,
}

impl Suite {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
            Suite::TrixieBackports => "trixie-backports",
        }
    }

    /// The release whose security updates are for it, if there are any.
    fn security(self) -> Option<String> {
        (self != Suite::TrixieBackports).then(|| format!("{}-security", self.name()))
    }
}

impl Flavour {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Flavour::CloudAmd64 => "cloud-amd64",
            Flavour::Amd64 => "amd64",
            Flavour::CloudArm64 => "cloud-arm64",
            Flavour::Arm64 => "arm64",
        }
    }

    pub(crate) fn arch(self) -> Arch {
        match self {
            Flavour::CloudAmd64 | Flavour::Amd64 => Arch::X86_64,
            Flavour::CloudArm64 | Flavour::Arm64 => Arch::Aarch64,
        }
    }
}

/// What `kernel` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Ask the mirror for a newer one
    #[arg(long)]
    refresh: bool,
    /// Print the ELF file inside vmlinuz, unpacked
    #[arg(long, conflicts_with = "refresh")]
    vmlinux: bool,
    #[arg(value_enum)]
    suite: Suite,
    #[arg(value_enum)]
    flavour: Flavour,
}

/// Returns the path that `kernel` prints.
pub(crate) fn run(options: &Options) -> Result<PathBuf> {
    let folder = if options.refresh {
        fetch(options.suite, options.flavour, true)?
    } else {
        folder(options.suite, options.flavour)?
    };
    if options.vmlinux {
        vmlinux(&folder)
    } else {
        Ok(folder)
    }
}

/// The folder of an unpacked kernel package: `vmlinuz`, `config`, `release` (one line), `version`
/// (of the package) and `lib/modules/RELEASE` with its indexes. Downloaded where it is not there.
pub(crate) fn folder(suite: Suite, flavour: Flavour) -> Result<PathBuf> {
    match found(&current(suite, flavour)?) {
        Some(folder) => Ok(folder),
        None => fetch(suite, flavour, false),
    }
}

/// The release of the kernel in a folder.
pub(crate) fn release(folder: &Path) -> Result<String> {
    let file = folder.join("release");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// The link to the version that is used: measurements compare until it is refreshed.
fn current(suite: Suite, flavour: Flavour) -> Result<PathBuf> {
    Ok(versions(suite, flavour)?.join("current"))
}

fn versions(suite: Suite, flavour: Flavour) -> Result<PathBuf> {
    let name = format!("kernel/{}-{}", suite.name(), flavour.name());
    Ok(debian::cache()?.join(name))
}

fn found(current: &Path) -> Option<PathBuf> {
    let folder = current.canonicalize().ok()?;
    folder.join("release").exists().then_some(folder)
}

/// The kernel proper, which is packed in `vmlinuz`.
fn vmlinux(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("vmlinux");
    if path.exists() {
        return Ok(path);
    }
    let image = folder.join("vmlinuz");
    let bytes = fs::read(&image).with_context(|| format!("cannot read {}", image.display()))?;
    let unpack = || -> Result<Vec<u8>> { Ok(BzImage::parse(&bytes)?.vmlinux()?) };
    let elf = unpack().with_context(|| format!("cannot unpack {}", image.display()))?;
    let _unwind = Unwind::begin()?;
    let new = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(new.path(), elf)?;
    set_mode(new.path(), 0o644)?;
    new.persist(&path)?;
    Ok(path)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot change the mode of {}", path.display()))
}

fn fetch(suite: Suite, flavour: Flavour, refresh: bool) -> Result<PathBuf> {
    ensure!(
        Path::new(KEYRING).exists(),
        "no {KEYRING}: install the package debian-archive-keyring"
    );
    require([("apt-get", "apt"), ("depmod", "kmod"), ("dpkg-deb", "dpkg")])?;
    let cache = debian::cache()?;
    let versions = versions(suite, flavour)?;
    let current = current(suite, flavour)?;
    fs::create_dir_all(&versions).with_context(|| format!("cannot make {}", versions.display()))?;
    // One at a time: the others find its result. A signal ends those that wait at once.
    let _lock = lock(&cache.join("kernel.lock"))?;
    let _unwind = Unwind::begin()?;
    if let (false, Some(folder)) = (refresh, found(&current)) {
        return Ok(folder);
    }
    for folder in fs::read_dir(cache.join("kernel"))? {
        remove_abandoned(&folder?.path())?;
    }
    let work = tempfile::Builder::new()
        .prefix(".making.")
        .tempdir_in(&versions)?;
    eprintln!(
        "fetching the kernel linux-image-{} of {} (once)",
        flavour.name(),
        suite.name()
    );
    let apt = apt(suite, flavour.arch())?;
    apt.update()?;
    let meta = format!("linux-image-{}", flavour.name());
    let packages = apt.kernel_packages(&meta)?;
    let packages = apt.download(&packages, work.path())?;
    let version = unpack(&packages, work.path())?;
    let folder = versions.join(&version);
    // Older versions stay for those who use them now.
    if !folder.exists() {
        publish(&work.path().join("new"), &folder)?;
    }
    let link = work.path().join("current");
    symlink(&version, &link)?;
    fs::rename(&link, &current)?;
    Ok(folder)
}

/// An apt that takes nothing of the host's but its proxies and the mirror's address.
pub(crate) fn apt(suite: Suite, arch: Arch) -> Result<Apt> {
    let name = match arch {
        Arch::X86_64 => suite.name().to_owned(),
        Arch::Aarch64 => format!("{}-{}", suite.name(), arch.debian()),
    };
    let folder = &debian::cache()?.join("apt").join(name);
    let apt = Apt::separate(folder, arch.debian())?;
    let arch = arch.debian();
    let source = |uri: &str, suite: &str| {
        format!("deb [arch={arch} signed-by={KEYRING}] {uri} {suite} main\n")
    };
    let mut sources = source(&debian::mirror()?, suite.name());
    if std::env::var_os("BOXBUILD_LAB_MIRROR").is_none()
        && let Some(security) = suite.security()
        && let Some(uri) = debian::security_mirror()?
    {
        sources += &source(&uri, &security);
    }
    let list = folder.join("sources.list");
    fs::write(&list, sources)?;
    Ok([
        "Dir::Etc::SourceParts=/dev/null",
        "Dir::Etc::Preferences=/dev/null",
        "Dir::Etc::PreferencesParts=/dev/null",
        "APT::Default-Release=",
        "APT::Update::Error-Mode=any",
        "Acquire::AllowInsecureRepositories=false",
        "APT::Get::AllowUnauthenticated=false",
    ]
    .iter()
    .fold(
        apt.option(&format!("Dir::Etc::SourceList={}", list.display())),
        |apt, option| apt.option(option),
    ))
}

/// Makes `work/new` of a kernel's packages and returns their version.
fn unpack(packages: &[PathBuf], work: &Path) -> Result<String> {
    let tree = work.join("tree");
    let version = debian::version(&packages[0])?;
    for package in packages {
        debian::unpack(package, &tree)?;
    }
    let kernel = Kernel::find(&tree)?;
    let new = work.join("new");
    let modules = new.join("lib/modules");
    fs::create_dir_all(&modules)?;
    fs::rename(&kernel.image, new.join("vmlinuz"))?;
    // Since Linux 7, Debian has it beside the modules, too.
    let config = tree.join(format!("boot/config-{}", kernel.release));
    let config = [config, kernel.modules.join("config")];
    let config = config.iter().find(|config| config.is_file());
    let config = config.context("the kernel package has no configuration")?;
    fs::rename(config, new.join("config"))?;
    for link in ["build", "source"] {
        let _ = fs::remove_file(kernel.modules.join(link));
    }
    fs::rename(&kernel.modules, modules.join(&kernel.release))?;
    debian::index_modules(&new, &kernel.release)?;
    fs::write(new.join("version"), format!("{version}\n"))?;
    fs::write(new.join("release"), format!("{}\n", kernel.release))?;
    Ok(version)
}
