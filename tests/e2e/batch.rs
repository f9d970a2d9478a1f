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
        a_batch_is_checked_before_anything_starts,
        all_mistakes_of_a_batch_are_told_at_once;
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
    for state in ["started", "done"] {
        let event = format!("\"build\":\"good\",\"phase\":\"prepare\",\"state\":\"{state}\"");
        assert!(output.stdout.contains(&event), "{output:?}");
    }

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
        (
            "[matrx]\n",
            &["batch.toml:5: ", "no key 'matrx'", "did you mean 'matrix'?"],
        ),
        (
            "[matrix]\ndescription = ['good', 'nowhere', 'god']\n",
            &[
                "batch.toml:6: nowhere: --description nowhere",
                "batch.toml:6: god: --description god",
                "does not exist",
            ],
        ),
        (
            "[matrix]\ndescription = ['good', 'bad']\n[[override]]\nmatch.name = 'bad'\n\
             target-dir = './out//good'\n",
            &["batch.toml:9: bad: builds into", "as good does (line 3)"],
        ),
        (
            "[matrix]\ndescription = 'good'\nbox = ['small', 'large']\n",
            &["batch.toml:7: there is no box 'large'"],
        ),
        (
            "[[build]]\ndescription = 'good'\noptions.box-memory = '1M'\n",
            &["batch.toml:7: options.box-memory:", "too little memory"],
        ),
        (
            "[[build]]\ndescription = 'good'\nbuild-args.ca-target-distribution = 'beos'\n",
            &["batch.toml:7: build-args.ca-target-distribution:", "beos"],
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

/// E3: one mistake of six was told; refusals were not JSON.
fn all_mistakes_of_a_batch_are_told_at_once() {
    let sandbox = with_batch(
        "[matrix]\n\
         descripton = ['nowhere', 'good']\n\
         [[build]]\n\
         description = 'bad'\n\
         options.box-memory = '1M'\n\
         build-args.ca-target-distribution = 'beos'\n\
         target-dir = 'out/{nmae}'\n\
         [[build]]\n\
         description = 'elsewhere'\n\
         box = 'smal'\n\
         options.locked = true\n\
         options.signed-by = 'nokey'\n\
         options.timeuot = '1h'\n",
    );
    let expected = [
        (
            6,
            "no key 'descripton' in [matrix]; did you mean 'description'?",
        ),
        (6, "nowhere: --description nowhere: does not exist"),
        (9, "options.box-memory: "),
        (10, "build-args.ca-target-distribution: beos"),
        (11, "{nmae}; did you mean {name}?"),
        (
            13,
            "elsewhere-smal: --description elsewhere: does not exist",
        ),
        (14, "there is no box 'smal'; did you mean 'small'?"),
        (15, "there is no boxbuild.lock"),
        (16, "nokey"),
        (17, "there is no option --timeuot; did you mean timeout?"),
    ];
    for mode in [&[][..], &["--dry-run"]] {
        let output = run(&sandbox, mode);
        output.expect(2, &["nothing was started"]);
        for (line, text) in &expected {
            let place = format!("batch.toml:{line}: ");
            let told = |shown: &str| shown.contains(&place) && shown.contains(text);
            assert!(output.stderr.lines().any(told), "{place}{text}: {output:?}");
        }
        // The same for programs, on standard output.
        let output = run(&sandbox, &[mode, &["--json"]].concat());
        output.expect(2, &[]);
        assert_eq!(output.stderr, "");
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert!(lines[0].starts_with("{\"event\":\"error\""), "{output:?}");
        for (line, text) in &expected {
            let place = format!("{{\"line\":{line},\"message\":");
            assert!(
                lines[0].contains(&place) && lines[0].contains(text),
                "{place}{text}: {output:?}"
            );
        }
        assert_eq!(lines.len(), 2, "{output:?}");
        assert!(
            lines[1].starts_with("{\"event\":\"exit\",\"code\":2,"),
            "{output:?}"
        );
    }
    assert!(!sandbox.path("out").exists() && !sandbox.path("batch.logs").exists());
    sandbox.assert_nothing_left();
}
