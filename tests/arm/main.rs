//! The machine of 64-bit Arm (docs/vmm-arm.md) in the lab's Arm, whose /dev/kvm is true: Debian's
//! stock kernel with ramdisks of one static program each.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use boxbuild_tests::cross::{self, NO_COMPILER, toolchain};
use boxbuild_tests::{env, skip};
use libtest_mimic::{Arguments, Trial};

const ARCH: &str = "aarch64";
/// How long the hostile guest writes garbage, in seconds; 10 otherwise.
const SECONDS: &str = "BOXBUILD_SCRIBBLE_SECONDS";

/// What runs in the lab.
#[derive(Debug)]
struct Parts {
    /// The folder of the examples boot and smoke.
    programs: PathBuf,
    kernel: PathBuf,
    /// Ramdisks: of init.c, and of boots/scribbler.c.
    small: PathBuf,
    hostile: PathBuf,
}

/// A test, with what is made for all of them.
type Test = fn(&Parts);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let check = lab().args(["--check"]).output();
    let usable = check.as_ref().is_ok_and(|check| check.status.success());
    if !usable {
        let said = check.map_or_else(
            |error| error.to_string(),
            |check| String::from_utf8_lossy(&check.stderr).trim().to_owned(),
        );
        skip("the machine of Arm", &said);
        return ExitCode::SUCCESS;
    }
    let parts = match parts() {
        Ok(Some(parts)) => Arc::new(parts),
        Ok(None) => {
            skip("the machine of Arm", "no compiler for it");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprintln!("cannot make what runs: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let tests: [(&str, Test); 4] = [
        ("the_smoke_guest_runs_with_either_controller", smoke),
        (
            "a_stock_kernel_boots_on_one_two_and_four_cpus",
            stock_kernel,
        ),
        (
            "an_old_controller_takes_messages_and_a_reset_ends_the_run",
            old_controller,
        ),
        ("garbage_does_no_harm", garbage),
    ];
    let trials = tests.into_iter().map(|(name, test)| {
        let parts = Arc::clone(&parts);
        Trial::test(name, move || {
            test(&parts);
            Ok(())
        })
    });
    // Each of them keeps a processor busy.
    let arguments = Arguments {
        test_threads: arguments.test_threads.or(Some(1)),
        ..arguments
    };
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn lab() -> Command {
    let mut lab = Command::new(env::tests().join("lab/lab"));
    lab.args(["--arch", ARCH]);
    lab
}

/// Runs `script` in the lab with `parts`. Returns what it said, and whether it ended with 0.
fn in_lab(parts: &Parts, options: &[&str], script: &str) -> (String, bool) {
    let mut lab = lab();
    lab.args(["--kernel", "trixie", "--memory", "3072", "--timeout", "900"]);
    lab.args(["--user"]).args(options);
    for file in [&parts.kernel, &parts.small, &parts.hostile] {
        lab.arg("--file").arg(file);
    }
    for program in ["boot", "smoke"] {
        lab.arg("--file").arg(parts.programs.join(program));
    }
    let script = format!(
        "set -e; cd /tmp; boot() {{ {0}/boot --kernel {1} \"$@\"; }}; smoke() {{ {0}/smoke; }}; \
         small={2}; hostile={3}; {script}",
        parts.programs.display(),
        parts.kernel.display(),
        parts.small.display(),
        parts.hostile.display(),
    );
    let output = lab.args(["--", "sh", "-c", &script]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        String::from_utf8_lossy(&said).into_owned(),
        output.status.success(),
    )
}

/// All of `wanted` is in what the lab said, in this order.
fn expect((said, good): (String, bool), wanted: &[&str]) {
    assert!(good, "{said}");
    let mut rest = said.as_str();
    for words in wanted {
        let at = rest.find(words);
        let at = at.unwrap_or_else(|| panic!("no '{words}' (in its place) in:\n{said}"));
        rest = &rest[at + words.len()..];
    }
}

fn smoke(parts: &Parts) {
    for version in ["3", "2"] {
        expect(in_lab(parts, &["--gic", version], "smoke"), &["usable"]);
    }
}

fn stock_kernel(parts: &Parts) {
    let script = "mkdir one; for size in '1 512' '2 1024' '4 512'; do set -- $size; \
        boot --initrd $small --cpus $1 --memory $2 --share one=one --net \
            --cmdline 'console=hvc0 quiet panic=-1'; cat one/answer; rm one/answer; done";
    let said = in_lab(parts, &[], script);
    assert!(!said.0.contains(" 0 messages by the ITS"), "{}", said.0);
    let guest = |cpus: &'static str| {
        [
            cpus,
            "guest: share",
            "by the ITS, 0 by the frame",
            "written by the guest",
        ]
    };
    let wanted = ["guest: 1 CPUs, ", "guest: 2 CPUs, ", "guest: 4 CPUs, "].map(guest);
    expect(said, wanted.as_flattened());
}

fn old_controller(parts: &Parts) {
    let script = "mkdir one; boot --initrd $small --cpus 2 --memory 512 --share one=one \
        --cmdline 'earlycon console=ttyS0 panic=-1 reset' || [ $? = 3 ]; \
        boot --initrd $small --cpus 9 --memory 512 || true";
    let said = in_lab(parts, &["--gic", "2"], script);
    assert!(!said.0.contains("by the ITS, 0 by the frame"), "{}", said.0);
    let wanted = [
        // By the serial port: the early console's words, then the guest's.
        "Booting Linux on physical CPU",
        "guest: 2 CPUs, ",
        "guest: share",
        "guest: 0 messages by the ITS, ",
        "lacks an interrupt controller for more than 8 CPUs",
    ];
    expect(said, &wanted);
}

fn garbage(parts: &Parts) {
    let seconds = std::env::var(SECONDS).unwrap_or_else(|_| "10".to_owned());
    let script = format!(
        "mkdir one two; dd if=/dev/zero of=disk bs=1048576 count=8 2>/dev/null; \
         boot --initrd $hostile --cpus 2 --memory 256 --disk disk --share one=one --share two=two --net \
            --cmdline 'console=ttyS0 quiet panic=-1 iomem=relaxed scribble={seconds}'; echo its end: $?"
    );
    expect(in_lab(parts, &[], &script), &["its end: 0"]);
}

/// Builds everything; `None` if there is no compiler.
fn parts() -> Result<Option<Parts>, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| String::from("cargo"));
    let target = env::target();
    let triple = cross::triple(ARCH);
    let words = "build --quiet --package boxbuild-vmm --example boot --example smoke --target";
    let mut build = toolchain(ARCH, &target);
    build.arg(cargo).args(words.split(' ')).arg(&triple);
    match build.status().map_err(|error| error.to_string())?.code() {
        Some(0) => {}
        Some(NO_COMPILER) => return Ok(None),
        other => return Err(format!("cargo build for {triple}: {other:?}")),
    }
    let work = target.join("tmp/arm");
    fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let kernel = Command::new(env::tests().join("lab/lab"))
        .args(["kernel", "trixie", "cloud-arm64"])
        .output()
        .map_err(|error| error.to_string())?;
    if !kernel.status.success() {
        return Err(String::from_utf8_lossy(&kernel.stderr).into_owned());
    }
    let kernel = String::from_utf8_lossy(&kernel.stdout)
        .trim_end()
        .to_owned();
    Ok(Some(Parts {
        programs: target.join(triple).join("debug/examples"),
        kernel: Path::new(&kernel).join("vmlinuz"),
        small: ramdisk(&work, "small", "arm/init.c")?,
        hostile: ramdisk(&work, "hostile", "boots/scribbler.c")?,
    }))
}

/// Makes a ramdisk whose only program is `source`, a file of C.
fn ramdisk(work: &Path, name: &str, source: &str) -> Result<PathBuf, String> {
    let folder = work.join(name);
    let made = || -> std::io::Result<bool> {
        fs::create_dir_all(folder.join("dev"))?;
        let mut gcc = toolchain(ARCH, work);
        gcc.args([
            "aarch64-linux-gnu-gcc",
            "-O2",
            "-Wall",
            "-Wextra",
            "-static",
            "-o",
        ]);
        gcc.arg(folder.join("init")).arg(env::tests().join(source));
        let compiled = gcc.status()?.success();
        let mut cpio = Command::new("cpio")
            .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(File::create(work.join(format!("{name}.img")))?)
            .spawn()?;
        if let Some(mut names) = cpio.stdin.take() {
            names.write_all(b".\ndev\ninit\n")?;
        }
        Ok(compiled && cpio.wait()?.success())
    };
    match made() {
        Ok(true) => Ok(work.join(format!("{name}.img"))),
        Ok(false) => Err(format!("{source}: the compiler or cpio failed")),
        Err(error) => Err(format!("{source}: {error}")),
    }
}
