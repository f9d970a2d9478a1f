//! Builds that failed after kiwi's `prepare` and are gone on with, and packages for the box.
//!
//! The stand-in for kiwi asks for a checkpoint as boxbuild's patch for kiwi does. What it does in `create` is
//! in `disk.sh` of the description, which may change before a resume.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use boxbuild_tests::pty::Terminal;
use boxbuild_tests::{Running, Sandbox, names};
use nix::sys::signal::Signal;

crate::tests! {
    Engine:
        a_build_that_failed_in_create_is_gone_on_with,
        packages_are_installed_in_the_box_first;
    Program:
        what_makes_a_resume_impossible_is_said_before_anything_starts,
        a_build_has_one_resume_at_a_time,
        what_ends_a_resume_leaves_the_kept_build_as_it_was,
        a_resume_that_fails_is_kept_and_resumed;
}

/// `prepare` leaves a root tree, asks for a checkpoint, and `create` begins with a change of it.
const TWO_HALVES: &str = r#"
root=/result/build/image-root
case "$*" in
*"system build"*)
    mkdir -p $root
    head -c 3000000 /dev/urandom >$root/big; sha256sum <$root/big >$root/sum
    echo "[ INFO    ]: 00:00:00 | in prepare" >>$log
    if [ -n "$BOXBUILD_CHECKPOINT" ]; then
        fsfreeze --freeze /result
        echo "boxbuild 1 checkpoint wanted" >&$BOXBUILD_CHECKPOINT
        read -r answer <&$BOXBUILD_CHECKPOINT
        fsfreeze --unfreeze /result
        echo "$answer" >/result/answer
    fi
    ;;
*"system create --root /result/build/image-root"*)
    [ ! -e /result/answer ] || return 9
    ;;
*) return 8 ;;
esac
echo "[ INFO    ]: 00:00:00 | Creating system image" >>$log
[ ! -e $root/spoiled ] || return 6
echo spoiled >$root/spoiled; head -c 3000000 /dev/urandom >$root/big.new
sha256sum <$root/big | cmp - $root/sum || return 5
. /description/disk.sh
code=$?
[ $code -ne 0 ] || rm -rf /result/build /result/answer
return $code
"#;

fn sandbox(create: &str) -> Sandbox {
    let sandbox = Sandbox::new(TWO_HALVES);
    fs::write(sandbox.description().join("disk.sh"), create).unwrap();
    sandbox
}

/// Fails in `create`.
#[track_caller]
fn fail(sandbox: &Sandbox) {
    let output = sandbox.build(&["--keep-failed=yes"], &[]);
    output.expect(
        1,
        &[
            "✗ create",
            "boxbuild resume small-1, boxbuild shell small-1",
        ],
    );
}

fn change(sandbox: &Sandbox, name: &str, text: &str) {
    fs::write(sandbox.description().join(name), text).unwrap();
}

