//! The engine that runs containers.

use std::path::Path;

use boxbuild_host::arch::Arch;
use boxbuild_host::binfmt::runs_programs_of;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_vmm::net::Handover;
use nix::unistd::getuid;

use super::cache::{self, CACHE};
use super::caller::Caller;
use super::container::{Container, Guest, Mode, shared};
use super::error::{ContainerError, io_error};
use super::folder::{self, unique_name};
use super::host::Host;
use super::image::{self, Image};
use super::network::{ContainerNetwork, PrivateNetwork};
use super::process::{Child, Parts};
use super::program::Program;
use super::reaper::ContainerReaper;
use super::shell::Shell;
use super::{argv, loops};
use crate::channel::EventSender;
use crate::handle::Running;
use crate::unusable::Unusable;

/// podman, found usable, with the box's image in its store.
#[derive(Debug)]
pub struct Podman {
    program: Program,
    image: String,
}

impl Podman {
    /// The name users know this engine by.
    pub const NAME: &str = "podman";

    /// Checks everything that can be checked before anything is done. May ask for the
    /// password that sudo wants, if there is a terminal. `needs_loop` is the image type that
    /// needs loop devices, if there is one.
    ///
    /// # Errors
    /// Fails if something is missing; the error says how to get it.
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
            program: Program { caller, host },
            image: String::new(),
        })
    }

    /// Makes sure that podman has the box's image.
    ///
    /// # Errors
    /// Fails if the box has none, or podman cannot get it.
    pub fn prepare(
        &mut self,
        wanted: &Image,
        interrupt: &Interrupt,
        progress: &mut dyn Reporter,
    ) -> Result<(), ContainerError> {
        self.image = image::prepare(&self.program, wanted, interrupt, progress)?;
        Ok(())
    }

    /// One line for `--dry-run`.
    pub fn describe(&self) -> String {
        self.program.host.describe(&self.program.caller)
    }

    /// Starts `container`, whose connections are continued elsewhere as `handover` says. Events go to
    /// `events` until [`Event::Ended`](crate::Event::Ended).
    ///
    /// # Errors
    /// Fails if the host is in the way.
    pub fn start(
        &self,
        container: &Container,
        handover: Option<Handover>,
        events: EventSender,
    ) -> Result<Box<dyn Running>, ContainerError> {
        let name = unique_name();
        let folder = folder::make(container, self.program.host.mode, &name)?;
        let reaper =
            ContainerReaper::watch(&self.program.caller, &self.program.host, &name, &folder)
                .map_err(io_error("start the process that cleans up the container"))?;
        let network = match &container.network {
            ContainerNetwork::Private(policy) => {
                let policy = policy.clone();
                let network = PrivateNetwork::listen(&folder, policy, handover, events.clone());
                Some(network.map_err(io_error("start the network of the container"))?)
            }
            ContainerNetwork::None | ContainerNetwork::Podman => None,
        };
        // A folder that the user shares there comes first: podman refuses two mounts at one place.
        let wanted = self.program.host.mode == Mode::Rootful
            && shared(&container.mounts).all(|(_, mount)| mount.place != Path::new(CACHE));
        let held = wanted.then(|| cache::hold(getuid().is_root())).flatten();
        if wanted && held.is_none() {
            events.note(format!(
                "{CACHE} is in use by another build, or missing: continuing without it"
            ));
        }
        let arguments = argv::run(&argv::Run {
            host: &self.program.host,
            container,
            name: &name,
            folder: &folder,
            image: &self.image,
            cache: held.is_some().then_some(Path::new(CACHE)),
        });
        let published = matches!(container.guest, Guest::Published { .. });
        let command = self
            .program
            .caller
            .command(&self.program.host.program, arguments);
        let shell = container
            .shell
            .then(|| Shell::new(&self.program.caller, &self.program.host, &name));
        let child = Child::spawn(
            command,
            Parts {
                reaper,
                network,
                cache: held,
                published,
                shell,
            },
            events,
        )
        .map_err(io_error("start podman"))?;
        Ok(Box::new(child))
    }
}
