//! The guest of [`smoke`](crate::smoke): what a kernel executes early, at EL1.
//!
//! It reports by one store to a place without memory, which ends it: with the MMU off, its stores to
//! memory pass the caches by, and this program might not see them.

use std::arch::global_asm;
use std::sync::Arc;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::boot::Entry;
use super::{layout, vm};
use crate::kvm::Vm;
use crate::memory::{self, GuestRam};
use crate::smoke::Unusable;
use crate::vcpu::{self, FirstExit};

/// A true KVM needs a millisecond or two; one that is itself emulated up to a second.
const LIMIT: Duration = Duration::from_secs(10);
/// Where the guest reports. The code has the number, too.
const REPORT: u64 = layout::MARKS;
/// What it reports at its end.
const DONE: u64 = 0x600d;
/// Where the code lies.
const CODE: u64 = layout::KERNEL;
/// Its page table, one page, and behind it a page to work on. The code finds it relative to itself.
const TABLE: u64 = CODE + 0x1_0000;
const DATA: u64 = TABLE + 0x1000;

/// What the guest does in each step, in words for users.
const STEPS: [&str; 10] = [
    "start",
    "use vector registers (movi, add)",
    "turn the MMU on (sctlr_el1)",
    "change memory exclusively (ldaxr, stlxr)",
    "add to memory atomically (ldadd)",
    "take a breakpoint exception and return from it (brk, eret)",
    "run code that it has just changed",
    "read the generic timer (cntvct_el0)",
    "use scalable vectors (SVE)",
    "run a loop of a million stores",
];

/// A block of 1 GiB in a table of level 1: valid, accessed; inner shareable normal memory (attribute
/// 0), or a device's that is not executed (attribute 1). ARM ARM, D8.3.2.
const NORMAL: u64 = 1 | 1 << 10 | 3 << 8;
const DEVICE: u64 = 1 | 1 << 10 | 1 << 2 | 3 << 53;

// Position-independent from 2 KiB boundaries on. x19: step; x22: exceptions; x25: where to report.
global_asm!(
    ".arch_extension lse",
    ".arch_extension sve",
    ".global boxbuild_smoke_start, boxbuild_smoke_end",
    ".balign 2048",
    "boxbuild_smoke_start:",
    "mov x19, 0",
    "mov x22, 0",
    "mov x25, 0x0902",
    "lsl x25, x25, 16",
    "adr x20, boxbuild_smoke_start",
    "add x21, x20, 16, lsl 12",
    "adr x0, 20f",
    "msr vbar_el1, x0",
    "isb",
    // 1: vector registers, once CPACR_EL1.FPEN lets them.
    "mov x19, 1",
    "mov x0, 3 << 20",
    "msr cpacr_el1, x0",
    "isb",
    "movi v0.16b, 3",
    "add v0.16b, v0.16b, v0.16b",
    "umov w0, v0.b[5]",
    "cmp w0, 6",
    "b.ne 9f",
    // 2: 39 bits of address, one table of blocks of 1 GiB, caches on.
    "mov x19, 2",
    "mov x0, 0xff",
    "msr mair_el1, x0",
    // T0SZ 25, walks write-back and inner shareable, EPD1, IPS 40 bits.
    "mov x0, 0x3519",
    "movk x0, 0x80, lsl 16",
    "movk x0, 2, lsl 32",
    "msr tcr_el1, x0",
    "msr ttbr0_el1, x21",
    "isb",
    "tlbi vmalle1",
    "dsb nsh",
    "ic iallu",
    "dsb nsh",
    "isb",
    "mrs x0, sctlr_el1",
    "mov x1, 0x1005",
    "orr x0, x0, x1",
    "msr sctlr_el1, x0",
    "isb",
    // 3: 41 and 1.
    "mov x19, 3",
    "add x21, x21, 1, lsl 12",
    "2: ldaxr x0, [x21]",
    "add x0, x0, 1",
    "stlxr w1, x0, [x21]",
    "cbnz w1, 2b",
    "ldr x0, [x21]",
    "cmp x0, 42",
    "b.ne 9f",
    // 4: the same in one instruction, where ID_AA64ISAR0_EL1.Atomic says so.
    "mov x19, 4",
    "mrs x0, id_aa64isar0_el1",
    "ubfx x0, x0, 20, 4",
    "cbz x0, 4f",
    "mov x0, 8",
    "ldaddal x0, x1, [x21]",
    "cmp x1, 42",
    "b.ne 9f",
    "ldr x0, [x21]",
    "cmp x0, 50",
    "b.ne 9f",
    // 5: an exception and back, as probes use it.
    "4: mov x19, 5",
    "brk 0",
    "cmp x22, 1",
    "b.ne 9f",
    // 6: change an instruction to "mov w0, 7" and run it.
    "mov x19, 6",
    "adr x1, 6f",
    "movz w2, 0x00e0",
    "movk w2, 0x5280, lsl 16",
    "str w2, [x1]",
    "dc cvau, x1",
    "dsb ish",
    "ic ivau, x1",
    "dsb ish",
    "isb",
    "6: mov w0, 0",
    "cmp w0, 7",
    "b.ne 9f",
    // 7: it has a frequency and does not run backwards.
    "mov x19, 7",
    "mrs x0, cntfrq_el0",
    "cbz x0, 9f",
    "isb",
    "mrs x0, cntvct_el0",
    "isb",
    "mrs x1, cntvct_el0",
    "cmp x1, x0",
    "b.lo 9f",
    // 8: where ID_AA64PFR0_EL1.SVE says so, once CPACR_EL1.ZEN lets it.
    "mov x19, 8",
    "mrs x0, id_aa64pfr0_el1",
    "ubfx x0, x0, 32, 4",
    "cbz x0, 8f",
    "mrs x0, cpacr_el1",
    "orr x0, x0, 3 << 16",
    "msr cpacr_el1, x0",
    "isb",
    "mov z1.b, 5",
    "add z1.b, z1.b, z1.b",
    "umov w0, v1.b[9]",
    "cmp w0, 10",
    "b.ne 9f",
    // 9: it must end.
    "8: mov x19, 9",
    "movz x0, 0x4240",
    "movk x0, 0xf, lsl 16",
    "7: str x0, [x21, 8]",
    "subs x0, x0, 1",
    "b.ne 7b",
    "mov x0, 0x600d",
    "str x0, [x25]",
    // A wrong result: the step. An exception: and the syndrome in the upper half.
    "9: str x19, [x25]",
    "b 9b",
    // All exceptions come from EL1 with its own stack: the second group of the table.
    ".balign 2048",
    "20: b 10f",
    ".balign 512",
    "cmp x19, 5",
    "b.ne 10f",
    "add x22, x22, 1",
    "mrs x0, elr_el1",
    "add x0, x0, 4",
    "msr elr_el1, x0",
    "eret",
    ".balign 128",
    "b 10f",
    ".balign 128",
    "b 10f",
    ".balign 128",
    "10: mrs x0, esr_el1",
    "orr x0, x19, x0, lsl 32",
    "str x0, [x25]",
    "b 10b",
    "boxbuild_smoke_end:",
);

