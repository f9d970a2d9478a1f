//! A user who has just installed the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A home folder and a working folder, both empty.
pub(crate) struct User {
    dir: tempfile::TempDir,
}

/// How the program ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl User {
    pub(crate) fn new() -> User {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["home", "work", "work/image"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let xml = "<?xml version=\"1.0\"?>\n<image schemaversion=\"8.3\" name=\"test\">\n\
                   <description type=\"system\"><author>A</author><contact>a@b</contact>\
                   <specification>S</specification></description>\n\
                   <profiles><profile name=\"Live\" description=\"a live image\"/></profiles>\n\
                   <preferences><version>1.0.0</version><packagemanager>apt</packagemanager>\
                   <type image=\"tbz\"/></preferences>\n\
                   <repository type=\"apt-deb\"><source path=\"http://packages.example/debian\"/>\
                   </repository>\n<packages type=\"bootstrap\"><package name=\"x\"/></packages>\n\
                   <packages type=\"image\"><package name=\"y\"/></packages>\n</image>\n";
        std::fs::write(dir.path().join("work/image/config.xml"), xml).unwrap();
        User { dir }
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A program of the host, run by this user.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.work())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path().join("home"))
            .stdin(Stdio::null());
        command
    }

    /// Runs boxbuild with the words of `line`.
    pub(crate) fn run(&self, line: &str) -> Ended {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn run_words(&self, words: &[&str]) -> Ended {
        Ended::of(self.command(boxbuild()).args(words))
    }
}

impl Ended {
    pub(crate) fn of(command: &mut Command) -> Ended {
        let output = command.output().unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The program.
pub(crate) fn boxbuild() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_boxbuild"))
}
