//! Failed builds that are kept, and the box's console.

use std::fs;
use std::time::{Duration, Instant};

use boxbuild_tests::pty::Seat;
use boxbuild_tests::{Bench, names};
use nix::sys::signal::Signal;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "b32_a_failed_build_is_kept_and_entered",
        b32_a_failed_build_is_kept_and_entered,
    ),
    (
        "what_is_kept_is_bounded_and_held",
        what_is_kept_is_bounded_and_held,
    ),
    (
        "a_killed_boxbuild_keeps_nothing",
        a_killed_boxbuild_keeps_nothing,
    ),
    (
        "the_box_stays_open_for_its_user",
        the_box_stays_open_for_its_user,
    ),
    ("the_terminal_is_restored", the_terminal_is_restored),
    ("the_console_needs_a_terminal", the_console_needs_a_terminal),
];

const FAILING: &str = "echo from the build >/root/left; mkdir -p /result
    head -c 3000000 /dev/urandom >/result/big; sha256sum </result/big >/root/sum
    echo '[ ERROR   ]: 00:00:00 | it went wrong' >>$log; echo on the console >/dev/console
    return 7";

fn keep(bench: &Bench) {
    let said = bench.build(&["--keep-failed=yes"], &[]);
    said.expect(1, &["it is kept (", "boxbuild shell small-"]);
}

/// In the peer, a build that failed leaves nothing to look at (bug B32).
fn b32_a_failed_build_is_kept_and_entered() {
    let bench = Bench::new(FAILING);
    keep(&bench);
    let list = bench.run(["builds"]);
    list.expect(0, &[]);
    assert!(
        list.stdout.contains("small-1") && list.stdout.contains("exit code 7"),
        "{list:?}"
    );
    let list = bench.run(["builds", "--json"]);
    assert!(list.stdout.contains("\"exit_code\": 1"), "{list:?}");
    let log = bench.run(["logs", "small-1"]);
    assert!(
        log.code == 0 && log.stdout.contains("it went wrong"),
        "{log:?}"
    );
    let console = bench.run(["logs", "--console"]);
    assert!(console.stdout.contains("on the console"), "{console:?}");
    bench
        .run(["logs", "small-2"])
        .expect(2, &["no kept build 'small-2'", "did you mean 'small-1'?"]);

    // Twice: what is done in the shell is thrown away. The box may go meanwhile.
    bench.run(["box", "rm", "small"]).expect(0, &[]);
    for _ in 0..2 {
        let mut seat = Seat::start(bench.command(["shell", "small-1"]));
        seat.expect("console");
        seat.expect("# ");
        seat.send("sha256sum </result/big | cmp - /root/sum && cat /root/left /root/new; id -u\n");
        seat.expect("from the build");
        seat.expect("No such file");
        seat.expect("0");
        seat.send("echo x >/root/new; echo x >/bundle/x; echo x >/description/x; ls /bundle\n");
        seat.expect("Read-only file system");
        seat.expect("Read-only file system");
        seat.expect("result.log");
        seat.send("exit\n");
        assert_eq!(seat.wait(), 0);
        assert!(seat.is_restored());
    }
    bench.run(["prune", "small-1"]).expect(0, &[]);
    bench.run(["shell"]).expect(2, &["no failed build"]);
    assert_eq!(names(&bench.store()), [".builds"]);
    assert_eq!(names(&bench.store().join(".builds")), [] as [&str; 0]);
}

fn what_is_kept_is_bounded_and_held() {
    let bench = Bench::new("return 1");
    for _ in 0..6 {
        keep(&bench);
    }
    let builds = bench.store().join(".builds");
    assert_eq!(
        names(&builds),
        ["small-2", "small-3", "small-4", "small-5", "small-6"]
    );
    // Nothing is kept of what succeeds, or where nothing shall be.
    bench.build(&["--keep-failed=no"], &[]).expect(1, &[]);
    bench.script("touch /result/x");
    bench.build(&["--keep-failed=yes"], &[]).expect(0, &[]);
    assert_eq!(names(&builds).len(), 5);
    // Damaged or changed: said, not booted.
    fs::write(builds.join("small-3/build.json"), "{").unwrap();
    bench
        .run(["logs", "small-3"])
        .expect(3, &["boxbuild prune small-3"]);
    assert!(bench.run(["builds"]).stdout.contains("small-3"));
    bench.run(["prune"]).expect(0, &[]);
    assert_eq!(names(&builds), [] as [&str; 0]);
}

fn a_killed_boxbuild_keeps_nothing() {
    let bench = Bench::new("echo started >>$log; while :; do sleep 1; done");
    let started = bench.start_until(&["--verbose", "--keep-failed=yes"], "started");
    started.signal(Signal::SIGKILL);
    assert_eq!(started.finish().code, -1);
    bench.assert_nothing_left();
    // Who stops a build does not want it any more.
    let started = bench.start_until(&["--verbose", "--keep-failed=yes"], "started");
    started.signal(Signal::SIGINT);
    started.finish().expect(130, &[]);
    bench.assert_nothing_left();
}

fn the_box_stays_open_for_its_user() {
    let bench = Bench::new("touch /result/image; echo built >/root/left");
    let mut seat = Seat::start(bench.build_command(&["--box-debug"], &[]));
    seat.expect("the build succeeded");
    seat.expect("# ");
    seat.send("stty size; cat /root/left; sleep 100\n");
    seat.expect("30 100");
    seat.expect("built");
    // Ctrl-C is for the guest.
    std::thread::sleep(Duration::from_millis(500));
    seat.send("\x03");
    seat.send("echo still $((40 + 2)) here\n");
    seat.expect("still 42 here");
    assert!(!seat.is_restored());
    seat.send("exit\n");
    seat.expect("built in");
    assert_eq!(seat.wait(), 0);
    assert!(seat.is_restored());
    assert!(bench.target().join("image").exists());

    bench.script("return 7");
    let mut seat = Seat::start(bench.build_command(&["--box-debug"], &[]));
    seat.expect("the build failed");
    seat.expect("# ");
    seat.send("\x1d\x1d\x1d");
    seat.expect("exit code 7");
    assert_eq!(seat.wait(), 1);
    assert!(seat.is_restored());
    bench.assert_nothing_left();
}

/// Whatever ends boxbuild.
fn the_terminal_is_restored() {
    let bench = Bench::new("touch /result/image");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut seat = Seat::start(bench.build_command(&["--box-debug"], &[]));
        seat.expect("# ");
        assert!(!seat.is_restored());
        let pid = i32::try_from(seat.child.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        assert_eq!(
            seat.wait(),
            if signal == Signal::SIGTERM { 130 } else { -1 }
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        while !seat.is_restored() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(seat.is_restored(), "{signal}");
        bench.assert_nothing_left();
    }
}

fn the_console_needs_a_terminal() {
    let bench = Bench::new("return 1");
    bench
        .build(&["--box-debug"], &[])
        .expect(2, &["--box-debug needs a terminal"]);
    assert!(!bench.target().exists());
    keep(&bench);
    bench.run(["shell"]).expect(2, &["needs a terminal"]);
}
