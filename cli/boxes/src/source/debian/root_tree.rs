//! The root tree of a box, made by mmdebstrap: packages, KIWI, configuration, guest side.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use boxbuild_firmware::guest;
use boxbuild_host::arch::Arch;
use boxbuild_host::error::IoError;
use boxbuild_host::reaper::Reaper;

use super::emulation::Emulation;
use super::files::write;
use super::packages::{BASE, BUILD, EXCLUDED, FILES, MASKED, boot_loaders};
use super::release::{Family, Suite};
use super::{apt, dracut, initrd, kiwi};
use crate::source::command::Workshop;
use crate::source::error::{CommandError, SourceError};
use crate::source::host::Host;
use crate::source::root_disk::namespace;

/// Free space that mmdebstrap needs for its tree, in bytes.
const NEEDED_SPACE: u64 = 2 << 30;

/// What goes into the root tree.
#[derive(Debug)]
pub(super) struct RootTree<'a> {
    /// The distribution.
    pub(super) family: &'a Family,
    /// The suite, e.g. `trixie`.
    pub(super) suite: Suite,
    /// Public keys of the packages, if the user names them.
    pub(super) keys: Option<&'a Path>,
    /// Address of the package mirror; mmdebstrap has a default.
    pub(super) mirror: Option<&'a str>,
    /// Architecture of the packages.
    pub(super) arch: Arch,
    /// Version of KIWI, whose wheels are in the folder `wheels` of the workshop.
    pub(super) kiwi: &'a str,
    /// More packages.
    pub(super) with: &'a [String],
}

impl RootTree<'_> {
    /// Makes `root.tar` in the workshop. Returns the repository in it.
    pub(super) fn make(
        &self,
        workshop: &Workshop<'_>,
        emulation: &Emulation,
    ) -> Result<Option<dracut::Repository>, SourceError> {
        let host = workshop.host;
        let early = workshop.dir.join("early");
        initrd::write_early(&early).map_err(IoError::on("write", &early))?;
        pack(workshop, &early, "early.tar")?;
        let files = workshop.dir.join("files");
        write_files(&files).map_err(IoError::on("write", &files))?;
        let source = workshop.dir.join(kiwi::SOURCE);
        let packages = dracut::make(workshop, &source, self.kiwi, self.arch, &files)?;
        pack(workshop, &files, "files.tar")?;

        let scratch = Scratch::new(host)?;
        let keys = self.keys.map(|keys| scratch.take(keys)).transpose()?;
        let name = "mmdebstrap";
        let program = host.find(name).unwrap_or_else(|| name.into());
        let mut command = emulation.command(host, &program);
        // In a namespace made here, the user is root already, and cannot make device nodes.
        let mode = if emulation.in_namespace() || !host.is_root() {
            "--mode=unshare"
        } else {
            "--mode=root"
        };
        command
            .arg(mode)
            .args(self.options(host, keys.as_deref()))
            .args(self.hooks(&workshop.dir))
            .args(self.operands(&workshop.dir))
            .env("TMPDIR", scratch.dir.path());
        let result = workshop.run_command(name, command);
        drop(scratch);
        result.map_err(|error| self.explain(error))?;
        Ok(packages)
    }

    /// Says in a line that the suite does not have a package of the user's.
    fn explain(&self, error: CommandError) -> SourceError {
        let CommandError::Failed { output, .. } = &error else {
            return error.into();
        };
        match missing_package(output, self.with) {
            Some(package) => SourceError::Usage(format!(
                "--with {package}: {} {} has no such package in {}",
                self.family.title,
                self.suite.name,
                self.family.components.replace(' ', " and ")
            )),
            None => error.into(),
        }
    }

    /// Returns options for the packages and how they are installed.
    fn options(&self, host: &Host, keys: Option<&Path>) -> Vec<OsString> {
        let kernel = (self.family.kernel)(self.arch);
        let mut include = [
            BASE,
            BUILD,
            boot_loaders(self.arch),
            kernel,
            self.suite.more,
        ]
        .concat();
        include.extend(self.with.iter().map(String::as_str));
        let include = include.join(",");
        let mut options: Vec<OsString> = vec![
            "--variant=minbase".into(),
            "--format=tar".into(),
            format!("--architectures={}", self.arch.debian_name()).into(),
            "--aptopt=Apt::Install-Recommends \"false\"".into(),
            "--aptopt=Acquire::Retries \"3\"".into(),
            "--aptopt=Acquire::Languages \"none\"".into(),
            format!("--include={include}").into(),
        ];
        options.extend(
            apt::transport_options(host.path())
                .into_iter()
                .map(|line| format!("--aptopt={line}").into()),
        );
        options.extend(keys.map(|keys| {
            let mut option = OsString::from("--keyring=");
            option.push(keys);
            option
        }));
        options.extend(
            EXCLUDED
                .iter()
                .map(|line| format!("--dpkgopt={line}").into()),
        );
        options
    }

    /// Returns the commands that mmdebstrap runs between its stages, with the tree as `$1`.
    fn hooks(&self, dir: &Path) -> Vec<OsString> {
        let path = |name: &str| quoted(&dir.join(name));
        let essential = format!("tar-in {} /", path("early.tar"));
        let customize = [
            format!("tar-in {} /", path("files.tar")),
            format!("copy-in {} /opt", path("wheels")),
            // mmdebstrap resets the times of new files: Python would find its compiled modules out
            // of date and compile them again in each build. With this variable it compares contents
            // instead (docs.python.org, py_compile.PycInvalidationMode).
            format!(
                "chroot \"$1\" env SOURCE_DATE_EPOCH=\"$(date +%s)\" python3 -m pip install --quiet \
                 --no-index --find-links /opt/wheels --break-system-packages \
                 --root-user-action=ignore kiwi=={}",
                self.kiwi
            ),
            String::from("rm -rf \"$1/opt/wheels\" \"$1/var/lib/apt/lists\" \"$1/var/cache/apt\""),
            String::from(
                "mkdir -p \"$1/var/lib/apt/lists/partial\" \"$1/var/cache/apt/archives/partial\"",
            ),
            format!(
                "chroot \"$1\" systemctl --quiet enable systemd-networkd systemd-resolved {}",
                guest::UNIT
            ),
            format!("chroot \"$1\" systemctl --quiet mask {}", MASKED.join(" ")),
            // sshd runs only with --ssh-port, with host keys of that run.
            String::from(
                "chroot \"$1\" sh -c 'for unit in ssh.service ssh.socket; do systemctl --quiet \
                 disable $unit 2>/dev/null; done; rm -f /etc/ssh/ssh_host_*'",
            ),
        ];
        let mut hooks = vec![format!("--essential-hook={essential}").into()];
        hooks.extend(customize.map(|command| format!("--customize-hook={command}").into()));
        hooks
    }

    /// Returns suite, output and package sources.
    fn operands(&self, dir: &Path) -> Vec<OsString> {
        let (suite, components) = (self.suite.name, self.family.components);
        let mut operands = vec![suite.into(), dir.join("root.tar").into()];
        if let Some(mirror) = self.mirror {
            for pocket in ["", "-updates"] {
                operands.push(format!("deb {mirror} {suite}{pocket} {components}").into());
            }
        }
        operands
    }
}

