//! The kvm engine: a micro virtual machine in this process, over `/dev/kvm`.
//!
//! Nothing has to be cleaned up behind it: the machine, its servers and its overlay are
//! threads, mappings and files without names, and are gone with the process however it ends.

mod config;
mod events;
mod handle;
mod probe;

use boxbuild_host::arch::Arch;
use boxbuild_vmm::{machine, smoke};

use crate::channel::EventSender;
use crate::engine::{Engine, Processor};
use crate::error::StartError;
use crate::handle::Running;
use crate::machine::Machine;
use crate::unusable::Unusable;
use config::Opened;
use events::forward;
use handle::InProcess;

/// Runs machines in this process, over `/dev/kvm`.
#[derive(Debug, Default)]
pub struct Kvm;

impl Engine for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn processor(&self) -> Processor {
        Processor::Virtualized
    }

    fn probe(&self, arch: Arch) -> Result<(), Unusable> {
        if arch != Arch::host() || arch != Arch::X86_64 {
            return Err(Unusable(format!(
                "the kvm engine runs x86_64 guests on x86_64 hosts, not {arch} guests on {}",
                Arch::host()
            )));
        }
        smoke::run().map_err(|error| probe::unusable(&error))
    }

    fn start(&self, machine: Machine, events: EventSender) -> Result<Box<dyn Running>, StartError> {
        let scratch = machine.disk.written_to().to_owned();
        let disk = machine.disk.clone();
        let Opened { config, note } = config::open(machine)?;
        if let Some(note) = note {
            events.note(note);
        }
        let (events, gate) = events.gated();
        let running = machine::start(config, forward(events, scratch))
            .map_err(|error| config::start_error(&disk, error))?;
        Ok(Box::new(InProcess {
            running,
            gate: Some(gate),
        }))
    }
}
