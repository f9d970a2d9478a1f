//! Distributions' own guests, unmodified, are booted fast by the qemu engine: ramdisks of dracut and
//! of initramfs-tools, packed modules, roots on ext4 and btrfs, kernels with and without built-in
//! drivers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use boxbuild_tests::{Running, Sandbox, lab};

crate::tests! {
    Full:
        bookworm_cloud_initramfs_tools_ext4_boots_fast,
        bookworm_dracut_btrfs_boots_fast,
        trixie_cloud_dracut_btrfs_boots_fast,
        trixie_dracut_ext4_boots_fast,
        trixie_initramfs_tools_btrfs_boots_fast;
}

/// A stand-in for kiwi-ng that looks at what a build needs.
const KIWI: &str = include_str!("fast-guest-kiwi");

fn bookworm_cloud_initramfs_tools_ext4_boots_fast() {
    boots_fast(["bookworm", "cloud-amd64", "initramfs-tools", "ext4"]);
}

fn bookworm_dracut_btrfs_boots_fast() {
    boots_fast(["bookworm", "amd64", "dracut", "btrfs"]);
}

fn trixie_cloud_dracut_btrfs_boots_fast() {
    boots_fast(["trixie", "cloud-amd64", "dracut", "btrfs"]);
}

fn trixie_dracut_ext4_boots_fast() {
    boots_fast(["trixie", "amd64", "dracut", "ext4"]);
}

fn trixie_initramfs_tools_btrfs_boots_fast() {
    boots_fast(["trixie", "amd64", "initramfs-tools", "btrfs"]);
}

/// Boots a guest of tests/lab/guests.
fn boots_fast(words: [&str; 4]) {
    let guest = lab::guest(words).expect("the guest can be made");
    let name = words.join("-");
    let sandbox = Sandbox::without_box(&name);
    symlink(&guest, sandbox.store().join(&name)).unwrap();
    let programs = sandbox.description().join("boxroot/usr/local/bin");
    fs::create_dir_all(&programs).unwrap();
    let kiwi = programs.join("kiwi-ng");
    fs::write(&kiwi, KIWI).unwrap();
    fs::set_permissions(&kiwi, fs::Permissions::from_mode(0o755)).unwrap();
    let front = ["--engine", "qemu", "--boot", "fast", "--verbose"];
    let mut build = sandbox.build_command(&front, &[]);
    let build = Running::start(&mut build).limit(Duration::from_secs(1800));
    let output = build.finish();
    output.expect(0, &[]);
    let release = fs::read_to_string(guest.join("release")).unwrap();
    assert_eq!(sandbox.result("seen"), release);
    let start = "boxbuild: kiwi after ";
    let line = output.stderr.lines().find(|line| line.starts_with(start));
    println!("{name}: booted fast ({})", line.unwrap_or_default());
    sandbox.assert_nothing_left();
}
