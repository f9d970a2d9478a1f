//! The PCI bus of a machine with its devices.

use std::sync::Arc;

use boxbuild_virtiofs::PassthroughFs;

use super::error::StartError;
use super::event::{Event, Events};
use crate::arch::host::{layout, platform};
use crate::bus::{Buses, RangeError};
use crate::disk::Disk;
use crate::kvm::Vm;
use crate::net::NetworkConfig;
use crate::pci::{ConfigShadow, ConfigWindow, HostBridge, MemoryWindow, PciRoot, config_shadow};
use crate::threads::Threads;
use crate::virtio::balloon::Balloon;
use crate::virtio::block::{Block, DiskError};
use crate::virtio::console::{Console, Input, Port};
use crate::virtio::fs::Fs;
use crate::virtio::net::Net;
use crate::virtio::rng::Rng;
use crate::virtio::{Attachment, Device, FailureSink, Kind, Traffic, VirtioPci};

/// The devices to put on the PCI bus.
pub(super) struct DeviceList {
    /// See [`Config::standard_devices`](super::Config::standard_devices).
    pub(super) standard: bool,
    pub(super) cpus: u32,
    pub(super) disks: Vec<Box<dyn Disk>>,
    pub(super) network: Option<NetworkConfig>,
    pub(super) shares: Vec<PassthroughFs>,
    pub(super) failures: FailureSink,
    pub(super) threads: Threads,
}

/// The PCI bus with its devices.
pub(super) struct PciDevices {
    pub(super) pci: Arc<PciRoot>,
    /// Where the host writes what it says to the guest.
    pub(super) input: Input,
    /// What the guest moves through each.
    pub(super) traffic: Vec<(Kind, Traffic)>,
}

/// Builds the bus with all devices.
pub(super) fn build(
    vm: &Arc<Vm>,
    wanted: DeviceList,
    events: &Events,
) -> Result<PciDevices, StartError> {
    let output = Arc::clone(events);
    let console = Console::new(Box::new(move |port, bytes| {
        output(match port {
            Port::Console => Event::Console(bytes),
            Port::Control => Event::Control(bytes),
        });
    }))
    .map_err(StartError::Console)?;
    let input = console.input();
    let mut devices: Vec<Box<dyn Device>> = Vec::new();
    if wanted.standard {
        devices.push(Box::new(console));
    }
    for disk in wanted.disks {
        let notices = Arc::clone(events);
        let notices = Arc::new(move |trouble| {
            notices(match trouble {
                DiskError::StorageFull(text) => Event::StorageFull(text),
                DiskError::Other(text) => Event::Notice(text),
            });
        });
        devices.push(Box::new(Block::new(disk, wanted.cpus, notices)));
    }
    if let Some(network) = wanted.network {
        devices.push(Box::new(Net::new(network)?));
    }
    for share in wanted.shares {
        devices.push(Box::new(Fs::new(share, wanted.cpus)));
    }
    if wanted.standard {
        devices.push(Box::new(Rng));
        devices.push(Box::new(Balloon::new()));
    }

    let traffic = devices
        .iter()
        .map(|device| (device.kind(), device.traffic()))
        .collect();
    let mut root = PciRoot::new(layout::PCI_MMIO..layout::PCI_MMIO_END);
    root.add(Box::new(HostBridge::new()))?;
    for device in devices {
        let attachment = Attachment {
            msi: platform::msi(vm, root.next_slot()),
            io_events: vm.clone(),
            ram: vm.ram().clone(),
            failures: wanted.failures.clone(),
            threads: wanted.threads.clone(),
        };
        root.add(Box::new(VirtioPci::new(device, attachment)))?;
    }
    Ok(PciDevices {
        pci: Arc::new(root),
        input,
        traffic,
    })
}

/// Lets the guest read the registers of the devices without an exit, if KVM can do that. It
/// is only faster.
pub(super) fn show_config_space(vm: &Arc<Vm>, root: &PciRoot) {
    let memory = match config_shadow::memory() {
        Ok(memory) => memory,
        Err(error) => return log::debug!("no shadow of configuration space: {error}"),
    };
    let shown = Arc::downgrade(vm);
    let withdraw = move || {
        if let Some(vm) = shown.upgrade()
            && let Err(error) = vm.unmap_read_only()
        {
            log::warn!("configuration space cannot be read any more: {error}");
        }
    };
    root.set_shadow(ConfigShadow::new(Arc::clone(&memory), Box::new(withdraw)));
    if let Err(error) = vm.map_read_only(layout::ECAM, memory) {
        log::debug!("reads of configuration space leave the guest: {error}");
    }
}

/// Makes the bus reachable through device memory.
pub(super) fn add_windows(buses: &mut Buses, root: &Arc<PciRoot>) -> Result<(), RangeError> {
    let config = Arc::new(ConfigWindow(Arc::clone(root)));
    buses.mmio.add(layout::ECAM, layout::ECAM_SIZE, config)?;
    let memory = Arc::new(MemoryWindow::new(Arc::clone(root), layout::PCI_MMIO));
    let len = layout::PCI_MMIO_END - layout::PCI_MMIO;
    buses.mmio.add(layout::PCI_MMIO, len, memory)
}
