//! The plan of a build: everything decided and checked, nothing touched yet.

mod boot;
mod describe;
mod folders;
mod json;
mod proxies;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxbuild_firmware::guest::Init;
use nix::unistd::{AccessFlags, access};

use crate::args::BuildOptions;
use crate::container::{self, ImageTypes};
use crate::engine::Network;
use crate::fetch_options::Fetch;
use crate::host_paths::HostPaths;
use crate::kiwi_options::BuildArgsError;
use crate::peer_options;
use crate::ssh::Ssh;
use crate::store::{BoxInfo, ContainerImage, InstalledBox};
use crate::terminal;
use crate::timings;

pub use boot::{Boot, BootChoice};
pub use folders::Folders;
use folders::said;
pub use json::Chosen;
use proxies::{only_plain, proxies, wants_loopback};

/// A validated build.
#[derive(Debug)]
pub struct Plan {
    /// The box to build in.
    pub installed: InstalledBox,
    /// How the box is brought up.
    pub boot: Boot,
    /// The box's kernel runs in FIPS mode.
    pub fips: bool,
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
    /// The guest writes into the box's own disk.
    pub in_place: bool,
    /// What is left of the build is kept if it fails.
    pub keep_failed: bool,
    /// The box stays after the build, with a shell on the user's terminal.
    pub debug: bool,
    /// Network of the guest.
    pub network: Network,
    /// A proxy on the host's loopback is used.
    pub host_loopback: bool,
    /// How the box is reached from this host.
    pub ssh: Option<Ssh>,
    /// Engine that the user asked for (one of [`crate::engine::NAMES`]).
    pub engine: String,
    /// Machine type and CPU model for the qemu engine.
    pub machine_type: Option<OsString>,
    /// See `machine_type`.
    pub cpu_model: Option<OsString>,
    /// What may be fetched before the build.
    pub fetch: Fetch,
    /// Build in a container instead of a machine.
    pub container: Option<container::Mode>,
    /// Image types that the build may come to.
    pub image_types: ImageTypes,
    /// End the build after this time.
    pub timeout: Option<Duration>,
    /// End the build after this time without a sign of life.
    pub timeout_idle: Option<Duration>,
    /// Say where the time went.
    pub timings: Option<timings::Format>,
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
impl Plan {
    /// Decides on everything that `options` leaves open, for a box that is brought up by `boot`.
    pub fn new(
        options: &BuildOptions,
        folders: Folders,
        installed: InstalledBox,
        boot: Boot,
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
        if options.box_debug && !options.dry_run {
            terminal::needed()
                .map_err(|problem| PlanError::Option(format!("--box-debug {problem}")))?;
        }
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
        let ssh = Ssh::wanted(options).map_err(PlanError::Option)?;
        notes.extend(ssh.iter().flat_map(|ssh| ssh.notes(boot)));
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
            fetch: options.fetch.policy(),
            fips: options.fips,
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
            kiwi_version: kiwi_version(options, boot, info)?,
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
            ssh,
            notes,
            memory_mib: options
                .box_memory
                .map_or(info.memory_mib, |memory| memory.bytes >> 20),
            cpus: options
                .box_smp_cpus
                .unwrap_or_else(|| host_cpus.min(info.cpus).max(1)),
            disk_size: options.disk_size,
            in_place: options.no_snapshot,
            keep_failed: options.keep_failed == "yes" && container.is_none(),
            debug: options.box_debug,
            network,
            engine: engine(options)?,
            machine_type: options.machine.clone(),
            cpu_model: options.cpu.clone(),
            timeout: options.timeout,
            timeout_idle: Some(options.timeout_idle).filter(|time| !time.is_zero()),
            timings: options.timings,
            installed,
        })
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
    info: &BoxInfo,
) -> Result<Option<String>, PlanError> {
    let Some(version) = options.peer.kiwi_version.as_deref() else {
        return Ok(None);
    };
    let version = peer_options::checked_version(version).map_err(PlanError::Option)?;
    let by_boxbuild = if options.container {
        !matches!(info.container, Some(ContainerImage::Registry { .. }))
    } else {
        boot == Boot::Fast && Init::of(info.arch.name()) == Init::Scripts
    };
    if by_boxbuild {
        return Err(PlanError::Option(format!(
            "--kiwi-version {version}: the box {name} keeps the KIWI that it was made with: \
             make one with that version (boxbuild box create NAME --from … \
             --kiwi-version {version}), or let the box's own init install it (--boot compat)",
            name = info.name
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

#[cfg(test)]
pub(crate) mod tests;
