//! Keeping builds, with a machine that only has a disk to keep.

use boxbuild_engine::{Network, Policy, Reach};
use std::sync::Arc;
use std::time::Duration;

use std::fs;
use std::io;
use std::path::Path;

use super::builds::{FOLDER, MOST};
use super::*;
use crate::command_line::CommandLine;
use crate::held_folders::HeldFolders;
use crate::inputs::Inputs;
use crate::plan::tests::plan_in;
use boxbuild_engine::{Console, Running, Usage};
use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::Dir;

#[derive(Debug, Default)]
struct Gone {
    /// It took a checkpoint of its disk.
    checkpoint: bool,
}

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

    fn keep_checkpoint(&self, folder: &Path) -> io::Result<Option<u64>> {
        if !self.checkpoint {
            return Ok(None);
        }
        fs::write(folder.join("changes"), vec![2; 200_000])?;
        Ok(Some(200_000))
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
        self.keep_machine(&Gone::default(), &Taken::No, None)
    }

    /// The same after kiwi's `prepare`, which read `inputs`.
    fn keep_prepared(&self, inputs: &Inputs) -> FailedBuild {
        let taken = Taken::Yes(std::time::SystemTime::now());
        self.keep_machine(&Gone { checkpoint: true }, &taken, Some(inputs))
            .0
    }

    fn keep_machine(
        &self,
        gone: &Gone,
        taken: &Taken,
        inputs: Option<&Inputs>,
    ) -> (FailedBuild, Vec<String>) {
        let failed = Failed {
            folders: &HeldFolders::take(&self.plan).unwrap(),
            engine: "qemu",
            reason: String::from("it failed"),
            exit_code: 1,
            share: &Dir::open(&self.dir.path().join("share")).unwrap(),
            console: "said",
            taken,
            inputs,
        };
        self.builds
            .keep(&self.plan, gone, &failed, &StopCheck::default())
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

/// A build whose `prepare` was done, with its description in the sandbox.
fn prepared() -> (Sandbox, FailedBuild) {
    let mut sandbox = Sandbox::new();
    let description = sandbox.dir.path().join("description");
    fs::create_dir(&description).unwrap();
    fs::write(description.join("config.sh"), "a").unwrap();
    sandbox.plan.inputs.description.clone_from(&description);
    sandbox.plan.description = description;
    sandbox.plan.kiwi_args = ["system", "build"].map(Into::into).to_vec();
    sandbox.plan.command_line = Some(CommandLine {
        folder: "/".into(),
        words: ["--box", "small"].map(Into::into).to_vec(),
    });
    let inputs = sandbox.plan.inputs.look().unwrap();
    let build = sandbox.keep_prepared(&inputs);
    (sandbox, build)
}

/// A plan of the same command line goes on with the build.
fn resume(sandbox: &Sandbox, build: &FailedBuild) -> Result<crate::plan::Plan, FailedBuildError> {
    resume_until(sandbox, build, &StopCheck::default())
}

fn resume_until(
    sandbox: &Sandbox,
    build: &FailedBuild,
    stop: &StopCheck,
) -> Result<crate::plan::Plan, FailedBuildError> {
    let mut plan = plan_in(sandbox.plan.installed.dir.clone(), |_| {}).unwrap();
    plan.inputs
        .description
        .clone_from(&sandbox.plan.description);
    plan.description.clone_from(&sandbox.plan.description);
    plan.target_dir.clone_from(&sandbox.plan.target_dir);
    plan.kiwi_args.clone_from(&sandbox.plan.kiwi_args);
    let installed = build.record.installed(&build.folder).unwrap();
    build.resume(plan, &installed, sandbox.dir.path(), stop)
}

/// The files that were not compared any more were said to have changed.
#[test]
fn an_interrupted_comparison_is_no_change() {
    let (sandbox, build) = prepared();
    let script = fs::File::options()
        .write(true)
        .open(sandbox.plan.description.join("config.sh"))
        .unwrap();
    script
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(resume(&sandbox, &build).is_ok());
    let interrupt = boxbuild_host::interrupt::Interrupt::default();
    interrupt.request();
    let error = resume_until(&sandbox, &build, &StopCheck::new(&interrupt, None)).unwrap_err();
    assert!(error.to_string().ends_with("interrupted"), "{error}");
    assert_eq!(
        boxbuild_host::error::Classify::class(&error),
        boxbuild_host::error::ErrorClass::Interrupted
    );
}

#[test]
fn a_build_that_was_prepared_is_gone_on_with_and_kept_again() {
    let (mut sandbox, build) = prepared();
    assert!(build.bytes >= 300_000, "both layers count: {}", build.bytes);
    let layers = build.record.layers(&build.folder);
    assert_eq!(
        layers,
        [build.folder.join("checkpoint"), build.folder.clone()]
    );
    let found = sandbox.builds.get(Some(&build.record.id)).unwrap();
    assert_eq!(found.record, build.record);

    fs::write(sandbox.plan.description.join("disk.sh"), "new").unwrap();
    let plan = resume(&sandbox, &build).unwrap();
    assert!(
        plan.notes
            .iter()
            .any(|note| note == "taken as they are now: disk.sh")
    );
    assert!(!plan.takes_checkpoints());
    let resumed = plan.resumes.clone().unwrap();
    assert_eq!(resumed.disk, build.folder.join("checkpoint"));
    assert_eq!(plan.scratch(), build.folder);
    let args = plan.create_args().join(std::ffi::OsStr::new(" "));
    assert_eq!(args, "system create --root /result/build/image-root");

    // One at a time; a shell may look at it meanwhile.
    let alone = build.hold_checkpoint().unwrap();
    let error = build.hold_checkpoint().unwrap_err().to_string();
    assert!(
        error.contains("is being resumed by another boxbuild"),
        "{error}"
    );
    drop((alone, build.hold().unwrap()));

    // What fails once more is kept over the same checkpoint, which is there once.
    sandbox.plan = plan;
    sandbox.plan.box_packages = vec![String::from("binutils")];
    let (again, _) = sandbox.keep();
    assert_eq!(again.record.id, "small-2");
    let checkpoint = again.record.checkpoint.as_ref().unwrap();
    assert_eq!(checkpoint.box_packages, ["binutils"]);
    assert_eq!(
        checkpoint.inputs,
        build.record.checkpoint.as_ref().unwrap().inputs
    );
    let sum = again.bytes + sandbox.builds.get(Some("small-1")).unwrap().bytes;
    assert!((400_000..500_000).contains(&sum), "{sum}");
    sandbox.builds.remove("small-1").unwrap();
    assert!(resume(&sandbox, &again).is_ok());
}

/// The build was listed as damaged, and no shell could look into it.
#[test]
fn a_checkpoint_too_long_for_the_record_is_left_out() {
    let (_sandbox, build) = prepared();
    let mut record = build.record.clone();
    let checkpoint = record.checkpoint.as_mut().unwrap();
    checkpoint.words = vec!["x".repeat(33 << 20).into()];
    record.write(&build.folder).unwrap();
    let read = Record::read(&build.folder).unwrap();
    assert_eq!(read, record);
    assert!(read.checkpoint.is_none() && read.layered);
    assert!(read.no_checkpoint.unwrap().contains("too long"));
}

#[test]
fn what_makes_a_resume_impossible_is_said() {
    let refused = |sandbox: &Sandbox, build: &FailedBuild, words: &str| {
        let error = resume(sandbox, build).unwrap_err();
        assert_eq!(
            boxbuild_host::error::Classify::class(&error),
            boxbuild_host::error::ErrorClass::Usage
        );
        assert!(error.to_string().contains(words), "{words}: {error}");
    };
    let (sandbox, build) = prepared();
    fs::write(sandbox.plan.description.join("config.sh"), "new").unwrap();
    refused(
        &sandbox,
        &build,
        "read what has changed since: config.sh; build again",
    );

    // In prepare, and by a boxbuild that kept no checkpoint.
    let (mut early, _) = sandbox.keep();
    refused(&sandbox, &early, "before kiwi's prepare was done");
    early.record.no_checkpoint = None;
    refused(&sandbox, &early, "by a boxbuild that could not resume");
    early.record.disk = None;
    refused(&sandbox, &early, "--no-snapshot");

    // A secret that is not kept; a description that was changed meanwhile. The disk is whole all the same.
    let (mut sandbox, _) = prepared();
    let inputs = sandbox.plan.inputs.look().unwrap();
    let line = sandbox.plan.command_line.as_mut().unwrap();
    line.words
        .extend(["--", "--set-type-attr", "luks=s3cret"].map(Into::into));
    let build = sandbox.keep_prepared(&inputs);
    refused(&sandbox, &build, "has a secret, which is not kept");
    assert!(build.record.layered && build.folder.join("checkpoint/changes").exists());
    let record = fs::read_to_string(build.folder.join(record::NAME)).unwrap();
    assert!(!record.contains("s3cret"), "{record}");
    sandbox.plan.command_line.as_mut().unwrap().words.clear();
    fs::write(sandbox.plan.description.join("new"), "").unwrap();
    let build = sandbox.keep_prepared(&inputs);
    refused(&sandbox, &build, "changed while it ran");
}
