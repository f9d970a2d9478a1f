//! `boxbuild batch`: many builds from one file.

use std::fs;

use boxbuild_tests::{ProcessOutput, Running, Sandbox, engine, names};
use nix::sys::signal::Signal;

crate::tests! {
    Program:
        a_batch_builds_goes_on_and_sums_up,
        a_batch_that_shall_stop_at_the_first_failure,
        ctrl_c_ends_a_batch_in_order,
        kill_9_of_a_batch_leaves_nothing,
        a_batch_is_checked_before_anything_starts;
}

const GOOD: &str = "echo image >/result/image; echo 'a line of the log' >>$log";
const ENDLESS: &str = "touch /bundle/started; while :; do sleep 1; done";

/// A sandbox with the batch file `text` behind the common defaults.
fn with_batch(text: &str) -> Sandbox {
    let sandbox = Sandbox::new("");
    sandbox.describe("good", GOOD);
    sandbox.describe(
        "bad",
        "echo '[ ERROR   ]: 0 | no package foo' >>$log; return 7",
    );
    sandbox.describe("endless", ENDLESS);
    let defaults = format!(
        "[defaults]\nbox = 'small'\ntarget-dir = 'out/{{name}}'\noptions = {{ engine = '{}', keep-failed = 'no' }}\n",
        engine()
    );
    fs::write(sandbox.path("batch.toml"), defaults + text).unwrap();
    sandbox
}

fn start(sandbox: &Sandbox, options: &[&str]) -> Running {
    let mut command = sandbox.command(["batch"]);
    command.arg(sandbox.path("batch.toml")).args(options);
    Running::start(&mut command)
}

fn run(sandbox: &Sandbox, options: &[&str]) -> ProcessOutput {
    start(sandbox, options).finish()
}

fn a_batch_builds_goes_on_and_sums_up() {
    let sandbox = with_batch(
        "[matrix]\ndescription = ['good', 'bad']\nprofile = ['', 'P']\n\
         [[exclude]]\ndescription = 'bad'\nprofile = 'P'\n",
    );
    let output = run(&sandbox, &["--jobs", "2"]);
    output.expect(1, &["3 builds, 2 at once", "no package foo", "✓ good-P"]);
    let table: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(table.len(), 5, "{}", output.stdout);
    for (line, name, result) in [
        (table[1], "good", "built"),
        (table[2], "good-P", "built"),
        (table[3], "bad", "failed"),
    ] {
        assert!(line.starts_with(name) && line.contains(result), "{line}");
    }
    assert!(
        table[4].starts_with("2 built, 1 failed, in "),
        "{}",
        table[4]
    );
    for name in ["good", "good-P"] {
        let target = sandbox.path("out").join(name);
        assert_eq!(names(&target), ["image", "result.code", "result.log"]);
        let log = fs::read_to_string(sandbox.path("batch.logs").join(format!("{name}.log")));
        assert!(log.unwrap().contains("a line of the log"));
    }
    assert_eq!(
        names(&sandbox.path("out/bad")),
        ["result.code", "result.log"]
    );
    sandbox.assert_nothing_left();

    // The same for programs; logs are replaced.
    let output = run(&sandbox, &["--json", "--only", "good"]);
    output.expect(0, &[]);
    let last = output.stdout.lines().last().unwrap();
    for text in [
        "\"event\":\"summary\"",
        "\"exit_code\":0",
        "\"result\":\"built\"",
    ] {
        assert!(last.contains(text), "{last}");
    }
    assert!(output.stdout.contains("\"event\":\"started\""));

    // With the builds' names in front of all that they print.
    let output = run(&sandbox, &["--verbose", "--only", "good-P"]);
    output.expect(0, &["good-P | a line of the log"]);
}

fn a_batch_that_shall_stop_at_the_first_failure() {
    let sandbox = with_batch("[matrix]\ndescription = ['endless', 'bad', 'good']\n");
    let output = run(&sandbox, &["--jobs", "2", "--fail-fast"]);
    output.expect(1, &["no package foo"]);
    let table: Vec<&str> = output.stdout.lines().collect();
    assert!(table[1].contains("stopped"), "{}", output.stdout);
    assert!(table[2].contains("failed"), "{}", output.stdout);
    assert!(table[3].contains("not started"), "{}", output.stdout);
    assert!(!sandbox.path("out/good").exists());
    sandbox.assert_nothing_left();
}

