//! The tables and where they lie.

use acpi_tables::Aml;
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::dsdt;
use super::ids::{OEM, REVISION, TABLE};
use crate::arch::x86_64::layout;
use crate::arch::x86_64::legacy::power;
use crate::memory::GuestRam;

/// `IAPC_BOOT_ARCH` (ACPI 6.5, table 5.11): what a kernel need not look for. Bit 1, the
/// keyboard controller, stays 0: there is none.
const LEGACY_DEVICES: u16 = 1 << 0;
const NO_VGA: u16 = 1 << 2;
const NO_ASPM: u16 = 1 << 4;
const NO_CMOS_RTC: u16 = 1 << 5;

/// Writes the tables for `cpus` CPUs. Returns the guest address of the root pointer.
///
/// # Errors
/// If they do not fit between [`layout::ACPI_TABLES`] and [`layout::RESET_VECTOR`].
pub fn write(ram: &GuestRam, cpus: u8) -> Result<u64, GuestMemoryError> {
    let mut area = TableArea {
        start: layout::ACPI_TABLES,
        bytes: vec![0; Rsdp::len()],
    };
    let dsdt = area.add(&dsdt::table(cpus));
    let tables = [
        area.add(&fadt(dsdt)),
        area.add(&madt(cpus)),
        area.add(&mcfg()),
    ];
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    for table in tables {
        xsdt.add_entry(table);
    }
    let xsdt = area.add(&xsdt);
    let mut root = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut root);
    for (byte, value) in area.bytes.iter_mut().zip(root) {
        *byte = value;
    }
    if area.start + area.bytes.len() as u64 > layout::RESET_VECTOR {
        return Err(GuestMemoryError::InvalidBackendAddress);
    }
    ram.write_slice(&area.bytes, GuestAddress(area.start))?;
    Ok(area.start)
}

/// Tables behind each other.
struct TableArea {
    start: u64,
    bytes: Vec<u8>,
}

impl TableArea {
    /// Adds a table and returns its guest address.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let address = self.start + self.bytes.len() as u64;
        table.to_aml_bytes(&mut self.bytes);
        address
    }
}

/// One byte on a port.
fn port(offset: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(layout::POWER + offset),
    )
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = (LEGACY_DEVICES | NO_VGA | NO_ASPM | NO_CMOS_RTC).into();
    fadt.sleep_control_reg = port(0);
    fadt.sleep_status_reg = port(1);
    fadt.reset_reg = port(2);
    fadt.reset_value = power::RESET_VALUE;
    fadt.finalize()
}

fn madt(cpus: u8) -> MADT {
    let local = LocalInterruptController::Address(layout::LOCAL_APIC);
    let mut madt = MADT::new(OEM, TABLE, REVISION, local);
    for id in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC, 0));
    madt
}

fn mcfg() -> MCFG {
    let mut mcfg = MCFG::new(OEM, TABLE, REVISION);
    mcfg.add_ecam(layout::ECAM, 0, 0, 0);
    mcfg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::allocate;

    fn read(ram: &GuestRam, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        ram.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// A table by its address, with its checksum checked.
    fn table(ram: &GuestRam, address: u64) -> Vec<u8> {
        let len: u32 = ram.read_obj(GuestAddress(address + 4)).unwrap();
        let bytes = read(ram, address, len as usize);
        assert_eq!(
            bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
            0
        );
        bytes
    }

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn every_table_is_reachable_from_the_root_and_sums_up() {
        let ram = allocate(64).unwrap();
        let root = write(&ram, 4).unwrap();
        let rsdp = read(&ram, root, 36);
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        let xsdt = table(&ram, word(&rsdp, 24));
        let tables: Vec<Vec<u8>> = (36..xsdt.len())
            .step_by(8)
            .map(|at| table(&ram, word(&xsdt, at)))
            .collect();
        let names: Vec<&[u8]> = tables.iter().map(|table| &table[..4]).collect();
        assert_eq!(names, [b"FACP", b"APIC", b"MCFG"]);
        // x_dsdt.
        let dsdt = table(&ram, word(&tables[0], 140));
        assert_eq!(&dsdt[..4], b"DSDT");
        // Header and flags of 44 bytes, 4 CPUs of 8, an I/O APIC of 12.
        assert_eq!(tables[1].len(), 44 + 4 * 8 + 12);
    }

    #[test]
    fn the_largest_machine_fits() {
        let ram = allocate(64).unwrap();
        assert!(write(&ram, crate::arch::x86_64::cpu::MAX_CPUS as u8).is_ok());
    }
}