fn a_build_that_failed_in_create_is_gone_on_with() {
    let sandbox = sandbox("cat /result/answer >>$log; return 7");
    fail(&sandbox);
    let log = sandbox.run(["logs"]);
    assert!(log.stdout.contains("boxbuild 1 checkpoint kept"), "{log:?}");
    let list = sandbox.run(["builds"]);
    assert!(list.stdout.contains(", can be resumed"), "{list:?}");
    let list = sandbox.run(["builds", "--json"]);
    assert!(list.stdout.contains("\"resumable\": true"), "{list:?}");
    // The shell has the disk as the build left it, over both layers.
    let mut terminal = Terminal::start(sandbox.command(["shell", "small-1"]));
    terminal.expect("# ");
    terminal.send("cat /result/answer /result/build/image-root/spoiled; stat -c %s /result/build/image-root/big\n");
    terminal.expect("checkpoint kept");
    terminal.expect("spoiled");
    terminal.expect("3000000");
    terminal.send("exit\n");
    assert_eq!(terminal.wait(), 0);

    // The box may go meanwhile; nothing is started by a dry run.
    sandbox.run(["box", "rm", "small"]).expect(0, &[]);
    change(
        &sandbox,
        "disk.sh",
        "rm $root/spoiled $root/big.new; ls $root >/result/image",
    );
    let plan = sandbox.run(["resume", "--dry-run"]);
    plan.expect(
        0,
        &["going on with small-1", "taken as they are now: disk.sh"],
    );
    assert!(
        plan.stdout
            .contains("resumes      small-1 after kiwi's prepare")
            && plan.stdout.contains("kiwi-ng      system create --root"),
        "{plan:?}"
    );
    let plan = sandbox.run(["resume", "--dry-run", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["resumes"]["id"], "small-1");
    // As often as needed: the checkpoint stays what it is.
    for _ in 0..2 {
        let output = sandbox.run(["resume", "small-1"]);
        output.expect(0, &["going on with small-1", "small-1 is still kept"]);
        assert_eq!(sandbox.result("image"), "big\nsum\n");
    }
    assert_eq!(names(&sandbox.store().join(".builds")), ["small-1"]);
    sandbox.run(["prune", "small-1"]).expect(0, &[]);
    assert_eq!(names(&sandbox.store().join(".builds")), [] as [&str; 0]);
}

fn what_makes_a_resume_impossible_is_said_before_anything_starts() {
    let box_ = sandbox("return 7");
    box_.run(["resume"]).expect(2, &["no failed build is kept"]);
    fail(&box_);
    let refused = |sandbox: &Sandbox, id: &str, words: &str| {
        for command in [&["resume", id][..], &["resume", id, "--dry-run"]] {
            let output = sandbox.run(command);
            output.expect(
                2,
                &[&format!("'{id}' cannot be resumed"), words, "build again"],
            );
            assert!(!output.stderr.contains('✓'), "{output:?}");
        }
    };
    change(&box_, "config.sh", "true");
    change(&box_, "disk.sh", "touch /result/image");
    refused(&box_, "small-1", "read what has changed since: config.sh");
    fs::remove_file(box_.description().join("config.sh")).unwrap();
    change(&box_, "README.md", "for people");
    box_.run(["resume", "small-1"]).expect(0, &[]);
    box_.run(["resume", "small-7"])
        .expect(2, &["no kept build 'small-7'"]);

    // In `prepare`; by its own init; in the box's own disk.
    box_.script("echo '[ INFO    ]: 00:00:00 | x' >>$log; return 7");
    let output = box_.build(&["--keep-failed=yes"], &[]);
    output.expect(1, &["it is kept (", "boxbuild shell small-2"]);
    assert!(!output.stderr.contains("boxbuild resume"), "{output:?}");
    refused(&box_, "small-2", "before kiwi's prepare was done");
    box_.script(TWO_HALVES);
    change(&box_, "disk.sh", "return 7");
    box_.build(&["--keep-failed=yes", "--boot", "compat"], &[])
        .expect(1, &["it is kept ("]);
    refused(&box_, "small-3", "booted by its own init");
    box_.own_disk();
    box_.build(&["--keep-failed=yes", "--no-snapshot"], &[])
        .expect(1, &["it is kept ("]);
    refused(&box_, "small-4", "--no-snapshot");
    // A description that changes while the build runs: what `prepare` has read of it is not known.
    change(&box_, "disk.sh", "echo x >/description/root.sh; return 7");
    box_.build(&["--keep-failed=yes", "--description-rw"], &[])
        .expect(1, &["it is kept ("]);
    refused(&box_, "small-5", "changed while it ran");
}

fn a_build_has_one_resume_at_a_time() {
    let sandbox = sandbox("return 7");
    fail(&sandbox);
    change(
        &sandbox,
        "disk.sh",
        "echo here >>$log; sleep 3; touch /result/image",
    );
    let mut first = Running::start(&mut sandbox.command(["resume", "--verbose"]));
    first.wait_for("here");
    let second = sandbox.run(["resume", "small-1"]);
    assert_ne!(second.code, 0, "{second:?}");
    assert!(second.stderr.contains("another"), "{second:?}");
    sandbox
        .run(["prune", "small-1"])
        .expect(3, &["in use by 'boxbuild shell' or 'boxbuild resume'"]);
    first.finish().expect(0, &[]);
}

fn what_ends_a_resume_leaves_the_kept_build_as_it_was() {
    // While the disk is frozen: nothing is kept, and nothing left.
    let box_ = Sandbox::new(
        "mkdir -p /result/build/image-root; echo frozen >>$log; fsfreeze --freeze /result; sleep 100",
    );
    let build = box_.start_until(&["--verbose", "--keep-failed=yes"], "frozen");
    build.signal(Signal::SIGINT);
    build.finish().expect(130, &[]);
    box_.assert_nothing_left();

    let box_ = sandbox("return 7");
    fail(&box_);
    let builds = box_.store().join(".builds/small-1");
    // The lock of the disk is beside it, as with any box.
    let left = || {
        let mut left = names(&builds);
        left.retain(|name| !name.ends_with(".lock"));
        left
    };
    let before = left();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGKILL, -1)] {
        change(&box_, "disk.sh", "echo here >>$log; sleep 100");
        let mut resume = Running::start(&mut box_.command(["resume", "--verbose"]));
        resume.wait_for("here");
        resume.signal(signal);
        assert_eq!(resume.finish().code, code);
        box_.assert_nothing_left_but(&[".builds"]);
        assert_eq!(left(), before);
        assert_eq!(names(&box_.store().join(".builds")), ["small-1"]);
    }
    change(&box_, "disk.sh", "touch /result/image");
    box_.run(["resume"]).expect(0, &[]);
}

