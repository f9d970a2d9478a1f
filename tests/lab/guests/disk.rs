//! A guest's files: kernel, initrd and disk, of its root tree.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use boxbuild_tests::command::{command, logged, output};
use boxbuild_tests::publish::describe;

use super::owner::Owner;
use super::spec::{DISK, Fs, MIB, Options, SECTOR};

/// Makes `new` of `root.tar`: kernel, initrd, disk.
pub(super) fn disk(root: Fs, owner: Owner, work: &Path) -> Result<()> {
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
pub(super) fn describe_box(options: &Options, folder: &Path) -> Result<()> {
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
