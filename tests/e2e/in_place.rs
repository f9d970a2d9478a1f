//! `--no-snapshot`: builds that write into the box's disk.

use std::fs;

use boxbuild_tests::Sandbox;
use nix::sys::signal::Signal;

crate::tests! {
    Engine:
        a_box_written_in_place_keeps_it_until_it_is_reset,
        a_build_begins_with_an_empty_target_folder,
        one_writer_or_many_readers;
    Program:
        no_snapshot_is_told_before_and_undone_after;
}

fn a_box_written_in_place_keeps_it_until_it_is_reset() {
    let sandbox = Sandbox::new("cat /kept >/result/kept; code=$?; echo once >>/kept; return $code");
    sandbox.build(&["--no-snapshot"], &[]).expect(1, &[]);
    // There was nothing; what this failed build wrote stays as well.
    sandbox.build(&["--no-snapshot"], &[]).expect(0, &[]);
    let kept = || fs::read_to_string(sandbox.target().join("kept")).unwrap();
    assert_eq!(kept(), "once\n");
    // A guest that is ended in the middle leaves no half of a file system.
    sandbox.script("echo twice >>/kept; sync; echo started >>$log; sleep 1000");
    let build = sandbox.start_until(&["--verbose", "--no-snapshot"], "started");
    build.signal(Signal::SIGINT);
    build.finish().expect(130, &[]);
    sandbox.script("cat /kept >/result/kept");
    // An ordinary build sees it, and changes nothing.
    for _ in 0..2 {
        sandbox.build(&[], &[]).expect(0, &[]);
        assert_eq!(kept(), "once\nonce\n");
    }
    let info = sandbox.run(["box", "info", "small"]);
    assert!(info.stdout.contains("--no-snapshot"), "{info:?}");
    let list = sandbox.run(["box", "list"]);
    assert!(list.stdout.contains("changed in place"), "{list:?}");
    sandbox.run(["box", "reset", "small"]).expect(0, &[]);
    sandbox.build(&[], &[]).expect(1, &[]);
    sandbox.assert_nothing_left();
}

/// A real kiwi leaves its root tree in /result, on the box's disk, and refuses to build over one.
fn a_build_begins_with_an_empty_target_folder() {
    let sandbox = Sandbox::new(
        "root=/result/build/image-root
         case \" $* \" in
             *' --allow-existing-root '*) ;;
             *) [ ! -e $root ] || { echo 'there is a root tree' >>$log; return 1; } ;;
         esac
         mkdir -p $root; echo more >>$root/lines; cp $root/lines /bundle/lines
         return 3",
    );
    let lines = |front: &[&str], back: &[&str]| {
        let output = sandbox.build(front, back);
        output.expect(1, &["kiwi's exit code 3"]);
    };
    for _ in 0..2 {
        lines(&["--no-snapshot"], &[]);
    }
    lines(&[], &[]);
    lines(&["--no-snapshot"], &["--allow-existing-root"]);
    // It went on with the one line of the build before the last one.
    sandbox.script("touch /result/x; [ $(grep -c more /result/build/image-root/lines) = 2 ]");
    sandbox
        .build(&["--no-snapshot"], &["--allow-existing-root"])
        .expect(1, &["exit code 1"]);
    sandbox.assert_nothing_left();
}

/// Until now nothing was said, `box verify` said "good", and `box lock` took the old hash.
fn no_snapshot_is_told_before_and_undone_after() {
    let sandbox = Sandbox::new("touch /result/x");
    let lock = sandbox.path("boxbuild.lock");
    let lock = ["--lock-file", lock.to_str().unwrap()];
    let box_lock = ["box", "lock", "small", lock[0], lock[1]];
    sandbox.run(box_lock).expect(0, &[]);
    let told = "'boxbuild box reset small' undoes that";
    let plan = sandbox.build(&["--dry-run", "--json", "--no-snapshot"], &[]);
    assert!(plan.stdout.contains(told), "{plan:?}");
    sandbox.build(&["--no-snapshot"], &[]).expect(0, &[told]);
    sandbox.build(&[], &[]).expect(0, &[told]);
    sandbox
        .run(["box", "verify", "small"])
        .expect(3, &["no checksum covers", told]);
    let refused = ["changed by builds with --no-snapshot", "box reset small"];
    sandbox.run(box_lock).expect(2, &refused);
    sandbox
        .build(&["--locked", lock[0], lock[1]], &[])
        .expect(2, &refused);
    sandbox.run(["box", "reset", "small"]).expect(0, &[]);
    sandbox.run(["box", "verify", "small"]).expect(0, &[]);
    sandbox
        .build(&["--locked", lock[0], lock[1]], &[])
        .expect(0, &[]);
    let again = sandbox.run(["box", "reset", "small"]);
    assert!(again.stdout.contains("no build has written"), "{again:?}");
    sandbox.assert_nothing_left();
}

/// Without this check, QEMU fails on the image's lock, late and in its own words.
fn one_writer_or_many_readers() {
    const ENDLESS: &str = "echo started >>$log; while :; do sleep 1; done";
    let sandbox = Sandbox::new(ENDLESS);
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
