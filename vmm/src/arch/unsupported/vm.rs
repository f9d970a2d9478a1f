//! No machine.

use kvm_ioctls::VmFd;

use crate::kvm::KvmError;

/// Whether machines of this architecture can be made.
///
/// # Errors
/// Always: they cannot.
pub fn supported() -> Result<(), KvmError> {
    Err(KvmError::Architecture(std::env::consts::ARCH))
}

pub fn set_up(_vm: &VmFd) -> Result<(), KvmError> {
    supported()
}
