//! A machine of KVM, and which interrupt controller it will have.

use kvm_bindings::{
    KVM_CREATE_DEVICE_TEST, kvm_create_device, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{Cap, Kvm, VmFd};

use crate::arch::width;
use crate::kvm::{InterruptController, KvmError, failed};
use crate::memory::GuestRam;

/// Width of a guest's addresses in bits that KVM gives a machine if it is not asked
/// (Linux, Documentation/virt/kvm/api.rst, KVM_CREATE_VM).
const DEFAULT_BITS: u32 = 40;

/// Whether machines of this architecture can be made.
///
/// # Errors
/// Never: they can.
pub(crate) fn supported() -> Result<(), KvmError> {
    Ok(())
}

/// Makes a machine for `ram`, without interrupt controller: that comes when the CPUs are there.
///
/// # Errors
/// If this host cannot address all of the memory, has no interrupt controller for a guest, or KVM
/// refuses.
pub(crate) fn create(kvm: &Kvm, ram: &GuestRam) -> Result<(VmFd, InterruptController), KvmError> {
    // 0 where KVM has only the default (before Linux 4.20).
    let limit = u32::try_from(kvm.check_extension_int(Cap::ArmVmIPASize)).unwrap_or(0);
    let bits = if limit == 0 {
        DEFAULT_BITS
    } else {
        limit.min(DEFAULT_BITS)
    };
    width::check(ram, bits)?;
    // Hosts with fewer bits must be asked for those; all know 0, the default.
    let kind = if bits == DEFAULT_BITS { 0 } else { bits };
    let vm = kvm
        .create_vm_with_ipa_size(kind)
        .map_err(failed("create a machine"))?;
    let interrupts = [
        (
            kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
            InterruptController::GicV3,
        ),
        (
            kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2,
            InterruptController::GicV2,
        ),
    ];
    let interrupts = interrupts.into_iter().find(|(kind, _)| has(&vm, *kind));
    match interrupts {
        Some((_, interrupts)) => Ok((vm, interrupts)),
        None => Err(KvmError::Missing(
            "an interrupt controller for guests (GICv3 or GICv2)",
        )),
    }
}

/// Whether KVM could create such a device.
fn has(vm: &VmFd, kind: u32) -> bool {
    let mut device = kvm_create_device {
        type_: kind,
        fd: 0,
        flags: KVM_CREATE_DEVICE_TEST,
    };
    let tested = vm.create_device(&mut device);
    // Nothing is created, but the crate takes descriptor 0 for the new device's.
    tested.map(std::mem::forget).is_ok()
}
