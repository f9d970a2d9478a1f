//! QEMU's command line.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use boxbuild_tests::command::command;

use crate::arch::Arch;
use crate::options::{Clock, Job};
use crate::pack::tag;
use crate::relay::{Unnamed, inherited_path};

/// QEMU's ends of what the command and the machine say.
pub(crate) struct Channels {
    pub(crate) initrd: Unnamed,
    pub(crate) console: Unnamed,
    pub(crate) files: Unnamed,
}

/// The ends of the pipes that QEMU writes into.
pub(crate) struct Pipes<'a> {
    pub(crate) out: &'a std::io::PipeWriter,
    pub(crate) err: &'a std::io::PipeWriter,
    pub(crate) report: &'a std::io::PipeWriter,
}

/// The agent's channels, in the order of the numbers by which it knows them (`tests/lab/agent.rs`).
const CHANNELS: [&str; 4] = ["out", "err", "report", "files"];

/// The first of the agent's debug ports on x86_64.
const FIRST_PORT: u16 = 0xe9;

/// QEMU with everything that the job asks for.
pub(crate) fn qemu(
    job: &Job,
    kernel: &Path,
    channels: &Channels,
    pipes: &Pipes<'_>,
) -> Result<Command> {
    // The machine goes with the lab, even if that is killed.
    let mut qemu = command("setpriv");
    qemu.args(["--pdeathsig", "KILL", job.arch.emulator().0]);
    qemu.args(["-smp", &job.cpus.to_string()]);
    qemu.args(["-m", &job.memory_mib.to_string()]);
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu.args(["-display", "none"]);
    qemu.args(board(job)).args(clock(job));
    qemu.arg("-kernel").arg(kernel);
    qemu.args(["-initrd", &channels.initrd.path()?]);
    qemu.args(["-append", &kernel_words(job)]);
    qemu.args(chardev("console", &channels.console.path()?));
    qemu.args(["-serial", "chardev:console"]);
    let paths = [
        inherited_path(pipes.out)?,
        inherited_path(pipes.err)?,
        inherited_path(pipes.report)?,
        channels.files.path()?,
    ];
    for ((number, name), path) in (0..).zip(CHANNELS).zip(&paths) {
        qemu.args(chardev(name, path));
        qemu.arg("-device");
        qemu.arg(match job.arch {
            Arch::X86_64 => debug_port(name, FIRST_PORT + number),
            Arch::Aarch64 => serial_port(name),
        });
    }
    qemu.arg("-nic");
    // Not the network of its guests, 10.0.2.0/24.
    qemu.arg(if job.network {
        "user,model=virtio-net-pci,net=192.168.76.0/24,ipv6=off"
    } else {
        "none"
    });
    for (number, share) in job.shares.iter().enumerate() {
        let folder = share.folder.display().to_string().replace(',', ",,");
        let tag = tag(number);
        qemu.arg("-virtfs").arg(format!(
            "local,path={folder},mount_tag={tag},security_model=none,multidevs=remap"
        ));
    }
    Ok(qemu)
}

/// The machine, its processor, and what the agent's channels are on.
fn board(job: &Job) -> Vec<String> {
    let cpu = match (job.arch, job.clock) {
        (Arch::X86_64, Clock::Host) => format!("{},+svm", job.cpu),
        (Arch::X86_64, Clock::Counted { tcg_named }) => {
            let named = if tcg_named { "on" } else { "off" };
            format!("{},+svm,-erms,-fsrm,tcg-cpuid={named}", job.cpu)
        }
        // Pointers are signed by a cheap function, not by the one of the architecture, which
        // takes half of the emulator's time.
        (Arch::Aarch64, _) if job.cpu == "max" => String::from("max,pauth-impdef=on"),
        (Arch::Aarch64, _) => job.cpu.clone(),
    };
    let gic = &job.gic;
    let words: &[&str] = match job.arch {
        Arch::X86_64 => &["-device", "isa-debug-exit,iobase=0xf4,iosize=1"],
        // The channels are written to while the CPU waits, so that what was written is out even if
        // the machine dies.
        Arch::Aarch64 => &[
            "-machine",
            &format!("virt,virtualization=on,gic-version={gic},dtb-randomness=off"),
            "-global",
            "virtio-mmio.ioeventfd=off",
            "-device",
            "virtio-serial-device",
        ],
    };
    let words = words.iter().map(|word| (*word).to_owned());
    [String::from("-cpu"), cpu]
        .into_iter()
        .chain(words)
        .collect()
}

fn clock(job: &Job) -> &'static [&'static str] {
    match job.clock {
        Clock::Host => &["-accel", "tcg,thread=multi"],
        Clock::Counted { .. } => &[
            "-accel",
            "tcg,thread=single",
            "-icount",
            "shift=0,sleep=off",
            "-seed",
            "1",
            "-rtc",
            "base=2026-01-01,clock=vm",
        ],
    }
}

/// The kernel's command line.
fn kernel_words(job: &Job) -> String {
    let mut words = String::from(match job.arch {
        Arch::X86_64 => "console=ttyS0 reboot=t",
        Arch::Aarch64 => "console=ttyAMA0",
    });
    words += " panic=-1 cryptomgr.notests=1";
    if !job.verbose {
        words += " quiet";
    }
    if job.clock != Clock::Host {
        words += " nokaslr norandmaps";
    }
    for more in &job.append {
        words = words + " " + more;
    }
    words
}

fn chardev(name: &str, path: &str) -> [String; 2] {
    let words = format!("file,id={name},path={path},append=on");
    [String::from("-chardev"), words]
}

/// A port that takes bytes, without a driver.
fn debug_port(name: &str, number: u16) -> String {
    format!("isa-debugcon,iobase={number:#x},chardev={name}")
}

/// A port of the virtio console, which the agent finds by its name.
fn serial_port(name: &str) -> String {
    format!("virtserialport,chardev={name},name={name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_its_port() {
        let words = chardev("out", "/dev/fd/9");
        assert_eq!(words[1], "file,id=out,path=/dev/fd/9,append=on");
        let words = debug_port("out", FIRST_PORT);
        assert_eq!(words, "isa-debugcon,iobase=0xe9,chardev=out");
        let words = serial_port("out");
        assert_eq!(words, "virtserialport,chardev=out,name=out");
    }
}
