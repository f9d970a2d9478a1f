//! What boots what.

use std::path::{Path, PathBuf};

use anyhow::Result;
use boxbuild_protocol::kernel_args::{NO_CRYPTO_TESTS, NO_INITCALLS};

use crate::environment::peer;

/// Words of every guest's command line.
const CMDLINE: &str = "console=ttyS0 reboot=t panic=-1 quiet";

/// What is booted, and by which programs.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) boot: PathBuf,
    pub(super) qemu: PathBuf,
    pub(super) bzimage: PathBuf,
    pub(super) vmlinux: PathBuf,
    /// With the ramdisks, the disk and the folders to share.
    pub(super) work: PathBuf,
}

/// One monitor with one guest.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

impl Row {
    fn new(name: &'static str, program: &Path, words: &str, values: &[(&str, &str)]) -> Row {
        let mut arguments: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        for (option, value) in values {
            arguments.extend([option, value].map(|word| (*word).to_owned()));
        }
        Row {
            name,
            program: program.to_owned(),
            arguments,
        }
    }

    /// Whether VM exits are counted. With the devices of a build box, the run that does so did not
    /// end once.
    pub(super) fn counts_exits(&self) -> bool {
        !self.name.starts_with("box-")
    }

    /// Whether the monitor's memory is looked at.
    pub(super) fn measures_memory(&self) -> bool {
        ["box-elf", "microvm-elf"].contains(&self.name)
    }
}

/// All rows, those of programs that are not installed included.
pub(super) fn all(files: &Files, more_words: &str) -> Result<Vec<Row>> {
    let plain = format!("{CMDLINE} {more_words}").trim_end().to_owned();
    let lean = format!("{plain} {NO_CRYPTO_TESTS} {NO_INITCALLS}");
    let bz = &files.bzimage.display().to_string();
    let elf = &files.vmlinux.display().to_string();
    let path = |name: &str| files.work.join(name).display().to_string();
    let (packed, unpacked) = (&path("rd.cpio.gz"), &path("rd.cpio"));

    let ours = |name, devices: &str, kernel: &str, initrd: &str, cmdline: &str| {
        let guest = [
            ("--kernel", kernel),
            ("--initrd", initrd),
            ("--cmdline", cmdline),
        ];
        Row::new(
            name,
            &files.boot,
            &format!("--memory 256 {devices}"),
            &guest,
        )
    };
    let devices = &format!(
        "--net --disk {} --share kiwidescription={} --share kiwibundle={}",
        path("disk"),
        path("share1"),
        path("share2")
    );
    let qemu = |name, machine: &str, kernel: &str, initrd: &str, cmdline: &str| {
        let words = format!(
            "-L /usr/share/qemu -accel kvm -cpu host -m 256 -smp 1 -nodefaults -no-user-config \
             -display none -serial stdio -no-reboot -M {machine}"
        );
        let guest = [
            ("-kernel", kernel),
            ("-initrd", initrd),
            ("-append", cmdline),
        ];
        Row::new(name, &files.qemu, &words, &guest)
    };
    let microvm = "microvm,rtc=on";
    let mut rows = vec![
        ours("bz", "", bz, packed, &plain),
        ours("elf", "", elf, packed, &plain),
        ours("box-elf", devices, elf, packed, &plain),
        ours("serial-elf", "--serial-only", elf, packed, &plain),
        ours("serial-bz", "--serial-only", bz, packed, &plain),
        ours("levers", "", elf, unpacked, &lean),
        ours("box-levers", devices, elf, unpacked, &lean),
        qemu("microvm-elf", microvm, elf, packed, &plain),
        qemu("microvm-bz", microvm, bz, packed, &plain),
        qemu("q35-bz", "q35", bz, packed, &plain),
        qemu("microvm-levers", microvm, elf, unpacked, &lean),
    ];
    for (name, kernel, initrd, cmdline) in [
        ("fc-elf", elf, packed, &plain),
        ("fc-bz", bz, packed, &plain),
        ("fc-levers", elf, unpacked, &lean),
    ] {
        rows.push(firecracker(name, &files.work, [kernel, initrd, cmdline])?);
    }
    let (packed, unpacked) = (&path("off.cpio.gz"), &path("off.cpio"));
    for (name, kernel, initrd, cmdline) in [
        ("ch-elf", elf, packed, &plain),
        ("ch-bz", bz, packed, &plain),
        ("ch-levers", elf, unpacked, &lean),
    ] {
        rows.push(cloud_hypervisor(name, [kernel, initrd, cmdline]));
    }
    Ok(rows)
}

/// A monitor with one serial port and nothing else, like the next one.
fn firecracker(
    name: &'static str,
    work: &Path,
    [kernel, initrd, cmdline]: [&str; 3],
) -> Result<Row> {
    // The second one's guest stays, for several at once.
    let held = initrd.replace("rd.cpio", "hold.cpio");
    for (file, initrd) in [
        (format!("{name}-hold"), held.as_str()),
        (name.to_owned(), initrd),
    ] {
        let machine = serde_json::json!({
            "boot-source": {
                "kernel_image_path": kernel,
                "initrd_path": initrd,
                "boot_args": cmdline,
            },
            "machine-config": { "vcpu_count": 1, "mem_size_mib": 256 },
            "drives": [],
        });
        std::fs::write(work.join(format!("{file}.json")), machine.to_string())?;
    }
    let config = work.join(format!("{name}.json")).display().to_string();
    let values = [("--config-file", config.as_str())];
    let program = program("FIRECRACKER", "firecracker");
    Ok(Row::new(name, &program, "--no-api", &values))
}

fn cloud_hypervisor(name: &'static str, [kernel, initrd, cmdline]: [&str; 3]) -> Row {
    let values = [
        ("--kernel", kernel),
        ("--initramfs", initrd),
        ("--cmdline", cmdline),
    ];
    let program = program("CLOUD_HYPERVISOR", "cloud-hypervisor");
    let words = "--cpus boot=1 --memory size=256M --serial tty --console off";
    Row::new(name, &program, words, &values)
}

/// A peer's program, or its name where it is not installed.
fn program(variable: &str, name: &str) -> PathBuf {
    peer(variable, name).unwrap_or_else(|| PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> (tempfile::TempDir, Vec<Row>) {
        let work = tempfile::tempdir().unwrap();
        let files = Files {
            boot: PathBuf::from("/boot-program"),
            qemu: PathBuf::from("/qemu"),
            bzimage: PathBuf::from("/vmlinuz"),
            vmlinux: PathBuf::from("/vmlinux"),
            work: work.path().to_owned(),
        };
        let rows = all(&files, "more=1").unwrap();
        (work, rows)
    }

    #[test]
    fn each_row_has_its_kernel_and_words() {
        let (work, rows) = rows();
        let row = |name| rows.iter().find(|row| row.name == name).unwrap();
        let elf = row("elf");
        assert!(elf.arguments.contains(&String::from("/vmlinux")));
        assert!(elf.arguments.last().unwrap().ends_with("quiet more=1"));
        assert!(row("q35-bz").arguments.contains(&String::from("q35")));
        let config = std::fs::read_to_string(work.path().join("fc-levers.json")).unwrap();
        assert!(config.contains("more=1 cryptomgr.notests=1"), "{config}");
        assert!(!row("box-elf").counts_exits() && row("box-elf").measures_memory());
    }
}
