//! Configuration space as the guest reads it without leaving guest mode.
//!
//! A kernel that looks for devices reads some hundred registers, each of which would leave the
//! guest. So the memory-mapped configuration space of the slots in use is read-only memory of
//! the guest, kept in step with the registers; only writes leave.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::{Bytes, GuestMemoryError, MmapRegion, VolatileMemory};

use super::ConfigSpace;
use super::config_space::SIZE;

/// Bytes of a function in memory-mapped configuration space.
const FUNCTION: usize = 4096;
/// Functions of a device.
const FUNCTIONS: usize = 8;
/// Bytes of a device.
const DEVICE: usize = FUNCTION * FUNCTIONS;

/// Takes the image out of the guest's memory: reads leave the guest from then on.
pub type Withdraw = Box<dyn Fn() + Send + Sync>;

/// The bytes of all configuration spaces from device 0 on.
pub struct ConfigImage {
    memory: Arc<MmapRegion>,
    withdraw: Withdraw,
    withdrawn: AtomicBool,
}

impl fmt::Debug for ConfigImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigImage of {:#x} bytes", self.memory.size())
    }
}

/// Memory for the image of `devices` devices of which nobody is there: all ones.
///
/// # Errors
/// If the host has no memory.
pub fn memory(devices: usize) -> Result<Arc<MmapRegion>, vm_memory::mmap::MmapRegionError> {
    let memory = MmapRegion::new(devices * DEVICE)?;
    // The whole mapping, which was just made: this does not fail.
    if let Ok(all) = VolatileMemory::get_slice(&memory, 0, memory.size()) {
        let _ = all.write_slice(&vec![0xff; all.len()], 0);
    }
    Ok(Arc::new(memory))
}

impl ConfigImage {
    /// The image in `memory`, which the guest sees until `withdraw` is called.
    pub fn new(memory: Arc<MmapRegion>, withdraw: Withdraw) -> ConfigImage {
        ConfigImage {
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
            log::debug!("no image of device {device}: {error}");
        }
    }

    /// As [`show`](Self::show), for a device that is shown for the first time.
    pub fn show_all(&self, device: usize, registers: &ConfigSpace) {
        // Behind the registers come zeros, up to the end of the function.
        let _ = self.write(device, &[0; FUNCTION]);
        self.show(device, registers);
    }

    fn write(&self, device: usize, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let start = device * DEVICE;
        let slice = VolatileMemory::get_slice(self.memory.as_ref(), start, bytes.len())?;
        slice.copy_from(bytes);
        Ok(())
    }

    /// Ends it, once.
    pub fn withdraw(&self) {
        if !self.withdrawn.swap(true, Ordering::Relaxed) {
            (self.withdraw)();
        }
    }
}
