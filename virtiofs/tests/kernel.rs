//! A share under this machine's own kernel: served by the example `mount` to its FUSE client, so that
//! what Linux makes of the answers is tested as well. Needs root and /dev/fuse.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::ffi::{CStr, CString};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags};

/// Serves the share, as boxbuild's user has it.
const SERVER: u32 = 54321;

/// A mounted share, with a folder beside it.
struct Mounted {
    dir: tempfile::TempDir,
    server: Child,
}

impl Mounted {
    /// Prints `skipped` where nothing can be mounted.
    fn new(test: &str) -> Option<Mounted> {
        let skip = |reason: &str| {
            let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
            None
        };
        if !nix::unistd::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            return skip("mounting a share here needs root and /dev/fuse");
        }
        // Beside this program's folder `deps`.
        let own = std::env::current_exe().unwrap();
        let program = own
            .parent()
            .unwrap()
            .with_file_name("examples")
            .join("mount");
        if !program.exists() {
            return skip("the example mount is not built");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (share, point) = (dir.path().join("share"), dir.path().join("mount"));
        fs::create_dir(&share).unwrap();
        fs::create_dir(&point).unwrap();
        chown(&share, Some(SERVER), Some(SERVER)).unwrap();
        let device = fs::metadata(&point).unwrap().dev();
        let mut server = Command::new(program)
            .args([&share, &point])
            .arg(SERVER.to_string())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        // An earlier look would wait for the server.
        while fs::metadata(&point).is_ok_and(|now| now.dev() == device) {
            if let Some(status) = server.try_wait().unwrap() {
                return skip(&format!("this root may not mount ({status})"));
            }
            assert!(Instant::now() < end, "the share is not mounted");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Mounted { dir, server })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("mount").join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(""), UnmountFlags::DETACH);
        let _ = self.server.wait();
    }
}

/// An overlay in `folder` over the folder `lower`; unmounted with this value.
struct Overlay(PathBuf);

