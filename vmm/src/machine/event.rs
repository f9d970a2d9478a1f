//! Events of a machine.

use std::sync::Arc;

use crate::arch::mark::Mark;
use crate::vcpu::Ended;

/// Something that happened in a running machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes that the guest wrote to its serial port, mostly whole lines.
    Serial(Vec<u8>),
    /// Bytes that the guest wrote to its console (hvc0), in order.
    Console(Vec<u8>),
    /// Bytes that the guest wrote to the control port.
    Control(Vec<u8>),
    /// The guest marked a moment of its boot.
    Mark(Mark),
    /// Something on the host hinders the guest, in words for the user.
    Notice(String),
    /// There is no room on the host for what the guest writes to a disk. The guest sees an I/O
    /// error and goes on; the caller should stop the machine.
    StorageFull(String),
    /// The machine is gone. The last event of a run.
    Ended(Ended),
}

/// Gets the events of a machine, from several threads of it. It may block: the guest then
/// waits with its output, and so does the end of the machine. So the owner that kills a machine
/// ([`Handle::stop`](super::Handle::stop)) must release what waits at that moment; what the guest
/// says later does not come any more.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;
