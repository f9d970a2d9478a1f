//! `--no-snapshot`: builds that write into the box's disk.

use std::fs;

use boxbuild_tests::Bench;
use nix::sys::signal::Signal;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_box_written_in_place_keeps_it",
        a_box_written_in_place_keeps_it,
    ),
    (
        "b27_one_writer_or_many_readers",
        b27_one_writer_or_many_readers,
    ),
];

fn a_box_written_in_place_keeps_it() {
    let bench = Bench::new("cat /kept >/result/kept; code=$?; echo once >>/kept; return $code");
    bench.own_disk();
    bench.build(&["--no-snapshot"], &[]).expect(1, &[]);
    // There was nothing; what this failed build wrote stays as well.
    bench.build(&["--no-snapshot"], &[]).expect(0, &[]);
    let kept = || fs::read_to_string(bench.target().join("kept")).unwrap();
    assert_eq!(kept(), "once\n");
    // An ordinary build sees it, and changes nothing.
    for _ in 0..2 {
        bench.build(&[], &[]).expect(0, &[]);
        assert_eq!(kept(), "once\nonce\n");
    }
    let info = bench.run(["box", "info", "small"]);
    assert!(info.stdout.contains("--no-snapshot"), "{info:?}");
    let list = bench.run(["box", "list"]);
    assert!(list.stdout.contains("changed in place"), "{list:?}");
    bench.assert_nothing_left();
}

/// The peer's QEMU fails on the image's lock, late and in its own words (bug B27).
fn b27_one_writer_or_many_readers() {
    const ENDLESS: &str = "echo started >>$log; while :; do sleep 1; done";
    let bench = Bench::new(ENDLESS);
    bench.own_disk();
    for (first, second, text) in [
        (
            &["--verbose", "--no-snapshot"][..],
            &["--no-snapshot"][..],
            "another build uses the box small",
        ),
        (
            &["--verbose", "--no-snapshot"],
            &[],
            "another build writes into the disk of the box small",
        ),
        (
            &["--verbose"],
            &["--no-snapshot"],
            "another build uses the box small",
        ),
    ] {
        let started = bench.start_until(first, "started");
        let said = bench.build_to("other", second);
        said.expect(3, &[text, "wait for"]);
        assert!(!bench.path("other").exists(), "nothing is made");
        started.signal(Signal::SIGINT);
        started.finish().expect(130, &[]);
    }
    // Readers are in nobody's way.
    let started = bench.start_until(&["--verbose"], "started");
    bench.script("touch /result/x");
    bench.build_to("other", &[]).expect(0, &[]);
    started.signal(Signal::SIGINT);
    started.finish().expect(130, &[]);
    bench.assert_nothing_left();
}
