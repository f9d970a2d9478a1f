//! The device tree: what the kernel is told of the machine it is on (Devicetree Specification 0.4;
//! names and cells of devices are those of Linux, Documentation/devicetree/bindings). Without
//! firmware it is the only way: arm64 Linux takes ACPI tables from EFI alone.

use vm_fdt::{Error, FdtWriter};

use super::layout;
use crate::kvm::InterruptController;

/// What is not the same in all machines.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    /// Ranges of RAM: start and length.
    pub(super) ram: &'a [(u64, u64)],
    /// For each CPU, its place (MPIDR without flags).
    pub(super) cpus: &'a [u64],
    pub(super) interrupts: InterruptController,
    pub(super) cmdline: &'a str,
    /// Start and end of the ramdisk.
    pub(super) initrd: Option<(u64, u64)>,
    /// For the kernel's random numbers.
    pub(super) seed: &'a [u8],
}

/// Handles of nodes that others name.
const GIC: u32 = 1;
const MESSAGES: u32 = 2;
const CLOCK: u32 = 3;

/// Kinds of interrupts (bindings/interrupt-controller/arm,gic-v3.yaml).
const SPI: u32 = 0;
const PPI: u32 = 1;
const EDGE: u32 = 1;
const LEVEL: u32 = 4;
/// GICv2: the CPUs that a CPU's own interrupt concerns are all eight that it can have.
const GIC_V2_CPUS: u32 = 0xff00;
/// The generic timer's interrupts: secure, non-secure, virtual, hypervisor (Arm BSA, table 3).
const TIMER_PPIS: [u32; 4] = [13, 14, 11, 10];
/// Frequency in Hz of the UART's clock, which divides to its default of 115200 baud; nothing
/// depends on it.
const UART_CLOCK: u32 = 1_843_200;
/// Frequency in Hz of the bus clock that a PL031 wants to have.
const BUS_CLOCK: u32 = 24_000_000;

/// Builds the tree.
pub(super) fn build(machine: &Machine<'_>) -> Result<Vec<u8>, Error> {
    let mut tree = FdtWriter::new()?;
    let root = tree.begin_node("")?;
    tree.property_string("compatible", "linux,dummy-virt")?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_u32("interrupt-parent", GIC)?;
    chosen(&mut tree, machine)?;
    for &(start, len) in machine.ram {
        let node = tree.begin_node(&format!("memory@{start:x}"))?;
        tree.property_string("device_type", "memory")?;
        tree.property_array_u64("reg", &[start, len])?;
        tree.end_node(node)?;
    }
    cpus(&mut tree, machine.cpus)?;
    power(&mut tree)?;
    gic(&mut tree, machine)?;
    timer(&mut tree, machine.interrupts)?;
    serial(&mut tree)?;
    rtc(&mut tree)?;
    pci(&mut tree, machine.interrupts)?;
    tree.end_node(root)?;
    tree.finish()
}

fn chosen(tree: &mut FdtWriter, machine: &Machine<'_>) -> Result<(), Error> {
    let node = tree.begin_node("chosen")?;
    tree.property_string("bootargs", machine.cmdline)?;
    tree.property_string("stdout-path", &format!("/serial@{:x}", layout::SERIAL))?;
    tree.property("rng-seed", machine.seed)?;
    // The devices' addresses are those that the bus gave them: Linux need not change them.
    tree.property_u32("linux,pci-probe-only", 1)?;
    if let Some((start, end)) = machine.initrd {
        tree.property_u64("linux,initrd-start", start)?;
        tree.property_u64("linux,initrd-end", end)?;
    }
    tree.end_node(node)
}

fn cpus(tree: &mut FdtWriter, places: &[u64]) -> Result<(), Error> {
    let node = tree.begin_node("cpus")?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 0)?;
    for place in places {
        let cpu = tree.begin_node(&format!("cpu@{place:x}"))?;
        tree.property_string("device_type", "cpu")?;
        tree.property_string("compatible", "arm,armv8")?;
        tree.property_string("enable-method", "psci")?;
        tree.property_u64("reg", *place)?;
        tree.end_node(cpu)?;
    }
    tree.end_node(node)
}

/// KVM's firmware: starts CPUs, powers off, resets.
fn power(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node("psci")?;
    let compatible = ["arm,psci-1.0", "arm,psci-0.2"].map(String::from);
    tree.property_string_list("compatible", compatible.to_vec())?;
    tree.property_string("method", "hvc")?;
    tree.end_node(node)
}

