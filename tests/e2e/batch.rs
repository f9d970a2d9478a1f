//! `boxbuild batch`: many builds from one file.

use std::fs;
use std::process::Child;
use std::time::Duration;

use boxbuild_tests::{Bench, Said, engine, finish, names};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_batch_builds_goes_on_and_sums_up",
        a_batch_builds_goes_on_and_sums_up,
    ),
    (
        "a_batch_that_shall_stop_at_the_first_failure",
        a_batch_that_shall_stop_at_the_first_failure,
    ),
    ("ctrl_c_ends_a_batch_in_order", ctrl_c_ends_a_batch_in_order),
    (
        "kill_9_of_a_batch_leaves_nothing",
        kill_9_of_a_batch_leaves_nothing,
    ),
    (
        "a_batch_is_checked_before_anything_starts",
        a_batch_is_checked_before_anything_starts,
    ),
];

const GOOD: &str = "echo image >/result/image; echo 'a line of the log' >>$log";
const ENDLESS: &str = "touch /bundle/started; while :; do sleep 1; done";

/// A bench with the batch file `text` behind the common defaults.
fn bench(text: &str) -> Bench {
    let bench = Bench::new("");
    bench.describe("good", GOOD);
    bench.describe(
        "bad",
        "echo '[ ERROR   ]: 0 | no package foo' >>$log; return 7",
    );
    bench.describe("endless", ENDLESS);
    let defaults = format!(
        "[defaults]\nbox = 'small'\ntarget-dir = 'out/{{name}}'\noptions = {{ engine = '{}', keep-failed = 'no' }}\n",
        engine()
    );
    fs::write(bench.path("batch.toml"), defaults + text).unwrap();
    bench
}

fn start(bench: &Bench, options: &[&str]) -> Child {
    let mut command = bench.command(["batch"]);
    command.arg(bench.path("batch.toml")).args(options);
    command.spawn().unwrap()
}

fn run(bench: &Bench, options: &[&str]) -> Said {
    finish(start(bench, options))
}

fn a_batch_builds_goes_on_and_sums_up() {
    let bench = bench(
        "[matrix]\ndescription = ['good', 'bad']\nprofile = ['', 'P']\n\
         [[exclude]]\ndescription = 'bad'\nprofile = 'P'\n",
    );
    let said = run(&bench, &["--jobs", "2"]);
    said.expect(1, &["3 builds, 2 at once", "no package foo", "✓ good-P"]);
    let table: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(table.len(), 5, "{}", said.stdout);
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
        let target = bench.path("out").join(name);
        assert_eq!(names(&target), ["image", "result.code", "result.log"]);
        let log = fs::read_to_string(bench.path("batch.logs").join(format!("{name}.log")));
        assert!(log.unwrap().contains("a line of the log"));
    }
    assert_eq!(names(&bench.path("out/bad")), ["result.code", "result.log"]);
    bench.assert_nothing_left();

    // The same for programs; logs are replaced.
    let said = run(&bench, &["--json", "--only", "good"]);
    said.expect(0, &[]);
    let last = said.stdout.lines().last().unwrap();
    for text in [
        "\"event\":\"summary\"",
        "\"exit_code\":0",
        "\"result\":\"built\"",
    ] {
        assert!(last.contains(text), "{last}");
    }
    assert!(said.stdout.contains("\"event\":\"started\""));

    // With the builds' names in front of everything they say.
    let said = run(&bench, &["--verbose", "--only", "good-P"]);
    said.expect(0, &["good-P | a line of the log"]);
}

fn a_batch_that_shall_stop_at_the_first_failure() {
    let bench = bench("[matrix]\ndescription = ['endless', 'bad', 'good']\n");
    let said = run(&bench, &["--jobs", "2", "--fail-fast"]);
    said.expect(1, &["no package foo"]);
    let table: Vec<&str> = said.stdout.lines().collect();
    assert!(table[1].contains("stopped"), "{}", said.stdout);
    assert!(table[2].contains("failed"), "{}", said.stdout);
    assert!(table[3].contains("not started"), "{}", said.stdout);
    assert!(!bench.path("out/good").exists());
    bench.assert_nothing_left();
}

/// Waits until the guests of two builds run their scripts.
fn wait_for_guests(bench: &Bench, batch: &mut Child) {
    for name in ["endless-A", "endless-B"] {
        let started = bench
            .path("out")
            .join(name)
            .join(".boxbuild.partial/started");
        while !started.exists() {
            assert!(batch.try_wait().unwrap().is_none(), "the batch has ended");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

const TWO: &str = "[matrix]\ndescription = 'endless'\nprofile = ['A', 'B', 'C']\n";

fn ctrl_c_ends_a_batch_in_order() {
    let bench = bench(TWO);
    let mut batch = start(&bench, &["--jobs", "2"]);
    wait_for_guests(&bench, &mut batch);
    let pid = Pid::from_raw(i32::try_from(batch.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let said = finish(batch);
    said.expect(130, &["interrupted"]);
    let last = said.stdout.lines().last().unwrap();
    assert!(
        last.starts_with("0 built, 2 stopped, 1 not started"),
        "{last}"
    );
    for name in ["endless-A", "endless-B"] {
        let target = bench.path("out").join(name);
        assert_eq!(
            fs::read_to_string(target.join("result.code")).unwrap(),
            "1\n"
        );
    }
    bench.assert_nothing_left();
}

fn kill_9_of_a_batch_leaves_nothing() {
    let bench = bench(TWO);
    let mut batch = start(&bench, &["--jobs", "2"]);
    wait_for_guests(&bench, &mut batch);
    batch.kill().unwrap();
    finish(batch);
    bench.assert_nothing_left();
    for name in ["endless-A", "endless-B"] {
        assert!(
            !bench
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
        let bench = bench(text);
        run(&bench, &[]).expect(2, expected);
        assert!(!bench.path("out").exists() && !bench.path("batch.logs").exists());
        bench.assert_nothing_left();
    }
    let bench = bench("[matrix]\ndescription = ['good', 'bad']\n");
    let said = run(&bench, &["--dry-run"]);
    said.expect(0, &[]);
    assert!(
        said.stdout.contains("boxbuild '--box=small'"),
        "{}",
        said.stdout
    );
    assert!(!bench.path("out").exists() && !bench.path("batch.logs").exists());
    run(&bench, &["--only", "worse"]).expect(2, &["no such build", "good, bad"]);
    fs::remove_file(bench.path("batch.toml")).unwrap();
    run(&bench, &[]).expect(2, &["batch.toml", "No such file"]);
}
