//! Bad input: refused before anything is touched, with a message that helps.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use boxbuild_tests::{ProcessOutput, Sandbox, names, skip};

crate::tests! {
    Program:
        wrong_words_are_refused,
        wrong_folders_are_refused,
        boxes_are_listed_shown_and_removed,
        a_closed_pipe_is_no_error;
    Qemu:
        what_the_host_lacks_is_named;
}

fn wrong_words_are_refused() {
    let sandbox = Sandbox::new("");
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (
            &[],
            &["--add-pakage", "x"],
            &["--add-pakage", "did you mean --add-package?"],
        ),
        (&[], &["--add-package"], &["--add-package needs a value"]),
        (&[], &["stray"], &["unexpected word 'stray'"]),
        (&["--engine", "bochs"], &[], &["bochs", "qemu"]),
        (&["--boot", "warp"], &[], &["warp", "compat"]),
        (&["--arch", "vax"], &[], &["vax", "aarch64"]),
        (&["--arch", "aarch64"], &[], &["the box small is for"]),
        (&["--box-memory", "8M"], &[], &["too little memory"]),
        (&["--box-smp-cpus", "0"], &[], &["--box-smp-cpus"]),
        (&["--disk-size", "1M"], &[], &["cannot shrink"]),
        (&["--timeout", "soon"], &[], &["not a time"]),
        (&["--frobnicate"], &[], &["--frobnicate"]),
        (&[], &["--profile", "A"], &["--profile", "put it before --"]),
        (
            &["--add-package", "x"],
            &[],
            &["--add-package", "put it after --"],
        ),
        (
            &["--config", "kiwi.yml"],
            &[],
            &["--config", "does not exist"],
        ),
        (&["--logfile", "/nowhere/log"], &[], &["does not exist"]),
        (&["--box-console", "hvc0 init=x"], &[], &["not a console"]),
        (
            &["--ssh-port", "0", "--network", "none"],
            &[],
            &["--network none"],
        ),
        (
            &["--ssh-port", "0", "--ssh-key", "/nowhere/key"],
            &[],
            &["--ssh-key", "no such key"],
        ),
        (&["--ssh-port", "65536"], &[], &["65536"]),
    ];
    for (front, back, texts) in cases {
        sandbox.build(front, back).expect(2, texts);
        assert!(!sandbox.target().exists(), "{front:?} {back:?}");
    }
    sandbox
        .run(["--box", "small"])
        .expect(2, &["nothing to build"]);
    sandbox
        .run(["--", "--description", "."])
        .expect(2, &["--box"]);
    let build = ["--", "--target-dir", "/tmp/never/made", "--description"];
    let description = sandbox.description();
    let unknown = ["--box", "smal"].iter().chain(&build).copied();
    let mut command = sandbox.command(unknown);
    let output = ProcessOutput::of(command.arg(&description));
    output.expect(2, &["did you mean 'small'?"]);
    sandbox.assert_nothing_left();
}

fn wrong_folders_are_refused() {
    let sandbox = Sandbox::new("");
    let check = |description: &Path, target: &Path, text: &str| {
        let mut command = sandbox.command(["--box", "small", "--", "--description"]);
        command.arg(description).arg("--target-dir").arg(target);
        ProcessOutput::of(&mut command).expect(2, &[text]);
    };
    let (good, target) = (sandbox.description(), sandbox.target());
    check(Path::new("/nonexistent"), &target, "does not exist");
    check(&good.join("config.xml"), &target, "not a folder");
    check(&sandbox.path("store"), &target, "no KIWI description");
    check(&good, &good.join("config.xml"), "not a folder");
    check(&good, Path::new("/proc/self/x"), "");
    assert!(!target.exists());
    if nix::unistd::getuid().is_root() {
        skip(
            "wrong_folders_are_refused, a target without permission",
            "root may write anywhere",
        );
    } else {
        check(&good, Path::new("/usr/never"), "no permission to write");
    }
    sandbox.assert_nothing_left();
}

fn what_the_host_lacks_is_named() {
    let sandbox = Sandbox::new("");
    let mut command = sandbox.build_command(&[], &[]);
    let output = ProcessOutput::of(command.env("PATH", sandbox.path("home")));
    output.expect(3, &["qemu-system", "not installed"]);
    let mut command = sandbox.build_command(&[], &[]);
    for name in ["HOME", "KIWI_BOXED_CACHE_DIR", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    ProcessOutput::of(&mut command).expect(3, &["HOME"]);
    assert!(!sandbox.target().exists());
}

fn boxes_are_listed_shown_and_removed() {
    let sandbox = Sandbox::new("");
    let list = sandbox.run(["box", "list"]);
    assert!(
        list.code == 0 && list.stdout.starts_with("small "),
        "{list:?}"
    );
    let info = sandbox.run(["box", "info", "small"]);
    assert!(
        info.code == 0 && info.stdout.contains("disk.qcow2"),
        "{info:?}"
    );
    sandbox
        .run(["box", "info", "smell"])
        .expect(2, &["did you mean 'small'?"]);
    sandbox
        .run(["box", "rm", "../small"])
        .expect(2, &["not a valid box name"]);
    sandbox.run(["box", "rm", "small"]).expect(0, &[]);
    assert_eq!(names(&sandbox.store()), [] as [&str; 0]);
    sandbox
        .run(["box", "rm", "small"])
        .expect(2, &["there is no box 'small'"]);
    sandbox.run(["box", "list"]).expect(0, &["There is no box"]);
    sandbox
        .run(["box", "create", "x", "--from", "debian:potato"])
        .expect(2, &["debian:trixie"]);
    sandbox
        .run(["box", "create", "X!", "--from", "debian:trixie"])
        .expect(2, &["not a valid box name"]);
    fs::remove_dir(sandbox.store()).unwrap();
    sandbox.run(["box", "list"]).expect(0, &[]);
}

fn a_closed_pipe_is_no_error() {
    let sandbox = Sandbox::new("");
    for command in [&["box", "list"][..], &["--help"], &["box", "info", "small"]] {
        let mut command = sandbox.command(command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}
