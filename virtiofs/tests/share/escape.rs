//! Ways in which a guest, alone or with a helper on the host, may try to reach files outside of
//! its share.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use boxbuild_virtiofs_client::{Client, set_times};

use crate::support::{ALL_LOCKS, ROOT, TestShare, directory};

/// Names that cannot be a directory's own entries.
const NOT_NAMES: [&str; 12] = [
    "",
    ".",
    "..",
    "/",
    "./x",
    "../victim",
    "sub/..",
    "sub/../../victim",
    "sub/file",
    "sub/",
    "/etc/passwd",
    "//",
];

#[test]
fn invalid_names_are_refused_everywhere() {
    let mut guest = TestShare::new();
    let sub = guest.mkdir(ROOT, "sub", 0o755).unwrap().nodeid;
    let file = guest
        .mknod(sub, "file", libc::S_IFREG | 0o600, 0)
        .unwrap()
        .nodeid;
    for name in NOT_NAMES {
        for parent in [ROOT, sub] {
            let answers = [
                guest.lookup(parent, name).map(drop),
                guest.create(parent, name, 0o600).map(drop),
                guest.mkdir(parent, name, 0o700).map(drop),
                guest
                    .mknod(parent, name, libc::S_IFREG | 0o600, 0)
                    .map(drop),
                guest
                    .mknod(parent, name, libc::S_IFIFO | 0o600, 0)
                    .map(drop),
                guest.symlink(parent, name, "x").map(drop),
                guest.link(file, parent, name).map(drop),
                guest.unlink(parent, name),
                guest.rmdir(parent, name),
                guest.rename((parent, name), (ROOT, "x")),
                guest.rename((sub, "file"), (parent, name)),
                guest.rename2((parent, name), (ROOT, "x"), libc::RENAME_NOREPLACE),
                guest.rename2((sub, "file"), (parent, name), libc::RENAME_EXCHANGE),
            ];
            assert_eq!(answers, [Err(libc::EINVAL); 13], "{name:?}");
        }
    }
    let long = "x".repeat(256);
    assert_eq!(guest.lookup(ROOT, &long).unwrap_err(), libc::ENAMETOOLONG);
    assert_eq!(
        guest.mkdir(ROOT, &long, 0o700).unwrap_err(),
        libc::ENAMETOOLONG
    );
    guest.assert_unharmed();
    assert_eq!(guest.list(ROOT, false, 4096).unwrap().len(), 3);
}

/// The node of a symbolic link gives access to nothing but the link itself.
fn assert_closed(guest: &mut Client, node: u64) {
    for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR | libc::O_TRUNC] {
        assert_eq!(guest.open(node, flags), Err(libc::ELOOP));
    }
    assert_eq!(guest.opendir(node), Err(libc::ENOTDIR));
    for name in ["passwd", "victim", "sub"] {
        assert_eq!(guest.lookup(node, name).unwrap_err(), libc::ENOTDIR);
        assert_eq!(guest.create(node, name, 0o600).unwrap_err(), libc::ENOTDIR);
        assert_eq!(guest.mkdir(node, name, 0o700).unwrap_err(), libc::ENOTDIR);
        assert_eq!(guest.unlink(node, name), Err(libc::ENOTDIR));
        assert_eq!(guest.rename((node, name), (ROOT, "x")), Err(libc::ENOTDIR));
        assert_eq!(guest.rename((ROOT, "x"), (node, name)), Err(libc::ENOTDIR));
        assert_eq!(guest.link(node, node, name).unwrap_err(), libc::ENOTDIR);
    }
    assert_eq!(guest.truncate(node, 0).unwrap_err(), libc::EINVAL);
    assert_eq!(guest.chmod(node, 0o777).unwrap_err(), libc::EOPNOTSUPP);
    assert!(guest.setxattr(node, "user.x", b"x").is_err());
    assert!(guest.getxattr(node, "user.x").is_err());
}

#[test]
fn symbolic_links_are_never_followed() {
    let mut guest = TestShare::new();
    let victim = guest.dir.path().join("victim");
    let before = std::fs::metadata(&victim).unwrap();
    let outside = guest.dir.path().to_str().unwrap().to_owned();
    let targets = [
        "/etc/passwd",
        "/etc",
        "..",
        "../victim",
        "/proc/self/root",
        "/proc/self/cwd",
        "/proc/self/fd/0",
        "/proc/self/exe",
        &outside,
        victim.to_str().unwrap(),
    ];
    for (number, target) in targets.iter().enumerate() {
        let (made, found) = (format!("guest-{number}"), format!("host-{number}"));
        symlink(target, guest.host(&found)).unwrap();
        let made = guest.symlink(ROOT, made, target).unwrap();
        let found = guest.lookup(ROOT, found).unwrap();
        for entry in [made, found] {
            assert_eq!(entry.attr.mode & libc::S_IFMT, libc::S_IFLNK);
            assert_eq!(guest.readlink(entry.nodeid).unwrap(), target.as_bytes());
            assert_closed(&mut guest, entry.nodeid);
            // These change the link.
            guest.setattr(entry.nodeid, set_times(1, 1)).unwrap();
            let _ = guest.chown(entry.nodeid, 1000, 1000);
        }
        // A hard link to the link is a link.
        let name = format!("linked-{number}");
        let linked = guest.link(made.nodeid, ROOT, &name).unwrap();
        assert_eq!(linked.nodeid, made.nodeid);
        let host = std::fs::read_link(guest.host(&name)).unwrap();
        assert_eq!(host.to_str(), Some(*target));
        // Creating a file under the link's name does not follow it.
        let flags = libc::O_RDWR | libc::O_CREAT;
        let name = format!("host-{number}");
        let created = guest.create_with(ROOT, name, 0o600, flags);
        assert_eq!(created.unwrap_err(), libc::ELOOP);
    }
    guest.assert_unharmed();
    let after = std::fs::metadata(&victim).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(before.permissions(), after.permissions());
}

