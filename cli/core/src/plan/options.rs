//! Options that this box or this host may not have.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use boxbuild_boxes::store::{BoxInfo, ContainerImage, InstalledBox};
use boxbuild_engine::{EngineChoice, Network};
use boxbuild_firmware::guest::Init;
use boxbuild_host::text::shown;
use boxbuild_host::units::{date, size};
use boxbuild_protocol::kernel_args::{is_console, is_kiwi_version};
use nix::unistd::{AccessFlags, access};

use super::error::PlanError;
use super::folders::describe;

use crate::boot::{Boot, RunsAs};
use crate::host_facts::HostFacts;
use crate::kiwi_paths::Reach;
use crate::request::BuildRequest;

/// Checks what only has to fit, not to be decided on.
pub(super) fn check(
    request: &BuildRequest,
    host: &HostFacts,
    info: &BoxInfo,
) -> Result<(), PlanError> {
    if let Some(arch) = request.arch.filter(|arch| *arch != info.arch) {
        return Err(PlanError::Option(format!(
            "architecture {arch}: the box {} is for {}; create one for {arch} with: boxbuild box create \
             {} --from {} --arch {arch}",
            info.name, info.arch, info.name, info.origin
        )));
    }
    if request.debug
        && let Some(problem) = host.no_terminal
    {
        return Err(PlanError::Option(format!("--box-debug {problem}")));
    }
    if request.disk_size.is_some_and(|size| size < info.disk_size) {
        return Err(PlanError::Option(format!(
            "--disk-size: the disk of the box {} is {} already and cannot shrink",
            info.name,
            size(info.disk_size)
        )));
    }
    if request.in_place && request.disk_size.is_some() {
        return Err(PlanError::Option(String::from(
            "--disk-size: a build writes into a private copy of the disk, which can grow; --no-snapshot \
             asks for the box's own: leave one of the two options out",
        )));
    }
    network(request)?;
    memory(request, host)?;
    if request.container.is_some() && request.engine != EngineChoice::Auto {
        return Err(PlanError::Option(format!(
            "--engine {}: --container needs no engine: leave one of the two options out",
            request.engine.name()
        )));
    }
    Ok(())
}

/// Checks that there can be a network like this.
fn network(request: &BuildRequest) -> Result<(), PlanError> {
    let allow = request.allow.first();
    if let (Network::None, Some(allow)) = (request.network, allow) {
        return Err(PlanError::Option(format!(
            "--allow {allow}: a box with --network none reaches nothing: leave one of the two options \
             out"
        )));
    }
    // podman's networks are the host's own, or a NAT that filters nothing.
    let limited = match (request.network, allow) {
        (Network::Public, _) => String::from("--network public"),
        (_, Some(allow)) => format!("--allow {allow}"),
        _ => return Ok(()),
    };
    if request.container.is_some() {
        return Err(PlanError::Option(format!(
            "{limited}: a container's network cannot be limited: build in a machine (without \
             --container), or without a network (--network none)"
        )));
    }
    Ok(())
}

/// How many times its own memory a host may be asked for: what a guest does not touch takes none.
const OVERCOMMIT: u64 = 4;

/// Checks that the host has anything like the memory that is asked for.
fn memory(request: &BuildRequest, host: &HostFacts) -> Result<(), PlanError> {
    let (Some(wanted), Some(there)) = (request.memory_mib, host.memory_mib) else {
        return Ok(());
    };
    if wanted / OVERCOMMIT <= there {
        return Ok(());
    }
    Err(PlanError::Option(format!(
        "--box-memory: {wanted} MiB are asked for, and this host has {there} MiB: write the unit, e.g. 8G \
         or 8192M"
    )))
}

/// What the user should know of the memory that is asked for.
pub(super) fn memory_note(request: &BuildRequest, host: &HostFacts) -> Option<String> {
    let wanted = request.memory_mib?;
    let there = host.memory_mib.filter(|there| wanted > *there)?;
    Some(format!(
        "--box-memory: the box gets {wanted} MiB, and this host has {there} MiB: a build that needs more \
         than that is ended by the host"
    ))
}

/// The engine that was asked for. Words for QEMU ask for none: kiwi-ng has them with KVM.
pub(super) fn engine(request: &BuildRequest) -> Result<EngineChoice, PlanError> {
    match request.engine {
        EngineChoice::Auto if request.no_accel => Ok(EngineChoice::Qemu),
        EngineChoice::Kvm if request.no_accel => Err(PlanError::Option(String::from(
            "--engine kvm has no --no-accel: leave one of the two options out",
        ))),
        engine => Ok(engine),
    }
}

/// Says what an attribute of the command line means to a kiwi that boxbuild does not change: it takes each value as
/// text (kiwi 11.1.6, `tasks/system_build.py`).
pub(super) fn attribute_note(request: &BuildRequest, runs_as: RunsAs) -> Option<String> {
    if runs_as != RunsAs::Machine(Boot::Compat) {
        return None;
    }
    let set = super::equipment::set_attributes(&request.build.rest);
    let (name, _) = set.iter().find(|(_, value)| value == "false")?;
    Some(format!(
        "--set-type-attr {name}=false: the kiwi of a box that is booted by its own init takes that for true; leave the \
         value empty ({name}=) to have none, or change the description"
    ))
}

