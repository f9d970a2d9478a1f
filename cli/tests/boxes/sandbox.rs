//! A user with a configuration, a box store and a server.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use boxbuild_boxes::store::{InstalledBox, Store};
use boxbuild_host::arch::Arch;

use crate::server::Server;
use crate::sets;

pub(crate) struct Sandbox {
    pub(crate) server: Server,
    pub(crate) dir: tempfile::TempDir,
}

impl Sandbox {
    /// A user whose list has the box `test`, published at `/r` of the server.
    pub(crate) fn new() -> Sandbox {
        let sandbox = Sandbox {
            server: Server::start(),
            dir: tempfile::tempdir().unwrap(),
        };
        for folder in ["home", "work"] {
            std::fs::create_dir(sandbox.path(folder)).unwrap();
        }
        sandbox.configure(&format!("{}/r", sandbox.server.url()));
        sandbox
    }

    /// Another source of the box.
    pub(crate) fn configure(&self, source: &str) {
        std::fs::write(self.path("boxes.yml"), sets::config(source)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("store")
    }

    /// boxbuild, ready to be run by this user.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boxbuild"));
        command
            .args(args)
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("KIWI_BOXED_CACHE_DIR", self.root())
            .env("KIWI_BOXED_PLUGIN_CFG", self.path("boxes.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The same, run by another program: the words of `wrapper`, and then boxbuild's.
    pub(crate) fn command_under(&self, wrapper: &[&str], args: &[&str]) -> Command {
        let own = self.command(args);
        let mut command = Command::new(wrapper[0]);
        command
            .args(&wrapper[1..])
            .arg(own.get_program())
            .args(own.get_args())
            .current_dir(self.path("work"))
            .env_clear()
            .envs(
                own.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> CommandResult {
        CommandResult::from(self.command(args).output().unwrap())
    }

    /// The box, which must be there, with every file as described.
    #[track_caller]
    pub(crate) fn installed(&self) -> InstalledBox {
        let installed = Store::at(self.root())
            .get(&format!("test.{}", Arch::host()))
            .unwrap();
        for file in installed.info.files() {
            let content = std::fs::read(installed.path(file)).unwrap();
            assert_eq!(sets::sha256(&content), file.sha256, "{}", file.name);
        }
        installed
    }

    /// Whether what is installed was fetched from this version.
    #[track_caller]
    pub(crate) fn has(&self, set: &sets::Set) -> bool {
        let installed = self.installed();
        let published = installed.info.published.as_ref().unwrap();
        let kernel = sets::sha256(&set.kernel_archive) == published.kernel.sha256;
        let disk = sets::sha256(&set.disk) == published.disk.sha256;
        assert_eq!(kernel, disk, "a mixture of two versions");
        disk
    }

    /// Names in the store that are no box.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        names(&self.root())
            .into_iter()
            .filter(|name| name.starts_with('.'))
            .collect()
    }
}

/// Names in a folder, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What boxbuild result.
#[derive(Debug)]
pub(crate) struct CommandResult {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for CommandResult {
    fn from(output: Output) -> CommandResult {
        CommandResult {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl CommandResult {
    #[track_caller]
    pub(crate) fn expect(self, code: i32, texts: &[&str]) -> CommandResult {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        for text in texts {
            assert!(
                self.stderr.contains(text) || self.stdout.contains(text),
                "'{text}' is not in:\n{}{}",
                self.stdout,
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        self
    }
}
