//! The plan of a build: everything decided and checked, nothing touched yet.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

use crate::args::BuildOptions;
use crate::container::{self, ImageTypes};
use crate::engine::Network;
use crate::host_paths::HostPaths;
use crate::kiwi_options::{BuildArgs, BuildArgsError};
use crate::peer_options;
use crate::store::{Guest, InstalledBox};

/// Least free space below the target directory, in bytes. An image is larger; this only
/// recognises a file system that is full.
const LEAST_FREE: u64 = 16 << 20;

/// The host as the guest sees it: the gateway of its network.
const GATEWAY: &str = "10.0.2.2";

/// A validated build.
#[derive(Debug)]
pub struct Plan {
    /// The box to build in.
    pub installed: InstalledBox,
    /// How the box is brought up.
    pub boot: Boot,
    /// Description folder, absolute.
    pub description: PathBuf,
    /// The box may write into the description folder.
    pub description_rw: bool,
    /// Target folder, absolute; it may not exist yet.
    pub target_dir: PathBuf,
    /// Complete arguments of kiwi-ng up to `--description`: global options, `system build`
    /// and the build options.
    pub kiwi_args: Vec<OsString>,
    /// Console of the guest (`console=` on its kernel command line).
    pub console: String,
    /// Version of kiwi that the box's guest side installs first.
    pub kiwi_version: Option<String>,
    /// Where a copy of kiwi's log shall go, absolute.
    pub copy_log_to: Option<PathBuf>,
    /// Files and folders of the host besides the description.
    pub host_paths: HostPaths,
    /// What the user should know before the build, though it runs.
    pub notes: Vec<String>,
    /// Environment of kiwi.
    pub environment: Vec<(String, OsString)>,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// Grow the disk that the guest sees to this many bytes.
    pub disk_size: Option<u64>,
    /// Network of the guest.
    pub network: Network,
    /// A proxy on the host's loopback is used.
    pub host_loopback: bool,
    /// Engine that the user asked for (one of [`crate::engine::NAMES`]).
    pub engine: String,
    /// Machine type and CPU model for the qemu engine.
    pub machine_type: Option<OsString>,
    /// See `machine_type`.
    pub cpu_model: Option<OsString>,
    /// Build in a container instead of a machine.
    pub container: Option<container::Mode>,
    /// Image types that the build may come to.
    pub image_types: ImageTypes,
    /// End the build after this time.
    pub timeout: Option<Duration>,
    /// End the build after this time without a sign of life.
    pub timeout_idle: Option<Duration>,
}

/// How a box is brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// boxbuild's own init in the box's initrd; the box's init system never runs.
    Fast,
    /// The box's own init system and guest script, driven by the kernel command line.
    Compat,
}

