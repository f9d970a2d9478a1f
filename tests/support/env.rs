//! Where the program, the boxes and the scripts of the tests are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::small_box::{self, Boxes};
use crate::{command, names, sshd};

/// The program under test, seen from the top of the repository; without it, it is built.
pub const BOXBUILD: &str = "BOXBUILD";
/// The store with the small boxes; without it, they are made.
pub const STORE: &str = "BOXBUILD_TEST_STORE";
/// The folder with the distribution's sshd ([`crate::sshd`]).
pub const SSHD: &str = "BOXBUILD_TEST_SSHD";
/// The hostile guest's program (`tests/e2e/isolation/attacker.c`); without it, it is compiled.
pub const ATTACKER: &str = "BOXBUILD_TEST_ATTACKER";
/// The engine under test: `qemu` or `kvm` for machines, `podman` for containers.
pub const ENGINE: &str = "BOXBUILD_TEST_ENGINE";
/// The folder `tests`, where it is not the one that the tests were compiled in.
pub const TESTS: &str = "BOXBUILD_TEST_FOLDER";
/// A suite of Debian, e.g. `trixie-backports`, whose kernel the small boxes have; otherwise the host's.
pub const KERNEL: &str = "BOXBUILD_TEST_KERNEL";
/// The architecture of the small boxes, where it is not the host's: under qemu they are emulated, and
/// under kvm they run in the lab's machine of that architecture.
pub const ARCH: &str = "BOXBUILD_TEST_ARCH";
/// A user with subordinate ids, whom root becomes for the tests of rootless containers.
pub const USER: &str = "BOXBUILD_TEST_USER";

/// What all tests of a process use.
#[derive(Debug, Clone)]
pub struct TestEnv {
    /// The program.
    pub boxbuild: PathBuf,
    /// For what boxbuild remembers of boxes: `XDG_CACHE_HOME` of all sandboxes.
    pub cache: PathBuf,
}

/// Returns the test environment. The first call builds the program, unless [`BOXBUILD`] names one.
///
/// # Errors
/// If the program cannot be built.
pub fn test_env() -> Result<&'static TestEnv, String> {
    static TEST_ENV: OnceLock<Result<TestEnv, String>> = OnceLock::new();
    let prepare = || {
        let cache = if in_lab() {
            std::env::temp_dir().join("test-cache")
        } else {
            target().join("test-cache")
        };
        boxbuild().map(|boxbuild| TestEnv { boxbuild, cache })
    };
    TEST_ENV
        .get_or_init(prepare)
        .as_ref()
        .map_err(String::clone)
}

/// Returns the store with the small boxes. The first call makes them, unless [`STORE`] names a store.
///
/// # Errors
/// If they cannot be made here.
pub fn small_boxes() -> Result<&'static Path, String> {
    static BOXES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let boxes = BOXES.get_or_init(|| match std::env::var_os(STORE) {
        Some(store) => Ok(PathBuf::from(store)),
        None => make_small_boxes(),
    });
    boxes.as_deref().map_err(String::clone)
}

/// Returns the program under test, which is built unless [`BOXBUILD`] names one.
///
/// # Errors
/// If it cannot be built.
fn boxbuild() -> Result<PathBuf, String> {
    if let Some(program) = std::env::var_os(BOXBUILD) {
        // Cargo runs tests in the folder of their package.
        return Ok(top().join(program));
    }
    // By itself: what other packages' tests switch on (unchecked names in a share) is not in it.
    let words = ["--package", "boxbuild"];
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    cargo_build(profile, &words).map(|folder| folder.join("boxbuild"))
}

/// Builds with cargo and returns the folder of the results. `profile` is `debug` or `release`.
///
/// # Errors
/// If cargo fails.
pub fn cargo_build(profile: &str, words: &[&str]) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]).args(words);
    if profile == "release" {
        command.arg("--release");
    }
    let status = command
        .current_dir(top())
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err(format!("cargo build {}: {status}", words.join(" ")));
    }
    Ok(target().join(profile))
}

