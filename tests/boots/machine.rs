//! Running the program that boots, with a folder of its own and a limit.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Far more than a boot takes in the lab on a busy host.
pub(crate) const LIMIT: Duration = Duration::from_secs(1200);

/// The program that boots: vmm/examples/boot.rs, in release.
pub(crate) const BOOT: &str = "BOXBUILD_TEST_BOOT_PROGRAM";

/// A machine that is to run.
#[derive(Debug)]
pub(crate) struct Machine {
    dir: tempfile::TempDir,
    command: Command,
}

/// Whether hvc0 comes too late to be the only console of this guest (docs/vmm.md, "A console that
/// comes late").
pub(crate) fn comes_late(guest: &Path) -> bool {
    let name = guest.to_string_lossy();
    name.contains("bookworm") && name.contains("initramfs-tools")
}

/// How a machine ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code of the program: 0 after a power-off, 3 after a reset.
    pub code: i32,
    /// What the guest wrote to its consoles.
    pub console: String,
    /// What the program itself wrote.
    pub stderr: String,
}

impl Machine {
    /// A machine with `kernel` and nothing else.
    pub(crate) fn bare(kernel: &Path) -> Machine {
        let boot = std::env::var_os(BOOT).expect("checked before");
        let dir = tempfile::Builder::new()
            .prefix("boxbuild-boots-")
            .tempdir()
            .expect("a folder");
        let scratch = dir.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let mut command = Command::new(boot);
        command
            .current_dir(&scratch)
            .stdin(Stdio::null())
            .arg("--kernel")
            .arg(kernel);
        Machine { dir, command }
    }

    /// A machine with all of the guest in the folder `guest`. `words` go to the command line.
    pub(crate) fn of(guest: &Path, cpus: u32, memory_mib: u64, words: &str) -> Machine {
        let disk = format!("overlay:{}", guest.join("disk.qcow2").display());
        let root = fs::read_to_string(guest.join("root")).unwrap();
        let root = root.trim_end();
        let first = if comes_late(guest) {
            "console=ttyS0 "
        } else {
            ""
        };
        // Where the lab is slow, udev comes later than the 90 s for which systemd waits for a device
        // (systemd(1), "Kernel command line"): without hvc0 there would be no login.
        let limit = LIMIT.as_secs();
        let line = format!(
            "{first}console=hvc0 root={root} panic=-1 systemd.default_device_timeout_sec={limit} \
             systemd.default_timeout_start_sec={limit} {words}"
        );
        Machine::bare(&guest.join("kernel"))
            .arg("--initrd", guest.join("initrd"))
            .arg("--disk", disk)
            .arg("--cpus", cpus.to_string())
            .arg("--memory", memory_mib.to_string())
            .arg("--cmdline", line)
            .flag("--net")
    }

    /// One more option with its value.
    pub(crate) fn arg(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Machine {
        self.command.arg(name).arg(value);
        self
    }

    /// One more option without a value.
    pub(crate) fn flag(mut self, name: &str) -> Machine {
        self.command.arg(name);
        self
    }

    /// A new folder, shared under `tag`.
    pub(crate) fn share(self, tag: &str) -> Machine {
        let folder = self.folder(tag);
        fs::create_dir(&folder).unwrap();
        self.arg("--share", format!("{tag}={}", folder.display()))
    }

    /// The folder of a share.
    pub(crate) fn folder(&self, tag: &str) -> PathBuf {
        self.dir.path().join(tag)
    }

    /// Returns the names in the folder for the disk's changes.
    pub(crate) fn scratch(&self) -> Vec<String> {
        boxbuild_tests::names(&self.folder("scratch"))
    }

    /// The program as another user and group, who needs no folder.
    pub(crate) fn by_user(mut self, id: u32) -> Machine {
        use std::os::unix::process::CommandExt;
        self.command.current_dir("/").uid(id).gid(id);
        self
    }

    /// Starts it; its console comes in pieces.
    pub(crate) fn start(&mut self) -> (Child, Receiver<Vec<u8>>) {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the program starts");
        let mut stdout = child.stdout.take().unwrap();
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        (child, pieces)
    }

    /// Runs it to its end.
    pub(crate) fn run(&mut self) -> Outcome {
        let (mut child, pieces) = self.start();
        let mut stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let start = Instant::now();
        let mut console = Vec::new();
        loop {
            match pieces.recv_timeout(LIMIT.saturating_sub(start.elapsed())) {
                Ok(piece) => console.extend(piece),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let text = String::from_utf8_lossy(&console);
                    panic!("no end within {LIMIT:?}:\n{text}");
                }
            }
        }
        let status = child.wait().unwrap();
        Outcome {
            code: status.code().unwrap_or(-1),
            console: String::from_utf8_lossy(&console).replace('\r', ""),
            stderr: reader.join().unwrap(),
        }
    }
}

impl Outcome {
    /// Fails unless the program ended with `code` and wrote `text` to standard error.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, text: &str) {
        assert!(
            self.code == code && self.stderr.contains(text) && !self.stderr.contains("panicked"),
            "code {} instead of {code}, or not '{text}':\n{}\n{}",
            self.code,
            self.stderr,
            self.console
        );
    }
}
