//! The lab's last part of init: runs the command that the lab was asked to run, passes its
//! output to the host through channels, reports its exit code and stops the machine.
//!
//! One file without crates, because the lab compiles it with rustc alone, statically.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

/// The channels to the host, in the order of `CHANNELS` in `tests/lab/emulator.rs`.
const STDOUT: u16 = 0;
const STDERR: u16 = 1;
const REPORT: u16 = 2;
const FILES: u16 = 3;

/// The user of `--user`, and the group that may use /dev/kvm (tests/lab/pack.rs, /etc/group).
const USER: u32 = 1000;
const KVM: u32 = 104;

const SIGKILL: i32 = 9;

unsafe extern "C" {
    safe fn kill(pid: i32, signal: i32) -> i32;
    safe fn sync();
    safe fn setsid() -> i32;
    safe fn setgid(gid: u32) -> i32;
    safe fn setuid(uid: u32) -> i32;
    fn setgroups(count: usize, list: *const u32) -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => report(&format!("exit {code}\n")),
        Err(error) => report(&format!("error {error}\n")),
    }
    sync();
    machine::end();
    // Only reached on a machine that cannot be ended so: the kernel panics when init ends.
    ExitCode::FAILURE
}

fn run() -> Result<i32, String> {
    machine::begin()?;
    let arguments = words("/lab/argv")?;
    let (program, rest) = arguments.split_first().ok_or("no command")?;
    let mut command = Command::new(program);
    command.args(rest).env_clear().current_dir("/tmp");
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    command.env("HOME", "/tmp");
    for pair in words("/lab/env")? {
        if let Some((name, value)) = pair.split_once('=') {
            command.env(name, value);
        }
    }
    let as_user = fs::exists("/lab/user").unwrap_or(false);
    // SAFETY: only system calls between fork and exec; nothing is allocated unless one fails.
    unsafe {
        command.pre_exec(move || {
            let groups = [USER, KVM];
            if setsid() < 0
                || as_user
                    && (setgroups(groups.len(), groups.as_ptr()) < 0
                        || setgid(USER) < 0
                        || setuid(USER) < 0)
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());

    let up = fs::read_to_string("/proc/uptime").unwrap_or_default();
    report(&format!(
        "up {}\n",
        up.split(' ').next().unwrap_or_default()
    ));
    let started = Instant::now();
    let mut child = command
        .spawn()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    let stdout = relay(child.stdout.take(), STDOUT);
    let stderr = relay(child.stderr.take(), STDERR);
    let status = wait_for(i32::try_from(child.id()).unwrap_or_default());
    let took = started.elapsed().as_nanos();
    // What the command left running would hold its output open.
    kill(-1, SIGKILL);
    let _ = stdout.join();
    let _ = stderr.join();
    report(&format!("took {took}\n"));

    let wanted = words("/lab/get")?;
    if !wanted.is_empty() {
        let mut tar = Command::new("/bin/busybox")
            .args(["tar", "c", "-C", "/"])
            .args(wanted)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot run tar: {e}"))?;
        let files = relay(tar.stdout.take(), FILES);
        let status = wait_for(i32::try_from(tar.id()).unwrap_or_default());
        let _ = files.join();
        if !status.success() {
            return Err("cannot pack the files asked for with --get".to_owned());
        }
    }
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

/// Words of a file, each ended by a NUL.
fn words(path: &str) -> Result<Vec<String>, String> {
    let bytes = fs::read(path).map_err(|e| format!("{path}: {e}"))?;
    bytes
        .split_inclusive(|byte| *byte == 0)
        .map(|word| {
            let word = word.strip_suffix(b"\0").unwrap_or(word);
            std::ffi::OsStr::from_bytes(word)
                .to_str()
                .map(str::to_owned)
                .ok_or_else(|| format!("{path}: not UTF-8"))
        })
        .collect()
}

/// Passes everything from a pipe to a channel.
fn relay<R: Read + Send + 'static>(from: Option<R>, channel: u16) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let Some(mut from) = from else { return };
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            machine::put(channel, &buffer[..count]);
        }
    })
}

