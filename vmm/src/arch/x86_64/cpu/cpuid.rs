//! What the guest's CPUs say they are: the host's CPU as far as KVM can give it, with our
//! topology.

use std::arch::x86_64::__cpuid;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

use super::policy;
use crate::kvm::{KvmError, failed};

/// Leaf 1: feature bits and APIC id.
const FEATURES: u32 = 1;
/// Leaf 1, ecx: timer that counts in TSC ticks; KVM emulates it but does not list it before
/// Linux 6.9.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ecx: runs under a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, edx: the count of logical processors in ebx is valid.
const MULTI_THREADING: u32 = 1 << 28;
/// Leaf 4: caches (Intel).
const CACHES: u32 = 4;
/// Leaves 0xb and 0x1f: topology with x2APIC ids, and AMD's own.
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_V2: u32 = 0x1f;
const AMD_TOPOLOGY_V2: u32 = 0x8000_0026;
/// First leaf of the hypervisor: `KVMKVMKVM`.
const KVM_SIGNATURE: u32 = 0x4000_0000;
/// Paravirtual features of KVM.
const KVM_FEATURES: u32 = 0x4000_0001;
/// Paravirtual end of interrupt (`KVM_FEATURE_PV_EOI`): the guest ends most interrupts without
/// an exit.
const PV_EOI: u32 = 1 << 6;
/// Leaf with TSC and APIC frequencies in kHz, first VMware's, now common to hypervisors.
const TIMING: u32 = 0x4000_0010;
/// KVM's APIC timer counts at this frequency: `APIC_BUS_CYCLE_NS` is 1.
const APIC_KHZ: u32 = 1_000_000;
/// AMD: number of cores and width of the APIC id.
const AMD_CORES: u32 = 0x8000_0008;
/// AMD: caches.
const AMD_CACHES: u32 = 0x8000_001d;
/// AMD: extended APIC id, core, node.
const AMD_TOPOLOGY: u32 = 0x8000_001e;

/// What CPU `id` of `count` shall answer, from what KVM supports.
///
/// All CPUs are cores of one package, without threads: the schedulers of guest and host then
/// agree that each can run on its own.
pub(super) fn for_cpu(supported: &CpuId, id: u8, count: u8, tsc_khz: Option<u32>) -> CpuId {
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| {
            !matches!(
                entry.function,
                TOPOLOGY | TOPOLOGY_V2 | AMD_TOPOLOGY_V2 | TIMING
            )
        })
        .copied()
        .collect();
    let bits = id_bits(count);
    for entry in &mut entries {
        adapt(entry, id, count, bits, tsc_khz.is_some());
    }
    if supported
        .as_slice()
        .iter()
        .any(|entry| entry.function == TOPOLOGY)
    {
        entries.extend(topology(id, count, bits));
    }
    if let Some(khz) = tsc_khz {
        entries.push(kvm_cpuid_entry2 {
            function: TIMING,
            eax: khz,
            ebx: APIC_KHZ,
            ..Default::default()
        });
    }
    entries.truncate(KVM_MAX_CPUID_ENTRIES);
    // Not longer than the largest such list, so this does not fail.
    CpuId::from_entries(&entries).unwrap_or_else(|_| supported.clone())
}

/// Bits of an APIC id that tell the CPUs of the package apart.
fn id_bits(count: u8) -> u32 {
    u32::from(count).next_power_of_two().trailing_zeros()
}

fn adapt(entry: &mut kvm_cpuid_entry2, id: u8, count: u8, bits: u32, timing: bool) {
    let (id, count) = (u32::from(id), u32::from(count));
    match entry.function {
        FEATURES => {
            entry.ecx |= HYPERVISOR;
            // APIC id, logical processors, and the host's cache line size as it is.
            entry.ebx = entry.ebx & 0xffff | id << 24 | count << 16;
            entry.edx &= !MULTI_THREADING;
            if count > 1 {
                entry.edx |= MULTI_THREADING;
            }
        }
        CACHES => {
            // Cores of the package - 1; the innermost two caches belong to one core, the
            // outer ones to all.
            entry.eax &= 0x3fff;
            let level = entry.eax >> 5 & 7;
            if entry.eax & 0x1f != 0 {
                entry.eax |= ((1 << bits) - 1) << 26;
                if level > 2 {
                    entry.eax |= (count - 1) << 14;
                }
            }
        }
        KVM_SIGNATURE if timing => entry.eax = entry.eax.max(TIMING),
        AMD_CORES => entry.ecx = entry.ecx & !0xf0ff | bits << 12 | (count - 1),
        AMD_CACHES => {
            entry.eax &= 0x3fff;
            if entry.eax >> 5 & 7 > 2 {
                entry.eax |= (count - 1) << 14;
            }
        }
        AMD_TOPOLOGY => {
            // Core id, one thread per core, node 0 of 1.
            entry.eax = id;
            entry.ebx = id;
            entry.ecx = 0;
        }
        _ => {}
    }
}

