//! Guests that run to their end: what they see, what they do.

use std::fs;
use std::path::Path;

use crate::Size;
use crate::machine::Machine;

/// Boots to the login prompt on hvc0, logs in, looks around, powers off.
pub(crate) fn login(guest: &Path, words: [&str; 4], size: Size) {
    let mut machine = Machine::of(guest, size.cpus, size.memory_mib, "")
        .share("one")
        .share("two")
        .arg("--answer", "guest login:=root")
        .arg("--answer", "root@guest:~#=report one two");
    for tag in ["one", "two"] {
        fs::write(
            machine.folder(tag).join("hello"),
            format!("hello from {tag}"),
        )
        .unwrap();
    }
    let outcome = machine.run();
    outcome.expect(0, "");
    let report: Vec<&str> = outcome
        .console
        .lines()
        .filter_map(|line| line.split_once("REPORT ").map(|(_, rest)| rest))
        .collect();
    let says = |line: &str| {
        assert!(
            report.contains(&line),
            "'{line}' is not reported:\n{}",
            outcome.console
        );
    };
    says(&format!("processors {}", size.cpus));
    let root = fs::read_to_string(guest.join("root")).unwrap();
    let root = root.trim_end();
    says(&format!("root {root} {}", words[3]));
    let release = fs::read_to_string(guest.join("release")).unwrap();
    says(&format!("kernel {}", release.trim_end()));
    // The disk of 2 GiB and its last partition (tests/lab/guests).
    let bytes = match root {
        "/dev/vda1" => 2_145_386_496,
        _ => 2_110_783_488_u64,
    };
    says("disk vda 2147483648 disk");
    says(&format!("disk {} {bytes} part", &root["/dev/".len()..]));
    for tag in ["one", "two"] {
        says(&format!("share {tag} hello "));
        says(&format!("content {tag} hello from {tag}"));
        let answer = fs::read_to_string(machine.folder(tag).join("answer")).unwrap();
        assert_eq!(answer, format!("written by {tag}\n"));
    }
    // What the machine's own DHCP server gives (docs/network.md).
    says("online yes");
    says("address 10.0.2.15/24");
    says("route 10.0.2.2 lan0");
    says("disk_keeps_data");
    says("random_numbers");
    says("system running");
    says("end");
    let memory = report
        .iter()
        .find_map(|line| line.strip_prefix("memory_kib "))
        .and_then(|number| number.parse::<u64>().ok())
        .expect("memory is reported");
    // The kernel keeps some for itself: its image, an eighth at most on a small machine.
    let all = size.memory_mib * 1024;
    assert!(
        memory < all && memory > all - all / 8 - (64 << 10),
        "{memory} of {all} KiB"
    );
    let bad: Vec<_> = report.iter().filter(|line| !normal(line)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(machine.scratch(), [""; 0]);
}

/// Whether a line is no reason to worry: no failed unit, no warning of the kernel but those that
/// docs/vmm.md explains.
fn normal(line: &str) -> bool {
    if line.starts_with("failed ") {
        return false;
    }
    let Some(warning) = line.strip_prefix("warning ") else {
        return true;
    };
    NORMAL.iter().any(|text| warning.contains(text))
}

/// Parts of the warnings that are explained in docs/vmm.md.
const NORMAL: &[&str] = &[
    "CONFIG_IMA_DISABLE_HTABLE is disabled",
    "PCI: Fatal: No config space access function found",
    "unable to open an initial console",
    "Failed to set up standard input: No such device",
    "regulatory.db",
    "wiki.debian.org/Firmware",
    "amd_pstate: the _CPC object is not present",
    "clocksource: Long readout interval",
    "hrtimer: interrupt took",
];

/// A build by the contract of the published boxes (docs/guest-contract.md).
pub(crate) fn build(guest: &Path) {
    let words = "rd.plymouth=0 selinux=0 \
        kiwi=\"--type oem system build --set-repo obs://a/b\" sharing_backend=_virtiofs_";
    let mut machine = Machine::of(guest, 2, 1024, words)
        .share("kiwidescription")
        .share("kiwibundle");
    let (description, bundle) = (
        machine.folder("kiwidescription"),
        machine.folder("kiwibundle"),
    );
    let payload: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    fs::write(description.join("payload"), &payload).unwrap();
    fs::create_dir_all(description.join("boxroot/etc")).unwrap();
    fs::write(description.join("boxroot/etc/motd"), "").unwrap();
    let outcome = machine.run();
    outcome.expect(0, "");
    let log = fs::read_to_string(bundle.join("result.log")).unwrap_or_default();
    let code = fs::read_to_string(bundle.join("result.code")).unwrap_or_default();
    assert_eq!(code, "0\n", "{log}\n{}", outcome.console);
    assert!(
        log.contains("arguments: --type oem system build --set-repo obs://a/b\n"),
        "{log}"
    );
    assert!(fs::read(bundle.join("image")).unwrap() == payload);
}
