//! A guest that writes garbage into everything that it can reach (tests/boots/scribbler.c).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use boxbuild_tests::env;

use crate::machine::Machine;

/// How long it does so, in seconds; 10 otherwise.
pub(crate) const SECONDS: &str = "BOXBUILD_SCRIBBLE_SECONDS";
/// The guest's ramdisk.
pub(crate) const INITRD: &str = "BOXBUILD_SCRIBBLER";

/// Memory of the guest.
const MEMORY_MIB: u64 = 256;
/// What may be allocated after the first second of it. One frame that waits for the guest, and
/// buffers of requests in each thread, are some hundred KiB.
const GROWTH_KIB: u64 = 8 << 10;
/// What the second half of it may add to the most of the first: what grows with time shows there.
const LATE_GROWTH_KIB: u64 = 1 << 10;
/// Samples, one a second, of which that can be said.
const MANY: usize = 60;
/// Two vCPUs, a thread for each queue of a disk and for each other device, one for the machine.
const THREADS: usize = 24;
/// Console, disk, network, two shares, random numbers, balloon.
const DEVICES: usize = 7;
/// A limit below the usual 1024.
const FILES: usize = 256;

/// Makes the ramdisk of the hostile guest, whose only program is scribbler.c, and returns its path.
///
/// # Errors
/// If the C compiler or cpio fails.
pub(crate) fn initrd() -> Result<PathBuf, String> {
    let folder = env::target().join("tmp/scribbler");
    let made = || -> std::io::Result<bool> {
        fs::create_dir_all(&folder)?;
        let work = tempfile::tempdir_in(&folder)?;
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-Wall", "-Wextra", "-static", "-o"])
            .arg(work.path().join("init"))
            .arg(env::tests().join("boots/scribbler.c"));
        let compiled = gcc.status()?.success();
        let mut cpio = Command::new("cpio")
            .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
            .current_dir(work.path())
            .stdin(Stdio::piped())
            .stdout(fs::File::create(work.path().join("initrd"))?)
            .spawn()?;
        if let Some(mut names) = cpio.stdin.take() {
            names.write_all(b".\ninit\n")?;
        }
        let packed = cpio.wait()?.success();
        fs::rename(work.path().join("initrd"), folder.join("initrd"))?;
        Ok(compiled && packed)
    };
    match made() {
        Ok(true) => Ok(folder.join("initrd")),
        Ok(false) => Err("gcc or cpio failed".to_owned()),
        Err(error) => Err(format!("{}: {error}", folder.display())),
    }
}

/// What the process uses beside the guest's memory.
#[derive(Debug, Clone, Copy)]
struct Use {
    dirty_kib: u64,
    threads: usize,
    files: usize,
}

impl Use {
    fn of(process: u32) -> Option<Use> {
        let of = |name: &str| format!("/proc/{process}/{name}");
        let number = |line: &str| -> Option<u64> { line.split_whitespace().nth(1)?.parse().ok() };
        let (mut size, mut dirty_kib) = (0, 0);
        for line in fs::read_to_string(of("smaps")).ok()?.lines() {
            if line.starts_with("Size:") {
                size = number(line)?;
            }
            // The guest's memory, or the part of it in one mapping.
            if line.starts_with("Private_Dirty:") && size < MEMORY_MIB << 9 {
                dirty_kib += number(line)?;
            }
        }
        Some(Use {
            dirty_kib,
            threads: fs::read_dir(of("task")).ok()?.count(),
            files: fs::read_dir(of("fd")).ok()?.count(),
        })
    }
}

/// The machine neither crashes nor hangs nor grows. The guest may: it owns its memory.
pub(crate) fn garbage(guest: &Path) {
    let seconds: u64 =
        std::env::var(SECONDS).map_or(10, |seconds| seconds.parse().expect("a number of seconds"));
    let initrd = std::env::var_os(INITRD).expect("the ramdisk of the hostile guest");
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut whole, mut samples) = (0, 0);
    for seed in 1_u64.. {
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        if left == 0 && seed > 1 {
            break;
        }
        let (came_to_its_end, seen) =
            once(&guest.join("kernel"), initrd.as_ref(), left.max(1), seed);
        whole += usize::from(came_to_its_end);
        samples += seen;
    }
    assert!(whole > 0, "no guest came to its end");
    assert!(samples > 0, "what the machine uses was never seen");
}

