//! A sandbox whose box is a container image of its own name, so that other builds on this host are
//! not taken for the test's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use boxbuild_tests::command::find;
use boxbuild_tests::{ProcessOutput, Sandbox, executable, leftovers, skip, test_env};
use libtest_mimic::Arguments;

use crate::is_asked_for;
use crate::registry::{Test, Venue};

/// As a normal user: podman is root's, through sudo.
const SUDO: &str = "BOXBUILD_TEST_SUDO";

/// The box's kiwi-ng.
const KIWI: &str = r#"#!/bin/sh
[ "$1" != result ] || exit 0
printf '[ INFO    ]: Preparing system\n' >>/bundle/result.log
printf '<%s>' "$@" >>/bundle/result.log
. /description/script.sh
"#;

/// The entry point of a published box, which finds its arguments in /container.cmdline.
const ENTRY_POINT: &str = r"#!/bin/sh
echo 1 >/bundle/result.code
cat /container.cmdline >/bundle/cmdline
readlink /proc/self/ns/net >/bundle/network
env | sed -n s/^http_proxy=//p >/bundle/proxy
ls -l /etc/systemd/system/systemd-udevd.service >/bundle/masked
. /description/script.sh
echo 0 >/bundle/result.code
";

/// Folders of the box's root tree.
const FOLDERS: [&str; 11] = [
    "bin",
    "bundle",
    "description",
    "dev",
    "etc",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr",
];

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a normal user's podman is root's, through sudo.
fn through_sudo() -> bool {
    !is_root() && std::env::var_os(SUDO).is_some()
}

/// The option for rootless containers, where they are.
pub(crate) fn mode() -> &'static [&'static str] {
    if is_root() || through_sudo() {
        &[]
    } else {
        &["--rootless"]
    }
}

/// A program, run by the user who runs podman.
pub(crate) fn as_podman(program: &str) -> Command {
    if through_sudo() {
        let mut command = Command::new("sudo");
        command.args(["-n", program]);
        command
    } else {
        Command::new(program)
    }
}

/// Podman with the folder `temp` for temporary files, where a rootless one has its state unless there
/// is an XDG_RUNTIME_DIR: boxbuild's must have the same to be the same podman.
pub(crate) fn podman(temp: &Path) -> Command {
    let mut command = as_podman("podman");
    command.env("TMPDIR", temp);
    command
}

/// Returns the lines that `podman` with these words prints, none if it fails.
pub(crate) fn podman_lines(temp: &Path, words: &[&str]) -> Vec<String> {
    let output = podman(temp).args(words).stderr(Stdio::null()).output();
    let stdout = output.map(|output| output.stdout).unwrap_or_default();
    let stdout = String::from_utf8_lossy(&stdout);
    stdout.lines().map(str::to_owned).collect()
}

/// Drops the container tests that this host cannot run, and prints why.
pub(crate) fn drop_what_cannot_run(tests: &mut Vec<Test>, arguments: &Arguments) {
    let missing = ["busybox", "tar"]
        .into_iter()
        .find(|program| find(program).is_err())
        .map(|program| format!("{program} is not installed"));
    let sudo = through_sudo().then(|| format!("{SUDO} is set"));
    for venue in [Venue::Container, Venue::Podman] {
        let of_venue = tests.iter().filter(|test| test.venue == venue);
        let count = of_venue
            .filter(|test| is_asked_for(arguments, test))
            .count();
        if count == 0 {
            continue;
        }
        let (with, reason) = match venue {
            Venue::Podman => ("podman", missing.clone().or_else(|| works().err())),
            _ => ("a stand-in for podman", missing.clone().or(sudo.clone())),
        };
        if let Some(reason) = reason {
            let what = format!("{count} tests of containers with {with}");
            skip(&what, &reason);
            tests.retain(|test| test.venue != venue);
        }
    }
}

/// Returns whether this host's podman runs containers, as boxbuild sees it.
fn works() -> Result<(), String> {
    let sandbox = ContainerSandbox::new();
    sandbox.describe("tbz", "tbz", ":");
    let output = ProcessOutput::of(&mut sandbox.build_command("tbz", "never", &["--dry-run"]));
    if output.code != 0 {
        return Err(output.stderr.lines().last().unwrap_or_default().to_owned());
    }
    let mut lines = output.stdout.lines();
    let engine = lines.find(|line| line.starts_with("engine"));
    println!("tests of containers: {}", engine.unwrap_or_default());
    Ok(())
}

