//! Options of a build.

use std::ffi::OsString;
use std::time::Duration;

use boxbuild_core::boot::BootStyle;
use boxbuild_engine::{Allowed, EngineChoice, Network};
use boxbuild_host::arch::Arch;
use clap::Args;

use super::boxes::SourceOptions;
use super::error::ArgsError;
use super::fetch::FetchOptions;
use super::kiwi::GlobalOptions;
use super::peer::PeerOptions;
use super::values::{self, Epoch, Memory, parse_limit, parse_memory, parse_size};
use crate::output::timings::Format;

/// Options of a build, before `--`.
#[derive(Debug, Args)]
pub(crate) struct BuildOptions {
    /// Box to build in (see 'boxbuild box list').
    #[arg(
        long = "box",
        value_name = "NAME",
        required_unless_present = "list_boxes"
    )]
    pub(crate) box_name: Option<String>,
    /// Engine that runs the box; auto means kvm if it works on this host, else qemu.
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = values::engine())]
    pub(crate) engine: EngineChoice,
    /// How the box boots: by boxbuild's init (fast) or by its own (compat); auto means fast, and
    /// compat if that does not work.
    #[arg(long, value_name = "STYLE", default_value = "auto",
        value_parser = values::boot_style())]
    pub(crate) boot: BootStyle,
    /// Run the kernel of the box in FIPS mode (fips=1), with the self-tests of its cryptographic
    /// algorithms, which a fast boot otherwise skips.
    #[arg(long)]
    pub(crate) fips: bool,
    /// Guest memory, e.g. 4G or 6000M; a bare number means GiB, from 256 on MiB [default: the box's].
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) box_memory: Option<Memory>,
    /// Number of virtual CPUs [default: the host's, at most the box's].
    #[arg(long, value_name = "N", value_parser = values::number(1..=254_u32))]
    pub(crate) box_smp_cpus: Option<u32>,
    /// Grow the disk that the guest sees to this size, e.g. 60G.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) disk_size: Option<u64>,
    /// Keep what the build writes to the disk of the box, if the box powers off in order: all later builds
    /// see it, until 'boxbuild box reset' undoes it. No other build can use the box meanwhile.
    #[arg(long)]
    pub(crate) no_snapshot: bool,
    /// Install this package in the box before the build, over the network of the build (repeatable). The box
    /// in the store stays as it is.
    #[arg(long = "box-package", value_name = "NAME")]
    pub(crate) box_packages: Vec<String>,
    /// Keep the disk and the logs of a failed build for 'boxbuild resume', 'boxbuild shell' and 'boxbuild
    /// logs': the newest five builds, at most 32 GiB.
    #[arg(long, value_name = "WHETHER", default_value = "yes", action = clap::ArgAction::Set,
        value_parser = values::yes_or_no())]
    pub(crate) keep_failed: bool,
    /// Publish a record beside the results: where they come from (SLSA provenance), what is in them (SPDX),
    /// checksums of all files, and with KEY a signature. KEY is the file of an SSH key, or the
    /// fingerprint or mail address of an OpenPGP key. 'boxbuild verify' checks it.
    #[arg(long, value_name = "KEY", num_args = 0..=1, require_equals = true,
        default_missing_value = "")]
    pub(crate) attest: Option<OsString>,
    /// Build so that a second build comes to the same, as far as kiwi's image type allows: with the clock
    /// of the box at this time, in seconds since 1970, and SOURCE_DATE_EPOCH in kiwi's environment
    /// [default: $SOURCE_DATE_EPOCH, else the time of the description's commit in git].
    #[arg(long, value_name = "EPOCH", num_args = 0..=1, require_equals = true,
        default_missing_value = "auto", value_parser = values::epoch)]
    pub(crate) reproducible: Option<Epoch>,
    /// Keep the box running after the build, failed or not, with a root shell on this terminal.
    /// Ctrl-] three times stops the box at once.
    #[arg(long)]
    pub(crate) box_debug: bool,
    /// Let the box run virtual machines itself (nested virtualization), if the engine can. It exposes
    /// much more of this host's kernel to the box.
    #[arg(long)]
    pub(crate) nested: bool,
    /// Where the box can connect to: everything that this host reaches (user), the Internet but no
    /// private network and not this host (public), or nowhere (none).
    #[arg(long, value_name = "MODE", default_value = "user", value_parser = values::network())]
    pub(crate) network: Network,
    /// Let the box connect to this destination only, e.g. packages.example:443, '*.example.org', 192.0.2.0/24
    /// or [2001:db8::1]:80 (repeatable).
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow: Vec<Allowed>,
    /// Fetch all packages from their servers, and keep none in ~/.cache/boxbuild/packages.
    #[arg(long)]
    pub(crate) no_package_cache: bool,
    /// Machine type, where the qemu engine runs the box; no effect elsewhere.
    #[arg(long, value_name = "TYPE")]
    pub(crate) machine: Option<OsString>,
    /// CPU model, where the qemu engine runs the box; no effect elsewhere.
    #[arg(long, value_name = "MODEL")]
    pub(crate) cpu: Option<OsString>,
    /// Do not use KVM (selects the qemu engine).
    #[arg(long)]
    pub(crate) no_accel: bool,
    /// Build in a container (podman) instead of a virtual machine: faster without KVM, but hardly
    /// isolated. Options for the machine have no effect.
    #[arg(long)]
    pub(crate) container: bool,
    /// With --container: run as a normal user, without sudo. For image types that need no loop
    /// device (tbz, docker, oci, appx).
    #[arg(long, requires = "container")]
    pub(crate) rootless: bool,
    /// Refuse to build where the kernel of this host cannot confine the processes that handle input from
    /// the box (Landlock, filters of system calls); by default, a note says so and the build runs.
    #[arg(long, conflicts_with = "container")]
    pub(crate) require_confinement: bool,
    /// Let the box write into the description folder, for scripts that change it.
    #[arg(long)]
    pub(crate) description_rw: bool,
    /// Stop the build after this time, e.g. 90m or 1h30m (exit code 124); 0 means no limit.
    #[arg(long, value_name = "TIME", value_parser = parse_limit)]
    pub(crate) timeout: Option<Duration>,
    /// Stop the build if the box shows no sign of life for this time (exit code 124); 0 means no limit.
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_limit)]
    pub(crate) timeout_idle: Duration,
    /// Show the build log and the console of the box live.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Show where the time went; html also writes a page with charts, timings.html in the target
    /// folder.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true,
        default_missing_value = "text")]
    pub(crate) timings: Option<Format>,
    /// Show what would run, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print events as JSON on standard output, one a line; with --dry-run, the plan as one object.
    #[arg(long, conflicts_with = "box_debug")]
    pub(crate) json: bool,
    /// Architecture of the box.
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<Arch>,
    /// Limits on what may be fetched.
    #[command(flatten)]
    pub(crate) fetch: FetchOptions,
    /// Requirements on the box.
    #[command(flatten)]
    pub(crate) source: SourceOptions,
    /// Global options of kiwi-ng.
    #[command(flatten)]
    pub(crate) kiwi: GlobalOptions,
    /// Options of `kiwi-ng system boxbuild`.
    #[command(flatten)]
    pub(crate) peer: PeerOptions,
}

