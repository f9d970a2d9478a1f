//! Packages of Debian, by apt and dpkg: never installed, only unpacked.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{command, output};

/// The keys of Debian's archives.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The folder of the tests in the source tree.
pub fn tests_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder where what is made for tests stays: `$XDG_CACHE_HOME/boxbuild-lab`.
///
/// # Errors
/// If neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = cache.map(PathBuf::from).or_else(home);
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("boxbuild-lab"))
}

/// The mirror that the host's apt uses, or `BOXBUILD_LAB_MIRROR`.
///
/// # Errors
/// If the host's configuration names no mirror of Debian.
pub fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("BOXBUILD_LAB_MIRROR") {
        return Ok(mirror);
    }
    let text = output(&mut command(tests_folder().join("setup/mirror")))?;
    Ok(text.trim_end().to_owned())
}

/// The archive of security updates that the host's apt uses, if it uses one.
///
/// # Errors
/// If apt-get cannot be run.
pub fn security_mirror() -> Result<Option<String>> {
    let text = output(command("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
    ]))?;
    let found = text.lines().find_map(|line| {
        let (uri, release) = line.split_once(' ')?;
        let ours = release.ends_with("-security")
            && uri.trim_end_matches('/').ends_with("debian-security");
        ours.then(|| uri.to_owned())
    });
    Ok(found)
}

/// An apt, with these options.
#[derive(Debug, Clone, Default)]
pub struct Apt(Vec<OsString>);

impl Apt {
    /// The host's.
    pub fn of_host() -> Apt {
        Apt::default()
    }

    /// One with lists and a cache below `folder`, for packages of `arch` (Debian's name). It takes
    /// the sources, keys and proxies of the host, unless [`Apt::option`] says otherwise.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn separate(folder: &Path, arch: &str) -> Result<Apt> {
        for name in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::write(folder.join("status"), "")?;
        let path = |name: &str| folder.join(name).display().to_string();
        Ok(Apt::of_host()
            .option(&format!("Dir::State={}", path("state")))
            .option(&format!("Dir::State::status={}", path("status")))
            .option(&format!("Dir::Cache={}", path("cache")))
            .option(&format!("APT::Architecture={arch}"))
            .option(&format!("APT::Architectures={arch}"))
            .option("APT::Sandbox::User=")
            .option("Acquire::Languages=none")
            .option("Acquire::Retries=3"))
    }

    /// One more option, as `NAME=VALUE`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Apt {
        self.0.extend(["-o".into(), option.into()]);
        self
    }

    fn command(&self, program: &str) -> Command {
        let mut command = command(program);
        command.arg("-q").args(&self.0);
        command
    }

    /// Fetches the lists of packages.
    ///
    /// # Errors
    /// If apt-get fails.
    pub fn update(&self) -> Result<()> {
        output(self.command("apt-get").arg("update")).map(|_| ())
    }

    /// What a package depends on, in order. A virtual package is in angle brackets.
    ///
    /// # Errors
    /// If apt-cache cannot be run.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = output(self.command("apt-cache").args(["depends", package]))?;
        let names = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("Depends: "));
        Ok(names.map(|name| name.trim().to_owned()).collect())
    }

    /// The first package that provides a virtual one.
    ///
    /// # Errors
    /// If there is none.
    pub fn provider(&self, package: &str) -> Result<String> {
        let text = output(self.command("apt-cache").args(["showpkg", package]))?;
        let mut lines = text.lines();
        lines.find(|line| line.starts_with("Reverse Provides"));
        let provider = lines.next().and_then(|line| line.split(' ').next());
        provider
            .map(str::to_owned)
            .with_context(|| format!("no package provides {package}"))
    }

    /// The packages of the kernel that a meta package of the distribution (`linux-image-FLAVOUR`) asks for
    /// now: one, or since Linux 7 one for the image and further ones that it needs, of the same release.
    ///
    /// # Errors
    /// If there is no such meta package.
    pub fn kernel_packages(&self, meta: &str) -> Result<Vec<String>> {
        let depends = self.depends(meta).unwrap_or_default();
        let named = |name: &String| name.trim_start_matches('<').starts_with("linux-image-");
        let package = depends.into_iter().find(named);
        let package = package.with_context(|| format!("apt knows no package {meta}"))?;
        // A name that is only provided stands for its signed or unsigned package.
        let package = match package.strip_prefix('<') {
            None => package,
            Some(name) => self.provider(name.trim_end_matches('>'))?,
        };
        let release = package.trim_start_matches("linux-image-").to_owned();
        let mut packages = vec![package];
        packages.extend(
            self.depends(&packages[0])?
                .into_iter()
                .filter(|name| name.starts_with("linux-") && name.ends_with(&release)),
        );
        Ok(packages)
    }

    /// Downloads packages into a folder and returns their files. apt checks them against the
    /// archive's signatures.
    ///
    /// # Errors
    /// If one cannot be downloaded.
    pub fn download(&self, packages: &[String], into: &Path) -> Result<Vec<PathBuf>> {
        let before = files(into)?;
        let mut command = self.command("apt-get");
        output(command.arg("download").args(packages).current_dir(into))?;
        let mut found = files(into)?;
        found.retain(|file| !before.contains(file));
        ensure!(
            found.len() == packages.len(),
            "apt-get download left {} files for {}",
            found.len(),
            packages.join(" ")
        );
        Ok(found)
    }

    /// Downloads packages and all that they depend on into a folder, which is made, and returns their
    /// files. Only for an apt that is [separate](Apt::separate): it takes nothing for installed.
    ///
    /// # Errors
    /// If one cannot be downloaded.
    pub fn download_with_dependencies(
        &self,
        packages: &[String],
        into: &Path,
    ) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(into.join("partial"))?;
        let mut command = self.command("apt-get");
        command.args([
            "install",
            "--yes",
            "--download-only",
            "--no-install-recommends",
        ]);
        command.arg("-o");
        command.arg(format!("Dir::Cache::archives={}", into.display()));
        output(command.args(packages))?;
        files(into)
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "deb"));
    files.sort();
    Ok(files)
}

