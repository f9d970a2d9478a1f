//! A hostile guest: a machine or a container, with a user's own files on the host.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use boxbuild_tests::{ProcessOutput, Running, Sandbox, scaled_timeout};

use super::SECRET;
use crate::container::fixture::ContainerSandbox;

/// Far more seconds than a build here takes, and far fewer than an attack that holds it.
const LIMIT: u64 = 90;

/// Name of a container's description.
const HOSTILE: &str = "hostile";

/// Where a hostile script runs.
pub(crate) enum Guest {
    Machine(Sandbox),
    Container(ContainerSandbox),
}

impl Guest {
    pub(crate) fn machine() -> Guest {
        Guest::Machine(Sandbox::new(""))
    }

    pub(crate) fn container() -> Guest {
        Guest::Container(ContainerSandbox::new())
    }

    /// A path of this test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match self {
            Guest::Machine(sandbox) => sandbox.path(name),
            Guest::Container(sandbox) => sandbox.path(name),
        }
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.path("target")
    }

    pub(crate) fn description(&self) -> PathBuf {
        match self {
            Guest::Machine(sandbox) => sandbox.description(),
            Guest::Container(sandbox) => sandbox.path(HOSTILE),
        }
    }

    /// Makes the target folder, with `files` of the user's in it.
    pub(crate) fn fill_target(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = self.target().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    /// A file of the user's outside of everything that a build may read.
    pub(crate) fn secret(&self) -> PathBuf {
        let folder = self.path("private");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("credentials");
        fs::write(&path, format!("{SECRET}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Changes what the guest runs.
    pub(crate) fn script(&self, script: &str) {
        match self {
            Guest::Machine(sandbox) => sandbox.script(script),
            Guest::Container(sandbox) => sandbox.describe(HOSTILE, "tbz", script),
        }
    }

    /// A build with options in front of the separator.
    pub(crate) fn command(&self, front: &[&str]) -> Command {
        match self {
            Guest::Machine(sandbox) => sandbox.build_command(front, &[]),
            Guest::Container(sandbox) => {
                let mut front = front.to_vec();
                if !front.iter().any(|word| word.starts_with("--keep-failed")) {
                    front.push("--keep-failed=no");
                }
                sandbox.build_command(HOSTILE, "target", &front)
            }
        }
    }

    /// A build in a container whose image brings its own entry point.
    pub(crate) fn published(&self) -> Command {
        let Guest::Container(sandbox) = self else {
            panic!("a machine has no entry point");
        };
        sandbox.import_published();
        sandbox.build_of("published", HOSTILE, "target", &["--no-update-check"])
    }

    /// Starts a build, which ends in [`LIMIT`] seconds or is killed.
    #[track_caller]
    pub(crate) fn start(&self, front: &[&str]) -> Running {
        Running::start(&mut self.command(front)).limit(scaled_timeout(LIMIT))
    }

    /// Runs a build to its end.
    #[track_caller]
    pub(crate) fn build(&self, front: &[&str]) -> ProcessOutput {
        self.start(front).finish()
    }

    /// Runs a build with this `umask` to its end.
    #[track_caller]
    pub(crate) fn build_under(&self, umask: &str, front: &[&str]) -> ProcessOutput {
        let build = self.command(front);
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", umask]);
        shell.arg(build.get_program()).args(build.get_args());
        for (name, value) in build.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Running::start(&mut shell)
            .limit(scaled_timeout(LIMIT))
            .finish()
    }

    /// boxbuild with other words than those of a build.
    pub(crate) fn boxbuild<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        match self {
            Guest::Machine(sandbox) => sandbox.command(words),
            Guest::Container(sandbox) => {
                let mut command = sandbox.boxbuild();
                command.args(words);
                command
            }
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> ProcessOutput {
        let limit = Duration::from_secs(LIMIT);
        Running::start(&mut self.boxbuild(words))
            .limit(limit)
            .finish()
    }

    /// Fails unless nothing of a build is left.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        match self {
            Guest::Machine(sandbox) => sandbox.assert_nothing_left(),
            Guest::Container(sandbox) => sandbox.assert_nothing_left(),
        }
        let target = self.target();
        for name in boxbuild_tests::names(&target) {
            let kind = fs::symlink_metadata(target.join(&name)).unwrap();
            assert!(
                !(name.starts_with(".boxbuild") && kind.is_dir()),
                "left in the target folder: {name}"
            );
        }
    }

    /// Fails if [`Guest::secret`] is in any output of `outputs` or in another file of this test's.
    #[track_caller]
    pub(crate) fn assert_secret_kept(&self, outputs: &[&ProcessOutput]) {
        for output in outputs {
            let all = output.stdout.clone() + &output.stderr;
            assert!(!all.contains(SECRET), "the secret is shown:\n{all}");
        }
        let mut files = super::files_with(&self.path("."), SECRET);
        files.retain(|path| !path.ends_with("private/credentials"));
        assert_eq!(files, [] as [&Path; 0], "the secret is copied");
        let text = fs::read_to_string(self.path("private/credentials")).unwrap();
        assert_eq!(text, format!("{SECRET}\n"), "the secret is overwritten");
    }
}