unsafe extern "C" {
    static boxbuild_smoke_start: u8;
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
    let vm = Arc::new(Vm::new(None, ram, vm::create)?);
    let vcpu = vcpu::create(vm, 1, false)?;
    let entry = Entry {
        address: CODE,
        cmdline: String::new(),
        initrd: None,
    };
    judge(vcpu.first_exit(&entry, LIMIT)?)
}

/// Code, data and the page table: devices in the first GiB, RAM in the second.
fn load(ram: &GuestRam) -> Result<(), GuestMemoryError> {
    let start = &raw const boxbuild_smoke_start;
    let len = (&raw const boxbuild_smoke_end).addr() - start.addr();
    // SAFETY: the labels enclose the code in our text, which is readable.
    let code = unsafe { std::slice::from_raw_parts(start, len) };
    ram.write_slice(code, GuestAddress(CODE))?;
    ram.write_obj(DEVICE, GuestAddress(TABLE))?;
    ram.write_obj(NORMAL | layout::RAM, GuestAddress(TABLE + 8))?;
    ram.write_obj(41_u64, GuestAddress(DATA))
}

fn judge(exit: FirstExit) -> Result<(), Unusable> {
    let (step, how) = match exit {
        FirstExit::Write(REPORT, DONE) => return Ok(()),
        FirstExit::Write(REPORT, report) => {
            let step = STEPS.get((report & 0xff) as usize).copied();
            let how = match report >> 32 {
                0 => String::from("a wrong result"),
                syndrome => format!("an exception, syndrome {syndrome:#x}"),
            };
            (step, how)
        }
        FirstExit::Write(address, _) => (None, format!("writes to address {address:#x}")),
        FirstExit::Out(port) => (None, format!("writes to port {port:#x}")),
        FirstExit::Other(how) => (None, how),
        FirstExit::None => (None, format!("nothing for {} s", LIMIT.as_secs())),
    };
    let step = step.unwrap_or("run its first instructions");
    Err(Unusable::Fails { step, how })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_reports_is_told_in_words() {
        assert!(judge(FirstExit::Write(REPORT, DONE)).is_ok());
        for (exit, words) in [
            (
                FirstExit::Write(REPORT, 2 | 0x8600_0006 << 32),
                "MMU on (sctlr_el1) (an exception, syndrome 0x86000006)",
            ),
            (
                FirstExit::Write(REPORT, 7),
                "generic timer (cntvct_el0) (a wrong result)",
            ),
            (
                FirstExit::Write(REPORT, 0xfe),
                "first instructions (a wrong result)",
            ),
            (FirstExit::Write(0x1234, DONE), "writes to address 0x1234"),
            (FirstExit::None, "nothing for 10 s"),
        ] {
            let text = judge(exit).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn the_code_ends_before_its_page_table_and_reports_where_it_is_listened_for() {
        let ram = memory::allocate(memory::MIN_MIB).unwrap();
        load(&ram).unwrap();
        assert!(
            (&raw const boxbuild_smoke_end).addr() - (&raw const boxbuild_smoke_start).addr()
                < 0x1_0000
        );
        assert_eq!(REPORT, 0x0902 << 16);
        assert_eq!((&raw const boxbuild_smoke_start).addr() % 2048, 0);
    }
}
