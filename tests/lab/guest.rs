//! Guests of a Debian release's own packages: kernel, initrd, systemd, a disk. Made once for each
//! state of this file and of `guest-files`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use boxbuild_tests::command::{command, logged, output, require};
use boxbuild_tests::debian::{self, KEYRING};
use boxbuild_tests::interrupt::Unwind;
use boxbuild_tests::publish::{describe, lock, publish, sha256};
use clap::ValueEnum;

use crate::kernel::{Flavour, Suite};

/// Bytes of the disk.
const DISK: u64 = 2 << 30;
/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Sectors of a MiB, where partitions are aligned; the last one is the table's copy.
const MIB: u64 = 2048;

/// The program that makes the initrd, when the kernel is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Initrd {
    InitramfsTools,
    Dracut,
}

/// The root's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fs {
    Ext4,
    Btrfs,
}

impl Initrd {
    fn package(self) -> &'static str {
        match self {
            Initrd::InitramfsTools => "initramfs-tools",
            Initrd::Dracut => "dracut",
        }
    }
}

impl Fs {
    fn name(self) -> &'static str {
        match self {
            Fs::Ext4 => "ext4",
            Fs::Btrfs => "btrfs",
        }
    }

    /// The number of the root's partition. Published boxes have both: root alone, and root behind
    /// a boot loader's two partitions.
    fn partition(self) -> u32 {
        match self {
            Fs::Ext4 => 1,
            Fs::Btrfs => 3,
        }
    }

    fn device(self) -> String {
        format!("/dev/vda{}", self.partition())
    }

    /// The first sector of the root's partition.
    fn start(self) -> u64 {
        match self {
            Fs::Ext4 => MIB,
            Fs::Btrfs => 34 * MIB,
        }
    }

    fn sectors(self) -> u64 {
        DISK / SECTOR - MIB - self.start()
    }

    /// The partition table, as sfdisk reads it.
    fn table(self) -> String {
        let mut table = String::from("label: gpt\n");
        if self == Fs::Btrfs {
            // A boot loader's own, and an empty one of a type that systemd does not mount by itself.
            table += "start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n\
                      start=4096, size=65536, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n";
        }
        table
            + &format!(
                "start={}, size={}, type=linux\n",
                self.start(),
                self.sectors()
            )
    }

    fn tool(self) -> (&'static str, &'static str) {
        match self {
            Fs::Ext4 => ("mke2fs", "e2fsprogs"),
            Fs::Btrfs => ("mkfs.btrfs", "btrfs-progs"),
        }
    }
}

/// What `guest` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Make it again
    #[arg(long)]
    refresh: bool,
    #[arg(value_enum)]
    suite: Suite,
    #[arg(value_enum)]
    flavour: Flavour,
    #[arg(value_enum)]
    initrd: Initrd,
    #[arg(value_enum)]
    fs: Fs,
}

impl Options {
    fn name(&self) -> String {
        format!(
            "{}-{}-{}-{}",
            self.suite.name(),
            self.flavour.name(),
            self.initrd.package(),
            self.fs.name()
        )
    }
}

/// The folder of a guest: `kernel`, `initrd` (both as their packages made them), `disk.qcow2`
/// (compressed; a GPT), `release` (of the kernel), `root` (its device), `box.json` (which makes the
/// folder the box `published` of a box store). Made where it is not there.
pub(crate) fn run(options: &Options) -> Result<PathBuf> {
    let cache = debian::cache()?.join("guest");
    let name = options.name();
    let guest = cache.join(&name).join(recipe()?);
    let found = || !options.refresh && guest.join("release").exists();
    if found() {
        return Ok(guest);
    }
    ensure!(
        Path::new(KEYRING).exists(),
        "no {KEYRING}: install the package debian-archive-keyring"
    );
    let owner = Owner::new();
    let mut tools = vec![
        ("mmdebstrap", "mmdebstrap"),
        ("sfdisk", "fdisk"),
        ("qemu-img", "qemu-utils"),
        options.fs.tool(),
    ];
    if owner == Owner::Namespace {
        tools.push(("newuidmap", "uidmap"));
    }
    require(tools)?;

    let versions = cache.join(&name);
    fs::create_dir_all(&versions).with_context(|| format!("cannot make {}", versions.display()))?;
    let _unwind = Unwind::begin()?;
    // One at a time: the others find its result.
    let _lock = lock(&cache.join(format!("{name}.lock")))?;
    if found() {
        return Ok(guest);
    }
    for entry in fs::read_dir(&versions)?.flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(b".making.")
        {
            owner.remove(&entry.path());
        }
    }
    let work = Folder::new(owner, ".making.", &versions)?;
    eprintln!("making the guest {name} (once)");
    let made =
        bootstrap(options, owner, &work.path).and_then(|()| disk(options.fs, owner, &work.path));
    made.with_context(|| format!("the guest {name} could not be made"))?;
    describe_box(options, &work.path.join("new"))?;
    publish(&work.path.join("new"), &guest)?;
    Ok(guest)
}

