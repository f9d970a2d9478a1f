//! The real box that these tests share, sandboxes with it, and what a real image must be.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use boxbuild_tests::env::{self, setup};
use boxbuild_tests::sandbox::link_box;
use boxbuild_tests::{ProcessOutput, Running, Sandbox, leftovers, test_env};

/// Far more than a real build takes in emulation beside other work.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(2 * 3600);

/// Folders of this size belong there and not to /tmp, which may be in memory.
fn parent() -> PathBuf {
    std::env::var_os("TMPDIR").map_or("/var/tmp".into(), PathBuf::from)
}

/// The folder that the tests share: it goes with this value.
#[derive(Debug)]
pub(crate) struct Shared {
    _folder: tempfile::TempDir,
}

static SHARED: Mutex<Option<PathBuf>> = Mutex::new(None);

impl Shared {
    pub(crate) fn new() -> Shared {
        let folder = tempfile::Builder::new()
            .prefix("boxbuild-full-")
            .tempdir_in(parent())
            .expect("a folder");
        *SHARED.lock().unwrap() = Some(folder.path().to_owned());
        Shared { _folder: folder }
    }
}

/// Returns the folder of a box made from the distribution's packages, which the first call makes.
fn real_box() -> PathBuf {
    static MADE: Mutex<Option<Result<(), String>>> = Mutex::new(None);
    let mut made = MADE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let store = SHARED.lock().unwrap().clone().expect("main has made it");
    let result = made.get_or_insert_with(|| {
        let sandbox = RealSandbox::without_box();
        let mut create = sandbox.command();
        create.args(["box", "create", "debian", "--from", "debian:trixie"]);
        create.env("KIWI_BOXED_CACHE_DIR", &store);
        let output = Running::start(&mut create).limit(BUILD_LIMIT).finish();
        if output.code == 0 {
            Ok(())
        } else {
            Err(format!("box create: {output:#?}"))
        }
    });
    result.as_ref().expect("a real box can be made");
    store.join("debian")
}

/// The folder of a description of tests/descriptions.
pub(crate) fn description(name: &str) -> PathBuf {
    env::tests().join("descriptions").join(name)
}

/// The value of `--set-repo` for trixie from the host's mirror.
pub(crate) fn repository() -> String {
    setup("repo-option", ["trixie"]).expect("the host's mirror")
}

/// A sandbox with the real box `debian`.
pub(crate) struct RealSandbox {
    sandbox: Sandbox,
    /// Folders of `box create` that were there before.
    before: Vec<String>,
}

impl RealSandbox {
    pub(crate) fn new() -> RealSandbox {
        let made = real_box();
        let sandbox = RealSandbox::without_box();
        link_box(&made, &sandbox.the_box());
        sandbox
    }

    /// A sandbox with an empty store.
    pub(crate) fn without_box() -> RealSandbox {
        let sandbox = Sandbox::below(&parent(), "debian");
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(sandbox.path("."), all).unwrap();
        RealSandbox {
            sandbox,
            before: create_folders(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    /// The folder of its box.
    pub(crate) fn the_box(&self) -> PathBuf {
        self.path("store/debian")
    }

    /// A program with the sandbox's environment and this user's home folder, where rootless podman
    /// has its images.
    pub(crate) fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.sandbox.mark_command(&mut command);
        command
    }

    /// boxbuild.
    pub(crate) fn command(&self) -> Command {
        self.program(&test_env().expect("checked before").boxbuild)
    }

    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> ProcessOutput {
        ProcessOutput::of(self.command().args(words))
    }

    /// A build of `description` into the folder `target` of the sandbox.
    pub(crate) fn build_command(
        &self,
        description: &Path,
        target: &str,
        front: &[&str],
    ) -> Command {
        let mut command = self.command();
        command.args(["--box", "debian"]).args(front);
        command.args(["--", "--description"]).arg(description);
        command.arg("--target-dir").arg(self.path(target));
        command.arg("--set-repo").arg(repository());
        command
    }

    /// Starts such a build.
    pub(crate) fn start(&self, description: &Path, target: &str, front: &[&str]) -> Running {
        let mut command = self.build_command(description, target, front);
        Running::start(&mut command).limit(BUILD_LIMIT)
    }

    /// Fails if a compiled module of kiwi in the box is out of date, so that each build would compile
    /// it again: Python takes one for valid if it has its source's time, or (flag) its hash
    /// (docs.python.org, PEP 552).
    pub(crate) fn check_compiled_modules(&self) {
        let archive = boxbuild_tests::names(&self.the_box())
            .into_iter()
            .find(|name| name.starts_with("container-"));
        let modules = self.path("modules");
        fs::create_dir(&modules).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(self.the_box().join(archive.unwrap()));
        tar.arg("-C").arg(&modules).args([
            "--wildcards",
            "./usr/local/lib/python3*/dist-packages/kiwi/*",
        ]);
        assert!(tar.status().unwrap().success());
        let compiled = files(&modules)
            .into_iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "pyc"));
        let mut checked = 0;
        for module in compiled {
            let name = module.file_name().unwrap().to_string_lossy().into_owned();
            let source = module.parent().and_then(Path::parent).unwrap();
            let source = source.join(format!("{}.py", name.split('.').next().unwrap()));
            let head = fs::read(&module).unwrap();
            let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
            let time = fs::metadata(&source).unwrap().mtime() as u32;
            let by_hash = number(4) & 1 == 1;
            assert!(by_hash || number(8) == time, "{module:?} is not of {time}");
            checked += 1;
        }
        assert!(checked > 50, "{checked} compiled modules");
    }

