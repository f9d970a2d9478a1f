//! Where things lie in the guest's physical address space and on its ports.
//!
//! All addresses and sizes are in bytes.

/// The most guest memory in MiB: half of what 40 bits can address, the least that any x86-64
/// processor with virtualisation has.
pub const MAX_MIB: u64 = 512 << 10;

/// Ranges of guest RAM for `bytes` bytes of it: start and length. RAM starts at 0 and leaves out
/// the hole below 4 GiB where devices live.
pub fn ram_ranges(bytes: u64) -> Vec<(u64, u64)> {
    let low = bytes.min(MMIO_START);
    let mut ranges = vec![(0, low)];
    if bytes > low {
        ranges.push((RAM_ABOVE, bytes - low));
    }
    ranges
}

/// The most bytes of RAM that, with the hole for devices, end below 2^`bits`.
pub fn most_ram(bits: u32) -> u64 {
    let end = 1_u64.checked_shl(bits).unwrap_or(u64::MAX);
    // Devices lie up to 4 GiB: with less there is no machine.
    if end < RAM_ABOVE {
        return 0;
    }
    end - (RAM_ABOVE - MMIO_START)
}

/// Flat GDT that the 64-bit boot protocol asks for.
pub const GDT: u64 = 0x500;
/// `struct boot_params`, the "zero page" (one page).
pub const BOOT_PARAMS: u64 = 0x7000;
/// Top of the stack of the first instructions.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Page tables of the first instructions: PML4, PDPT, one page directory.
pub const PAGE_TABLES: u64 = 0x9000;
/// Random seed for the kernel (`setup_data`).
pub const SETUP_DATA: u64 = 0xc000;
/// Kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Room for the command line with its final NUL.
pub const CMDLINE_MAX: u64 = 0x1_0000;
/// End of the conventional memory that the kernel may use; above it a PC has its EBDA.
pub const CONVENTIONAL_END: u64 = 0x9_fc00;
/// ACPI tables, in the part of the BIOS area where a kernel that was given no address looks.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// Where a kernel that gives up on everything else jumps to in real mode, as ffff:0000, and
/// the end of the ACPI tables.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// Where memory above the legacy area starts.
pub const HIGH_RAM: u64 = 0x10_0000;
/// Where kernels are loaded if they do not say (`CONFIG_PHYSICAL_START`'s default on x86).
pub const KERNEL: u64 = 0x100_0000;

/// RAM below 4 GiB ends here at the latest.
pub const MMIO_START: u64 = 0xc000_0000;
/// PCI memory window: [`PCI_MMIO`] to [`PCI_MMIO_END`].
pub const PCI_MMIO: u64 = MMIO_START;
/// End of the PCI memory window.
pub const PCI_MMIO_END: u64 = ECAM;
/// Memory-mapped PCI configuration space of bus 0.
pub const ECAM: u64 = 0xe000_0000;
/// 32 devices of 8 functions with 4 KiB each.
pub const ECAM_SIZE: u64 = 0x10_0000;
/// I/O APIC (in the kernel's KVM).
pub const IOAPIC: u32 = 0xfec0_0000;
/// Local APICs (in the kernel's KVM).
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages that KVM needs on Intel's processors for real mode.
pub const KVM_TSS: u64 = 0xfffb_d000;
/// RAM above the hole starts here.
pub const RAM_ABOVE: u64 = 0x1_0000_0000;

/// First serial port.
pub const COM1: u16 = 0x3f8;
/// Its interrupt: pin of the I/O APIC.
pub const COM1_IRQ: u32 = 4;
/// CMOS clock: index and data.
pub const CMOS: u16 = 0x70;
/// Keyboard controller and port B.
pub const I8042: u16 = 0x60;
/// Diagnostic codes.
pub const DEBUG_PORT: u16 = 0x80;
/// PCI configuration: address at +0, data at +4.
pub const PCI_CONFIG: u16 = 0xcf8;
/// ACPI sleep control register, then sleep status, then reset register.
pub const POWER: u16 = 0x600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_memory_ends_where_the_addresses_end() {
        for bits in [32, 33, 36, 39, 40, 46, 52, 64] {
            let most = most_ram(bits);
            let (start, len) = *ram_ranges(most).last().unwrap();
            let end = u128::from(start) + u128::from(len);
            let limit = 1_u128 << bits;
            // Without RAM above the hole, the hole ends there.
            let end = end.max(u128::from(RAM_ABOVE));
            assert!((limit - 1..=limit).contains(&end), "{bits}: {end:#x}");
        }
        assert_eq!(most_ram(31), 0);
    }

    #[test]
    fn memory_beyond_the_hole_continues_at_four_gib() {
        assert_eq!(ram_ranges(1 << 30), [(0, 1 << 30)]);
        assert_eq!(ram_ranges(MMIO_START), [(0, MMIO_START)]);
        assert_eq!(ram_ranges(5 << 30), [(0, 3 << 30), (4 << 30, 2 << 30)]);
    }
}
