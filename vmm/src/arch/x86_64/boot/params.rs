//! `struct boot_params`: what the kernel is told about the machine it is on.

use linux_loader::loader::bootparam::{
    LOADED_HIGH, SETUP_RNG_SEED, boot_e820_entry, boot_params, setup_header,
};
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::kernel::LoadedKernel;
use crate::arch::boot::{BootError, InitrdRange};
use crate::arch::x86_64::layout;
use crate::memory::GuestRam;

/// Types of the memory map (ACPI 6.5, table 15.374).
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
/// "Undefined": a loader without an id of its own.
const LOADER: u8 = 0xff;
/// `hdr.boot_flag`, `hdr.header`: the magic numbers.
const BOOT_FLAG: u16 = 0xaa55;
const HEADER: u32 = 0x5372_6448;
/// The newest protocol whose fields we fill.
const PROTOCOL: u16 = 0x20f;
/// Bytes of random seed: what the kernel's generator holds.
const SEED: usize = 32;

pub(super) fn write(
    ram: &GuestRam,
    kernel: &LoadedKernel,
    cmdline_len: usize,
    initrd: Option<InitrdRange>,
    rsdp: u64,
) -> Result<(), BootError> {
    write_seed(ram)?;
    // A bzImage brings its own header; for an ELF file this is one.
    let mut header = kernel.header.unwrap_or(setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER,
        version: PROTOCOL,
        loadflags: LOADED_HIGH,
        ..setup_header::default()
    });
    header.type_of_loader = LOADER;
    header.cmd_line_ptr = layout::CMDLINE as u32;
    header.cmdline_size = cmdline_len as u32;
    header.setup_data = layout::SETUP_DATA;
    if let Some(initrd) = initrd {
        // Both lie below 4 GiB, where the first range of RAM ends.
        header.ramdisk_image = initrd.start as u32;
        header.ramdisk_size = initrd.len as u32;
    }
    let mut params = boot_params {
        hdr: header,
        acpi_rsdp_addr: rsdp,
        ..boot_params::default()
    };
    let map = memory_map(ram);
    params.e820_entries = map.len() as u8;
    for (entry, value) in params.e820_table.iter_mut().zip(map) {
        *entry = value;
    }
    Ok(ram.write_slice(params.as_slice(), GuestAddress(layout::BOOT_PARAMS))?)
}

/// RAM, without the legacy area; and the configuration space of PCI, which Linux only uses
/// if it is reserved.
fn memory_map(ram: &GuestRam) -> Vec<boot_e820_entry> {
    let entry = |start: u64, end: u64, kind| boot_e820_entry {
        addr: start,
        size: end - start,
        r#type: kind,
    };
    let mut map = vec![
        entry(0, layout::CONVENTIONAL_END, E820_RAM),
        entry(layout::CONVENTIONAL_END, layout::HIGH_RAM, E820_RESERVED),
    ];
    for region in ram.iter() {
        let (start, len) = (region.start_addr().0, region.len());
        map.push(entry(start.max(layout::HIGH_RAM), start + len, E820_RAM));
    }
    map.push(entry(
        layout::ECAM,
        layout::ECAM + layout::ECAM_SIZE,
        E820_RESERVED,
    ));
    map.sort_by_key(|entry| entry.addr);
    map
}

/// `struct setup_data`: next, type, length, data. With it the guest's random numbers are good
/// from the first moment, whatever its CPU can do.
fn write_seed(ram: &GuestRam) -> Result<(), BootError> {
    let mut seed = [0; SEED];
    crate::random(&mut seed).map_err(BootError::Random)?;
    let mut data = Vec::with_capacity(16 + SEED);
    data.extend_from_slice(&0_u64.to_le_bytes());
    data.extend_from_slice(&SETUP_RNG_SEED.to_le_bytes());
    data.extend_from_slice(&(SEED as u32).to_le_bytes());
    data.extend_from_slice(&seed);
    Ok(ram.write_slice(&data, GuestAddress(layout::SETUP_DATA))?)
}
