//! The DSDT: devices that a kernel cannot find by itself.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Arg, BufferData, Device, EISAName, Equal, IO, If,
    Interrupt, Memory32Fixed, Method, Name, Package, Path, ResourceTemplate, Return, Scope, Uuid,
    ZERO,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};

use super::ids::{OEM, REVISION, TABLE};
use crate::arch::x86_64::layout;
use crate::arch::x86_64::legacy::power;

/// Bytes of a table's header.
const HEADER: u32 = 36;
/// Functions of a PCI host bridge (PCI Firmware Specification 3.3, section 4.6).
const PCI_DSM: &str = "E5C937D0-3553-4D7A-9117-EA4D19C3434D";
/// "Ignore PCI boot configuration": with the answer 0 the kernel keeps our addresses.
const DSM_KEEP_CONFIGURATION: u8 = 5;

/// A finished table.
pub(super) struct Dsdt(Sdt);

impl Aml for Dsdt {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.0.as_slice());
    }
}

pub(super) fn table(cpus: u8) -> Dsdt {
    let mut body = Vec::new();
    pci(&mut body);
    serial(&mut body);
    processors(&mut body, cpus);
    // S5, by the type that the sleep control register takes.
    Name::new(
        "_S5_".into(),
        &Package::new(vec![&power::SLEEP_TYPE_OFF, &ZERO, &ZERO, &ZERO]),
    )
    .to_aml_bytes(&mut body);
    let mut sdt = Sdt::new(*b"DSDT", HEADER, 6, OEM, TABLE, REVISION);
    sdt.append_slice(&body);
    Dsdt(sdt)
}

fn path(name: &str) -> Path {
    Path::new(name)
}

/// The host bridge: what it decodes, and that our addresses stay.
fn pci(body: &mut Vec<u8>) {
    let buses = AddressSpace::new_bus_number(0_u16, 0);
    let config = IO::new(layout::PCI_CONFIG, layout::PCI_CONFIG, 1, 8);
    let window = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        layout::PCI_MMIO as u32,
        (layout::PCI_MMIO_END - 1) as u32,
        None,
    );
    let function = DSM_KEEP_CONFIGURATION;
    // Bit 0: there are functions beside this one; bit 5: function 5.
    let functions = BufferData::new(vec![1 | 1 << function]);
    let nothing = BufferData::new(vec![0]);
    let keep = Return::new(&ZERO);
    Scope::new(
        path("_SB_"),
        vec![
            &Device::new(
                path("PCI0"),
                vec![
                    &Name::new(path("_HID"), &EISAName::new("PNP0A08")),
                    &Name::new(path("_CID"), &EISAName::new("PNP0A03")),
                    &Name::new(path("_UID"), &ZERO),
                    &Name::new(path("_SEG"), &ZERO),
                    &Name::new(path("_BBN"), &ZERO),
                    &Name::new(
                        path("_CRS"),
                        &ResourceTemplate::new(vec![&buses, &config, &window]),
                    ),
                    &Method::new(
                        path("_DSM"),
                        4,
                        false,
                        vec![
                            &If::new(
                                &Equal::new(&Arg(0), &Uuid::new(PCI_DSM)),
                                vec![
                                    &If::new(
                                        &Equal::new(&Arg(2), &ZERO),
                                        vec![&Return::new(&functions)],
                                    ),
                                    &If::new(&Equal::new(&Arg(2), &function), vec![&keep]),
                                ],
                            ),
                            &Return::new(&nothing),
                        ],
                    ),
                ],
            ),
            // The kernel uses the memory-mapped configuration space if a device claims it.
            &Device::new(
                path("ECAM"),
                vec![
                    &Name::new(path("_HID"), &EISAName::new("PNP0C02")),
                    &Name::new(
                        path("_CRS"),
                        &ResourceTemplate::new(vec![&Memory32Fixed::new(
                            true,
                            layout::ECAM as u32,
                            layout::ECAM_SIZE as u32,
                        )]),
                    ),
                ],
            ),
        ],
    )
    .to_aml_bytes(body);
}

fn serial(body: &mut Vec<u8>) {
    Scope::new(
        path("_SB_"),
        vec![&Device::new(
            path("COM1"),
            vec![
                &Name::new(path("_HID"), &EISAName::new("PNP0501")),
                &Name::new(path("_UID"), &ZERO),
                &Name::new(
                    path("_CRS"),
                    &ResourceTemplate::new(vec![
                        &IO::new(layout::COM1, layout::COM1, 1, 8),
                        &Interrupt::new(true, true, false, false, layout::COM1_IRQ),
                    ]),
                ),
            ],
        )],
    )
    .to_aml_bytes(body);
}

/// Processor devices: without them Linux finds the CPUs in the MADT but warns.
fn processors(body: &mut Vec<u8>, cpus: u8) {
    for id in 0..cpus {
        Scope::new(
            path("_SB_"),
            vec![&Device::new(
                path(&format!("C{id:03X}")),
                vec![
                    &Name::new(path("_HID"), &"ACPI0007"),
                    &Name::new(path("_UID"), &id),
                ],
            )],
        )
        .to_aml_bytes(body);
    }
}
