//! `boxbuild batch --runner`: a command that waits, and may do anything else. Real queues and hosts are
//! in `slurm.rs` and `ssh.rs`.

pub(crate) mod fixture;
pub(crate) mod slurm;
pub(crate) mod ssh;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use boxbuild_tests::{Running, Sandbox};
use fixture::{
    GOOD, assert_all_built, assert_nothing_left, attempts, command, program, record, run, set_farm,
    started, with_farm,
};
use nix::sys::signal::Signal;

crate::tests! {
    Program:
        a_command_runs_a_batch_and_its_record_is_resumed,
        a_command_that_ends_well_and_builds_nothing_is_no_success,
        what_an_earlier_attempt_left_behind_is_not_heard,
        a_build_that_its_runner_lost_is_begun_again,
        a_batch_killed_and_resumed_builds_what_is_missing,
        ctrl_c_ends_what_waits_in_a_queue,
        hosts_that_differ_are_told_and_not_used,
        paths_of_any_bytes_reach_a_worker;
}

/// The runner is a script, which gets the words of the worker.
fn scripted(sandbox: &Sandbox, script: &str) -> String {
    let path = sandbox.path("runner");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!(
        "kind = 'command'\nprefix = ['{}', '{{name}}']\nlost-after = '2s'\n{}",
        path.display(),
        program(sandbox)
    )
}

fn a_command_runs_a_batch_and_its_record_is_resumed() {
    let sandbox = with_farm(2, GOOD, "");
    let farm = scripted(&sandbox, "echo \"$1\" >>\"$0.log\"; shift; exec \"$@\"");
    set_farm(&sandbox, &farm);
    let output = run(&sandbox, &["--jobs", "2"]);
    output.expect(0, &["2 builds, 2 at once (runner farm (command))"]);
    assert!(output.stdout.contains("where"), "{}", output.stdout);
    let hosts = assert_all_built(&sandbox, 2);
    assert_eq!(hosts[0], hosts[1]);
    let log = fs::read_to_string(sandbox.path("batch.logs/b1.log")).unwrap();
    assert!(
        log.contains("a line of the log") && log.contains("boxbuild: on "),
        "{log}"
    );
    // Each job has a name that no other one has.
    let jobs = fs::read_to_string(sandbox.path("runner.log")).unwrap();
    let mut jobs: Vec<&str> = jobs.lines().collect();
    jobs.dedup();
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    assert_nothing_left(&sandbox);

    // Nothing is built again but what has changed or is gone.
    fs::remove_file(sandbox.path("out/b2/image")).unwrap();
    let output = run(&sandbox, &["--resume", "--json"]);
    output.expect(0, &[]);
    let started = output.stdout.matches("\"event\":\"started\"").count();
    assert_eq!(started, 1, "{}", output.stdout);
    assert_all_built(&sandbox, 2);
    let output = run(&sandbox, &["--resume"]);
    output.expect(0, &["b1    built before"]);
    assert!(output.stdout.contains("2 built, in "), "{}", output.stdout);
    fs::write(sandbox.path("image/config.xml"), "<image></image>").unwrap();
    let output = run(&sandbox, &["--resume", "--json", "--only", "b1"]);
    assert!(
        output.stdout.contains("\"event\":\"started\""),
        "{}",
        output.stdout
    );
}

