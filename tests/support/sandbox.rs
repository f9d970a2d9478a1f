//! A test's own home folder, box store, description and target folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::leftovers::{self, MARK};
use crate::{ProcessOutput, Running, engine, names, test_env};

/// Folders of one test, which go when it ends, and boxbuild with all of them.
#[derive(Debug)]
pub struct Sandbox {
    dir: tempfile::TempDir,
    mark: String,
    boxbuild: PathBuf,
    box_name: String,
    description: PathBuf,
    target: PathBuf,
    cache: PathBuf,
}

impl Sandbox {
    /// A sandbox with the box `small`, whose guest runs `script`.
    pub fn new(script: &str) -> Sandbox {
        Sandbox::named(script, OsStr::new("description"), OsStr::new("target"))
    }

    /// The same with another box than `small`; `None` if there is no such box here.
    pub fn with_box(name: &str, script: &str) -> Option<Sandbox> {
        crate::env::boxes(small_boxes())
            .iter()
            .any(|known| known == name)
            .then(|| {
                let sandbox = Sandbox::without_box(name);
                sandbox.script(script);
                sandbox.link_box(name);
                sandbox
            })
    }

    /// The same with names of the caller's choice for the two folders.
    pub fn named(script: &str, description: &OsStr, target: &OsStr) -> Sandbox {
        let mut sandbox = Sandbox::without_box("small");
        let moved = sandbox.dir.path().join(description);
        fs::rename(&sandbox.description, &moved).unwrap();
        sandbox.description = moved;
        sandbox.target = sandbox.dir.path().join(target);
        sandbox.script(script);
        sandbox.link_box("small");
        sandbox
    }

    /// A sandbox with an empty store, in which the test makes the box `name`.
    pub fn without_box(name: &str) -> Sandbox {
        Sandbox::below(&std::env::temp_dir(), name)
    }

    /// The same with its folders below `parent`.
    pub fn below(parent: &Path, name: &str) -> Sandbox {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let env = test_env().expect("checked before the tests ran");
        let dir = tempfile::Builder::new()
            .prefix("boxbuild-e2e-")
            .tempdir_in(parent)
            .expect("a folder");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = |name: &str| dir.path().join(name);
        for name in ["store", "home", "tmp"] {
            fs::create_dir(path(name)).unwrap();
        }
        let sandbox = Sandbox {
            mark: format!("{}-{number}", std::process::id()),
            boxbuild: env.boxbuild.clone(),
            box_name: name.to_owned(),
            description: path("description"),
            target: path("target"),
            cache: env.cache.clone(),
            dir,
        };
        sandbox.describe("description", "");
        sandbox
    }

    /// Links a box of the test store into this one: what is left in it is seen.
    fn link_box(&self, name: &str) {
        link_box(&small_boxes().join(name), &self.store().join(name));
    }

    /// Gives this sandbox a disk of its own, which a build may write into.
    pub fn own_disk(&self) {
        let disk = self.store().join("small/disk.qcow2");
        let copy = self.store().join("copy");
        fs::copy(&disk, &copy).unwrap();
        fs::rename(copy, disk).unwrap();
    }

    /// A value that no other sandbox has.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The name of the box that builds use.
    pub fn box_name(&self) -> &str {
        &self.box_name
    }

    /// A path below the sandbox.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The description folder.
    pub fn description(&self) -> PathBuf {
        self.description.clone()
    }

    /// The target folder, which the first build makes.
    pub fn target(&self) -> PathBuf {
        self.target.clone()
    }

    /// The box store.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// The folder for temporary files.
    pub fn temp(&self) -> PathBuf {
        self.path("tmp")
    }

    /// Reads a file of the target folder.
    #[track_caller]
    pub fn result(&self, name: &str) -> String {
        let path = self.target.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Changes what the guest runs.
    pub fn script(&self, script: &str) {
        fs::write(self.description.join("script.sh"), script).unwrap();
    }

    /// Makes another description folder, whose guest runs `script`.
    pub fn describe(&self, name: &str, script: &str) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.xml"), "<image/>").unwrap();
        fs::write(folder.join("script.sh"), script).unwrap();
        folder
    }

