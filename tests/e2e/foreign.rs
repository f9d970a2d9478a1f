//! A guest of another architecture, from one flag.

use std::fs;

use boxbuild_firmware::guest::Init;
use boxbuild_tests::env::{boxes_arch, engine};
use boxbuild_tests::sandbox::{copy_box, small_boxes};
use boxbuild_tests::{ProcessOutput, Sandbox, names, skip};

crate::tests! {
    Engine:
        words_for_users_name_what_their_host_has;
    Qemu:
        a_guest_of_another_architecture,
        a_box_of_another_architecture_that_was_made_elsewhere_boots_fast;
}

const BOX: &str = "small.aarch64";

/// The architectures that have an engine of their own, and QEMU's package for each.
const KNOWN: [(&str, &str); 2] = [
    ("x86_64", "qemu-system-x86"),
    ("aarch64", "qemu-system-arm"),
];

/// Process 1: boxinit has no file any more, as the ramdisk is gone; scripts are run by a shell.
const WHO: &str = "uname -m >/result/machine; readlink /proc/1/exe >/result/process1";

/// A sandbox that has the box in addition.
fn sandbox(test: &str, script: &str) -> Option<Sandbox> {
    let made = small_boxes().join(BOX);
    if !made.exists() {
        skip(test, &format!("there is no box {BOX}"));
        return None;
    }
    let sandbox = Sandbox::new(script);
    copy_box(&made, &sandbox.store().join(BOX));
    Some(sandbox)
}

fn build(sandbox: &Sandbox, options: &[&str]) -> ProcessOutput {
    let mut command = sandbox.command(["--box", "small", "--arch", "arm64", "--verbose"]);
    command.args(options);
    sandbox.behind_separator(&mut command, &sandbox.target());
    ProcessOutput::of(&mut command)
}

fn a_guest_of_another_architecture() {
    let script = format!(
        "{WHO}
         touch /description/written 2>/dev/null && echo writable >>/result/machine
         wc -c </description/large >/result/size; echo 'a line of the log' >>$log"
    );
    let Some(sandbox) = sandbox("a_guest_of_another_architecture", &script) else {
        return;
    };
    fs::write(sandbox.description().join("large"), vec![7; 1 << 20]).unwrap();
    build(&sandbox, &[]).expect(0, &["a line of the log"]);
    assert_eq!(
        names(&sandbox.target()),
        ["machine", "process1", "result.code", "result.log", "size"]
    );
    assert_eq!(sandbox.result("machine"), "aarch64\n");
    assert_eq!(sandbox.result("size").trim(), "1048576");
    fs::remove_dir_all(sandbox.store().join(BOX)).unwrap();
    sandbox.assert_nothing_left();
}

/// Published boxes lack what the shell scripts need. They were booted by their own init.
fn a_box_of_another_architecture_that_was_made_elsewhere_boots_fast() {
    let test = "a_box_of_another_architecture_that_was_made_elsewhere_boots_fast";
    if Init::of("aarch64") == Init::Scripts {
        return skip(
            test,
            "boxinit for aarch64 was not built (docs/packaging.md)",
        );
    }
    let Some(sandbox) = sandbox(test, WHO) else {
        return;
    };
    let description = sandbox.store().join(BOX).join("box.json");
    let text = fs::read_to_string(&description).unwrap();
    let compat = text.replace("\"guest\": \"fast\"", "\"guest\": \"compat\"");
    assert_ne!(text, compat);
    fs::write(&description, compat).unwrap();
    build(&sandbox, &["--boot", "fast"]).expect(0, &[]);
    assert_eq!(sandbox.result("machine"), "aarch64\n");
    let process1 = sandbox.result("process1");
    assert!(process1.contains("boxbuild/init"), "{process1}");
}

/// What doctor says of the host, what help is offered, and the engine that is chosen are those of the
/// host's architecture, whichever it is.
fn words_for_users_name_what_their_host_has() {
    let host = std::env::consts::ARCH;
    let sandbox = Sandbox::new("touch /result/image");
    let version = sandbox.run(["--version"]);
    version.expect(0, &[]);
    assert!(version.stdout.starts_with("boxbuild "), "{version:?}");
    let script = sandbox.run(["completions", "bash"]);
    script.expect(0, &[]);
    assert!(script.stdout.contains("complete "), "{script:?}");
    sandbox.run(["box", "list"]).expect(0, &[]);

    let doctor = sandbox.run(["doctor"]);
    let said = doctor.stdout.clone() + &doctor.stderr;
    assert!(
        said.contains("engine kvm") && said.contains("engine qemu"),
        "{said}"
    );
    for (arch, package) in KNOWN.into_iter().filter(|(arch, _)| *arch != host) {
        for wrong in [format!("qemu-system-{arch}"), format!("{package},")] {
            assert!(
                !said.contains(&wrong),
                "{wrong} on a host of {host}: {said}"
            );
        }
    }

    // The published box that is named in advice is one for this host.
    let advice = Sandbox::without_box("small").run(["doctor"]).stdout;
    let (_, advised) = advice.split_once("boxbuild box pull ").unwrap();
    let advised = advised.split_whitespace().next().unwrap();
    let is_for_host = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.starts_with(&[advised, host])
    };
    let listed = sandbox.run(["box", "list"]).stdout;
    assert!(listed.lines().any(is_for_host), "{advised}: {listed}");

    let engine = engine();
    let plan = sandbox.build(&["--dry-run"], &[]);
    plan.expect(0, &[]);
    assert!(plan.stdout.contains(&engine), "{plan:?}");
    let of_boxes = boxes_arch();
    for (other, _) in KNOWN.into_iter().filter(|(arch, _)| *arch != of_boxes) {
        let refused = sandbox.build(&["--arch", other], &[]);
        refused.expect(2, &["the box small is for", other]);
    }
}
