//! Options of the commands on descriptions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use boxbuild_core::build_args::{BuildArgs, BuildArgsError};
use boxbuild_core::request::{BuildRequest, KiwiOptions};
use boxbuild_engine::podman::Mode;
use boxbuild_engine::{EngineChoice, Network};
use boxbuild_host::arch::Arch;
use clap::Args;

use super::boxes::SourceOptions;
use super::fetch::FetchOptions;
use super::kiwi::GlobalOptions;
use super::values::{self, Memory, parse_memory};

/// Options of `boxbuild info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// The description folder, or a description file.
    pub(crate) description: PathBuf,
    /// Select a profile of the description (repeatable).
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Vec<OsString>,
    /// Select the image type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) image_type: Option<OsString>,
    /// Name of the description file in the folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) kiwi_file: Option<OsString>,
    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `boxbuild check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The description folder, or a description file.
    pub(crate) description: PathBuf,
    /// Also check it in this box, with the KIWI there: its schema, its own checks, whether the
    /// repositories answer and have all packages.
    #[arg(long = "box", value_name = "NAME")]
    pub(crate) box_name: Option<String>,
    /// Engine that runs the box; auto means kvm if it works on this host, else qemu.
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = values::engine())]
    pub(crate) engine: EngineChoice,
    /// Check in a container (podman) instead of a virtual machine.
    #[arg(long, requires = "box_name")]
    pub(crate) container: bool,
    /// With --container: run as a normal user, without sudo.
    #[arg(long, requires = "container")]
    pub(crate) rootless: bool,
    /// Architecture of the box.
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<Arch>,
    /// Guest memory, e.g. 4G [default: the box's].
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) box_memory: Option<Memory>,
    /// Network of the box: user, public or none.
    #[arg(long, value_name = "MODE", default_value = "user", value_parser = values::network())]
    pub(crate) network: Network,
    /// A folder of the host that builds share with --shared-path.
    #[arg(long, value_name = "DIR")]
    pub(crate) shared_path: Option<PathBuf>,
    /// Show the log and the console of the box live.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Limits on what may be fetched.
    #[command(flatten)]
    pub(crate) fetch: FetchOptions,
    /// Requirements on the box.
    #[command(flatten)]
    pub(crate) source: SourceOptions,
    /// Global options of kiwi-ng.
    #[command(flatten)]
    pub(crate) kiwi: GlobalOptions,
}

impl InfoArgs {
    /// Returns the request whose description is shown.
    pub(crate) fn request(&self) -> BuildRequest {
        let kiwi_file = self.kiwi_file.as_ref().filter(|name| !name.is_empty());
        let profiles = self.profile.iter().filter(|name| !name.is_empty());
        let image_type = self.image_type.as_ref().filter(|name| !name.is_empty());
        let (folder, file) = folder_and_file(&self.description, kiwi_file);
        let mut request = BuildRequest::new("", folder, PathBuf::new());
        request.kiwi = KiwiOptions {
            profiles: profiles.cloned().collect(),
            image_type: image_type.cloned(),
            description_file: file,
            ..KiwiOptions::default()
        };
        request
    }
}

impl CheckArgs {
    /// Returns the request for a check with `build_args`, the words after the separator; what the box
    /// finds goes to the folder `target`.
    ///
    /// # Errors
    /// Fails if the build arguments are wrong.
    pub(crate) fn request(
        &self,
        build_args: &[OsString],
        target: &Path,
    ) -> Result<BuildRequest, BuildArgsError> {
        let (folder, file) = folder_and_file(&self.description, self.kiwi.kiwi_file.as_ref());
        let mut words = build_args.to_vec();
        for (option, path) in [
            ("--description", folder.as_path()),
            ("--target-dir", target),
        ] {
            words.extend([OsString::from(option), path.into()]);
        }
        let name = self.box_name.as_deref().unwrap_or_default();
        let mut request = BuildRequest::new(name, folder, target.to_owned());
        request.build = BuildArgs::parse(&words)?;
        request.check_only = true;
        request.keep_failed = false;
        request.arch = self.arch;
        request.engine = self.engine;
        request.container = self.container.then_some(if self.rootless {
            Mode::Rootless
        } else {
            Mode::Rootful
        });
        request.memory_mib = self.box_memory.map(|memory| memory.bytes >> 20);
        request.network = self.network;
        request.shared_path.clone_from(&self.shared_path);
        request.fetch = self.fetch.policy();
        request.kiwi = self.kiwi.request();
        if self.kiwi.kiwi_file.is_none()
            && let Some(file) = file
        {
            let words = ["--kiwi-file".into(), file.clone().into_os_string()];
            request.kiwi.forwarded.extend(words);
            request.kiwi.description_file = Some(file);
        }
        Ok(request)
    }
}

/// Returns the description folder, and the file in it if one is named.
fn folder_and_file(path: &Path, kiwi_file: Option<&OsString>) -> (PathBuf, Option<PathBuf>) {
    let named = kiwi_file.map(PathBuf::from);
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if named.is_none() && path.is_file() => {
            let folder = if parent == Path::new("") {
                Path::new(".")
            } else {
                parent
            };
            (folder.to_owned(), Some(name.into()))
        }
        _ => (path.to_owned(), named),
    }
}