/// Waits until the guests of two builds run their scripts.
fn wait_for_guests(sandbox: &Sandbox, batch: &mut Running) {
    for name in ["endless-A", "endless-B"] {
        let started = sandbox
            .path("out")
            .join(name)
            .join(".boxbuild.partial/bundle/started");
        batch.wait_until(name, |_| started.exists());
    }
}

const TWO: &str = "[matrix]\ndescription = 'endless'\nprofile = ['A', 'B', 'C']\n";

fn ctrl_c_ends_a_batch_in_order() {
    let sandbox = with_batch(TWO);
    let mut batch = start(&sandbox, &["--jobs", "2"]);
    wait_for_guests(&sandbox, &mut batch);
    batch.signal(Signal::SIGINT);
    let output = batch.finish();
    output.expect(130, &["interrupted"]);
    let last = output.stdout.lines().last().unwrap();
    assert!(
        last.starts_with("0 built, 2 stopped, 1 not started"),
        "{last}"
    );
    for name in ["endless-A", "endless-B"] {
        let target = sandbox.path("out").join(name);
        assert_eq!(
            fs::read_to_string(target.join("result.code")).unwrap(),
            "1\n"
        );
    }
    sandbox.assert_nothing_left();
}

fn kill_9_of_a_batch_leaves_nothing() {
    let sandbox = with_batch(TWO);
    let mut batch = start(&sandbox, &["--jobs", "2"]);
    wait_for_guests(&sandbox, &mut batch);
    batch.signal(Signal::SIGKILL);
    batch.finish();
    sandbox.assert_nothing_left();
    for name in ["endless-A", "endless-B"] {
        assert!(
            !sandbox
                .path("out")
                .join(name)
                .join(".boxbuild.partial")
                .exists()
        );
    }
}

fn a_batch_is_checked_before_anything_starts() {
    let cases: &[(&str, &[&str])] = &[
        ("[matrx]\n", &["line 5", "unknown field `matrx`"]),
        (
            "[matrix]\ndescription = ['good', 'nowhere', 'god']\n",
            &[
                "line 5: nowhere: --description nowhere",
                "line 5: god: --description god",
                "does not exist",
            ],
        ),
        (
            "[matrix]\ndescription = ['good', 'bad']\n[[override]]\nmatch.name = 'bad'\n\
             target-dir = './out//good'\n",
            &["builds into", "as good does (line 5)"],
        ),
        (
            "[matrix]\ndescription = 'good'\nbox = ['small', 'large']\n",
            &["line 5: good-large: there is no box 'large'"],
        ),
        (
            "[[build]]\ndescription = 'good'\noptions.box-memory = '1M'\n",
            &["line 5: good:", "too little memory"],
        ),
        (
            "[[build]]\ndescription = 'good'\nbuild-args.ca-target-distribution = 'beos'\n",
            &["line 5: good:", "beos"],
        ),
    ];
    for (text, expected) in cases {
        let sandbox = with_batch(text);
        run(&sandbox, &[]).expect(2, expected);
        assert!(!sandbox.path("out").exists() && !sandbox.path("batch.logs").exists());
        sandbox.assert_nothing_left();
    }
    let sandbox = with_batch("[matrix]\ndescription = ['good', 'bad']\n");
    let output = run(&sandbox, &["--dry-run"]);
    output.expect(0, &[]);
    assert!(
        output.stdout.contains("boxbuild '--box=small'"),
        "{}",
        output.stdout
    );
    assert!(!sandbox.path("out").exists() && !sandbox.path("batch.logs").exists());
    run(&sandbox, &["--only", "worse"]).expect(2, &["no such build", "good, bad"]);
    fs::remove_file(sandbox.path("batch.toml")).unwrap();
    run(&sandbox, &[]).expect(2, &["batch.toml", "No such file"]);
}
