//! `--dry-run` answers as the build does.

use std::fs::{self, File};
use std::net::TcpListener;

use boxbuild_tests::{ProcessOutput, Sandbox};
use nix::fcntl::{Flock, FlockArg};

crate::tests! {
    Program:
        a_dry_run_refuses_what_the_build_refuses,
        a_dry_run_has_the_notes_of_the_build;
}

/// The words of a refusal, without the moment that it came at.
fn refusal(output: &ProcessOutput) -> (i32, String) {
    (output.code, output.stderr.clone())
}

/// E2: `--locked` without a lock file, a missing key, and no terminal passed.
fn a_dry_run_refuses_what_the_build_refuses() {
    let sandbox = Sandbox::new("touch /result/image");
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let other = fs::canonicalize(sandbox.path(".")).unwrap();
    let lock = other.join("boxbuild.lock");
    fs::write(&lock, "{\"format\":1,\"boxes\":[]}").unwrap();
    let lock = lock.to_str().unwrap();
    // Another build has the target folder.
    let taken = sandbox.path("taken");
    fs::create_dir_all(taken.join(".boxbuild.partial")).unwrap();
    let handle = File::open(taken.join(".boxbuild.partial")).unwrap();
    let _taken = Flock::lock(handle, FlockArg::LockExclusiveNonblock).unwrap();
    let cases: &[(&[&str], &[&str], i32, &str)] = &[
        (
            &["--locked", "--lock-file", "nowhere"],
            &[],
            2,
            "there is no nowhere",
        ),
        (
            &["--locked", "--lock-file", lock],
            &[],
            2,
            "does not have the box 'small'",
        ),
        (&["--signed-by", "nokey"], &[], 2, "nokey"),
        (&["--box-debug"], &[], 2, "needs a terminal"),
        (&["--ssh-port", &port], &[], 3, "port"),
        (&["--disk-size", "1M"], &[], 2, "cannot shrink"),
        (&["--engine", "kvm", "--no-accel"], &[], 2, "--no-accel"),
        (&["--shared-path", "/nowhere"], &[], 2, "/nowhere"),
        (
            &["--logfile", "/nowhere/log"],
            &[],
            2,
            "folder does not exist",
        ),
        (&[], &["--signing-key", "/nowhere/key"], 2, "/nowhere/key"),
        (&[], &["--frobnicate"], 2, "--frobnicate"),
    ];
    for (front, back, code, text) in cases {
        let build = sandbox.build(front, back);
        build.expect(*code, &[text]);
        let dry = sandbox.build(&[front, &["--dry-run"][..]].concat(), back);
        assert_eq!(refusal(&build), refusal(&dry), "{front:?}");
        assert_eq!(dry.stdout, "", "{front:?}");
    }
    let build = sandbox.build_to("taken", &[]);
    build.expect(3, &["in use by another build"]);
    assert_eq!(
        refusal(&build),
        refusal(&sandbox.build_to("taken", &["--dry-run"]))
    );
    let elsewhere = |dry_run: &[&str]| {
        let words = ["--box", "leap", "--offline"];
        let mut command = sandbox.command([&words[..], dry_run].concat());
        sandbox.behind_separator(&mut command, &sandbox.target());
        ProcessOutput::of(&mut command)
    };
    let build = elsewhere(&[]);
    let text = "'leap' is not on this host, and --offline fetches nothing";
    assert!(build.code > 0 && build.stderr.contains(text), "{build:?}");
    assert_eq!(refusal(&build), refusal(&elsewhere(&["--dry-run"])));
    assert!(!sandbox.target().exists());
}

fn a_dry_run_has_the_notes_of_the_build() {
    let sandbox = Sandbox::new("touch /result/image");
    let front = ["--box-memory", "1", "--ssh-key", "id_rsa", "--9p-sharing"];
    let build = sandbox.build(&front, &[]);
    build.expect(0, &[]);
    let dry = sandbox.build(&[&front[..], &["--dry-run"]].concat(), &[]);
    dry.expect(0, &[]);
    let steps = ["✓ ", "✗ "];
    let notes = |output: &ProcessOutput| -> Vec<String> {
        let lines = output.stderr.lines();
        let notes = lines.filter(|line| !steps.iter().any(|step| line.starts_with(step)));
        notes.map(str::to_owned).collect()
    };
    assert_eq!(notes(&build), notes(&dry));
    for text in ["GiB", "--ssh-key", "--9p-sharing"] {
        assert!(
            notes(&dry).iter().any(|note| note.contains(text)),
            "{text}: {dry:?}"
        );
    }
}
