//! Batches through real sshd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use boxbuild_tests::ssh_hosts::Hosts;
use boxbuild_tests::{Running, Sandbox, skip, test_env};
use nix::sys::signal::Signal;

use super::fixture::{
    GOOD, assert_all_built, assert_nothing_left, attempts, command, program, run, set_farm,
    started, with_farm,
};

crate::tests! {
    Full:
        twelve_builds_on_two_ssh_hosts_of_which_one_is_killed,
        a_lost_ssh_connection_ends_its_build_and_begins_it_again,
        ssh_hosts_that_differ_are_not_used,
        ctrl_c_ends_builds_over_ssh;
}

/// A batch on the hosts `one` and `two` with `slots` each; `None` if there can be none here.
fn farm(test: &str, (count, slots): (usize, usize), script: &str) -> Option<(Sandbox, Hosts)> {
    let sandbox = with_farm(count, script, "");
    let hosts = match Hosts::start(&sandbox.path("ssh"), &["one", "two"]) {
        Ok(hosts) => hosts,
        Err(reason) => {
            skip(test, &reason);
            return None;
        }
    };
    let names = format!("{{ one = {slots}, two = {slots} }}");
    set_farm(&sandbox, &ssh(&hosts, &names, &program(&sandbox)));
    Some((sandbox, hosts))
}

/// A runner for these hosts.
fn ssh(hosts: &Hosts, names: &str, program: &str) -> String {
    format!(
        "kind = 'ssh'\nlost-after = '8s'\nhosts = {names}\n\
         prefix = ['ssh', '-F', '{}', '-T', '-o', 'BatchMode=yes', '--', '{{host}}']\n{program}",
        hosts.client().display()
    )
}

fn start(sandbox: &Sandbox, options: &[&str]) -> Running {
    Running::start(&mut command(sandbox, options)).limit(Duration::from_secs(900))
}

fn twelve_builds_on_two_ssh_hosts_of_which_one_is_killed() {
    let test = "twelve_builds_on_two_ssh_hosts_of_which_one_is_killed";
    let script = format!("touch /bundle/started; sleep 3; {GOOD}");
    let Some((sandbox, mut hosts)) = farm(test, (12, 2), &script) else {
        return;
    };
    let mut batch = start(&sandbox, &["--json"]);
    batch.wait_until("a build of four", |_| started(&sandbox, 12) >= 1);
    hosts.kill("one");
    batch.finish().expect(0, &[]);
    let built_on = assert_all_built(&sandbox, 12);
    let all = attempts(&sandbox, 12);
    assert!(all.contains(&String::from("one lost")), "{all:?}");
    println!("twelve builds on {built_on:?}, attempts {all:?}");
    assert_nothing_left(&sandbox);
}

/// The host goes on, without its connection.
fn a_lost_ssh_connection_ends_its_build_and_begins_it_again() {
    let test = "a_lost_ssh_connection_ends_its_build_and_begins_it_again";
    let script = format!("touch /bundle/started; sleep 20; {GOOD}");
    let Some((sandbox, mut hosts)) = farm(test, (2, 1), &script) else {
        return;
    };
    let mut batch = start(&sandbox, &[]);
    batch.wait_until("both builds", |_| started(&sandbox, 2) == 2);
    hosts.cut("one");
    batch.wait_for("the build is lost");
    hosts.start_one("one");
    batch.finish().expect(0, &[]);
    assert_all_built(&sandbox, 2);
    let all = attempts(&sandbox, 2);
    assert!(all.contains(&String::from("one lost")), "{all:?}");
    assert_nothing_left(&sandbox);
}

fn ssh_hosts_that_differ_are_not_used() {
    let test = "ssh_hosts_that_differ_are_not_used";
    let Some((sandbox, mut hosts)) = farm(test, (2, 1), GOOD) else {
        return;
    };
    // Which host it is, sshd does not say: the first one to ask is.
    let boxbuild = &test_env().unwrap().boxbuild;
    let own = program(&sandbox);
    let wrapper = sandbox.path("a wrapper's \"name\" $HOME \\ !");
    let env = own
        .trim()
        .trim_start_matches("program = [")
        .trim_end_matches(']');
    let env: Vec<&str> = env.split(", ").map(|word| word.trim_matches('"')).collect();
    let env: Vec<String> = env[..env.len() - 1]
        .iter()
        .map(|word| format!("'{word}'"))
        .collect();
    let with = |first: &str| {
        let once = sandbox.path("once");
        let _ = fs::remove_dir(&once);
        let text = format!(
            "#!/bin/sh\nif mkdir '{0}' 2>/dev/null; then {first}; fi\nexec {1} {2} \"$@\"\n",
            once.display(),
            env.join(" "),
            boxbuild.display()
        );
        fs::write(&wrapper, text).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let quoted = format!("program = {:?}\n", wrapper.display().to_string());
    set_farm(&sandbox, &ssh(&hosts, "['one', 'two']", &quoted));
    for (first, told) in [
        (
            String::from("exec /nowhere/boxbuild worker"),
            "/nowhere/boxbuild",
        ),
        (
            format!(
                "exec {} KIWI_BOXED_CACHE_DIR={} {} worker",
                env.join(" "),
                sandbox.path("tmp").display(),
                boxbuild.display()
            ),
            "no box 'small'",
        ),
        (
            format!(
                "sed -u '1s/\"version\":\"[^\"]*\"/\"version\":\"9.9\"/' | {} {} worker; exit",
                env.join(" "),
                boxbuild.display()
            ),
            "of version",
        ),
    ] {
        let _ = fs::remove_dir_all(sandbox.path("out"));
        with(&first);
        let output = run(&sandbox, &[]);
        output.expect(0, &["not used: ", told]);
        let used = assert_all_built(&sandbox, 2);
        assert_eq!(used[0], used[1], "one host is left");
        assert_nothing_left(&sandbox);
    }
    // One that is not there, and then none.
    with("true");
    hosts.kill("one");
    let output = run(&sandbox, &[]);
    output.expect(0, &["not used: one: "]);
    hosts.kill("two");
    let _ = fs::remove_dir_all(sandbox.path("out"));
    let output = run(&sandbox, &[]);
    output.expect(
        3,
        &[
            "the runner farm (ssh) cannot be used",
            "nothing was started",
        ],
    );
    assert!(!sandbox.path("out").exists());
    assert_nothing_left(&sandbox);
}

fn ctrl_c_ends_builds_over_ssh() {
    let test = "ctrl_c_ends_builds_over_ssh";
    let endless = "touch /bundle/started; while :; do sleep 1; done";
    let Some((sandbox, _hosts)) = farm(test, (3, 1), endless) else {
        return;
    };
    let mut batch = start(&sandbox, &[]);
    batch.wait_until("both builds", |_| started(&sandbox, 3) == 2);
    batch.signal(Signal::SIGINT);
    let output = batch.finish();
    output.expect(130, &[]);
    assert!(
        output.stdout.contains("0 built, 2 stopped, 1 not started"),
        "{}",
        output.stdout
    );
    assert_nothing_left(&sandbox);
    // And by force.
    let mut batch = start(&sandbox, &[]);
    batch.wait_until("both builds", |_| started(&sandbox, 3) == 2);
    batch.signal(Signal::SIGKILL);
    batch.finish();
    assert_nothing_left(&sandbox);
}
