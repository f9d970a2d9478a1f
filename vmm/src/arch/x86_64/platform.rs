//! The devices that are not on the PCI bus: ports that a kernel expects to find or to be able to
//! ask for.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kvm_ioctls::{IoEventAddress, NoDatamatch};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use super::layout;
use super::legacy::cmos::Cmos;
use super::legacy::i8042::{self, I8042};
use super::legacy::power::{self, Power};
use crate::arch::debug_port::DebugPort;
use crate::arch::outputs::Outputs;
use crate::arch::serial::{Serial, SerialInterrupt};
use crate::bus::{Buses, RangeError};
use crate::kvm::{MsiSink, Vm};
use crate::pci::{ConfigPorts, PciRoot};

/// Where the messages of the device in PCI slot `slot` go.
pub(crate) fn msi(vm: &Arc<Vm>, _slot: usize) -> Arc<dyn MsiSink> {
    vm.clone()
}

/// The devices that are not on the PCI bus.
#[derive(Debug)]
pub(crate) struct Platform {
    vm: Arc<Vm>,
    /// Signalled by writes that shall do nothing; never read.
    ignored: OnceLock<EventFd>,
    serial: Arc<Serial>,
    debug_port: Arc<DebugPort>,
}

impl Platform {
    /// The devices of `vm`. Marks count from `start`.
    pub(crate) fn new(vm: &Arc<Vm>, start: Instant, outputs: Outputs) -> Platform {
        let raises = Arc::clone(vm);
        let interrupt = SerialInterrupt::new(move || {
            if let Err(error) = raises.pulse(layout::COM1_IRQ) {
                log::debug!("an interrupt of the serial port is lost: {error}");
            }
        });
        Platform {
            vm: Arc::clone(vm),
            ignored: OnceLock::new(),
            serial: Arc::new(Serial::new(interrupt, outputs.serial)),
            debug_port: Arc::new(DebugPort::new(start, outputs.mark)),
        }
    }

    /// Makes the devices reachable.
    ///
    /// # Errors
    /// If two devices claim one port.
    pub(crate) fn add_to(&self, buses: &mut Buses) -> Result<(), RangeError> {
        let ports = &mut buses.pio;
        ports.add(u64::from(layout::COM1), 8, self.serial.clone())?;
        ports.add(u64::from(layout::I8042), i8042::LEN, Arc::new(I8042))?;
        ports.add(u64::from(layout::CMOS), 2, Arc::new(Cmos::default()))?;
        ports.add(u64::from(layout::DEBUG_PORT), 1, self.debug_port.clone())?;
        ports.add(u64::from(layout::POWER), power::LEN, Arc::new(Power))
    }

    /// Makes configuration space of PCI reachable by ports, too, if `config_ports`. Otherwise KVM
    /// takes the address of a kernel that looks there, which Linux does 40 times before it knows
    /// better; further absent ports are not worth the call.
    ///
    /// # Errors
    /// If two devices claim one port.
    pub(crate) fn add_config_ports(
        &self,
        buses: &mut Buses,
        pci: &Arc<PciRoot>,
        config_ports: bool,
    ) -> Result<(), RangeError> {
        if config_ports {
            let ports = Arc::new(ConfigPorts::new(Arc::clone(pci)));
            return buses.pio.add(u64::from(layout::PCI_CONFIG), 8, ports);
        }
        if let Err(error) = self.ignore_writes(layout::PCI_CONFIG) {
            log::debug!("writes of PCI addresses leave the guest: {error}");
        }
        Ok(())
    }

    /// Ignores what the guest writes to `port` from now on, in any width, without an exit.
    ///
    /// # Errors
    /// If KVM refuses; the writes then still reach the buses.
    fn ignore_writes(&self, port: u16) -> io::Result<()> {
        let event = EventFd::new(EFD_CLOEXEC)?;
        let address = IoEventAddress::Pio(u64::from(port));
        self.vm
            .fd()
            .register_ioevent(&event, &address, NoDatamatch)?;
        let _ = self.ignored.set(event);
        Ok(())
    }

    /// Hands on what is left of the serial port's last line.
    pub(crate) fn flush(&self) {
        self.serial.flush();
    }
}
