//! The command line of QEMU.
//!
//! Everything the machine consists of comes through inherited file descriptors: no socket
//! and no temporary file has a name that could be guessed, collide or be left behind, and no
//! path goes through QEMU's own option syntax.

use std::ffi::OsString;
use std::os::fd::RawFd;

use boxbuild_protocol::ports;
use boxbuild_vmm::net::GUEST_MAC;
use serde_json::json;

use crate::{CpuLevel, Machine};
use boxbuild_host::arch::Arch;
use boxbuild_host::secret;

/// Size of a virtio-fs queue: the largest that QEMU takes.
const FS_QUEUE_SIZE: u32 = 1024;

/// Descriptors that QEMU inherits.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) kernel: RawFd,
    pub(super) initrd: RawFd,
    /// Images of the root disk that are only read, from the bottom up.
    pub(super) bases: Vec<RawFd>,
    /// The image that is written.
    pub(super) disk: RawFd,
    /// That image is gone with the machine.
    pub(super) private: bool,
    pub(super) console: RawFd,
    pub(super) control: RawFd,
    pub(super) monitor: RawFd,
    /// Where the box has things compressed.
    pub(super) xz: RawFd,
    /// The stream of the network's frames, if there is a network.
    pub(super) network: Option<RawFd>,
    /// One vhost-user connection per share, in the order of the shares.
    pub(super) shares: Vec<RawFd>,
}

/// What differs between architectures.
struct Platform {
    machine: &'static str,
    cpu: &'static str,
    /// Ending of the names of virtio devices.
    bus: &'static str,
}

/// What QEMU itself may do: no privileges, no programs.
pub(super) const SANDBOX: &str =
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// What the translator would only lose time with: saving and restoring wide vector registers
/// at each switch of tasks, switching the access rights of the kernel at each copy from user
/// space, and tables that it does not have (docs/qemu-engine.md has the figures).
/// What is left is x86-64-v2.
const CPU_X86_64: &str = "max,-la57,-avx,-avx2,-xsave,-xsaveopt,-xsavec,-xsaves,\
                          -erms,-fsrm,-smap,-smep,-umip,-pku,-pcid,-invpcid";

/// The same with the wide registers of x86-64-v3.
const CPU_X86_64_V3: &str = "max,-la57,-erms,-fsrm,-smap,-smep,-umip,-pku,-pcid,-invpcid";

/// cmpxchg16b makes some kernels fault under TCG. What is left is x86-64-v1.
const WITHOUT_CX16: &str = ",-cx16";

/// What the translator emulates for virtual machines in the guest. VMX it does not have.
const NESTED_X86_64: &str = ",-svm";

/// CPU models are chosen for TCG: what user space of current distributions needs, and
/// nothing that only slows the translation down.
fn platform(arch: Arch) -> Platform {
    match arch {
        Arch::X86_64 => Platform {
            machine: "q35,usb=off,vmport=off,smbus=off,sata=off,hpet=off",
            cpu: CPU_X86_64,
            bus: "pci",
        },
        Arch::Aarch64 => Platform {
            machine: "virt,gic-version=3",
            cpu: "max,pauth=off,lpa2=off",
            bus: "pci",
        },
        Arch::Ppc64le => Platform {
            machine: "pseries",
            cpu: "power9",
            bus: "pci",
        },
        Arch::S390x => Platform {
            machine: "s390-ccw-virtio",
            cpu: "max",
            bus: "ccw",
        },
    }
}

/// The CPU model that an emulated guest gets unless the user names one.
pub(super) fn processor(arch: Arch, level: CpuLevel, nested: bool) -> String {
    let mut model = String::from(platform(arch).cpu);
    if arch == Arch::X86_64 {
        model = match level {
            CpuLevel::V1 => model + WITHOUT_CX16,
            CpuLevel::V2 => model,
            CpuLevel::V3 | CpuLevel::V4 => String::from(CPU_X86_64_V3),
        };
        if !nested {
            model += NESTED_X86_64;
        }
    }
    model
}

