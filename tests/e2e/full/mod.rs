//! The whole job with nothing replaced: a box from the distribution's packages, real kiwi, a real
//! description; and what goes wrong there. Each takes minutes to half an hour under emulation.
//!
//! As a normal user everything happens as that user. As root, `BOXBUILD_TEST_USER` names a user with
//! subordinate ids, as whom the box and its containers are made once more.

pub(crate) mod container;
pub(crate) mod fixture;
pub(crate) mod guests;
pub(crate) mod types;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use boxbuild_tests::command::find;
use boxbuild_tests::env::{self, setup};
use boxbuild_tests::lab::{Run, TestBed};
use boxbuild_tests::{Running, names, skip, test_env};
use nix::sys::signal::Signal;

use crate::container::fixture::is_root;
use crate::{ONLY, in_lab, other_user};
pub(crate) use fixture::Shared;
use fixture::{BUILD_LIMIT, RealSandbox, assert_same_packages, check_image, find_image};

crate::tests! {
    Full:
        a_real_box_is_made_once,
        two_real_images_at_once,
        the_kvm_engine_builds_the_same_image,
        a_package_that_does_not_exist,
        ctrl_c_in_a_real_build,
        a_killed_box_create_leaves_nothing,
        an_image_for_another_architecture,
        the_demo_makes_an_image,
        real_builds_of_a_normal_user;
}

fn a_real_box_is_made_once() {
    let sandbox = RealSandbox::new();
    let list = sandbox.run(&["box", "list"]);
    list.expect(0, &[]);
    let mut lines = list.stdout.lines();
    assert!(lines.any(|line| line.starts_with("debian ")), "{list:?}");
    sandbox.check_compiled_modules();
    let again = sandbox.run(&["box", "create", "debian", "--from", "debian:trixie"]);
    again.expect(2, &[]);
    sandbox.assert_nothing_left();
}

/// One of them in a box that cannot compress: the host does it.
fn two_real_images_at_once() {
    let sandbox = RealSandbox::new();
    let one = sandbox.start(&fixture::description("mini"), "one", &[]);
    let without_xz = sandbox.path("without-xz");
    setup("without-xz", [&fixture::description("mini"), &without_xz]).unwrap();
    let two = sandbox.start(&without_xz, "two", &[]);
    for (build, target) in [(two, "two"), (one, "one")] {
        build.finish().expect(0, &[]);
        check_image(&sandbox.path(target));
        assert_same_packages(&sandbox.path(target));
    }
    sandbox.assert_nothing_left();
}

/// MiB of the machine that has the box, its changes, the image and the guest's memory in memory.
const LAB_MEMORY: usize = 11264;

/// In the lab as a normal user in group kvm, or on a true /dev/kvm.
fn the_kvm_engine_builds_the_same_image() {
    let skipped = |reason: &str| skip("the_kvm_engine_builds_the_same_image", reason);
    let bed = TestBed::find();
    let free = in_lab::available_memory();
    match &bed {
        TestBed::None { reason } => return skipped(reason),
        TestBed::Lab { .. } if free < LAB_MEMORY + 1024 => {
            let needed = LAB_MEMORY + 1024;
            let reason = format!("it takes {needed} MiB of memory, and {free} are free");
            return skipped(&reason);
        }
        _ => {}
    }
    let sandbox = RealSandbox::new();
    let target = sandbox.path("image");
    if bed == TestBed::Kvm {
        let mini = fixture::description("mini");
        let build = sandbox.start(&mini, "image", &["--engine", "kvm"]);
        build.finish().expect(0, &[]);
    } else {
        let output = Running::start(&mut in_the_lab(&sandbox, &bed))
            .limit(BUILD_LIMIT)
            .finish();
        output.expect(0, &[]);
        fs::rename(sandbox.path("tmp/image"), &target).unwrap();
        if is_root() {
            // The user who builds there is uid 1000; as root, files come back with their owner.
            fixture::assert_owner(&target, 1000);
            fixture::give_to(&target, 0);
        }
    }
    check_image(&target);
    assert_same_packages(&target);
    sandbox.assert_nothing_left();
}