/// Makes the small boxes that are not there yet, and sshd for them.
fn make_small_boxes() -> Result<PathBuf, String> {
    let suite = std::env::var(KERNEL).ok();
    let arch = foreign_arch();
    let words = ["test-boxes"].into_iter().chain(arch.as_deref());
    let words: Vec<&str> = words.chain(suite.as_deref()).collect();
    let store = target().join(words.join("-"));
    let make = || -> anyhow::Result<()> {
        let host = std::env::consts::ARCH;
        let own = arch.as_deref().unwrap_or(host);
        small_box::make(&store, own, suite.as_deref(), Boxes::All)?;
        let has_emulator = || command::find("qemu-system-aarch64").is_ok();
        if own == "x86_64" && suite.is_none() && has_emulator() {
            small_box::make(&store, "aarch64", None, Boxes::OneMore)?;
        }
        if let Some(reason) = sshd::make(&sshd_folder())? {
            println!("no sshd for the tests: {reason}");
        }
        Ok(())
    };
    make().map_err(|error| format!("{error:#}"))?;
    Ok(store)
}

/// The folder with the distribution's sshd, if that could be had.
pub fn sshd_folder() -> PathBuf {
    std::env::var_os(SSHD).map_or_else(|| target().join("test-sshd"), PathBuf::from)
}

/// Returns the names of the boxes in `store`.
pub fn boxes(store: &Path) -> Vec<String> {
    let mut names = names(store);
    names.retain(|name| store.join(name).join("box.json").exists());
    names
}

/// Returns the engine under test, `qemu` unless [`ENGINE`] says otherwise.
pub fn engine() -> String {
    std::env::var(ENGINE).unwrap_or_else(|_| String::from("qemu"))
}

/// Returns the architecture of the small boxes, if it is not the host's.
pub fn foreign_arch() -> Option<String> {
    std::env::var(ARCH)
        .ok()
        .filter(|arch| arch != std::env::consts::ARCH)
}

/// Returns the architecture of the small boxes.
pub fn boxes_arch() -> String {
    foreign_arch().unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Whether this process runs in the lab (docs/lab.md).
pub fn in_lab() -> bool {
    std::env::var_os("BOXBUILD_LAB").is_some()
}

/// Returns a time limit that is longer in the lab, where a guest runs in an emulated machine.
pub fn scaled_timeout(seconds: u64) -> Duration {
    Duration::from_secs(if in_lab() { seconds * 4 } else { seconds })
}

/// The folder `tests` of the repository.
pub fn tests() -> PathBuf {
    let compiled_in = || PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os(TESTS).map_or_else(compiled_in, PathBuf::from)
}

/// The top of the repository, without links and `..`: the lab has files at the same paths.
pub fn top() -> PathBuf {
    let top = tests().join("..");
    top.canonicalize().unwrap_or(top)
}

/// The folder in which cargo and the tests put what they make.
pub fn target() -> PathBuf {
    top().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Runs a script of `tests/setup` and returns the line that it prints.
///
/// # Errors
/// If it fails; what it says goes to standard error.
pub fn setup<S: AsRef<OsStr>>(
    script: &str,
    words: impl IntoIterator<Item = S>,
) -> Result<String, String> {
    print_line(&tests().join("setup").join(script), words)
}

/// Runs a program and returns the line that it prints.
///
/// # Errors
/// If it fails; what it says goes to standard error.
pub fn print_line<S: AsRef<OsStr>>(
    program: &Path,
    words: impl IntoIterator<Item = S>,
) -> Result<String, String> {
    let output = Command::new(program)
        .args(words)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", program.display(), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Prints that `test` cannot run here, on a line of its own, which tests/setup/counted counts.
pub fn skip(test: &str, reason: &str) {
    println!("\nskipped: {test}: {}", reason.trim());
}