/// Folders of one test, and a box image that no other test has.
pub(crate) struct ContainerSandbox {
    sandbox: Sandbox,
}

impl ContainerSandbox {
    /// A sandbox with one box, which has a container image.
    pub(crate) fn new() -> ContainerSandbox {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("small-{}-{number}", std::process::id());
        // Larger than /tmp, which may be in memory.
        let parent = std::env::var_os("TMPDIR").map_or("/var/tmp".into(), PathBuf::from);
        let sandbox = ContainerSandbox {
            sandbox: Sandbox::below(&parent, &name),
        };
        // Other users of the tests look into it.
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(sandbox.path("."), all).unwrap();
        sandbox.make_image();
        sandbox
    }

    /// A path below the sandbox.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    /// The name of its box.
    pub(crate) fn box_name(&self) -> &str {
        self.sandbox.box_name()
    }

    /// Processes of this sandbox that still run, except for those that rootless podman keeps.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mut processes = self.sandbox.processes();
        processes.retain(|name| !["podman", "catatonit"].contains(&name.as_str()));
        processes
    }

    /// Makes the description `name` with one image type.
    pub(crate) fn describe(&self, name: &str, image_type: &str, script: &str) {
        let folder = self.sandbox.describe(name, script);
        let text =
            format!("<image><preferences><type image=\"{image_type}\"/></preferences></image>");
        fs::write(folder.join("config.xml"), text).unwrap();
    }

    /// The program, with this user's own home folder, where rootless podman has its images.
    pub(crate) fn boxbuild(&self) -> Command {
        let program = &test_env().expect("checked before").boxbuild;
        self.marked(program)
    }

    /// The same, from a copy that every user can reach.
    pub(crate) fn boxbuild_for_all(&self) -> Command {
        let copy = self.path("boxbuild");
        executable::copy(&test_env().expect("checked before").boxbuild, &copy);
        self.marked(&copy)
    }

    fn marked(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.sandbox.mark_command(&mut command);
        command
    }

    /// Adds the separator and the two folders.
    pub(crate) fn behind_separator(&self, command: &mut Command, description: &str, target: &str) {
        command
            .arg("--")
            .arg("--description")
            .arg(self.path(description))
            .arg("--target-dir")
            .arg(self.path(target));
    }

    /// A build in a container.
    pub(crate) fn build_command(&self, description: &str, target: &str, front: &[&str]) -> Command {
        self.build_of(self.box_name(), description, target, front)
    }

    /// The same in another box.
    pub(crate) fn build_of(
        &self,
        name: &str,
        description: &str,
        target: &str,
        front: &[&str],
    ) -> Command {
        let mut command = self.boxbuild();
        command.arg("--container").args(mode());
        command.args(["--box", name]).args(front);
        self.behind_separator(&mut command, description, target);
        command
    }

    /// Runs a build in a container to its end.
    #[track_caller]
    pub(crate) fn build(&self, description: &str, target: &str) -> ProcessOutput {
        ProcessOutput::of(&mut self.build_command(description, target, &[]))
    }

    /// Reads a file below the sandbox.
    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Makes a box whose container image is `image`, its entry in box.json.
    pub(crate) fn write_box(&self, name: &str, image: Option<&str>) {
        write_box(&self.sandbox.store(), name, image);
    }

    /// Makes the box `published`, whose image is on this host as if it had been pulled, and has an entry
    /// point of its own.
    pub(crate) fn import_published(&self) {
        let image = format!("localhost/boxbuild/{}:published", self.box_name());
        self.write_box("published", Some(&format!("{{\"registry\":\"{image}\"}}")));
        let archive = self.sandbox.store().join(self.box_name()).join("container");
        let mut import = self.podman();
        import.args(["import", "--quiet", "--change"]);
        import.arg("ENTRYPOINT [\"/published\"]").arg(archive);
        ProcessOutput::of(import.arg(image)).expect(0, &[]);
    }

    /// Podman, as the program under test runs it.
    pub(crate) fn podman(&self) -> Command {
        podman(&self.sandbox.temp())
    }

    /// Returns the lines that podman prints, none if it fails.
    pub(crate) fn podman_lines(&self, words: &[&str]) -> Vec<String> {
        podman_lines(&self.sandbox.temp(), words)
    }

    /// Fails unless all of a build is gone: its container, temporary files, mounts, loop devices.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let image = format!("boxbuild/{}:", self.box_name());
        let mark = format!("mark-{}", self.box_name());
        leftovers::assert_none(|| {
            let format = "{{.Image}} {{.Names}}";
            let mut left = self.podman_lines(&["ps", "--all", "--format", format]);
            left.retain(|line| line.contains(&image));
            let temporary = boxbuild_tests::names(&self.sandbox.temp());
            left.extend(
                temporary
                    .into_iter()
                    .filter(|name| name.starts_with("boxbuild-")),
            );
            left.extend(leftovers::loop_devices(&mark));
            left.extend(leftovers::kernel_objects(&mark));
            left
        });
    }

    /// Makes the box's container image: busybox, a stand-in for kiwi-ng, an entry point.
    fn make_image(&self) {
        let tree = self.path("tree");
        let busybox = find("busybox").expect("checked before");
        for folder in FOLDERS {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        fs::copy(&busybox, tree.join("bin/busybox")).unwrap();
        let applets = Command::new(&busybox).arg("--list").output().unwrap();
        for applet in String::from_utf8_lossy(&applets.stdout).lines() {
            if applet != "busybox" {
                symlink("busybox", tree.join("bin").join(applet)).unwrap();
            }
        }
        for (to, link) in [
            ("bin", "sbin"),
            ("../bin", "usr/bin"),
            ("../bin", "usr/sbin"),
        ] {
            symlink(to, tree.join(link)).unwrap();
        }
        for (name, script) in [("bin/kiwi-ng", KIWI), ("published", ENTRY_POINT)] {
            fs::write(tree.join(name), script).unwrap();
            let all = fs::Permissions::from_mode(0o755);
            fs::set_permissions(tree.join(name), all).unwrap();
        }
        let folder = self.sandbox.store().join(self.box_name());
        fs::create_dir(&folder).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&tree);
        tar.args(["--owner=0", "--group=0", "-czf"]);
        let status = tar.arg(folder.join("container")).arg(".").status();
        assert!(status.unwrap().success());
        self.write_box(self.box_name(), Some(&entry(&folder, "container")));
    }
}

