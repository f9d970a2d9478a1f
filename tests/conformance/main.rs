//! Published file system tests (pjdfstest, fsx) against a share that is mounted through this
//! machine's own FUSE client and served as an unprivileged user. Needs root, /dev/fuse and a network
//! to install the tests from, into target/tools. When the run ends, by a signal too, the mount and
//! all files go with it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

mod mount;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use boxbuild_tests::command::{command, logged};
use boxbuild_tests::env::{cargo_build, target, tests};
use boxbuild_tests::interrupt::Unwind;
use boxbuild_tests::skip;
use libtest_mimic::{Arguments, Trial};
use mount::{Mount, MountError};
use nix::unistd::{Gid, Group, User};

const PJDFSTEST: &str = "0.2.2";
const FSX: &str = "0.3.2";
const SEEDS: [u32; 3] = [1, 2, 3];
const OPERATIONS: u32 = 10_000;
/// Seconds; a guard against a share that hangs.
const LIMIT: &str = "120";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One after the other: the tests load the share themselves.
    arguments.test_threads = Some(1);
    if !arguments.list {
        match prepare() {
            Ok(None) => {}
            Ok(Some(reason)) => {
                skip("conformance of the share", &reason);
                return ExitCode::SUCCESS;
            }
            Err(error) => {
                eprintln!("conformance: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let Ok(_unwind) = Unwind::begin() else {
        eprintln!("conformance: signals cannot be caught");
        return ExitCode::FAILURE;
    };
    let mut trials = vec![Trial::test("pjdfstest", || {
        pjdfstest();
        Ok(())
    })];
    trials.extend(SEEDS.map(|seed| {
        Trial::test(format!("fsx_with_seed_{seed}"), move || {
            fsx(seed);
            Ok(())
        })
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Builds the server, installs the tests and tries a mount. Returns why nothing can be tested here.
fn prepare() -> Result<Option<String>, String> {
    let user = |name: &str| User::from_name(name).ok().flatten().is_some();
    let missing = [
        (
            nix::unistd::geteuid().is_root(),
            "mounting a share here needs root",
        ),
        (Path::new("/dev/fuse").exists(), "there is no /dev/fuse"),
        (
            user("daemon") && user("nobody"),
            "there are no users daemon and nobody",
        ),
    ];
    if let Some((_, reason)) = missing.iter().find(|(present, _)| !present) {
        return Ok(Some((*reason).to_owned()));
    }
    install("pjdfstest", PJDFSTEST)?;
    install("fsx", FSX)?;
    let words = ["--package", "boxbuild-virtiofs", "--example", "mount"];
    cargo_build("release", &words)?;
    match Mount::new() {
        Ok(_) => Ok(None),
        Err(MountError::NotPermitted(reason)) => {
            Ok(Some(format!("this root may not mount: {reason}")))
        }
        Err(MountError::Failed(reason)) => Err(format!("the share cannot be mounted: {reason}")),
    }
}

fn tool(name: &str) -> PathBuf {
    target().join("tools/bin").join(name)
}

/// Installs a published test, unless it is there in this version.
fn install(name: &str, version: &str) -> Result<(), String> {
    let installed = command(tool(name)).arg("--version").output();
    let installed = installed.map(|output| output.stdout).unwrap_or_default();
    if String::from_utf8_lossy(&installed).trim() == format!("{name} {version}") {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut install = command(cargo);
    install.args(["install", "--quiet", "--locked", "--root"]);
    install.arg(target().join("tools"));
    let status = install.args(["--version", version, name]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo install {name}: {status}")),
        Err(error) => Err(format!("cargo install {name}: {error}")),
    }
}

/// Tests of pjdfstest that may fail, with the reasons.
fn expected_failures() -> Vec<(String, String)> {
    let text = fs::read_to_string(tests().join("conformance/expected-failures")).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(name, reason)| (name.to_owned(), reason.trim().to_owned()))
        .collect()
}

fn pjdfstest() {
    let mount = Mount::new().unwrap();
    let nobody = User::from_name("nobody").unwrap().expect("checked before");
    let group = Group::from_gid(Gid::from_raw(nobody.gid.as_raw())).unwrap();
    let settings = fs::read_to_string(tests().join("conformance/pjdfstest.toml")).unwrap();
    let settings = settings.replace("@GROUP@", &group.expect("nobody has a group").name);
    fs::write(mount.path("pjdfstest.toml"), settings).unwrap();
    let log = mount.path("pjdfstest.log");
    let mut run = command("timeout");
    run.arg(LIMIT).arg(tool("pjdfstest"));
    run.arg("--configuration-file")
        .arg(mount.path("pjdfstest.toml"));
    run.arg("--path").arg(mount.folder());
    run.arg("--secondary-fs").arg(mount.path("artifacts"));
    // It fails if a test fails; which ones stands in its report.
    let _ = logged(&mut run, &log);
    let report = fs::read_to_string(log).unwrap();
    let summary = report
        .lines()
        .find_map(|line| line.strip_prefix("Summary: "));
    let summary = summary.unwrap_or_else(|| panic!("it did not come to its end:\n{report}"));
    let expected = expected_failures();
    let failed: Vec<&str> = report
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            (words.next() == Some("FAILED")).then_some(name)
        })
        .collect();
    let reason = |name: &str| expected.iter().find(|(known, _)| known == name);
    let mut unexpected = Vec::new();
    for name in &failed {
        match reason(name) {
            Some((_, reason)) => println!("\nexpected failure: {name}: {reason}"),
            None => unexpected.push(*name),
        }
    }
    println!(
        "\npjdfstest {PJDFSTEST}: {summary}; {} of the failures are expected",
        failed.len() - unexpected.len()
    );
    assert!(unexpected.is_empty(), "failed: {unexpected:?}\n{report}");
    mount.end();
}

fn fsx(seed: u32) {
    let mount = Mount::new().unwrap();
    let file = mount.folder().join(format!("fsx-{seed}"));
    let mut run = command("timeout");
    run.arg(LIMIT).arg(tool("fsx"));
    run.arg("-f").arg(tests().join("conformance/fsx.toml"));
    run.args(["-S", &seed.to_string(), "-N", &OPERATIONS.to_string()]);
    run.arg("-P").arg(mount.path("artifacts")).arg(&file);
    if let Err(error) = logged(&mut run, &mount.path("fsx.log")) {
        panic!("{error:#}");
    }
    println!("\nfsx {FSX}: seed {seed}, {OPERATIONS} operations: ok");
    fs::remove_file(file).unwrap();
    mount.end();
}
