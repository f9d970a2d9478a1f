//! What the CPUs of a machine are.

use kvm_bindings::CpuId;
use kvm_ioctls::VcpuFd;
use vm_memory::GuestMemoryError;

use super::{cpuid, policy, registers};
use crate::arch::width;
use crate::kvm::{KvmError, Vm, failed};
use crate::memory::GuestRam;

/// The most CPUs: their APIC ids must fit the 8 bits of a MADT entry, and 255 means all.
pub(crate) const MAX_CPUS: u32 = 254;

/// What all CPUs of a machine have in common.
pub(crate) struct CpuModel {
    supported: CpuId,
    count: u8,
    tsc_khz: Option<u32>,
}

impl CpuModel {
    /// The model of `count` CPUs (up to [`MAX_CPUS`]) of `vm`. With `nested`, they can run virtual
    /// machines themselves, as far as this host's KVM allows that.
    ///
    /// # Errors
    /// If this host's KVM lacks something that a kernel needs, or its processor cannot address all
    /// of the machine's memory.
    pub(crate) fn new(vm: &Vm, count: u8, nested: bool) -> Result<CpuModel, KvmError> {
        let supported = cpuid::supported(vm.kvm(), nested)?;
        width::check(vm.ram(), policy::address_bits(supported.as_slice()))?;
        if !cpuid::has_kvm_clock(&supported) {
            return Err(KvmError::Missing("the paravirtual clock"));
        }
        Ok(CpuModel {
            supported,
            count,
            tsc_khz: None,
        })
    }

    /// Writes what the first instructions need into RAM.
    ///
    /// # Errors
    /// If it does not fit.
    pub(crate) fn write_tables(&self, ram: &GuestRam) -> Result<(), GuestMemoryError> {
        registers::write_tables(ram)
    }

    /// Sets CPU `id` up. CPU 0 comes first.
    ///
    /// # Errors
    /// If KVM refuses.
    pub(crate) fn set_up(&mut self, vcpu: &VcpuFd, id: u8) -> Result<(), KvmError> {
        if id == 0 {
            self.tsc_khz = vcpu.get_tsc_khz().ok().filter(|&khz| khz > 0);
        }
        let cpuid = cpuid::for_cpu(&self.supported, id, self.count, self.tsc_khz);
        vcpu.set_cpuid2(&cpuid)
            .map_err(failed("set the features of a CPU"))?;
        registers::set_msrs(vcpu)
    }
}

/// What is still to be done when all CPUs are set up.
///
/// # Errors
/// Never: nothing is.
pub(crate) fn finish(_vm: &Vm) -> Result<(), KvmError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::allocate;

    #[test]
    fn memory_beyond_the_processors_addresses_is_refused() {
        let ram = allocate(8 << 10).unwrap();
        assert!(width::check(&ram, 39).is_ok());
        assert!(width::check(&ram, 34).is_ok());
        let error = width::check(&ram, 33).unwrap_err();
        assert_eq!(
            error.to_string(),
            "8192 MiB of memory are more than the 33 bits of address that this host's processor \
             has for a guest: at most 7168 MiB"
        );
    }
}