impl Overlay {
    fn mount(folder: &Path, lower: &Path, options: &str) -> rustix::io::Result<Overlay> {
        for name in ["upper", "work", "merged"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let path = |name: &str| folder.join(name).display().to_string();
        let data = format!(
            "{options}lowerdir={},upperdir={},workdir={}",
            lower.display(),
            path("upper"),
            path("work")
        );
        let data = std::ffi::CString::new(data).unwrap();
        let merged = folder.join("merged");
        let flags = MountFlags::empty();
        rustix::mount::mount("overlay", &merged, "overlay", flags, Some(data.as_c_str()))?;
        Ok(Overlay(merged))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What overlayfs does to its layers: copies up, removes, renames, makes folders opaque.
fn change(merged: &Path, upper: &Path) {
    let path = |name: &str| merged.join(name);
    OpenOptions::new()
        .append(true)
        .open(path("file"))
        .unwrap()
        .write_all(b", changed")
        .unwrap();
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "lower, changed");
    fs::set_permissions(path("other"), fs::Permissions::from_mode(0o4751)).unwrap();
    chown(path("other"), Some(1000), Some(100)).unwrap();
    let other = fs::metadata(path("other")).unwrap();
    assert_eq!((other.uid(), other.gid()), (1000, 100));
    fs::remove_file(path("gone")).unwrap();
    fs::rename(path("file"), path("moved")).unwrap();
    fs::remove_dir_all(path("folder")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    assert_eq!(names(&path("folder")), [""; 0]);
    assert_eq!(names(merged), ["folder", "moved", "other"]);
    for name in ["file", "gone"] {
        let whiteout = fs::symlink_metadata(upper.join(name)).unwrap();
        assert!(whiteout.file_type().is_char_device(), "{name}");
        assert_eq!(whiteout.rdev(), 0, "{name}");
    }
}

fn fill(lower: &Path) {
    fs::create_dir_all(lower.join("folder")).unwrap();
    for name in ["file", "other", "gone", "folder/inside"] {
        fs::write(lower.join(name), "lower").unwrap();
    }
}

/// Linux refused a share as the upper layer, and before 6.6 as a lower one: podman's storage and kiwi's
/// overlays in a target folder.
#[test]
fn a_share_is_each_layer_of_overlayfs() {
    let Some(share) = Mounted::new("a_share_is_each_layer_of_overlayfs") else {
        return;
    };
    // Both layers on the share, and with attributes of ordinary users, as rootless podman has them.
    for (number, options) in ["", "userxattr,"].into_iter().enumerate() {
        let lower = share.path(&format!("lower{number}"));
        let folder = share.path(&format!("overlay{number}"));
        fill(&lower);
        let overlay = Overlay::mount(&folder, &lower, options);
        let overlay = overlay.unwrap_or_else(|error| panic!("{options}: {error}"));
        change(&overlay.0, &folder.join("upper"));
        drop(overlay);
        assert_eq!(fs::read_to_string(lower.join("file")).unwrap(), "lower");
        // Once more, by what the layers keep.
        let overlay = Overlay::mount(&folder, &lower, options).unwrap();
        assert_eq!(names(&overlay.0), ["folder", "moved", "other"]);
        assert_eq!(names(&overlay.0.join("folder")), [""; 0]);
    }
    // The lower layer alone.
    let outside = tempfile::tempdir().unwrap();
    fill(&share.path("lower"));
    if let Ok(overlay) = Overlay::mount(outside.path(), &share.path("lower"), "") {
        change(&overlay.0, &outside.path().join("upper"));
    }
}

/// A file that something else was renamed over goes on, with all that can be done to an open file.
#[test]
fn an_open_file_outlives_its_name() {
    let Some(share) = Mounted::new("an_open_file_outlives_its_name") else {
        return;
    };
    fs::write(share.path("new"), "new").unwrap();
    fs::write(share.path("old"), "old contents").unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(share.path("old"))
        .unwrap();
    fs::rename(share.path("new"), share.path("old")).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o640))
        .unwrap();
    std::os::unix::fs::fchown(&file, Some(12), Some(34)).unwrap();
    let now = file.metadata().unwrap();
    assert_eq!(
        (now.mode() & 0o7777, now.nlink(), now.len()),
        (0o640, 0, 12)
    );
    assert_eq!((now.uid(), now.gid()), (12, 34));
    file.write_all_at(b"OLD", 0).unwrap();
    file.set_len(5).unwrap();
    file.sync_all().unwrap();
    // By the descriptor's link as well, where the name is gone.
    let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let mut bytes = [0; 8];
    assert_eq!(again.read_at(&mut bytes, 0).unwrap(), 5);
    assert_eq!(&bytes[..5], b"OLD c");
    drop((file, again));
    assert_eq!(fs::read_to_string(share.path("old")).unwrap(), "new");
    // A folder, too.
    fs::create_dir(share.path("folder")).unwrap();
    let folder = File::open(share.path("folder")).unwrap();
    fs::remove_dir(share.path("folder")).unwrap();
    folder
        .set_permissions(fs::Permissions::from_mode(0o711))
        .unwrap();
    assert_eq!(folder.metadata().unwrap().nlink(), 0);
    drop(folder);
    assert_eq!(names(&share.path("")), ["old"]);
}

/// The kinds of locks: flock(2), lockf(3), and of open file descriptions (fcntl(2)).
const LOCKS: [&str; 3] = ["flock", "lockf", "ofd"];

/// Tries to lock an open file for writing; whether it could be had.
fn try_lock(fd: RawFd, kind: &str) -> bool {
    // SAFETY: an all-zero flock is one for all of the file, and the calls get no other pointer.
    let result = unsafe {
        let mut region: libc::flock = std::mem::zeroed();
        region.l_type = libc::F_WRLCK as libc::c_short;
        match kind {
            "flock" => libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB),
            "lockf" => libc::fcntl(fd, libc::F_SETLK, &raw const region),
            _ => libc::fcntl(fd, libc::F_OFD_SETLK, &raw const region),
        }
    };
    result == 0
}

