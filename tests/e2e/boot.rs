//! How boxes are brought up: fast, by their own init, and the one after the other.

use std::fs;

use boxbuild_tests::{Bench, Said};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_box_boots_either_way", a_box_boots_either_way),
    (
        "a_ramdisk_without_a_driver_falls_back",
        a_ramdisk_without_a_driver_falls_back,
    ),
    (
        "a_root_on_the_device_mapper_falls_back",
        a_root_on_the_device_mapper_falls_back,
    ),
    (
        "what_the_boxs_init_cannot_be_told_is_said",
        what_the_boxs_init_cannot_be_told_is_said,
    ),
    ("boxroot_and_profile_apply", boxroot_and_profile_apply),
    (
        "a_larger_disk_gives_more_room",
        a_larger_disk_gives_more_room,
    ),
];

/// Says in the result which process brought the box up.
const WHO: &str = "cat /proc/1/comm >/result/who";

fn who(bench: &Bench) -> String {
    fs::read_to_string(bench.target().join("who")).unwrap_or_default()
}

/// A build that remembers nothing of other benches' boots.
fn build(bench: &Bench, front: &[&str], back: &[&str]) -> Said {
    let mut command = bench.build_command(front, back);
    command.env("XDG_CACHE_HOME", bench.path("cache"));
    Said::from(command.output().unwrap())
}

fn a_box_boots_either_way() {
    let bench = Bench::new(WHO);
    for (style, process) in [("fast", "init\n"), ("compat", "box-init\n")] {
        build(&bench, &["--boot", style], &[]).expect(0, &[]);
        assert_eq!(who(&bench), process, "{style}");
        bench.assert_nothing_left();
    }
}

fn falls_back(name: &'static str, reason: &str) {
    let Some(bench) = Bench::with_box(name, WHO) else {
        println!("skipped: a box that falls back: {name}: the program dmsetup is not installed");
        return;
    };
    build(&bench, &["--boot", "fast"], &[]).expect(1, &["cannot be booted fast", reason]);
    let first = build(&bench, &[], &[]);
    first.expect(0, &["by its own init", reason]);
    assert!(!first.stderr.contains("remembered"), "{}", first.stderr);
    assert_eq!(who(&bench), "box-init\n");
    build(&bench, &[], &[]).expect(0, &["by its own init", reason, "remembered"]);
    bench.assert_nothing_left();
}

fn a_ramdisk_without_a_driver_falls_back() {
    falls_back("hidden", "no driver virtio-blk");
}

fn a_root_on_the_device_mapper_falls_back() {
    falls_back("mapped", "device mapper");
}

fn what_the_boxs_init_cannot_be_told_is_said() {
    let Some(bench) = Bench::with_box("hidden", WHO) else {
        unreachable!("it is always made");
    };
    let said = build(&bench, &[], &["--add-package", "a b"]);
    assert_ne!(said.code, 0);
    said.expect(said.code, &["no driver virtio-blk", "a b"]);
    bench.assert_nothing_left();
}

fn boxroot_and_profile_apply() {
    let bench = Bench::new("cat /etc/overlay >/result/seen; echo \"$FROM_PROFILE\" >>/result/seen");
    let etc = bench.description().join("boxroot/etc");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("overlay"), "laid over\n").unwrap();
    fs::write(etc.join("boxprofile"), "export FROM_PROFILE='two words'\n").unwrap();
    build(&bench, &[], &[]).expect(0, &[]);
    assert_eq!(
        fs::read_to_string(bench.target().join("seen")).unwrap(),
        "laid over\ntwo words\n"
    );
    fs::write(etc.join("boxprofile"), "exit 3\n").unwrap();
    build(&bench, &[], &[]).expect(1, &["boxprofile"]);
}

fn a_larger_disk_gives_more_room() {
    let bench = Bench::new("df -m / | tail -n 1 >/result/room");
    build(&bench, &["--disk-size", "2G"], &[]).expect(0, &[]);
    let room = fs::read_to_string(bench.target().join("room")).unwrap();
    let size = room
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse::<u64>().ok());
    assert!(size.is_some_and(|size| size > 1800), "{room}");
}