/// What the guest is made by is part of its name: a change here makes another one.
fn recipe() -> Result<String> {
    let mut files = Vec::new();
    list(&guest_files(), &mut files)?;
    files.sort();
    let mut bytes = include_bytes!("guest.rs").to_vec();
    for file in files {
        bytes.extend_from_slice(file.as_os_str().as_encoded_bytes());
        bytes.extend(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let mut sum = sha256(&bytes);
    sum.truncate(12);
    Ok(sum)
}

fn guest_files() -> PathBuf {
    debian::tests_folder().join("lab/guest-files")
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// How the files of a guest, which belong to many users, are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Root,
    /// With subordinate ids, in a user namespace.
    Namespace,
}

impl Owner {
    fn new() -> Owner {
        if nix::unistd::geteuid().is_root() {
            Owner::Root
        } else {
            Owner::Namespace
        }
    }

    /// A program that acts as the owner of all of them.
    fn command(self, program: &str) -> Command {
        match self {
            Owner::Root => command(program),
            Owner::Namespace => {
                let mut command = command("unshare");
                command.args(["--map-root-user", "--map-auto", "--", program]);
                command
            }
        }
    }

    fn remove(self, path: &Path) {
        // Not through `output`: it has to happen after a signal, too.
        let _ = self.command("rm").arg("-rf").arg(path).status();
    }
}

/// A folder with files of many users, removed with its owner's rights.
#[derive(Debug)]
struct Folder {
    owner: Owner,
    path: PathBuf,
}

impl Folder {
    fn new(owner: Owner, prefix: &str, below: &Path) -> Result<Folder> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(below)?;
        let path = folder.keep();
        Ok(Folder { owner, path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.owner.remove(&self.path);
    }
}

/// Makes `root.tar`, the guest's root tree.
fn bootstrap(options: &Options, owner: Owner, work: &Path) -> Result<()> {
    let suite = options.suite.name();
    // Subordinate ids must reach mmdebstrap's own tree, so it cannot be below a home folder.
    let scratch = Folder::new(owner, "boxbuild-guest.", Path::new("/var/tmp"))?;
    fs::set_permissions(&scratch.path, fs::Permissions::from_mode(0o711))?;
    let mode = match owner {
        Owner::Root => "root",
        Owner::Namespace => "unshare",
    };
    let mut mmdebstrap = command("mmdebstrap");
    mmdebstrap
        .env("TMPDIR", &scratch.path)
        .arg(format!("--mode={mode}"))
        .args(["--variant=minbase", "--format=tar", "--architectures=amd64"])
        .arg(format!("--include={}", packages(options).join(",")));
    for option in [
        "Apt::Install-Recommends \"false\"",
        "Acquire::Retries \"3\"",
        "Acquire::Languages \"none\"",
    ] {
        mmdebstrap.arg(format!("--aptopt={option}"));
    }
    for option in proxies()? {
        mmdebstrap.arg(format!("--aptopt={option}"));
    }
    mmdebstrap.arg("--dpkgopt=force-unsafe-io");
    for path in ["man", "locale", "doc"] {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    for (when, hook) in hooks(&options.fs.device()) {
        mmdebstrap.arg(format!("--{when}-hook={hook}"));
    }
    mmdebstrap
        .arg(suite)
        .arg(work.join("root.tar"))
        .arg(format!(
            "deb [signed-by={KEYRING}] {} {suite} main",
            debian::mirror()?
        ));
    logged(&mut mmdebstrap, &work.join("log"))
}

fn packages(options: &Options) -> Vec<String> {
    let mut packages: Vec<String> =
        "systemd systemd-sysv systemd-resolved udev dbus kmod login iproute2"
            .split(' ')
            .map(str::to_owned)
            .collect();
    packages.push(format!("linux-image-{}", options.flavour.name()));
    packages.push(options.initrd.package().to_owned());
    // Initrds need zstd, dracut's module for a root on btrfs the tool.
    packages.push(String::from("zstd"));
    if options.fs == Fs::Btrfs {
        packages.push(String::from("btrfs-progs"));
    }
    if options.initrd == Initrd::Dracut {
        packages.push(String::from("dracut-network"));
    }
    packages
}

/// The host's proxies and certificates, as apt's options.
fn proxies() -> Result<Vec<String>> {
    let text = output(command("apt-config").arg("dump"))?;
    let wanted = |line: &&str| {
        let Some(rest) = line
            .strip_prefix("Acquire::http::")
            .or_else(|| line.strip_prefix("Acquire::https::"))
        else {
            return false;
        };
        let named = ["Proxy", "CaInfo"].iter().any(|name| {
            rest.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([':', ' ']))
        });
        named && !rest.contains("\"\"")
    };
    Ok(text.lines().filter(wanted).map(str::to_owned).collect())
}

/// Hooks of mmdebstrap: shell commands that get the root tree as their argument.
fn hooks(device: &str) -> Vec<(&'static str, String)> {
    let files = guest_files().display().to_string();
    let customize = |hook: &str| ("customize", hook.to_owned());
    vec![
        ("essential", format!("copy-in {files}/etc /")),
        (
            "essential",
            format!("echo '{device} / auto defaults 0 0' >\"$1/etc/fstab\""),
        ),
        customize(&format!("copy-in {files}/usr {files}/etc /")),
        customize(
            "chroot \"$1\" systemctl --quiet enable systemd-networkd systemd-resolved kiwi.service",
        ),
        customize("chroot \"$1\" passwd -qd root"),
        customize("ln -sf /run/systemd/resolve/stub-resolv.conf \"$1/etc/resolv.conf\""),
        customize(
            "rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/* \"$1\"/usr/share/i18n \
             \"$1\"/usr/share/zoneinfo",
        ),
    ]
}

/// Makes `new` of `root.tar`: kernel, initrd, disk.
fn disk(root: Fs, owner: Owner, work: &Path) -> Result<()> {
    let log = work.join("log");
    let (tree, new) = (work.join("tree"), work.join("new"));
    let (raw, part) = (work.join("disk.raw"), work.join("part.raw"));
    fs::create_dir(&new)?;
    fs::create_dir(&tree)?;
    let mut tar = owner.command("tar");
    tar.arg("-C").arg(&tree).args([
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--exclude=./dev/*",
        "-xpf",
    ]);
    logged(tar.arg(work.join("root.tar")), &log)?;
    fs::remove_file(work.join("root.tar"))?;

    File::create(&part)?.set_len(root.sectors() * SECTOR)?;
    let mut make = owner.command(root.tool().0);
    match root {
        Fs::Ext4 => make
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .arg(&tree)
            .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"]),
        Fs::Btrfs => make.args(["-q", "-f", "--rootdir"]).arg(&tree),
    };
    logged(make.arg(&part), &log)?;

    let release = only_name(&tree.join("usr/lib/modules"))?;
    for (from, to) in [("vmlinuz", "kernel"), ("initrd.img", "initrd")] {
        let from = tree.join(format!("boot/{from}-{release}"));
        let to = new.join(to);
        logged(owner.command("cp").arg(from).arg(&to), &log)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644))?;
    }
    fs::write(new.join("release"), format!("{release}\n"))?;
    fs::write(new.join("root"), format!("{}\n", root.device()))?;

    File::create(&raw)?.set_len(DISK)?;
    let table = work.join("table");
    fs::write(&table, root.table())?;
    let mut sfdisk = command("sfdisk");
    sfdisk.arg("--quiet").arg(&raw).stdin(File::open(&table)?);
    logged(&mut sfdisk, &log)?;
    copy_into(&part, &raw, root.start())?;
    let mut convert = command("qemu-img");
    convert.args(["convert", "-c", "-O", "qcow2"]).arg(&raw);
    logged(convert.arg(new.join("disk.qcow2")), &log)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn only_name(folder: &Path) -> Result<String> {
    let mut names = fs::read_dir(folder)?;
    let name = names.next().context("no kernel is installed")??.file_name();
    name.into_string().ok().context("a name that is not UTF-8")
}

/// Copies a partition to its place on the disk, holes left out.
fn copy_into(part: &Path, disk: &Path, sector: u64) -> Result<()> {
    let seek = format!("seek={}", sector / MIB);
    let (from, to) = (
        format!("if={}", part.display()),
        format!("of={}", disk.display()),
    );
    let words = ["bs=1M", "conv=notrunc,sparse", "status=none"];
    output(command("dd").args([from, to, seek]).args(words)).map(|_| ())
}

/// Writes `box.json`.
fn describe_box(options: &Options, folder: &Path) -> Result<()> {
    let device = options.fs.device();
    let description = serde_json::json!({
        "format": 1,
        "name": "published",
        "origin": format!("debian:{}", options.suite.name()),
        "arch": "x86_64",
        "created": 0,
        "kernel": describe(folder, "kernel")?,
        "initrd": describe(folder, "initrd")?,
        "disk": describe(folder, "disk.qcow2")?,
        "disk_size": DISK,
        "cmdline": [format!("root={device}"), "rd.plymouth=0", "selinux=0"],
        "console": "hvc0",
        "guest": "compat",
        "kiwi": null,
        "memory_mib": 1024,
        "cpus": 2,
    });
    fs::write(folder.join("box.json"), format!("{description:#}\n"))?;
    Ok(())
}
