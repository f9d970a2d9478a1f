//! No devices beside the PCI bus.

use std::sync::Arc;
use std::time::Instant;

use crate::arch::mark::Mark;
use crate::bus::{Buses, RangeError};
use crate::kvm::Vm;
use crate::pci::PciRoot;

pub type SerialOutput = Box<dyn FnMut(Vec<u8>) + Send>;

#[derive(Debug, Clone)]
pub struct Platform;

impl Platform {
    pub fn new(_vm: &Arc<Vm>, _start: Instant, _output: SerialOutput) -> Platform {
        Platform
    }

    pub fn add_to(&self, _buses: &mut Buses) -> Result<(), RangeError> {
        Ok(())
    }

    pub fn add_config_ports(
        &self,
        _buses: &mut Buses,
        _pci: &Arc<PciRoot>,
        _config_ports: bool,
    ) -> Result<(), RangeError> {
        Ok(())
    }

    pub fn flush(&self) {}

    pub fn marks(&self) -> Vec<Mark> {
        Vec::new()
    }
}
