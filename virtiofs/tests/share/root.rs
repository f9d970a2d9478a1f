//! A share's root on the host is not the guest's to change (fault 3).

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use boxbuild_virtiofs::fuse::abi::{SetattrIn, fattr};
use boxbuild_virtiofs::{MountTag, PassthroughFs, Share};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

use crate::support::{ALL_LOCKS, ROOT, TestShare, directory, skip};

/// What other users of the host see of a folder, and what gives them rights.
fn on_host(path: &Path) -> (u32, u32, u32, Vec<Vec<u8>>) {
    let stat = std::fs::metadata(path).unwrap();
    let mut names = vec![0; 4096];
    let len = rustix::fs::listxattr(path, names.as_mut_slice()).unwrap();
    names.truncate(len);
    let system = names
        .split(|byte| *byte == 0)
        .filter(|name| name.starts_with(b"system."))
        .map(<[u8]>::to_vec)
        .collect();
    (stat.mode(), stat.uid(), stat.gid(), system)
}

/// An access list that gives the user 1000 everything.
fn everything_for_1000() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] = [
        (1, 7, !0),
        (2, 7, 1000),
        (4, 7, !0),
        (16, 7, !0),
        (32, 7, !0),
    ];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&perm.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

/// Everything that changes mode, owner or rights of `node`, the root at `path`.
fn ask_for_everything(guest: &mut TestShare, node: u64, path: &Path) {
    let before = on_host(path);
    let keeps = |guest: &mut TestShare, what: &str| {
        assert_eq!(on_host(path), before, "{what}");
        guest.getattr(node).unwrap()
    };
    for mode in [0o777, 0o7777, 0, 0o700, 0o755] {
        let answer = guest.chmod(node, mode).map(|attr| attr.mode & 0o7777);
        assert_eq!(answer, Ok(mode));
        assert_eq!(keeps(guest, "chmod").mode & 0o7777, mode);
        // Also with no mode, its files are there for the guest's root.
        guest.create(node, "probe", 0o600).unwrap();
        guest.unlink(node, "probe").unwrap();
        assert_eq!(on_host(path), before, "what is below it");
    }
    let all = SetattrIn {
        valid: fattr::MODE | fattr::UID | fattr::GID | fattr::MTIME,
        mode: 0o1777,
        uid: 1000,
        gid: 100,
        mtime: 1,
        ..SetattrIn::default()
    };
    let answer = guest.setattr(node, all);
    let now = keeps(guest, "setattr");
    if let Ok(attr) = answer {
        assert_eq!(
            (attr.mode & 0o7777, attr.uid, attr.gid),
            (0o1777, 1000, 100)
        );
        assert_eq!((now.mode & 0o7777, now.uid, now.gid), (0o1777, 1000, 100));
    }
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        let _ = guest.setxattr(node, name, &everything_for_1000());
        keeps(guest, name);
    }
    let own = guest.setxattr(node, "user.containers.override_stat", b"0:0:0777");
    assert_eq!(own, Err(libc::EPERM));
    keeps(guest, "the server's own attribute");
    // And back.
    let mode = before.0 & 0o7777;
    guest.chown(node, 0, 0).unwrap();
    assert_eq!(guest.chmod(node, mode).unwrap().mode & 0o7777, mode);
    assert_eq!(keeps(guest, "chmod back").uid, 0);
}

#[test]
fn a_guest_cannot_change_the_mode_of_its_root_on_the_host() {
    for mode in [0o700, 0o750, 0o755] {
        let mut guest = TestShare::new();
        let path = guest.host("");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        ask_for_everything(&mut guest, ROOT, &path);
        assert_eq!(guest.server.status().fault(), None);
    }
}

/// By the name `.`, were names not checked; and a change of the mode by a handle.
#[test]
fn the_root_has_no_other_name() {
    let mut guest = TestShare::new();
    for name in [".", "..", "./", "./."] {
        assert_eq!(guest.lookup(ROOT, name).unwrap_err(), libc::EINVAL);
    }
    for entry in guest.list(ROOT, true, 4096).unwrap() {
        assert_eq!(entry.node, 0, "dots have no node");
    }
    let path = guest.host("");
    let before = on_host(&path);
    let fh = guest.opendir(ROOT).unwrap();
    let by_handle = SetattrIn {
        valid: fattr::MODE | fattr::FH,
        fh,
        mode: 0o777,
        ..SetattrIn::default()
    };
    assert_eq!(guest.setattr(ROOT, by_handle).unwrap().mode & 0o777, 0o777);
    assert_eq!(on_host(&path), before);
}

#[test]
fn without_checked_names_a_dot_is_still_the_root() {
    let mut guest = TestShare::with_locks(boxbuild_virtiofs::vhost_user::Locks {
        checked_names: false,
        confined: true,
    });
    let path = guest.host("");
    let dot = guest.lookup(ROOT, ".").unwrap().nodeid;
    ask_for_everything(&mut guest, dot, &path);
}

/// A share that lies in another one is reached through that as well.
#[test]
fn the_root_of_a_share_within_another_keeps_its_mode() {
    let mut guest = TestShare::new();
    let inner = guest.host("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::set_permissions(&inner, PermissionsExt::from_mode(0o700)).unwrap();
    let node = guest.lookup(ROOT, "inner").unwrap().nodeid;
    let tag = MountTag::new("inner").unwrap();
    let served = PassthroughFs::new(Share::new(tag, &inner)).unwrap();
    ask_for_everything(&mut guest, node, &inner);
    // Once it is no share any more, it is a folder like any other.
    drop(served);
    guest.chmod(node, 0o755).unwrap();
    assert_eq!(on_host(&inner).0 & 0o777, 0o755);
}

/// Where the file system keeps no attributes, the guest's wishes last as long as the share.
#[test]
fn a_root_without_attributes_keeps_its_mode() {
    let outcome = std::thread::spawn(|| {
        // A file system in memory, in a mount namespace of this thread.
        let dir = directory();
        let (root, private) = (Path::new("/"), MountPropagationFlags::PRIVATE);
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| error.to_string())?;
        mount_change(root, private | MountPropagationFlags::REC).unwrap();
        let path = dir.path().join("share");
        mount("ramfs", &path, "ramfs", MountFlags::empty(), None).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        let mut guest = TestShare::in_dir(dir, |_| {}, ALL_LOCKS);
        let refused = guest.setxattr(ROOT, "user.probe", b"x");
        assert_eq!(refused, Err(libc::EOPNOTSUPP));
        ask_for_everything(&mut guest, ROOT, &path);
        unmount(&path, UnmountFlags::DETACH).unwrap();
        Ok::<_, String>(())
    });
    if let Err(error) = outcome.join().unwrap() {
        skip(&format!("no mount namespace: {error}"));
    }
}

/// The user's own folder without write permission is not opened up for a guest.
#[test]
fn a_read_only_root_stays_so() {
    let mut guest = TestShare::new();
    let path = guest.host("");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o500)).unwrap();
    let before = on_host(&path);
    let _ = guest.create(ROOT, "file", 0o600);
    let _ = guest.mkdir(ROOT, "folder", 0o700);
    assert_eq!(on_host(&path), before);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
}
