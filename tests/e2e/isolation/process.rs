//! What an attacker has who runs code in the processes of a machine.

use std::fs;
use std::path::PathBuf;

use boxbuild_tests::{Running, watch};
use nix::unistd::Pid;

use super::IMAGE;
use super::guest::Guest;

crate::tests! {
    Engine:
        every_process_that_serves_the_guest_is_confined;
}

/// A thread, as the kernel sees it.
#[derive(Debug)]
#[expect(dead_code, reason = "shown when the test fails")]
struct Thread {
    process: Pid,
    program: String,
    name: String,
    seccomp: String,
    no_new_privs: String,
}

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default()
        .trim_start_matches(':')
        .trim()
        .to_owned()
}

fn threads(process: Pid) -> Vec<Thread> {
    let of = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let folder = PathBuf::from(format!("/proc/{process}"));
    let program = of(folder.join("comm")).trim().to_owned();
    let tasks = fs::read_dir(folder.join("task")).into_iter().flatten();
    let statuses = tasks.flatten().map(|task| of(task.path().join("status")));
    let statuses = statuses.filter(|status| !status.is_empty());
    statuses
        .map(|status| Thread {
            process,
            program: program.clone(),
            name: field(&status, "Name"),
            seccomp: field(&status, "Seccomp"),
            no_new_privs: field(&status, "NoNewPrivs"),
        })
        .collect()
}

/// The soft and the hard limit of core dumps.
fn core_limit(process: Pid) -> String {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap_or_default();
    field(&limits, "Max core file size")
}

/// The processes of a build that talk to its guest: all but boxbuild itself, and those that only wait to
/// clean up, which have neither a socket nor the guest's memory.
fn servers(build: &Running) -> Vec<Pid> {
    let mut family = watch::descendants(build.pid());
    family.retain(|pid| *pid != build.pid() && !is_reaper(*pid));
    family
}

/// Whether this process only waits for the end of another one: the shell of `boxbuild_host::reaper`,
/// `sh -c SCRIPT boxbuild-reaper …`, and no other.
fn is_reaper(process: Pid) -> bool {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
    words.get(3) == Some(&&b"boxbuild-reaper"[..])
}

fn every_process_that_serves_the_guest_is_confined() {
    let guest = Guest::machine();
    guest.script(&format!(
        "{IMAGE}echo started >>/bundle/result.log; sleep 4"
    ));
    let mut build = guest.start(&["--verbose"]);
    build.wait_for("started");
    let servers = servers(&build);
    let mut free = Vec::new();
    let mut cores = Vec::new();
    let mut unseen = Vec::new();
    for server in &servers {
        let of_server = threads(*server);
        unseen.extend(of_server.is_empty().then_some(*server));
        free.extend(
            of_server
                .into_iter()
                .filter(|thread| thread.seccomp != "2" || thread.no_new_privs != "1"),
        );
        let limit = core_limit(*server);
        cores.push((*server, limit));
    }
    build.finish().expect(0, &[]);
    // The machine; with QEMU also the process that serves its shares.
    let least = if boxbuild_tests::engine() == "qemu" {
        2
    } else {
        1
    };
    assert!(servers.len() >= least, "processes: {servers:?}");
    assert!(unseen.is_empty(), "no thread is seen of {unseen:?}");
    assert!(free.is_empty(), "threads without a filter: {free:#?}");
    let dumped = |(_, limit): &&(Pid, String)| !limit.starts_with("0  ");
    let dumped: Vec<_> = cores.iter().filter(dumped).collect();
    assert!(
        dumped.is_empty(),
        "core dumps of the guest's memory: {dumped:?}"
    );
}