impl Drop for ContainerSandbox {
    fn drop(&mut self) {
        let start = format!("localhost/boxbuild/{}:", self.box_name());
        let mut images = self.podman_lines(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        images.retain(|image| image.starts_with(&start));
        if !images.is_empty() {
            let _ = self.podman().args(["image", "rm"]).args(images).output();
        }
    }
}

/// Makes the box `name` in `store`: three small files, and a container image that is `image` in
/// box.json.
pub(super) fn write_box(store: &Path, name: &str, image: Option<&str>) {
    let folder = store.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut entries = String::new();
    for file in ["kernel", "initrd", "disk"] {
        fs::write(folder.join(file), format!("{file}\n")).unwrap();
        entries += &format!("\"{file}\":{},", entry(&folder, file));
    }
    let image = image.map_or(String::new(), |image| format!(",\"container\":{image}"));
    let text = format!(
        "{{\"format\":1,\"name\":\"{name}\",\"origin\":\"test\",\"arch\":\"{}\",\"created\":0,{entries}\
         \"disk_size\":7,\"cmdline\":[\"root=/dev/vda1\"],\"console\":\"hvc0\",\"guest\":\"fast\",\
         \"kiwi\":null,\"memory_mib\":512,\"cpus\":1{image}}}\n",
        std::env::consts::ARCH
    );
    fs::write(folder.join("box.json"), text).unwrap();
}

/// Returns the entry of a file of a box in its box.json.
pub(super) fn entry(folder: &Path, file: &str) -> String {
    let path = folder.join(file);
    let size = fs::metadata(&path).unwrap().len();
    let sum = Command::new("sha256sum").arg(&path).output().unwrap();
    let sum = String::from_utf8_lossy(&sum.stdout);
    let sum = sum.split(' ').next().unwrap_or_default();
    format!("{{\"name\":\"{file}\",\"size\":{size},\"sha256\":\"{sum}\"}}")
}
