//! The history of builds, and settings of a real build.

use std::process::Stdio;

use boxbuild_tests::{ProcessOutput, Running, Sandbox};
use serde_json::Value;

crate::tests! {
    Engine:
        every_build_is_in_the_history;
    Program:
        a_build_is_followed_from_another_terminal,
        builds_at_once_write_one_history,
        a_history_that_cannot_be_written_fails_no_build,
        a_plan_and_a_build_take_settings;
}

/// The builds that `line` lists.
fn builds(sandbox: &Sandbox, line: &str) -> Vec<Value> {
    let output = sandbox.run(line.split(' '));
    assert_eq!(output.code, 0, "{output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

fn every_build_is_in_the_history() {
    let sandbox =
        Sandbox::new("echo '[ INFO    ]: 00:00:00 | a line' >>$log; echo image >/result/x.raw");
    let secret = "https://me:s3cret@repo.invalid/x";
    sandbox.build(&[], &["--add-repo", secret]).expect(0, &[]);
    let sha256 = "d1a51a2d5e8f7b1b";
    let log = sandbox.run(["logs", "1"]);
    assert!(log.code == 0 && log.stdout.contains("a line"), "{log:?}");
    sandbox.script("echo '[ ERROR   ]: 00:00:00 | it went wrong' >>$log; return 7");
    let failed = sandbox.build(&["--keep-failed=yes"], &[]);
    failed.expect(1, &["it is kept (", "boxbuild shell small-1"]);
    let found = builds(&sandbox, "builds --json");
    let [good, bad] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(
        (&good["state"], &good["id"], &good["build"]),
        (&"built".into(), &"1".into(), &1.into())
    );
    assert_eq!(good["exit_code"], 0);
    assert!(good["seconds"].as_f64().unwrap() > 0.5, "{good}");
    let file = &good["files"][0];
    assert!(file["path"].as_str().unwrap().ends_with("x.raw"), "{good}");
    assert_eq!(file["bytes"], 6);
    assert_eq!(
        file["sha256"].as_str().unwrap().len(),
        64,
        "{good} {sha256}"
    );
    assert!(!good.to_string().contains("s3cret"), "{good}");
    assert_eq!(
        (&bad["state"], &bad["id"], &bad["build"]),
        (&"failed".into(), &"small-1".into(), &2.into())
    );
    assert_eq!(bad["reason_word"], "kiwi");
    assert!(bad["folder"].is_string() && bad["disk"] == true, "{bad}");
    let failed = builds(&sandbox, "builds --json --failed");
    assert_eq!(failed.len(), 1);
    // By its number as by its name.
    for id in ["2", "small-1"] {
        let log = sandbox.run(["logs", id]);
        assert!(log.stdout.contains("it went wrong"), "{log:?}");
    }
    // The next build into the folder has the log of its own.
    sandbox.run(["logs", "1"]).expect(2, &["a later build"]);
    sandbox.run(["prune", "--builds"]).expect(0, &[]);
    let found = builds(&sandbox, "builds --json");
    assert_eq!(found[1]["id"], "2");
    assert_eq!(found[1]["folder"], Value::Null);
}

/// From a start to a verdict, in a process of its own.
fn a_build_is_followed_from_another_terminal() {
    let sandbox = Sandbox::new(
        "echo '[ INFO    ]: 00:00:00 | first' >>$log; echo mark >/dev/console
         for i in 1 2 3 4 5 6 7 8; do sleep 1; echo \"[ INFO    ]: 00:00:0$i | line $i\" >>$log; done
         echo '[ ERROR   ]: 00:00:00 | the last' >>$log; return 7",
    );
    let build = sandbox.start_until(&["--verbose"], "first");
    let running = builds(&sandbox, "builds --json --running");
    assert_eq!(running.len(), 1, "{running:?}");
    let mut command = sandbox.command(["logs", "--follow"]);
    let follower = Running::start(command.stdin(Stdio::null()));
    let followed = follower.finish();
    let built = build.finish();
    assert_eq!((built.code, followed.code), (1, 1), "{followed:?}");
    for words in ["first", "line 1", "line 8", "the last"] {
        assert_eq!(
            followed.stdout.matches(words).count(),
            1,
            "{words}: {followed:?}"
        );
    }
    assert!(
        followed.stderr.contains("build 1: failed after"),
        "{followed:?}"
    );
    // It was killed: nothing says how it ended.
    sandbox.script("echo '[ INFO    ]: 00:00:00 | first' >>$log; sleep 300");
    let build = sandbox.start_until(&["--verbose"], "first");
    let follower = Running::start(&mut sandbox.command(["logs", "--follow", "2"]));
    build.signal(nix::sys::signal::Signal::SIGKILL);
    let followed = follower.finish();
    followed.expect(3, &["build 2 was killed"]);
    build.finish();
    let found = builds(&sandbox, "builds --json --last 1");
    assert_eq!(found[0]["state"], "killed");
}

fn builds_at_once_write_one_history() {
    let sandbox = Sandbox::new("echo x >/result/x");
    let targets = ["one", "two", "three"].map(|name| sandbox.path(name));
    let started: Vec<Running> = targets
        .iter()
        .map(|target| Running::start(&mut sandbox.build_command_to(target, &[], &[])))
        .collect();
    for build in started {
        build.finish().expect(0, &[]);
    }
    let found = builds(&sandbox, "builds --json");
    let mut numbers: Vec<u64> = found
        .iter()
        .map(|row| row["build"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3], "{found:?}");
    assert!(found.iter().all(|row| row["state"] == "built"), "{found:?}");
}

fn a_history_that_cannot_be_written_fails_no_build() {
    let sandbox = Sandbox::new("echo x >/result/x");
    std::fs::write(sandbox.path("state"), "").unwrap();
    let output = sandbox.build(&[], &[]);
    output.expect(0, &["its record cannot be written"]);
    // Without a home there is no history, and no word of it.
    let mut command = sandbox.build_command(&[], &[]);
    command.env_remove("XDG_STATE_HOME").env_remove("HOME");
    let output = ProcessOutput::of(&mut command);
    assert_eq!(output.code, 0, "{output:?}");
}

/// The plan says where each comes from; the box sees it.
fn a_plan_and_a_build_take_settings() {
    let sandbox = Sandbox::new("nproc >/result/cpus; echo \"$kiwi_line\" >/result/line");
    let config = sandbox.path("config");
    std::fs::create_dir_all(&config).unwrap();
    let file = config.join("boxbuild.toml");
    std::fs::write(&file, "box-smp-cpus = 2\nsetenv = ['FROM=user']\n").unwrap();
    let command = |front: &[&str]| {
        let mut command = sandbox.build_command(front, &[]);
        command
            .env_remove("BOXBUILD_NO_CONFIG")
            .env("XDG_CONFIG_HOME", &config)
            .env("BOXBUILD_SETENV", "FROM=environment");
        command
    };
    let plan = ProcessOutput::of(&mut command(&["--dry-run", "--json"]));
    assert_eq!(plan.code, 0, "{plan:?}");
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["cpus"], 2);
    let settings = plan["settings"].as_array().unwrap();
    let of = |key: &str| settings.iter().find(|row| row["key"] == key).unwrap();
    assert_eq!(
        (&of("box-smp-cpus")["from"], &of("box-smp-cpus")["line"]),
        (&"user".into(), &1.into())
    );
    assert_eq!(of("setenv")["variable"], "BOXBUILD_SETENV");
    let text = ProcessOutput::of(&mut command(&["--dry-run"]));
    let line = format!("box-smp-cpus = 2 ({}:1)", file.display());
    assert!(text.stdout.contains(&line), "{text:?}");
    // What is typed counts.
    let typed = ProcessOutput::of(&mut command(&[
        "--dry-run",
        "--json",
        "--box-smp-cpus",
        "1",
    ]));
    let typed: Value = serde_json::from_str(&typed.stdout).unwrap();
    assert_eq!(typed["cpus"], 1);
    // A batch's builds have them, in whatever folder they run.
    let name = sandbox.box_name();
    let batch = format!(
        "[[build]]\nname = 'a'\nbox = '{name}'\ndescription = '{}'\ntarget-dir = '{}'\n",
        sandbox.description().display(),
        sandbox.path("of-batch").display()
    );
    std::fs::write(sandbox.path("builds.toml"), batch).unwrap();
    let mut run = sandbox.command([
        std::ffi::OsStr::new("batch"),
        sandbox.path("builds.toml").as_os_str(),
    ]);
    run.env_remove("BOXBUILD_NO_CONFIG")
        .env("XDG_CONFIG_HOME", &config)
        .env("BOXBUILD_DRY_RUN", "1");
    ProcessOutput::of(&mut run).expect(0, &[]);
    let cpus = std::fs::read_to_string(sandbox.path("of-batch/cpus")).unwrap();
    assert_eq!(cpus.trim(), "2");
}
