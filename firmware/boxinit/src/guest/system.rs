//! The system around the build: virtual file systems, console, clock, identity, udevd.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::time::{ClockId, clock_settime};
use nix::unistd::sethostname;

use super::error::{GuestError, failed, unfit};
use super::load::modules_file;
use super::process::Supervisor;

/// Lines of the kernel's log that are shown after an error.
const LAST_LINES: usize = 12;

/// Mounts the virtual file systems that every program expects, before there is a root.
pub(super) fn mount_early() -> Result<(), GuestError> {
    let restricted = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mounts = [
        ("/proc", "proc", restricted | MsFlags::MS_NOEXEC, ""),
        ("/sys", "sysfs", restricted | MsFlags::MS_NOEXEC, ""),
        ("/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755"),
        ("/run", "tmpfs", restricted, "mode=0755"),
    ];
    for (target, kind, flags, data) in mounts {
        // The box's own ramdisk has most of these folders.
        let _ = fs::create_dir(target);
        mount(Some(kind), target, Some(kind), flags, Some(data))
            .map_err(unfit(format_args!("mount {target}")))?;
    }
    Ok(())
}

/// Mounts and creates what only programs of the root need. Failures are reported on the console.
pub(super) fn mount_late() {
    let restricted = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mounts = [
        (
            "/dev/pts",
            "devpts",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            "gid=5,mode=0620,ptmxmode=0666",
        ),
        ("/dev/shm", "tmpfs", restricted, "mode=1777"),
        (
            "/sys/fs/cgroup",
            "cgroup2",
            restricted | MsFlags::MS_NOEXEC,
            "",
        ),
    ];
    for (target, kind, flags, data) in mounts {
        let _ = fs::create_dir(target);
        if let Err(error) = mount(Some(kind), target, Some(kind), flags, Some(data)) {
            eprintln!("boxbuild: cannot mount {target}: {error}");
        }
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let _ = symlink(target, Path::new("/dev").join(name));
    }
    for folder in ["/run/lock", "/tmp", "/var/tmp"] {
        let _ = fs::create_dir_all(folder);
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o1777));
    }
    make_static_nodes();
}

/// Makes the device nodes whose first use loads their module, e.g. `loop-control`, from the file
/// `modules.devname` (depmod(8)), as kmod-static-nodes.service would.
fn make_static_nodes() {
    let list = modules_file("modules.devname").unwrap_or_default();
    for line in list.lines() {
        // MODULE NAME TYPEmajor:minor
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [module, name, number] = fields[..] else {
            continue;
        };
        let (kind, number) = number.split_at(1);
        let kind = match kind {
            "c" => SFlag::S_IFCHR,
            "b" => SFlag::S_IFBLK,
            _ => continue,
        };
        let Some((Ok(major), Ok(minor))) = number
            .split_once(':')
            .map(|(major, minor)| (major.parse(), minor.parse()))
        else {
            continue;
        };
        if module.starts_with('#') || name.contains("..") {
            continue;
        }
        let path = Path::new("/dev").join(name);
        if let Some(folder) = path.parent() {
            let _ = fs::create_dir_all(folder);
        }
        // Fails for nodes that exist already: they stay.
        let _ = mknod(
            &path,
            kind,
            Mode::from_bits_truncate(0o600),
            makedev(major, minor),
        );
    }
}

/// Makes the console this process's standard streams, if it has a driver by now.
pub(super) fn open_console() {
    let Ok(console) = File::options().read(true).write(true).open("/dev/console") else {
        return;
    };
    for fd in 0..3 {
        // SAFETY: both descriptors are open or numbers of the three standard streams, which
        // nothing in this program owns.
        unsafe { libc::dup2(console.as_raw_fd(), fd) };
    }
}

/// Adds hexadecimal digits to the kernel's entropy, at most the first 64.
pub(super) fn add_entropy(digits: &OsStr) {
    /// `struct rand_pool_info` (linux/random.h) with its bytes.
    #[repr(C)]
    struct Pool {
        entropy_bits: libc::c_int,
        size: libc::c_int,
        bytes: [u8; 64],
    }
    /// `RNDADDENTROPY` there: `_IOW('R', 0x03, int[2])`.
    const ADD: libc::c_ulong = 0x4008_5203;
    let digits = &digits.as_bytes()[..digits.len().min(64)];
    if digits.is_empty() {
        return;
    }
    let mut pool = Pool {
        // Four bits each.
        entropy_bits: digits.len() as libc::c_int * 4,
        size: digits.len() as libc::c_int,
        bytes: [0; 64],
    };
    pool.bytes[..digits.len()].copy_from_slice(digits);
    if let Ok(random) = File::options().write(true).open("/dev/urandom") {
        // SAFETY: the kernel reads the structure, whose size field is within its bytes.
        unsafe { libc::ioctl(random.as_raw_fd(), ADD as _, &raw const pool) };
    }
}

