//! The clock of a guest, which follows the host's.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use boxbuild_tests::command::find;
use boxbuild_tests::{Running, Sandbox, skip};

crate::tests! {
    Program:
        a_guest_has_the_time_of_a_host_that_slept;
}

/// Seconds that the host seems to have slept.
const SLEPT: u64 = 8 * 3600;

/// A C library whose clock has gone on without its processes once a file is there, as after a sleep: the
/// wall clock jumps, and the time that processes have run does not.
const SLEEPER: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    const char *file = getenv("SLEEPER_FILE");
    if (clock == CLOCK_REALTIME && file && access(file, F_OK) == 0)
        time->tv_sec += 8 * 3600;
    return result;
}
"#;

fn a_guest_has_the_time_of_a_host_that_slept() {
    let name = "a_guest_has_the_time_of_a_host_that_slept";
    let Ok(compiler) = find("gcc") else {
        return skip(name, "gcc is not installed");
    };
    let sandbox = Sandbox::new(
        "date +%s >/result/before; echo ready >>$log
         while [ ! -e /description/woken ]; do sleep 0.2; done
         sleep 2; date +%s >/result/after",
    );
    let (source, library) = (sandbox.path("sleeper.c"), sandbox.path("sleeper.so"));
    fs::write(&source, SLEEPER).unwrap();
    let made = Command::new(compiler)
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    assert!(made.unwrap().success());
    let mut command = sandbox.build_command(&["--verbose"], &[]);
    let file: OsString = sandbox.path("slept").into();
    command
        .env("LD_PRELOAD", &library)
        .env("SLEEPER_FILE", &file);
    let mut build = Running::start(&mut command);
    build.wait_for("ready");
    fs::write(&file, "").unwrap();
    fs::write(sandbox.description().join("woken"), "").unwrap();
    let woken = now();
    build.finish().expect(0, &[]);
    let ended = now();
    let seconds = |name: &str| sandbox.result(name).trim().parse::<u64>().unwrap();
    let (before, after) = (seconds("before"), seconds("after"));
    assert!(
        before <= woken + 2 && before + 600 > woken,
        "{before} {woken}"
    );
    let known = woken + SLEPT - 2..=ended + SLEPT + 2;
    assert!(known.contains(&after), "{after} is not in {known:?}");
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| time.as_secs())
}
