//! Builds that are stopped: the guest goes, and nothing is left.

use boxbuild_tests::{Running, Sandbox, names};
use nix::sys::signal::Signal;

crate::tests! {
    Engine:
        ctrl_c_stops_the_build,
        sigterm_stops_the_build,
        ctrl_c_while_the_guest_boots,
        kill_9_leaves_nothing_running;
    Program:
        ctrl_c_twice,
        a_target_in_use_is_refused;
}

const ENDLESS: &str = "touch /bundle/image; echo started >>$log; while :; do :; done";

fn stop_with(signals: &[Signal]) {
    let sandbox = Sandbox::new(ENDLESS);
    let started = sandbox.start_until(&["--verbose"], "started");
    for signal in signals {
        started.signal(*signal);
    }
    started.finish().expect(130, &["interrupted"]);
    assert_eq!(names(&sandbox.target()), ["result.code", "result.log"]);
    sandbox.assert_nothing_left();
}

fn ctrl_c_stops_the_build() {
    stop_with(&[Signal::SIGINT]);
}

fn sigterm_stops_the_build() {
    stop_with(&[Signal::SIGTERM]);
}

fn ctrl_c_twice() {
    stop_with(&[Signal::SIGINT, Signal::SIGINT]);
}

fn ctrl_c_while_the_guest_boots() {
    let sandbox = Sandbox::new(ENDLESS);
    let mut build = Running::start(&mut sandbox.build_command(&[], &[]));
    sandbox.wait_for_machine(&mut build);
    build.signal(Signal::SIGINT);
    build.finish().expect(130, &[]);
    sandbox.assert_nothing_left();
}

fn kill_9_leaves_nothing_running() {
    let sandbox = Sandbox::new(ENDLESS);
    let started = sandbox.start_until(&["--verbose"], "started");
    started.signal(Signal::SIGKILL);
    assert_eq!(started.finish().code, -1);
    sandbox.assert_nothing_left();
    assert_eq!(names(&sandbox.target()), [] as [&str; 0]);
    sandbox.script("touch /result/image");
    sandbox.build(&[], &[]).expect(0, &[]);
    assert_eq!(
        names(&sandbox.target()),
        ["image", "result.code", "result.log"]
    );
}

fn a_target_in_use_is_refused() {
    let sandbox = Sandbox::new(ENDLESS);
    let started = sandbox.start_until(&["--verbose"], "started");
    sandbox
        .build(&[], &[])
        .expect(3, &["in use by another build"]);
    started.signal(Signal::SIGINT);
    started.finish().expect(130, &[]);
}