/// Name of the QEMU program for guests of `arch`.
pub(super) fn program(arch: Arch) -> String {
    let name = if arch == Arch::Ppc64le {
        "ppc64"
    } else {
        arch.name()
    };
    format!("qemu-system-{name}")
}

/// Returns the arguments for `machine`.
pub(super) fn arguments(machine: &Machine, fds: &Descriptors) -> Vec<OsString> {
    let mut argv = Argv::default();
    board(&mut argv, machine);
    kernel(&mut argv, machine, fds);
    disk(&mut argv, machine, fds);
    ports(&mut argv, machine, fds);
    shares(&mut argv, machine, fds);
    network(&mut argv, machine, fds);
    let bus = platform(machine.arch).bus;
    argv.option("-device", format!("virtio-rng-{bus}"));
    argv.option(
        "-device",
        format!("virtio-balloon-{bus},free-page-reporting=on"),
    );
    argv.words
}

/// Processors, memory and clock, and what QEMU itself may do.
fn board(argv: &mut Argv, machine: &Machine) {
    let platform = platform(machine.arch);
    argv.flag("-no-user-config")
        .flag("-nodefaults")
        .flag("-no-reboot");
    argv.option("-display", "none");
    argv.option(
        "-name",
        format!("{},debug-threads=on", machine.name.replace(',', ",,")),
    );
    argv.option("-sandbox", SANDBOX);
    argv.option("-accel", "tcg,thread=multi");
    let kind = machine.machine_type.clone();
    let mut kind = kind.unwrap_or_else(|| platform.machine.into());
    kind.push(",memory-backend=memory");
    argv.option("-machine", kind);
    let model = machine.cpu_model.clone();
    let own = || processor(machine.arch, machine.cpu_level, machine.nested).into();
    argv.option("-cpu", model.unwrap_or_else(own));
    argv.option("-smp", machine.cpus.to_string());
    argv.option("-m", format!("{}M", machine.memory_mib));
    argv.option(
        "-object",
        format!(
            "memory-backend-memfd,id=memory,size={}M,share=on",
            machine.memory_mib
        ),
    );
    argv.option("-rtc", "base=utc");
}

fn kernel(argv: &mut Argv, machine: &Machine, fds: &Descriptors) {
    argv.option("-kernel", format!("/proc/self/fd/{}", fds.kernel));
    argv.option("-initrd", format!("/proc/self/fd/{}", fds.initrd));
    // Every user of the host sees arguments.
    if secret::is_in(&machine.cmdline) {
        argv.flag("-preconfig");
    } else {
        argv.option("-append", &machine.cmdline);
    }
}

fn disk(argv: &mut Argv, machine: &Machine, fds: &Descriptors) {
    for (set, fd) in fds.bases.iter().chain([&fds.disk]).enumerate() {
        argv.option("-add-fd", format!("fd={fd},set={set}"));
    }
    for node in block_nodes(fds.bases.len(), fds.private) {
        argv.option("-blockdev", node.to_string());
    }
    let bus = platform(machine.arch).bus;
    argv.option(
        "-device",
        format!("virtio-blk-{bus},drive={TOP},werror=enospc,rerror=report"),
    );
}

/// The console and the ports of boxbuild (docs/guest-contract.md), and QEMU's monitor.
fn ports(argv: &mut Argv, machine: &Machine, fds: &Descriptors) {
    let bus = platform(machine.arch).bus;
    for (name, fd) in [
        ("monitor", fds.monitor),
        ("console", fds.console),
        ("control", fds.control),
        ("xz", fds.xz),
    ] {
        argv.option("-chardev", format!("socket,id={name},fd={fd}"));
    }
    argv.option("-mon", "chardev=monitor,mode=control");
    argv.option("-device", format!("virtio-serial-{bus}"));
    argv.option("-device", "virtconsole,chardev=console");
    for (name, port) in [("control", ports::CONTROL), ("xz", ports::XZ)] {
        argv.option(
            "-device",
            format!("virtserialport,chardev={name},name={port}"),
        );
    }
}

