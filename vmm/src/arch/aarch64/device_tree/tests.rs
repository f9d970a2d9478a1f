use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

const SEED: [u8; 64] = [9; 64];

fn tree(interrupts: InterruptController) -> Vec<u8> {
    build(&Machine {
        ram: &[(layout::RAM, 512 << 20)],
        cpus: &[0, 1, 0x100],
        interrupts,
        cmdline: "console=hvc0 quiet",
        initrd: Some((0x5000_0000, 0x5000_1234)),
        seed: &SEED,
    })
    .unwrap()
}

/// All properties, by node and name (Devicetree Specification 0.4, chapter 5).
fn read(tree: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let word = |at: usize| u32::from_be_bytes(tree[at..at + 4].try_into().unwrap()) as usize;
    let text = |at: usize| {
        let end = tree[at..].iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(tree[at..at + end].to_vec()).unwrap()
    };
    assert_eq!((word(0), word(4)), (0xd00d_feed, tree.len()));
    let (mut at, strings) = (word(8), word(12));
    let mut path = Vec::new();
    let mut all = BTreeMap::new();
    loop {
        let token = word(at);
        at += 4;
        match token {
            1 => {
                path.push(text(at));
                at = (at + path.last().unwrap().len() + 1).next_multiple_of(4);
            }
            2 => {
                path.pop();
            }
            3 => {
                let (len, name) = (word(at), text(strings + word(at + 4)));
                let value = tree[at + 8..at + 8 + len].to_vec();
                all.insert(format!("{}/{name}", path.join("/")), value);
                at = (at + 8 + len).next_multiple_of(4);
            }
            _ => return all,
        }
    }
}

fn cells(value: &[u8]) -> Vec<u32> {
    let cells = value.chunks_exact(4);
    cells
        .map(|cell| u32::from_be_bytes(cell.try_into().unwrap()))
        .collect()
}

#[test]
fn the_kernel_is_told_what_it_was_given() {
    let tree = read(&tree(InterruptController::GicV3));
    assert_eq!(tree["/chosen/bootargs"], b"console=hvc0 quiet\0");
    assert_eq!(cells(&tree["/chosen/linux,initrd-start"]), [0, 0x5000_0000]);
    assert_eq!(cells(&tree["/chosen/linux,initrd-end"]), [0, 0x5000_1234]);
    assert_eq!(tree["/chosen/rng-seed"], SEED);
    assert_eq!(
        cells(&tree["/memory@40000000/reg"]),
        [0, 0x4000_0000, 0, 0x2000_0000]
    );
    for (node, place) in [("cpu@0", 0), ("cpu@1", 1), ("cpu@100", 0x100)] {
        assert_eq!(cells(&tree[&format!("/cpus/{node}/reg")]), [0, place]);
        assert_eq!(tree[&format!("/cpus/{node}/enable-method")], b"psci\0");
    }
}

#[test]
fn no_ramdisk_is_no_range_of_one() {
    let tree = build(&Machine {
        ram: &[(layout::RAM, 64 << 20)],
        cpus: &[0],
        interrupts: InterruptController::GicV3,
        cmdline: "",
        initrd: None,
        seed: &SEED,
    });
    let tree = read(&tree.unwrap());
    assert!(!tree.keys().any(|name| name.contains("initrd")));
}

#[test]
fn messages_go_to_the_controller_that_the_machine_has() {
    let v3 = read(&tree(InterruptController::GicV3));
    let its = "/interrupt-controller@8000000/msi-controller@8080000";
    assert_eq!(v3[&format!("{its}/compatible")], b"arm,gic-v3-its\0");
    assert_eq!(
        cells(&v3["/pcie@3f000000/msi-map"])[1],
        cells(&v3[&format!("{its}/phandle")])[0]
    );
    // 128 KiB of redistributors for each of three CPUs.
    let reg = cells(&v3["/interrupt-controller@8000000/reg"]);
    assert_eq!(
        reg,
        [0, 0x0800_0000, 0, 0x1_0000, 0, 0x0a00_0000, 0, 0x6_0000]
    );
    assert_eq!(cells(&v3["/timer/interrupts"])[..3], [1, 13, 4]);

    let v2 = read(&tree(InterruptController::GicV2));
    let frame = "/interrupt-controller@8000000/v2m@8020000";
    assert_eq!(v2[&format!("{frame}/compatible")], b"arm,gic-v2m-frame\0");
    assert_eq!(
        v2["/pcie@3f000000/msi-parent"],
        v2[&format!("{frame}/phandle")]
    );
    assert_eq!(cells(&v2["/timer/interrupts"])[..3], [1, 13, 0xff04]);
    assert!(!v2.keys().any(|name| name.contains("its")));
}

#[test]
fn it_leaves_room_for_the_longest_command_line_and_all_cpus() {
    let cpus: Vec<u64> = (0..254).map(|id| (id % 16) | ((id / 16) << 8)).collect();
    let tree = build(&Machine {
        ram: &[(layout::RAM, layout::MAX_MIB << 20)],
        cpus: &cpus,
        interrupts: InterruptController::GicV3,
        cmdline: &"x".repeat(2047),
        initrd: None,
        seed: &SEED,
    });
    assert!(tree.unwrap().len() as u64 <= layout::DEVICE_TREE_MAX);
}

#[test]
fn the_device_tree_compiler_finds_nothing_to_warn_of() {
    if Command::new("dtc")
        .arg("--version")
        .output()
        .is_ok_and(|dtc| dtc.status.success())
    {
        for interrupts in [InterruptController::GicV3, InterruptController::GicV2] {
            let mut dtc = Command::new("dtc")
                .args(["-I", "dtb", "-O", "dts"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            dtc.stdin
                .take()
                .unwrap()
                .write_all(&tree(interrupts))
                .unwrap();
            let output = dtc.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
    } else {
        let name = "the_device_tree_compiler_finds_nothing_to_warn_of";
        let _ = writeln!(std::io::stderr(), "skipped: {name}: no dtc");
    }
}
