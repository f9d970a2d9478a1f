//! The guest of aarch64, at EL1 with its own translation tables.

use std::arch::global_asm;
use std::error::Error;

use kvm_bindings::{
    KVM_ARM_VCPU_PSCI_0_2, KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_VGIC_V2_ADDR_TYPE_CPU, KVM_VGIC_V2_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
    kvm_vcpu_init,
};
use kvm_ioctls::{DeviceFd, Kvm, VcpuExit, VcpuFd, VmFd};

use super::Memory;

/// What it shows.
pub const SHOWN: &str = "ldaxp, SIMD, brk, a loop and the timer's interrupt at EL1";

/// Where the guest's memory is.
const RAM: usize = 0x4000_0000;
const CODE: usize = 0x1000;
const DATA: usize = 0x2000;
const VECTORS: usize = 0x4000;
const TABLE: usize = 0x6000;
/// Nothing is there: a store ends the run.
const END: u64 = 0x1000_0000;
const DISTRIBUTOR: u64 = 0x0800_0000;
/// With GICv3 the redistributors, with GICv2 the CPU interface.
const OF_CPU: u64 = 0x080a_0000;
/// The virtual timer's interrupt.
const TIMER: u64 = 27;

/// Bits 63:48 of a core register's number in `KVM_SET_ONE_REG`, with its class (64 bits).
/// Linux, arch/arm64/include/uapi/asm/kvm.h.
const CORE: u64 = 0x6030_0000_0010_0000;
const PC: u64 = CORE + 0x40;

// What the guest runs. x0: DATA; x1: TABLE; x2: VECTORS; x3: END; x4: distributor; x5: redistributor
// or CPU interface; x6: version of the interrupt controller.
global_asm!(
    ".global selftest_code, selftest_sync, selftest_irq, selftest_end",
    "selftest_code:",
    "msr vbar_el1, x2",
    // Write-back memory, and nGnRnE devices.
    "mov x10, #0xff",
    "msr mair_el1, x10",
    "msr ttbr0_el1, x1",
    // 32 bits of addresses in pages of 4 KiB, walks through the caches, no TTBR1.
    "ldr x10, =0x803520",
    "msr tcr_el1, x10",
    "isb",
    "mrs x10, sctlr_el1",
    "ldr x11, =0x1005",
    "orr x10, x10, x11",
    "msr sctlr_el1, x10",
    "isb",
    // 16 bytes at once, as lock-free lists are changed.
    "1: ldaxp x10, x11, [x0]",
    "add x10, x10, #2",
    "add x11, x11, #2",
    "stlxp w12, x10, x11, [x0]",
    "cbnz w12, 1b",
    "mov x10, #0x300000",
    "msr cpacr_el1, x10",
    "isb",
    "ldr q0, [x0]",
    "add v0.2d, v0.2d, v0.2d",
    "str q0, [x0, #16]",
    // An exception and back, as text patching uses it.
    "brk #0",
    // A loop with stores: it must end.
    "ldr x10, =1000000",
    "2: str x10, [x0, #40]",
    "subs x10, x10, #1",
    "b.ne 2b",
    // The timer's interrupt.
    "mov w12, #0x8000000",
    "cmp x6, #2",
    "b.eq 3f",
    // GICv3: affinity routing and group 1; the redistributor awake; group 1, enabled.
    "mov w10, #0x12",
    "str w10, [x4]",
    "str wzr, [x5, #0x14]",
    "add x11, x5, #0x10000",
    "mov w10, #-1",
    "str w10, [x11, #0x80]",
    "str w12, [x11, #0x100]",
    "mov x10, #0xff",
    "msr S3_0_C4_C6_0, x10",
    "mov x10, #1",
    "msr S3_0_C12_C12_7, x10",
    "isb",
    "b 4f",
    // GICv2: distributor, interrupt, CPU interface.
    "3: mov w10, #1",
    "str w10, [x4]",
    "str w12, [x4, #0x100]",
    "mov w11, #0xff",
    "str w11, [x5, #4]",
    "str w10, [x5]",
    "4: mov x10, #1000",
    "msr cntv_tval_el0, x10",
    "mov x10, #1",
    "msr cntv_ctl_el0, x10",
    "isb",
    // Waited for with interrupts off, so that it cannot come before the wait.
    "5: wfi",
    "msr daifclr, #2",
    "msr daifset, #2",
    "ldr x10, [x0, #48]",
    "cbz x10, 5b",
    "str x10, [x3]",
    "b .",
    ".ltorg",
    // Back behind the breakpoint.
    "selftest_sync:",
    "ldr x10, [x0, #32]",
    "add x10, x10, #1",
    "str x10, [x0, #32]",
    "mrs x10, elr_el1",
    "add x10, x10, #4",
    "msr elr_el1, x10",
    "eret",
    // Takes and ends the interrupt, and switches the timer off.
    "selftest_irq:",
    "msr cntv_ctl_el0, xzr",
    "isb",
    "cmp x6, #2",
    "b.eq 6f",
    "mrs x10, S3_0_C12_C12_0",
    "msr S3_0_C12_C12_1, x10",
    "b 7f",
    "6: ldr w10, [x5, #0xc]",
    "str w10, [x5, #0x10]",
    "7: str x10, [x0, #48]",
    "eret",
    "selftest_end:",
);

