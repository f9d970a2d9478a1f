//! Message-signalled interrupts.
//!
//! A GICv3's ITS takes them from KVM_SIGNAL_MSI, with the number of the device. A GICv2 has nothing
//! that takes messages. So its machine has the frame that Arm's boards have beside it, GICv2m
//! (Server Base System Architecture, appendix E): a device writes the number of an interrupt there.

use std::sync::Arc;

use kvm_bindings::{KVM_ARM_IRQ_TYPE_SHIFT, KVM_ARM_IRQ_TYPE_SPI, KVM_MSI_VALID_DEVID, kvm_msi};

use super::layout;
use crate::bus::{Effect, Registers};
use crate::kvm::{InterruptController, MsiSink, Vm};

/// Offset of MSI_TYPER: the first interrupt, and how many there are.
const TYPER: u64 = 0x008;
/// Offset of MSI_SETSPI_NS, to which devices write.
const SETSPI: u64 = 0x040;
/// Bytes of the frame.
pub(super) const LEN: u64 = 0x1000;

/// The registers of the frame, as a CPU sees them.
#[derive(Debug)]
pub(super) struct Frame;

impl Registers for Frame {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let value = match offset {
            TYPER => first() << 16 | layout::MESSAGE_SPIS.len() as u32,
            // The identity of no implementation that Linux has a workaround for, among others.
            _ => 0,
        };
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    /// A CPU that interrupts itself in this way is not known.
    fn write(&self, _offset: u64, _data: &[u8]) -> Effect {
        Effect::None
    }
}

/// Number of the first interrupt that a message becomes.
fn first() -> u32 {
    layout::FIRST_SPI + layout::MESSAGE_SPIS.start
}

/// The interrupt that a message means, if it is one.
fn interrupt(address: u64, data: u32) -> Option<u32> {
    let all = first()..first() + layout::MESSAGE_SPIS.len() as u32;
    (address == layout::GIC_MESSAGES + SETSPI && all.contains(&data)).then_some(data)
}

/// How KVM_IRQ_LINE names an interrupt of the GIC that is a device's own
/// (Linux, Documentation/virt/kvm/api.rst, KVM_IRQ_LINE).
pub(super) fn line(interrupt: u32) -> u32 {
    KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | interrupt
}

/// Where the messages of the device in a slot go.
#[derive(Debug)]
pub(super) struct Messages {
    vm: Arc<Vm>,
    /// Its requester id: bus 0, the slot, function 0 (PCI Express, section 2.2.6.2).
    requester: u32,
}

impl Messages {
    pub(super) fn new(vm: &Arc<Vm>, slot: usize) -> Messages {
        Messages {
            vm: Arc::clone(vm),
            requester: (slot as u32) << 3,
        }
    }
}

impl MsiSink for Messages {
    fn send(&self, address: u64, data: u32) {
        // The guest chose address and data.
        if self.vm.interrupts() == InterruptController::GicV3 {
            return self.vm.signal(kvm_msi {
                address_lo: address as u32,
                address_hi: (address >> 32) as u32,
                data,
                flags: KVM_MSI_VALID_DEVID,
                devid: self.requester,
                ..kvm_msi::default()
            });
        }
        let raised = match interrupt(address, data) {
            Some(interrupt) => self.vm.pulse(line(interrupt)),
            None => Err(std::io::ErrorKind::AddrNotAvailable.into()),
        };
        if let Err(error) = raised {
            log::debug!("interrupt {data:#x} to {address:#x} is lost: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_finds_interrupts_in_the_frame() {
        // drivers/irqchip/irq-gic-v2m.c: V2M_MSI_TYPER_BASE_SPI, V2M_MSI_TYPER_NUM_SPI, is_msi_spi_valid.
        let mut typer = [0; 4];
        Frame.read(TYPER, &mut typer);
        let typer = u32::from_le_bytes(typer);
        let (base, count) = (typer >> 16 & 0x3ff, typer & 0x3ff);
        assert!(
            base >= 32 && count > 0 && base + count <= 1020,
            "{base} {count}"
        );
        assert_eq!(base + count, layout::GIC_INTERRUPTS);
        let mut wild = [7; 8];
        Frame.read(0xff0, &mut wild);
        assert_eq!(wild[..4], [0; 4]);
    }

    #[test]
    fn messages_to_other_places_are_no_interrupts() {
        let place = layout::GIC_MESSAGES + SETSPI;
        assert_eq!(interrupt(place, first()), Some(first()));
        assert_eq!(interrupt(place, layout::GIC_INTERRUPTS - 1), Some(511));
        for (address, data) in [
            (place, first() - 1),
            (place, layout::GIC_INTERRUPTS),
            (place, u32::MAX),
            (place + 4, first()),
            (u64::MAX, first()),
        ] {
            assert_eq!(interrupt(address, data), None, "{address:#x} {data:#x}");
        }
    }
}
