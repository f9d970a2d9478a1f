//! The command line of QEMU for an image.
//!
//! As for a box, no path goes through QEMU's option syntax, and nothing is found by name.

use std::ffi::OsString;
use std::os::fd::RawFd;

use boxbuild_host::arch::Arch;
use boxbuild_vmm::net::GUEST_MAC;
use serde_json::{Value, json};

use super::firmware::Secure;
use super::format::DiskFormat;
use super::machine::{Accelerator, Board, Bus};
use crate::qemu::argv::{Argv, SANDBOX, processor};

/// How QEMU starts, in descriptors.
#[derive(Debug)]
pub(super) enum Start {
    Bios,
    Uefi {
        code: RawFd,
        variables: RawFd,
        secure: Secure,
    },
    Kernel {
        kernel: RawFd,
        initrd: Option<RawFd>,
        cmdline: String,
    },
}

/// A medium, in descriptors.
#[derive(Debug)]
pub(super) struct Drive {
    /// The image, which is only read.
    pub(super) base: Option<(RawFd, DiskFormat)>,
    /// What is written over it; a disc has none.
    pub(super) changes: Option<RawFd>,
    pub(super) bus: Bus,
}

/// Descriptors that QEMU inherits.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) start: Start,
    pub(super) drives: Vec<Drive>,
    pub(super) serial: RawFd,
    pub(super) monitor: RawFd,
    pub(super) network: Option<RawFd>,
}

/// Returns the arguments for a machine.
pub(super) fn arguments(board: &Board, fds: &Descriptors) -> Vec<OsString> {
    let mut argv = Argv::default();
    basics(&mut argv, board, fds);
    let mut nodes = Nodes::default();
    match &fds.start {
        Start::Bios => {}
        Start::Uefi {
            code, variables, ..
        } => {
            nodes.flash(&mut argv, "code", *code, false);
            nodes.flash(&mut argv, "variables", *variables, true);
        }
        Start::Kernel {
            kernel,
            initrd,
            cmdline,
        } => {
            argv.option("-kernel", format!("/proc/self/fd/{kernel}"));
            if let Some(initrd) = initrd {
                argv.option("-initrd", format!("/proc/self/fd/{initrd}"));
            }
            argv.option("-append", cmdline);
        }
    }
    buses(&mut argv, board.arch, fds);
    for (number, drive) in fds.drives.iter().enumerate() {
        nodes.drive(&mut argv, number, drive);
        argv.option("-device", device(board.arch, number, drive));
    }
    for (name, fd) in [("monitor", fds.monitor), ("serial", fds.serial)] {
        argv.option("-chardev", format!("socket,id={name},fd={fd}"));
    }
    argv.option("-mon", "chardev=monitor,mode=control");
    argv.option("-serial", "chardev:serial");
    let bus = bus(board.arch);
    if let Some(fd) = fds.network {
        argv.option("-netdev", format!("socket,id=net,fd={fd}"));
        let rom = if bus == "pci" { ",romfile=" } else { "" };
        let mac = GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
        argv.option(
            "-device",
            format!("virtio-net-{bus},netdev=net,mac={mac}{rom}"),
        );
    }
    argv.option("-device", format!("virtio-rng-{bus}"));
    argv.words
}

/// Ending of the names of virtio devices.
fn bus(arch: Arch) -> &'static str {
    if arch == Arch::S390x { "ccw" } else { "pci" }
}

