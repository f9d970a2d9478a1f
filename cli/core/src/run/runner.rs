//! What runs a box: an engine, as a machine, or podman, as a container.

use std::net::TcpListener;

use boxbuild_boxes::box_lock::{BoxLock, DiskAccess};
use boxbuild_boxes::in_place::{self, InPlaceError, Writing};
use boxbuild_boxes::store::ContainerImage;
use boxbuild_engine::podman::{self, Container, ContainerNetwork, Podman};
use boxbuild_engine::{ContainerJob, Engine, Handover, Job, MachineJob, Network, Processor};
use boxbuild_firmware::cmdline;
use boxbuild_host::stop::StopCheck;

use super::error::BuildError;
use super::machine::{compat_items, machine};
use super::outcome::Reason;
use super::shares::masks;
use crate::output_dir::OutputDir;
use crate::plan::Plan;

/// What runs a box.
#[derive(Debug, Clone, Copy)]
pub enum Runner<'a> {
    /// An engine runs it as a machine.
    Machine(&'a dyn Engine),
    /// podman runs it as a container.
    Container(&'a Podman),
}

/// What a build has of its box for itself.
#[derive(Debug)]
pub(super) enum Hold {
    /// Nothing: a container has an image of its own.
    Nothing,
    /// The disk is only read.
    Read {
        /// Others may read it, too.
        _lock: BoxLock,
    },
    /// The disk is written.
    Written(Writing),
}

impl Hold {
    /// Gives the box up, after a machine that ended in order or not.
    pub(super) fn release(self, in_order: bool) -> Result<(), InPlaceError> {
        match self {
            Hold::Written(writing) if in_order => writing.commit(),
            _ => Ok(()),
        }
    }
}

impl<'a> Runner<'a> {
    /// The name users know it by.
    pub fn name(&self) -> &'static str {
        match self {
            Runner::Machine(engine) => engine.name(),
            Runner::Container(_) => Podman::NAME,
        }
    }

    /// The processor of a machine.
    pub(super) fn processor(&self) -> Option<Processor> {
        match self {
            Runner::Machine(engine) => Some(engine.processor()),
            Runner::Container(_) => None,
        }
    }

    /// Takes what this build needs of the box for itself.
    pub(super) fn hold(&self, plan: &Plan, stop: &StopCheck) -> Result<Hold, BuildError> {
        Ok(match self {
            Runner::Container(_) => Hold::Nothing,
            Runner::Machine(_) if plan.disk.in_place => {
                Hold::Written(in_place::begin(&plan.installed, stop)?)
            }
            Runner::Machine(_) => Hold::Read {
                _lock: BoxLock::take(&plan.installed, DiskAccess::Read)?,
            },
        })
    }

    /// The job for `plan`, whose results go to `output`. The box is reached through the port
    /// that `ssh` holds.
    pub(super) fn job(
        &self,
        plan: &Plan,
        output: &OutputDir<'_>,
        ssh: Option<TcpListener>,
        handover: Option<Handover>,
    ) -> Result<Box<dyn Job + 'a>, BuildError> {
        match *self {
            Runner::Machine(engine) => Ok(Box::new(MachineJob {
                engine,
                machine: machine(plan, output, engine.processor(), ssh, handover)?,
            })),
            Runner::Container(podman) => Ok(Box::new(ContainerJob {
                podman,
                container: container(plan, output)?,
                handover,
            })),
        }
    }

    /// Why there is no result if the runner itself failed.
    pub(super) fn failed(&self, text: String) -> Reason {
        match self {
            Runner::Machine(_) => Reason::Engine(text),
            Runner::Container(_) => Reason::Container(text),
        }
    }
}

/// Whether a container has no network at all: podman's networks limit nothing.
fn is_closed(plan: &Plan) -> bool {
    !plan.private_network && (plan.offline || plan.network != Network::User)
}

/// The container for `plan`.
fn container(plan: &Plan, output: &OutputDir<'_>) -> Result<Container, BuildError> {
    let info = &plan.installed.info;
    let environment = plan.environment.clone();
    let guest = match info.container {
        Some(ContainerImage::Registry { .. }) => podman::Guest::Published {
            cmdline: cmdline::compat(
                info.arch.name(),
                &plan.console,
                &compat_items(plan),
                &plan.kiwi_args,
            )?,
            environment,
        },
        _ => podman::Guest::Own {
            args: plan.kiwi_args.clone(),
            box_packages: plan.box_packages.iter().map(Into::into).collect(),
            environment,
            made: plan.host_paths.made.clone(),
            check_only: plan.check_only,
        },
    };
    Ok(Container {
        guest,
        description: plan.description.clone(),
        description_rw: plan.description_rw,
        masks: masks(plan, output)?,
        bundle: output.share().to_owned(),
        mounts: plan.host_paths.mounts(),
        network: match plan.policy().filter(|_| !is_closed(plan)) {
            None => ContainerNetwork::None,
            Some(policy) if plan.private_network => ContainerNetwork::Private(policy),
            Some(_) => ContainerNetwork::Podman,
        },
        devices: plan.image_types.may_need_loop_devices(),
        shell: plan.debug,
    })
}
