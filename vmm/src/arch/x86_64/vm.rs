//! KVM's interrupt controllers of a PC.

use kvm_bindings::{KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE, kvm_enable_cap};
use kvm_ioctls::{Kvm, VmFd};

use super::layout;
use crate::kvm::{InterruptController, KvmError, failed};
use crate::memory::GuestRam;

/// Whether machines of this architecture can be made.
///
/// # Errors
/// Never: they can.
pub(crate) fn supported() -> Result<(), KvmError> {
    Ok(())
}

/// Makes a machine: with local APICs, I/O APIC and PIC in the kernel, and without performance
/// counters, which its CPUs do not list either.
///
/// # Errors
/// If KVM refuses.
pub(crate) fn create(kvm: &Kvm, _ram: &GuestRam) -> Result<(VmFd, InterruptController), KvmError> {
    let vm = kvm.create_vm().map_err(failed("create a machine"))?;
    // Its address must be set before the first CPU is made (Intel).
    vm.set_tss_address(layout::KVM_TSS as usize)
        .map_err(failed("set the address of the task state segment"))?;
    vm.create_irq_chip()
        .map_err(failed("create interrupt controllers"))?;
    disable_counters(&vm);
    Ok((vm, InterruptController::Apic))
}

/// Takes the registers of the performance counters away. Before Linux 5.18 KVM cannot.
fn disable_counters(vm: &VmFd) {
    let can = vm.check_extension_raw(KVM_CAP_PMU_CAPABILITY.into());
    if u32::try_from(can).is_ok_and(|can| can & KVM_PMU_CAP_DISABLE != 0) {
        let mut disable = kvm_enable_cap {
            cap: KVM_CAP_PMU_CAPABILITY,
            ..kvm_enable_cap::default()
        };
        disable.args[0] = KVM_PMU_CAP_DISABLE.into();
        if let Err(error) = vm.enable_cap(&disable) {
            log::debug!("the guest keeps its performance counters: {error}");
        }
    }
}