fn report(text: &str) {
    machine::put(REPORT, text.as_bytes());
}

/// Waits for one process, and for any other that became ours, as init must.
fn wait_for(pid: i32) -> ExitStatus {
    loop {
        let mut status = 0;
        // SAFETY: the status is ours to be written.
        let ended = unsafe { waitpid(-1, &raw mut status, 0) };
        if ended == pid || ended < 0 {
            return ExitStatus::from_raw(status);
        }
    }
}

/// Channels are debug ports: a port takes a byte at a time without drivers, interrupts or buffers that
/// could get lost in a crash, and costs the same number of instructions in every run.
#[cfg(target_arch = "x86_64")]
mod machine {
    use std::fs;
    use std::thread;

    /// The port of the first channel; the others follow (`isa-debugcon`).
    const FIRST: u16 = 0xe9;
    /// The `isa-debug-exit` device: any write ends QEMU at once.
    const EXIT: u16 = 0xf4;

    /// Where a tracepoint's number stands; this one is hit for every interrupt that KVM injects.
    const INJECTED: &str = "/sys/kernel/tracing/events/kvm/kvm_inj_virq/id";

    unsafe extern "C" {
        safe fn ioperm(from: u64, count: u64, on: i32) -> i32;
        fn syscall(number: i64, ...) -> i64;
        fn mmap(at: *mut u8, size: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
    }

    /// Makes the channels usable. Permission for ports belongs to the thread that asks for it and those
    /// that it starts.
    pub(crate) fn begin() -> Result<(), String> {
        for (from, count) in [(u64::from(FIRST), 4), (u64::from(EXIT), 1)] {
            if ioperm(from, count, 1) < 0 {
                return Err(format!("ioperm: {}", std::io::Error::last_os_error()));
            }
        }
        if fs::exists("/lab/exits").unwrap_or(false) {
            exit_after_injection()?;
        }
        Ok(())
    }

    pub(crate) fn put(channel: u16, bytes: &[u8]) {
        write(FIRST + channel, bytes);
    }

    pub(crate) fn end() {
        write(EXIT, &[0]);
    }

    fn write(port: u16, bytes: &[u8]) {
        // SAFETY: `outsb` reads `rcx` bytes at `rsi`, all inside the slice. A port that we may
        // not write to is a signal to ourselves, nothing worse.
        unsafe {
            std::arch::asm!(
                "rep outsb",
                in("dx") port,
                inout("rsi") bytes.as_ptr() => _,
                inout("rcx") bytes.len() => _,
                options(nostack, readonly, preserves_flags)
            );
        }
    }

    /// Makes each interrupt that KVM gives to a guest be followed by an exit, before the guest's
    /// next instruction: QEMU's emulation forgets only there that it has delivered it, and gives
    /// it once more if another thread stops the CPU before (docs/lab.md, "Traps").
    ///
    /// A perf event counts KVM's tracepoint and has a reader to wake for each. KVM comes by there
    /// with interrupts off, so the kernel sends the CPU an interrupt of its own (an irq_work), which
    /// ends the guest's run as it begins.
    fn exit_after_injection() -> Result<(), String> {
        /// Linux, arch/x86/entry/syscalls/syscall_64.tbl.
        const PERF_EVENT_OPEN: i64 = 298;
        /// `PERF_FLAG_FD_CLOEXEC`, include/uapi/linux/perf_event.h.
        const CLOEXEC: i64 = 8;
        const PROT_READ: i32 = 1;
        const MAP_SHARED: i32 = 1;
        const PAGE: usize = 4096;
        /// The first 64 bytes of `perf_event_attr` (`PERF_ATTR_SIZE_VER0`).
        #[repr(C)]
        struct Attributes {
            kind: u32,
            size: u32,
            config: u64,
            sample_period: u64,
            sample_type: u64,
            read_format: u64,
            flags: u64,
            wakeup_events: u32,
            bp_type: u32,
            config1: u64,
        }
        let number = fs::read_to_string(INJECTED).map_err(|e| format!("{INJECTED}: {e}"))?;
        let attributes = Attributes {
            kind: 2, // PERF_TYPE_TRACEPOINT
            size: size_of::<Attributes>() as u32,
            config: number
                .trim()
                .parse()
                .map_err(|e| format!("{INJECTED}: {e}"))?,
            sample_period: 1,
            sample_type: 0,
            read_format: 0,
            flags: 0,
            wakeup_events: 1,
            bp_type: 0,
            config1: 0,
        };
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        for cpu in 0..cpus as i64 {
            // Of all processes, on this CPU, in no group.
            // SAFETY: the kernel reads as much of the attributes as they say they have.
            let fd = unsafe {
                syscall(
                    PERF_EVENT_OPEN,
                    &raw const attributes,
                    -1_i64,
                    cpu,
                    -1_i64,
                    CLOEXEC,
                )
            };
            if fd < 0 {
                return Err(format!(
                    "perf_event_open: {}",
                    std::io::Error::last_os_error()
                ));
            }
            // A ring that is never read and may overflow: it is mapped for reading only. Both stay as
            // long as the machine.
            // SAFETY: new memory, at an address of the kernel's choice.
            let ring = unsafe {
                mmap(
                    std::ptr::null_mut(),
                    2 * PAGE,
                    PROT_READ,
                    MAP_SHARED,
                    fd as i32,
                    0,
                )
            };
            if ring.addr() == usize::MAX {
                return Err(format!("perf event: {}", std::io::Error::last_os_error()));
            }
        }
        Ok(())
    }
}

/// Channels are ports of a virtio console. QEMU takes what is written while the CPU waits, so that it
/// is out even if the machine dies in the next moment; only where the host's pipe is full, it has to
/// take the rest later.
#[cfg(target_arch = "aarch64")]
mod machine {
    use std::fs::{self, File, OpenOptions};
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::{REPORT, STDERR, STDOUT};