/// Leaf 0xb: a level of threads (one each), a level of cores, the end.
fn topology(id: u8, count: u8, bits: u32) -> [kvm_cpuid_entry2; 3] {
    /// The answer depends on ecx (`KVM_CPUID_FLAG_SIGNIFCANT_INDEX`).
    const INDEXED: u32 = 1;
    const THREADS: u32 = 1 << 8;
    const CORES: u32 = 2 << 8;
    let level = |index: u32, eax: u32, ebx: u32, kind: u32| kvm_cpuid_entry2 {
        function: TOPOLOGY,
        index,
        flags: INDEXED,
        eax,
        ebx,
        ecx: index | kind,
        edx: u32::from(id),
        ..Default::default()
    };
    [
        level(0, 0, 1, THREADS),
        level(1, bits, u32::from(count), CORES),
        level(2, 0, 0, 0),
    ]
}

/// What a guest's CPU gets of what this host's KVM can give it. With `nested`, it may run virtual
/// machines itself.
pub(super) fn supported(kvm: &Kvm, nested: bool) -> Result<CpuId, KvmError> {
    let mut cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(failed("list the features of its CPUs"))?;
    let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    for entry in cpuid.as_mut_slice() {
        if entry.function == FEATURES && deadline {
            entry.ecx |= TSC_DEADLINE;
        }
        if entry.function == KVM_FEATURES && host_is_emulated() {
            entry.eax &= !PV_EOI;
        }
    }
    Ok(restricted(&cpuid, nested))
}

/// What is left of `listed` when [`policy`] has been applied.
fn restricted(listed: &CpuId, nested: bool) -> CpuId {
    let mut entries = listed.as_slice().to_vec();
    policy::apply(&mut entries, nested);
    // Not longer than the list that it is made of, so this does not fail.
    CpuId::from_entries(&entries).unwrap_or_else(|_| listed.clone())
}

/// Whether the host's own processor is one that QEMU emulates (TCG, with SVM).
///
/// After an entry with an interrupt, TCG (seen in QEMU 10.0) keeps that interrupt's vector as a
/// pending exception until the next exit; if another thread stops the CPU for a moment in the
/// meantime, the guest gets the interrupt a second time, even where it has switched interrupts
/// off. Ending an interrupt by an exit keeps that time as short as it can be (docs/lab.md).
fn host_is_emulated() -> bool {
    const SIGNATURE: [u32; 3] = [
        u32::from_le_bytes(*b"TCGT"),
        u32::from_le_bytes(*b"CGTC"),
        u32::from_le_bytes(*b"GTCG"),
    ];
    // Processors without a hypervisor answer something else, or the last leaf that they have.
    let leaf = __cpuid(KVM_SIGNATURE);
    [leaf.ebx, leaf.ecx, leaf.edx] == SIGNATURE
}

/// Whether the paravirtual clock is there; without it a guest has no way to learn the TSC's
/// frequency, because there is no PIT to measure it by.
pub(super) fn has_kvm_clock(supported: &CpuId) -> bool {
    /// `KVM_FEATURE_CLOCKSOURCE2` (Linux, Documentation/virt/kvm/x86/cpuid.rst).
    const CLOCKSOURCE2: u32 = 1 << 3;
    supported
        .as_slice()
        .iter()
        .any(|entry| entry.function == KVM_FEATURES && entry.eax & CLOCKSOURCE2 != 0)
}

#[cfg(test)]
mod tests;
