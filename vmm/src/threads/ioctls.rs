//! The ioctls of KVM that running threads make (Linux `uapi/linux/kvm.h`).

use boxbuild_jail::seccomp::{Check, Condition, Rule};
use kvm_bindings::{kvm_ioeventfd, kvm_irq_level, kvm_msi, kvm_userspace_memory_region};

const KVMIO: u32 = 0xae;

/// Directions of arguments (Linux `uapi/asm-generic/ioctl.h`).
const NONE: u32 = 0;
const WRITE: u32 = 1;
#[cfg(target_arch = "x86_64")]
const READ: u32 = 2;

const fn number<T>(direction: u32, number: u32) -> u32 {
    direction << 30 | (size_of::<T>() as u32) << 16 | KVMIO << 8 | number
}

/// An ioctl with this number.
macro_rules! ioctl {
    ($number:expr) => {
        Rule::when(libc::SYS_ioctl, &[Condition::new(1, Check::Is($number))])
    };
}

/// Interrupts a guest with a message.
const SIGNAL_MSI: Rule = ioctl!(number::<kvm_msi>(WRITE, 0xa5));

/// The interrupts of a device: on Arm also by a line, where its GICv2 takes no messages.
pub(super) const INTERRUPTS: &[Rule] = &[
    SIGNAL_MSI,
    #[cfg(target_arch = "aarch64")]
    IRQ_LINE,
];

/// Raises or lowers a line of the interrupt controller: KVM_IRQ_LINE.
const IRQ_LINE: Rule = ioctl!(number::<kvm_irq_level>(WRITE, 0x61));

/// A CPU, and what its accesses to the registers of devices ask of KVM.
pub(super) const VCPU: &[Rule] = &[
    // KVM_RUN
    ioctl!(number::<()>(NONE, 0x80)),
    SIGNAL_MSI,
    IRQ_LINE,
    // KVM_IOEVENTFD
    ioctl!(number::<kvm_ioeventfd>(WRITE, 0x79)),
    // KVM_SET_USER_MEMORY_REGION, which hides configuration space.
    ioctl!(number::<kvm_userspace_memory_region>(WRITE, 0x46)),
    // KVM_GET_ONE_REG, for the report of an exit that nothing can be done about.
    #[cfg(target_arch = "aarch64")]
    ioctl!(number::<kvm_bindings::kvm_one_reg>(WRITE, 0xab)),
    // KVM_GET_REGS, KVM_GET_SREGS and KVM_GET_VCPU_EVENTS, for the report of a triple fault.
    #[cfg(target_arch = "x86_64")]
    ioctl!(number::<kvm_bindings::kvm_regs>(READ, 0x81)),
    #[cfg(target_arch = "x86_64")]
    ioctl!(number::<kvm_bindings::kvm_sregs>(READ, 0x83)),
    #[cfg(target_arch = "x86_64")]
    ioctl!(number::<kvm_bindings::kvm_vcpu_events>(READ, 0x9f)),
];