fn a_resume_that_fails_is_kept_and_resumed() {
    let sandbox = sandbox("return 7");
    fail(&sandbox);
    change(&sandbox, "disk.sh", "return 4");
    let again = sandbox.run(["resume", "small-1"]);
    again.expect(
        1,
        &[
            "exit code 4",
            "boxbuild resume small-2, boxbuild shell small-2",
        ],
    );
    sandbox.run(["prune", "small-1"]).expect(0, &[]);
    change(&sandbox, "disk.sh", "touch /result/image");
    sandbox.run(["resume", "small-2"]).expect(0, &[]);
    assert!(sandbox.target().join("image").exists());
}

fn packages_are_installed_in_the_box_first() {
    let apt = "#!/bin/sh\necho \"$@\" >>/root/apt; case \"$*\" in *missing*) exit 100 ;; esac\n";
    let sandbox = sandbox("[ -e /root/apt ] || return 7; cp /root/apt /result/image");
    let output = sandbox.build(&["--box-package", "binutils"], &[]);
    assert_eq!(output.code, 1, "{output:?}");
    let folder = sandbox.description().join("boxroot/usr/bin");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("apt-get"), apt).unwrap();
    fs::set_permissions(folder.join("apt-get"), fs::Permissions::from_mode(0o755)).unwrap();
    let expected = "-q update\n-q -y --no-install-recommends install binutils xz-utils\n";
    sandbox
        .build(
            &["--box-package", "binutils", "--box-package", "xz-utils"],
            &[],
        )
        .expect(0, &[]);
    assert_eq!(sandbox.result("image"), expected);
    let missing = sandbox.build(&["--box-package", "missing"], &[]);
    missing.expect(
        1,
        &["cannot install missing (--box-package): apt-get install"],
    );

    // What a box lacked is installed before the rest is built.
    fail(&sandbox);
    sandbox.run(["resume"]).expect(1, &["exit code 7"]);
    let output = sandbox.run(["resume", "small-1", "--box-package", "binutils"]);
    output.expect(0, &[]);
    assert!(sandbox.result("image").ends_with("install binutils\n"));

    for (words, problem) in [
        (&["--box-package", "--help"][..], "--box-package"),
        (&["--box-package", "a b"], "not the name of a package"),
        (
            &["--box-package", "x", "--network", "none"],
            "--network none",
        ),
        (&["--box-package", "x", "--boot", "compat"], "its own init"),
    ] {
        sandbox.build(words, &[]).expect(2, &[problem]);
    }
}
