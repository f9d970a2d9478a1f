//! The interrupt controller that KVM emulates for a machine.

/// The interrupt controller that KVM emulates for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptController {
    /// Local APICs and an I/O APIC (x86).
    Apic,
    /// Arm's GICv2, which takes no messages.
    GicV2,
    /// Arm's GICv3 with an interrupt translation service for messages.
    GicV3,
}
