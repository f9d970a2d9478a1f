//! Four of the image types of tests/descriptions, which are in four ways unlike the disk, the archive and
//! the container of other tests, built in a machine and started. All of them are `make types`.

use boxbuild_tests::Running;

use super::fixture::{BUILD_LIMIT, RealSandbox, description};

crate::tests! {
    Full:
        a_disk_with_a_signed_loader_boots,
        a_root_under_an_overlay_boots,
        kernel_ramdisk_and_root_boot,
        a_live_system_boots;
}

/// The shim and signed GRUB: vfat, and programs that look into them.
fn a_disk_with_a_signed_loader_boots() {
    builds_and_boots("disks", "Uefi");
}

/// KIWI's modules of dracut, which the box brings along.
fn a_root_under_an_overlay_boots() {
    builds_and_boots("disks", "OverlaySquashfs");
}

/// No boot loader.
fn kernel_ramdisk_and_root_boot() {
    builds_and_boots("kis", "Kis");
}

/// A disc.
fn a_live_system_boots() {
    builds_and_boots("media", "Live");
}

fn builds_and_boots(name: &str, profile: &str) {
    let sandbox = RealSandbox::new();
    let build = sandbox.start(&description(name), "image", &["--profile", profile]);
    build.finish().expect(0, &[]);
    let mut test = sandbox.command();
    test.args(["test", "--verbose"]).arg(sandbox.path("image"));
    let test = Running::start(&mut test).limit(BUILD_LIMIT);
    test.finish().expect(0, &[]);
    sandbox.assert_nothing_left();
}
