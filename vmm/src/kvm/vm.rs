//! A machine of KVM.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::{Arc, OnceLock};

use kvm_bindings::{KVM_MEM_READONLY, kvm_msi, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress, MmapRegion};
use vmm_sys_util::eventfd::EventFd;

use super::error::{KvmError, failed};
use super::interrupts::InterruptController;
use super::traits::{IoEvents, MsiSink};
use crate::memory::GuestRam;

/// A virtual machine with interrupt controllers and RAM, without CPUs.
pub struct Vm {
    kvm: Kvm,
    fd: VmFd,
    interrupts: InterruptController,
    /// The slots point into it.
    ram: GuestRam,
    /// The slot behind those of RAM points into this.
    read_only: OnceLock<(u64, Arc<MmapRegion>)>,
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm")
            .field("ram", &self.ram)
            .finish_non_exhaustive()
    }
}

/// `KVM_API_VERSION` (Linux, Documentation/virt/kvm/api.rst).
const API_VERSION: i32 = 12;

impl Vm {
    /// Creates a machine of `device`, an open `/dev/kvm`, with `ram`. `create` is what the
    /// architecture has for that ([`arch`](crate::arch)); it prepares the machine for its CPUs.
    ///
    /// # Errors
    /// If the host has no usable KVM, or it refuses.
    pub(crate) fn new(
        device: Option<File>,
        ram: GuestRam,
        create: impl FnOnce(&Kvm, &GuestRam) -> Result<(VmFd, InterruptController), KvmError>,
    ) -> Result<Vm, KvmError> {
        let kvm = match device {
            // SAFETY: the descriptor is open and belongs to nothing else any more.
            Some(device) => unsafe { Kvm::from_raw_fd(device.into_raw_fd()) },
            None => Kvm::new().map_err(|error| KvmError::Open(error.into()))?,
        };
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(KvmError::Api(version));
        }
        let (fd, interrupts) = create(&kvm, &ram)?;
        if !fd.check_extension(Cap::ImmediateExit) {
            return Err(KvmError::Missing("KVM_CAP_IMMEDIATE_EXIT"));
        }
        let vm = Vm {
            kvm,
            fd,
            interrupts,
            ram,
            read_only: OnceLock::new(),
        };
        vm.add_slots()?;
        Ok(vm)
    }

    fn add_slots(&self) -> Result<(), KvmError> {
        for (slot, region) in self.ram.iter().enumerate() {
            let host = region
                .get_host_address(MemoryRegionAddress(0))
                .map_err(|_| KvmError::Missing("memory"))?;
            let slot = kvm_userspace_memory_region {
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: host as u64,
            };
            // SAFETY: the memory is mapped as long as `self.ram` lives, which is longer than
            // the machine: KVM keeps the slots no longer than the last descriptor, and every
            // thread that runs a CPU keeps the `Vm` alive.
            unsafe { self.fd.set_user_memory_region(slot) }.map_err(failed("map guest memory"))?;
        }
        Ok(())
    }

    /// Lets the guest read `memory` at `address` without our help; what it writes there still
    /// reaches the buses. Can be done once.
    ///
    /// # Errors
    /// If KVM refuses (it cannot, without KVM_CAP_READONLY_MEM), or it has been done.
    pub(crate) fn map_read_only(
        &self,
        address: u64,
        memory: Arc<MmapRegion>,
    ) -> Result<(), KvmError> {
        self.read_only
            .set((address, memory))
            .map_err(|_| KvmError::Missing("a second range of read-only memory"))?;
        self.set_read_only(true)
    }

    /// Ends [`map_read_only`](Self::map_read_only): reads reach the buses again.
    pub(crate) fn unmap_read_only(&self) -> Result<(), KvmError> {
        self.set_read_only(false)
    }

    fn set_read_only(&self, mapped: bool) -> Result<(), KvmError> {
        let Some((address, memory)) = self.read_only.get() else {
            return Ok(());
        };
        let slot = kvm_userspace_memory_region {
            slot: self.ram.iter().count() as u32,
            flags: KVM_MEM_READONLY,
            guest_phys_addr: *address,
            // Size 0 removes the slot.
            memory_size: if mapped { memory.size() as u64 } else { 0 },
            userspace_addr: memory.as_ptr() as u64,
        };
        // SAFETY: the memory lives in `self`, as the RAM does.
        unsafe { self.fd.set_user_memory_region(slot) }.map_err(failed("map read-only memory"))
    }

    /// Returns the guest's RAM.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Returns the handle of /dev/kvm.
    pub(crate) fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// Returns the machine's descriptor.
    pub(crate) fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Returns which interrupt controller it has.
    pub fn interrupts(&self) -> InterruptController {
        self.interrupts
    }

    /// Sends a message-signalled interrupt.
    pub(crate) fn signal(&self, msi: kvm_msi) {
        // The guest chose address and data. A wrong message is lost.
        if let Err(error) = self.fd.signal_msi(msi) {
            log::debug!(
                "interrupt {:#x} to {:#x}{:08x} is lost: {error}",
                msi.data,
                msi.address_hi,
                msi.address_lo
            );
        }
    }

    /// Raises and lowers a pin of the interrupt controller: one edge.
    pub(crate) fn pulse(&self, pin: u32) -> io::Result<()> {
        self.fd.set_irq_line(pin, true)?;
        Ok(self.fd.set_irq_line(pin, false)?)
    }
}

impl MsiSink for Vm {
    fn send(&self, address: u64, data: u32) {
        self.signal(kvm_msi {
            address_lo: address as u32,
            address_hi: (address >> 32) as u32,
            data,
            ..kvm_msi::default()
        });
    }
}

impl IoEvents for Vm {
    fn attach(&self, event: &EventFd, address: u64) -> io::Result<()> {
        let address = IoEventAddress::Mmio(address);
        Ok(self.fd.register_ioevent(event, &address, NoDatamatch)?)
    }

    fn detach(&self, event: &EventFd, address: u64) {
        let address = IoEventAddress::Mmio(address);
        if let Err(error) = self.fd.unregister_ioevent(event, &address, NoDatamatch) {
            log::debug!("cannot detach a notification: {error}");
        }
    }
}