unsafe extern "C" {
    static selftest_code: u8;
    static selftest_sync: u8;
    static selftest_irq: u8;
    static selftest_end: u8;
}

/// Runs them and compares what they did. Does not return on a KVM that loses the guest.
pub fn smoke() -> Result<(), Box<dyn Error>> {
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;

    let mut memory = Memory::new()?;
    fill(&mut memory);
    memory.attach(&vm, RAM as u64)?;

    let mut vcpu = vm.create_vcpu(0)?;
    let mut features = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut features)?;
    features.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    vcpu.vcpu_init(&features)?;
    let version = interrupt_controller(&vm)?;

    let at = |offset: usize| (RAM + offset) as u64;
    let values = [
        at(DATA),
        at(TABLE),
        at(VECTORS),
        END,
        DISTRIBUTOR,
        OF_CPU,
        version,
    ];
    for (number, value) in (0..).zip(values) {
        set(&vcpu, CORE + 2 * number, value)?;
    }
    set(&vcpu, PC, at(CODE))?;

    match vcpu.run()? {
        VcpuExit::MmioWrite(END, _) => {}
        other => return Err(format!("the guest did not reach its end: {other:?}").into()),
    }
    memory.compare(&[
        ("ldaxp and stlxp", DATA, [3, 4]),
        ("SIMD", DATA + 16, [6, 8]),
        ("brk and the loop", DATA + 32, [1, 1]),
        ("the timer's interrupt", DATA + 48, [TIMER, 0]),
    ])
}

fn set(vcpu: &VcpuFd, register: u64, value: u64) -> Result<(), kvm_ioctls::Error> {
    vcpu.set_one_reg(register, &value.to_le_bytes()).map(|_| ())
}

/// Makes the newest that this host has, and returns its version.
fn interrupt_controller(vm: &VmFd) -> Result<u64, Box<dyn Error>> {
    let create = |kind| {
        let mut device = kvm_create_device {
            type_: kind,
            fd: 0,
            flags: 0,
        };
        vm.create_device(&mut device)
    };
    let (gic, version, addresses) = match create(kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3) {
        Ok(gic) => {
            let types = [KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST];
            (gic, 3, types)
        }
        Err(_) => {
            let gic = create(kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2)?;
            let types = [KVM_VGIC_V2_ADDR_TYPE_DIST, KVM_VGIC_V2_ADDR_TYPE_CPU];
            (gic, 2, types)
        }
    };
    for (kind, address) in addresses.into_iter().zip([DISTRIBUTOR, OF_CPU]) {
        let address = &raw const address;
        attribute(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, kind, address as u64)?;
    }
    let init = u64::from(KVM_DEV_ARM_VGIC_CTRL_INIT);
    attribute(&gic, KVM_DEV_ARM_VGIC_GRP_CTRL, init as u32, 0)?;
    // Closed, it stays as long as the machine.
    Ok(version)
}

fn attribute(gic: &DeviceFd, group: u32, attr: u32, addr: u64) -> Result<(), kvm_ioctls::Error> {
    gic.set_device_attr(&kvm_device_attr {
        flags: 0,
        group,
        attr: u64::from(attr),
        addr,
    })
}

/// Puts the guest and its tables into its memory.
fn fill(memory: &mut Memory) {
    let start = &raw const selftest_code;
    let offset = |label: *const u8| label.addr() - start.addr();
    let length = offset(&raw const selftest_end);
    assert!(CODE + length <= DATA);
    // SAFETY: the labels enclose the code.
    memory.copy(CODE, unsafe { std::slice::from_raw_parts(start, length) });
    memory.put(DATA, &[1, 2]);
    // Synchronous exceptions and interrupts at EL1 with its own stack pointer.
    let entries = [
        (0x200, &raw const selftest_sync),
        (0x280, &raw const selftest_irq),
    ];
    for (entry, handler) in entries {
        let from = VECTORS + entry;
        let distance = (CODE + offset(handler)) as i64 - from as i64;
        // `b`: 26 bits of words.
        let word = 0x1400_0000 | (distance / 4) as u32 & 0x03ff_ffff;
        memory.put(from, &[u64::from(word)]);
    }
    // Blocks of 1 GiB at their own addresses: devices, not executable; memory, inner shareable.
    let device = 1 | 1 << 2 | 1 << 10 | 3 << 53;
    let normal = 1 | 3 << 8 | 1 << 10;
    memory.put(TABLE, &[device, RAM as u64 | normal]);
}
