//! The guest of x86_64, in 64-bit mode.

use std::arch::global_asm;
use std::error::Error;

use kvm_bindings::{kvm_regs, kvm_segment};
use kvm_ioctls::{Kvm, VcpuExit};

use super::Memory;

/// What it shows.
pub const SHOWN: &str = "cmpxchg16b, SSE, fxrstor, int3 and a loop in 64-bit mode";

const CODE: usize = 0x1000;
const DATA: usize = 0x2000;
const STACK: usize = 0x4000;
const IDT: usize = 0x4000;
const GDT: usize = 0x5000;
const PML4: usize = 0x6000;
const PDPT: usize = 0x7000;
const PD: usize = 0x8000;
const PORT: u16 = 0x10;

// What the guest runs, at any address; `rdi` points at DATA.
global_asm!(
    ".global selftest_code, selftest_breakpoint, selftest_end",
    "selftest_code:",
    // 16 bytes at once, as page tables and lock-free lists are changed.
    "mov rax, 1",
    "mov rdx, 2",
    "mov rbx, 3",
    "mov rcx, 4",
    "lock cmpxchg16b [rdi]",
    "jne 2f",
    // SSE in ring 0, saved and restored around other work.
    "movdqa xmm0, [rdi]",
    "fxsave64 [rdi + 64]",
    "pxor xmm0, xmm0",
    "fxrstor64 [rdi + 64]",
    "paddq xmm0, xmm0",
    "movdqa [rdi + 16], xmm0",
    // An exception through the IDT and back, as text patching uses it.
    "int3",
    // A loop with stores: it must end.
    "mov rcx, 1000000",
    "3: mov [rdi + 40], rcx",
    "dec rcx",
    "jnz 3b",
    "2: out 0x10, al",
    "hlt",
    "selftest_breakpoint:",
    "inc qword ptr [rdi + 32]",
    "iretq",
    "selftest_end:",
);

unsafe extern "C" {
    static selftest_code: u8;
    static selftest_breakpoint: u8;
    static selftest_end: u8;
}

/// Runs them and compares what they did. Does not return on a KVM that loses the guest.
pub fn smoke() -> Result<(), Box<dyn Error>> {
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;

    let mut memory = Memory::new()?;
    fill(&mut memory);
    memory.attach(&vm, 0)?;

    let mut vcpu = vm.create_vcpu(0)?;
    let cpuid = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)?;
    vcpu.set_cpuid2(&cpuid)?;
    let mut sregs = vcpu.get_sregs()?;
    let flat = kvm_segment {
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment {
        selector: 8,
        type_: 11,
        l: 1,
        ..flat
    };
    let data = kvm_segment {
        selector: 16,
        type_: 3,
        db: 1,
        ..flat
    };
    (sregs.ds, sregs.es, sregs.ss) = (data, data, data);
    (sregs.gdt.base, sregs.gdt.limit) = (GDT as u64, 3 * 8 - 1);
    (sregs.idt.base, sregs.idt.limit) = (IDT as u64, 4 * 16 - 1);
    // Paging and protection with FPU errors; PAE and SSE; long mode.
    sregs.cr0 = 0x8000_0033;
    sregs.cr3 = PML4 as u64;
    sregs.cr4 = 0x620;
    sregs.efer = 0x500;
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs {
        rip: CODE as u64,
        rsp: STACK as u64,
        rdi: DATA as u64,
        rflags: 2,
        ..kvm_regs::default()
    })?;

    match vcpu.run()? {
        VcpuExit::IoOut(PORT, _) => {}
        other => return Err(format!("the guest did not reach its end: {other:?}").into()),
    }
    memory.compare(&[
        ("cmpxchg16b", DATA, [3, 4]),
        ("SSE, fxsave and fxrstor", DATA + 16, [6, 8]),
        ("int3 and the loop", DATA + 32, [1, 1]),
    ])
}

/// Puts the guest and its tables into its memory.
fn fill(memory: &mut Memory) {
    let start = &raw const selftest_code;
    let handler = CODE + (&raw const selftest_breakpoint).addr() - start.addr();
    let length = (&raw const selftest_end).addr() - start.addr();
    assert!(CODE + length <= DATA);
    // SAFETY: the labels enclose the code.
    memory.copy(CODE, unsafe { std::slice::from_raw_parts(start, length) });
    memory.put(DATA, &[1, 2]);
    // Present, interrupt gate, segment 8.
    memory.put(IDT + 3 * 16, &[handler as u64 | 8 << 16 | 0x8e << 40, 0]);
    memory.put(GDT, &[0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff]);
    // One large page at its own address.
    memory.put(PML4, &[PDPT as u64 | 3]);
    memory.put(PDPT, &[PD as u64 | 3]);
    memory.put(PD, &[0x83]);
}
