//! A job: something to run once, a machine or a container.

use std::fmt;

use boxbuild_vmm::net::Handover;

use crate::channel::EventSender;
use crate::engine::Engine;
use crate::error::StartError;
use crate::handle::Running;
use crate::machine::Machine;
use crate::podman::{Container, Podman};

/// Something to run once.
pub trait Job: fmt::Debug {
    /// The name of the engine that runs it.
    fn engine(&self) -> &'static str;

    /// Starts it. Events go to `events` until [`Event::Ended`](crate::Event::Ended).
    ///
    /// Must be called on a thread that outlives the job: child processes are
    /// bound to it by the parent-death signal.
    ///
    /// # Errors
    /// Fails if the host is in the way.
    fn start(self: Box<Self>, events: EventSender) -> Result<Box<dyn Running>, StartError>;
}

/// A machine, and the engine that runs it.
#[derive(Debug)]
pub struct MachineJob<'a> {
    /// The engine.
    pub engine: &'a dyn Engine,
    /// The machine.
    pub machine: Machine,
}

impl Job for MachineJob<'_> {
    fn engine(&self) -> &'static str {
        self.engine.name()
    }

    fn start(self: Box<Self>, events: EventSender) -> Result<Box<dyn Running>, StartError> {
        self.engine.start(self.machine, events)
    }
}

/// A container, and the podman that runs it.
#[derive(Debug)]
pub struct ContainerJob<'a> {
    /// podman, with the image.
    pub podman: &'a Podman,
    /// The container.
    pub container: Container,
    /// Connections over its network that another process continues.
    pub handover: Option<Handover>,
}

impl Job for ContainerJob<'_> {
    fn engine(&self) -> &'static str {
        Podman::NAME
    }

    fn start(self: Box<Self>, events: EventSender) -> Result<Box<dyn Running>, StartError> {
        Ok(self.podman.start(&self.container, self.handover, events)?)
    }
}
