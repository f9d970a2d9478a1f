//! A build as it was asked for: a plain value, however it was asked for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use boxbuild_boxes::source::published::Freshness;
use boxbuild_engine::podman::{Mode, PullPolicy};
use boxbuild_engine::{Allowed, EngineChoice, Network};
use boxbuild_host::arch::Arch;

use crate::boot::BootStyle;
use crate::build_args::BuildArgs;
use crate::command_line::CommandLine;
use crate::record::attest::Attest;

/// A build without a sign of life for this long is ended.
const DEFAULT_TIMEOUT_IDLE: Duration = Duration::from_secs(30 * 60);

/// A build as it was asked for. `None` leaves the choice to the box or the host.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Name of the box.
    pub box_name: String,
    /// Architecture of the box.
    pub arch: Option<Arch>,
    /// What runs the box as a machine.
    pub engine: EngineChoice,
    /// Runs the box as a container instead.
    pub container: Option<Mode>,
    /// How the box is brought up.
    pub boot: BootStyle,
    /// The box's kernel runs in FIPS mode.
    pub fips: bool,
    /// The box can run virtual machines itself.
    pub nested: bool,
    /// Guest memory in MiB.
    pub memory_mib: Option<u64>,
    /// Number of virtual CPUs.
    pub cpus: Option<u32>,
    /// Grows the disk that the guest sees to this many bytes.
    pub disk_size: Option<u64>,
    /// The guest writes into the box's own disk.
    pub in_place: bool,
    /// A failed build is kept.
    pub keep_failed: bool,
    /// The build is to come to the same results each time: its time, in seconds since the epoch.
    pub reproducible: Option<u64>,
    /// The results get a record.
    pub attest: Option<Attest>,
    /// The box stays after the build, with a shell on the user's terminal.
    pub debug: bool,
    /// The description is checked in the box, and nothing is built.
    pub check_only: bool,
    /// Network of the guest.
    pub network: Network,
    /// Nothing but these is reached over it, if there are any.
    pub allow: Vec<Allowed>,
    /// Packages come from the user's cache, where they are there.
    pub package_cache: bool,
    /// The way into the box by ssh.
    pub ssh: Option<SshRequest>,
    /// Machine type for the qemu engine.
    pub machine_type: Option<OsString>,
    /// CPU model for the qemu engine.
    pub cpu_model: Option<OsString>,
    /// KVM is not to be used.
    pub no_accel: bool,
    /// The box may write into the description folder.
    pub description_rw: bool,
    /// A folder of the host that the box can write into as well.
    pub shared_path: Option<PathBuf>,
    /// Console of the guest.
    pub console: Option<String>,
    /// Version of kiwi that the box's guest side installs first.
    pub kiwi_version: Option<String>,
    /// Ends the build after this time.
    pub timeout: Option<Duration>,
    /// Ends the build after this time without a sign of life.
    pub timeout_idle: Option<Duration>,
    /// What may be fetched before the build.
    pub fetch: Fetch,
    /// Global options of kiwi-ng.
    pub kiwi: KiwiOptions,
    /// Options of `kiwi-ng system build`.
    pub build: BuildArgs,
    /// Packages to install in the box first.
    pub box_packages: Vec<String>,
    /// Packages that the box has besides what its record says.
    pub box_has: Vec<String>,
    /// The command line that asks for it, if there is one.
    pub command_line: Option<CommandLine>,
    /// What the user should know about these options, though the build runs.
    pub notes: Vec<String>,
}

impl BuildRequest {
    /// Whether nothing leaves this host, neither before the build nor in it.
    pub(crate) fn is_offline(&self) -> bool {
        self.fetch == Fetch::Nothing
    }

    /// A request with nothing but defaults.
    pub fn new(box_name: &str, description: PathBuf, target_dir: PathBuf) -> BuildRequest {
        BuildRequest {
            box_name: box_name.to_owned(),
            arch: None,
            engine: EngineChoice::Auto,
            container: None,
            boot: BootStyle::Auto,
            fips: false,
            nested: false,
            memory_mib: None,
            cpus: None,
            disk_size: None,
            in_place: false,
            keep_failed: true,
            reproducible: None,
            attest: None,
            debug: false,
            check_only: false,
            network: Network::User,
            allow: Vec::new(),
            package_cache: true,
            ssh: None,
            machine_type: None,
            cpu_model: None,
            no_accel: false,
            description_rw: false,
            shared_path: None,
            console: None,
            kiwi_version: None,
            timeout: None,
            timeout_idle: Some(DEFAULT_TIMEOUT_IDLE),
            fetch: Fetch::Newer,
            kiwi: KiwiOptions::default(),
            build: BuildArgs {
                description,
                target_dir,
                rest: Vec::new(),
                host_paths: Vec::new(),
                notes: Vec::new(),
            },
            box_packages: Vec::new(),
            box_has: Vec::new(),
            command_line: None,
            notes: Vec::new(),
        }
    }
}

impl BuildRequest {
    /// Packages that the box has when kiwi starts, besides what its record says.
    pub fn added_packages(&self) -> Vec<String> {
        [&*self.box_has, &*self.box_packages].concat()
    }
}

/// Global options of kiwi-ng, as far as boxbuild has to know them.
#[derive(Debug, Clone, Default)]
pub struct KiwiOptions {
    /// The words for the kiwi-ng in the box.
    pub forwarded: Vec<OsString>,
    /// A runtime configuration.
    pub config: Option<PathBuf>,
    /// Where kiwi has its temporary files.
    pub temp_dir: Option<PathBuf>,
    /// Where kiwi has its package cache.
    pub shared_cache_dir: Option<PathBuf>,
    /// The profiles.
    pub profiles: Vec<OsString>,
    /// The image type.
    pub image_type: Option<OsString>,
    /// Name of the description file below the description folder.
    pub description_file: Option<PathBuf>,
    /// Where a copy of the log goes.
    pub copy_log_to: Option<PathBuf>,
}

/// The way into a box by ssh, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshRequest {
    /// Port of 127.0.0.1; 0 is any that is free.
    pub port: u16,
    /// The key: a file, or a name in `~/.ssh`.
    pub key: Option<OsString>,
}

/// What may be fetched over the network: boxes and container images before a build, and packages in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fetch {
    /// Everything newer than what is here. What is here serves if nothing can be reached.
    #[default]
    Newer,
    /// What is not here.
    Missing,
    /// Nothing, by the build either.
    Nothing,
}

impl From<Fetch> for Freshness {
    fn from(fetch: Fetch) -> Freshness {
        match fetch {
            Fetch::Newer => Freshness::Current,
            Fetch::Missing => Freshness::Any,
            Fetch::Nothing => Freshness::Offline,
        }
    }
}

impl From<Fetch> for PullPolicy {
    fn from(fetch: Fetch) -> PullPolicy {
        match fetch {
            Fetch::Newer => PullPolicy::Newer,
            Fetch::Missing => PullPolicy::Missing,
            Fetch::Nothing => PullPolicy::Never,
        }
    }
}
