//! Builds in a container, with podman: no machine, but the box's root tree beside the host's
//! kernel. Faster than an emulated machine, and far less isolated; never chosen on its own.
//!
//! A container is no [`Machine`](crate::Machine), but it says the same
//! [`Event`]s, so that a build in it is followed and judged by the same code.

mod argv;
mod caller;
mod host;
mod image;
mod loops;
mod process;
mod reaper;

use boxbuild_host::error::{Classify, ErrorClass};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use boxbuild_firmware::guest::ContainerBuild;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{getgid, getuid};

use crate::{Event, Network, Running, Unusable};
use boxbuild_host::arch::Arch;
use boxbuild_host::binfmt::runs_programs_of;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

pub use host::examine;
pub use image::{Image, ImageSource, PullPolicy};

use caller::Caller;
use host::Host;
use process::Child;
use reaper::ContainerReaper;

/// Where KIWI keeps packages between builds (kiwi's default of `--shared-cache-dir`).
const CACHE: &str = "/var/cache/kiwi";

/// Whose container it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The host's root runs it: loop devices work.
    Rootful,
    /// The caller runs it in a user namespace.
    Rootless,
}

/// A build cannot be run in a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The host lacks something.
    #[error("no container can be run here: {0}")]
    Host(#[from] Unusable),
    /// A registry cannot be reached, or must not be.
    #[error(
        "the box '{name}' is the image {image}, which is not on this host, and {reason}. Fetch it \
         where it can be had, with '{command}', or make a box here, with 'boxbuild box create NAME \
         --from debian:trixie'"
    )]
    NotHere {
        /// The box.
        name: String,
        /// The image, with registry and tag.
        image: String,
        /// Why it cannot be had now.
        reason: String,
        /// What fetches it.
        command: String,
    },
    /// A name that podman would take for something else.
    #[error("the box '{name}' names no container image: '{image}'")]
    BadImage {
        /// The box.
        name: String,
        /// As it stands in the box's description.
        image: String,
    },
    /// podman did not do its part.
    #[error("podman cannot {action}{}", said(.output))]
    Podman {
        /// What it was told to do.
        action: String,
        /// What it said.
        output: String,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// A file operation failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried, on which file.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Classify for ContainerError {
    fn class(&self) -> ErrorClass {
        match self {
            ContainerError::Interrupted => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}

fn said(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!(": {output}")
    }
}

/// What a container shall do once.
#[derive(Debug)]
pub struct Container {
    /// How the image's process 1 learns what to build.
    pub guest: Guest,
    /// Description folder.
    pub description: PathBuf,
    /// The container may write into it.
    pub description_rw: bool,
    /// Folder for the results.
    pub bundle: PathBuf,
    /// Files and folders of the host that the container sees besides.
    pub mounts: Vec<Mount>,
    /// Network of the container.
    pub network: Network,
    /// The host's /dev is visible: loop devices and their partitions.
    pub devices: bool,
}

/// A file or folder of the host that a container sees under the path that it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its path, absolute.
    pub path: PathBuf,
    /// The container cannot change it.
    pub read_only: bool,
}

/// The two kinds of process 1.
#[derive(Debug)]
pub enum Guest {
    /// boxbuild's own script.
    Own {
        /// See [`ContainerBuild::args`].
        args: Vec<OsString>,
        /// See [`ContainerBuild::environment`].
        environment: Vec<(String, OsString)>,
    },
    /// The image's entry point, which reads `/container.cmdline`.
    Published {
        /// The line.
        cmdline: String,
        /// Environment of process 1.
        environment: Vec<(String, OsString)>,
    },
}

/// podman, found usable, with the box's image in its store.
#[derive(Debug)]
pub struct Podman {
    caller: Caller,
    host: Host,
    image: String,
}

impl Podman {
    /// Checks everything that can be checked before anything is done. May ask for the
    /// password that sudo wants, if there is a terminal. `needs_loop` is the image type that
    /// needs loop devices, if there is one.
    ///
    /// # Errors
    /// If something is missing; the error says how to get it.
    pub fn find(
        mode: Mode,
        arch: Arch,
        needs_loop: Option<&str>,
    ) -> Result<Podman, ContainerError> {
        let caller = Caller::find(mode, true)?;
        let host = Host::examine(&caller, mode)?;
        if !runs_programs_of(arch) {
            return Err(Unusable(format!(
                "this host cannot run programs for {arch} (on Debian and Ubuntu: sudo apt-get \
                 install qemu-user-static binfmt-support): leave out --container, and the box runs \
                 as a virtual machine"
            ))
            .into());
        }
        if let Some(image_type) = needs_loop {
            loops::check(mode, image_type)?;
        }
        Ok(Podman {
            caller,
            host,
            image: String::new(),
        })
    }

    /// Makes sure that podman has the box's image.
    ///
    /// # Errors
    /// If the box has none, or podman cannot get it.
    pub fn prepare(
        &mut self,
        wanted: &Image,
        interrupt: &Interrupt,
        progress: &mut dyn Reporter,
    ) -> Result<(), ContainerError> {
        self.image = image::prepare(self, wanted, interrupt, progress)?;
        Ok(())
    }

    /// One line for `--dry-run`.
    pub fn describe(&self) -> String {
        self.host.describe(&self.caller)
    }