fn gic(tree: &mut FdtWriter, machine: &Machine<'_>) -> Result<(), Error> {
    let node = tree.begin_node(&format!(
        "interrupt-controller@{:x}",
        layout::GIC_DISTRIBUTOR
    ))?;
    tree.property_phandle(GIC)?;
    tree.property_null("interrupt-controller")?;
    tree.property_u32("#interrupt-cells", 3)?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_null("ranges")?;
    if machine.interrupts == InterruptController::GicV2 {
        tree.property_string("compatible", "arm,gic-400")?;
        let (distributor, cpus) = (layout::GIC_DISTRIBUTOR, layout::GIC_CPU);
        tree.property_array_u64("reg", &[distributor, 0x1000, cpus, 0x2000])?;
        let frame = tree.begin_node(&format!("v2m@{:x}", layout::GIC_MESSAGES))?;
        tree.property_phandle(MESSAGES)?;
        tree.property_string("compatible", "arm,gic-v2m-frame")?;
        tree.property_null("msi-controller")?;
        tree.property_array_u64("reg", &[layout::GIC_MESSAGES, 0x1000])?;
        tree.end_node(frame)?;
    } else {
        tree.property_string("compatible", "arm,gic-v3")?;
        let redistributors = machine.cpus.len() as u64 * layout::GIC_REDISTRIBUTOR_SIZE;
        tree.property_array_u64(
            "reg",
            &[
                layout::GIC_DISTRIBUTOR,
                0x1_0000,
                layout::GIC_REDISTRIBUTORS,
                redistributors,
            ],
        )?;
        let its = tree.begin_node(&format!("msi-controller@{:x}", layout::GIC_ITS))?;
        tree.property_phandle(MESSAGES)?;
        tree.property_string("compatible", "arm,gic-v3-its")?;
        tree.property_null("msi-controller")?;
        tree.property_u32("#msi-cells", 1)?;
        tree.property_array_u64("reg", &[layout::GIC_ITS, 0x2_0000])?;
        tree.end_node(its)?;
    }
    tree.end_node(node)
}

fn timer(tree: &mut FdtWriter, interrupts: InterruptController) -> Result<(), Error> {
    let flags = match interrupts {
        InterruptController::GicV2 => LEVEL | GIC_V2_CPUS,
        _ => LEVEL,
    };
    let node = tree.begin_node("timer")?;
    tree.property_string("compatible", "arm,armv8-timer")?;
    tree.property_null("always-on")?;
    let cells: Vec<u32> = TIMER_PPIS
        .iter()
        .flat_map(|&ppi| [PPI, ppi, flags])
        .collect();
    tree.property_array_u32("interrupts", &cells)?;
    tree.end_node(node)
}

/// A 16550, as on x86: kernels of distributions have its driver built in.
fn serial(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node(&format!("serial@{:x}", layout::SERIAL))?;
    tree.property_string("compatible", "ns16550a")?;
    tree.property_array_u64("reg", &[layout::SERIAL, 8])?;
    tree.property_u32("clock-frequency", UART_CLOCK)?;
    tree.property_array_u32("interrupts", &[SPI, layout::SERIAL_SPI, EDGE])?;
    tree.end_node(node)
}

fn rtc(tree: &mut FdtWriter) -> Result<(), Error> {
    let clock = tree.begin_node("apb-pclk")?;
    tree.property_phandle(CLOCK)?;
    tree.property_string("compatible", "fixed-clock")?;
    tree.property_u32("#clock-cells", 0)?;
    tree.property_u32("clock-frequency", BUS_CLOCK)?;
    tree.end_node(clock)?;
    let node = tree.begin_node(&format!("rtc@{:x}", layout::RTC))?;
    let compatible = ["arm,pl031", "arm,primecell"].map(String::from);
    tree.property_string_list("compatible", compatible.to_vec())?;
    tree.property_array_u64("reg", &[layout::RTC, 0x1000])?;
    tree.property_array_u32("interrupts", &[SPI, layout::RTC_SPI, LEVEL])?;
    tree.property_u32("clocks", CLOCK)?;
    tree.property_string("clock-names", "apb_pclk")?;
    tree.end_node(node)
}

fn pci(tree: &mut FdtWriter, interrupts: InterruptController) -> Result<(), Error> {
    /// `phys.hi` of memory with 32-bit addresses (IEEE 1275, PCI Bus Binding, section 2.2.1.1).
    const MEMORY_32: u32 = 0x0200_0000;
    let node = tree.begin_node(&format!("pcie@{:x}", layout::ECAM))?;
    tree.property_string("compatible", "pci-host-ecam-generic")?;
    tree.property_string("device_type", "pci")?;
    tree.property_u32("#address-cells", 3)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_array_u32("bus-range", &[0, 0])?;
    tree.property_u32("linux,pci-domain", 0)?;
    tree.property_null("dma-coherent")?;
    tree.property_array_u64("reg", &[layout::ECAM, layout::ECAM_SIZE])?;
    // All of the window lies below 4 GiB. Address on the bus, the same of the CPU, length.
    let (start, len) = (
        layout::PCI_MMIO as u32,
        (layout::PCI_MMIO_END - layout::PCI_MMIO) as u32,
    );
    tree.property_array_u32("ranges", &[MEMORY_32, 0, start, 0, start, 0, len])?;
    match interrupts {
        InterruptController::GicV2 => tree.property_u32("msi-parent", MESSAGES)?,
        // The requester's id is the device's id for the ITS.
        _ => tree.property_array_u32("msi-map", &[0, MESSAGES, 0, 0x1_0000])?,
    }
    tree.end_node(node)
}

#[cfg(test)]
mod tests;
