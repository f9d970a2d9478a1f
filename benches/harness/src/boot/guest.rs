//! The guest: busybox and a program that prints its uptime.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use boxbuild_firmware::cpio::Archive;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::environment::{find, output};

/// Ramdisks, and what their /init does. Each is there plain (`NAME.cpio`) and packed
/// (`NAME.cpio.gz`).
const GUESTS: [(&str, &str); 4] = [
    ("rd", "/bin/hello\nexec /bin/busybox reboot -f\n"),
    (
        "idle",
        "/bin/hello\n/bin/busybox sleep 0.5\necho IDLE\n/bin/busybox sleep 0.2\n\
         exec /bin/busybox reboot -f\n",
    ),
    // Until it is killed.
    (
        "hold",
        "/bin/hello\necho IDLE\nexec /bin/busybox sleep 3600\n",
    ),
    // For cloud-hypervisor, which answers a reset with another boot.
    ("off", "/bin/hello\nexec /bin/busybox poweroff -f\n"),
];

/// Size of the disk in bytes.
const DISK: u64 = 64 << 20;

/// Firmware of QEMU.
const FIRMWARE: [&str; 6] = [
    "bios-256k.bin",
    "bios-microvm.bin",
    "pvh.bin",
    "linuxboot.bin",
    "linuxboot_dma.bin",
    "kvmvapic.bin",
];

/// Makes the ramdisks, a disk and two folders to be shared.
pub(super) fn make(repository: &Path, work: &Path) -> Result<()> {
    let hello = work.join("hello");
    let source = repository.join("benches/boot/hello.c");
    let mut gcc = Command::new("gcc");
    output(gcc.args(["-O2", "-static", "-o"]).args([&hello, &source]))?;
    let hello = read(&hello)?;
    let busybox = read(&find("busybox").context("busybox-static is not installed")?)?;
    for (name, script) in GUESTS {
        let archive = Archive::new()
            .directory("bin", 0o755)
            .file("bin/busybox", 0o755, &busybox)
            .file("bin/hello", 0o755, &hello)
            .symlink("bin/sh", "busybox")
            .directory("dev", 0o755)
            .device("dev/console", 0o600, (5, 1))
            .file("init", 0o755, format!("#!/bin/sh\n{script}").as_bytes())
            .directory("proc", 0o755)
            .finish();
        fs::write(work.join(format!("{name}.cpio")), &archive)?;
        let packed = fs::File::create(work.join(format!("{name}.cpio.gz")))?;
        let mut packed = GzEncoder::new(packed, Compression::best());
        packed.write_all(&archive)?;
        packed.finish()?;
    }
    fs::remove_file(work.join("hello"))?;
    for folder in ["share1", "share2"] {
        fs::create_dir(work.join(folder))?;
    }
    fs::File::create(work.join("disk"))?.set_len(DISK)?;
    Ok(())
}

/// Copies QEMU's firmware, whose links lead to other packages, to `work/qemu`.
pub(super) fn firmware(data: &Path, work: &Path) -> Result<()> {
    let to = work.join("qemu");
    fs::create_dir(&to)?;
    for name in FIRMWARE {
        let places = [data, Path::new("/usr/share/seabios")].map(|folder| folder.join(name));
        if let Some(file) = places.iter().find(|file| file.exists()) {
            fs::copy(file, to.join(name))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