fn shares(argv: &mut Argv, machine: &Machine, fds: &Descriptors) {
    let bus = platform(machine.arch).bus;
    for (number, (share, fd)) in machine.shares.iter().zip(&fds.shares).enumerate() {
        argv.option("-chardev", format!("socket,id=share{number},fd={fd}"));
        argv.option(
            "-device",
            format!(
                "vhost-user-fs-{bus},chardev=share{number},queue-size={FS_QUEUE_SIZE},tag={}",
                share.tag.as_str().replace(',', ",,")
            ),
        );
    }
}

/// A card at the end of boxbuild's own network, in place of QEMU's: that one can neither keep the guest
/// from the host's loopback nor from its neighbours.
fn network(argv: &mut Argv, machine: &Machine, fds: &Descriptors) {
    let Some(fd) = fds.network else {
        return;
    };
    let bus = platform(machine.arch).bus;
    argv.option("-netdev", format!("socket,id=net,fd={fd}"));
    let rom = if bus == "pci" { ",romfile=" } else { "" };
    let mac = GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    argv.option(
        "-device",
        format!("virtio-net-{bus},netdev=net,mac={mac}{rom}"),
    );
}

/// The root disk: images one over the other, from the bottom up, each in the file descriptor
/// set of its number; only the last is written.
///
/// One that is gone with the machine is never flushed, and QEMU's image locks are off: the
/// others are shared by builds that only read them, and that one has no name that anybody else
/// could open.
///
/// A checkpoint puts one more over them ([`checkpoint_nodes`]).
fn block_nodes(bases: usize, private: bool) -> Vec<serde_json::Value> {
    let locking = if private { "off" } else { "auto" };
    let mut nodes = Vec::new();
    for set in 0..=bases {
        let top = set == bases;
        let mut file = json!({"driver": "file", "node-name": format!("file{set}"),
            "filename": format!("/dev/fdset/{set}"), "read-only": !top, "locking": locking});
        let name = if top {
            TOP.to_owned()
        } else {
            format!("base{set}")
        };
        let mut image = json!({"driver": "qcow2", "node-name": name,
            "file": format!("file{set}"), "read-only": !top});
        // Without this, QEMU opens what the image names as its backing file.
        image["backing"] = match set {
            0 => serde_json::Value::Null,
            _ => json!(format!("base{}", set - 1)),
        };
        if top {
            for node in [&mut file, &mut image] {
                node["discard"] = json!("unmap");
                node["cache"] = json!({"no-flush": private});
            }
        }
        nodes.extend([file, image]);
    }
    nodes
}

/// Name of the image that is written from the start.
const TOP: &str = "disk";

/// Number of the file descriptor set with the image that is written after a checkpoint.
pub(super) const CHECKPOINT_SET: u32 = 1000;

/// What QEMU's monitor is told to have it write into one more image, whose file is in the set
/// [`CHECKPOINT_SET`] (QEMU, docs/interop/live-block-operations.rst).
pub(super) fn checkpoint_nodes() -> [serde_json::Value; 3] {
    let cache = json!({"no-flush": true});
    [
        json!({"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "file-after",
            "filename": format!("/dev/fdset/{CHECKPOINT_SET}"), "locking": "off", "discard": "unmap",
            "cache": cache}}),
        json!({"execute": "blockdev-add", "arguments": {"driver": "qcow2", "node-name": "after",
            "file": "file-after", "backing": null, "discard": "unmap", "cache": cache}}),
        json!({"execute": "blockdev-snapshot", "arguments": {"node": TOP, "overlay": "after"}}),
    ]
}

/// Words of a command line.
#[derive(Debug, Default)]
pub(super) struct Argv {
    pub(super) words: Vec<OsString>,
}

impl Argv {
    pub(super) fn flag(&mut self, name: &str) -> &mut Argv {
        self.words.push(name.into());
        self
    }