/// Sets kernel parameters, host name, clock and machine ID. `host_time` is in seconds since the
/// epoch, 0 if unknown.
pub(super) fn configure(host_time: u64) {
    // The disk is thrown away: dirty pages stay in memory while there is room.
    for (name, text) in [
        ("vm/dirty_background_ratio", "50"),
        ("vm/dirty_ratio", "80"),
        ("vm/dirty_expire_centisecs", "60000"),
        ("vm/dirty_writeback_centisecs", "3000"),
    ] {
        let _ = fs::write(Path::new("/proc/sys").join(name), text);
    }
    // Where memory is too small for what programs use all the time, the kernel kills one, rather than to
    // read their code from the disk again and again, for hours
    // (Documentation/admin-guide/mm/multigen_lru.rst, "Thrashing prevention").
    let _ = fs::write("/sys/kernel/mm/lru_gen/min_ttl_ms", "1000");
    let _ = sethostname("boxbuild");
    set_clock(host_time);
    let empty = fs::read_to_string("/etc/machine-id")
        .map_or(true, |id| matches!(id.trim_end(), "" | "uninitialized"));
    if empty && let Some(id) = random_id() {
        let _ = fs::write("/etc/machine-id", id + "\n");
    }
}

/// Sets the clock if it is not within a day after `host_time`: the machine has no clock of its own
/// then.
fn set_clock(host_time: u64) {
    const DAY: u64 = 24 * 60 * 60;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    if host_time > 0 && !(host_time..host_time + DAY).contains(&now) {
        let _ = clock_settime(
            ClockId::CLOCK_REALTIME,
            Duration::from_secs(host_time).into(),
        );
    }
}

/// Has the clock stand still at `time`, in seconds since the epoch: it is set back before a second is
/// over, from now on.
pub(super) fn hold_clock(time: u64) {
    const OFTEN: Duration = Duration::from_millis(100);
    let hold = move || loop {
        let _ = clock_settime(ClockId::CLOCK_REALTIME, Duration::from_secs(time).into());
        // By the monotonic clock.
        std::thread::sleep(OFTEN);
    };
    // The thread ends with this process.
    let _ = std::thread::Builder::new().spawn(hold);
}

/// A random machine ID: 32 hexadecimal digits, a version 4 UUID without its hyphens
/// (machine-id(5)).
fn random_id() -> Option<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .ok()?
        .read_exact(&mut bytes)
        .ok()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Starts udevd: kiwi waits for the device nodes of loop partitions, which udev reports. Devices
/// that exist already are not triggered.
pub(super) fn start_udevd(supervisor: &mut Supervisor) {
    const PROGRAMS: [&str; 4] = [
        "/usr/lib/systemd/systemd-udevd",
        "/lib/systemd/systemd-udevd",
        "/sbin/udevd",
        "/usr/lib/udev/udevd",
    ];
    let Some(udevd) = PROGRAMS.iter().find(|path| Path::new(path).exists()) else {
        return;
    };
    let mut command = Command::new(udevd);
    command.arg("--resolve-names=never");
    if let Err(error) = supervisor.start_daemon(command) {
        eprintln!("boxbuild: cannot start {udevd}: {error}");
    }
}

/// Writes everything to the disk and remounts the root read-only, so that its file system is clean.
pub(super) fn sync_root() {
    nix::unistd::sync();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    if mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).is_err() {
        nix::unistd::sync();
    }
}

/// Prints the last lines of the kernel's log, which a fast boot keeps off the console (`quiet`).
pub(super) fn show_kernel_log() {
    /// `SYSLOG_ACTION_READ_ALL` and the size of a distribution kernel's buffer (syslog(2)).
    const READ_ALL: libc::c_int = 3;
    let mut buffer = vec![0_u8; 256 << 10];
    // SAFETY: the kernel writes at most that many bytes to the buffer.
    let count = unsafe {
        libc::klogctl(
            READ_ALL,
            buffer.as_mut_ptr().cast(),
            buffer.len() as libc::c_int,
        )
    };
    let text = String::from_utf8_lossy(&buffer[..usize::try_from(count).unwrap_or(0)]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
        // Without the prefix <LEVEL>.
        eprintln!("{}", line.split_once('>').map_or(*line, |(_, line)| line));
    }
}

/// Writes a configuration file of the box.
pub(super) fn write(path: &str, content: &str) -> Result<(), GuestError> {
    fs::write(path, content).map_err(failed(format_args!("write {path}")))
}
