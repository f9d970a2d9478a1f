//! Builds that are stopped: the guest goes, and nothing is left.

use boxbuild_tests::{Bench, names};
use nix::sys::signal::Signal;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("b30_ctrl_c_stops_the_build", b30_ctrl_c_stops_the_build),
    ("sigterm_stops_the_build", sigterm_stops_the_build),
    ("ctrl_c_twice", ctrl_c_twice),
    ("ctrl_c_while_the_guest_boots", ctrl_c_while_the_guest_boots),
    (
        "kill_9_leaves_nothing_running",
        kill_9_leaves_nothing_running,
    ),
    ("a_target_in_use_is_refused", a_target_in_use_is_refused),
];

const ENDLESS: &str = "touch /bundle/image; echo started >>$log; while :; do :; done";

fn stop_with(signals: &[Signal]) {
    let bench = Bench::new(ENDLESS);
    let started = bench.start_until(&["--verbose"], "started");
    for signal in signals {
        started.signal(*signal);
    }
    started.finish().expect(130, &["interrupted"]);
    assert_eq!(names(&bench.target()), ["result.code", "result.log"]);
    bench.assert_nothing_left();
}

fn b30_ctrl_c_stops_the_build() {
    stop_with(&[Signal::SIGINT]);
}

fn sigterm_stops_the_build() {
    stop_with(&[Signal::SIGTERM]);
}

fn ctrl_c_twice() {
    stop_with(&[Signal::SIGINT, Signal::SIGINT]);
}

fn ctrl_c_while_the_guest_boots() {
    let bench = Bench::new(ENDLESS);
    let child = bench.build_command(&[], &[]).spawn().unwrap();
    bench.wait_for_machine(&child);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    bench.assert_nothing_left();
}

fn kill_9_leaves_nothing_running() {
    let bench = Bench::new(ENDLESS);
    let started = bench.start_until(&["--verbose"], "started");
    started.signal(Signal::SIGKILL);
    assert_eq!(started.finish().code, -1);
    bench.assert_nothing_left();
    assert_eq!(names(&bench.target()), [] as [&str; 0]);
    bench.script("touch /result/image");
    bench.build(&[], &[]).expect(0, &[]);
    assert_eq!(
        names(&bench.target()),
        ["image", "result.code", "result.log"]
    );
}

fn a_target_in_use_is_refused() {
    let bench = Bench::new(ENDLESS);
    let started = bench.start_until(&["--verbose"], "started");
    bench
        .build(&[], &[])
        .expect(3, &["in use by another build"]);
    started.signal(Signal::SIGINT);
    started.finish().expect(130, &[]);
}