    /// boxbuild with `args`, ready to be run.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.boxbuild);
        self.mark_command(&mut command);
        command.args(args).env("HOME", self.path("home"));
        command
    }

    /// Gives `command` the environment of this sandbox, except for `HOME`.
    pub fn mark_command(&self, command: &mut Command) {
        command
            .env(MARK, &self.mark)
            .env("KIWI_BOXED_CACHE_DIR", self.store())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("BOXBUILD_NO_CONFIG", "1")
            .env("XDG_CACHE_HOME", &self.cache)
            .env("TMPDIR", self.temp())
            .env("RUST_BACKTRACE", "1");
    }

    /// A build with options in front of the separator and behind it.
    pub fn build_command(&self, front: &[&str], back: &[&str]) -> Command {
        self.build_command_to(&self.target, front, back)
    }

    /// The same into the folder `target`.
    pub fn build_command_to(&self, target: &Path, front: &[&str], back: &[&str]) -> Command {
        let mut command = self.command(["--box", &self.box_name]);
        if !front.contains(&"--engine") {
            command.args(["--engine", &engine()]);
        }
        if !front.iter().any(|word| word.starts_with("--keep-failed")) {
            command.arg("--keep-failed=no");
        }
        command.args(front);
        self.behind_separator(&mut command, target);
        command.args(back);
        command
    }

    /// Adds the separator, the description and the folder `target`.
    pub fn behind_separator(&self, command: &mut Command, target: &Path) {
        command
            .arg("--")
            .arg("--description")
            .arg(&self.description);
        command.arg("--target-dir").arg(target);
    }

    /// Runs a build to its end.
    #[track_caller]
    pub fn build(&self, front: &[&str], back: &[&str]) -> ProcessOutput {
        ProcessOutput::of(&mut self.build_command(front, back))
    }

    /// Runs a build into another folder of the sandbox to its end.
    #[track_caller]
    pub fn build_to(&self, target: &str, front: &[&str]) -> ProcessOutput {
        ProcessOutput::of(&mut self.build_command_to(&self.path(target), front, &[]))
    }

    /// Runs boxbuild to its end.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> ProcessOutput {
        ProcessOutput::of(&mut self.command(args))
    }

    /// Starts a build and waits until `text` is on standard error.
    #[track_caller]
    pub fn start_until(&self, front: &[&str], text: &str) -> Running {
        let mut running = Running::start(&mut self.build_command(front, &[]));
        running.wait_for(text);
        running
    }

    /// Processes of this sandbox that still run, by their names.
    pub fn processes(&self) -> Vec<String> {
        leftovers::processes(&self.mark)
    }

    /// Waits until the machine of a build of this sandbox is being made.
    pub fn wait_for_machine(&self, build: &mut Running) {
        let build_pid = build.pid().as_raw();
        build.wait_until("its machine", |_| {
            let has_vcpu = leftovers::jailed(build_pid)
                .into_iter()
                .flat_map(|process| fs::read_dir(process.join("task")))
                .flatten()
                .filter_map(Result::ok)
                .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
                .any(|name| name.starts_with("vcpu"));
            has_vcpu || self.processes().iter().any(|name| name.starts_with("qemu"))
        });
    }

    /// Fails unless nothing of a build is left: no process, no temporary file, no mount, no socket,
    /// no loop device, and in the store only the box.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        self.assert_only_left(&[]);
    }

    /// The same, where the empty folders `also` may be in the store.
    #[track_caller]
    pub fn assert_only_left(&self, also: &[&str]) {
        leftovers::assert_none(|| self.left(also));
    }

    /// The same, where the folders `also` may be in the store with what is in them.
    #[track_caller]
    pub fn assert_nothing_left_but(&self, also: &[&str]) {
        leftovers::assert_none(|| {
            let mut left = self.left(&[]);
            left.retain(|name| !also.contains(&name.as_str()));
            left
        });
    }

    fn left(&self, also: &[&str]) -> Vec<String> {
        let folder = self.dir.path().to_string_lossy();
        let mut left = self.processes();
        let expected = |name: &String| {
            *name == self.box_name
                || also.contains(&name.as_str()) && names(&self.store().join(name)).is_empty()
        };
        let in_store = names(&self.store());
        if !in_store.contains(&self.box_name) {
            left.push(format!("the store without {}", self.box_name));
        }
        left.extend(in_store.into_iter().filter(|name| !expected(name)));
        left.extend(names(&self.temp()));
        left.extend(leftovers::kernel_objects(&folder));
        left.extend(leftovers::loop_devices(&folder));
        left.extend(leftovers::loop_devices(&format!("mark-{}", self.mark)));
        left
    }
}

/// Returns the store with the small boxes.
#[track_caller]
pub fn small_boxes() -> &'static Path {
    crate::env::small_boxes().expect("the small boxes can be made")
}

/// Makes the folder `to` with links to the files of the box folder `from`, or copies of them where
/// they are on another file system.
pub fn link_box(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        fs::hard_link(&from, &to)
            .or_else(|_| fs::copy(&from, &to).map(|_| ()))
            .unwrap();
    }
}

/// Copies the files of the box folder `from` to the folder `to`, which is made.
pub fn copy_box(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
}
