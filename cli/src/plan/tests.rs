//! Plans as a whole.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::*;
use crate::arch::Arch;
use crate::args;
use crate::store::{BoxFile, BoxInfo};

fn small_box(dir: PathBuf) -> InstalledBox {
    let file = |name: &str| BoxFile {
        name: name.to_owned(),
        size: 0,
        sha256: String::new(),
    };
    let info = BoxInfo {
        format: BoxInfo::FORMAT,
        name: String::from("small"),
        origin: String::from("test"),
        arch: Arch::host(),
        created: 0,
        kernel: file("kernel"),
        initrd: file("initrd"),
        disk: file("disk"),
        disk_size: 1 << 30,
        cmdline: Vec::new(),
        console: String::from("hvc0"),
        guest: crate::store::Guest::Fast,
        kiwi: None,
        memory_mib: 4096,
        cpus: 1,
        container: None,
        published: None,
    };
    InstalledBox::prospective(dir, info, Vec::new())
}

fn plan(front: &str) -> Result<Plan, PlanError> {
    plan_in(front, "/nowhere/small".into())
}

/// A plan for a box in the folder `dir`, which need not be there.
pub(crate) fn plan_in(front: &str, box_dir: PathBuf) -> Result<Plan, PlanError> {
    let dir = tempfile::tempdir().unwrap();
    let description = dir.path().join("description");
    fs::create_dir(&description).unwrap();
    fs::write(description.join("config.xml"), "").unwrap();
    let mut words: Vec<OsString> = format!("--box small {front} --")
        .split_whitespace()
        .map(OsString::from)
        .collect();
    words.extend(["--description".into(), description.into()]);
    words.extend(["--target-dir".into(), dir.path().join("target").into()]);
    let invocation = args::parse(words).unwrap();
    let kiwi_file: Option<&Path> = None;
    let folders = Folders::check(invocation.build_args.as_deref(), kiwi_file)?;
    let installed = small_box(box_dir);
    let boot = BootChoice::new(&invocation.cli.build.boot, &installed.info)?.first();
    Plan::new(&invocation.cli.build, folders, installed, boot)
}

/// A default of the command line hid the configuration's number (bug B17).
#[test]
fn b17_the_boxs_own_number_of_processors_counts() {
    assert_eq!(plan("").unwrap().cpus, 1);
    assert_eq!(plan("--box-smp-cpus 7").unwrap().cpus, 7);
}

/// A bare number was taken for MiB, and the manual said GB (bug B20).
#[test]
fn b20_a_bare_number_means_gib() {
    let plan_8 = plan("--box-memory 8").unwrap();
    assert_eq!(plan_8.memory_mib, 8192);
    assert!(plan_8.notes[0].contains("8192 MiB"), "{:?}", plan_8.notes);
    assert_eq!(plan("").unwrap().memory_mib, 4096);
}

/// There was no limit for a guest that hangs (bug B29).
#[test]
fn b29_a_build_without_a_sign_of_life_has_a_limit() {
    assert!(plan("").unwrap().timeout_idle.is_some());
    assert!(plan("--timeout-idle 0").unwrap().timeout_idle.is_none());
}

#[test]
fn a_failed_build_is_kept_unless_said() {
    assert!(plan("").unwrap().keep_failed);
    assert!(!plan("--keep-failed=no").unwrap().keep_failed);
    let error = plan("--box-debug").unwrap_err().to_string();
    assert!(error.contains("needs a terminal"), "{error}");
    assert!(plan("--box-debug --dry-run").unwrap().debug);
}
