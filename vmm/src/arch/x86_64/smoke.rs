//! The guest of [`smoke`](crate::smoke): what a kernel executes early, in 64-bit mode with paging.

use std::arch::global_asm;
use std::sync::Arc;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::{layout, vm};
use crate::kvm::Vm;
use crate::memory::{self, GuestRam};
use crate::smoke::Unusable;
use crate::vcpu::{self, FirstExit};

/// A true KVM needs a millisecond or two; one that is itself emulated up to a second.
const LIMIT: Duration = Duration::from_secs(10);
/// The guest says here that it has reached its end.
const PORT: u16 = 0x10;
/// Where the code lies.
const CODE: u64 = layout::KERNEL;
/// Where it works: rsi points there at its entry. 4 KiB.
const DATA: u64 = layout::BOOT_PARAMS;
/// Offsets in that page: the step that is being done; results; descriptor of the IDT; the IDT.
const STEP: u64 = 0x40;
const RESULTS: u64 = 0x10;
const IDT_REGISTER: u64 = 0x80;
const IDT: u64 = 0x100;

/// What the guest does in each step, in words for users.
const STEPS: [&str; 9] = [
    "enter 64-bit mode",
    "compare and exchange 16 bytes (cmpxchg16b)",
    "use SSE registers and save them (fxsave, fxrstor)",
    "switch on all extended registers that it lists (xsetbv)",
    "save extended registers (xsave, xrstor)",
    "take a breakpoint exception and return from it (int3, iretq)",
    "run code that it has just changed",
    "read and write model specific registers (rdmsr, wrmsr)",
    "run a loop of a million stores",
];

// Position-independent; leaves by port 0x10 when all went well, else with a triple fault.
global_asm!(
    ".global boxbuild_smoke_start, boxbuild_smoke_handler, boxbuild_smoke_end",
    "boxbuild_smoke_start:",
    "lidt [rsi + 0x80]",
    // 1: 16 bytes at once, as page tables and lock-free lists are changed.
    "mov qword ptr [rsi + 0x40], 1",
    "mov eax, 1",
    "mov edx, 2",
    "mov ebx, 3",
    "mov ecx, 4",
    "lock cmpxchg16b [rsi]",
    "jne 9f",
    // 2: SSE, with CR4.OSFXSR and OSXMMEXCPT on and CR0.MP.
    "mov qword ptr [rsi + 0x40], 2",
    "mov rax, cr4",
    "or eax, 0x600",
    "mov cr4, rax",
    "mov rax, cr0",
    "or eax, 2",
    "mov cr0, rax",
    "movdqa xmm0, [rsi]",
    "fxsave64 [rsi + 0x400]",
    "pxor xmm0, xmm0",
    "fxrstor64 [rsi + 0x400]",
    "paddq xmm0, xmm0",
    "movdqa [rsi + 0x10], xmm0",
    // 3: XSAVE, if the CPU has it: all that it lists, as kernels do.
    "mov qword ptr [rsi + 0x40], 3",
    "mov eax, 1",
    "cpuid",
    "bt ecx, 26",
    "jnc 3f",
    "mov rax, cr4",
    "or eax, 0x40000",
    "mov cr4, rax",
    "mov eax, 0xd",
    "xor ecx, ecx",
    "cpuid",
    "xor ecx, ecx",
    "xsetbv",
    // 4: save two parts of that, and restore them.
    "mov qword ptr [rsi + 0x40], 4",
    "mov eax, 3",
    "xor edx, edx",
    "xsave64 [rsi + 0x800]",
    "pxor xmm0, xmm0",
    "mov eax, 3",
    "xor edx, edx",
    "xrstor64 [rsi + 0x800]",
    "paddq xmm0, xmm0",
    "3: movdqa [rsi + 0x20], xmm0",
    // 5: an exception through the IDT and back, as text patching uses it.
    "mov qword ptr [rsi + 0x40], 5",
    "int3",
    // 6: change an instruction and run it.
    "mov qword ptr [rsi + 0x40], 6",
    "lea rax, [rip + 5f]",
    "mov byte ptr [rax + 1], 7",
    "xor ecx, ecx",
    "cpuid",
    "xor eax, eax",
    "5: mov al, 0",
    "cmp al, 7",
    "jne 9f",
    // 7: EFER says long mode; KERNEL_GS_BASE keeps what it is given.
    "mov qword ptr [rsi + 0x40], 7",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "bt eax, 10",
    "jnc 9f",
    "mov ecx, 0xc0000102",
    "mov eax, 0x1234",
    "xor edx, edx",
    "wrmsr",
    "xor eax, eax",
    "rdmsr",
    "cmp eax, 0x1234",
    "jne 9f",
    // 8: it must end.
    "mov qword ptr [rsi + 0x40], 8",
    "mov ecx, 1000000",
    "7: mov [rsi + 0x38], rcx",
    "dec rcx",
    "jnz 7b",
    "out 0x10, al",
    "9: ud2",
    "boxbuild_smoke_handler:",
    "inc qword ptr [rsi + 0x30]",
    "iretq",
    "boxbuild_smoke_end:",
);

