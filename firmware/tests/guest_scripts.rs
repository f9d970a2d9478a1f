//! The shell scripts of the guest side: they parse, and speak the protocol of the crate
//! `boxbuild_protocol`, which they cannot use.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxbuild_protocol::paths::{BUNDLE, CODE, DESCRIPTION, LOG};
use boxbuild_protocol::ports;
use boxbuild_protocol::report::Report;
use boxbuild_protocol::share::{BUNDLE_TAG, CUSTOM_TAG, DESCRIPTION_TAG};

/// Stands for the value of every variable and command in a report.
const VALUE: &str = "7";

fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest")
}

/// Name and text of each shell script in `guest/`.
fn scripts() -> Vec<(String, String)> {
    let mut scripts: Vec<(String, String)> = fs::read_dir(guest())
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into(), fs::read_to_string(&path).expect("a text"))
        })
        .filter(|(_, text): &(String, String)| {
            text.starts_with("#!/bin/sh\n") || text.starts_with("#!/bin/bash\n")
        })
        .collect();
    scripts.sort();
    scripts
}

fn script(name: &str) -> String {
    fs::read_to_string(guest().join(name)).expect("a text")
}

/// The word in double quotes that `text` begins with, behind the first quote, with [`VALUE`] for
/// every expansion.
fn expand(text: &str) -> String {
    let mut word = String::new();
    let mut rest = text;
    loop {
        let at = rest.find(['"', '$']).expect("a closing quote");
        word.push_str(&rest[..at]);
        if rest[at..].starts_with('"') {
            return word;
        }
        rest = &rest[at + 1..];
        let length = if rest.starts_with('(') {
            let (mut depth, mut quoted) = (0, false);
            let end = rest.find(|char| {
                match char {
                    '\'' => quoted = !quoted,
                    '(' if !quoted => depth += 1,
                    ')' if !quoted => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            end.expect("a closing parenthesis") + 1
        } else {
            let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_');
            end.expect("text behind a variable")
        };
        assert!(
            length > 0,
            "an expansion that this test does not know: {rest}"
        );
        word.push_str(VALUE);
        rest = &rest[length..];
    }
}

/// The lines that a script can write to the control port.
fn lines(text: &str) -> Vec<String> {
    let uses = text.match_indices("report \"");
    uses.map(|(at, call)| format!("boxbuild 1 {}", expand(&text[at + call.len()..])))
        .collect()
}

#[test]
fn every_report_is_one_of_the_protocol() {
    let mut writers = Vec::new();
    for (name, text) in scripts() {
        let lines = lines(&text);
        for line in &lines {
            let report = Report::parse(line);
            assert_eq!(
                report.map(|report| report.to_string()).as_ref(),
                Some(line),
                "{name}"
            );
        }
        if !lines.is_empty() {
            // They write reports in this way and in no other.
            assert_eq!(
                text.matches("boxbuild 1").count(),
                1,
                "{name} writes a line without its function report"
            );
            assert!(text.contains("report() {\n    echo \"boxbuild 1 $*\" >&3\n}"));
            writers.push((name, lines.len()));
        } else {
            assert!(!text.contains("boxbuild 1"), "{name}");
        }
    }
    let writers: Vec<&str> = writers
        .iter()
        .filter(|(_, lines)| *lines >= 6)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(writers, ["container", "run"]);
}

#[test]
fn expansions_are_replaced() {
    assert_eq!(expand("exit $code\"; a"), "exit 7");
    assert_eq!(expand("beat $(cat \"$x\" |\n f '$2)' | (g))\"\n"), "beat 7");
    assert_eq!(expand("beat $((user + nice))\"\n"), "beat 7");
}

#[test]
fn shares_ports_and_paths_are_those_of_the_protocol() {
    let run = script("run");
    for text in [
        format!("mount -t virtiofs {BUNDLE_TAG} {BUNDLE} "),
        format!("mount -t virtiofs {DESCRIPTION_TAG} {DESCRIPTION} "),
        format!("= {} ]", ports::CONTROL),
        format!("= {} ]", ports::XZ),
    ] {
        assert!(run.contains(&text), "{text}");
    }
    let run_kiwi = script("run-kiwi");
    for text in [
        format!("share {BUNDLE_TAG} {BUNDLE}\n"),
        format!("share {DESCRIPTION_TAG} {DESCRIPTION}\n"),
        format!("share {CUSTOM_TAG} "),
    ] {
        assert!(run_kiwi.contains(&text), "{text}");
    }
    for script in [run, run_kiwi, script("container")] {
        for path in [LOG, CODE] {
            assert!(script.contains(path), "{path}");
        }
    }
}

#[test]
fn the_scripts_parse() {
    let scripts = scripts();
    assert_eq!(scripts.len(), 4);
    for (name, text) in scripts {
        let shell = if text.starts_with("#!/bin/bash") {
            "bash"
        } else {
            "sh"
        };
        let status = Command::new(shell)
            .arg("-n")
            .arg(guest().join(&name))
            .status()
            .expect("a shell");
        assert!(status.success(), "{name}");
    }
}

/// The part of the container's script that installs packages, with `apt` for apt-get.
fn install_in_container(apt: &str, folder: &Path) -> std::process::Child {
    use std::os::unix::fs::PermissionsExt;

    let text = script("container");
    let from = text.find("# Packages that the build wants").unwrap();
    let to = text.find("# A shell starts background").unwrap();
    let setup = "exec 3>/dev/null; fail() { echo \"$*\" >&2; exit 1; }; trap 'exit 7' TERM";
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("box-packages"), "set -- 'x'\n").unwrap();
    let program = folder.join("apt-get");
    fs::write(&program, format!("#!/bin/sh\n{apt}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{setup}\n{}", &text[from..to]))
        .env("here", folder)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// The shell waited for apt-get, which may wait for a server, before it looked at a signal.
#[test]
fn a_container_that_installs_packages_can_be_stopped() {
    let name = format!("boxbuild-test-container-packages-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let failed = install_in_container("exit 100", &folder);
    let output = failed.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("apt-get update ended with 100"), "{errors}");

    let waits = format!(
        "echo >{}/started; exec sleep 20 2>/dev/null",
        folder.display()
    );
    let mut waiting = install_in_container(&waits, &folder);
    while !folder.join("started").exists() {
        assert_eq!(waiting.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let begun = std::time::Instant::now();
    let pid = waiting.id().to_string();
    let kill = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(kill.unwrap().success());
    assert_eq!(waiting.wait().unwrap().code(), Some(7));
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    fs::remove_dir_all(&folder).unwrap();
}
