//! What a CPU was doing, in words, and why it ended the run.

use std::fmt::Write as _;

use kvm_bindings::{KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::registers::{self, ESR_EL1, FAR_EL1, PC, PSTATE, SCTLR_EL1, SP_EL1, x};
use crate::bus::Effect;

/// Guest address of the next instruction.
pub(crate) fn position(vcpu: &VcpuFd) -> Option<u64> {
    registers::get(vcpu, PC).ok()
}

/// The registers that tell why a CPU could not go on, to follow "CPU 0".
pub(crate) fn describe(vcpu: &VcpuFd) -> String {
    let mut text = String::new();
    if let Some(position) = position(vcpu) {
        let _ = write!(text, " at {position:#x}");
    }
    let others = [
        ("pstate", PSTATE),
        ("sp", SP_EL1),
        ("lr", x(30)),
        ("sctlr", SCTLR_EL1),
        ("esr", ESR_EL1),
        ("far", FAR_EL1),
    ];
    for (name, register) in others {
        if let Ok(value) = registers::get(vcpu, register) {
            let _ = write!(text, ", {name} {value:#x}");
        }
    }
    text
}

/// Why the guest ended, if `exit` says so: it asked PSCI, which KVM has for it.
pub(crate) fn reason(exit: &VcpuExit<'_>) -> Effect {
    match exit {
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => Effect::PowerOff,
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => Effect::Reset,
        _ => Effect::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_and_reset_end_a_run_and_a_crash_is_no_wish() {
        let reason = |kind| reason(&VcpuExit::SystemEvent(kind, &[]));
        assert_eq!(reason(KVM_SYSTEM_EVENT_SHUTDOWN), Effect::PowerOff);
        assert_eq!(reason(KVM_SYSTEM_EVENT_RESET), Effect::Reset);
        assert_eq!(reason(3), Effect::None);
    }
}
