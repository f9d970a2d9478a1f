//! The extended state of a CPU (Intel SDM volume 1, chapter 13): which parts of it a guest can
//! switch on.

use kvm_bindings::kvm_cpuid_entry2;

/// The leaf that lists it.
const LEAF: u32 = 0xd;
/// The legacy area and the header, which each layout begins with.
const BEGIN: u32 = 512 + 64;

/// Bits of XCR0 that can only be set together, with the one that they need besides: a CPU that lists a
/// part of them faults in the kernel that sets all that is listed (Intel SDM volume 1, 13.3).
const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
/// Bounds registers and their configuration (MPX).
pub(super) const BOUNDS: u64 = 1 << 3 | 1 << 4;
/// Masks, the upper halves of registers, and the upper registers of AVX-512.
const AVX512: u64 = 1 << 5 | 1 << 6 | 1 << 7;
/// Configuration and data of tiles (AMX). Linux 5.17 to 6.3 lists the first without the second in a
/// process that has not asked for tiles (`ARCH_REQ_XCOMP_GUEST_PERM`, Linux
/// Documentation/arch/x86/xstate.rst), which we never do: 8 KiB more for each thread.
pub(super) const TILES: u64 = 1 << 17 | 1 << 18;

const GROUPS: [(u64, u64); 5] = [
    (SSE, X87),
    (AVX, SSE),
    (BOUNDS, X87),
    (AVX512, AVX),
    (TILES, X87),
];

/// What of `features` can be set at once: all that is left of them.
fn complete(mut features: u64) -> u64 {
    for (group, needs) in GROUPS {
        if features & group != group || features & needs != needs {
            features &= !group;
        }
    }
    features
}

/// Lists only what a guest can switch on at once, with the room that it takes. Returns the bits
/// of XCR0 that are left, 0 without XSAVE.
pub(super) fn restrict(entries: &mut Vec<kvm_cpuid_entry2>) -> u64 {
    let is_list = |entry: &kvm_cpuid_entry2| (entry.function, entry.index) == (LEAF, 0);
    let Some(list) = entries.iter().find(|entry| is_list(entry)) else {
        return 0;
    };
    let offered = u64::from(list.edx) << 32 | u64::from(list.eax);
    let features = complete(offered);
    if features == offered {
        return features;
    }
    let gone = offered & !features;
    // Subleaves 0 and 1 list, the others are the parts with these numbers.
    let is_part = |entry: &kvm_cpuid_entry2| entry.function == LEAF && entry.index > 1;
    entries.retain(|entry| !(is_part(entry) && has(gone, entry.index)));
    let parts = entries
        .iter()
        .filter(|entry| is_part(entry) && has(features, entry.index));
    // Size and offset of a part.
    let ends = parts.map(|part| part.eax.saturating_add(part.ebx));
    let most = ends.fold(BEGIN, u32::max);
    for list in entries.iter_mut().filter(|entry| is_list(entry)) {
        (list.eax, list.edx) = (features as u32, (features >> 32) as u32);
        // For what is switched on (KVM keeps that up to date), and for all that can be.
        list.ebx = list.ebx.min(most);
        list.ecx = most;
    }
    features
}

/// Whether part `index` is one of `features`.
fn has(features: u64, index: u32) -> bool {
    features.checked_shr(index).unwrap_or(0) & 1 != 0
}
