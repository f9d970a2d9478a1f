//! Drivers for this machine's devices.

use std::fs;
use std::path::Path;

use super::load::Loader;

/// Prefix of the alias of a virtio PCI device: its vendor ID (virtio 1.2, section 4.1.2).
const VIRTIO_PCI: &str = "pci:v00001AF4";

/// Virtio device types (virtio 1.2, section 5).
const NETWORK: u32 = 1;
const BLOCK: u32 = 2;
const CONSOLE: u32 = 3;
const ENTROPY: u32 = 4;
const BALLOON: u32 = 5;
const SCSI: u32 = 8;
const FILE_SYSTEM: u32 = 26;

/// Device types in the order in which their drivers are loaded. The console comes first: errors of
/// the others appear on it.
const TYPES: [u32; 7] = [CONSOLE, BLOCK, SCSI, NETWORK, ENTROPY, BALLOON, FILE_SYSTEM];

/// Loads the missing drivers of virtio devices and disk controllers: those of buses first, then
/// those of devices. Devices that have a driver are skipped, so that the root can bring what the
/// ramdisk lacked.
pub(super) fn load(loader: &mut Loader) {
    for_each_unbound("/sys/bus/pci/devices", |device, alias| {
        if alias.starts_with(VIRTIO_PCI) || is_storage(device) {
            loader.load(alias);
        }
    });
    for_each_unbound("/sys/bus/platform/devices", |_, alias| {
        if alias.contains("LNRO0005") || alias.contains("virtio,mmio") {
            loader.load(alias);
        }
    });
    for kind in TYPES {
        for_each_unbound("/sys/bus/virtio/devices", |_, alias| {
            if device_type(alias) == Some(kind) {
                loader.load(alias);
            }
        });
    }
}

/// Whether a PCI device is of the class of mass storage controllers (PCI Code and ID Assignment
/// Specification, class 01h).
fn is_storage(device: &Path) -> bool {
    fs::read_to_string(device.join("class")).is_ok_and(|class| class.starts_with("0x01"))
}

/// The first driver that a disk of this machine still lacks. Drivers probe their devices when they
/// are loaded, so that waiting does not help.
pub(super) fn missing_for_disks() -> Option<&'static str> {
    // Every machine has devices on both or one of them; `pci=off` leaves an empty bus.
    let buses = ["/sys/bus/pci/devices", "/sys/bus/virtio/devices"];
    let has_devices =
        |bus: &&str| fs::read_dir(bus).is_ok_and(|mut devices| devices.next().is_some());
    if !buses.iter().any(has_devices) {
        return Some("for PCI (CONFIG_PCI), nor virtio");
    }
    let mut missing = None;
    for_each_unbound("/sys/bus/virtio/devices", |_, alias| {
        if device_type(alias) == Some(BLOCK) {
            missing = Some("virtio-blk");
        }
    });
    for_each_unbound("/sys/bus/pci/devices", |_, alias| {
        if alias.starts_with(VIRTIO_PCI) {
            missing = Some("virtio-pci");
        }
    });
    missing
}

/// The virtio device type in an alias `virtio:dXXXXXXXXvXXXXXXXX`.
fn device_type(alias: &str) -> Option<u32> {
    u32::from_str_radix(alias.get(8..16)?, 16).ok()
}

/// Calls `action` with the folder and the alias of each device on a bus that has no driver yet, in
/// the order of their names.
fn for_each_unbound(bus: &str, mut action: impl FnMut(&Path, &str)) {
    let mut devices: Vec<_> = fs::read_dir(bus)
        .into_iter()
        .flatten()
        .flatten()
        .map(|device| device.path())
        .collect();
    devices.sort();
    for device in devices {
        if device.join("driver").exists() {
            continue;
        }
        if let Ok(alias) = fs::read_to_string(device.join("modalias")) {
            action(&device, alias.trim_end());
        }
    }
}
