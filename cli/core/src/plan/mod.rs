//! The plan of a build: everything decided and checked, nothing touched yet.

mod authority;
mod boot;
mod connection;
mod describe;
mod emulation;
mod equipment;
mod error;
mod folders;
mod host_parts;
pub mod image_types;
pub mod inspected;
mod json;
mod kernel_needs;
mod memory;
mod options;
mod proxies;
mod proxy;
mod report;
mod repositories;
mod reproducible;
mod resumed;
mod target_notes;
#[cfg(test)]
pub(crate) mod tests;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxbuild_boxes::store::InstalledBox;
use boxbuild_engine::podman::KernelNeeds;
use boxbuild_engine::{
    Allowed, CpuLevel, EngineChoice, MountTag, Network, Policy, Processor, Reach, Share,
};
use boxbuild_protocol::share::{BUNDLE_TAG, DESCRIPTION_TAG};
use serde::Serialize;

use crate::boot::{Boot, RunsAs};
use crate::command_line::CommandLine;
use crate::failed_builds::scratch;
use crate::host_facts::HostFacts;
use crate::host_paths::HostPaths;
use crate::inputs::Places;
use crate::record::attest::Attest;
use crate::request::{BuildRequest, Fetch};
use crate::ssh::Ssh;

pub use authority::names_this_host;
pub use boot::BootChoice;
pub use error::PlanError;
pub use folders::{Folders, description_folder};
pub use host_parts::look_at_repositories;
pub use image_types::ImageTypes;
pub use report::{PlanReport, ResolvedEngine};
pub use resumed::{Resumed, create_args};

use host_parts::HostParts;
use proxies::Proxies;

/// The tag of the description folder.
pub(crate) const DESCRIPTION: MountTag = MountTag::constant(DESCRIPTION_TAG);

/// The tag of the folder for results.
pub(crate) const BUNDLE: MountTag = MountTag::constant(BUNDLE_TAG);

/// A validated build. As JSON it is the plan of docs/json.md.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The box to build in.
    #[serde(rename = "box", serialize_with = "json::installed")]
    pub installed: InstalledBox,
    /// What the box runs as, and how it is brought up.
    #[serde(flatten, serialize_with = "json::runs_as")]
    pub runs_as: RunsAs,
    /// The box's kernel runs in FIPS mode.
    pub fips: bool,
    /// The box can run virtual machines itself.
    pub nested: bool,
    /// Description folder, absolute.
    #[serde(serialize_with = "json::text")]
    pub description: PathBuf,
    /// The box may write into the description folder.
    pub description_rw: bool,
    /// Target folder, absolute; it may not exist yet.
    #[serde(serialize_with = "json::text")]
    pub target_dir: PathBuf,
    /// Complete arguments of kiwi-ng up to `--description`: global options, `system build`
    /// and the build options.
    #[serde(serialize_with = "json::words")]
    pub kiwi_args: Vec<OsString>,
    /// Console of the guest (`console=` on its kernel command line).
    pub console: String,
    /// Version of kiwi that the box's guest side installs first.
    pub kiwi_version: Option<String>,
    /// Where a copy of kiwi's log goes, absolute.
    #[serde(serialize_with = "json::optional_text")]
    pub copy_log_to: Option<PathBuf>,
    /// Files and folders of the host besides the description.
    #[serde(rename = "copied_files", serialize_with = "json::copied_files")]
    pub host_paths: HostPaths,
    /// Addresses of the repositories that packages may come from.
    pub repositories: Vec<String>,
    /// What the user should know before the build, though it runs.
    pub notes: Vec<String>,
    /// Environment of kiwi.
    #[serde(serialize_with = "json::environment")]
    pub environment: Vec<(String, OsString)>,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// The disk that the guest sees.
    pub disk: Disk,
    /// What is left of the build is kept if it fails.
    pub keep_failed: bool,
    /// The build is to come to the same results each time: its time, in seconds since the epoch.
    #[serde(rename = "source_date_epoch")]
    pub reproducible: Option<u64>,
    /// The results get a record.
    pub attest: Option<Attest>,
    /// The box stays after the build, with a shell on the user's terminal.
    pub debug: bool,
    /// The description is checked in the box, and nothing is built.
    #[serde(skip)]
    pub check_only: bool,
    /// Network of the guest.
    #[serde(serialize_with = "json::network")]
    pub network: Network,
    /// Nothing but these is reached over it, if there are any.
    pub allow: Vec<Allowed>,
    /// Packages come from the user's cache, where they are there.
    pub package_cache: bool,
    /// A container has a network of its own, as a machine has.
    #[serde(skip)]
    pub private_network: bool,
    /// Nothing leaves this host: packages come from the cache, or not at all.
    pub offline: bool,
    /// Proxies on the host's loopback: the guest reaches these, and nothing else there.
    #[serde(rename = "host_loopback", serialize_with = "json::some")]
    pub host_proxies: Vec<SocketAddr>,
    /// How the box is reached from this host.
    pub ssh: Option<Ssh>,
    /// Engine that the user asked for.
    #[serde(skip)]
    pub engine: EngineChoice,
    /// Machine type for the qemu engine.
    #[serde(serialize_with = "json::optional_text")]
    pub machine_type: Option<OsString>,
    /// CPU model for the qemu engine.
    #[serde(serialize_with = "json::optional_text")]
    pub cpu_model: Option<OsString>,
    /// What an emulated processor can do at least.
    #[serde(skip)]
    pub cpu_level: CpuLevel,
    /// Packages to install in the box first.
    pub box_packages: Vec<String>,
    /// The build that this one goes on with.
    pub resumes: Option<Resumed>,
    /// The command line that asked for it, if there is one.
    #[serde(skip)]
    pub command_line: Option<CommandLine>,
    /// Where its inputs are.
    #[serde(skip)]
    pub inputs: Places,
    /// What may be fetched before the build.
    pub fetch: Fetch,
    /// Image types that the build may come to.
    pub image_types: ImageTypes,
    /// What the kernel under a container must have for them.
    #[serde(skip)]
    pub kernel_needs: KernelNeeds,
    /// Ends the build after this time.
    #[serde(rename = "timeout_seconds", serialize_with = "json::seconds")]
    pub timeout: Option<Duration>,
    /// Ends the build after this time without a sign of life.
    #[serde(rename = "timeout_idle_seconds", serialize_with = "json::seconds")]
    pub timeout_idle: Option<Duration>,
}

