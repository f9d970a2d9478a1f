//! What is in the machine: its initial root file system.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use boxbuild_firmware::kernel::unpack_start;
use boxbuild_tests::command::find;
use boxbuild_tests::tree::Tree;
use boxbuild_tests::{debian, foreign};

use crate::arch::Arch;
use crate::options::{Clock, Job, User, absolute};
use crate::tools::Tools;

/// Modules of every machine. Kernels for Arm have KVM built in.
fn modules(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &["irqbypass", "kvm", "kvm-amd"],
        Arch::Aarch64 => &["virtio_mmio", "virtio_console"],
    }
}

/// Packs busybox, the kernel's modules, the job's files and its program.
pub(crate) fn pack(job: &Job, kernel: &Path, release: &str, tools: &Tools) -> Result<Tree> {
    let mut tree = Tree::merged();
    tree.directories(&[
        "/etc",
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/root",
        "/usr/local/bin",
    ]);
    tree.directory("/tmp", 0o1777);
    tools.put(&mut tree)?;
    tree.file("/init", 0o755, include_bytes!("init"));
    let passwd = "root:x:0:0::/tmp:/bin/sh\nlab:x:1000:1000::/tmp:/bin/sh\n";
    tree.file("/etc/passwd", 0o644, passwd);
    let group = "root:x:0:\nkvm:x:104:lab\nlab:x:1000:\n";
    tree.file("/etc/group", 0o644, group);
    add_modules(&mut tree, job, kernel, release)?;
    for (from, to) in &job.files {
        tree.put(from, to)?;
    }
    let program = add_program(&mut tree, job, tools)?;

    let argv = [&[program], job.arguments.as_slice()].concat();
    tree.file("/lab/argv", 0o644, words(&argv));
    let environment = [
        &[String::from("BOXBUILD_LAB=1")],
        job.environment.as_slice(),
    ]
    .concat();
    tree.file("/lab/env", 0o644, words(&environment));
    tree.file("/lab/get", 0o644, words(&job.gets));
    let shares: String = (job.shares.iter().enumerate())
        .map(|(number, share)| format!("{} {}\n", tag(number), share.mount))
        .collect();
    tree.file("/lab/shares", 0o644, shares);
    if job.user == User::Normal {
        tree.file("/lab/user", 0o644, "");
    }
    if job.clock == Clock::Host && job.arch == Arch::X86_64 {
        tree.file("/lab/exits", 0o644, "");
    }
    if job.network {
        tree.file("/lab/network", 0o644, "");
        tree.file("/etc/resolv.conf", 0o644, "nameserver 192.168.76.3\n");
        // So that programs of glibc look names up there, too.
        tree.file("/etc/nsswitch.conf", 0o644, "hosts: files dns\n");
    }
    Ok(tree)
}

/// The mount tag of a share.
pub(crate) fn tag(number: usize) -> String {
    format!("share{number}")
}

/// Adds the kernel's modules, unpacked, and their names in the order in which they load.
fn add_modules(tree: &mut Tree, job: &Job, kernel: &Path, release: &str) -> Result<()> {
    let mut wanted: Vec<&str> = modules(job.arch).to_vec();
    if !job.shares.is_empty() {
        wanted.extend(["9p", "9pnet_virtio", "virtio_pci"]);
    }
    if job.network {
        wanted.extend(["virtio_net", "virtio_pci"]);
    }
    wanted.extend(job.modules.iter().map(String::as_str));
    let mut files: Vec<PathBuf> = Vec::new();
    for module in wanted {
        for file in debian::module_files(kernel, release, module)? {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    let mut order = String::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.context("a module without a name")?;
        let name = name.trim_end_matches(".xz").trim_end_matches(".zst");
        let packed = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let (module, _) =
            unpack_start(&packed).with_context(|| format!("cannot unpack {}", file.display()))?;
        tree.file(&format!("/lab/modules/{name}"), 0o644, module);
        order += &format!("{name}\n");
    }
    tree.file("/lab/modules/order", 0o644, order);
    Ok(())
}

/// Adds the program, where it is not in the machine already. Returns its name there.
fn add_program(tree: &mut Tree, job: &Job, tools: &Tools) -> Result<String> {
    let program = &job.program;
    if !program.contains('/') {
        let inside = format!("/usr/local/bin/{program}");
        if !tree.contains(&inside) && !tools.provide(program, tree) {
            let Ok(path) = find(program) else {
                bail!("{program}: neither an applet of busybox nor a program of the host");
            };
            check_architecture(job.arch, &path)?;
            tree.put(&path, &inside)?;
        }
        return Ok(program.clone());
    }
    let shared = |mount: &str| {
        let below = Path::new(program).strip_prefix(mount);
        below.is_ok_and(|below| !below.as_os_str().is_empty())
    };
    if tree.contains(program) || job.shares.iter().any(|share| shared(&share.mount)) {
        return Ok(program.clone());
    }
    if !Path::new(program).is_file() {
        bail!("{program}: no such program");
    }
    let path = absolute(program)?;
    check_architecture(job.arch, Path::new(&path))?;
    tree.put(Path::new(&path), &path)?;
    Ok(path)
}

/// Refuses a program that cannot run in the machine.
fn check_architecture(arch: Arch, program: &Path) -> Result<()> {
    let machine = foreign::machine(program)?;
    if machine.is_some_and(|machine| machine != arch.elf_machine()) {
        bail!("{}: not a program for {}", program.display(), arch.name());
    }
    Ok(())
}

/// Words as the agent reads them, each ended by a NUL.
fn words(words: &[String]) -> Vec<u8> {
    words
        .iter()
        .flat_map(|word| word.bytes().chain([0]))
        .collect()
}