unsafe extern "C" {
    static boxbuild_smoke_start: u8;
    static boxbuild_smoke_handler: u8;
    static boxbuild_smoke_end: u8;
}

/// Runs the guest.
///
/// # Errors
/// If it cannot be run, does not come to its end within seconds, or computes wrongly; the
/// error says which in words for a user.
pub(crate) fn run() -> Result<(), Unusable> {
    let ram = memory::allocate(memory::MIN_MIB)?;
    load(&ram)?;
    let vm = Arc::new(Vm::new(None, ram.clone(), vm::create)?);
    let vcpu = vcpu::create(vm, 1, false)?;
    let exit = vcpu.first_exit(&CODE, LIMIT)?;
    if exit != FirstExit::Out(PORT) {
        let step: u64 = ram.read_obj(GuestAddress(DATA + STEP))?;
        let step = usize::try_from(step).ok().and_then(|step| STEPS.get(step));
        return Err(Unusable::Fails {
            step: step.copied().unwrap_or("write to memory"),
            how: match exit {
                FirstExit::Out(port) => format!("writes to port {port:#x}"),
                FirstExit::Write(address, _) => format!("writes to address {address:#x}"),
                FirstExit::Other(how) => how,
                FirstExit::None => format!("nothing for {} s", LIMIT.as_secs()),
            },
        });
    }
    check(&ram)
}

/// Code, data and the descriptor of the one exception.
fn load(ram: &GuestRam) -> Result<(), GuestMemoryError> {
    let start = &raw const boxbuild_smoke_start;
    let handler = CODE + ((&raw const boxbuild_smoke_handler).addr() - start.addr()) as u64;
    let len = (&raw const boxbuild_smoke_end).addr() - start.addr();
    // SAFETY: the labels enclose the code in our text, which is readable.
    let code = unsafe { std::slice::from_raw_parts(start, len) };
    ram.write_slice(code, GuestAddress(CODE))?;
    ram.write_slice(words(&[1, 2]).as_slice(), GuestAddress(DATA))?;
    // Vector 3: interrupt gate, present, in the code segment of the boot protocol (0x10).
    let low = handler & 0xffff | 0x10 << 16 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48;
    let gate = words(&[low, handler >> 32]);
    ram.write_slice(&gate, GuestAddress(DATA + IDT + 3 * 16))?;
    let limit: u16 = 4 * 16 - 1;
    ram.write_obj(limit, GuestAddress(DATA + IDT_REGISTER))?;
    ram.write_obj(DATA + IDT, GuestAddress(DATA + IDT_REGISTER + 2))
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Whether the guest computed what it should.
fn check(ram: &GuestRam) -> Result<(), Unusable> {
    let mut found = Vec::with_capacity(6);
    for index in 0..6 {
        found.push(ram.read_obj::<u64>(GuestAddress(DATA + RESULTS + 8 * index))?);
    }
    let (cx16, rest): ([u64; 2], _) = (
        [
            ram.read_obj(GuestAddress(DATA))?,
            ram.read_obj(GuestAddress(DATA + 8))?,
        ],
        found.as_slice(),
    );
    // Twice 3 and 4; twice that, or the same without XSAVE; one breakpoint; the loop's end.
    let saved = [12, 16];
    let unsaved = [6, 8];
    let good = cx16 == [3, 4]
        && rest.get(..2) == Some(&unsaved)
        && (rest.get(2..4) == Some(&saved) || rest.get(2..4) == Some(&unsaved))
        && rest.get(4..) == Some(&[1, 1]);
    if good {
        return Ok(());
    }
    found.splice(..0, cx16);
    Err(Unusable::Wrong(found))
}
