//! What a CPU was doing, in words.

use std::fmt::Write as _;

use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::bus::Effect;

/// Guest address of the next instruction.
pub(crate) fn position(vcpu: &VcpuFd) -> Option<u64> {
    vcpu.get_regs().ok().map(|regs| regs.rip)
}

/// The registers that tell why a CPU could not go on, to follow "CPU 0".
pub(crate) fn describe(vcpu: &VcpuFd) -> String {
    let mut text = String::new();
    if let (Ok(regs), Ok(sregs)) = (vcpu.get_regs(), vcpu.get_sregs()) {
        let _ = write!(
            text,
            " at {:#x}: rsp {:#x}, rflags {:#x}, cr0 {:#x}, cr2 {:#x}, cr3 {:#x}, cr4 {:#x}, \
             cs {:#x}, gs {:#x}, idt {:#x}",
            regs.rip,
            regs.rsp,
            regs.rflags,
            sregs.cr0,
            sregs.cr2,
            sregs.cr3,
            sregs.cr4,
            sregs.cs.selector,
            sregs.gs.base,
            sregs.idt.base,
        );
    }
    if let Ok(events) = vcpu.get_vcpu_events() {
        let _ = write!(
            text,
            ", exception {} (error {:#x}, injected {}), interrupt {} (injected {})",
            events.exception.nr,
            events.exception.error_code,
            events.exception.injected,
            events.interrupt.nr,
            events.interrupt.injected,
        );
    }
    text
}

/// Why the guest ended, if `exit` says so: on x86 it writes a register for that.
pub(crate) fn reason(_exit: &VcpuExit<'_>) -> Effect {
    Effect::None
}
