//! The handle of a machine in this process.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use boxbuild_vmm::machine;
use boxbuild_vmm::virtio::Kind;
use boxbuild_vmm::virtio::console::{Input, Port};

use crate::channel::EventGate;
use crate::handle::{Console, Moved, Running, Usage, size_line};
use crate::usage;

/// A machine in this process.
#[derive(Debug)]
pub(super) struct InProcess {
    pub(super) running: machine::Handle,
    /// `None` once the channel of events is abandoned.
    pub(super) gate: Option<EventGate>,
}

impl Running for InProcess {
    fn kill(&mut self, _grace: Duration) {
        // There is no process to wait for; the last event reports the end.
        if let Some(gate) = &mut self.gate {
            gate.mute();
        }
        self.running.stop();
    }

    fn peak_memory(&self) -> Option<u64> {
        usage::kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
    }

    fn usage(&self) -> Usage {
        let (memory, processor) = usage::usage("self");
        let moved = |wanted: Kind| {
            let traffic = self.running.traffic().iter();
            Moved::sum(traffic.filter_map(|(kind, moved)| (*kind == wanted).then_some(moved)))
        };
        Usage {
            memory,
            processor,
            disk: moved(Kind::Block),
            shares: moved(Kind::Fs),
            network: moved(Kind::Net),
        }
    }

    fn console(&self) -> Option<Arc<dyn Console>> {
        Some(Arc::new(Ports(self.running.input())))
    }

    fn keep_disk(&self, folder: &Path) -> io::Result<Option<u64>> {
        self.running.keep_disk(0, folder)
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.gate = None;
    }
}

/// What the host says to the guest.
#[derive(Debug)]
struct Ports(Input);

impl Console for Ports {
    fn send(&self, bytes: &[u8]) {
        self.0.send(Port::Console, bytes);
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.0
            .send(Port::Control, size_line(columns, rows).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use boxbuild_protocol::ports;
    use boxbuild_vmm::virtio::console;

    /// The VMM depends on no other package, so it has the name once more.
    #[test]
    fn the_vmm_names_the_control_port_as_the_protocol_does() {
        assert_eq!(console::CONTROL_PORT, ports::CONTROL);
    }
}
