//! `--no-snapshot`: builds that write into the box's disk.

use std::fs;

use boxbuild_tests::Sandbox;
use nix::sys::signal::Signal;

crate::tests! {
    Engine:
        a_box_written_in_place_keeps_it,
        one_writer_or_many_readers;
}

fn a_box_written_in_place_keeps_it() {
    let sandbox = Sandbox::new("cat /kept >/result/kept; code=$?; echo once >>/kept; return $code");
    sandbox.own_disk();
    sandbox.build(&["--no-snapshot"], &[]).expect(1, &[]);
    // There was nothing; what this failed build wrote stays as well.
    sandbox.build(&["--no-snapshot"], &[]).expect(0, &[]);
    let kept = || fs::read_to_string(sandbox.target().join("kept")).unwrap();
    assert_eq!(kept(), "once\n");
    // An ordinary build sees it, and changes nothing.
    for _ in 0..2 {
        sandbox.build(&[], &[]).expect(0, &[]);
        assert_eq!(kept(), "once\nonce\n");
    }
    let info = sandbox.run(["box", "info", "small"]);
    assert!(info.stdout.contains("--no-snapshot"), "{info:?}");
    let list = sandbox.run(["box", "list"]);
    assert!(list.stdout.contains("changed in place"), "{list:?}");
    sandbox.assert_nothing_left();
}

/// Without this check, QEMU fails on the image's lock, late and in its own words.
fn one_writer_or_many_readers() {
    const ENDLESS: &str = "echo started >>$log; while :; do sleep 1; done";
    let sandbox = Sandbox::new(ENDLESS);
    sandbox.own_disk();
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
        let started = sandbox.start_until(first, "started");
        let output = sandbox.build_to("other", second);
        output.expect(3, &[text, "wait for"]);
        assert!(!sandbox.path("other").exists(), "nothing is made");
        started.signal(Signal::SIGINT);
        started.finish().expect(130, &[]);
    }
    // Readers do not hinder each other.
    let started = sandbox.start_until(&["--verbose"], "started");
    sandbox.script("touch /result/x");
    sandbox.build_to("other", &[]).expect(0, &[]);
    started.signal(Signal::SIGINT);
    started.finish().expect(130, &[]);
    sandbox.assert_nothing_left();
}
