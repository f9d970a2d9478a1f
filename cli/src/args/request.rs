//! From the options of a build to its request.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;

use boxbuild_core::boot::BootStyle;
use boxbuild_core::build_args::BuildArgs;
use boxbuild_core::record::attest::Attest;
use boxbuild_core::request::{BuildRequest, SshRequest};
use boxbuild_engine::podman::Mode;
use boxbuild_provenance::description::commit_time;
use boxbuild_provenance::sign::{Asking, Signer};

use super::build::BuildOptions;
use super::error::ArgsError;
use super::misplaced;
use super::values::{self, Epoch};

/// The time of a reproducible build (reproducible-builds.org).
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

impl BuildOptions {
    /// Returns the time of a reproducible build of `description`.
    fn epoch(&self, description: &Path) -> Result<Option<u64>, ArgsError> {
        let known = match self.reproducible {
            None => return Ok(None),
            Some(Epoch::At(time)) => Some(time),
            Some(Epoch::Known) => std::env::var(SOURCE_DATE_EPOCH)
                .ok()
                .and_then(|text| text.parse().ok())
                .filter(|time| *time <= values::LATEST)
                .or_else(|| commit_time(description)),
        };
        match known {
            Some(time) => Ok(Some(time)),
            None => Err(ArgsError::Impossible(String::from(
                "--reproducible: at what time? The description is not in git, and SOURCE_DATE_EPOCH is \
                 not set: write it in seconds since 1970, e.g. --reproducible=$(date +%s)",
            ))),
        }
    }

    /// Returns what the record of the build is to be.
    fn attest(&self) -> Result<Option<Attest>, ArgsError> {
        let Some(key) = &self.attest else {
            return Ok(None);
        };
        let signer = match key.is_empty() {
            true => None,
            false => Some(Signer::named(key)?),
        };
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        Ok(Some(Attest {
            signer,
            asking: match terminal && !self.json {
                true => Asking::Terminal,
                false => Asking::No,
            },
            command_line: Vec::new(),
            working_folder: std::env::current_dir().unwrap_or_default(),
        }))
    }

    /// Returns the request for a build; `build_args` are the words after the separator.
    ///
    /// # Errors
    /// Fails if options are missing, wrong, or not possible in a box.
    pub(crate) fn request(
        &self,
        build_args: Option<&[OsString]>,
    ) -> Result<BuildRequest, ArgsError> {
        let words = build_args.ok_or(ArgsError::NoBuildArgs)?;
        let build = BuildArgs::parse(words).map_err(misplaced::explain_build_args)?;
        let mode = if self.rootless {
            Mode::Rootless
        } else {
            Mode::Rootful
        };
        let mut notes = self.notes();
        notes.extend(build.notes.iter().cloned());
        // What is of machines only says nothing about a container.
        let machine = !self.container;
        Ok(BuildRequest {
            box_name: self.box_name.clone().unwrap_or_default(),
            arch: self.arch()?,
            engine: self.engine,
            container: self.container.then_some(mode),
            boot: if machine { self.boot } else { BootStyle::Auto },
            fips: self.fips && machine,
            nested: self.nested && machine,
            memory_mib: self
                .box_memory
                .filter(|_| machine)
                .map(|memory| memory.bytes >> 20),
            cpus: self.box_smp_cpus.filter(|_| machine),
            disk_size: self.disk_size.filter(|_| machine),
            in_place: self.no_snapshot && machine,
            keep_failed: self.keep_failed,
            reproducible: self.epoch(&build.description)?,
            attest: self.attest()?,
            debug: self.box_debug,
            check_only: false,
            network: self.network,
            allow: self.allow.clone(),
            package_cache: !self.no_package_cache,
            ssh: self
                .peer
                .ssh_port
                .filter(|_| machine)
                .map(|port| SshRequest {
                    port,
                    key: self.peer.ssh_key.clone(),
                }),
            machine_type: self.machine.clone().filter(|_| machine),
            cpu_model: self.cpu.clone().filter(|_| machine),
            no_accel: self.no_accel && machine,
            description_rw: self.description_rw,
            shared_path: self.peer.shared_path.clone(),
            console: self.peer.box_console.clone().filter(|_| machine),
            kiwi_version: self.peer.kiwi_version.clone(),
            timeout: self.timeout.and_then(values::limit),
            timeout_idle: values::limit(self.timeout_idle),
            fetch: self.fetch.policy(),
            kiwi: self.kiwi.request(),
            build,
            box_packages: self.box_packages.clone(),
            box_has: Vec::new(),
            command_line: None,
            notes,
        })
    }
}
