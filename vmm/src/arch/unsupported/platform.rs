//! No devices beside the PCI bus.

use std::sync::Arc;
use std::time::Instant;

use crate::arch::outputs::Outputs;
use crate::bus::{Buses, RangeError};
use crate::kvm::{MsiSink, Vm};
use crate::pci::PciRoot;

pub fn msi(vm: &Arc<Vm>, _slot: usize) -> Arc<dyn MsiSink> {
    vm.clone()
}

#[derive(Debug)]
pub struct Platform;

impl Platform {
    pub fn new(_vm: &Arc<Vm>, _start: Instant, _outputs: Outputs) -> Platform {
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
}
