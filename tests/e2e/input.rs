//! Bad input: refused before anything is touched, with a message that helps.

use std::fs;
use std::path::Path;

use boxbuild_tests::{Bench, names};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("wrong_words_are_refused", wrong_words_are_refused),
    ("wrong_folders_are_refused", wrong_folders_are_refused),
    ("what_the_host_lacks_is_named", what_the_host_lacks_is_named),
    (
        "boxes_are_listed_shown_and_removed",
        boxes_are_listed_shown_and_removed,
    ),
    ("a_closed_pipe_is_no_error", a_closed_pipe_is_no_error),
];

fn wrong_words_are_refused() {
    let bench = Bench::new("");
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (
            &[],
            &["--add-pakage", "x"],
            &["--add-pakage", "did you mean --add-package?"],
        ),
        (&[], &["--add-package"], &["--add-package needs a value"]),
        (&[], &["stray"], &["unexpected word 'stray'"]),
        (&[], &["--target-dir", "/x"], &["only once"]),
        (&["--engine", "bochs"], &[], &["bochs", "qemu"]),
        (&["--boot", "warp"], &[], &["warp", "compat"]),
        (&["--arch", "vax"], &[], &["vax", "aarch64"]),
        (&["--arch", "aarch64"], &[], &["the box small is for"]),
        (&["--box-memory", "8M"], &[], &["too little memory"]),
        (&["--box-smp-cpus", "0"], &[], &["--box-smp-cpus"]),
        (&["--disk-size", "1M"], &[], &["cannot shrink"]),
        (&["--timeout", "soon"], &[], &["not a time"]),
        (&["--frobnicate"], &[], &["--frobnicate"]),
        (&[], &["--profile", "A"], &["--profile", "in front of it"]),
        (
            &["--add-package", "x"],
            &[],
            &["--add-package", "behind the separator"],
        ),
        (&["--config", "kiwi.yml"], &[], &["--config", "absolute"]),
        (
            &["--logsocket", "/tmp/s"],
            &[],
            &["--logsocket", "--verbose"],
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
        (&["--ssh-port", "0", "--container"], &[], &["--container"]),
        (&["--ssh-port", "65536"], &[], &["65536"]),
    ];
    for (front, back, texts) in cases {
        bench.build(front, back).expect(2, texts);
        assert!(!bench.target().exists(), "{front:?} {back:?}");
    }
    bench
        .run(["--box", "small"])
        .expect(2, &["nothing to build"]);
    bench
        .run(["--", "--description", "."])
        .expect(2, &["--box"]);
    let build = ["--", "--target-dir", "/tmp/never/made", "--description"];
    let description = bench.description();
    let unknown = ["--box", "smal"].iter().chain(&build).copied();
    let mut command = bench.command(unknown);
    let said = command.arg(&description).output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("did you mean 'small'?"));
    bench.assert_nothing_left();
}

fn wrong_folders_are_refused() {
    let bench = Bench::new("");
    let check = |description: &Path, target: &Path, text: &str| {
        let mut command = bench.command(["--box", "small", "--", "--description"]);
        let output = command
            .arg(description)
            .arg("--target-dir")
            .arg(target)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(text), "'{text}' is not in: {said}");
    };
    let (good, target) = (bench.description(), bench.target());
    check(Path::new("/nonexistent"), &target, "does not exist");
    check(&good.join("config.xml"), &target, "not a folder");
    check(&bench.path("store"), &target, "no KIWI description");
    check(&good, &good.join("config.xml"), "not a folder");
    check(&good, &good.join("below"), "inside the description");
    check(&good, good.parent().unwrap(), "contains the description");
    check(&good, Path::new("/proc/self/x"), "");
    assert!(!target.exists());
    if nix::unistd::getuid().is_root() {
        println!(
            "skipped: wrong_folders_are_refused, a target without permission: root may write anywhere"
        );
    } else {
        check(&good, Path::new("/usr/never"), "cannot write");
    }
    bench.assert_nothing_left();
}

fn what_the_host_lacks_is_named() {
    let bench = Bench::new("");
    let mut command = bench.build_command(&[], &[]);
    let output = command.env("PATH", bench.path("names")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("qemu-system") && said.contains("not installed"),
        "{said}"
    );
    let mut command = bench.build_command(&[], &[]);
    let output = command
        .env_remove("HOME")
        .env_remove("KIWI_BOXED_CACHE_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("HOME"), "{said}");
    assert!(!bench.target().exists());
}

fn boxes_are_listed_shown_and_removed() {
    let bench = Bench::new("");
    let list = bench.run(["box", "list"]);
    assert!(
        list.code == 0 && list.stdout.starts_with("small "),
        "{list:?}"
    );
    let info = bench.run(["box", "info", "small"]);
    assert!(
        info.code == 0 && info.stdout.contains("disk.qcow2"),
        "{info:?}"
    );
    bench
        .run(["box", "info", "smell"])
        .expect(2, &["did you mean 'small'?"]);
    bench
        .run(["box", "rm", "../small"])
        .expect(2, &["no name for a box"]);
    bench.run(["box", "rm", "small"]).expect(0, &[]);
    assert_eq!(names(&bench.store()), [] as [&str; 0]);
    bench
        .run(["box", "rm", "small"])
        .expect(2, &["there is no box 'small'"]);
    bench.run(["box", "list"]).expect(0, &["There is no box"]);
    bench
        .run(["box", "create", "x", "--from", "debian:potato"])
        .expect(2, &["debian:trixie"]);
    bench
        .run(["box", "create", "X!", "--from", "debian:trixie"])
        .expect(2, &["no name"]);
    fs::remove_dir(bench.store()).unwrap();
    bench.run(["box", "list"]).expect(0, &[]);
}

fn a_closed_pipe_is_no_error() {
    let bench = Bench::new("");
    for command in [&["box", "list"][..], &["--help"], &["box", "info", "small"]] {
        let mut child = bench.command(command).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{said}");
    }
}
