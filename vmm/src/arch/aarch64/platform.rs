//! The devices that are not on the PCI bus. Power is KVM's: the guest asks its PSCI for it.

use std::sync::Arc;
use std::time::Instant;

use super::layout;
use super::messages::{self, Frame, Messages};
use super::rtc::{self, Clock};
use crate::arch::debug_port::DebugPort;
use crate::arch::outputs::Outputs;
use crate::arch::serial::{Serial, SerialInterrupt};
use crate::bus::{Buses, RangeError};
use crate::kvm::{InterruptController, MsiSink, Vm};
use crate::pci::PciRoot;

/// Where the messages of the device in PCI slot `slot` go.
pub(crate) fn msi(vm: &Arc<Vm>, slot: usize) -> Arc<dyn MsiSink> {
    Arc::new(Messages::new(vm, slot))
}

/// The devices that are not on the PCI bus.
#[derive(Debug)]
pub(crate) struct Platform {
    interrupts: InterruptController,
    serial: Arc<Serial>,
    marks: Arc<DebugPort>,
}

impl Platform {
    /// The devices of `vm`. Marks count from `start`.
    pub(crate) fn new(vm: &Arc<Vm>, start: Instant, outputs: Outputs) -> Platform {
        let raises = Arc::clone(vm);
        let interrupt = SerialInterrupt::new(move || {
            let line = messages::line(layout::FIRST_SPI + layout::SERIAL_SPI);
            if let Err(error) = raises.pulse(line) {
                log::debug!("an interrupt of the serial port is lost: {error}");
            }
        });
        Platform {
            interrupts: vm.interrupts(),
            serial: Arc::new(Serial::new(interrupt, outputs.serial)),
            marks: Arc::new(DebugPort::new(start, outputs.mark)),
        }
    }

    /// Makes the devices reachable.
    ///
    /// # Errors
    /// If two devices claim one address.
    pub(crate) fn add_to(&self, buses: &mut Buses) -> Result<(), RangeError> {
        let memory = &mut buses.mmio;
        memory.add(layout::SERIAL, 8, self.serial.clone())?;
        memory.add(layout::RTC, rtc::LEN, Arc::new(Clock::default()))?;
        memory.add(layout::MARKS, 1, self.marks.clone())?;
        if self.interrupts == InterruptController::GicV2 {
            memory.add(layout::GIC_MESSAGES, messages::LEN, Arc::new(Frame))?;
        }
        Ok(())
    }

    /// Does nothing: there are no ports.
    ///
    /// # Errors
    /// None.
    pub(crate) fn add_config_ports(
        &self,
        _buses: &mut Buses,
        _pci: &Arc<PciRoot>,
        _config_ports: bool,
    ) -> Result<(), RangeError> {
        Ok(())
    }

    /// Hands on what is left of the serial port's last line.
    pub(crate) fn flush(&self) {
        self.serial.flush();
    }
}
