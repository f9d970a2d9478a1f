//! KVM's interrupt controllers of a PC.

use kvm_ioctls::VmFd;

use super::layout;
use crate::kvm::{KvmError, failed};

/// Whether machines of this architecture can be made.
///
/// # Errors
/// Never: they can.
pub(crate) fn supported() -> Result<(), KvmError> {
    Ok(())
}

/// Sets a fresh machine up, before its first CPU is made: local APICs, I/O APIC and PIC in the
/// kernel.
///
/// # Errors
/// If KVM refuses.
pub(crate) fn set_up(vm: &VmFd) -> Result<(), KvmError> {
    // Its address must be set before the first CPU is made (Intel).
    vm.set_tss_address(layout::KVM_TSS as usize)
        .map_err(failed("set the address of the task state segment"))?;
    vm.create_irq_chip()
        .map_err(failed("create interrupt controllers"))
}