/// Why there is no plan. All of these are the user's to correct (exit code 2).
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Words behind the separator are missing.
    #[error(
        "nothing to build: write -- and the build options behind it, e.g. \
         -- --description DIR --target-dir DIR"
    )]
    NoBuildArgs,
    /// Words behind the separator are wrong.
    #[error(transparent)]
    BuildArgs(#[from] BuildArgsError),
    /// The description cannot be used.
    #[error("--description {path}: {problem}")]
    Description {
        /// As typed.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The target directory cannot be used.
    #[error("--target-dir {path}: {problem}")]
    Target {
        /// As typed.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An option's value is wrong or cannot be had with this box.
    #[error("{0}")]
    Option(String),
}

/// The folders of a build, checked before the box is even looked up.
#[derive(Debug)]
pub struct Folders {
    build: BuildArgs,
    description: PathBuf,
    target_dir: PathBuf,
}

impl Folders {
    /// Checks the words behind the separator and the folders they name.
    pub fn check(
        build_args: Option<&[OsString]>,
        kiwi_file: Option<&Path>,
    ) -> Result<Folders, PlanError> {
        let build = BuildArgs::parse(build_args.ok_or(PlanError::NoBuildArgs)?)?;
        let description = check_description(&build.description, kiwi_file)?;
        let target_dir = check_target(&build.target_dir, &description)?;
        Ok(Folders {
            build,
            description,
            target_dir,
        })
    }
}

impl Plan {
    /// Decides on everything that `options` leaves open.
    pub fn new(
        options: &BuildOptions,
        folders: Folders,
        installed: InstalledBox,
    ) -> Result<Plan, PlanError> {
        let info = &installed.info;
        if let Some(reason) = options.kiwi.impossible() {
            return Err(PlanError::Option(reason));
        }
        if let Some(arch) = options.arch().filter(|arch| *arch != info.arch) {
            return Err(PlanError::Option(format!(
                "--arch {arch}: the box {} is for {}; one for {arch} is made with: boxbuild box \
                 create {} --from {} --arch {arch}",
                info.name, info.arch, info.name, info.origin
            )));
        }
        let boot = match (options.boot.as_str(), info.guest) {
            ("auto" | "fast", Guest::Fast) => Boot::Fast,
            ("auto", Guest::Compat) | ("compat", _) => Boot::Compat,
            ("fast", Guest::Compat) => {
                return Err(PlanError::Option(format!(
                    "--boot fast: the box {} can only be booted by its own init: use --boot compat",
                    info.name
                )));
            }
            (other, _) => {
                return Err(PlanError::Option(format!(
                    "--boot {other}: no such boot style (known: auto, fast, compat)"
                )));
            }
        };
        let network = match options.network.as_str() {
            "user" => Network::User,
            "none" => Network::None,
            other => {
                return Err(PlanError::Option(format!(
                    "--network {other}: no such mode (known: user, none)"
                )));
            }
        };
        if options.disk_size.is_some_and(|size| size < info.disk_size) {
            return Err(PlanError::Option(format!(
                "--disk-size: the disk of the box {} is {} GiB already and cannot shrink",
                info.name,
                info.disk_size >> 30
            )));
        }
        let host_cpus =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        let container = options.container.then_some(if options.rootless {
            container::Mode::Rootless
        } else {
            container::Mode::Rootful
        });
        let mut environment = proxies(std::env::vars_os(), network, container.is_none());
        let mut notes = options.notes();
        if boot == Boot::Compat && container.is_none() {
            notes.extend(only_plain(&mut environment));
        }
        if container.is_some() && options.engine != "auto" {
            return Err(PlanError::Option(format!(
                "--engine {}: an engine runs machines, and --container needs none: leave one of \
                 them out",
                options.engine
            )));
        }
        let image_types = ImageTypes::of(
            options.kiwi.image_type(),
            &folders.description,
            options.kiwi.kiwi_file.as_deref().map(Path::new),
        );
        Ok(Plan {
            boot,
            container,
            image_types,
            description: folders.description,
            description_rw: options.description_rw,
            target_dir: folders.target_dir,
            console: match options.peer.box_console.as_deref() {
                Some(console) => peer_options::checked_console(console)
                    .map_err(PlanError::Option)?
                    .to_owned(),
                None => info.console.clone(),
            },
            kiwi_version: kiwi_version(options, boot, &info.name)?,
            copy_log_to: options.kiwi.copy_log_to().map(log_copy).transpose()?,
            host_paths: HostPaths::new(
                options.peer.shared_path.as_deref(),
                &folders.build.host_paths,
                boot,
                container.is_some(),
            )
            .map_err(PlanError::Option)?,
            kiwi_args: kiwi_args(options, folders.build.rest),
            host_loopback: wants_loopback(&environment),
            environment,
            notes,
            memory_mib: options
                .box_memory
                .map_or(info.memory_mib, |memory| memory.bytes >> 20),
            cpus: options
                .box_smp_cpus
                .unwrap_or_else(|| host_cpus.min(info.cpus).max(1)),
            disk_size: options.disk_size,
            network,
            engine: engine(options)?,
            machine_type: options.machine.clone(),
            cpu_model: options.cpu.clone(),
            timeout: options.timeout,
            timeout_idle: Some(options.timeout_idle).filter(|time| !time.is_zero()),
            installed,
        })
    }

    /// The plan in words, for `--dry-run`.
    pub fn describe(&self) -> String {
        let words =
            |words: &[OsString]| shell_words::join(words.iter().map(|word| word.to_string_lossy()));
        let machine = match self.container {
            Some(mode) => format!("container    {mode:?}, network {:?}", self.network),
            None => format!(
                "boot         {:?}\nmachine      {} CPUs, {} MiB memory, network {:?}",
                self.boot, self.cpus, self.memory_mib, self.network
            ),
        };
        let folders = self.host_paths.folders.iter().map(|share| {
            let how = if share.read_only {
                "read-only"
            } else {
                "writable"
            };
            format!("shared       {} ({how})\n", share.path.display())
        });
        let files = self.host_paths.files.iter();
        let shared: String = folders
            .chain(files.map(|file| format!("shared       {} (a copy)\n", file.display())))
            .collect();
        format!(
            "box          {} ({}, {})\n{machine}\ndescription  {}\ntarget-dir   {}\n\
             {shared}kiwi-ng      {}\n",
            self.installed.info.name,
            self.installed.info.origin,
            self.installed.info.arch,
            self.description.display(),
            self.target_dir.display(),
            words(&self.kiwi_args),
        )
    }
}

/// The engine that was asked for; options that only one of them has ask for that one.
fn engine(options: &BuildOptions) -> Result<String, PlanError> {
    let of_qemu = [
        ("--no-accel", options.no_accel),
        ("--machine", options.machine.is_some()),
        ("--cpu", options.cpu.is_some()),
    ];
    match of_qemu.iter().find(|(_, given)| *given) {
        Some(_) if options.engine == "auto" => Ok(String::from("qemu")),
        Some((option, _)) if options.engine != "qemu" => Err(PlanError::Option(format!(
            "--engine {} has no {option}: leave one of them out",
            options.engine
        ))),
        _ => Ok(options.engine.clone()),
    }
}

/// The version of kiwi that was asked for, if the box can be told.
fn kiwi_version(
    options: &BuildOptions,
    boot: Boot,
    name: &str,
) -> Result<Option<String>, PlanError> {
    let Some(version) = options.peer.kiwi_version.as_deref() else {
        return Ok(None);
    };
    let version = peer_options::checked_version(version).map_err(PlanError::Option)?;
    if boot == Boot::Fast || options.container {
        return Err(PlanError::Option(format!(
            "--kiwi-version {version}: the box {name} keeps the KIWI that it was made with, so \
             that builds repeat: make one with that version (boxbuild box create NAME --from … \
             --kiwi-version {version}), or let the box's own init install it (--boot compat)"
        )));
    }
    Ok(Some(version.to_owned()))
}

/// Where a copy of the log can be written.
fn log_copy(path: &Path) -> Result<PathBuf, PlanError> {
    let problem =
        |problem: &str| PlanError::Option(format!("--logfile {}: {problem}", path.display()));
    let absolute = std::path::absolute(path).map_err(|error| problem(&said(&error)))?;
    if absolute.is_dir() {
        return Err(problem("is a folder: name a file"));
    }
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        return Err(problem("its folder does not exist"));
    }
    let written = if absolute.exists() { &absolute } else { folder };
    access(written, AccessFlags::W_OK).map_err(|error| problem(&said(&error.into())))?;
    Ok(absolute)
}

/// kiwi's arguments up to `--description`.
fn kiwi_args(options: &BuildOptions, build: Vec<OsString>) -> Vec<OsString> {
    let mut args = options.kiwi.forwarded();
    args.extend(["system".into(), "build".into()]);
    args.extend(build);
    args
}

/// The host's proxy settings, as the guest can use them: a proxy that listens on the host's
/// loopback is reached through the gateway of the user network, if there is one.
fn proxies(
    environment: impl Iterator<Item = (OsString, OsString)>,
    network: Network,
    gateway: bool,
) -> Vec<(String, OsString)> {
    const NAMES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];
    if network == Network::None {
        return Vec::new();
    }
    environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, value)| {
            NAMES.contains(&name.to_ascii_lowercase().as_str()) && !value.is_empty()
        })
        .map(|(name, value)| {
            let value = match value.to_str() {
                Some(text) if gateway && !name.eq_ignore_ascii_case("no_proxy") => {
                    through_gateway(text).into()
                }
                _ => value,
            };
            (name, value)
        })
        .collect()
}