/// srun ends with 0 after a failed node.
fn a_command_that_ends_well_and_builds_nothing_is_no_success() {
    let sandbox = with_farm(1, GOOD, "kind = 'command'\nprefix = ['true']");
    let output = run(&sandbox, &["--json"]);
    output.expect(3, &[]);
    let setbacks = output.stdout.matches("\"event\":\"setback\"").count();
    assert_eq!(setbacks, 2, "{}", output.stdout);
    let last = output.stdout.lines().last().unwrap();
    assert!(
        last.contains("\"exit_code\":3") && last.contains("\"result\":\"failed\""),
        "{last}"
    );
    assert_eq!(record(&sandbox, "b1")["result"], "failed");
    assert!(!sandbox.path("out/b1").exists());
    // What looks like a verdict of a worker has results, or is none.
    let events =
        r#"printf '{"event":"worker","host":"liar","version":"%s"}\n{"event":"exit","code":0}\n'"#;
    let version = env!("CARGO_PKG_VERSION");
    let liar = scripted(&sandbox, &format!("{events} {version}"));
    set_farm(&sandbox, &format!("retries = 0\n{liar}"));
    let output = run(&sandbox, &[]);
    output.expect(3, &["liar", "the build is lost"]);
    let claim = r#"{"event":"result","status":"built","seconds":1,"phases":[],"peak_memory_bytes":null,"files":[{"path":"/nowhere/image","bytes":1,"sha256":"00"}]}"#;
    let liar = scripted(&sandbox, &format!("echo '{claim}'; {events} {version}"));
    set_farm(&sandbox, &format!("retries = 0\n{liar}"));
    let output = run(&sandbox, &[]);
    output.expect(3, &["/nowhere/image is not here"]);
    assert_nothing_left(&sandbox);
}

/// A process of the first attempt says while the second one runs that all is built.
fn what_an_earlier_attempt_left_behind_is_not_heard() {
    let sandbox = with_farm(1, GOOD, "");
    let claim = r#"{"event":"result","status":"built","seconds":1,"phases":[],"peak_memory_bytes":null,"files":[]}"#;
    let exit = r#"{"event":"exit","code":0}"#;
    let farm = scripted(
        &sandbox,
        &format!(
            "[ ! -e \"$0.once\" ] || {{ sleep 8; exit 0; }}\ntouch \"$0.once\"\n\
             setsid sh -c 'sleep 14; printf \"%s\\n\" \"$@\"' sh '{claim}' '{exit}' &"
        ),
    );
    set_farm(&sandbox, &farm);
    let output = run(&sandbox, &[]);
    output.expect(3, &["b1    could not run"]);
    let all = attempts(&sandbox, 1);
    assert_eq!(all, ["- unreachable", "- unreachable"]);
    assert_nothing_left(&sandbox);
}

/// The first attempt is killed under way; the second one builds.
fn a_build_that_its_runner_lost_is_begun_again() {
    let script = format!("touch /bundle/started; sleep 1; {GOOD}");
    let sandbox = with_farm(1, &script, "");
    let partial = sandbox.path("out/b1/.boxbuild.partial/bundle/started");
    let lossy = format!(
        "shift; [ ! -e \"$0.once\" ] || exec \"$@\"; touch \"$0.once\"\n\
         exec 3<&0; \"$@\" <&3 & while [ ! -e '{}' ]; do sleep 0.1; done; kill -9 $!; exit 0",
        partial.display()
    );
    let farm = scripted(&sandbox, &lossy);
    set_farm(&sandbox, &farm);
    let output = run(&sandbox, &[]);
    output.expect(0, &["the build is lost", "it is begun again in 12 s"]);
    assert_all_built(&sandbox, 1);
    let all = attempts(&sandbox, 1);
    assert!(
        all[0].ends_with(" lost") && all[1].ends_with(" built"),
        "{all:?}"
    );
    let log = fs::read_to_string(sandbox.path("batch.logs/b1.log")).unwrap();
    assert!(log.contains(": lost: "), "{log}");
    assert_nothing_left(&sandbox);
}

fn a_batch_killed_and_resumed_builds_what_is_missing() {
    let script = format!("touch /bundle/started; [ -e /bundle/go ] || sleep 2; {GOOD}");
    let sandbox = with_farm(3, &script, "");
    let farm = scripted(&sandbox, "shift; exec \"$@\"");
    set_farm(&sandbox, &farm);
    let mut batch = Running::start(&mut command(&sandbox, &["--jobs", "1"]));
    batch.wait_for("✓ b1");
    batch.wait_until("the second build", |_| started(&sandbox, 3) > 0);
    batch.signal(Signal::SIGKILL);
    batch.finish();
    assert_eq!(record(&sandbox, "b2")["result"], "running");
    assert_nothing_left(&sandbox);
    assert!(!sandbox.path("out/b2/image").exists());
    let output = run(&sandbox, &["--resume", "--jobs", "1"]);
    output.expect(0, &["b1    built before"]);
    assert_all_built(&sandbox, 3);
    assert_nothing_left(&sandbox);
}

