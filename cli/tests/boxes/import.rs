//! Boxes of what is there already.

use std::fs;
use std::process::Command;

use boxbuild_boxes::store::{Guest, InstalledBox, Store};

use crate::bench::{Bench, Said};
use crate::sets::{Set, noise, sha256};

fn mine(bench: &Bench) -> InstalledBox {
    let installed = Store::at(bench.root()).get("mine").unwrap();
    for file in installed.info.files() {
        let content = fs::read(installed.path(file)).unwrap();
        assert_eq!(sha256(&content), file.sha256, "{}", file.name);
    }
    installed
}

#[test]
fn a_disk_with_its_kernel() {
    let bench = Bench::new();
    fs::write(bench.path("work/disk"), Set::new(1, 50_000).disk).unwrap();
    fs::write(bench.path("work/kernel"), "a kernel").unwrap();
    let import = |more: &[&str]| bench.run(&[&["box", "import", "mine"], more].concat());
    import(&["--disk", "disk"]).expect(2, &["--kernel"]);
    import(&[]).expect(2, &["--disk"]);
    import(&["--disk", "gone", "--kernel", "kernel"]).expect(3, &["gone"]);
    import(&["--disk", "kernel", "--kernel", "kernel"]).expect(3, &["8 bytes"]);
    assert!(Store::at(bench.root()).names().unwrap().is_empty());
    let good = ["--disk", "disk", "--kernel", "kernel", "--memory", "2G"];
    import(&good).expect(0, &["disk:disk"]);
    import(&good).expect(2, &["--force"]);
    import(&[&good[..], &["--force", "--cmdline", "root=/dev/vda ro"]].concat()).expect(0, &[]);
    let info = mine(&bench).info;
    assert_eq!((info.guest, info.memory_mib), (Guest::Compat, 2048));
    assert_eq!(info.cmdline, ["root=/dev/vda", "ro"]);
    bench.run(&["box", "verify", "mine"]).expect(0, &["good"]);
}

#[test]
fn a_root_tree_becomes_a_disk() {
    let bench = Bench::new();
    let root = bench.path("work/root");
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::write(root.join("boot/vmlinuz-6.1"), "old").unwrap();
    fs::write(root.join("boot/vmlinuz-6.12"), "new kernel").unwrap();
    fs::write(root.join("boot/initrd.img-6.12"), "an initrd").unwrap();
    fs::write(root.join("data"), noise(1, 100_000)).unwrap();
    let packed = Command::new("tar")
        .args(["-C", "root", "-czf", "root.tar.gz", "."])
        .current_dir(bench.path("work"))
        .status();
    assert!(packed.unwrap().success());
    for from in ["root", "root.tar.gz"] {
        let said = bench.run(&[
            "box",
            "import",
            "mine",
            "--rootfs",
            from,
            "--disk-size",
            "1G",
            "--force",
        ]);
        if said.stderr.contains("not installed") || said.stderr.contains("subordinate ids") {
            eprintln!(
                "skipped: a_root_tree_becomes_a_disk: {}",
                said.stderr.trim()
            );
            return;
        }
        said.expect(0, &["rootfs:"]);
        let installed = mine(&bench);
        let read = |file| fs::read_to_string(installed.path(file)).unwrap();
        assert_eq!(read(&installed.info.kernel), "new kernel");
        assert_eq!(read(&installed.info.initrd), "an initrd");
        assert_eq!(installed.info.cmdline, ["root=/dev/vda1"]);
        assert_eq!(installed.info.disk_size, 1 << 30);
    }
    fs::remove_file(root.join("boot/vmlinuz-6.1")).unwrap();
    fs::remove_file(root.join("boot/vmlinuz-6.12")).unwrap();
    let said: Said = bench.run(&["box", "import", "other", "--rootfs", "root"]);
    said.expect(2, &["no kernel", "--kernel"]);
}
