//! Builds in containers: a box image of busybox with a stand-in for kiwi-ng that runs the
//! description's own script. Here under a stand-in for podman, which shows what is reported where
//! podman is missing or does not work; in `real.rs` under the real podman.
//!
//! As root, `BOXBUILD_TEST_USER` names a user with subordinate ids for the rootless tests; as a
//! normal user, all are rootless, except with `BOXBUILD_TEST_SUDO=1`: then those with the real podman
//! are rootful, through sudo (which must not ask for a password).

pub(crate) mod fixture;
pub(crate) mod network;
pub(crate) mod real;

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxbuild_tests::command::find;
use boxbuild_tests::leftovers::assert_none;
use boxbuild_tests::{ProcessOutput, Running, executable, skip};
use nix::sys::signal::Signal;

use fixture::{ContainerSandbox, is_root, mode};

crate::tests! {
    Container:
        what_podman_lacks_is_named,
        a_podman_that_does_not_work,
        a_container_that_does_not_run_leaves_no_good_result,
        ctrl_c_before_the_container_runs,
        what_is_reported_where_no_engine_works,
        a_box_without_a_container_image,
        a_disk_needs_loop_devices,
        what_the_kernel_lacks_is_said_before_the_start,
        rootless_without_subordinate_ids,
        rootful_through_sudo,
        options_of_a_machine_are_noted,
        options_that_exclude_each_other;
}

/// The user `nobody`, who has no subordinate ids.
const STRANGER: u32 = 65534;

/// A podman that answers as the environment tells it.
const PODMAN: &str = r#"#!/bin/sh
case " $* " in
    *" info "*) echo '{"host":{"cgroupVersion":"v2","ociRuntime":{"name":"crun"}},"version":{"Version":"'"${FAKE_VERSION:-5.4.0}"'"}}' ;;
    *" image exists "*) exit "${FAKE_EXISTS:-0}" ;;
    *" run "*) printf '<%s>' "$@" >"$FAKE_LOG"; [ -z "$FAKE_GOOD" ] || exit 0; echo "Error: crun: no such device" >&2; exit 125 ;;
    *" import "*) [ -z "$FAKE_SLOW" ] || exec sleep 1000; echo "Error: no space left on device" >&2; exit 125 ;;
esac
"#;