fn ctrl_c_ends_what_waits_in_a_queue() {
    let sandbox = with_farm(2, GOOD, "");
    let farm = scripted(&sandbox, "exec sleep 1000");
    let cancelled = sandbox.path("cancelled");
    let cancel = format!("cancel = ['touch', '{}-{{name}}']\n", cancelled.display());
    set_farm(&sandbox, &format!("{farm}{cancel}"));
    let mut batch = Running::start(&mut command(&sandbox, &["--jobs", "1"]));
    batch.wait_for("b1    | started");
    let begun = Instant::now();
    batch.signal(Signal::SIGINT);
    let output = batch.finish();
    output.expect(130, &[]);
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(
        output.stdout.contains("0 built, 1 stopped, 1 not started"),
        "{}",
        output.stdout
    );
    let names = boxbuild_tests::names(&sandbox.path(""));
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("cancelled-boxbuild-")),
        "{names:?}"
    );
    assert_nothing_left(&sandbox);
}

fn hosts_that_differ_are_told_and_not_used() {
    let sandbox = with_farm(1, GOOD, "");
    // The worker of another version, of a host without the box, and with another description.
    let job = |change: &str| format!("shift; sed -u '1{change}' | \"$@\"");
    for (script, told) in [
        (
            job("s/\"version\":\"[^\"]*\"/\"version\":\"9.9\"/"),
            "of version",
        ),
        (job("s/\"protocol\":1/\"protocol\":2/"), "of version"),
        (
            String::from("shift; KIWI=1 \"$@\" --not-there"),
            "nothing was started",
        ),
        (
            format!(
                "shift; exec env KIWI_BOXED_CACHE_DIR='{}' \"$@\"",
                sandbox.path("tmp").display()
            ),
            "no box 'small'",
        ),
        (
            job("s/\"fingerprint\":\"[^\"]*\"/\"fingerprint\":\"00\"/"),
            "is not the batch's",
        ),
        (job("s,/token\",/tokens\","), "a folder that both share"),
    ] {
        let store = script.contains("KIWI_BOXED_CACHE_DIR");
        let mut farm = scripted(&sandbox, &script);
        if store {
            // The environment of the script counts, not that of the program.
            let boxbuild = &boxbuild_tests::test_env().unwrap().boxbuild;
            farm = farm.replace(
                &program(&sandbox),
                &format!("program = '{}'\n", boxbuild.display()),
            );
        }
        set_farm(&sandbox, &format!("retries = 0\n{farm}"));
        let output = run(&sandbox, &[]);
        output.expect(3, &[told]);
        assert!(!sandbox.path("out/b1/image").exists());
        assert_nothing_left(&sandbox);
    }
}

fn paths_of_any_bytes_reach_a_worker() {
    use std::os::unix::ffi::OsStrExt;
    let sandbox = with_farm(1, GOOD, "");
    let farm = scripted(&sandbox, "shift; exec \"$@\"");
    set_farm(&sandbox, &farm);
    let odd = std::ffi::OsStr::from_bytes(b"o'dd \"$HOME\" \\ ! \xff\n");
    let folder = sandbox.path("x").with_file_name(odd);
    fs::create_dir(&folder).unwrap();
    for name in ["batch.toml", "image"] {
        fs::rename(sandbox.path(name), folder.join(name)).unwrap();
    }
    let mut batch = sandbox.command(["batch"]);
    batch
        .arg(folder.join("batch.toml"))
        .args(["--runner", "farm", "--runner-config"])
        .arg(sandbox.path("farm.toml"));
    Running::start(&mut batch).finish().expect(0, &["b1"]);
    let image = fs::read_to_string(folder.join("out/b1/image")).unwrap();
    assert_eq!(image, "image\n");
    sandbox.assert_nothing_left();
}