    pub(super) fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.words.push(name.into());
        self.words.push(value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::{MountTag, Policy, RootDisk, Share};

    fn machine(arch: Arch) -> Machine {
        let share = |tag: &str| Share::new(MountTag::new(tag).unwrap(), "/a,b=c \"'$\n");
        Machine {
            name: "boxbuild-x".to_owned(),
            arch,
            kernel: "/k,e".into(),
            kernel_sha256: String::new(),
            unpack_kernel: true,
            initrd: std::fs::File::open("/dev/null").unwrap().into(),
            cmdline: "console=hvc0 kiwi=\"a,b\"".to_owned(),
            disk: RootDisk::InPlace("/d,file=/etc/passwd".into()),
            memory_mib: 1024,
            cpus: 3,
            nested: false,
            shares: vec![share("one"), share("two")],
            network: Some(Policy::default()),
            forward: None,
            handover: None,
            machine_type: None,
            cpu_model: None,
            cpu_level: CpuLevel::V1,
        }
    }

    fn words(machine: &Machine) -> Vec<String> {
        let fds = Descriptors {
            kernel: 10,
            initrd: 11,
            bases: vec![12],
            disk: 13,
            private: true,
            console: 14,
            control: 15,
            monitor: 16,
            xz: 19,
            network: machine.network.as_ref().map(|_| 20),
            shares: vec![17, 18],
        };
        arguments(machine, &fds)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn no_path_is_an_argument_and_nothing_listens() {
        let words = words(&machine(Arch::X86_64));
        for word in &words {
            for bad in ["/a,b", "/k,e", "/d,", "hostfwd", "server=on"] {
                assert!(!word.contains(bad), "{word}");
            }
        }
        assert!(words.contains(&"socket,id=share1,fd=18".to_owned()));
        let append = words.iter().position(|word| word == "-append").unwrap();
        assert_eq!(words[append + 1], "console=hvc0 kiwi=\"a,b\"");
    }

    /// QEMU's own network cannot be confined.
    #[test]
    fn frames_go_through_a_descriptor() {
        let words = words(&machine(Arch::X86_64));
        assert!(
            words.contains(&"socket,id=net,fd=20".to_owned()),
            "{words:?}"
        );
        assert!(!words.iter().any(|word| word.starts_with("user,")));
        let card = "virtio-net-pci,netdev=net,mac=02:62:6f:78:00:0f,romfile=";
        assert!(words.contains(&card.to_owned()), "{words:?}");
    }

    #[test]
    fn no_network_means_no_interface() {
        let mut machine = machine(Arch::X86_64);
        machine.network = None;
        let words = words(&machine);
        assert!(!words.iter().any(|word| word.contains("net")), "{words:?}");
    }

    /// Fault 12.
    #[test]
    fn a_secret_on_the_kernel_command_line_is_no_argument() {
        let mut machine = machine(Arch::X86_64);
        machine.cmdline = "console=hvc0 http_proxy=_http://me:s3cret@proxy:3128_".to_owned();
        let words = words(&machine);
        assert!(
            !words.iter().any(|word| word.contains("s3cret")),
            "{words:?}"
        );
        assert!(words.contains(&"-preconfig".to_owned()));
    }

    #[test]
    fn every_architecture_has_a_machine() {
        for arch in Arch::ALL {
            let words = words(&machine(arch));
            assert!(
                words
                    .iter()
                    .any(|word| word.ends_with(",memory-backend=memory"))
            );
            let ccw = words.iter().any(|word| word.starts_with("virtio-blk-ccw"));
            assert_eq!(ccw, arch == Arch::S390x);
        }
    }

    /// Each architecture has its own bus, and nothing of another one's.
    #[test]
    fn devices_of_foreign_machines() {
        for (arch, name, kind, bus) in [
            (
                Arch::Aarch64,
                "qemu-system-aarch64",
                "virt,gic-version=3",
                "pci",
            ),
            (Arch::Ppc64le, "qemu-system-ppc64", "pseries", "pci"),
            (Arch::S390x, "qemu-system-s390x", "s390-ccw-virtio", "ccw"),
        ] {
            assert_eq!(program(arch), name);
            let words = words(&machine(arch));
            assert!(words.contains(&format!("{kind},memory-backend=memory")));
            for device in ["blk", "serial", "net", "rng", "balloon"] {
                let wanted = format!("virtio-{device}-{bus}");
                assert!(
                    words.iter().any(|word| word.starts_with(&wanted)),
                    "{wanted}: {words:?}"
                );
            }
            let fs = format!("vhost-user-fs-{bus},chardev=share0");
            assert!(words.iter().any(|word| word.starts_with(&fs)), "{words:?}");
            // A channel device has no option ROM.
            let rom = words.iter().any(|word| word.contains("romfile"));
            assert_eq!(rom, bus == "pci");
        }
    }

    #[test]
    fn a_guest_runs_virtual_machines_only_if_it_is_asked_for() {
        for (nested, withheld) in [(false, true), (true, false)] {
            let mut machine = machine(Arch::X86_64);
            machine.nested = nested;
            let words = words(&machine);
            assert_eq!(words.iter().any(|word| word.contains("-svm")), withheld);
        }
    }

    /// EL 9 and Leap 16 need the first, EL 10 the second; the flags are those of the psABI.
    #[test]
    fn a_box_gets_the_level_that_it_needs() {
        let model = |level| {
            let mut machine = machine(Arch::X86_64);
            machine.cpu_level = level;
            let words = words(&machine);
            let at = words.iter().position(|word| word == "-cpu").unwrap();
            words[at + 1].clone()
        };
        let lacks = |level, flag: &str| model(level).split(',').any(|word| word == flag);
        assert!(lacks(CpuLevel::V1, "-cx16") && lacks(CpuLevel::V1, "-avx"));
        assert!(!lacks(CpuLevel::V2, "-cx16") && lacks(CpuLevel::V2, "-avx2"));
        for flag in ["-cx16", "-avx", "-avx2", "-xsave"] {
            assert!(!lacks(CpuLevel::V3, flag), "{flag}");
        }
        assert!(lacks(CpuLevel::V3, "-svm"));
    }

    #[test]
    fn overrides_win() {
        let mut machine = machine(Arch::X86_64);
        machine.machine_type = Some("pc".into());
        machine.cpu_model = Some("Haswell".into());
        let words = words(&machine);
        assert!(words.contains(&"pc,memory-backend=memory".to_owned()));
        assert!(words.contains(&"Haswell".to_owned()));
    }

    /// Suspected: QEMU follows the name of a backing file in the lowest image. Here that name
    /// leads nowhere, so that QEMU would not start if it looked.
    #[test]
    fn no_image_decides_what_lies_below_it() {
        let nodes = block_nodes(0, true);
        assert_eq!(nodes[1]["backing"], serde_json::Value::Null);
        assert!(nodes[1].as_object().unwrap().contains_key("backing"));
        let Some(img) = boxbuild_host::program::find("qemu-img") else {
            return skip("qemu-img");
        };
        let Some(qemu) = boxbuild_host::program::find(&program(Arch::host())) else {
            return skip("QEMU");
        };
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk.qcow2");
        let made = Command::new(img)
            .args(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b"])
            .arg("/nowhere/secret")
            .arg(&disk)
            .arg("1M")
            .status();
        assert!(made.unwrap().success());
        let start = |node: &serde_json::Value| {
            let mut node = node.clone();
            let file = json!({"driver": "file", "filename": disk});
            node["file"] = file;
            let mut child = Command::new(&qemu)
                .args(["-machine", "none", "-nodefaults", "-display", "none"])
                .args(["-qmp", "stdio", "-blockdev", &node.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let quit = b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}";
            let _ = child.stdin.take().unwrap().write_all(quit);
            child.wait().unwrap().success()
        };
        let mut without = nodes[1].clone();
        without.as_object_mut().unwrap().remove("backing");
        assert!(
            !start(&without),
            "QEMU follows no names: this proves nothing"
        );
        assert!(start(&nodes[1]));
    }

    fn skip(what: &str) {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: no_image_decides_what_lies_below_it: {what} is not installed"
        );
    }
}
