//! Boxes made by `box import`, and built in.

use std::fs;
use std::path::PathBuf;

use boxbuild_tests::{Bench, Said, bed, engine};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("an_imported_disk_builds", an_imported_disk_builds),
    ("an_imported_root_tree_builds", an_imported_root_tree_builds),
];

/// Imports the box `mine` from `material` and the kernel of the box `small`, and builds in it
/// either way.
fn imported_builds(material: [&str; 2]) {
    let bench = Bench::new("cat /proc/1/comm >/result/who");
    let small = |name: &str| -> PathBuf { bench.store().join("small").join(name) };
    let mut import = bench.command(["box", "import", "mine", "--memory=256M", "--cpus=1"]);
    import.args(material).arg("--kernel").arg(small("kernel"));
    import.arg("--initrd").arg(small("initrd"));
    Said::from(import.output().unwrap()).expect(0, &[]);
    bench.run(["box", "verify", "mine"]).expect(0, &[]);
    for (style, process) in [("auto", "init\n"), ("compat", "box-init\n")] {
        let mut build = bench.command(["--box", "mine", "--engine", &engine(), "--boot", style]);
        build.env("XDG_CACHE_HOME", bench.path("cache"));
        build
            .arg("--")
            .arg("--description")
            .arg(bench.description());
        build.arg("--target-dir").arg(bench.target());
        Said::from(build.output().unwrap()).expect(0, &[]);
        let who = fs::read_to_string(bench.target().join("who")).unwrap_or_default();
        assert_eq!(who, process, "{style}");
    }
    bench.run(["box", "rm", "mine"]).expect(0, &[]);
    bench.assert_nothing_left();
}

fn store(name: &str) -> String {
    let (_, store) = bed().expect("checked before the tests ran");
    store
        .join(name)
        .to_str()
        .expect("a path of ours")
        .to_owned()
}

fn an_imported_disk_builds() {
    imported_builds(["--disk", &store("small/disk.qcow2")]);
}

fn an_imported_root_tree_builds() {
    imported_builds(["--rootfs", &store("root.tar")]);
}
