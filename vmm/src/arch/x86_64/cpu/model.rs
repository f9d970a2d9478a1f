//! What the CPUs of a machine are.

use kvm_bindings::CpuId;
use kvm_ioctls::VcpuFd;
use vm_memory::GuestMemoryError;

use super::{cpuid, registers};
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
    /// The model of `count` CPUs (up to [`MAX_CPUS`]) of `vm`.
    ///
    /// # Errors
    /// If this host's KVM lacks something that a kernel needs.
    pub(crate) fn new(vm: &Vm, count: u8) -> Result<CpuModel, KvmError> {
        let supported = cpuid::supported(vm.kvm())?;
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