/// The disk that a guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Length in bytes.
    pub bytes: u64,
    /// It is longer than the box's own.
    #[serde(skip)]
    pub grown: bool,
    /// It is the box's own: the guest writes into that.
    pub in_place: bool,
}

impl Plan {
    /// Decides on everything that `request` leaves open, for a box that is brought up by `boot`.
    /// The box need not have been fetched yet.
    ///
    /// # Errors
    /// Fails if an option cannot be had with this box or on this host.
    pub fn new(
        request: &BuildRequest,
        host: &HostFacts,
        folders: Folders,
        installed: InstalledBox,
        boot: Boot,
    ) -> Result<Plan, PlanError> {
        let info = &installed.info;
        options::check(request, host, info)?;
        let runs_as = match request.container {
            Some(mode) => RunsAs::Container(mode),
            None => RunsAs::Machine(boot),
        };
        let network = request.network;
        let link = connection::settle(request, host, info, runs_as)?;
        let connection = link.connection;
        let variables = host.environment.iter().cloned();
        let Proxies {
            mut environment,
            mut services,
            notes: proxy_notes,
        } = Proxies::of(variables, connection, &request.build.rest);
        let mut notes = request.notes.clone();
        notes.extend(link.note);
        notes.extend(target_notes::notes(&folders.target_dir));
        notes.extend(proxy_notes);
        notes.extend(options::memory_note(request, host));
        let ssh = Ssh::wanted(request, host).map_err(PlanError::Option)?;
        notes.extend(ssh.iter().flat_map(|ssh| ssh.notes(boot)));
        let HostParts {
            host_paths,
            kiwi_args,
            repositories,
            services: others,
            notes: host_notes,
        } = HostParts::of(request, &folders, info, connection)?;
        notes.extend(host_notes);
        notes.extend(connection::not_in_the_cache(connection, &repositories));
        // In a container they have their own addresses, and the host's variables are right for these.
        let mut as_it_is = Vec::new();
        let variables = if runs_as.is_container() {
            &mut as_it_is
        } else {
            &mut environment
        };
        proxies::add_services(&mut services, variables, &others);
        if runs_as == RunsAs::Machine(Boot::Compat) {
            notes.extend(proxies::only_plain(&mut environment));
        }
        notes.extend(reproducible::settle(
            request,
            runs_as,
            info.arch,
            &mut environment,
        )?);
        notes.extend(options::disk_note(request, runs_as, &installed));
        notes.extend(options::attribute_note(request, runs_as));
        let (memory_mib, memory_note) =
            memory::settle(request.memory_mib, info.memory_mib, &host.memory);
        notes.extend(memory_note.filter(|_| !runs_as.is_container()));
        notes.extend(folders.inspected.check_for(request, &installed)?);
        let described = folders.inspected.description();
        let target = inspected::target(request, Some(info));
        let set = equipment::set_attributes(&request.build.rest);
        let image_types = ImageTypes::of(described, &target, &set);
        let kernel_needs = kernel_needs::of(described, &target, &set);
        let inputs = Places {
            description: folders.description.clone(),
            target: folders.target_dir.clone(),
            halves: described
                .and_then(|described| described.halves(&target))
                .map(|halves| inspected::below_folder(halves, request)),
        };
        let log = request.kiwi.copy_log_to.as_deref();
        Ok(Plan {
            runs_as,
            box_packages: options::box_packages(request, runs_as, info)?,
            resumes: None,
            command_line: request.command_line.clone(),
            inputs,
            fetch: request.fetch,
            fips: request.fips,
            nested: request.nested,
            image_types,
            kernel_needs,
            description: folders.description,
            description_rw: request.description_rw,
            target_dir: folders.target_dir,
            console: options::console(request, info)?,
            kiwi_version: options::kiwi_version(request, runs_as, info)?,
            copy_log_to: log.map(options::log_copy).transpose()?,
            host_paths,
            kiwi_args,
            repositories,
            reproducible: request.reproducible,
            attest: request.attest.clone(),
            allow: request.allow.clone(),
            package_cache: request.package_cache
                && network != Network::None
                && (connection.is_private || !runs_as.is_container()),
            private_network: connection.is_private,
            offline: connection.offline,
            host_proxies: services,
            environment,
            ssh,
            notes,
            memory_mib,
            cpus: request
                .cpus
                .unwrap_or_else(|| host.cpus.min(info.cpus).max(1)),
            disk: Disk {
                bytes: request.disk_size.unwrap_or(info.disk_size),
                grown: request.disk_size.is_some(),
                in_place: request.in_place,
            },
            keep_failed: request.keep_failed && !runs_as.is_container(),
            debug: request.debug,
            check_only: request.check_only,
            network,
            engine: options::engine(request)?,
            machine_type: request.machine_type.clone(),
            cpu_model: request.cpu_model.clone(),
            cpu_level: CpuLevel::default(),
            timeout: request.timeout,
            timeout_idle: request.timeout_idle,
            installed,
        })
    }

