//! Where things lie in the guest's physical address space.
//!
//! All addresses and sizes are in bytes. No standard fixes the memory map: the guest reads it
//! from the device tree. Addresses are those of QEMU's `virt` board where it has the same device
//! (hw/arm/virt.c, `base_memmap`), so that habits and tools fit.

/// The most guest memory in MiB: half of what 40 bits can address, which KVM gives a machine if it
/// is not asked for another width.
pub const MAX_MIB: u64 = 512 << 10;

/// Ranges of guest RAM for `bytes` bytes of it: start and length. It has no holes.
pub fn ram_ranges(bytes: u64) -> Vec<(u64, u64)> {
    vec![(RAM, bytes)]
}

/// The most bytes of RAM that end below 2^`bits`.
pub fn most_ram(bits: u32) -> u64 {
    let end = 1_u64.checked_shl(bits).unwrap_or(u64::MAX);
    end.saturating_sub(RAM)
}

/// GIC: the distributor (64 KiB; 4 KiB of a GICv2).
pub const GIC_DISTRIBUTOR: u64 = 0x0800_0000;
/// GICv2: the interface of each CPU (8 KiB).
pub const GIC_CPU: u64 = 0x0801_0000;
/// GICv2: the frame that turns messages into interrupts (4 KiB).
pub const GIC_MESSAGES: u64 = 0x0802_0000;
/// GICv3: the interrupt translation service (128 KiB).
pub const GIC_ITS: u64 = 0x0808_0000;
/// Serial port.
pub const SERIAL: u64 = 0x0900_0000;
/// Real-time clock.
pub const RTC: u64 = 0x0901_0000;
/// A byte written here marks a moment of the boot.
pub const MARKS: u64 = 0x0902_0000;
/// GICv3: two frames of 64 KiB for each CPU.
pub const GIC_REDISTRIBUTORS: u64 = 0x0a00_0000;
/// Bytes of a CPU's redistributor.
pub const GIC_REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// PCI memory window: [`PCI_MMIO`] to [`PCI_MMIO_END`].
pub const PCI_MMIO: u64 = 0x1000_0000;
/// End of the PCI memory window.
pub const PCI_MMIO_END: u64 = 0x3eff_0000;
/// Memory-mapped PCI configuration space of bus 0.
pub const ECAM: u64 = 0x3f00_0000;
/// 32 devices of 8 functions with 4 KiB each.
pub const ECAM_SIZE: u64 = 0x10_0000;

/// RAM starts here.
pub const RAM: u64 = 0x4000_0000;
/// The device tree lies at the start of RAM.
pub const DEVICE_TREE: u64 = RAM;
/// The most that a device tree may have (Linux, Documentation/arch/arm64/booting.rst).
pub const DEVICE_TREE_MAX: u64 = 0x20_0000;
/// Where a kernel is loaded, before its own offset: a multiple of 2 MiB.
pub const KERNEL: u64 = DEVICE_TREE + DEVICE_TREE_MAX;
/// The ramdisk lies in a window of 32 GiB with the kernel (booting.rst).
pub const INITRD_MAX: u64 = RAM + (32 << 30);

/// Interrupts of the GIC that are a device's own (SPI) begin with this number.
pub const FIRST_SPI: u32 = 32;
/// Interrupt of the serial port.
pub const SERIAL_SPI: u32 = 1;
/// Interrupt of the clock's alarm, which never comes.
pub const RTC_SPI: u32 = 2;
/// GICv2: interrupts that messages become, from the first to the one behind the last.
pub const MESSAGE_SPIS: std::ops::Range<u32> = 32..480;
/// All interrupts of the GIC: those of CPUs and [`MESSAGE_SPIS`]. A multiple of 32.
pub const GIC_INTERRUPTS: u32 = FIRST_SPI + MESSAGE_SPIS.end;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_memory_ends_where_the_addresses_end() {
        for bits in [32, 36, 40, 48, 52] {
            let (start, len) = ram_ranges(most_ram(bits))[0];
            assert_eq!(start + len, 1 << bits);
        }
        assert_eq!(most_ram(30), 0);
        assert!(MAX_MIB << 20 <= most_ram(40));
    }

    #[test]
    fn devices_lie_apart_from_each_other_and_below_ram() {
        // MAX_CPUS.
        let cpus = 254;
        let places = [
            (GIC_DISTRIBUTOR, 0x1_0000),
            (GIC_CPU, 0x2000),
            (GIC_MESSAGES, 0x1000),
            (GIC_ITS, 0x2_0000),
            (SERIAL, 0x1000),
            (RTC, 0x1000),
            (MARKS, 0x1000),
            (GIC_REDISTRIBUTORS, cpus * GIC_REDISTRIBUTOR_SIZE),
            (PCI_MMIO, PCI_MMIO_END - PCI_MMIO),
            (ECAM, ECAM_SIZE),
            (DEVICE_TREE, DEVICE_TREE_MAX),
            (KERNEL, 1),
        ];
        const { assert!(ECAM + ECAM_SIZE <= RAM) };
        for pair in places.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn the_interrupt_controller_takes_that_many_interrupts() {
        // Linux, Documentation/virt/kvm/devices/arm-vgic.rst, KVM_DEV_ARM_VGIC_GRP_NR_IRQS.
        const { assert!(GIC_INTERRUPTS >= 64 && GIC_INTERRUPTS <= 1024) };
        const { assert!(GIC_INTERRUPTS.is_multiple_of(32)) };
    }
}