/// Whether another process can lock the file at `path`.
fn another_process_can_lock(path: &CStr, kind: &str) -> bool {
    // SAFETY: the child calls only what is allowed after a fork of a threaded process
    // (signal-safety(7)), and ends without its parent's handlers.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        // SAFETY: as above; the path outlives the call.
        0 => unsafe {
            let fd = libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            libc::_exit(match fd {
                -1 => 2,
                fd => i32::from(!try_lock(fd, kind)),
            })
        },
        child => {
            let mut status = 0;
            // SAFETY: the status is written to the place that is given.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert!(libc::WIFEXITED(status), "{status:#x}");
            match libc::WEXITSTATUS(status) {
                0 => true,
                1 => false,
                code => panic!("the other process cannot open the file ({code})"),
            }
        }
    }
}

#[test]
fn locks_keep_other_processes_out() {
    let Some(share) = Mounted::new("locks_keep_other_processes_out") else {
        return;
    };
    let path = share.path("file");
    fs::write(&path, "").unwrap();
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    let other = |kind: &str| another_process_can_lock(&name, kind);
    for kind in LOCKS {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        assert!(try_lock(file.as_raw_fd(), kind), "{kind}");
        assert!(!other(kind), "{kind}");
        // The latter two see each other.
        match kind {
            "lockf" => assert!(!other("ofd")),
            "ofd" => assert!(!other("lockf")),
            _ => assert!(other("lockf")),
        }
        drop(file);
        assert!(other(kind), "{kind} is not given back");
    }
}

/// A disk of 10 GiB with little in it takes little, written and copied by the tools that builds use.
#[test]
fn a_sparse_disk_stays_sparse() {
    const LEN: u64 = 10 << 30;
    let Some(share) = Mounted::new("a_sparse_disk_stays_sparse") else {
        return;
    };
    let disk = File::create_new(share.path("disk")).unwrap();
    disk.set_len(LEN).unwrap();
    for at in [0, LEN / 2, LEN - 4096] {
        disk.write_all_at(&[7; 4096], at).unwrap();
    }
    drop(disk);
    for (copy, command) in [
        ("cp", "cp disk cp"),
        ("cp-a", "cp -a disk cp-a"),
        ("x/disk", "mkdir x && tar -cSf - disk | tar -xSf - -C x"),
        (
            "dd",
            "dd if=disk of=dd bs=1M conv=sparse status=none skip=5100 seek=5100 count=50",
        ),
    ] {
        let status = Command::new("sh")
            .args(["-c", command])
            .current_dir(share.path(""))
            .status()
            .unwrap();
        assert!(status.success(), "{command}");
        let copied = fs::metadata(share.path(copy)).unwrap();
        if copy != "dd" {
            assert_eq!(copied.len(), LEN, "{command}");
        }
        let taken = copied.blocks() * 512;
        assert!(taken <= 4 << 20, "{command}: {taken} bytes");
        let mut bytes = [0; 4];
        let file = File::open(share.path(copy)).unwrap();
        file.read_exact_at(&mut bytes, LEN / 2).unwrap();
        assert_eq!(bytes, [7; 4], "{command}");
    }
    // On the host as well.
    let host = fs::metadata(share.dir.path().join("share/disk")).unwrap();
    assert!(host.len() == LEN && host.blocks() * 512 <= 4 << 20);
    // And given back: a hole is made in what was data.
    let status = Command::new("fallocate")
        .args(["-p", "-o", "0", "-l", "4096", "disk"])
        .current_dir(share.path(""))
        .status();
    if status.is_ok_and(|status| status.success()) {
        let mut bytes = [7; 4];
        let file = File::open(share.path("disk")).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [0; 4]);
    }
}
