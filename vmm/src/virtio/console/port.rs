//! The ports of the console.

/// The name under which a guest finds the control port in `/dev/virtio-ports`.
pub const CONTROL_PORT: &str = "org.boxbuild.control";

/// Ports: console, control port.
pub(super) const PORTS: usize = 2;

/// A port of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// hvc0.
    Console,
    /// [`CONTROL_PORT`].
    Control,
}

impl Port {
    pub(super) const ALL: [Port; PORTS] = [Port::Console, Port::Control];

    pub(super) fn receive(self) -> usize {
        match self {
            Port::Console => 0,
            Port::Control => 4,
        }
    }

    pub(super) fn transmit(self) -> usize {
        self.receive() + 1
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Port::Console => 0,
            Port::Control => 1,
        }
    }
}