/// Leaves only values that reach a box over its kernel command line, where its guest side
/// evaluates them in a shell; spaces in a list of hosts mean nothing and go. Says which
/// variables were left out.
fn only_plain(environment: &mut Vec<(String, OsString)>) -> Vec<String> {
    let mut notes = Vec::new();
    environment.retain_mut(|(name, value)| {
        let text = value.to_string_lossy().replace(' ', "");
        let plain = text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ":/.@%,+-".contains(c));
        if plain {
            *value = text.into();
        } else {
            notes.push(format!(
                "{name} of this host has characters that cannot reach a box booted by its own \
                 init: export it in boxroot/etc/boxprofile of the description instead"
            ));
        }
        plain
    });
    notes
}

/// Whether one of the proxies is reached through the gateway.
fn wants_loopback(environment: &[(String, OsString)]) -> bool {
    environment.iter().any(|(name, value)| {
        !name.eq_ignore_ascii_case("no_proxy") && value.to_string_lossy().contains(GATEWAY)
    })
}

fn through_gateway(proxy: &str) -> String {
    let start = proxy.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = proxy.split_at(start);
    let start = rest.rfind('@').map_or(0, |at| at + 1);
    let (credentials, host) = rest.split_at(start);
    for loopback in ["localhost", "127.0.0.1", "[::1]"] {
        if let Some(port) = host.strip_prefix(loopback)
            && (port.is_empty() || port.starts_with([':', '/']))
        {
            return format!("{scheme}{credentials}{GATEWAY}{port}");
        }
    }
    proxy.to_owned()
}