/// Returns the first of `packages` that apt did not find, as its last lines say.
fn missing_package<'a>(output: &[String], packages: &'a [String]) -> Option<&'a String> {
    packages.iter().find(|package| {
        let unknown = format!("E: Unable to locate package {package}");
        let virtual_only = format!("E: Package '{package}' has no installation candidate");
        output
            .iter()
            .any(|line| *line == unknown || *line == virtual_only)
    })
}

/// Writes the box's own configuration and guest side to the folder `dir`.
fn write_files(dir: &Path) -> io::Result<()> {
    for (path, content) in FILES {
        write(dir, path, 0o644, content)?;
    }
    for file in guest::BOX_FILES {
        write(
            dir,
            file.path.trim_start_matches('/'),
            file.mode,
            file.content,
        )?;
    }
    fs::create_dir_all(dir.join("etc"))?;
    symlink(
        "/run/systemd/resolve/stub-resolv.conf",
        dir.join("etc/resolv.conf"),
    )
}

/// A folder for mmdebstrap's own tree. Subordinate ids must reach it, so it cannot be below a home
/// folder.
struct Scratch {
    /// Removes it with the owners that its files have.
    _reaper: Reaper,
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new(host: &Host) -> Result<Scratch, SourceError> {
        let parent = Path::new("/var/tmp");
        host.check_space(parent, NEEDED_SPACE)?;
        let dir = tempfile::Builder::new()
            .prefix("boxbuild-")
            .permissions(fs::Permissions::from_mode(0o711))
            .tempdir_in(parent)
            .map_err(IoError::on("write", parent))?;
        // Mounts in it that are not mmdebstrap's own are not entered.
        let mut remove = namespace(host);
        remove.extend(["rm", "-rf", "--one-file-system"].map(OsString::from));
        let reaper =
            Reaper::watch_tree(dir.path(), &remove).map_err(IoError::on("write", dir.path()))?;
        Ok(Scratch {
            _reaper: reaper,
            dir,
        })
    }
}

impl Scratch {
    /// Copies a file to where subordinate ids reach it.
    fn take(&self, file: &Path) -> Result<PathBuf, SourceError> {
        // apt tells by the name what is in it.
        let extension = file.extension().unwrap_or("gpg".as_ref());
        let to = self.dir.path().join("keys").with_extension(extension);
        fs::copy(file, &to).map_err(IoError::on("copy", file))?;
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&to, mode).map_err(IoError::on("write", &to))?;
        Ok(to)
    }
}

/// Packs the folder `dir` into the archive `name`, in which everything belongs to root.
fn pack(workshop: &Workshop<'_>, dir: &Path, name: &str) -> Result<(), SourceError> {
    let args = ["--owner=0", "--group=0", "--numeric-owner", "-C"].map(OsString::from);
    let rest: [OsString; 4] = [
        dir.into(),
        "-cf".into(),
        workshop.dir.join(name).into(),
        ".".into(),
    ];
    Ok(workshop.run("tar", args.into_iter().chain(rest), &[])?)
}

/// Quotes a path for the shell that runs hooks.
fn quoted(path: &Path) -> String {
    shell_words::quote(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_not_there_is_named() {
        let with = ["htop", "nosuch", "g++"].map(str::to_owned);
        let missing = |line: &str| {
            let output = [line, "W: hooklistener errored out"].map(str::to_owned);
            missing_package(&output, &with).map(String::as_str)
        };
        assert_eq!(
            missing("E: Unable to locate package nosuch"),
            Some("nosuch")
        );
        assert_eq!(
            missing("E: Package 'g++' has no installation candidate"),
            Some("g++")
        );
        assert_eq!(missing("E: Unable to locate package htop-dev"), None);
        assert_eq!(missing("E: Unable to fetch some archives"), None);
    }
}
