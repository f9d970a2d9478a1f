//! Configuration space as the guest reads it without leaving guest mode.
//!
//! A kernel that looks for devices reads some hundred registers, each of which would leave the
//! guest. So the memory-mapped configuration space is read-only memory of the guest, kept in step
//! with the registers; only writes leave.
//!
//! A slot without a device reads as ones, as on a real bus. Functions behind the first, which no
//! device has, read as zeros instead: no kernel asks for them, because the first one says that it is alone
//! (PCI Local Bus Specification 3.0, section 6.2.1, "Header Type"), a vendor 0 is taken for no
//! device, too, and ones would be 1 MiB to write.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::{GuestMemoryError, MmapRegion, VolatileMemory};

use super::config_space::{ConfigSpace, SIZE};
use super::function::SLOTS;
use crate::arch::host::coherence;

/// Bytes of a function in memory-mapped configuration space.
const FUNCTION: usize = 4096;
/// Functions of a device.
const FUNCTIONS: usize = 8;
/// Bytes of a device.
const DEVICE: usize = FUNCTION * FUNCTIONS;

/// Takes the shadow out of the guest's memory: reads leave the guest from then on.
pub type Withdraw = Box<dyn Fn() + Send + Sync>;

/// The bytes of all configuration spaces.
pub struct ConfigShadow {
    memory: Arc<MmapRegion>,
    withdraw: Withdraw,
    withdrawn: AtomicBool,
}

impl fmt::Debug for ConfigShadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigShadow of {:#x} bytes", self.memory.size())
    }
}

/// Memory for the shadow of an empty bus.
///
/// # Errors
/// If the host has no memory.
pub fn memory() -> Result<Arc<MmapRegion>, vm_memory::mmap::MmapRegionError> {
    let memory = MmapRegion::new(SLOTS * DEVICE)?;
    for slot in 0..SLOTS {
        // The mapping, which was just made, is that large: this does not fail.
        let _ = VolatileMemory::get_slice(&memory, slot * DEVICE, FUNCTION)
            .map(|function| function.copy_from(&[0xff_u8; FUNCTION]));
    }
    Ok(Arc::new(memory))
}

impl ConfigShadow {
    /// The shadow in `memory`, which the guest sees until `withdraw` is called.
    pub fn new(memory: Arc<MmapRegion>, withdraw: Withdraw) -> ConfigShadow {
        ConfigShadow {
            memory,
            withdraw,
            withdrawn: AtomicBool::new(false),
        }
    }

    /// Shows the registers of function 0 of a device as they are now.
    pub fn show(&self, device: usize, registers: &ConfigSpace) {
        let mut bytes = [0; SIZE];
        registers.read(0, &mut bytes);
        if let Err(error) = self.write(device, &bytes) {
            log::debug!("no shadow of device {device}: {error}");
        }
    }

    /// As [`show`](Self::show), for a device that is shown for the first time.
    pub fn show_all(&self, device: usize, registers: &ConfigSpace) {
        // Behind the registers come zeros, up to the end of the function.
        let mut bytes = [0; FUNCTION];
        registers.read(0, &mut bytes);
        if let Err(error) = self.write(device, &bytes) {
            log::debug!("no shadow of device {device}: {error}");
        }
    }

    fn write(&self, device: usize, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let start = device * DEVICE;
        let slice = VolatileMemory::get_slice(self.memory.as_ref(), start, bytes.len())?;
        slice.copy_from(bytes);
        // The guest reads it as a device's registers.
        coherence::publish(slice.ptr_guard().as_ptr(), bytes.len());
        Ok(())
    }

    /// Withdraws the shadow, once.
    pub fn withdraw(&self) {
        if !self.withdrawn.swap(true, Ordering::Relaxed) {
            (self.withdraw)();
        }
    }
}
