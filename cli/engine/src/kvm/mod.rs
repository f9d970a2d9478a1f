//! The kvm engine: a micro virtual machine over `/dev/kvm`, in a jailed process of this program.
//!
//! Nothing has to be cleaned up behind it: the machine, its servers and its overlay are
//! threads, mappings and files without names, and are gone with the process however it ends.

mod config;
mod follower;
mod handle;
mod probe;
mod process;
mod shared;
mod start;
mod verdict;
mod wire;

pub use process::ROLE;
pub(crate) use verdict::usable;

use boxbuild_host::arch::Arch;
use boxbuild_jail::Program;

use crate::channel::EventSender;
use crate::engine::{Engine, Processor};
use crate::error::StartError;
use crate::handle::Running;
use crate::machine::Machine;
use crate::unusable::Unusable;

/// Runs machines over `/dev/kvm`, each in a process of its own.
#[derive(Debug, Default)]
pub struct Kvm {
    /// The program that has the role [`ROLE`].
    pub program: Program,
}

impl Engine for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn processor(&self) -> Processor {
        Processor::Virtualized
    }

    fn probe(&self, arch: Arch) -> Result<(), Unusable> {
        runs(arch)?;
        verdict::usable().map_err(|error| probe::unusable(&error))
    }

    fn examine(&self, arch: Arch) -> Result<(), Unusable> {
        runs(arch)?;
        verdict::examined().map_err(|error| probe::unusable(&error))
    }

    fn start(&self, machine: Machine, events: EventSender) -> Result<Box<dyn Running>, StartError> {
        Ok(Box::new(start::start(&self.program, machine, events)?))
    }
}

/// Whether guests of `arch` can run here at all.
fn runs(arch: Arch) -> Result<(), Unusable> {
    if arch != Arch::host() {
        return Err(Unusable(format!(
            "the kvm engine runs guests of the host's architecture, not {arch} guests on {}",
            Arch::host()
        )));
    }
    Ok(())
}
