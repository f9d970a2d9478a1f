//! Machines that do not start or end otherwise than by a guest's orderly power-off.

use std::fs;
use std::path::Path;

use crate::machine::Machine;

/// Exit code of the program after a reset.
const RESET: i32 = 3;

/// With the guest's folder.
pub(crate) type Test = fn(&Path);

/// All of them that a normal user can run.
pub(crate) const TESTS: &[(&str, Test)] = &[
    ("panic_is_a_reset", panic),
    ("triple_fault_is_a_reset", triple_fault),
    ("power_off_of_the_first_instruction", early_power_off),
    ("file_that_is_no_kernel", no_kernel),
    ("initrd_that_does_not_fit", large_initrd),
    ("kill_leaves_nothing", kill),
    ("garbage_does_no_harm", crate::hostile::garbage),
    (
        "a_reset_does_not_wait_for_a_long_chain",
        crate::hostile::long_chain,
    ),
];

/// No root file system: the kernel panics.
fn panic(guest: &Path) {
    let outcome = Machine::bare(&guest.join("kernel"))
        .arg("--cmdline", "console=ttyS0 panic=-1")
        .run();
    outcome.expect(RESET, "");
    assert!(
        outcome.console.contains("Kernel panic"),
        "{}",
        outcome.console
    );
}

/// `lidt` of an empty table, then an exception that has no handler and whose fault has none.
fn triple_fault(_guest: &Path) {
    // lidt [rip + 1]; int3; ten zeros
    let code = b"\x0f\x01\x1d\x01\x00\x00\x00\xcc\0\0\0\0\0\0\0\0\0\0";
    program(code).expect(RESET, "");
}

/// Writes SLP_EN with the type of S5 to the sleep control register (docs/vmm.md).
fn early_power_off(_guest: &Path) {
    // mov dx, 0x600; mov al, 0x34; out dx, al; hlt
    let code = b"\x66\xba\x00\x06\xb0\x34\xee\xf4";
    program(code).expect(0, "");
}

fn no_kernel(guest: &Path) {
    Machine::bare(&guest.join("disk.qcow2"))
        .run()
        .expect(1, "the kernel is neither a bzImage nor an ELF file");
}

fn large_initrd(guest: &Path) {
    let machine = Machine::bare(&guest.join("kernel")).arg("--memory", "256");
    let initrd = machine.folder("initrd");
    fs::File::create(&initrd)
        .and_then(|file| file.set_len(300 << 20))
        .unwrap();
    let mut machine = machine.arg("--initrd", &initrd);
    machine
        .run()
        .expect(1, "the initial ramdisk of 314572800 bytes does not fit");
}

/// SIGKILL in the middle of a boot.
fn kill(guest: &Path) {
    let mut machine = Machine::of(guest, 2, 512, "earlyprintk=ttyS0").share("one");
    let (mut child, pieces) = machine.start();
    pieces.recv().expect("the kernel writes something");
    let id = child.id();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(machine.scratch(), [""; 0]);
    assert_eq!(boxbuild_tests::names(&machine.folder("one")), [""; 0]);
    let children: Vec<_> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter(|entry| {
            // The parent is the second number after the name in parentheses.
            fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| {
                let fields = stat.rsplit(") ").next().unwrap_or_default();
                fields.split(' ').nth(1) == Some(&id.to_string())
            })
        })
        .collect();
    assert!(children.is_empty(), "{children:?}");
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}

/// `nobody` has no group kvm.
pub(crate) fn without_permission(guest: &Path) {
    let outcome = Machine::bare(&guest.join("kernel")).by_user(65534).run();
    outcome.expect(1, "/dev/kvm");
    outcome.expect(1, "Permission denied");
}

/// Runs `code` as a kernel: an ELF file with one segment at 16 MiB.
fn program(code: &[u8]) -> crate::machine::Outcome {
    const ADDRESS: u64 = 16 << 20;
    const HEADERS: u64 = 64 + 56;
    let mut elf = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // ET_EXEC, EM_X86_64, version
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for number in [ADDRESS, 64, 0] {
        elf.extend(u64::to_le_bytes(number));
    }
    // Flags; sizes and counts of the headers.
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let len = code.len() as u64;
    for number in [HEADERS, ADDRESS, ADDRESS, len, len, 4096] {
        elf.extend(number.to_le_bytes());
    }
    elf.extend(code);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &elf).unwrap();
    Machine::bare(file.path()).run()
}