    /// Starts `container`. Events go to `events` until [`Event::Ended`].
    ///
    /// # Errors
    /// If the host is in the way.
    pub fn start(
        &self,
        container: &Container,
        events: SyncSender<Event>,
    ) -> Result<Box<dyn Running>, ContainerError> {
        let name = unique_name();
        let folder = self.folder(container, &name)?;
        let reaper = ContainerReaper::watch(&self.caller, &self.host, &name, &folder)
            .map_err(io_error("start a process that watches over the container"))?;
        // A folder that the user shares there comes first: podman refuses two mounts at one place.
        let wanted = self.host.mode == Mode::Rootful
            && shared(&container.mounts).all(|(_, path, _)| path != Path::new(CACHE));
        let cache = wanted.then(|| shared_cache(getuid().is_root())).flatten();
        if wanted && cache.is_none() {
            // A note may be lost if nobody waits at the other end yet.
            let _ = events.try_send(Event::Note(format!(
                "{CACHE} is used by another build, or is not there: going on without it"
            )));
        }
        let arguments = argv::run(&argv::Run {
            host: &self.host,
            container,
            name: &name,
            folder: &folder,
            image: &self.image,
            cache: cache.is_some().then_some(Path::new(CACHE)),
        });
        let published = matches!(container.guest, Guest::Published { .. });
        let command = self.caller.command(&self.host.program, arguments);
        let child = Child::spawn(command, reaper, cache, published, events)
            .map_err(io_error("start podman"))?;
        Ok(Box::new(child))
    }

    /// The private folder that tells the container what to do. Folders of the user are linked
    /// from it: their names can have colons, which podman's option syntax cannot.
    fn folder(&self, container: &Container, name: &str) -> Result<PathBuf, ContainerError> {
        let folder = private_place().join(name);
        let make = || -> io::Result<()> {
            fs::DirBuilder::new().mode(0o700).create(&folder)?;
            symlink(&container.description, folder.join("description"))?;
            symlink(&container.bundle, folder.join("bundle"))?;
            for (link, path, _) in shared(&container.mounts) {
                symlink(path, folder.join(link))?;
            }
            match &container.guest {
                Guest::Own { args, environment } => {
                    let inside = folder.join("guest");
                    fs::create_dir(&inside)?;
                    let owner = match self.host.mode {
                        Mode::Rootful => (getuid().as_raw(), getgid().as_raw()),
                        // The namespace's root is the caller.
                        Mode::Rootless => (0, 0),
                    };
                    let build = ContainerBuild {
                        args: args.clone(),
                        environment: environment.clone(),
                        name: name.to_owned(),
                        owner,
                    };
                    for (name, content) in build.files() {
                        fs::write(inside.join(name), content)?;
                    }
                }
                Guest::Published { cmdline, .. } => {
                    fs::write(folder.join("cmdline"), format!("{cmdline}\n"))?;
                }
            }
            Ok(())
        };
        make().map_err(|source| {
            let _ = fs::remove_dir_all(&folder);
            ContainerError::Io {
                action: format!("make the folder {}", folder.display()),
                source,
            }
        })?;
        Ok(folder)
    }
}

/// What the container sees besides its own folders: the name of a link to it in the private
/// folder, its path on the host and in the container, and whether it is read-only.
fn shared(mounts: &[Mount]) -> impl Iterator<Item = (String, &Path, bool)> {
    mounts.iter().enumerate().map(|(number, mount)| {
        (
            format!("shared{number}"),
            mount.path.as_path(),
            mount.read_only,
        )
    })
}

/// Whether podman can be told of this place in a container. Its options cannot write a colon
/// and a comma in one path, and it hands paths on as text.
pub fn check_place(path: &Path) -> Result<(), String> {
    let sayable = path
        .to_str()
        .is_some_and(|text| !(text.contains(':') && text.contains([',', '"', '\\', '\n'])));
    if sayable {
        Ok(())
    } else {
        Err(format!(
            "{}: podman cannot show a file of this name to a container (it has a colon and a \
             comma, or is not UTF-8): rename it",
            path.display()
        ))
    }
}

/// A folder for small private files whose name podman's option syntax can express.
fn private_place() -> PathBuf {
    let place = std::env::temp_dir();
    match place.to_str() {
        Some(text) if place.is_absolute() && !text.contains([':', ',', '"', '\\', '\n']) => place,
        _ => PathBuf::from("/tmp"),
    }
}

/// A name that no other container has: process id, time, and a number that the kernel drew.
fn unique_name() -> String {
    let drawn = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let drawn: String = drawn
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(12)
        .collect();
    format!("boxbuild-{}-{drawn}", std::process::id())
}

/// KIWI's package cache, if no other build holds it: kiwi keeps repository lists there, too,
/// which two builds at once would mix up.
fn shared_cache(make: bool) -> Option<Flock<File>> {
    let cache = Path::new(CACHE);
    if make && !cache.exists() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(cache)
            .ok()?;
    }
    let handle = File::open(cache).ok()?;
    // Whoever else could write there could give packages to a build that root runs.
    let metadata = handle.metadata().ok()?;
    if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return None;
    }
    Flock::lock(handle, FlockArg::LockExclusiveNonblock).ok()
}

fn io_error(action: &str) -> impl FnOnce(io::Error) -> ContainerError {
    let action = action.to_owned();
    move |source| ContainerError::Io { action, source }
}
