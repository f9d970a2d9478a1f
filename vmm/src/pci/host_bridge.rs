//! Device 0 of the bus: the host bridge, which has nothing but an identity.

use super::config_space::{ConfigSpace, Identity};
use super::function::Function;
use crate::bus::Effect;

/// The generic PCI Express host bridge of Red Hat, which needs no driver
/// (`PCI_DEVICE_ID_REDHAT_PCIE_HOST` in QEMU's docs/specs/pci-ids.rst).
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    class: 0x06_00_00,
    subsystem_vendor: 0,
    subsystem: 0,
};

/// The host bridge of a bus.
#[derive(Debug)]
pub struct HostBridge(ConfigSpace);

impl HostBridge {
    /// Creates a host bridge.
    pub fn new() -> HostBridge {
        HostBridge(ConfigSpace::new(IDENTITY))
    }
}

impl Default for HostBridge {
    fn default() -> Self {
        HostBridge::new()
    }
}

impl Function for HostBridge {
    fn config(&self) -> &ConfigSpace {
        &self.0
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.0
    }

    fn read_bar(&mut self, _bar: usize, _offset: u64, _data: &mut [u8]) {}

    fn write_bar(&mut self, _bar: usize, _offset: u64, _data: &[u8]) -> Effect {
        Effect::None
    }
}
