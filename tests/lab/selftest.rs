//! The lab tests itself: `make lab`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boxbuild_tests::command::find;
use boxbuild_tests::tree::Tree;

use crate::arch::Arch;
use crate::kernel::{self, Flavour, Suite};

/// Counts of one program may differ by this part of one.
const SPREAD: f64 = 0.001;

/// Firmware that QEMU's microvm needs.
const MICROVM: [&str; 2] = [
    "/usr/share/seabios/bios-microvm.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
];

/// What `selftest` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The machine's architecture
    #[arg(long, value_name = "ARCH", value_enum, default_value = Arch::HOST.name())]
    arch: Arch,
    /// The program that tells whether /dev/kvm is a true one (tests/lab/kvm-selftest.rs)
    program: PathBuf,
}

/// How one run of the lab ended.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Ran {
    fn seconds(&self) -> String {
        format!("{:.1} s in all", self.took.as_secs_f64())
    }
}

/// Folders of the test, and the program that looks at /dev/kvm.
struct Test {
    arch: Arch,
    work: tempfile::TempDir,
    probe: PathBuf,
}

/// Says what works and what it measured.
///
/// # Errors
/// Says what does not work.
pub(crate) fn run(options: &Options) -> Result<()> {
    let probe = &options.program;
    let probe = probe
        .canonicalize()
        .with_context(|| format!("no program {}", probe.display()))?;
    let test = Test {
        arch: options.arch,
        work: tempfile::tempdir()?,
        probe,
    };
    for folder in ["tmp", "got", "shared"] {
        fs::create_dir(test.path(folder))?;
    }
    let checked = test.lab(&["--check"])?;
    ensure!(checked.code == Some(0), "{}", checked.stderr.trim_end());
    test.kvm_is_true()?;
    test.output_and_exit_code()?;
    test.files()?;
    test.ends()?;
    test.a_reader_that_has_enough()?;
    test.killed()?;
    test.counts_repeat()?;
    match test.arch {
        Arch::X86_64 => test.microvm(),
        Arch::Aarch64 => test.an_older_processor(),
    }
}

fn good(what: &str) {
    println!("lab: ok: {what}");
}

/// Fails with the lab's output, unless `holds`.
fn check(holds: bool, what: &str, ran: &Ran) -> Result<()> {
    if !holds {
        bail!(
            "FAILED: {what}: exit code {:?}\n{}{}",
            ran.code,
            ran.stdout.chars().take(2000).collect::<String>(),
            ran.stderr
        );
    }
    Ok(())
}

impl Test {
    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn probe(&self) -> String {
        self.probe.display().to_string()
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--arch", self.arch.name()])
            .args(words)
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    fn lab(&self, words: &[&str]) -> Result<Ran> {
        let start = Instant::now();
        let output = self.command(words)?.output().context("the lab")?;
        Ok(Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: start.elapsed(),
        })
    }

