//! The interface of everything that runs machines.

use boxbuild_host::arch::Arch;

use crate::channel::EventSender;
use crate::error::StartError;
use crate::handle::Running;
use crate::machine::Machine;
use crate::unusable::Unusable;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// The host's processor.
    Virtualized,
    /// A program that translates them.
    Emulated,
}

/// Something that can run machines.
pub trait Engine: std::fmt::Debug {
    /// The name users select it by.
    fn name(&self) -> &'static str;

    /// What executes the guest's instructions.
    fn processor(&self) -> Processor;

    /// Whether it works on this host for guests of `arch`, without starting anything heavy.
    fn probe(&self, arch: Arch) -> Result<(), Unusable>;

    /// The same, whatever is known from earlier.
    ///
    /// # Errors
    /// See [`Engine::probe`].
    fn examine(&self, arch: Arch) -> Result<(), Unusable> {
        self.probe(arch)
    }

    /// Starts `machine`. Events go to `events` until [`Event::Ended`](crate::Event::Ended).
    ///
    /// Must be called on a thread that outlives the machine: child
    /// processes are bound to it by the parent-death signal.
    fn start(&self, machine: Machine, events: EventSender) -> Result<Box<dyn Running>, StartError>;
}
