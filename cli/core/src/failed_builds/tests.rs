//! Keeping builds, with a machine that only has a disk to keep.

use boxbuild_engine::{Network, Policy, Reach};
use std::sync::Arc;
use std::time::Duration;

use std::fs;
use std::io;
use std::path::Path;

use super::builds::{FOLDER, MOST};
use super::*;
use crate::held_folders::HeldFolders;
use crate::plan::tests::plan_in;
use boxbuild_engine::{Console, Running, Usage};
use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::Dir;

#[derive(Debug)]
struct Gone;

impl Running for Gone {
    fn kill(&mut self, _grace: Duration) {}

    fn peak_memory(&self) -> Option<u64> {
        None
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn console(&self) -> Option<Arc<dyn Console>> {
        None
    }

    fn keep_disk(&self, folder: &Path) -> io::Result<Option<u64>> {
        fs::write(folder.join("changes"), vec![1; 100_000])?;
        Ok(Some(100_000))
    }
}

struct Sandbox {
    dir: tempfile::TempDir,
    plan: crate::plan::Plan,
    builds: FailedBuilds,
}

impl Sandbox {
    fn new() -> Sandbox {
        let dir = tempfile::tempdir().unwrap();
        let small = dir.path().join("small");
        fs::create_dir(&small).unwrap();
        for file in ["kernel", "initrd", "disk"] {
            fs::write(small.join(file), "").unwrap();
        }
        fs::create_dir(dir.path().join("share")).unwrap();
        fs::write(dir.path().join("share/result.log"), "why").unwrap();
        Sandbox {
            plan: {
                let mut plan = plan_in(small, |_| {}).unwrap();
                plan.target_dir = dir.path().join("target");
                plan
            },
            builds: FailedBuilds::of(dir.path()),
            dir,
        }
    }

    fn keep(&self) -> (FailedBuild, Vec<String>) {
        let failed = Failed {
            folders: &HeldFolders::take(&self.plan).unwrap(),
            engine: "qemu",
            reason: String::from("it failed"),
            exit_code: 1,
            share: &Dir::open(&self.dir.path().join("share")).unwrap(),
            console: "said",
        };
        self.builds
            .keep(&self.plan, &Gone, &failed, &StopCheck::default())
            .unwrap()
    }

