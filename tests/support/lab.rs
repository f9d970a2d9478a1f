//! Where tests that need KVM run: on the host's own /dev/kvm if it is a true one, else in the
//! lab (docs/lab.md), else not at all, with the reason.
//!
//! ```no_run
//! use boxbuild_tests::lab::{TestBed, Run};
//!
//! let bed = TestBed::find();
//! println!("test bed: {bed}");
//! if let Some(mut command) = bed.command(&Run::new("/path/of/program").arg("--flag")) {
//!     assert!(command.status().unwrap().success());
//! }
//! ```
//!
//! `BOXBUILD_TEST_BED` = `kvm`, `lab` or `none` decides without looking.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

/// A true /dev/kvm needs milliseconds, the lab's a second.
const SMOKE_LIMIT: Duration = Duration::from_secs(20);

/// Where tests that need KVM run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestBed {
    /// Here: /dev/kvm passed the smoke test, or this is the lab already.
    Kvm,
    /// In the lab; why not here.
    Lab {
        /// What is wrong with the host's /dev/kvm.
        reason: String,
    },
    /// Nowhere.
    None {
        /// What is wrong with both.
        reason: String,
    },
}

impl fmt::Display for TestBed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TestBed::Kvm => write!(f, "/dev/kvm"),
            TestBed::Lab { reason } => write!(f, "lab ({reason})"),
            TestBed::None { reason } => write!(f, "none ({reason})"),
        }
    }
}

impl TestBed {
    /// Looks for a test bed. Takes up to a minute where the lab's kernel must be fetched.
    pub fn find() -> TestBed {
        let asked_for = std::env::var("BOXBUILD_TEST_BED").unwrap_or_default();
        if crate::env::in_lab() {
            return TestBed::Kvm;
        }
        choose(&asked_for, host_kvm, check)
    }

    /// The lab's machine of another architecture than the host's, if it can be had.
    pub fn of_foreign(arch: &str) -> TestBed {
        if crate::env::in_lab() {
            return TestBed::Kvm;
        }
        let reason = format!("for {arch}");
        match stdout_of(Command::new(program()).args(["--arch", arch, "--check"])) {
            Ok(_) => TestBed::Lab { reason },
            Err(error) => TestBed::None {
                reason: format!("{reason}: {error}"),
            },
        }
    }

    /// Returns the command that runs `run` on this bed, if there is one.
    pub fn command(&self, run: &Run) -> Option<Command> {
        match self {
            TestBed::None { .. } => None,
            TestBed::Kvm => {
                let mut command = Command::new(&run.program);
                command.args(&run.arguments);
                Some(command)
            }
            TestBed::Lab { .. } => {
                let mut command = Command::new(program());
                command.args(&run.options).arg("--").arg(&run.program);
                command.args(&run.arguments);
                Some(command)
            }
        }
    }
}

/// A program of the host to be run where /dev/kvm is true.
#[derive(Debug, Clone)]
pub struct Run {
    program: OsString,
    arguments: Vec<OsString>,
    options: Vec<OsString>,
}

impl Run {
    /// Runs `program`, a path.
    pub fn new(program: impl Into<OsString>) -> Run {
        Run {
            program: program.into(),
            arguments: Vec::new(),
            options: Vec::new(),
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Run {
        self.arguments.push(argument.into());
        self
    }

    /// A file or folder that the program needs; the lab has it at the same path.
    #[must_use]
    pub fn file(self, path: &Path) -> Run {
        self.lab_options(["--file".as_ref(), path.as_os_str()])
    }

    /// Options of tests/lab/lab, as `["--user"]` or `["--memory", "4096"]`. They mean nothing
    /// on the host's own KVM.
    #[must_use]
    pub fn lab_options<S: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = S>) -> Run {
        let options = options.into_iter().map(|s| s.as_ref().to_owned());
        self.options.extend(options);
        self
    }
}

/// Returns the folder of an unpacked kernel package of Debian: `vmlinuz`, `lib/modules`. `suite` is
/// `bookworm` or `trixie`, `flavour` `cloud-amd64` or `amd64`.
///
/// # Errors
/// If the package cannot be had.
pub fn kernel(suite: &str, flavour: &str) -> Result<PathBuf, String> {
    let line = stdout_of(Command::new(program()).args(["kernel", suite, flavour]))?;
    Ok(PathBuf::from(line.trim_end()))
}

/// Returns the folder of a guest made of a Debian release's packages, which the first call makes in
/// minutes. The words are suite, kernel flavour, what makes the initrd, and file system
/// (tests/lab/guests).
///
/// # Errors
/// If it cannot be made.
pub fn guest(words: [&str; 4]) -> Result<PathBuf, String> {
    let words = [&["guest"], words.as_slice()].concat();
    crate::env::print_line(&program(), words).map(PathBuf::from)
}

/// Returns why the lab cannot be used here, if it cannot.
///
/// # Errors
/// The reason.
pub fn check() -> Result<(), String> {
    stdout_of(Command::new(program()).arg("--check")).map(|_| ())
}

/// The lab's program, which cargo builds beside the tests; elsewhere the script that builds it first.
fn program() -> PathBuf {
    let tests = std::env::current_exe().ok();
    let beside = tests.and_then(|path| Some(path.parent()?.parent()?.join("lab")));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| crate::env::tests().join("lab/lab"))
}

