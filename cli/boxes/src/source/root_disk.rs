//! Disks made from root trees, without mounts and without root.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use boxbuild_host::error::IoError;
use boxbuild_host::reaper::Reaper;

use super::command::Workshop;
use super::error::SourceError;
use super::host::{Host, Program};
use super::look_up;
use crate::store::Inventory;

/// Programs that make a disk from a root tree.
pub(super) const PROGRAMS: &[Program] = &[
    Program::new("mke2fs", "e2fsprogs"),
    Program::new("sfdisk", "fdisk"),
    Program::new("tar", "tar"),
    Program::new("unshare", "util-linux"),
];

/// The device of the root file system of such a disk in the guest.
pub(super) const ROOT_DEVICE: &str = "/dev/vda1";

/// First byte of the only partition: the usual alignment of 1 MiB.
const PARTITION_START: u64 = 1 << 20;

/// The disk that [`make_disk`] makes.
pub(super) const DISK: &str = "disk.raw";

/// Makes [`DISK`] from `root.tar`, both in the workshop: `size` bytes with one partition, which
/// has all of the tree. `root.tar` is removed. The shell commands in `more` see the tree in the
/// folder `tree`. Returns what the tree has of what builds may need.
///
/// # Errors
/// Fails if a program fails: if the tree does not fit, for example.
pub(super) fn make_disk(
    workshop: &Workshop<'_>,
    size: u64,
    more: &str,
) -> Result<Inventory, SourceError> {
    let dir = &workshop.dir;
    let disk = dir.join(DISK);
    fs::File::create(&disk)
        .and_then(|file| file.set_len(size))
        .map_err(IoError::on("write", &disk))?;
    let layout = dir.join("layout");
    fs::write(&layout, "label: dos\nstart=2048, type=83, bootable\n")
        .map_err(IoError::on("write", &layout))?;
    // In a user namespace the user is root of the tree, so that its owners are right.
    let script = format!(
        "set -e; cd \"$1\"; mkdir tree; tar -C tree --numeric-owner --xattrs --xattrs-include='*' \
         --exclude='./dev/*' -xpf root.tar; rm root.tar; \
         sfdisk --quiet disk.raw <layout; \
         mke2fs -q -F -t ext4 -d tree -L boxbuild -m 0 -O ^has_journal,^metadata_csum \
         -E offset={PARTITION_START},lazy_itable_init=1,nodiscard,root_owner=0:0 disk.raw {}k; \
         {}{more} rm -rf tree",
        size.saturating_sub(PARTITION_START) >> 10,
        look_up::commands(),
    );
    let args: [OsString; 5] = [
        "sh".into(),
        "-c".into(),
        script.into(),
        "sh".into(),
        dir.clone().into(),
    ];
    // However this ends: files of other owners are removed.
    let tree = dir.join("tree");
    let mut remove = namespace(workshop.host);
    remove.extend(["rm", "-rf"].map(OsString::from));
    let _reaper = Reaper::watch_tree(&tree, &remove).map_err(IoError::on("write", &tree))?;
    run_as_owner(workshop, args)?;
    Ok(look_up::inventory(dir))
}

/// Packs the folder `from` into the archive `to`. Files of the user belong to root in the archive.
///
/// # Errors
/// Fails if a program fails: if a file cannot be read, for example.
pub(super) fn pack_folder(
    workshop: &Workshop<'_>,
    from: &Path,
    to: &Path,
) -> Result<(), SourceError> {
    let options = [
        "tar",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--format=pax",
        "--one-file-system",
        "-cf",
    ];
    let files: [OsString; 4] = [to.into(), "-C".into(), from.into(), ".".into()];
    run_as_owner(
        workshop,
        options.map(OsString::from).into_iter().chain(files),
    )
}

/// Runs a command that works on a tree with all of its owners.
fn run_as_owner(
    workshop: &Workshop<'_>,
    command: impl IntoIterator<Item = OsString>,
) -> Result<(), SourceError> {
    let mut words = namespace(workshop.host);
    words.extend(command);
    let program = words.remove(0).to_string_lossy().into_owned();
    Ok(workshop.run(&program, words, &[])?)
}

/// Returns the beginning of a command that works on a tree with all of its owners.
pub(super) fn namespace(host: &Host) -> Vec<OsString> {
    if host.is_root() {
        vec!["env".into()]
    } else {
        ["unshare", "--map-root-user", "--map-auto", "--"]
            .map(OsString::from)
            .into()
    }
}
