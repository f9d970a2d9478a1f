//! What the CPUs of a machine are: as KVM has them, which is as the host's are.

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_ARM_VCPU_PTRAUTH_ADDRESS,
    KVM_ARM_VCPU_PTRAUTH_GENERIC, KVM_ARM_VCPU_SVE, KVM_CAP_ARM_PTRAUTH_ADDRESS,
    KVM_CAP_ARM_PTRAUTH_GENERIC, KVM_CAP_ARM_SVE, kvm_vcpu_init,
};
use kvm_ioctls::VcpuFd;
use vm_memory::GuestMemoryError;

use crate::arch::aarch64::gic;
use crate::kvm::{InterruptController, KvmError, Vm, failed};
use crate::memory::GuestRam;

/// The most CPUs of a machine with a GICv3; KVM itself has 512.
pub(crate) const MAX_CPUS: u32 = 254;
/// The most CPUs that a GICv2 serves.
const GIC_V2_CPUS: u8 = 8;

/// What all CPUs of a machine have in common.
pub(crate) struct CpuModel {
    init: kvm_vcpu_init,
}

impl CpuModel {
    /// The model of `count` CPUs of `vm`, without performance counters. They cannot run virtual
    /// machines themselves, also with `nested`.
    ///
    /// # Errors
    /// If this host's KVM lacks something that a kernel needs.
    pub(crate) fn new(vm: &Vm, count: u8, nested: bool) -> Result<CpuModel, KvmError> {
        if vm.interrupts() == InterruptController::GicV2 && count > GIC_V2_CPUS {
            return Err(KvmError::Missing(
                "an interrupt controller for more than 8 CPUs (GICv3)",
            ));
        }
        let mut init = kvm_vcpu_init::default();
        vm.fd()
            .get_preferred_target(&mut init)
            .map_err(failed("say what CPUs it has"))?;
        let has = |cap: u64| vm.kvm().check_extension_raw(cap) > 0;
        enable(&mut init, KVM_ARM_VCPU_PSCI_0_2);
        if has(KVM_CAP_ARM_SVE.into()) {
            enable(&mut init, KVM_ARM_VCPU_SVE);
        }
        // Both or none (Linux, Documentation/virt/kvm/api.rst, KVM_ARM_VCPU_INIT).
        if has(KVM_CAP_ARM_PTRAUTH_ADDRESS.into()) && has(KVM_CAP_ARM_PTRAUTH_GENERIC.into()) {
            enable(&mut init, KVM_ARM_VCPU_PTRAUTH_ADDRESS);
            enable(&mut init, KVM_ARM_VCPU_PTRAUTH_GENERIC);
        }
        if nested {
            log::warn!("the box cannot run virtual machines itself: not on Arm yet");
        }
        Ok(CpuModel { init })
    }

    /// Writes what the first instructions need into RAM: nothing.
    ///
    /// # Errors
    /// None.
    pub(crate) fn write_tables(&self, _ram: &GuestRam) -> Result<(), GuestMemoryError> {
        Ok(())
    }

    /// Sets CPU `id` up. All but the first wait until the guest starts them.
    ///
    /// # Errors
    /// If KVM refuses.
    pub(crate) fn set_up(&mut self, vcpu: &VcpuFd, id: u8) -> Result<(), KvmError> {
        let mut init = self.init;
        if id > 0 {
            enable(&mut init, KVM_ARM_VCPU_POWER_OFF);
        }
        vcpu.vcpu_init(&init)
            .map_err(failed("set the features of a CPU"))?;
        if is_enabled(&init, KVM_ARM_VCPU_SVE) {
            vcpu.vcpu_finalize(&(KVM_ARM_VCPU_SVE as i32))
                .map_err(failed("set the vectors of a CPU"))?;
        }
        Ok(())
    }
}

/// Creates the interrupt controller, when all CPUs are set up.
///
/// # Errors
/// If KVM refuses.
pub(crate) fn finish(vm: &Vm) -> Result<(), KvmError> {
    gic::create(vm.fd(), vm.interrupts())
}

fn enable(init: &mut kvm_vcpu_init, feature: u32) {
    if let Some(features) = init.features.first_mut() {
        *features |= 1 << feature;
    }
}

fn is_enabled(init: &kvm_vcpu_init, feature: u32) -> bool {
    init.features
        .first()
        .is_some_and(|features| features >> feature & 1 != 0)
}
