//! Builds a machine.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use super::config::Config;
use super::devices::{self, PciDevices};
use super::error::StartError;
use super::event::{Event, Events};
use super::handle::Handle;
use crate::arch::host::boot::{self, Boot, Tables};
use crate::arch::host::platform::Platform;
use crate::arch::host::vm;
use crate::arch::outputs::Outputs;
use crate::bus::Buses;
use crate::disk::{Disk, DiskConfig, OpenDisk, Overlay};
use crate::kvm::Vm;
use crate::memory::{self, GuestRam};
use crate::vcpu::{self, BootCpu, Ended, Stop};
use crate::virtio::FailureSink;

/// Builds a machine and lets it run. `events` gets all that happens, [`Event::Ended`] last.
///
/// # Errors
/// If the host, a file or the configuration does not allow it; nothing runs then.
pub fn start(config: Config, events: Events) -> Result<Handle, StartError> {
    vm::supported()?;
    let start = Instant::now();
    let (disks, overlays) = open_disks(config.disks)?;
    let ram = memory::allocate(config.memory_mib)?;
    let tables = boot::write_tables(&ram, config.cpus).map_err(StartError::Tables)?;
    let stop = Stop::new();
    let events = until_killed(events, &stop);
    let files = (config.kernel, config.initrd);
    let boot_cpu = load(&stop, ram.clone(), files, config.cmdline, tables)?;
    let vm = Arc::new(Vm::new(config.kvm, ram, vm::create)?);
    let platform = Platform::new(&vm, start, outputs(&events));
    let built = devices::build(
        &vm,
        devices::DeviceList {
            standard: config.standard_devices,
            cpus: config.cpus,
            disks,
            network: config.network,
            shares: config.shares,
            failures: failures(&stop),
            threads: config.threads.clone(),
        },
        &events,
    )?;
    let PciDevices {
        pci,
        input,
        traffic,
    } = built;
    let mut buses = Buses::default();
    platform.add_to(&mut buses)?;
    platform.add_config_ports(&mut buses, &pci, config.config_ports)?;
    devices::add_windows(&mut buses, &pci)?;
    devices::show_config_space(&vm, &pci);
    let vcpus = vcpu::create(vm, config.cpus, config.nested)?;
    let finish = move |ended| {
        pci.stop();
        platform.flush();
        events(Event::Ended(ended));
    };
    let vcpus = boot_cpu.run(vcpus, Arc::new(buses), config.threads, finish)?;
    Ok(Handle {
        vcpus,
        overlays,
        input,
        traffic,
    })
}

/// Drops what the guest says once the machine is killed: its end does not wait until all that the
/// guest has left in a queue has been taken.
fn until_killed(events: Events, stop: &Stop) -> Events {
    let stop = stop.clone();
    Arc::new(move |event| {
        let said = matches!(
            event,
            Event::Serial(_) | Event::Console(_) | Event::Control(_)
        );
        if !(said && stop.is_killed()) {
            events(event);
        }
    })
}

/// Lets the thread of the boot CPU read what shall run: meanwhile, this one makes the machine.
fn load(
    stop: &Stop,
    ram: GuestRam,
    (mut kernel, initrd): (File, Option<File>),
    cmdline: String,
    tables: Tables,
) -> Result<BootCpu<StartError>, StartError> {
    let load = move || {
        let boot = Boot {
            kernel: &mut kernel,
            initrd: initrd.as_ref(),
            cmdline: &cmdline,
            tables,
        };
        Ok(boot::load(&ram, boot)?)
    };
    BootCpu::spawn(stop, load).map_err(StartError::Thread)
}

/// A device that cannot go on ends the machine.
fn failures(stop: &Stop) -> FailureSink {
    let stop = stop.clone();
    FailureSink::new(move |text| stop.request(Ended::Failed(text)))
}

fn outputs(events: &Events) -> Outputs {
    let (lines, marks) = (Arc::clone(events), Arc::clone(events));
    Outputs {
        serial: Box::new(move |line| lines(Event::Serial(line))),
        mark: Box::new(move |mark| marks(Event::Mark(mark))),
    }
}

type Disks = (Vec<Box<dyn Disk>>, Vec<Option<Arc<Overlay>>>);

fn open_disks(disks: Vec<DiskConfig>) -> Result<Disks, StartError> {
    let open = |(index, disk): (usize, DiskConfig)| match disk.open() {
        Ok(OpenDisk { disk, overlay }) => Ok((disk, overlay)),
        Err(source) => Err(StartError::Disk { index, source }),
    };
    disks.into_iter().enumerate().map(open).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_killed_guest_says_nothing_more_and_one_that_powers_off_does() {
        let failed = Ended::Failed(String::from("a device panicked"));
        for (reason, heard) in [(Ended::Killed, 1), (Ended::PoweredOff, 2), (failed, 2)] {
            let got = Arc::new(Mutex::new(Vec::new()));
            let taken = Arc::clone(&got);
            let stop = Stop::new();
            let events = until_killed(
                Arc::new(move |event| taken.lock().unwrap().push(event)),
                &stop,
            );
            events(Event::Console(b"before".to_vec()));
            stop.request(reason.clone());
            events(Event::Console(b"after".to_vec()));
            events(Event::Ended(reason.clone()));
            let got = got.lock().unwrap();
            assert_eq!(got.len(), heard + 1, "{got:?}");
            assert_eq!(got.last(), Some(&Event::Ended(reason)));
        }
    }
}
