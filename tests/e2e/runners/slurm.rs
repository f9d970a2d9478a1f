//! Batches through a real Slurm: slurmctld, two slurmd, munge.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use boxbuild_tests::slurm::Cluster;
use boxbuild_tests::{ProcessOutput, Running, Sandbox, skip, test_env};
use nix::sys::signal::Signal;

use super::fixture::{
    GOOD, assert_all_built, assert_nothing_left, attempts, command, program, record, set_farm,
    started, with_farm,
};

crate::tests! {
    Full:
        twelve_builds_on_two_slurm_nodes_of_which_one_is_killed,
        a_slurm_node_that_comes_back_changes_nothing,
        a_cancelled_slurm_job_is_begun_again,
        a_full_slurm_queue_is_waited_for,
        a_slurm_queue_that_takes_nothing_is_told,
        slurm_nodes_that_differ_are_avoided,
        ctrl_c_ends_slurm_jobs_that_run_and_that_wait,
        a_batch_on_slurm_killed_and_resumed;
}

/// A batch on a cluster whose nodes have `cpus` each; `None` if there can be none here.
fn farm(
    test: &str,
    (count, cpus): (usize, u32),
    script: &str,
    extra: &str,
) -> Option<(Sandbox, Cluster)> {
    let sandbox = with_farm(count, script, "");
    set_farm(
        &sandbox,
        &format!("kind = 'slurm'\nlost-after = '8s'\n{}", program(&sandbox)),
    );
    match Cluster::start(cpus, extra) {
        Ok(cluster) => Some((sandbox, cluster)),
        Err(reason) => {
            skip(test, &reason);
            None
        }
    }
}

fn start(sandbox: &Sandbox, cluster: &Cluster, options: &[&str]) -> Running {
    let mut command = command(sandbox, options);
    cluster.use_in(&mut command);
    Running::start(&mut command).limit(Duration::from_secs(900))
}

fn run(sandbox: &Sandbox, cluster: &Cluster, options: &[&str]) -> ProcessOutput {
    start(sandbox, cluster, options).finish()
}

/// The guest says that it runs, and takes a little time.
fn slow() -> String {
    format!("touch /bundle/started; sleep 3; {GOOD}")
}

#[track_caller]
fn assert_queue_is_empty(cluster: &Cluster) {
    boxbuild_tests::leftovers::assert_none(|| cluster.queue());
}

fn twelve_builds_on_two_slurm_nodes_of_which_one_is_killed() {
    let test = "twelve_builds_on_two_slurm_nodes_of_which_one_is_killed";
    let Some((sandbox, mut cluster)) = farm(test, (12, 2), &slow(), "") else {
        return;
    };
    let mut batch = start(&sandbox, &cluster, &["--json"]);
    batch.wait_until("builds on both nodes", |batch| {
        let on = |node: &str| {
            let placed = format!("\"host\":\"{node}\"");
            batch.stdout().contains(&placed)
        };
        started(&sandbox, 12) >= 1 && on("n1") && on("n2")
    });
    cluster.kill_node("n1");
    let output = batch.finish();
    output.expect(0, &[]);
    let hosts = assert_all_built(&sandbox, 12);
    let on = |node: &str| hosts.iter().filter(|host| *host == node).count();
    assert_eq!(on("n1") + on("n2"), 12, "{hosts:?}");
    let all = attempts(&sandbox, 12);
    assert!(all.contains(&String::from("n1 lost")), "{all:?}");
    assert!(
        output.stdout.contains("\"event\":\"setback\""),
        "{}",
        output.stdout
    );
    println!(
        "twelve builds: {} on n1, {} on n2, attempts {all:?}",
        on("n1"),
        on("n2")
    );
    assert_queue_is_empty(&cluster);
    assert_nothing_left(&sandbox);
}

/// What does not answer may still run: its build must not meet the next attempt.
fn a_slurm_node_that_comes_back_changes_nothing() {
    let test = "a_slurm_node_that_comes_back_changes_nothing";
    let script = format!("touch /bundle/started; sleep 5; {GOOD}");
    let Some((sandbox, cluster)) = farm(test, (1, 2), &script, "") else {
        return;
    };
    let mut batch = start(&sandbox, &cluster, &["--json"]);
    batch.wait_until("the build", |_| started(&sandbox, 1) == 1);
    let node = if batch.stdout().contains("\"host\":\"n1\"") {
        "n1"
    } else {
        "n2"
    };
    cluster.signal_node(node, Signal::SIGSTOP);
    batch.wait_until("the loss", |batch| {
        batch.stdout().contains("no sign of life")
    });
    cluster.signal_node(node, Signal::SIGCONT);
    batch.finish().expect(0, &[]);
    assert_all_built(&sandbox, 1);
    let all = attempts(&sandbox, 1);
    assert_eq!(all[0], format!("{node} lost"), "{all:?}");
    assert_queue_is_empty(&cluster);
    assert_nothing_left(&sandbox);
}

fn a_cancelled_slurm_job_is_begun_again() {
    let test = "a_cancelled_slurm_job_is_begun_again";
    // Both run at once, however busy the host is.
    let script = format!("touch /bundle/started; sleep 20; {GOOD}");
    let Some((sandbox, cluster)) = farm(test, (2, 2), &script, "") else {
        return;
    };
    let mut batch = start(&sandbox, &cluster, &[]);
    batch.wait_until("both builds", |_| started(&sandbox, 2) == 2);
    let queue = cluster.queue();
    let job = queue
        .iter()
        .find(|job| job.contains("-b2 ") || job.contains("-b2"))
        .unwrap();
    cluster.ask("scancel", &["--name", job.split(' ').next().unwrap()]);
    let output = batch.finish();
    output.expect(0, &["the build was cancelled"]);
    assert_all_built(&sandbox, 2);
    let all = attempts(&sandbox, 2);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_queue_is_empty(&cluster);
    assert_nothing_left(&sandbox);
}

