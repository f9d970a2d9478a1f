//! A machine that runs, and how it ends.

use std::sync::Arc;

use crate::legacy::{DebugPort, Mark};
use crate::vcpu::{RunningVcpus, Stopped};
use crate::virtio::console::Input;
use crate::virtio::{Kind, Traffic};

/// Something that happened in a running machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes that the guest wrote to its serial port, mostly whole lines.
    Serial(Vec<u8>),
    /// Bytes that the guest wrote to its console (hvc0), in order.
    Console(Vec<u8>),
    /// Bytes that the guest wrote to the control port.
    Control(Vec<u8>),
    /// Something on the host is in the guest's way, in words for the user.
    Notice(String),
    /// There is no room on the host for what the guest writes to a disk. The guest sees an I/O
    /// error and goes on; whoever runs the machine should end it.
    StorageFull(String),
    /// The machine is gone. The last event of a run.
    Ended(Ended),
}

/// How a run ended, seen from outside the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest asked for a reset.
    Reset,
    /// A CPU of the guest could not go on (triple fault); the text says which, and where.
    TripleFault(String),
    /// KVM or we failed; the text says how.
    Failed(String),
    /// Stopped by [`Running::kill`].
    Killed,
}

/// Gets the events of a machine, from several threads of it. It may block: the guest then
/// waits with its output, and so does the end of the machine.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// What the outside has to do with while it runs.
#[derive(Debug)]
pub(super) struct Handles {
    pub(super) debug_port: Arc<DebugPort>,
    pub(super) input: Input,
    pub(super) traffic: Vec<(Kind, Traffic)>,
}

/// A machine that runs. Dropping it kills it and waits until nothing of it is left.
#[derive(Debug)]
pub struct Running {
    vcpus: RunningVcpus,
    handles: Handles,
}

impl From<Stopped> for Ended {
    fn from(stopped: Stopped) -> Ended {
        match stopped {
            Stopped::PowerOff => Ended::PoweredOff,
            Stopped::Reset => Ended::Reset,
            Stopped::TripleFault(text) => Ended::TripleFault(text),
            Stopped::Failed(text) => Ended::Failed(text),
            Stopped::Killed => Ended::Killed,
        }
    }
}

impl Running {
    pub(super) fn new(vcpus: RunningVcpus, handles: Handles) -> Running {
        Running { vcpus, handles }
    }

    /// Ends the machine soon: [`Event::Ended`] tells when nothing of it is left.
    pub fn stop(&self) {
        self.vcpus.ending().end(Stopped::Killed);
    }

    /// Ends the machine now and waits until nothing of it is left.
    pub fn kill(&mut self) {
        self.stop();
        self.wait();
    }

    /// Waits until the guest ends itself.
    pub fn wait(&mut self) {
        self.vcpus.wait();
    }

    /// A handle for what the host says to the guest.
    pub fn input(&self) -> Input {
        self.handles.input.clone()
    }

    /// Moments that the guest marked by writing to port 0x80.
    pub fn marks(&self) -> Vec<Mark> {
        self.handles.debug_port.marks()
    }

    /// What the guest has moved through its devices, one entry for each of them.
    pub fn traffic(&self) -> &[(Kind, Traffic)] {
        &self.handles.traffic
    }
}