impl BuildOptions {
    /// Returns the architecture of the box, from `--arch` or the options of kiwi-ng for it.
    ///
    /// # Errors
    /// Fails if they contradict each other.
    pub(crate) fn arch(&self) -> Result<Option<Arch>, ArgsError> {
        let of_flag = self.peer.arch();
        let of_target = self.kiwi.target_arch.as_ref().map(|arch| arch.of_box);
        let given = [
            ("--arch", self.arch),
            ("--x86_64", of_flag.filter(|arch| *arch == Arch::X86_64)),
            ("--aarch64", of_flag.filter(|arch| *arch == Arch::Aarch64)),
            ("--target-arch", of_target),
        ];
        let mut given = given
            .into_iter()
            .filter_map(|(option, arch)| Some((option, arch?)));
        let Some((first, arch)) = given.next() else {
            return Ok(None);
        };
        match given.find(|(_, other)| *other != arch) {
            None => Ok(Some(arch)),
            Some((second, other)) => Err(ArgsError::Impossible(format!(
                "{first} asks for a box for {arch}, {second} for one for {other}: leave one of the two \
                 options out"
            ))),
        }
    }

    /// Returns what the user should know about these options; the build runs nevertheless.
    pub(crate) fn notes(&self) -> Vec<String> {
        let memory = self.box_memory.and_then(|memory| {
            let unit = memory.assumed?;
            Some(format!(
                "--box-memory: this number without a unit means {unit}: the box gets {} MiB",
                memory.bytes >> 20
            ))
        });
        memory
            .into_iter()
            .chain(self.peer.notes())
            .chain(self.kiwi.notes())
            .chain(self.without_effect())
            .collect()
    }

    /// Returns a note on options for a machine if there is none.
    fn without_effect(&self) -> Option<String> {
        let options: Vec<&str> = [
            ("--box-memory", self.box_memory.is_some()),
            ("--box-smp-cpus", self.box_smp_cpus.is_some()),
            ("--box-console", self.peer.box_console.is_some()),
            ("--disk-size", self.disk_size.is_some()),
            ("--no-snapshot", self.no_snapshot),
            ("--no-accel", self.no_accel),
            ("--machine", self.machine.is_some()),
            ("--cpu", self.cpu.is_some()),
            ("--nested", self.nested),
            ("--fips", self.fips),
            ("--boot", self.boot != BootStyle::Auto),
            ("--ssh-port", self.peer.ssh_port.is_some()),
        ]
        .into_iter()
        .filter(|(_, given)| *given && self.container)
        .map(|(option, _)| option)
        .collect();
        (!options.is_empty()).then(|| {
            format!(
                "no effect in a container, which has the host's memory, processors and kernel: {}",
                options.join(", ")
            )
        })
    }
}