#[test]
fn magic_links_of_proc_are_only_links() {
    let mut guest = TestShare::in_dir(
        directory(),
        |share| {
            share.root = "/proc/self".into();
            share.read_only = true;
        },
        ALL_LOCKS,
    );
    for name in ["root", "cwd", "exe"] {
        let link = guest.lookup(ROOT, name).unwrap();
        assert_eq!(link.attr.mode & libc::S_IFMT, libc::S_IFLNK, "{name}");
        assert_eq!(guest.open(link.nodeid, libc::O_RDONLY), Err(libc::ELOOP));
        assert_eq!(guest.opendir(link.nodeid), Err(libc::ENOTDIR));
        let below = guest.lookup(link.nodeid, "etc");
        assert_eq!(below.unwrap_err(), libc::ENOTDIR);
    }
    let fds = guest.lookup(ROOT, "fd").unwrap().nodeid;
    for entry in guest.list(fds, false, 4096).unwrap() {
        if entry.name.starts_with(b".") {
            continue;
        }
        // Some are closed meanwhile.
        if let Ok(fd) = guest.lookup(fds, &entry.name) {
            assert_eq!(guest.open(fd.nodeid, libc::O_RDONLY), Err(libc::ELOOP));
        }
    }
}

#[test]
fn hard_links_are_made_only_inside() {
    let mut guest = TestShare::new();
    let file = guest
        .mknod(ROOT, "file", libc::S_IFREG | 0o600, 0)
        .unwrap()
        .nodeid;
    assert_eq!(guest.link(file, ROOT, "../out").unwrap_err(), libc::EINVAL);
    let dir = guest.mkdir(ROOT, "dir", 0o700).unwrap().nodeid;
    assert_eq!(guest.link(dir, ROOT, "other").unwrap_err(), libc::EPERM);
    assert_eq!(guest.link(ROOT, dir, "loop").unwrap_err(), libc::EPERM);
    // Node ids that do not exist.
    for node in [0, 999, u64::MAX] {
        assert_eq!(guest.link(node, ROOT, "x").unwrap_err(), libc::ENOENT);
    }
    // A file that the host links into the share is part of it, as with any export.
    std::fs::hard_link(guest.dir.path().join("victim"), guest.host("shared")).unwrap();
    let shared = guest.lookup(ROOT, "shared").unwrap();
    assert_eq!(shared.attr.nlink, 2);
    guest.unlink(ROOT, "shared").unwrap();
    guest.assert_unharmed();
}

/// A thread swaps a directory of the share for a symbolic link to the outside and back while the
/// client works. The client never reaches anything outside.
#[test]
fn a_directory_that_turns_into_a_link_leads_nowhere() {
    let mut guest = TestShare::new();
    std::fs::create_dir(guest.host("dir")).unwrap();
    std::fs::write(guest.host("dir/victim"), "inside").unwrap();
    symlink("..", guest.host("link")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (stop, dir) = (Arc::clone(&stop), guest.host("dir"));
        let link = guest.host("link");
        std::thread::spawn(move || {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let flags = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &dir, AT_FDCWD, &link, flags).unwrap();
                swaps += 1;
            }
            swaps
        })
    };
    let (mut links, mut directories) = (0, 0);
    // Until the client has seen both often enough, however the threads are scheduled.
    while links < 500 || directories < 500 {
        let entry = guest.lookup(ROOT, "dir").unwrap();
        if entry.attr.mode & libc::S_IFMT == libc::S_IFLNK {
            links += 1;
            assert_closed(&mut guest, entry.nodeid);
        } else {
            directories += 1;
            let dir = entry.nodeid;
            let file = guest.lookup(dir, "victim").unwrap().nodeid;
            let fh = guest.open(file, libc::O_RDWR).unwrap();
            assert_eq!(guest.read(file, fh, 0, 99).unwrap(), b"inside");
            guest.release(file, fh).unwrap();
            guest.mkdir(dir, "made", 0o700).unwrap();
            guest.rename((dir, "made"), (ROOT, "moved")).unwrap();
            guest.rmdir(ROOT, "moved").unwrap();
            guest.forget(file, 1);
        }
        guest.forget(entry.nodeid, 1);
    }
    stop.store(true, Ordering::Relaxed);
    assert_ne!(swapping.join().unwrap(), 0);
    guest.assert_unharmed();
}

/// A directory that the host moves out of the share gives no access to its new parent.
#[test]
fn a_directory_that_left_the_share_is_closed() {
    let mut guest = TestShare::new();
    if !guest.is_confined() {
        return;
    }
    let dir = guest.mkdir(ROOT, "dir", 0o700).unwrap().nodeid;
    let outside = guest.dir.path().join("outside");
    std::fs::rename(guest.host("dir"), &outside).unwrap();
    assert_eq!(guest.create(dir, "x", 0o600).unwrap_err(), libc::EACCES);
    assert_eq!(guest.mkdir(dir, "x", 0o700).unwrap_err(), libc::EACCES);
    assert_eq!(guest.opendir(dir), Err(libc::EACCES));
    assert_eq!(guest.lookup(dir, "..").unwrap_err(), libc::EINVAL);
    std::fs::rename(&outside, guest.host("dir")).unwrap();
    guest.mkdir(dir, "x", 0o700).unwrap();
    guest.assert_unharmed();
}