    fn kvm_is_true(&self) -> Result<()> {
        let ran = self.lab(&["--user", "--verbose", "--", &self.probe()])?;
        let line = ran
            .stdout
            .lines()
            .any(|line| line.starts_with("/dev/kvm is true"));
        check(
            ran.code == Some(0) && line,
            "the self-test of /dev/kvm",
            &ran,
        )?;
        let kernel = ran
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix("lab: kernel "));
        good(&format!(
            "an ordinary user has a true /dev/kvm ({}; {})",
            kernel.unwrap_or_default(),
            ran.seconds()
        ));
        let ran = self.lab(&["--kernel", "trixie", "--user", "--", &self.probe()])?;
        check(
            ran.code == Some(0),
            "the self-test with the kernel of trixie",
            &ran,
        )?;
        good(&format!(
            "the same under the kernel of trixie ({})",
            ran.seconds()
        ));
        Ok(())
    }

    fn output_and_exit_code(&self) -> Result<()> {
        let ran = self.lab(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"])?;
        let holds = ran.code == Some(7) && ran.stdout == "out\n" && ran.stderr == "err\n";
        check(holds, "exit code 7 and two lines", &ran)?;
        good("output and exit code arrive");

        let ran = self.lab(&["--user", "--", "sh", "-c", "id -u; groups; kill -KILL $$"])?;
        let holds = ran.code == Some(137) && ran.stdout.starts_with("1000\n");
        check(holds && ran.stdout.contains("kvm"), "--user", &ran)?;
        good("--user is uid 1000 in group kvm");

        let ran = self.lab(&["--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"])?;
        let holds = ran.code == Some(0) && ran.stdout.len() == 3_000_000;
        check(holds, "3 MB of output", &ran)?;
        good(&format!("3 MB of output arrive whole ({})", ran.seconds()));

        let foreign = std::env::current_exe()?.display().to_string();
        let mut wrong = vec![&["--tcg-named", "--", "true"][..], &["--nonsense"], &[]];
        let program = ["--", &foreign];
        if self.arch != Arch::HOST {
            wrong.push(&program);
        }
        for words in wrong {
            let ran = self.lab(words)?;
            check(ran.code == Some(125), "wrong words", &ran)?;
        }
        good("wrong words are 125");
        Ok(())
    }

    fn files(&self) -> Result<()> {
        fs::write(self.path("shared/there"), "from the host\n")?;
        fs::write(self.path("with space"), "a file\n")?;
        let share = format!("{}:/mnt/host", self.text("shared"));
        let file = format!("{}:/data/x y", self.text("with space"));
        let script = "cat /mnt/host/there '/data/x y'; echo \"$A\" >/mnt/host/back; \
                      mkdir /tmp/result; echo deep >/tmp/result/file";
        let into = self.text("got");
        let words = [
            "--share",
            &share,
            "--file",
            &file,
            "--env",
            "A=b c",
            "--get",
            "/tmp/result",
        ];
        let words = [&words[..], &["--into", &into, "--", "sh", "-c", script]].concat();
        let ran = self.lab(&words)?;
        let back = fs::read_to_string(self.path("shared/back")).unwrap_or_default();
        let got = fs::read_to_string(self.path("got/tmp/result/file")).unwrap_or_default();
        let holds = ran.code == Some(0) && ran.stdout == "from the host\na file\n";
        let holds = holds && back == "b c\n" && got == "deep\n";
        check(holds, "--share, --file, --env, --get", &ran)?;
        good("files come in and go out");
        Ok(())
    }

    fn ends(&self) -> Result<()> {
        let ran = self.lab(&["--", "sh", "-c", "echo c >/proc/sysrq-trigger"])?;
        let holds = ran.code == Some(125)
            && ran.stderr.contains("machine died")
            && ran.stderr.contains("sysrq");
        check(holds, "a machine that panics", &ran)?;
        good("a machine that panics is 125, with its console");

        let ran = self.lab(&["--timeout", "8", "--", "sleep", "1000"])?;
        let holds = ran.code == Some(125) && ran.stderr.contains("gave up after 8 s");
        check(holds, "a machine that hangs", &ran)?;
        good("a machine that hangs is 125");
        Ok(())
    }

    fn a_reader_that_has_enough(&self) -> Result<()> {
        let mut child = self.command(&["--", "yes"])?.spawn()?;
        let mut first = [0; 2];
        let mut stdout = child.stdout.take().context("no output")?;
        stdout.read_exact(&mut first)?;
        drop(stdout);
        let status = child.wait()?;
        ensure!(
            status.code() == Some(141) && &first == b"y\n",
            "FAILED: a reader that has enough: {status}"
        );
        good("a reader that has enough ends it");
        Ok(())
    }

    /// Kills the lab while a machine runs: nothing may be left.
    fn killed(&self) -> Result<()> {
        let shared = self.text("shared");
        let share = format!("{shared}:/shared");
        let words = ["--share", &share, "--", "sleep", "1000"];
        let mut lab: Child = self
            .command(&words)?
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Ours is recognised by the folder that it shares.
        let mark = format!("{shared},mount_tag");
        let seconds = |count| Duration::from_secs(count);
        let started = wait_until(seconds(20), || machines(&mark) > 0);
        lab.kill()?;
        lab.wait()?;
        ensure!(started, "FAILED: QEMU did not start");
        let gone = wait_until(seconds(5), || machines(&mark) == 0);
        ensure!(gone, "FAILED: kill -9 leaves QEMU behind");
        let left = boxbuild_tests::names(&self.path("tmp"));
        ensure!(
            left.is_empty(),
            "FAILED: files are left: {}",
            left.join(" ")
        );
        good("kill -9 leaves no process and no file");
        Ok(())
    }

    fn counts_repeat(&self) -> Result<()> {
        let mut counts = Vec::new();
        let mut took = String::new();
        for _ in 0..2 {
            let ran = self.lab(&["--count", "--verbose", "--user", "--", &self.probe()])?;
            check(ran.code == Some(0), "the self-test, counted", &ran)?;
            let count = ran.stderr.split("command took ").nth(1);
            let count = count.and_then(|rest| rest.split(' ').next());
            counts.push(count.unwrap_or_default().parse::<f64>().unwrap_or(0.0));
            took = ran.seconds();
        }
        let difference = (counts[0] - counts[1]).abs();
        ensure!(
            counts[0] > 1e6 && difference <= counts[0] * SPREAD,
            "FAILED: counts differ by more than 0.1 %: {counts:?}"
        );
        good(&format!(
            "counts repeat: {} {} virtual ns ({took})",
            counts[0], counts[1]
        ));
        Ok(())
    }

    /// A processor without SVE, without VHE and with the controller of a Raspberry Pi.
    fn an_older_processor(&self) -> Result<()> {
        let cpu = ["--cpu", "cortex-a72", "--gic", "2"];
        let ran = self.lab(&[&cpu[..], &["--user", "--", &self.probe()]].concat())?;
        check(ran.code == Some(0), "a Cortex-A72 with GICv2", &ran)?;
        good(&format!(
            "the same on a Cortex-A72 with GICv2 ({})",
            ran.seconds()
        ));
        Ok(())
    }

    /// The proof: unmodified kernels of the distribution under another machine on this /dev/kvm.
    fn microvm(&self) -> Result<()> {
        if !MICROVM.iter().all(|file| Path::new(file).exists()) {
            println!("skipped: QEMU microvm in the lab: this QEMU has no microvm firmware");
            return Ok(());
        }
        let mut guest = Tree::default();
        guest.copy(&find("busybox")?, "/bin/busybox", 0o755);
        guest.directory("/proc", 0o755);
        guest.file("/init", 0o755, GUEST_INIT);
        let initrd = self.path("guest.cpio");
        guest.write(&mut fs::File::create(&initrd)?)?;
        ensure!(fs::metadata(&initrd)?.size() > 0, "an empty ramdisk");
        let initrd = format!("{}:/guest/initrd", initrd.display());
        for suite in [Suite::Bookworm, Suite::Trixie] {
            let kernel = kernel::folder(suite, Flavour::CloudAmd64)?.join("vmlinuz");
            let kernel = format!("{}:/guest/vmlinuz", kernel.display());
            let mut words = vec!["--user", "--timeout", "180"];
            for file in [MICROVM[0], MICROVM[1], &initrd, &kernel] {
                words.extend(["--file", file]);
            }
            words.push("--");
            words.extend(GUEST.split(' '));
            words.extend([
                "-append",
                "console=ttyS0 reboot=t panic=-1 quiet cryptomgr.notests=1",
            ]);
            let ran = self.lab(&words)?;
            let line = ran
                .stdout
                .lines()
                .find(|line| line.starts_with("guest: up"));
            let name = suite.name();
            check(
                ran.code == Some(0) && line.is_some(),
                &format!("QEMU microvm with the kernel of {name}"),
                &ran,
            )?;
            good(&format!(
                "QEMU microvm boots the kernel of {name} on it: {} ({})",
                line.unwrap_or_default().trim_end(),
                ran.seconds()
            ));
        }
        Ok(())
    }
}

/// QEMU's words for the guest in the lab.
const GUEST: &str = "qemu-system-x86_64 -M microvm,accel=kvm -cpu host -m 256 -nodefaults \
     -no-user-config -display none -serial stdio -no-reboot -kernel /guest/vmlinuz -initrd \
     /guest/initrd";

const GUEST_INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
read -r up _ </proc/uptime
echo \"guest: up after $up s\"
/bin/busybox reboot -f
";

/// How many processes have these words on their command line.
fn machines(mark: &str) -> usize {
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    let lines = processes
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(mark))
        .count()
}

fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}