/// Board, processors, memory, and what QEMU itself may do.
fn basics(argv: &mut Argv, board: &Board, fds: &Descriptors) {
    argv.flag("-no-user-config").flag("-nodefaults");
    argv.option("-display", "none");
    let name = board.name.replace(',', ",,");
    argv.option("-name", format!("{name},debug-threads=on"));
    argv.option("-sandbox", SANDBOX);
    match board.accelerator {
        Accelerator::Kvm => {
            argv.option("-accel", "kvm");
            if board.arch != Arch::X86_64 {
                argv.option("-accel", "tcg,thread=multi");
            }
        }
        Accelerator::Tcg => argv.option("-accel", "tcg,thread=multi"),
    }
    argv.option("-machine", machine(board, fds));
    let own = match (board.accelerator, board.arch) {
        (Accelerator::Kvm, Arch::X86_64) => String::from("host,-vmx,-svm"),
        (Accelerator::Kvm, _) => String::from("max"),
        (Accelerator::Tcg, arch) => processor(arch, board.cpu_level, false),
    };
    let model = board.cpu_model.clone();
    argv.option("-cpu", model.unwrap_or_else(|| own.into()));
    argv.option("-smp", board.cpus.to_string());
    argv.option("-m", format!("{}M", board.memory_mib));
    argv.option(
        "-object",
        format!("memory-backend-memfd,id=memory,size={}M", board.memory_mib),
    );
    argv.option("-rtc", "base=utc");
    if let Start::Uefi {
        secure: Secure::On, ..
    } = fds.start
        && board.arch == Arch::X86_64
    {
        // The guest's kernel must not change the keys (OVMF, README, SMM_REQUIRE).
        argv.option("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
}

/// The board. A machine without graphics has SeaBIOS and what it starts write to the serial line.
fn machine(board: &Board, fds: &Descriptors) -> String {
    let mut words = String::from(match board.arch {
        Arch::X86_64 => "q35,usb=off,vmport=off,smbus=off,sata=off,hpet=off,graphics=off",
        Arch::Aarch64 => "virt,gic-version=3",
        Arch::Ppc64le => "pseries",
        Arch::S390x => "s390-ccw-virtio",
    });
    if let Start::Uefi { secure, .. } = fds.start {
        words += ",pflash0=code,pflash1=variables";
        if board.arch == Arch::X86_64 {
            words += match secure {
                Secure::On => ",smm=on",
                Secure::Off => ",smm=off",
            };
        }
    }
    words + ",memory-backend=memory"
}

/// Controllers that disks and discs need.
fn buses(argv: &mut Argv, arch: Arch, fds: &Descriptors) {
    let any = |wanted: fn(&Drive) -> bool| fds.drives.iter().any(wanted);
    if any(|drive| drive.bus == Bus::Virtio && drive.changes.is_none()) {
        argv.option("-device", format!("virtio-scsi-{},id=scsi", bus(arch)));
    }
    if any(|drive| drive.bus == Bus::Sata) {
        argv.option("-device", "ich9-ahci,id=sata");
    }
    if any(|drive| drive.bus == Bus::Usb) {
        argv.option("-device", "qemu-xhci,id=usb");
    }
}

/// The device of a medium.
fn device(arch: Arch, number: usize, drive: &Drive) -> String {
    let cd = drive.changes.is_none();
    let kind = match (drive.bus, cd) {
        (Bus::Virtio, false) => format!("virtio-blk-{}", bus(arch)),
        (Bus::Virtio, true) => String::from("scsi-cd,bus=scsi.0"),
        (Bus::Sata, false) => format!("ide-hd,bus=sata.{number}"),
        (Bus::Sata, true) => format!("ide-cd,bus=sata.{number}"),
        (Bus::Usb, _) => String::from("usb-storage,bus=usb.0"),
    };
    let errors = if cd {
        ""
    } else {
        ",werror=enospc,rerror=report"
    };
    // QEMU itself takes the first place for a kernel.
    let place = number + 1;
    format!("{kind},drive=medium{number},bootindex={place}{errors}")
}

/// Block nodes, each over a file descriptor set of its own number.
#[derive(Debug, Default)]
struct Nodes {
    sets: usize,
}

impl Nodes {
    /// The node over an inherited descriptor.
    fn file(&mut self, argv: &mut Argv, fd: RawFd) -> Value {
        let set = self.sets;
        self.sets += 1;
        argv.option("-add-fd", format!("fd={fd},set={set}"));
        json!({"driver": "file", "filename": format!("/dev/fdset/{set}"), "locking": "off"})
    }

    fn flash(&mut self, argv: &mut Argv, name: &str, fd: RawFd, writable: bool) {
        let mut file = self.file(argv, fd);
        file["read-only"] = json!(!writable);
        let node =
            json!({"driver": "raw", "node-name": name, "read-only": !writable, "file": file});
        argv.option("-blockdev", node.to_string());
    }

    fn drive(&mut self, argv: &mut Argv, number: usize, drive: &Drive) {
        let name = format!("medium{number}");
        let base_name = match drive.changes {
            Some(_) => format!("base{number}"),
            None => name.clone(),
        };
        if let Some((fd, format)) = drive.base {
            let mut file = self.file(argv, fd);
            file["read-only"] = json!(true);
            let mut node = format.node(&file);
            node["node-name"] = json!(base_name);
            argv.option("-blockdev", node.to_string());
        }
        let Some(fd) = drive.changes else {
            return;
        };
        // It is gone with the machine: nothing of it has to reach the disk.
        let cache = json!({"no-flush": true});
        let mut file = self.file(argv, fd);
        file["discard"] = json!("unmap");
        file["cache"] = cache.clone();
        let backing = drive.base.map(|_| base_name);
        let node = json!({"driver": "qcow2", "node-name": name, "file": file, "backing": backing,
            "discard": "unmap", "cache": cache});
        argv.option("-blockdev", node.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuLevel;

    fn board(arch: Arch, accelerator: Accelerator) -> Board {
        Board {
            arch,
            accelerator,
            name: String::from("a,b"),
            memory_mib: 512,
            cpus: 2,
            cpu_level: CpuLevel::V1,
            cpu_model: None,
        }
    }

    fn words(board: &Board, fds: &Descriptors) -> Vec<String> {
        let words = arguments(board, fds).into_iter();
        words.map(|word| word.into_string().unwrap()).collect()
    }

    fn descriptors(start: Start, drives: Vec<Drive>) -> Descriptors {
        Descriptors {
            start,
            drives,
            serial: 20,
            monitor: 21,
            network: Some(22),
        }
    }

    fn disk(format: DiskFormat, bus: Bus) -> Drive {
        Drive {
            base: Some((10, format)),
            changes: Some(11),
            bus,
        }
    }

    /// A hostile image has the host's files as its backing file, and QEMU would open them.
    #[test]
    fn an_image_is_only_read_in_the_format_it_has_and_nothing_below_it_is_opened() {
        for format in [
            DiskFormat::Raw,
            DiskFormat::Qcow2,
            DiskFormat::Vmdk,
            DiskFormat::Vhd,
        ] {
            let fds = descriptors(Start::Bios, vec![disk(format, Bus::Virtio)]);
            let words = words(&board(Arch::X86_64, Accelerator::Tcg), &fds);
            let nodes: Vec<Value> = words
                .iter()
                .filter_map(|word| serde_json::from_str(word).ok())
                .filter(Value::is_object)
                .collect();
            assert_eq!(nodes.len(), 2);
            assert_eq!(nodes[0]["read-only"], true);
            assert_eq!(nodes[0]["file"]["read-only"], true);
            assert_eq!(nodes[0]["file"]["filename"], "/dev/fdset/0");
            let qcow2 = matches!(format, DiskFormat::Qcow2 | DiskFormat::Vmdk);
            assert_eq!(nodes[0].get("backing").is_some(), qcow2);
            assert!(nodes[0]["backing"].is_null());
            assert_eq!(nodes[1]["backing"], "base0");
            assert_eq!(nodes[1]["driver"], "qcow2");
        }
    }

    #[test]
    fn firmware_is_in_two_flashes_of_which_one_is_written() {
        for (secure, smm) in [(Secure::Off, ",smm=off"), (Secure::On, ",smm=on")] {
            let start = Start::Uefi {
                code: 12,
                variables: 13,
                secure,
            };
            let words = words(
                &board(Arch::X86_64, Accelerator::Kvm),
                &descriptors(start, Vec::new()),
            );
            assert!(
                words
                    .iter()
                    .any(|word| word.contains("pflash0=code,pflash1=variables"))
            );
            assert!(words.iter().any(|word| word.contains(smm)), "{words:?}");
            let guarded = words.iter().any(|word| word.contains("cfi.pflash01"));
            assert_eq!(guarded, secure == Secure::On);
            assert!(words.contains(&"a,,b,debug-threads=on".to_owned()));
        }
    }

    #[test]
    fn each_bus_has_its_controller() {
        let cd = |bus| Drive {
            base: Some((10, DiskFormat::Raw)),
            changes: None,
            bus,
        };
        for (drive, device, controller) in [
            (disk(DiskFormat::Raw, Bus::Virtio), "virtio-blk-pci,", None),
            (
                disk(DiskFormat::Raw, Bus::Sata),
                "ide-hd,",
                Some("ich9-ahci,"),
            ),
            (
                disk(DiskFormat::Raw, Bus::Usb),
                "usb-storage,",
                Some("qemu-xhci,"),
            ),
            (cd(Bus::Virtio), "scsi-cd,", Some("virtio-scsi-pci,")),
            (cd(Bus::Sata), "ide-cd,", Some("ich9-ahci,")),
        ] {
            let words = words(
                &board(Arch::X86_64, Accelerator::Tcg),
                &descriptors(Start::Bios, vec![drive]),
            );
            let has = |start: &str| words.iter().any(|word| word.starts_with(start));
            assert!(has(device), "{device}: {words:?}");
            assert!(controller.is_none_or(has), "{words:?}");
        }
    }

    #[test]
    fn other_architectures_have_boards_of_their_own() {
        for arch in Arch::ALL {
            let fds = descriptors(Start::Bios, vec![disk(DiskFormat::Raw, Bus::Virtio)]);
            let words = words(&board(arch, Accelerator::Tcg), &fds);
            assert!(
                words
                    .iter()
                    .any(|word| word.ends_with(",memory-backend=memory"))
            );
            assert!(!words.iter().any(|word| word == "kvm"));
        }
    }
}
