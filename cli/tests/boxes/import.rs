//! Boxes of what is there already.

use std::fs;
use std::process::Command;

use boxbuild_boxes::store::{Guest, InstalledBox, Store};

use crate::sandbox::{CommandResult, Sandbox};
use crate::sets::{Set, noise, sha256};

fn mine(sandbox: &Sandbox) -> InstalledBox {
    let installed = Store::at(sandbox.root()).get("mine").unwrap();
    for file in installed.info.files() {
        let content = fs::read(installed.path(file)).unwrap();
        assert_eq!(sha256(&content), file.sha256, "{}", file.name);
    }
    installed
}

#[test]
fn a_disk_with_its_kernel_becomes_a_box() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("work/disk"), Set::new(1, 50_000).disk).unwrap();
    fs::write(sandbox.path("work/kernel"), "a kernel").unwrap();
    let import = |more: &[&str]| sandbox.run(&[&["box", "import", "mine"], more].concat());
    import(&["--disk", "disk"]).expect(2, &["--kernel"]);
    import(&[]).expect(2, &["--disk"]);
    import(&["--disk", "gone", "--kernel", "kernel"]).expect(2, &["gone"]);
    import(&["--disk", "kernel", "--kernel", "kernel"]).expect(3, &["8 bytes"]);
    assert!(Store::at(sandbox.root()).names().unwrap().is_empty());
    let good = ["--disk", "disk", "--kernel", "kernel", "--memory", "2G"];
    import(&good).expect(0, &["disk:disk"]);
    import(&good).expect(2, &["--force"]);
    import(&[&good[..], &["--force", "--cmdline", "root=/dev/vda ro"]].concat()).expect(0, &[]);
    let info = mine(&sandbox).info;
    assert_eq!((info.guest, info.memory_mib), (Guest::Compat, 2048));
    assert_eq!(info.cmdline, ["root=/dev/vda", "ro"]);
    sandbox.run(&["box", "verify", "mine"]).expect(0, &["good"]);
}

#[test]
fn a_root_tree_becomes_a_disk() {
    let sandbox = Sandbox::new();
    let root = sandbox.path("work/root");
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::write(root.join("boot/vmlinuz-6.1"), "old").unwrap();
    fs::write(root.join("boot/vmlinuz-6.12"), "new kernel").unwrap();
    fs::write(root.join("boot/initrd.img-6.12"), "an initrd").unwrap();
    fs::write(root.join("data"), noise(1, 100_000)).unwrap();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/tar"), "").unwrap();
    let packed = Command::new("tar")
        .args(["-C", "root", "-czf", "root.tar.gz", "."])
        .current_dir(sandbox.path("work"))
        .status();
    assert!(packed.unwrap().success());
    for from in ["root", "root.tar.gz"] {
        let result = sandbox.run(&[
            "box",
            "import",
            "mine",
            "--rootfs",
            from,
            "--disk-size",
            "1G",
            "--force",
        ]);
        if result.stderr.contains("not installed") || result.stderr.contains("subordinate ids") {
            eprintln!(
                "skipped: a_root_tree_becomes_a_disk: {}",
                result.stderr.trim()
            );
            return;
        }
        result.expect(0, &["rootfs:"]);
        let installed = mine(&sandbox);
        let read = |file| fs::read_to_string(installed.path(file)).unwrap();
        assert_eq!(read(&installed.info.kernel), "new kernel");
        assert_eq!(read(&installed.info.initrd), "an initrd");
        assert_eq!(installed.info.cmdline, ["root=/dev/vda1"]);
        assert_eq!(installed.info.disk_size, 1 << 30);
        // What the tree has is known from now on.
        let programs = installed.info.inventory.unwrap().programs;
        assert_eq!((programs["tar"], programs["mdadm"]), (true, false));
    }
    fs::remove_file(root.join("boot/vmlinuz-6.1")).unwrap();
    fs::remove_file(root.join("boot/vmlinuz-6.12")).unwrap();
    let result: CommandResult = sandbox.run(&["box", "import", "other", "--rootfs", "root"]);
    result.expect(2, &["no kernel", "--kernel"]);
}