/// Sudo that allows it.
const SUDO: &str = r#"#!/bin/sh
while [ "$1" != -- ]; do [ $# -gt 0 ] || exit 0; shift; done; shift
echo "sudo: $*" >>"$SUDO_LOG"
exec "$@"
"#;

/// A sandbox with a `PATH` of its own.
struct Host {
    sandbox: ContainerSandbox,
    bin: PathBuf,
}

impl Host {
    /// A host with a shell, `rm` and `programs`, which do nothing.
    fn with(programs: &[&str]) -> Host {
        let sandbox = ContainerSandbox::new();
        sandbox.describe("tbz", "tbz", ":");
        let bin = sandbox.path("bin");
        fs::create_dir(&bin).unwrap();
        let host = Host { sandbox, bin };
        for program in ["sh", "rm"] {
            host.link(program);
        }
        for program in programs {
            host.install(program, "#!/bin/sh\n");
        }
        host
    }

    /// A host with a stand-in for podman and what it needs.
    fn with_podman() -> Host {
        let host = Host::with(&["newuidmap", "newgidmap"]);
        host.install("podman", PODMAN);
        host
    }

    fn link(&self, program: &str) {
        let path = find(program).unwrap();
        std::os::unix::fs::symlink(path, self.bin.join(program)).unwrap();
    }

    fn install(&self, program: &str, script: &str) {
        executable::script(&self.bin.join(program), script);
    }

    /// A build of `tbz` into `target` with this `PATH`.
    fn build(&self, target: &str, env: &[(&str, &str)]) -> Command {
        let mut command = self.sandbox.build_command("tbz", target, &[]);
        command.env("PATH", &self.bin).envs(env.iter().copied());
        command
    }

    /// Runs a build that comes to nothing.
    #[track_caller]
    fn refuses(&self, env: &[(&str, &str)], texts: &[&str]) {
        ProcessOutput::of(&mut self.build("never", env)).expect(3, texts);
        self.assert_nothing_made();
    }

    #[track_caller]
    fn assert_nothing_made(&self) {
        let target = self.sandbox.path("never");
        assert!(!target.exists(), "a refused build made its target");
    }
}

fn what_podman_lacks_is_named() {
    Host::with(&[]).refuses(&[], &[]);
    let programs = ["newuidmap", "newgidmap"];
    Host::with(&programs).refuses(&[], &["podman is not installed", "apt-get install"]);
}

fn a_podman_that_does_not_work() {
    let host = Host::with(&["newuidmap", "newgidmap"]);
    let broken = "#!/bin/sh\necho 'Error: cannot set up namespace' >&2\nexit 125\n";
    host.install("podman", broken);
    host.refuses(&[], &["cannot set up namespace"]);

    let host = Host::with_podman();
    host.refuses(&[("FAKE_VERSION", "3.4.2")], &["too old (version 3.4.2"]);
    let texts = [
        "cannot import the container image",
        "no space left on device",
    ];
    host.refuses(&[("FAKE_EXISTS", "1")], &texts);
}

fn a_container_that_does_not_run_leaves_no_good_result() {
    let host = Host::with_podman();
    let log = host.sandbox.path("argv");
    let log_env = ("FAKE_LOG", log.to_str().unwrap());
    let texts = ["the container failed: podman: crun: no such device"];
    ProcessOutput::of(&mut host.build("run", &[log_env])).expect(3, &texts);
    let argv = fs::read_to_string(&log).unwrap();
    let after = argv.split_once("<--pull><never>").expect(&argv).1;
    let after = after.split_once("<--privileged>").expect(&argv).1;
    // As a machine has, where there can be a tap.
    let tap = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    let network = if tap.is_ok() { "none" } else { "host" };
    assert!(after.contains(&format!("<--network><{network}>")), "{argv}");
    let code = || host.sandbox.read("run/result.code");
    assert_ne!(
        code(),
        "0\n",
        "a container that did not run left a code of 0"
    );

    // An earlier build's code of 0 does not count for this one.
    fs::write(host.sandbox.path("run/result.code"), "0\n").unwrap();
    let env = [log_env, ("FAKE_GOOD", "1")];
    let texts = ["before the build came to a result"];
    ProcessOutput::of(&mut host.build("run", &env)).expect(1, &texts);
    assert_ne!(code(), "0\n", "a code of 0 is left");
}

fn ctrl_c_before_the_container_runs() {
    let host = Host::with_podman();
    host.link("sleep");
    let env = [("FAKE_SLOW", "1"), ("FAKE_EXISTS", "1")];
    let mut build = Running::start(host.build("never", &env).process_group(0));
    let processes = || host.sandbox.processes();
    build.wait_until("the import", |_| processes().contains(&"sleep".to_owned()));
    build.signal_group(Signal::SIGINT);
    build.finish().expect(130, &[]);
    assert_none(processes);
}

fn what_is_reported_where_no_engine_works() {
    let host = Host::with_podman();
    let mut command = host.sandbox.boxbuild();
    command.args(["--dry-run", "--box", host.sandbox.box_name()]);
    host.sandbox.behind_separator(&mut command, "tbz", "never");
    let output = ProcessOutput::of(command.env("PATH", &host.bin));
    if output.code == 0 {
        let reason = "an engine works here";
        return skip("what_is_reported_where_no_engine_works", reason);
    }
    let advice = format!("boxbuild --container --box {} --", host.sandbox.box_name());
    output.expect(3, &["no engine can run this box on this host", &advice]);
}

fn a_box_without_a_container_image() {
    let host = Host::with_podman();
    host.sandbox.write_box("none", None);
    let mut command = host.sandbox.build_of("none", "tbz", "never", &[]);
    let output = ProcessOutput::of(command.env("PATH", &host.bin));
    output.expect(3, &["has no container image: create it again"]);
    host.assert_nothing_made();
}

fn a_disk_needs_loop_devices() {
    if mode().is_empty() {
        return skip("a_disk_needs_loop_devices", "it is of rootless containers");
    }
    let host = Host::with_podman();
    host.sandbox.describe("oem", "oem", ":");
    let mut command = host.sandbox.build_command("oem", "never", &[]);
    let output = ProcessOutput::of(command.env("PATH", &host.bin));
    output.expect(3, &["oem needs loop devices"]);
    // Of the types that need one for a root that is mounted, only these.
    host.sandbox.describe("kis", "kis\" filesystem=\"xfs", ":");
    let mut command = host.sandbox.build_command("kis", "never", &[]);
    let output = ProcessOutput::of(command.env("PATH", &host.bin));
    output.expect(3, &["kis with filesystem=\"xfs\" needs loop devices"]);
    host.assert_nothing_made();
}

/// Builds failed in kiwi, minutes later.
fn what_the_kernel_lacks_is_said_before_the_start() {
    let test = "what_the_kernel_lacks_is_said_before_the_start";
    if !mode().is_empty() {
        return skip(test, "it is of rootful containers");
    }
    if Path::new("/proc/modules").exists() {
        return skip(test, "this kernel may have everything as a module");
    }
    let host = Host::with_podman();
    for (name, file, lacking, attributes) in [
        (
            "vfat",
            "/proc/filesystems",
            "vfat (firmware=\"uefi\")",
            "oem\" filesystem=\"ext4\" firmware=\"uefi",
        ),
        (
            "[raid1]",
            "/proc/mdstat",
            "mirrors (raid1, for mdraid=\"mirroring\")",
            "oem\" filesystem=\"ext4\" mdraid=\"mirroring",
        ),
        (
            "device-mapper",
            "/proc/misc",
            "encryption (dm-crypt, for luks)",
            "oem\" filesystem=\"ext4\" luks=\"",
        ),
    ] {
        if fs::read_to_string(file).is_ok_and(|text| text.contains(name)) {
            skip(&format!("{test}, {name}"), "this kernel has it");
            continue;
        }
        host.sandbox.describe(name, attributes, ":");
        let mut command = host.sandbox.build_command(name, "never", &[]);
        let output = ProcessOutput::of(command.env("PATH", &host.bin));
        output.expect(3, &[lacking, "leave out --container"]);
        host.assert_nothing_made();
    }
}

/// A folder that the stranger can write to.
fn folder_of_stranger(host: &Host) -> PathBuf {
    let folder = host.sandbox.path("stranger");
    fs::create_dir(&folder).unwrap();
    chown(&folder, Some(STRANGER), Some(STRANGER)).unwrap();
    folder
}

/// `boxbuild --container` by the stranger, without supplementary groups.
fn build_by_stranger(host: &Host, options: &[&str], target: &Path) -> Command {
    let mut command = host.sandbox.boxbuild_for_all();
    command.arg("--container").args(options);
    command.args(["--box", host.sandbox.box_name()]);
    let target = target.to_str().unwrap();
    host.sandbox.behind_separator(&mut command, "tbz", target);
    command.uid(STRANGER).gid(STRANGER);
    command.env("HOME", "/nonexistent");
    command
}

fn rootless_without_subordinate_ids() {
    if !is_root() {
        let reason = "only root can become another user";
        return skip("rootless_without_subordinate_ids", reason);
    }
    let host = Host::with_podman();
    let target = folder_of_stranger(&host).join("never");
    let mut command = build_by_stranger(&host, &["--rootless"], &target);
    let texts = ["no range of 65536 subordinate ids", "usermod --add-subuids"];
    ProcessOutput::of(&mut command).expect(3, &texts);
    assert!(!target.exists(), "a refused build made its target");
}

fn rootful_through_sudo() {
    if !is_root() {
        let reason = "only root can become another user";
        return skip("rootful_through_sudo", reason);
    }
    let host = Host::with_podman();
    let folder = folder_of_stranger(&host);
    let target = folder.join("never");
    let build = |target: &Path| {
        let mut command = build_by_stranger(&host, &[], target);
        command.env("PATH", &host.bin);
        command
    };
    ProcessOutput::of(&mut build(&target)).expect(3, &["sudo is not installed"]);
    let refusing = "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n";
    host.install("sudo", refusing);
    let texts = ["sudo wants a password and there is no terminal"];
    ProcessOutput::of(&mut build(&target)).expect(3, &texts);
    assert!(!target.exists(), "a refused build made its target");

    // Podman and what cleans up after it run through sudo.
    host.install("sudo", SUDO);
    let log = folder.join("sudo");
    let mut command = build(&folder.join("out"));
    command.env("FAKE_LOG", folder.join("argv"));
    command.env("SUDO_LOG", &log).env("TMPDIR", &folder);
    ProcessOutput::of(&mut command).expect(3, &[]);
    let log = fs::read_to_string(log).unwrap();
    let podman = format!("sudo: {}/podman run ", host.bin.display());
    for start in [podman.as_str(), "sudo: /bin/sh -c "] {
        assert!(log.lines().any(|line| line.starts_with(start)), "{log}");
    }
}

/// kiwi-ng takes them with --container, and so do its users.
fn options_of_a_machine_are_noted() {
    let host = Host::with_podman();
    let options = [
        "--dry-run",
        "--json",
        "--no-accel",
        "--cpu=host",
        "--machine",
        "q35",
        "--no-snapshot",
        "--ssh-port=10022",
        "--ssh-key",
        "id_rsa",
        "--disk-size=60G",
        "--nested",
    ];
    let mut command = host.sandbox.build_command("tbz", "never", &options);
    let output = ProcessOutput::of(command.env("PATH", &host.bin));
    output.expect(0, &[]);
    for option in [
        "--no-accel",
        "--cpu",
        "--machine",
        "--no-snapshot",
        "--ssh-port",
        "--disk-size",
    ] {
        assert!(output.stdout.contains(option), "{option}: {output:?}");
    }
    host.assert_nothing_made();
}

fn options_that_exclude_each_other() {
    let host = Host::with_podman();
    for options in [&["--container", "--engine", "qemu"][..], &["--rootless"]] {
        let mut command = host.sandbox.boxbuild();
        command.args(options);
        command.args(["--box", host.sandbox.box_name()]);
        host.sandbox.behind_separator(&mut command, "tbz", "never");
        ProcessOutput::of(&mut command).expect(2, &[]);
        host.assert_nothing_made();
    }
}
