//! What a guest's CPUs do not get, though KVM could give it: what a build has no use for and what
//! is a large part of the host's kernel, and what a host's KVM lists without its other half.

use kvm_bindings::kvm_cpuid_entry2;

use super::xsave;

/// A result register of CPUID.
#[derive(Debug, Clone, Copy)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// Bits of one answer: leaf, subleaf, register, mask.
type Bits = (u32, u32, Register, u32);

/// Bits that no guest gets (Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E).
const WITHHELD: &[Bits] = &[
    // Debug store (DTES64, DS), safer mode, performance capabilities.
    (0x1, 0, Register::Ecx, 1 << 2 | 1 << 6 | 1 << 15),
    (0x1, 0, Register::Edx, 1 << 21),
    // SGX and its launch control, processor trace, key locker, last branch records.
    (0x7, 0, Register::Ebx, 1 << 2 | 1 << 25),
    (0x7, 0, Register::Ecx, 1 << 23 | 1 << 30),
    (0x7, 0, Register::Edx, 1 << 19),
    // More performance monitoring.
    (0x7, 1, Register::Eax, 1 << 8),
    // Instruction based sampling, secure start, three kinds of performance counters.
    (
        0x8000_0001,
        0,
        Register::Ecx,
        1 << 10 | 1 << 12 | 1 << 23 | 1 << 24 | 1 << 28,
    ),
];

/// Leaves that no guest gets: performance monitoring (0xa, 0x23; AMD 0x8000_0022, and IBS in
/// 0x8000_001b), SGX (0x12), processor trace (0x14), key locker (0x19), last branch records (0x1c),
/// trust domains (0x21), memory encryption (0x8000_001f).
const WITHHELD_LEAVES: &[u32] = &[
    0xa,
    0x12,
    0x14,
    0x19,
    0x1c,
    0x21,
    0x23,
    0x8000_001b,
    0x8000_001f,
    0x8000_0022,
];

/// Virtual machines in the guest: VMX, SVM, and what SVM has (0x8000_000a). KVM refuses the control
/// bits of both (CR4.VMXE, EFER.SVME), their instructions and the registers of VMX to a CPU that
/// does not have these.
const NESTED: &[Bits] = &[
    (0x1, 0, Register::Ecx, 1 << 5),
    (0x8000_0001, 0, Register::Ecx, 1 << 2),
];
const NESTED_LEAVES: &[u32] = &[0x8000_000a];

/// The matrix extensions: AMX-BF16, AMX-TILE, AMX-INT8; AMX-FP16, AMX-COMPLEX; their two leaves.
const AMX: &[Bits] = &[
    (0x7, 0, Register::Edx, 1 << 22 | 1 << 24 | 1 << 25),
    (0x7, 1, Register::Eax, 1 << 21),
    (0x7, 1, Register::Edx, 1 << 8),
];
const AMX_LEAVES: &[u32] = &[0x1d, 0x1e];

/// Bounds registers (MPX).
const MPX: &[Bits] = &[(0x7, 0, Register::Ebx, 1 << 14)];

/// Takes out of `entries` what the guest does not get. With `nested`, it may run virtual machines
/// itself, as far as this host's KVM allows that.
pub(super) fn apply(entries: &mut Vec<kvm_cpuid_entry2>, nested: bool) {
    withhold(entries, WITHHELD, WITHHELD_LEAVES);
    if !nested {
        withhold(entries, NESTED, NESTED_LEAVES);
    }
    let features = xsave::restrict(entries);
    if features & xsave::TILES != xsave::TILES {
        withhold(entries, AMX, AMX_LEAVES);
    }
    if features & xsave::BOUNDS != xsave::BOUNDS {
        withhold(entries, MPX, &[]);
    }
}

fn withhold(entries: &mut Vec<kvm_cpuid_entry2>, bits: &[Bits], leaves: &[u32]) {
    entries.retain(|entry| !leaves.contains(&entry.function));
    for entry in entries {
        for &(leaf, subleaf, register, mask) in bits {
            if (entry.function, entry.index) == (leaf, subleaf) {
                let value = match register {
                    Register::Eax => &mut entry.eax,
                    Register::Ebx => &mut entry.ebx,
                    Register::Ecx => &mut entry.ecx,
                    Register::Edx => &mut entry.edx,
                };
                *value &= !mask;
            }
        }
    }
}

/// Bits of the largest physical address that a guest with these leaves can use.
pub(super) fn address_bits(entries: &[kvm_cpuid_entry2]) -> u32 {
    /// Without the leaf that says it (Intel SDM volume 3A, 4.1.4).
    const LEAST: u32 = 36;
    let leaf = entries.iter().find(|entry| entry.function == 0x8000_0008);
    let Some(leaf) = leaf.filter(|leaf| leaf.eax & 0xff != 0) else {
        return LEAST;
    };
    let (processor, guest) = (leaf.eax & 0xff, leaf.eax >> 16 & 0xff);
    // Since Linux 6.9 KVM says there what its page tables reach, if it is less.
    if guest == 0 {
        processor
    } else {
        processor.min(guest)
    }
}
