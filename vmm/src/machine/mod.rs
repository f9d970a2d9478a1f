//! A machine from its parts: [`Config`] → [`start`] → [`Running`], with [`Event`]s on the way.

mod config;
mod devices;
mod running;

use std::fs::File;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};

use crate::bus::RangeError;
use crate::kvm::{KvmError, Vm};
use crate::legacy::{Cmos, DebugPort, I8042, Power, Serial, SerialInterrupt, i8042, power};
use crate::memory::{self, GuestRam, MemoryError};
use crate::net::NetworkError;
use crate::pci::PciError;
use crate::vcpu::{self, Buses, Ending, FirstThread, Stopped, VcpuError};
use crate::virtio::Failures;
use crate::virtio::fs::FsError;
use crate::{acpi, boot, layout};

pub use config::{Config, Share};
pub use running::{Ended, Event, Events, Running};

/// The machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See [`MemoryError`].
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// See [`KvmError`].
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// See [`VcpuError`].
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// See [`boot::BootError`].
    #[error(transparent)]
    Boot(#[from] boot::BootError),
    /// See [`PciError`].
    #[error(transparent)]
    Pci(#[from] PciError),
    /// A folder cannot be shared.
    #[error(transparent)]
    Share(#[from] FsError),
    /// See [`NetworkError`].
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The host has no event descriptor left.
    #[error("cannot make the console")]
    Console(#[source] std::io::Error),
    /// Two devices claim one address.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The ACPI tables or the reset vector do not fit.
    #[error("cannot write the ACPI tables")]
    Acpi(#[source] vm_memory::GuestMemoryError),
    /// The host has no room for threads.
    #[error("cannot start a thread for the machine")]
    Thread(#[source] std::io::Error),
}

/// Builds a machine and lets it run. `events` gets all that happens, [`Event::Ended`] last.
///
/// # Errors
/// If the host, a file or the configuration does not allow it; nothing runs then.
pub fn start(config: Config, events: Events) -> Result<Running, StartError> {
    let debug_port = Arc::new(DebugPort::new());
    let ram = memory::allocate(config.memory_mib)?;
    let rsdp = acpi::write(&ram, u8::try_from(config.cpus).unwrap_or(u8::MAX))
        .map_err(StartError::Acpi)?;
    ram.write_slice(&power::RESET_CODE, GuestAddress(layout::RESET_VECTOR))
        .map_err(StartError::Acpi)?;
    let ending = Ending::new();
    let files = (config.kernel, config.initrd);
    let first = load(&ending, ram.clone(), files, config.cmdline, rsdp)?;
    let vm = Arc::new(Vm::new(ram)?);
    let serial = serial(&vm, &events);
    let parts = devices::Parts {
        standard: config.standard_devices,
        cpus: config.cpus,
        disks: config.disks,
        network: config.network,
        shares: config.shares,
        failures: failures(&ending),
    };
    let devices::Built {
        pci,
        input,
        traffic,
    } = devices::build(&vm, parts, &events)?;
    let mut buses = Buses::default();
    add_ports(&mut buses, &serial, &debug_port)?;
    devices::add_windows(&mut buses, &pci, config.config_ports)?;
    devices::show_config_space(&vm, &pci);
    ignore_absent(&vm, &buses);
    let vcpus = vcpu::create(vm, config.cpus)?;
    let vcpus = first.run(vcpus, Arc::new(buses), move |stopped| {
        pci.stop();
        serial.flush();
        events(Event::Ended(stopped.into()));
    })?;
    let handles = running::Handles {
        debug_port,
        input,
        traffic,
    };
    Ok(Running::new(vcpus, handles))
}

/// Lets the thread of the first CPU read what shall run: meanwhile, this one makes the machine.
fn load(
    ending: &Ending,
    ram: GuestRam,
    (mut kernel, initrd): (File, Option<File>),
    cmdline: String,
    rsdp: u64,
) -> Result<FirstThread<StartError>, StartError> {
    let load = move || {
        let boot = boot::Boot {
            kernel: &mut kernel,
            initrd: initrd.as_ref(),
            cmdline: &cmdline,
            rsdp,
        };
        Ok(boot::load(&ram, boot)?)
    };
    FirstThread::spawn(ending, load).map_err(StartError::Thread)
}

/// A device that cannot go on ends the machine.
fn failures(ending: &Ending) -> Failures {
    let ending = ending.clone();
    Failures::new(move |text| ending.end(Stopped::Failed(text)))
}

/// Lets KVM take the address of a kernel that looks for PCI by ports, which Linux does 40 times before
/// it knows better. Further ports where nobody is are not worth the call.
fn ignore_absent(vm: &Vm, buses: &Buses) {
    if buses.pio.is_free(u64::from(layout::PCI_CONFIG))
        && let Err(error) = vm.ignore_writes(layout::PCI_CONFIG)
    {
        log::debug!("writes of PCI addresses leave the guest: {error}");
    }
}

fn serial(vm: &Arc<Vm>, events: &Events) -> Arc<Serial> {
    let vm = Arc::clone(vm);
    let interrupt = SerialInterrupt::new(move || {
        if let Err(error) = vm.pulse(layout::COM1_IRQ) {
            log::debug!("an interrupt of the serial port is lost: {error}");
        }
    });
    let events = Arc::clone(events);
    Arc::new(Serial::new(interrupt, move |line| {
        events(Event::Serial(line));
    }))
}

fn add_ports(
    buses: &mut Buses,
    serial: &Arc<Serial>,
    debug_port: &Arc<DebugPort>,
) -> Result<(), RangeError> {
    let ports = &mut buses.pio;
    ports.add(u64::from(layout::COM1), 8, serial.clone())?;
    ports.add(u64::from(layout::I8042), i8042::LEN, Arc::new(I8042))?;
    ports.add(u64::from(layout::CMOS), 2, Arc::new(Cmos::default()))?;
    ports.add(u64::from(layout::DEBUG_PORT), 1, debug_port.clone())?;
    ports.add(u64::from(layout::POWER), power::LEN, Arc::new(Power))
}
