//! The state in which a CPU meets the kernel: 64-bit mode, paging on, everything flat (Linux,
//! Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::arch::x86_64::boot::Entry;
use crate::arch::x86_64::layout;
use crate::kvm::{KvmError, Vm, failed};
use crate::memory::GuestRam;

/// `__BOOT_CS`, as the protocol wants it.
const CODE_SELECTOR: u16 = 0x10;
/// `__BOOT_DS`.
const DATA_SELECTOR: u16 = 0x18;
/// The descriptors of both, behind two unused ones: base 0, limit 4 GiB; code is 64 bit.
const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Present and writable; a table below.
const TABLE: u64 = 3;
/// Present, writable, a page of 2 MiB.
const LARGE_PAGE: u64 = 0x83;

/// `IA32_MISC_ENABLE`: fast string operations, on after any firmware.
const MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;
/// `IA32_MTRR_DEF_TYPE`: on, all memory is write-back unless page tables say otherwise.
const MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ON_WRITE_BACK: u64 = 1 << 11 | 6;

/// Writes what the first instructions need into RAM: the descriptors, and page tables that
/// map the first GiB onto itself.
pub(super) fn write_tables(ram: &GuestRam) -> Result<(), GuestMemoryError> {
    let entries =
        |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    ram.write_slice(&entries(&GDT), GuestAddress(layout::GDT))?;
    let (pdpt, directory) = (layout::PAGE_TABLES + 0x1000, layout::PAGE_TABLES + 0x2000);
    ram.write_obj(pdpt | TABLE, GuestAddress(layout::PAGE_TABLES))?;
    ram.write_obj(directory | TABLE, GuestAddress(pdpt))?;
    let pages: Vec<u64> = (0..512).map(|index| index << 21 | LARGE_PAGE).collect();
    ram.write_slice(&entries(&pages), GuestAddress(directory))
}

/// Puts the boot CPU at `entry` (guest address) with boot_params in rsi.
pub(crate) fn enter(_vm: &Vm, vcpus: &[VcpuFd], &entry: &Entry) -> Result<(), KvmError> {
    let Some(vcpu) = vcpus.first() else {
        return Ok(());
    };
    let mut sregs = vcpu.get_sregs().map_err(failed("read a CPU's state"))?;
    long_mode(&mut sregs);
    vcpu.set_sregs(&sregs)
        .map_err(failed("set a CPU's state"))?;
    vcpu.set_regs(&kvm_regs {
        rip: entry,
        rsi: layout::BOOT_PARAMS,
        rsp: layout::BOOT_STACK,
        rbp: layout::BOOT_STACK,
        // Bit 1 is always set.
        rflags: 2,
        ..kvm_regs::default()
    })
    .map_err(failed("set a CPU's registers"))
}

/// Sets what firmware would have set in each CPU.
pub(super) fn set_msrs(vcpu: &VcpuFd) -> Result<(), KvmError> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    };
    let msrs = Msrs::from_entries(&[
        entry(MTRR_DEF_TYPE, MTRR_ON_WRITE_BACK),
        entry(MISC_ENABLE, FAST_STRINGS),
    ])
    .map_err(|_| KvmError::Missing("room for two registers"))?;
    // It stops at the first that this KVM does not know. Both are an optimisation.
    let set = vcpu
        .set_msrs(&msrs)
        .map_err(failed("set a CPU's model specific registers"))?;
    if set < msrs.as_slice().len() {
        log::debug!("only {set} model specific registers could be set");
    }
    Ok(())
}

fn long_mode(sregs: &mut kvm_sregs) {
    let flat = kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment {
        selector: CODE_SELECTOR,
        // Execute, read, accessed.
        type_: 11,
        l: 1,
        ..flat
    };
    let data = kvm_segment {
        selector: DATA_SELECTOR,
        // Read, write, accessed.
        type_: 3,
        db: 1,
        ..flat
    };
    (sregs.ds, sregs.es, sregs.fs) = (data, data, data);
    (sregs.gs, sregs.ss) = (data, data);
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = (size_of_val(&GDT) - 1) as u16;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
    sregs.cr3 = layout::PAGE_TABLES;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
}