    /// Fails unless nothing of a build is left, and nothing where `box create` works.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        // Failed builds are kept in .builds until they are removed.
        let builds = self.path("store/.builds").exists();
        let also: &[&str] = if builds { &[".builds"] } else { &[] };
        self.sandbox.assert_only_left(also);
        if !leftovers::is_running("mmdebstrap") {
            leftovers::assert_none(|| {
                let folders = create_folders();
                folders
                    .into_iter()
                    .filter(|name| !self.before.contains(name))
                    .collect()
            });
        }
    }
}

/// Returns the folders that `box create` has in /var/tmp. Other users of this host may make boxes,
/// too.
pub(crate) fn create_folders() -> Vec<String> {
    let mut folders = leftovers::work_folders(Path::new("/var/tmp"));
    let of_tests = ["boxbuild-e2e-", "boxbuild-full-", "boxbuild-user-"];
    folders.retain(|name| !of_tests.iter().any(|start| name.starts_with(start)));
    folders
}

/// Waits until `condition` holds, for a minute at most.
pub(crate) fn wait_a_minute(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Returns all files below `folder`, without its folders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files
}

fn find(target: &Path, suffix: &str) -> Option<PathBuf> {
    let names = boxbuild_tests::names(target);
    let name = names
        .iter()
        .find(|name| name.starts_with("mini.") && name.ends_with(suffix))?;
    Some(target.join(name))
}

/// Returns the image of the description `mini` in `target`, if there is one.
pub(crate) fn find_image(target: &Path) -> Option<PathBuf> {
    find(target, ".tar.xz")
}

/// Returns the list of the image's packages.
pub(crate) fn packages(target: &Path) -> String {
    let list = find(target, ".packages").expect("a list of packages");
    fs::read_to_string(list).unwrap()
}

/// Fails unless the image in `target` has the packages of all others that were built in this run.
#[track_caller]
pub(crate) fn assert_same_packages(target: &Path) {
    static FIRST: Mutex<Option<String>> = Mutex::new(None);
    let packages = packages(target);
    let mut first = FIRST
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let first = first.get_or_insert_with(|| packages.clone());
    assert!(*first == packages, "another image:\n{first}\n{packages}");
}

/// Returns the names in an archive.
pub(crate) fn members(archive: &Path) -> Vec<String> {
    let output = Command::new("tar")
        .arg("-tf")
        .arg(archive)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let names = String::from_utf8_lossy(&output.stdout);
    names.lines().map(str::to_owned).collect()
}

/// Fails unless the archive in `target` is a Debian root, with its checksum, and the target is as a
/// build leaves it.
#[track_caller]
pub(crate) fn check_image(target: &Path) {
    let image = find_image(target).expect("an image");
    let members = members(&image);
    for member in ["etc/os-release", "var/lib/dpkg/status", "usr/bin/apt-get"] {
        let found = members
            .iter()
            .any(|name| name.trim_start_matches("./") == member);
        assert!(found, "{} has no {member}", image.display());
    }
    let code = fs::read_to_string(target.join("result.code")).unwrap();
    assert_eq!(code, "0\n");
    let mut beside = image.clone().into_os_string();
    beside.push(".sha256");
    let beside = fs::read_to_string(beside).unwrap();
    let sum = Command::new("sha256sum").arg(&image).output().unwrap();
    let sum = String::from_utf8_lossy(&sum.stdout);
    assert_eq!(beside.split(' ').next(), sum.split(' ').next());
    let own = nix::unistd::geteuid().as_raw();
    assert!(!target.join(".boxbuild.partial").exists());
    for entry in fs::read_dir(target).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.uid()),
            (0o644, own),
            "{entry:?}"
        );
    }
}

/// Fails unless all files below `folder` belong to `uid`.
#[track_caller]
pub(crate) fn assert_owner(folder: &Path, uid: u32) {
    for file in files(folder) {
        assert_eq!(fs::symlink_metadata(&file).unwrap().uid(), uid, "{file:?}");
    }
}

/// Gives all of `folder` to the user and group `id`.
pub(crate) fn give_to(folder: &Path, id: u32) {
    chown(folder, Some(id), Some(id)).unwrap();
    for file in files(folder) {
        chown(file, Some(id), Some(id)).unwrap();
    }
}