    fn left(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path().join(FOLDER))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_build_is_kept_as_a_whole_and_found() {
    let sandbox = Sandbox::new();
    assert!(matches!(
        sandbox.builds.get(None),
        Err(FailedBuildError::Nothing)
    ));
    let (build, gone) = sandbox.keep();
    assert!(gone.is_empty() && build.bytes >= 100_000);
    assert_eq!(build.record.id, "small-1");
    sandbox.keep();
    assert_eq!(sandbox.builds.ids().unwrap(), ["small-1", "small-2"]);
    assert_eq!(
        sandbox.left(),
        ["small-1", "small-2"],
        "nothing else is left"
    );
    let newest = sandbox.builds.get(None).unwrap();
    assert_eq!(newest.record.id, "small-2");
    let read = |name: &str| fs::read_to_string(newest.folder.join(name)).unwrap();
    assert_eq!(
        (read("result.log").as_str(), read("console.log").as_str()),
        ("why", "said")
    );
    let error = sandbox.builds.get(Some("smal-1")).unwrap_err().to_string();
    assert!(error.contains("did you mean 'small-1'?"), "{error}");
    // Who uses it keeps it.
    let held = newest.hold().unwrap();
    assert!(matches!(
        sandbox.builds.remove("small-2"),
        Err(FailedBuildError::InUse(_))
    ));
    drop(held);
    assert!(sandbox.builds.remove("small-2").unwrap() >= 100_000);
    assert_eq!(sandbox.left(), ["small-1"]);
}

#[test]
fn the_box_may_go_but_not_change() {
    let sandbox = Sandbox::new();
    let (build, _) = sandbox.keep();
    fs::remove_dir_all(&sandbox.plan.installed.dir).unwrap();
    let installed = build.record.installed(&build.folder).unwrap();
    assert_eq!(installed.dir, build.folder);
    fs::write(build.folder.join("disk"), "written in place").unwrap();
    let problem = build.record.installed(&build.folder).unwrap_err();
    assert!(problem.contains("changed since"), "{problem}");
    fs::remove_file(build.folder.join("kernel")).unwrap();
    let problem = build.record.installed(&build.folder).unwrap_err();
    assert!(problem.contains("updated or removed"), "{problem}");
}

#[test]
fn the_oldest_go() {
    let sandbox = Sandbox::new();
    for number in 1..=MOST {
        assert!(sandbox.keep().1.is_empty(), "{number}");
        // Ages are told by times.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(sandbox.keep().1, ["small-1"]);
    assert_eq!(sandbox.builds.ids().unwrap().len(), MOST);
}

#[test]
fn what_a_killed_removal_left_is_removed() {
    let sandbox = Sandbox::new();
    sandbox.keep();
    let grave = || {
        let grave = sandbox.dir.path().join(FOLDER).join(".removed-small-1");
        fs::create_dir(&grave).unwrap();
        fs::write(grave.join("changes"), "x").unwrap();
    };
    grave();
    sandbox.keep();
    assert_eq!(sandbox.left(), ["small-1", "small-2"]);
    grave();
    sandbox.builds.remove("small-1").unwrap();
    assert_eq!(sandbox.left(), ["small-2"]);
}

#[test]
fn a_damaged_record_is_reported() {
    let sandbox = Sandbox::new();
    let (build, _) = sandbox.keep();
    let path = build.folder.join(record::NAME);
    let good = fs::read_to_string(&path).unwrap();
    for bad in ["{", &good.replace("\"kernel\",", "\"../../kernel\",")] {
        fs::write(&path, bad).unwrap();
        let error = sandbox.builds.get(None).unwrap_err().to_string();
        assert!(error.contains("boxbuild prune small-1"), "{error}");
    }
    sandbox.builds.remove("small-1").unwrap();
}

/// Faults 1 and 5: a link named result.log had any file of the user's copied, and shown by
/// `boxbuild logs`; a FIFO had the program wait for ever.
#[test]
fn what_a_guest_named_result_log_is_no_way_to_other_files() {
    let sandbox = Sandbox::new();
    let log = sandbox.dir.path().join("share/result.log");
    let secret = sandbox.dir.path().join("secret");
    fs::write(&secret, "key").unwrap();
    for number in 1..=3 {
        fs::remove_file(&log).unwrap();
        match number {
            1 => std::os::unix::fs::symlink(&secret, &log).unwrap(),
            2 => nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            // A kept log of its own is opened through the same door.
            _ => fs::write(&log, "why").unwrap(),
        }
        let (build, _) = sandbox.keep();
        if number == 3 {
            fs::remove_file(build.folder.join("result.log")).unwrap();
            std::os::unix::fs::symlink(&secret, build.folder.join("result.log")).unwrap();
            assert!(build.open_log(KeptLog::Kiwi).is_err());
        } else {
            assert!(build.open_log(KeptLog::Kiwi).unwrap().is_none(), "{number}");
        }
        assert!(build.open_log(KeptLog::Console).unwrap().is_some());
    }
}

/// A shell in a kept build reaches no more than the build did.
#[test]
fn a_limited_network_stays_limited() {
    let mut sandbox = Sandbox::new();
    sandbox.plan.network = Network::Public;
    sandbox.plan.allow = vec!["packages.example:443".parse().unwrap()];
    sandbox.plan.host_proxies = vec!["127.0.0.1:3128".parse().unwrap()];
    let (build, _) = sandbox.keep();
    let kept = sandbox.builds.get(Some(&build.record.id)).unwrap();
    let policy = kept.record.network.unwrap();
    assert_eq!(policy.allowed, Some(sandbox.plan.allow.clone()));
    assert_eq!((policy.reach, policy.services.len()), (Reach::Public, 0));
    // Older records say only whether there was one.
    let path = build.folder.join(record::NAME);
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (network, expected) in [(true, Some(Policy::default())), (false, None)] {
        record["network"] = network.into();
        fs::write(&path, record.to_string()).unwrap();
        let kept = sandbox.builds.get(Some(&build.record.id)).unwrap();
        assert_eq!(kept.record.network, expected);
    }
}

/// Fault 12.
#[test]
fn a_record_has_no_secret() {
    let mut sandbox = Sandbox::new();
    sandbox.plan.installed.info.origin = "https://me:s3cret@boxes.example/x".to_owned();
    let (build, _) = sandbox.keep();
    let text = fs::read_to_string(build.folder.join(record::NAME)).unwrap();
    assert!(text.contains("https://***@boxes.example/x"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}