fn in_the_lab(sandbox: &RealSandbox, bed: &TestBed) -> Command {
    let file = |from: std::path::PathBuf, to: &str| format!("{}:{to}", from.display());
    let repository = fixture::repository();
    let mut run = Run::new(&test_env().expect("checked before").boxbuild)
        // One CPU everywhere: the lab's two stop each other, which guests do not always survive.
        // Bookworm's tmpfs has no user attributes, which shares keep ownership in.
        .lab_options(["--cpus", "1", "--user", "--kernel", "trixie", "--network"])
        .lab_options(["--memory", &LAB_MEMORY.to_string(), "--timeout", "3600"])
        .lab_options(["--file", &file(sandbox.the_box(), "/box/debian")])
        .lab_options(["--file", &file(fixture::description("mini"), "/mini")])
        .lab_options(["--env", "KIWI_BOXED_CACHE_DIR=/box", "--env", "TMPDIR=/tmp"])
        .lab_options(["--get", "/tmp/image", "--into"])
        .lab_options([sandbox.path(".")]);
    for word in ["--engine", "kvm", "--box", "debian", "--box-smp-cpus", "1"] {
        run = run.arg(word);
    }
    for word in ["--", "--description", "/mini", "--target-dir", "/tmp/image"] {
        run = run.arg(word);
    }
    run = run.arg("--set-repo").arg(repository);
    bed.command(&run).expect("the lab runs commands")
}