/// Unpacks a package into a folder.
///
/// # Errors
/// If dpkg-deb fails.
pub fn unpack(package: &Path, into: &Path) -> Result<()> {
    output(command("dpkg-deb").arg("-x").args([package, into])).map(|_| ())
}

/// The version of a package.
///
/// # Errors
/// If dpkg-deb fails.
pub fn version(package: &Path) -> Result<String> {
    let text = output(command("dpkg-deb").arg("-f").arg(package).arg("Version"))?;
    Ok(text.trim().to_owned())
}

/// An unpacked kernel package.
#[derive(Debug)]
pub struct Kernel {
    /// The kernel's release, as `uname -r` says it.
    pub release: String,
    /// The folder of its modules.
    pub modules: PathBuf,
    /// The kernel image.
    pub image: PathBuf,
}

impl Kernel {
    /// Finds the kernel in an unpacked package.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(package: &Path) -> Result<Kernel> {
        let folders = ["usr/lib/modules", "lib/modules"].map(|name| package.join(name));
        let folder = folders.iter().find(|folder| folder.is_dir());
        let folder = folder.context("the kernel package has no modules")?;
        let entry = fs::read_dir(folder)?.next().context("no modules")??;
        let release = entry
            .file_name()
            .into_string()
            .ok()
            .context("a release that is not UTF-8")?;
        // Since Linux 7, Debian has it beside the modules.
        let boot = package.join("boot").join(format!("vmlinuz-{release}"));
        let image = [boot, entry.path().join("vmlinuz")]
            .into_iter()
            .find(|image| image.is_file());
        let image = image.context("the kernel package has no kernel image")?;
        Ok(Kernel {
            modules: entry.path(),
            release,
            image,
        })
    }
}

/// Makes the indexes of `root/lib/modules/RELEASE`.
///
/// # Errors
/// If depmod fails.
pub fn index_modules(root: &Path, release: &str) -> Result<()> {
    output(command("depmod").arg("-b").arg(root).arg(release)).map(|_| ())
}

/// The files of a module of `root/lib/modules/RELEASE` and of what it depends on, in the order in
/// which they load; none if the kernel has it built in.
///
/// # Errors
/// If the kernel has no such module.
pub fn module_files(root: &Path, release: &str, module: &str) -> Result<Vec<PathBuf>> {
    let mut command = command("modprobe");
    command.arg("-d").arg(root);
    let text = output(command.args(["-S", release, "--show-depends", module]))
        .with_context(|| format!("the kernel {release} has no module {module}"))?;
    let files = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("insmod "));
    // Parameters may follow.
    let files = files.filter_map(|line| line.split(' ').next());
    Ok(files.map(PathBuf::from).collect())
}
