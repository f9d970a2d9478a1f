//! No machine.

use kvm_ioctls::{Kvm, VmFd};

use crate::kvm::{InterruptController, KvmError};
use crate::memory::GuestRam;

/// Whether machines of this architecture can be made.
///
/// # Errors
/// Always: they cannot.
pub fn supported() -> Result<(), KvmError> {
    Err(KvmError::Architecture(std::env::consts::ARCH))
}

pub(crate) fn create(_kvm: &Kvm, _ram: &GuestRam) -> Result<(VmFd, InterruptController), KvmError> {
    Err(KvmError::Architecture(std::env::consts::ARCH))
}