/// One job at a time on each node, and no more than three in the queue.
fn a_full_slurm_queue_is_waited_for() {
    let test = "a_full_slurm_queue_is_waited_for";
    let Some((sandbox, cluster)) = farm(test, (6, 1), GOOD, "MaxJobCount=4\nMinJobAge=2") else {
        return;
    };
    let output = run(&sandbox, &cluster, &["--verbose"]);
    output.expect(0, &[]);
    assert_all_built(&sandbox, 6);
    assert_queue_is_empty(&cluster);
    assert_nothing_left(&sandbox);
}

/// More memory than any node has, and a queue that is closed.
fn a_slurm_queue_that_takes_nothing_is_told() {
    let test = "a_slurm_queue_that_takes_nothing_is_told";
    let Some((sandbox, cluster)) = farm(test, (1, 2), GOOD, "") else {
        return;
    };
    let farm = fs::read_to_string(sandbox.path("farm.toml")).unwrap();
    let farm = farm.replace("[runner.farm]\n", "");
    set_farm(
        &sandbox,
        &format!("prefix = ['srun', '--quiet', '--mem=900000M', '--']\n{farm}"),
    );
    let output = run(&sandbox, &cluster, &[]);
    output.expect(3, &["Requested node configuration is not available"]);
    set_farm(&sandbox, &farm);
    cluster.ask(
        "scontrol",
        &["update", "PartitionName=main", "State=INACTIVE"],
    );
    let output = run(&sandbox, &cluster, &[]);
    output.expect(3, &["srun: error"]);
    assert_eq!(record(&sandbox, "b1")["result"], "failed");
    assert_queue_is_empty(&cluster);
    assert_nothing_left(&sandbox);
}

/// A node without the box, one with another boxbuild, one without any.
fn slurm_nodes_that_differ_are_avoided() {
    let test = "slurm_nodes_that_differ_are_avoided";
    let Some((sandbox, cluster)) = farm(test, (2, 2), GOOD, "") else {
        return;
    };
    let boxbuild = &test_env().unwrap().boxbuild;
    let farm = fs::read_to_string(sandbox.path("farm.toml")).unwrap();
    let farm = farm.replace("[runner.farm]\n", "").replace(
        &program(&sandbox),
        &format!("program = '{}'\n", sandbox.path("program").display()),
    );
    set_farm(&sandbox, &farm);
    for (on_n1, told) in [
        (
            format!(
                "KIWI_BOXED_CACHE_DIR={} exec {} \"$@\"",
                sandbox.path("tmp").display(),
                boxbuild.display()
            ),
            "no box 'small'",
        ),
        (
            format!(
                "sed -u '1s/\"version\":\"[^\"]*\"/\"version\":\"9.9\"/' | {} \"$@\"; exit 3",
                boxbuild.display()
            ),
            "of version",
        ),
        (
            String::from("exec /nowhere/boxbuild \"$@\""),
            "/nowhere/boxbuild",
        ),
    ] {
        let _ = fs::remove_dir_all(sandbox.path("out"));
        let script = format!(
            "#!/bin/sh\nif [ \"$SLURMD_NODENAME\" = n1 ]; then\n{on_n1}\nfi\nexec {} \"$@\"\n",
            boxbuild.display()
        );
        fs::write(sandbox.path("program"), script).unwrap();
        fs::set_permissions(sandbox.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
        let output = run(&sandbox, &cluster, &[]);
        output.expect(0, &["n1: cannot be used: ", told]);
        let hosts = assert_all_built(&sandbox, 2);
        assert_eq!(hosts, ["n2", "n2"]);
        assert_queue_is_empty(&cluster);
        assert_nothing_left(&sandbox);
    }
}

fn ctrl_c_ends_slurm_jobs_that_run_and_that_wait() {
    let test = "ctrl_c_ends_slurm_jobs_that_run_and_that_wait";
    let endless = "touch /bundle/started; while :; do sleep 1; done";
    let Some((sandbox, cluster)) = farm(test, (4, 1), endless, "") else {
        return;
    };
    let mut batch = start(&sandbox, &cluster, &[]);
    batch.wait_until("two builds, and two that wait", |_| {
        started(&sandbox, 4) == 2
            && cluster
                .queue()
                .iter()
                .filter(|job| job.contains(" PD"))
                .count()
                == 2
    });
    batch.signal(Signal::SIGINT);
    let output = batch.finish();
    output.expect(130, &[]);
    assert!(
        output.stdout.contains("0 built, 4 stopped"),
        "{}",
        output.stdout
    );
    assert_queue_is_empty(&cluster);
    assert_nothing_left(&sandbox);
}

fn a_batch_on_slurm_killed_and_resumed() {
    let test = "a_batch_on_slurm_killed_and_resumed";
    let Some((sandbox, cluster)) = farm(test, (4, 1), &slow(), "") else {
        return;
    };
    let mut batch = start(&sandbox, &cluster, &[]);
    batch.wait_for(" built in ");
    batch.wait_until("another build", |_| started(&sandbox, 4) > 0);
    batch.signal(Signal::SIGKILL);
    batch.finish();
    assert_queue_is_empty(&cluster);
    assert_nothing_left(&sandbox);
    let output = run(&sandbox, &cluster, &["--resume"]);
    output.expect(0, &["built before"]);
    assert_all_built(&sandbox, 4);
    assert_queue_is_empty(&cluster);
    assert_nothing_left(&sandbox);
}
