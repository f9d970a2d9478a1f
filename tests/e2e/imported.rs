//! Boxes made by `box import`, and built in.

use std::path::PathBuf;

use boxbuild_tests::sandbox::small_boxes;
use boxbuild_tests::{ProcessOutput, Sandbox, engine};

crate::tests! {
    Qemu:
        an_imported_disk_builds,
        an_imported_root_tree_builds;
}

/// Imports the box `mine` with the option `disk` and the kernel of the box `small`, and builds in it
/// either way.
fn imported_builds(disk: [&str; 2]) {
    let sandbox = Sandbox::new("cat /proc/1/comm >/result/who");
    let small = |name: &str| -> PathBuf { sandbox.store().join("small").join(name) };
    let mut import = sandbox.command(["box", "import", "mine", "--memory=256M", "--cpus=1"]);
    import.args(disk).arg("--kernel").arg(small("kernel"));
    import.arg("--initrd").arg(small("initrd"));
    ProcessOutput::of(&mut import).expect(0, &[]);
    sandbox.run(["box", "verify", "mine"]).expect(0, &[]);
    for (style, process) in [("auto", "init\n"), ("compat", "box-init\n")] {
        let mut build = sandbox.command(["--box", "mine", "--engine", &engine(), "--boot", style]);
        build.env("XDG_CACHE_HOME", sandbox.path("cache"));
        sandbox.behind_separator(&mut build, &sandbox.target());
        ProcessOutput::of(&mut build).expect(0, &[]);
        assert_eq!(sandbox.result("who"), process, "{style}");
    }
    sandbox.run(["box", "rm", "mine"]).expect(0, &[]);
    sandbox.assert_nothing_left();
}

fn store(name: &str) -> String {
    let path = small_boxes().join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn an_imported_disk_builds() {
    imported_builds(["--disk", &store("small/disk.qcow2")]);
}

fn an_imported_root_tree_builds() {
    imported_builds(["--rootfs", &store("root.tar")]);
}
