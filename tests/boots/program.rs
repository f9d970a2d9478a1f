//! The program itself with a box as the published ones are laid out: their console, their root,
//! a build started by their unit, arguments from the kernel command line, `halt -p`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::machine::PATIENCE;

/// Where the program is.
pub(crate) const BOXBUILD: &str = "BOXBUILD";

/// A description, a target, and a store with the guest as its only box.
struct Bench {
    dir: tempfile::TempDir,
}

/// How it went.
struct Said {
    code: i32,
    text: String,
}

impl Bench {
    fn new(guest: &Path) -> Bench {
        let dir = tempfile::Builder::new()
            .prefix("boxbuild-boots-")
            .tempdir()
            .expect("a folder");
        let bench = Bench { dir };
        for name in ["description", "shared", "store", "tmp", "home"] {
            fs::create_dir(bench.path(name)).unwrap();
        }
        fs::write(bench.path("description/config.xml"), "<image/>").unwrap();
        std::os::unix::fs::symlink(guest, bench.path("store/published")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a build to its end.
    fn build(&self, front: &[&str], back: &[&str]) -> Said {
        let boxbuild = std::env::var_os(BOXBUILD).expect("checked before");
        let (mut output, input) = std::io::pipe().expect("a pipe");
        let mut command = Command::new(boxbuild);
        command
            .args([
                "--engine",
                "kvm",
                "--boot",
                "compat",
                "--box",
                "published",
                "--verbose",
                "--keep-failed=no",
            ])
            .args(front)
            .arg("--")
            .arg("--description")
            .arg(self.path("description"))
            .arg("--target-dir")
            .arg(self.path("target"))
            .args(back)
            .env("KIWI_BOXED_CACHE_DIR", self.path("store"))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .stdout(input.try_clone().expect("a descriptor"))
            .stderr(input);
        let mut child = command.spawn().expect("the program starts");
        drop(command);
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = output.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).replace('\r', "")
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is ours") {
                break Some(status);
            }
            if start.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        };
        let text = reader.join().unwrap();
        let Some(status) = status else {
            panic!("no end within {PATIENCE:?}:\n{text}");
        };
        Said {
            code: status.code().unwrap_or(-1),
            text,
        }
    }

    /// What is in the target, and nothing else is left.
    #[track_caller]
    fn results(&self) -> Vec<String> {
        assert_eq!(boxbuild_tests::names(&self.path("store")), ["published"]);
        assert_eq!(boxbuild_tests::names(&self.path("tmp")), [""; 0]);
        boxbuild_tests::names(&self.path("target"))
    }
}

/// A build to its end, with options that have a place in the contract.
pub(crate) fn succeeds(guest: &Path) {
    let bench = Bench::new(guest);
    let payload: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(i) >> 9) as u8)
        .collect();
    fs::write(bench.path("description/payload"), &payload).unwrap();
    fs::write(bench.path("shared/in"), "").unwrap();
    let shared = bench.path("shared").display().to_string();
    let said = bench.build(
        &[
            "--type",
            "vmx",
            "--profile",
            "Some",
            "--shared-path",
            &shared,
        ],
        &["--set-repo", "obs://a/b"],
    );
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(!said.text.contains("panicked"), "{}", said.text);
    assert_eq!(bench.results(), ["image", "result.code", "result.log"]);
    assert!(fs::read(bench.path("target/image")).unwrap() == payload);
    let log = fs::read_to_string(bench.path("target/result.log")).unwrap();
    let line = log.lines().next().unwrap_or_default();
    for words in [
        "--type oem",
        "--profile Some",
        "system build",
        "--set-repo obs://a/b",
    ] {
        assert!(line.contains(words), "'{words}' is missing:\n{log}");
    }
    assert!(log.contains("custom: in \n"), "{log}");
}

/// A build that fails in the box fails, with the code that the box gave, and what was in the
/// target stays.
pub(crate) fn fails(guest: &Path) {
    let bench = Bench::new(guest);
    fs::write(bench.path("description/code"), "7\n").unwrap();
    fs::create_dir(bench.path("target")).unwrap();
    fs::write(bench.path("target/image"), "of an earlier build").unwrap();
    let said = bench.build(&[], &[]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains("exit code 7"), "{}", said.text);
    let image = fs::read_to_string(bench.path("target/image")).unwrap();
    assert_eq!(image, "of an earlier build");
    assert_eq!(bench.results(), ["image", "result.code", "result.log"]);
}