fn choose(
    asked_for: &str,
    host_kvm: impl FnOnce() -> Result<(), String>,
    lab: impl FnOnce() -> Result<(), String>,
) -> TestBed {
    let asked = |what: &str| format!("BOXBUILD_TEST_BED={what}");
    let reason = match asked_for {
        "kvm" => return TestBed::Kvm,
        "none" => {
            return TestBed::None {
                reason: asked(asked_for),
            };
        }
        "lab" => asked(asked_for),
        "" => match host_kvm() {
            Ok(()) => return TestBed::Kvm,
            Err(reason) => reason,
        },
        _ => {
            let reason = asked(asked_for) + ": not one of kvm, lab, none";
            return TestBed::None { reason };
        }
    };
    match lab() {
        Ok(()) => TestBed::Lab { reason },
        Err(error) => TestBed::None {
            reason: format!("{reason}; {error}"),
        },
    }
}

/// Runs the smoke test on the host's own /dev/kvm.
fn host_kvm() -> Result<(), String> {
    let (sender, ended) = mpsc::channel();
    // A thread of its own, left behind if the guest is lost.
    std::thread::spawn(move || sender.send(super::smoke::smoke().map_err(|e| e.to_string())));
    match ended.recv_timeout(SMOKE_LIMIT) {
        Ok(result) => result.map_err(|error| format!("/dev/kvm: {error}")),
        Err(mpsc::RecvTimeoutError::Timeout) => Err("/dev/kvm: the smoke test hangs".to_owned()),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err("/dev/kvm: the smoke test panicked".to_owned())
        }
    }
}

fn stdout_of(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(stderr.trim_end().lines().last().unwrap_or("").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Result<(), String> {
        Err("broken".to_owned())
    }

    fn never() -> Result<(), String> {
        panic!("asked although decided")
    }

    #[test]
    fn a_true_kvm_comes_first_then_the_lab_then_the_reasons_of_both() {
        assert_eq!(choose("", || Ok(()), never), TestBed::Kvm);
        let reason = "broken".to_owned();
        assert_eq!(choose("", broken, || Ok(())), TestBed::Lab { reason });
        let reason = "broken; broken".to_owned();
        assert_eq!(choose("", broken, broken), TestBed::None { reason });
    }

    #[test]
    fn a_bed_that_is_asked_for_is_taken() {
        assert_eq!(choose("kvm", never, never), TestBed::Kvm);
        assert!(matches!(
            choose("lab", never, || Ok(())),
            TestBed::Lab { .. }
        ));
        assert!(matches!(choose("lab", never, broken), TestBed::None { .. }));
        assert!(matches!(choose("none", never, never), TestBed::None { .. }));
        assert!(matches!(choose("KVM", never, never), TestBed::None { .. }));
    }

    #[test]
    fn the_same_run_on_both_beds() {
        let run = Run::new("/bin/x")
            .arg("-v")
            .file(Path::new("/data/f"))
            .lab_options(["--user"]);
        let words = |bed: &TestBed| -> Vec<String> {
            let command = bed.command(&run).unwrap();
            std::iter::once(command.get_program())
                .chain(command.get_args())
                .map(|word| word.to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(words(&TestBed::Kvm), ["/bin/x", "-v"]);
        let reason = String::new();
        let lab = words(&TestBed::Lab { reason });
        assert_eq!(
            lab[1..],
            ["--file", "/data/f", "--user", "--", "/bin/x", "-v"]
        );
        let reason = String::new();
        assert!(TestBed::None { reason }.command(&run).is_none());
    }
}