fn a_package_that_does_not_exist() {
    let sandbox = RealSandbox::new();
    let bad = sandbox.path("bad");
    fs::create_dir(&bad).unwrap();
    let text = fs::read_to_string(fixture::description("mini").join("appliance.kiwi")).unwrap();
    let changed = text.replace("name=\"iproute2\"", "name=\"no-such-package-at-all\"");
    assert_ne!(text, changed);
    fs::write(bad.join("appliance.kiwi"), changed).unwrap();
    let target = sandbox.path("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("precious"), "mine\n").unwrap();
    let output = sandbox.start(&bad, "target", &[]).finish();
    output.expect(1, &["no-such-package-at-all", "exit code"]);
    let read = |name: &str| fs::read_to_string(target.join(name)).unwrap();
    assert_eq!(read("precious"), "mine\n");
    assert_ne!(read("result.code"), "0\n");
    assert_eq!(find_image(&target), None, "a failed build left an image");
    for (words, text) in [("builds", "debian-1"), ("logs", "no-such-package-at-all")] {
        let output = sandbox.run(&[words]);
        output.expect(0, &[]);
        assert!(output.stdout.contains(text), "{output:?}");
    }
    sandbox.run(&["prune", "--builds"]).expect(0, &[]);
    sandbox.assert_nothing_left();
}

fn ctrl_c_in_a_real_build() {
    let sandbox = RealSandbox::new();
    let mini = fixture::description("mini");
    let mut command = sandbox.build_command(&mini, "target", &["--verbose"]);
    let mut build = Running::start(command.process_group(0)).limit(BUILD_LIMIT);
    build.wait_for("Installing bootstrap packages");
    std::thread::sleep(Duration::from_secs(5));
    build.signal_group(Signal::SIGINT);
    build.finish().expect(130, &[]);
    sandbox.assert_nothing_left();
}

/// Early, and while packages are installed: nothing is left, neither in the store nor where mmdebstrap
/// works.
fn a_killed_box_create_leaves_nothing() {
    let sandbox = RealSandbox::without_box();
    let before = fixture::create_folders();
    let left = || {
        let mut left = names(&sandbox.path("store"));
        let folders = fixture::create_folders();
        left.extend(folders.into_iter().filter(|name| !before.contains(name)));
        left
    };
    for seconds in [4, 20] {
        let mut create = sandbox.command();
        create.args(["box", "create", "debian", "--from", "debian:trixie"]);
        let create = Running::start(&mut create);
        std::thread::sleep(Duration::from_secs(seconds));
        let at_work = !left().is_empty();
        create.signal(Signal::SIGKILL);
        let output = create.finish();
        assert!(at_work, "not at work after {seconds} s: {output:?}");
        assert_eq!(output.signal, Some(9), "{output:?}");
        fixture::wait_a_minute(|| left().is_empty());
        assert_eq!(
            left(),
            [""; 0],
            "left by a box create killed after {seconds} s"
        );
    }
}

/// `e_machine` of an ELF file for aarch64 (gABI, "ELF Header": `EM_AARCH64`), where it stands.
const EM_AARCH64: [u8; 2] = [183, 0];
const E_MACHINE: std::ops::Range<usize> = 18..20;

/// A box made without the host's binfmt_misc where that is possible, and a real build in it, in
/// emulation; the host compresses.
fn an_image_for_another_architecture() {
    let skipped = |reason: &str| skip("an_image_for_another_architecture", reason);
    if std::env::consts::ARCH == "aarch64" {
        return skipped("this host is of aarch64");
    }
    if find("qemu-system-aarch64").is_err() {
        return skipped("qemu-system-aarch64 is not installed");
    }
    let sandbox = RealSandbox::without_box();
    let mut create = sandbox.command();
    create.args([
        "box",
        "create",
        "debian",
        "--from",
        "debian:trixie",
        "--arch",
        "arm64",
    ]);
    let output = Running::start(&mut create).limit(BUILD_LIMIT).finish();
    // Nothing was begun if the host cannot run foreign programs.
    let text = "cannot run programs for aarch64";
    if output.code == 3 && output.stderr.contains(text) {
        return skipped(output.stderr.lines().next().unwrap_or_default());
    }
    output.expect(0, &[]);
    assert_eq!(names(&sandbox.path("store")), ["debian.aarch64"]);

    let without_xz = sandbox.path("description");
    setup("without-xz", [&fixture::description("mini"), &without_xz]).unwrap();
    let build = sandbox.start(&without_xz, "image", &["--arch", "aarch64"]);
    build.finish().expect(0, &[]);
    let target = sandbox.path("image");
    let image = find_image(&target).expect("an image");
    let name = image.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("mini.aarch64-"), "{name}");
    let packages = fixture::packages(&target);
    assert!(packages.contains("|arm64|"), "{packages}");
    assert!(
        !packages.contains("|amd64|"),
        "packages of the host: {packages}"
    );
    let members = fixture::members(&image);
    let dpkg = members
        .iter()
        .find(|member| member.trim_start_matches("./") == "usr/bin/dpkg");
    let mut tar = Command::new("tar");
    tar.arg("-xOf").arg(&image).arg(dpkg.expect("dpkg"));
    let program = tar.output().unwrap().stdout;
    assert_eq!(program.get(E_MACHINE), Some(&EM_AARCH64[..]));
}

/// The README's first command, as another user has it.
fn the_demo_makes_an_image() {
    if std::env::var_os(ONLY).is_none() {
        return skip("the_demo_makes_an_image", "it is of the normal user's run");
    }
    let sandbox = RealSandbox::new();
    let mut demo = sandbox.program(&env::tests().join("setup/demo"));
    demo.arg(&test_env().expect("checked before").boxbuild);
    demo.arg(sandbox.path("image"));
    let output = Running::start(&mut demo).limit(BUILD_LIMIT).finish();
    output.expect(0, &[]);
    sandbox.assert_nothing_left();
}

fn real_builds_of_a_normal_user() {
    let mut tests = [TESTS, container::TESTS].concat();
    let own = [
        "the_demo_makes_an_image",
        "a_killed_box_create_leaves_nothing",
    ];
    let of_containers = |name: &str| container::TESTS.iter().any(|test| test.name == name);
    tests.retain(|test| own.contains(&test.name) || of_containers(test.name));
    let words = ["--ignored"];
    other_user::run("real_builds_of_a_normal_user", &tests, &words);
}