/// A console that has got most of a guest's memory in one buffer. It served all of that before it
/// looked at the reset, which holds a CPU of the guest meanwhile.
pub(crate) fn long_chain(guest: &Path) {
    const MEMORY_MIB: u64 = 3072;
    /// From 16 MiB on.
    const LONG_MIB: u64 = MEMORY_MIB - 32;
    /// In an emulated machine, with a mebibyte of last words on the way.
    const SOON_MS: u64 = 5000;
    let initrd = std::env::var_os(INITRD).expect("the ramdisk of the hostile guest");
    let outcome = Machine::bare(&guest.join("kernel"))
        .arg("--initrd", initrd)
        .arg(
            "--cmdline",
            format!("console=ttyS0 panic=-1 quiet long={LONG_MIB}"),
        )
        .arg("--memory", MEMORY_MIB.to_string())
        .run();
    outcome.expect(0, "");
    let said = outcome.console.split("RESET 0 AFTER ").nth(1);
    let said = said.unwrap_or_else(|| panic!("{:.2000}", outcome.console));
    let took: u64 = said.split(' ').next().unwrap().parse().unwrap();
    println!("a reset in the middle of {LONG_MIB} MiB: {took} ms");
    assert!(took < SOON_MS, "{took} ms");
}

/// Whether the guest came to its end, and how often was looked what the machine uses.
fn once(kernel: &Path, initrd: &Path, seconds: u64, seed: u64) -> (bool, usize) {
    let line = format!("console=ttyS0 panic=-1 quiet scribble={seconds} seed={seed}");
    let machine = Machine::bare(kernel)
        .arg("--initrd", initrd)
        .arg("--cmdline", line)
        .arg("--memory", MEMORY_MIB.to_string())
        .arg("--cpus", "2");
    let disk = machine.folder("disk");
    fs::File::create(&disk)
        .and_then(|file| file.set_len(16 << 20))
        .unwrap();
    let mut machine = machine
        .arg("--disk", &disk)
        .flag("--net")
        .share("one")
        .share("two");
    let (mut child, pieces) = machine.start();
    let deadline = Instant::now() + Duration::from_secs(120 + 4 * seconds);
    let mut console = String::new();
    let mut samples: Vec<Use> = Vec::new();
    loop {
        match pieces.recv_timeout(Duration::from_secs(1)) {
            Ok(piece) => console += &String::from_utf8_lossy(&piece),
            Err(RecvTimeoutError::Timeout) => {
                if console.contains("SCRIBBLING") {
                    samples.extend(Use::of(child.id()));
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the machine hangs: {:?}\n{console}", samples.last());
        }
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    // Powered off, or the guest shot itself: a reset, a triple fault.
    assert!(
        matches!(output.status.code(), Some(0 | 3)) && !stderr.contains("panicked"),
        "{}\n{stderr}\n{console}",
        output.status
    );
    check(&samples);
    // A guest that finds no device, or whose kernel keeps them, proves nothing.
    let devices = console.split("SCRIBBLING on ").nth(1);
    let devices: Option<usize> = devices.and_then(|text| text.split(' ').next()?.parse().ok());
    assert!(devices >= Some(DEVICES), "{devices:?} devices\n{console}");
    if let Some(line) = console.lines().rfind(|line| line.contains("SCRIBBL")) {
        println!("seed {seed}: {}", line.trim());
    }
    (console.contains("SCRIBBLED"), samples.len())
}

/// What the process uses is bounded, and does not grow with time.
fn check(samples: &[Use]) {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return;
    };
    let most = |samples: &[Use]| samples.iter().map(|sample| sample.dirty_kib).max();
    let highest = most(samples).unwrap_or_default();
    println!(
        "beside the guest's memory: first {first:?}, last {last:?}, at most {highest} KiB in {} samples",
        samples.len()
    );
    assert!(
        highest <= first.dirty_kib + GROWTH_KIB,
        "from {first:?} to {highest} KiB"
    );
    for sample in samples {
        assert!(
            sample.threads <= THREADS && sample.files <= FILES,
            "{sample:?}"
        );
    }
    if samples.len() >= MANY {
        let (early, late) = samples.split_at(samples.len() / 2);
        let (early, late) = (
            most(early).unwrap_or_default(),
            most(late).unwrap_or_default(),
        );
        assert!(
            late <= early + LATE_GROWTH_KIB,
            "from {early} KiB to {late} KiB"
        );
    }
}