/// What the user should know about the disk of the box before a build.
pub(super) fn disk_note(
    request: &BuildRequest,
    runs_as: RunsAs,
    installed: &InstalledBox,
) -> Option<String> {
    if runs_as.is_container() {
        return None;
    }
    let name = &installed.info.name;
    if request.in_place {
        let mut note = format!(
            "--no-snapshot: this build writes into the disk of the box {name}, and later builds begin \
             with what it leaves there; 'boxbuild box reset {name}' undoes that"
        );
        // Our own guest sides empty it.
        if runs_as == RunsAs::Machine(Boot::Compat) && installed.info.published.is_some() {
            note += "; booted by its own init, the box keeps the root tree of this build, and KIWI \
                     refuses another one without --allow-existing-root";
        }
        return Some(note);
    }
    installed.changed.map(|since| {
        format!(
            "builds with --no-snapshot have written into the disk of the box {name} (since {}); \
             'boxbuild box reset {name}' undoes that",
            date(since)
        )
    })
}

/// The console that was asked for, or the box's own.
pub(super) fn console(request: &BuildRequest, info: &BoxInfo) -> Result<String, PlanError> {
    match request.console.as_deref() {
        Some(console) if is_console(console) => Ok(console.to_owned()),
        Some(console) => Err(PlanError::Option(format!(
            "--box-console {console}: not a console: write e.g. hvc0 or ttyS0"
        ))),
        None => Ok(info.console.clone()),
    }
}

/// The version of kiwi that was asked for, if the box can be told.
pub(super) fn kiwi_version(
    request: &BuildRequest,
    runs_as: RunsAs,
    info: &BoxInfo,
) -> Result<Option<String>, PlanError> {
    let Some(version) = request.kiwi_version.as_deref() else {
        return Ok(None);
    };
    if !is_kiwi_version(version) {
        return Err(PlanError::Option(format!(
            "--kiwi-version {version}: not a version: write e.g. 10.2.33"
        )));
    }
    if request.is_offline() {
        return Err(PlanError::Option(format!(
            "--kiwi-version {version}: it is fetched before the build, which --offline does not allow"
        )));
    }
    let by_boxbuild = match runs_as {
        RunsAs::Container(_) => !matches!(info.container, Some(ContainerImage::Registry { .. })),
        RunsAs::Machine(boot) => boot == Boot::Fast && !Init::of(info.arch.name()).is_program(),
    };
    if by_boxbuild {
        return Err(PlanError::Option(format!(
            "--kiwi-version {version}: the box {name} keeps the KIWI that it was created with: \
             create one with that version (boxbuild box create NAME --from … \
             --kiwi-version {version}), or let the box's own init install it (--boot compat)",
            name = info.name
        )));
    }
    Ok(Some(version.to_owned()))
}

/// The packages to install in the box first.
pub(super) fn box_packages(
    request: &BuildRequest,
    runs_as: RunsAs,
    info: &BoxInfo,
) -> Result<Vec<String>, PlanError> {
    let packages = &request.box_packages;
    let Some(first) = packages.first() else {
        return Ok(Vec::new());
    };
    let refuse = |problem: &str| {
        Err(PlanError::Option(format!(
            "--box-package {first}: {problem}"
        )))
    };
    // What package managers take for a package: names, versions, architectures, groups, file names.
    // apt-get removes `name-`, and takes `~…` for a pattern; zypper removes `~name`.
    let is_name = |name: &String| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._:=~@/".contains(&byte);
        let is_start = |byte: &u8| byte.is_ascii_alphanumeric() || b"@/".contains(byte);
        name.bytes().all(known)
            && name.as_bytes().first().is_some_and(is_start)
            && !name.ends_with('-')
    };
    if let Some(other) = packages.iter().find(|name| !is_name(name)) {
        return Err(PlanError::Option(format!(
            "--box-package {}: not the name of a package",
            shown(other)
        )));
    }
    let own_init = match runs_as {
        RunsAs::Container(_) => matches!(info.container, Some(ContainerImage::Registry { .. })),
        RunsAs::Machine(boot) => boot == Boot::Compat,
    };
    if own_init {
        return refuse(
            "a box that is booted by its own init installs nothing: leave --boot compat out, or take a \
             box of your own (boxbuild box create)",
        );
    }
    if request.network == Network::None {
        return refuse(
            "it is fetched over the network of the build, which --network none takes away",
        );
    }
    Ok(packages.clone())
}

/// Where a copy of the log can be written.
pub(super) fn log_copy(path: &Path) -> Result<PathBuf, PlanError> {
    let problem =
        |problem: &str| PlanError::Option(format!("--logfile {}: {problem}", path.display()));
    let absolute = std::path::absolute(path).map_err(|error| problem(&describe(&error)))?;
    if absolute.is_dir() {
        return Err(problem("is a folder: name a file"));
    }
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        return Err(problem("its folder does not exist"));
    }
    let written = match fs::metadata(&absolute) {
        Ok(_) => &absolute,
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder,
        Err(error) => return Err(problem(&describe(&error))),
    };
    access(written, AccessFlags::W_OK).map_err(|error| problem(&describe(&error.into())))?;
    Ok(absolute)
}

/// What can be done in the box before kiwi runs.
pub(super) fn reach(runs_as: RunsAs, info: &BoxInfo) -> Reach {
    match runs_as {
        RunsAs::Machine(Boot::Fast) => Reach::All,
        RunsAs::Machine(Boot::Compat) => Reach::Nothing,
        RunsAs::Container(_) => match info.container {
            Some(ContainerImage::Registry { .. }) => Reach::Files,
            _ => Reach::All,
        },
    }
}

/// kiwi's arguments up to `--description`.
pub(super) fn kiwi_args(request: &BuildRequest, paths: Vec<OsString>) -> Vec<OsString> {
    let mut args = request.kiwi.forwarded.clone();
    args.extend(paths);
    args.extend(["system".into(), "build".into()]);
    args.extend(request.build.rest.iter().cloned());
    args
}