fn check_description(path: &Path, kiwi_file: Option<&Path>) -> Result<PathBuf, PlanError> {
    let problem = |problem: String| PlanError::Description {
        path: path.to_owned(),
        problem,
    };
    let metadata = fs::metadata(path).map_err(|error| problem(said(&error)))?;
    if !metadata.is_dir() {
        return Err(problem(
            "not a folder: name the folder that holds the description".into(),
        ));
    }
    let entries = fs::read_dir(path).map_err(|error| problem(said(&error)))?;
    match kiwi_file {
        Some(file) if !path.join(file).is_file() => {
            return Err(problem(format!(
                "there is no file {} (--kiwi-file)",
                file.display()
            )));
        }
        Some(_) => {}
        None => {
            let found = entries.filter_map(Result::ok).any(|entry| {
                let name = PathBuf::from(entry.file_name());
                name.extension().is_some_and(|extension| {
                    ["kiwi", "xml", "yml", "yaml"]
                        .iter()
                        .any(|known| extension == *known)
                })
            });
            if !found {
                return Err(problem(
                    "there is no KIWI description in it (config.xml, *.kiwi, *.yml)".into(),
                ));
            }
        }
    }
    fs::canonicalize(path).map_err(|error| problem(said(&error)))
}

fn check_target(path: &Path, description: &Path) -> Result<PathBuf, PlanError> {
    let problem = |problem: String| PlanError::Target {
        path: path.to_owned(),
        problem,
    };
    let absolute = std::path::absolute(path).map_err(|error| problem(said(&error)))?;
    // The nearest existing ancestor decides whether the folder can be made.
    let mut existing = absolute.as_path();
    let found = loop {
        match fs::metadata(existing) {
            Ok(metadata) if metadata.is_dir() => break existing,
            Ok(_) => return Err(problem(format!("{} is not a folder", existing.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(existing).is_ok() {
                    return Err(problem(format!(
                        "{} is a symbolic link to nowhere",
                        existing.display()
                    )));
                }
                existing = existing.parent().ok_or_else(|| problem(said(&error)))?;
            }
            Err(error) => return Err(problem(said(&error))),
        }
    };
    let missing = absolute.strip_prefix(found).unwrap_or(Path::new(""));
    if missing
        .components()
        .any(|component| component == std::path::Component::ParentDir)
    {
        return Err(problem(
            "has '..' below a folder that does not exist".into(),
        ));
    }
    let mut resolved = fs::canonicalize(found).map_err(|error| problem(said(&error)))?;
    if access(&resolved, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        return Err(problem(format!(
            "you cannot write into {}",
            resolved.display()
        )));
    }
    if let Ok(stat) = nix::sys::statvfs::statvfs(&resolved) {
        let free = stat.blocks_available() * stat.fragment_size();
        if free < LEAST_FREE {
            return Err(problem(format!(
                "only {} KiB are free on the file system of {}",
                free >> 10,
                resolved.display()
            )));
        }
    }
    if missing != Path::new("") {
        resolved.push(missing);
    }
    if resolved.starts_with(description) {
        return Err(problem(
            "lies inside the description folder: choose another one".into(),
        ));
    }
    if description.starts_with(&resolved) {
        return Err(problem(
            "contains the description folder: choose another one".into(),
        ));
    }
    Ok(resolved)
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => String::from("does not exist"),
        io::ErrorKind::PermissionDenied => String::from("permission denied"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(build: &[&OsString]) -> Result<Folders, PlanError> {
        let words: Vec<OsString> = build.iter().map(|word| (*word).clone()).collect();
        Folders::check(Some(&words), None)
    }

    fn with(description: &Path, target: &Path) -> Result<Folders, PlanError> {
        folders(&[
            &"--description".into(),
            &description.into(),
            &"--target-dir".into(),
            &target.into(),
        ])
    }

    fn complaint(result: Result<Folders, PlanError>) -> String {
        result.expect_err("must be refused").to_string()
    }

    #[test]
    fn folders_are_checked_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let description = root.join("with space, 'quote' and $x");
        let target = root.join("a/b/target");
        assert!(complaint(with(&description, &target)).contains("does not exist"));
        fs::create_dir(&description).unwrap();
        assert!(complaint(with(&description, &target)).contains("no KIWI description"));
        fs::write(description.join("config.xml"), "").unwrap();
        let checked = with(&description, &target).unwrap();
        assert_eq!(checked.description, description);
        assert_eq!(checked.target_dir, target);
        assert!(!root.join("a").exists());

        fs::write(root.join("file"), "").unwrap();
        assert!(complaint(with(&description, &root.join("file"))).contains("not a folder"));
        assert!(complaint(with(&description, &root.join("file/x"))).contains("file"));
        assert!(complaint(with(&description, &description.join("x"))).contains("inside"));
        assert!(complaint(with(&description, &root)).contains("contains"));
        assert!(complaint(with(&root.join("file"), &target)).contains("not a folder"));
        std::os::unix::fs::symlink("/nowhere", root.join("link")).unwrap();
        assert!(complaint(with(&description, &root.join("link"))).contains("link to nowhere"));
        assert!(complaint(with(&description, &root.join("no/../x"))).contains("'..'"));
    }

    #[test]
    fn a_named_description_file_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("other.kiwi"), "").unwrap();
        let words: Vec<OsString> = ["--description".into(), dir.path().into()]
            .into_iter()
            .chain(["--target-dir".into(), "/tmp/x/y".into()])
            .collect();
        assert!(Folders::check(Some(&words), Some(Path::new("other.kiwi"))).is_ok());
        assert!(
            complaint(Folders::check(Some(&words), Some(Path::new("some.kiwi"))))
                .contains("some.kiwi")
        );
    }

    #[test]
    fn a_proxy_on_the_loopback_is_reached_through_the_gateway() {
        for (host, guest) in [
            ("http://127.0.0.1:3128", "http://10.0.2.2:3128"),
            (
                "http://me:pw@localhost:3128/",
                "http://me:pw@10.0.2.2:3128/",
            ),
            ("localhost:1", "10.0.2.2:1"),
            ("http://[::1]:3128", "http://10.0.2.2:3128"),
            ("http://localhost.example:1", "http://localhost.example:1"),
            ("http://proxy.example:3128", "http://proxy.example:3128"),
        ] {
            assert_eq!(through_gateway(host), guest);
        }
        let environment = || {
            [
                ("HTTP_PROXY", "http://127.0.0.1:1"),
                ("no_proxy", "127.0.0.1"),
                ("HOME", "/x"),
            ]
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .into_iter()
        };
        assert_eq!(
            proxies(environment(), Network::User, true),
            [
                ("HTTP_PROXY".to_owned(), "http://10.0.2.2:1".into()),
                ("no_proxy".to_owned(), "127.0.0.1".into())
            ]
        );
        assert_eq!(proxies(environment(), Network::None, true), []);
        let mut odd = vec![
            ("http_proxy".to_owned(), "http://p:1/$(id)".into()),
            ("no_proxy".to_owned(), "localhost, 10.0.0.0/8".into()),
        ];
        let notes = only_plain(&mut odd);
        assert!(notes.len() == 1 && notes[0].starts_with("http_proxy "));
        assert_eq!(
            odd,
            [("no_proxy".to_owned(), "localhost,10.0.0.0/8".into())]
        );
        // A container has the host's own network.
        assert_eq!(
            proxies(environment(), Network::User, false)[0].1,
            "http://127.0.0.1:1"
        );
    }
}
