//! Builds that are stopped: the guest goes, and nothing is left.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use boxbuild_tests::{Running, Sandbox, names, scaled_timeout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

crate::tests! {
    Engine:
        ctrl_c_stops_the_build,
        sigterm_stops_the_build,
        ctrl_c_while_the_guest_boots,
        kill_9_leaves_nothing_running;
    Program:
        ctrl_c_twice,
        a_reader_that_does_not_read_does_not_hold_ctrl_c,
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

/// A terminal that was stopped, or a pipe that is full: the build waits for it, and the watchdog ends
/// the build.
fn a_reader_that_does_not_read_does_not_hold_ctrl_c() {
    let sandbox = Sandbox::new(
        "yes '[ INFO    ]: 00:00:00 | a line that is rather long for what it says' | head -n 20000 >>$log
         touch /bundle/started; while :; do sleep 1; done",
    );
    let mut command = sandbox.build_command(&["--verbose", "--json"], &[]);
    let mut build = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = sandbox.target().join(".boxbuild.partial/bundle/started");
    let deadline = Instant::now() + scaled_timeout(120);
    while !started.exists() {
        assert!(Instant::now() < deadline, "the guest does not come up");
        sleep(Duration::from_millis(50));
    }
    // The log is read every 200 ms, and fills the pipe.
    sleep(Duration::from_secs(2));
    kill(
        Pid::from_raw(build.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let signalled = Instant::now();
    let status = loop {
        if let Some(status) = build.try_wait().unwrap() {
            break status;
        }
        if signalled.elapsed() > Duration::from_secs(20) {
            build.kill().unwrap();
            build.wait().unwrap();
            panic!("Ctrl-C had no effect");
        }
        sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(130));
    // The reaper is a little later.
    let deadline = Instant::now() + Duration::from_secs(20);
    while sandbox.target().join(".boxbuild.partial").exists() && Instant::now() < deadline {
        sleep(Duration::from_millis(50));
    }
    sandbox.assert_nothing_left();
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
