//! `sitecustomize.py` in a real Python: the same output for kiwi, without asking for it all the
//! time; nothing of it for anybody else.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxinit::patience::{FILE, PROGRAM, VARIABLE, search_path};

const KIWI_LIKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/patience/kiwi_like.py");

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!(
            "boxbuild-test-patience-{name}-{}",
            std::process::id()
        ));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("python")).expect("a folder can be made");
        fs::write(path.join("python").join(FILE), PROGRAM).expect("a file can be written");
        Folder(path)
    }

    fn python(&self) -> PathBuf {
        self.0.join("python")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether there is a Python; says so if there is none.
fn python(test: &str) -> bool {
    let there = Command::new("python3").arg("--version").output().is_ok();
    if !there {
        let _ = writeln!(std::io::stderr(), "skipped: {test}: no python3");
    }
    there
}

/// Runs Python on `args` with that search path; what it says on its standard output.
fn run(path: Option<&OsStr>, args: &[&OsStr]) -> String {
    let mut command = Command::new("python3");
    command
        .env_remove(VARIABLE)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(path) = path {
        command.env(VARIABLE, path);
    }
    let output = command.args(args).output().expect("python3 starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

fn kiwi_like(path: Option<&OsStr>, folder: &Path, args: &[&str]) -> serde_json::Value {
    let mut all: Vec<&OsStr> = vec![KIWI_LIKE.as_ref(), folder.as_os_str()];
    all.extend(args.iter().map(AsRef::<OsStr>::as_ref));
    serde_json::from_str(&run(path, &all)).expect("JSON")
}

#[test]
fn kiwi_gets_the_same_and_asks_for_nothing_in_vain() {
    if !python("kiwi_gets_the_same_and_asks_for_nothing_in_vain") {
        return;
    }
    let folder = Folder::new("same");
    let plain = kiwi_like(None, &folder.0.join("plain"), &[]);
    let path = search_path(folder.python().to_str().expect("text"), None);
    let patient = kiwi_like(Some(&path), &folder.0.join("patient"), &[]);
    assert_eq!(plain["improved"], false);
    assert_eq!(patient["improved"], true);
    assert_eq!(plain["results"], patient["results"]);
    assert_eq!(plain["results"][0][0].as_array().map(Vec::len), Some(9999));
    assert_eq!(plain["results"][1][2], 3);
    assert!(plain["asked"].as_u64() > Some(10_000), "{}", plain["asked"]);
    assert_eq!(patient["asked"], 0);
}

/// As in containers and in boxes of other architectures.
#[test]
fn the_program_that_runs_kiwi_can_bring_it() {
    if !python("the_program_that_runs_kiwi_can_bring_it") {
        return;
    }
    let folder = Folder::new("brought");
    let nosync = folder.python().join("nosync");
    fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/nosync"),
        &nosync,
    )
    .expect("a file can be copied");
    let work = folder.0.join("work");
    let args = [
        "-E".as_ref(),
        nosync.as_os_str(),
        KIWI_LIKE.as_ref(),
        work.as_os_str(),
    ];
    let said: serde_json::Value = serde_json::from_str(&run(None, &args)).expect("JSON");
    assert_eq!(said["improved"], true);
    assert_eq!(said["asked"], 0);
    assert_eq!(said["results"][0][0].as_array().map(Vec::len), Some(9999));
}

#[test]
fn nobody_else_notices() {
    if !python("nobody_else_notices") {
        return;
    }
    let folder = Folder::new("nobody");
    let other = folder.0.join("other");
    fs::create_dir_all(&other).expect("a folder can be made");
    fs::write(other.join(FILE), "print('the box says')\n").expect("a file can be written");
    let path = search_path(
        folder.python().to_str().expect("text"),
        Some(other.as_os_str()),
    );
    let script = "import os, sys; print(os.environ['PYTHONPATH']); \
                  print([p for p in sys.path if p.endswith('/python')])";
    let said = run(Some(&path), &["-c".as_ref(), script.as_ref()]);
    let expected = format!("the box says\n{}\n[]\n", other.display());
    assert_eq!(said, expected);

    let alone = search_path(folder.python().to_str().expect("text"), None);
    let said = kiwi_like(Some(&alone), &folder.0.join("work"), &[]);
    assert_eq!(said["path"], serde_json::Value::Null);
    assert_eq!(said["child"], "False");
}

#[test]
fn a_kiwi_that_is_built_in_another_way_is_left_alone() {
    if !python("a_kiwi_that_is_built_in_another_way_is_left_alone") {
        return;
    }
    let folder = Folder::new("other");
    let path = search_path(folder.python().to_str().expect("text"), None);
    let said = kiwi_like(Some(&path), &folder.0.join("work"), &["something_else"]);
    assert_eq!(said["improved"], false);
}