    /// The ports' names, in the order of the channels' numbers.
    const NAMES: [&str; 4] = ["out", "err", "report", "files"];

    /// How often and after what time a port is looked for: half a minute.
    const PATIENCE: u32 = 3000;
    const PAUSE: Duration = Duration::from_millis(10);

    static CHANNELS: OnceLock<Vec<File>> = OnceLock::new();

    /// How many bytes have been written to each.
    static SENT: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

    /// Makes the channels usable. The console's driver asks the host for its ports, which takes a while.
    pub(crate) fn begin() -> Result<(), String> {
        let mut channels = Vec::new();
        for name in NAMES {
            let mut tries = 0..PATIENCE;
            let path = loop {
                if let Some(path) = find(name) {
                    break path;
                }
                if tries.next().is_none() {
                    return Err(format!("the port {name} of the console did not appear"));
                }
                thread::sleep(PAUSE);
            };
            let file = OpenOptions::new().write(true).open(&path);
            channels.push(file.map_err(|e| format!("{}: {e}", path.display()))?);
        }
        let _ = CHANNELS.set(channels);
        Ok(())
    }

    /// The device of a port.
    fn find(name: &str) -> Option<PathBuf> {
        let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
        let mut ports = ports.flatten();
        let port = ports.find(|port| {
            let found = fs::read_to_string(port.path().join("name"));
            found.is_ok_and(|found| found.trim_end() == name)
        })?;
        Some(Path::new("/dev").join(port.file_name()))
    }

    pub(crate) fn put(channel: u16, bytes: &[u8]) {
        let number = usize::from(channel);
        let Some(mut file) = CHANNELS.get().and_then(|files| files.get(number)) else {
            // The console's line is better than none.
            eprintln!("lab: {}", String::from_utf8_lossy(bytes));
            return;
        };
        if file.write_all(bytes).is_ok() {
            SENT[number].fetch_add(bytes.len() as u64, Ordering::AcqRel);
        }
    }

    /// The lab ends the machine, when it has got all of the output.
    pub(crate) fn end() {
        if CHANNELS.get().is_none() {
            return;
        }
        let sent =
            [STDOUT, STDERR].map(|channel| SENT[usize::from(channel)].load(Ordering::Acquire));
        put(REPORT, format!("sent {} {}\n", sent[0], sent[1]).as_bytes());
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    }
}
