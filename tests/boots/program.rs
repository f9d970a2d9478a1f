//! The program itself with a box as the published ones are laid out: their console, their root,
//! a build started by their unit, arguments from the kernel command line, `halt -p`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use boxbuild_tests::{ProcessOutput, Running, Sandbox, names};

use crate::machine::LIMIT;

/// A sandbox with the guest as its only box.
fn sandbox(guest: &Path) -> Sandbox {
    let sandbox = Sandbox::without_box("published");
    symlink(guest, sandbox.store().join("published")).unwrap();
    sandbox
}

/// Runs a build to its end.
fn build(sandbox: &Sandbox, front: &[&str], back: &[&str]) -> ProcessOutput {
    let options = ["--engine", "kvm", "--boot", "compat", "--verbose"];
    let mut command = sandbox.build_command(&[&options, front].concat(), back);
    Running::start(&mut command).limit(LIMIT).finish()
}

/// A build to its end, with options that have a place in the contract.
pub(crate) fn succeeds(guest: &Path) {
    let sandbox = sandbox(guest);
    let payload: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(i) >> 9) as u8)
        .collect();
    fs::write(sandbox.description().join("payload"), &payload).unwrap();
    let shared = sandbox.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("in"), "").unwrap();
    let shared = shared.to_str().expect("a path in UTF-8");
    let front = [
        "--type",
        "vmx",
        "--profile",
        "Some",
        "--shared-path",
        shared,
    ];
    build(&sandbox, &front, &["--set-repo", "obs://a/b"]).expect(0, &[]);
    assert_eq!(
        names(&sandbox.target()),
        ["image", "result.code", "result.log"]
    );
    assert!(fs::read(sandbox.target().join("image")).unwrap() == payload);
    let log = sandbox.result("result.log");
    let line = log.lines().next().unwrap_or_default();
    for words in [
        "--type oem",
        "--profile Some",
        "system build",
        "--set-repo obs://a/b",
    ] {
        assert!(line.contains(words), "'{words}' is missing:\n{log}");
    }
    assert!(log.contains("custom: in \n"), "{log}");
    sandbox.assert_nothing_left();
}

/// A build that fails in the box fails, with the code that the box gave, and what was in the
/// target stays.
pub(crate) fn fails(guest: &Path) {
    let sandbox = sandbox(guest);
    fs::write(sandbox.description().join("code"), "7\n").unwrap();
    fs::create_dir(sandbox.target()).unwrap();
    fs::write(sandbox.target().join("image"), "of an earlier build").unwrap();
    build(&sandbox, &[], &[]).expect(1, &["exit code 7"]);
    assert_eq!(sandbox.result("image"), "of an earlier build");
    assert_eq!(
        names(&sandbox.target()),
        ["image", "result.code", "result.log"]
    );
    sandbox.assert_nothing_left();
}