    /// Settles the options that depend on the engine: `processor` is the one it gives the guest. Notes say
    /// which have no effect.
    #[must_use]
    pub fn with_processor(mut self, processor: Processor) -> Plan {
        let settled = emulation::settle(processor, self.machine_type, self.cpu_model);
        (self.machine_type, self.cpu_model) = (settled.machine_type, settled.cpu_model);
        self.notes.extend(settled.notes);
        self
    }

    /// How the box is brought up; a container is not.
    pub fn boot(&self) -> Option<Boot> {
        match self.runs_as {
            RunsAs::Machine(boot) => Some(boot),
            RunsAs::Container(_) => None,
        }
    }

    /// Whether a machine for this plan asks for a checkpoint of its disk when kiwi's `prepare` is done.
    pub fn takes_checkpoints(&self) -> bool {
        self.boot() == Some(Boot::Fast)
            && self.keep_failed
            && !self.disk.in_place
            && !self.check_only
            && self.resumes.is_none()
    }

    /// The box store, beside whose boxes failed builds are kept.
    pub fn store(&self) -> PathBuf {
        let dir = &self.installed.dir;
        match &self.resumes {
            Some(resumed) => resumed.store.clone(),
            None => dir.parent().unwrap_or(dir).to_owned(),
        }
    }

    /// The folder with room for what a machine writes to its disk.
    pub fn scratch(&self) -> PathBuf {
        match &self.resumes {
            // What is kept of the machine is kept beside.
            Some(resumed) => resumed.disk.parent().unwrap_or(&resumed.disk).to_owned(),
            None => scratch(&self.store()),
        }
    }

    /// Arguments of `kiwi-ng system create`, if this goes on with another build.
    pub fn create_args(&self) -> Vec<OsString> {
        let args = self
            .resumes
            .as_ref()
            .and_then(|_| create_args(&self.kiwi_args));
        args.unwrap_or_default()
    }

    /// What a machine, or a container with a network of its own, reaches over it, if there is one.
    pub fn policy(&self) -> Option<Policy> {
        let reach = match self.network {
            Network::None => return None,
            Network::User => Reach::Host,
            Network::Public => Reach::Public,
        };
        let allowed = (!self.allow.is_empty()).then(|| self.allow.clone());
        Some(Policy {
            reach,
            allowed,
            services: self.host_proxies.clone(),
            offline: self.offline,
        })
    }

    /// The folders that the guest sees, with `target` in the place of the target folder.
    pub fn shares(&self, target: &Path) -> Vec<Share> {
        let mut description = Share::new(DESCRIPTION, &self.description);
        description.read_only = !self.description_rw;
        let own = [description, Share::new(BUNDLE, target)];
        let others = self.host_paths.folders.iter().cloned();
        own.into_iter().chain(others).collect()
    }
}
