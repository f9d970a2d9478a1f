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

    /// boxbuild with an installed box `plain`, whose files mean nothing: enough for a dry run.
    pub(crate) fn with_box(&self, origin: &str, inventory: Option<serde_json::Value>) -> Command {
        let store = self.work().join("store/plain");
        std::fs::create_dir_all(&store).unwrap();
        for file in ["kernel", "initrd", "disk.qcow2"] {
            std::fs::write(store.join(file), "x").unwrap();
        }
        // The digest of "x".
        let digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        let file = |name: &str| serde_json::json!({"name": name, "sha256": digest, "size": 1});
        let mut info = serde_json::json!({
            "arch": std::env::consts::ARCH, "cmdline": ["root=/dev/vda1"], "console": "hvc0",
            "cpus": 1, "created": 0, "disk": file("disk.qcow2"), "disk_size": 268_435_456, "format": 1,
            "guest": "fast", "initrd": file("initrd"), "kernel": file("kernel"), "kiwi": null,
            "memory_mib": 256, "name": "plain", "origin": origin,
        });
        if let Some(inventory) = inventory {
            info["inventory"] = inventory;
        }
        std::fs::write(store.join("box.json"), info.to_string()).unwrap();
        let mut command = self.command(boxbuild());
        command.env("KIWI_BOXED_CACHE_DIR", self.work().join("store"));
        command
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
