//! `boxbuild check --box`: the box tells what it finds, and nothing is built.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use boxbuild_tests::{ProcessOutput, Sandbox, engine, names};

crate::tests! {
    Engine:
        a_check_tells_what_the_box_finds;
}

/// Gives the box a stand-in for Python, which runs the check.
fn python(sandbox: &Sandbox, script: &str) {
    let program = sandbox.description().join("boxroot/usr/local/bin/python3");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

fn check(sandbox: &Sandbox, front: &[&str]) -> ProcessOutput {
    let mut command = sandbox.command(["check", "--box", sandbox.box_name()]);
    command.args(["--engine", &engine()]).args(front);
    command.arg(sandbox.description());
    ProcessOutput::of(command.args(["--", "--add-package", "vim"]))
}

fn a_check_tells_what_the_box_finds() {
    let sandbox = Sandbox::new("echo kiwi ran >/bundle/kiwi");
    let kind = "<image><preferences><type image='tbz'/></preferences></image>";
    fs::write(sandbox.description().join("config.xml"), kind).unwrap();
    let found = r#"[{"severity": "error", "text": "no repository has the package x", "line": 7},
        {"severity": "note", "text": "a note\u001b[31m", "line": null}]"#;
    python(
        &sandbox,
        &format!(
            "test -s \"$1\" && echo '{found}' >/bundle/check.json && echo \"$*\" >&2\n\
             echo \"$BOXBUILD_CHECK_PROGRAMS\" >&2"
        ),
    );
    let output = check(&sandbox, &["--verbose"]);
    output.expect(
        1,
        &[
            "config.xml:7: no repository has the package x",
            "note: ",
            "a note\\u{1b}[31m",
            "--add-package vim --description /description",
            // The box does not say what it has: it is told what the type needs.
            "[[\"rsync\"],",
        ],
    );
    let output = check(&sandbox, &["--json"]);
    assert_eq!(output.code, 1, "{output:?}");
    let document: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(document["checked_in_box"], true);
    let findings = document["findings"].as_array().unwrap();
    assert!(findings.iter().any(|one| one["line"] == 7), "{document}");
    // What kiwi refuses is said in its words.
    python(
        &sandbox,
        "echo '[ ERROR   ]: 00:00:00 | KiwiTypeNotFound: no such type' >>/bundle/result.log; exit 1",
    );
    check(&sandbox, &[]).expect(1, &["KiwiTypeNotFound: no such type"]);
    python(&sandbox, "echo '[]' >/bundle/check.json");
    let output = check(&sandbox, &[]);
    output.expect(0, &[]);
    assert!(output.stdout.contains("no problem found"), "{output:?}");
    // A box that does not answer is none that finds nothing.
    python(&sandbox, "exit 0");
    assert_ne!(check(&sandbox, &[]).code, 0);
    assert_eq!(names(&sandbox.target()), [] as [&str; 0]);
    sandbox.assert_nothing_left();
}
