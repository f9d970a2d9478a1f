//! Every operation that the server implements, each at least once.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use boxbuild_virtiofs::fuse::abi::{ForgetIn, GetattrIn, opcode};
use boxbuild_virtiofs::vhost_user::ShareServer;
use boxbuild_virtiofs_client::{Client, Request, set_times};
use vm_memory::ByteValued;

use crate::support::{ROOT, TestShare, share, skip};

#[test]
fn files_are_created_written_read_and_released() {
    let mut guest = TestShare::new();
    let (entry, fh) = guest.create(ROOT, "a", 0o644).unwrap();
    let node = entry.nodeid;
    assert_eq!(entry.attr.mode, libc::S_IFREG | 0o644);
    assert_eq!((entry.attr.uid, entry.attr.gid), (0, 0));
    assert_eq!(guest.write(node, fh, 0, b"hello"), Ok(5));
    assert_eq!(guest.write(node, fh, 10, b"world"), Ok(5));
    assert_eq!(
        guest.read(node, fh, 0, 99).unwrap(),
        b"hello\0\0\0\0\0world"
    );
    assert_eq!(guest.read(node, fh, 15, 99).unwrap(), b"");
    guest.fsync(node, fh, true).unwrap();
    guest.fsync(node, fh, false).unwrap();
    // The server tells the guest not to send FLUSH.
    assert_eq!(guest.flush(node, fh), Err(libc::ENOSYS));
    guest.release(node, fh).unwrap();
    assert_eq!(guest.read(node, fh, 0, 1), Err(libc::EBADF));

    assert_eq!(std::fs::read(guest.host("a")).unwrap().len(), 15);
    let fh = guest.open(node, libc::O_RDONLY).unwrap();
    assert_eq!(guest.write(node, fh, 0, b"x"), Err(libc::EBADF));
    assert_eq!(guest.read(node, fh, 10, 5).unwrap(), b"world");
    guest.release(node, fh).unwrap();
    let fh = guest.open(node, libc::O_RDWR | libc::O_TRUNC).unwrap();
    assert_eq!(guest.getattr(node).unwrap().size, 0);
    guest.release(node, fh).unwrap();
    guest.syncfs(ROOT).unwrap();
    guest.interrupt(2);
}

#[test]
fn transfers_of_every_size_pass_whole() {
    let mut guest = TestShare::new();
    let (entry, fh) = guest.create(ROOT, "big", 0o600).unwrap();
    let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    for size in [1, 4095, 4096, 4097, 65_537, 1 << 20] {
        let (part, offset) = (&data[..size], size as u64 * 3);
        assert_eq!(guest.write(entry.nodeid, fh, offset, part), Ok(size as u32));
        let back = guest.read(entry.nodeid, fh, offset, size as u32).unwrap();
        assert!(back == part, "{size} bytes");
    }
    // 3 MiB that were never written and the last megabyte, which was.
    let host = std::fs::read(guest.host("big")).unwrap();
    assert_eq!(host.len(), 4 << 20);
    assert!(host[3 << 20..] == data);
}

#[test]
fn names_are_made_linked_renamed_and_removed() {
    let mut guest = TestShare::new();
    let dir = guest.mkdir(ROOT, "dir", 0o750).unwrap();
    assert_eq!(dir.attr.mode, libc::S_IFDIR | 0o750);
    let file = guest
        .mknod(dir.nodeid, "file", libc::S_IFREG | 0o640, 0)
        .unwrap();
    let linked = guest.link(file.nodeid, ROOT, "linked").unwrap();
    assert_eq!((linked.nodeid, linked.attr.nlink), (file.nodeid, 2));
    assert_eq!(guest.rmdir(ROOT, "dir"), Err(libc::ENOTEMPTY));
    guest.rename((dir.nodeid, "file"), (ROOT, "moved")).unwrap();
    let flags = libc::RENAME_NOREPLACE;
    let (from, to) = ((ROOT, "moved"), (ROOT, "linked"));
    assert_eq!(guest.rename2(from, to, flags), Err(libc::EEXIST));
    let to = (ROOT, "dir");
    guest.rename2(from, to, libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(guest.lookup(ROOT, "moved").unwrap().nodeid, dir.nodeid);
    assert_eq!(guest.rmdir(ROOT, "dir"), Err(libc::ENOTDIR));
    assert_eq!(guest.unlink(ROOT, "moved"), Err(libc::EISDIR));
    guest.unlink(ROOT, "dir").unwrap();
    guest.rmdir(ROOT, "moved").unwrap();
    assert_eq!(guest.lookup(ROOT, "moved").unwrap_err(), libc::ENOENT);
    assert_eq!(std::fs::read_dir(guest.host("")).unwrap().count(), 1);
}

/// Linux mounts overlayfs over a share (podman's storage in a target folder) only if this leaves the
/// character device 0:0 behind.
#[test]
fn a_renaming_leaves_a_whiteout() {
    let mut guest = TestShare::new();
    let (file, fh) = guest.create(ROOT, "file", 0o600).unwrap();
    guest.write(file.nodeid, fh, 0, b"data").unwrap();
    let device = guest.mknod(ROOT, "null", libc::S_IFCHR | 0o666, 0x103);
    let (from, to) = ((ROOT, "file"), (ROOT, "renamed"));
    let renamed = guest.rename2(from, to, libc::RENAME_WHITEOUT);
    if device.is_err() || guest.tmpfile(ROOT, 0o600).is_err() {
        assert_eq!(renamed, Err(libc::EINVAL));
        return skip("the temporary folder has no user xattrs or no unnamed files");
    }
    renamed.unwrap();
    assert_eq!(guest.lookup(ROOT, "renamed").unwrap().nodeid, file.nodeid);
    let whiteout = guest.lookup(ROOT, "file").unwrap();
    assert_eq!((whiteout.attr.mode, whiteout.attr.rdev), (libc::S_IFCHR, 0));
    let listed = guest.list(ROOT, false, 4096).unwrap();
    let kind = |name: &str| {
        let entry = listed.iter().find(|entry| entry.name == name.as_bytes());
        entry.map(|entry| entry.kind)
    };
    assert_eq!(kind("file"), Some(u32::from(libc::DT_CHR)));
    assert_eq!(kind("renamed"), Some(u32::from(libc::DT_REG)));
    // A stand-in on the host, which nothing else takes for a device.
    let host = std::fs::symlink_metadata(guest.host("file")).unwrap();
    assert!(host.is_file() && host.len() == 0);
    // Over the whiteout, and between folders.
    let dir = guest.mkdir(ROOT, "dir", 0o700).unwrap();
    let (from, to) = ((ROOT, "renamed"), (ROOT, "file"));
    guest.rename2(from, to, libc::RENAME_WHITEOUT).unwrap();
    let to = (dir.nodeid, "inside");
    guest
        .rename2((ROOT, "file"), to, libc::RENAME_WHITEOUT)
        .unwrap();
    assert_eq!(guest.read(file.nodeid, fh, 0, 9).unwrap(), b"data");
    for name in ["file", "renamed"] {
        let attr = guest.lookup(ROOT, name).unwrap().attr;
        assert_eq!(attr.mode & libc::S_IFMT, libc::S_IFCHR, "{name}");
    }
    let nothing = guest.rename2((ROOT, "none"), to, libc::RENAME_WHITEOUT);
    assert_eq!(nothing, Err(libc::ENOENT));
    assert_eq!(guest.lookup(ROOT, "none").unwrap_err(), libc::ENOENT);
}

/// What the kernel does with each of these: after ENOSYS it does not ask again and does without, or
/// does it itself; FUSE_IOCTL must be ENOTTY, or overlayfs takes no share as a lower layer (Linux 5.14 to
/// 6.5: FS_IOC_GETFLAGS at each copy-up).
#[test]
fn what_is_not_supported_is_refused_as_linux_expects_it() {
    let mut guest = TestShare::new();
    let file = guest.mknod(ROOT, "file", libc::S_IFREG | 0o600, 0).unwrap();
    let body = [0_u8; 128];
    for (opcode, answer) in [
        // FUSE_GETLK, SETLK, SETLKW: only asked for with POSIX_LOCKS.
        (31, libc::ENOSYS),
        (32, libc::ENOSYS),
        (33, libc::ENOSYS),
        // FUSE_BMAP: FIBMAP fails.
        (37, libc::ENOSYS),
        // FUSE_IOCTL.
        (39, libc::ENOTTY),
        // FUSE_POLL: a regular file is always ready.
        (40, libc::ENOSYS),
        // FUSE_SETUPMAPPING and REMOVEMAPPING: only with DAX.
        (48, libc::ENOSYS),
        (49, libc::ENOSYS),
        // FUSE_STATX, COPY_FILE_RANGE_64: GETATTR and COPY_FILE_RANGE instead.
        (52, libc::ENOSYS),
        (53, libc::ENOSYS),
        // CUSE_INIT, and what does not exist.
        (4096, libc::ENOSYS),
        (7, libc::ENOSYS),
        (u32::MAX, libc::ENOSYS),
    ] {
        let result = guest.call(opcode, file.nodeid, &[&body]);
        assert_eq!(result, Err(answer), "{opcode}");
    }
    assert_eq!(guest.server.status().fault(), None);
    guest.getattr(file.nodeid).unwrap();
}

#[test]
fn every_type_of_node_can_be_made() {
    let mut guest = TestShare::new();
    let link = guest.symlink(ROOT, "link", "some/where").unwrap();
    assert_eq!(guest.readlink(link.nodeid).unwrap(), b"some/where");
    assert_eq!(guest.readlink(ROOT), Err(libc::EINVAL));
    let fifo = guest.mknod(ROOT, "fifo", libc::S_IFIFO | 0o600, 0).unwrap();
    assert_eq!(fifo.attr.mode, libc::S_IFIFO | 0o600);
    assert_eq!(guest.open(fifo.nodeid, libc::O_RDWR), Err(libc::ENXIO));
    let socket = guest
        .mknod(ROOT, "socket", libc::S_IFSOCK | 0o600, 0)
        .unwrap();
    assert_eq!(socket.attr.mode, libc::S_IFSOCK | 0o600);
    match guest.mknod(ROOT, "null", libc::S_IFCHR | 0o666, 0x103) {
        Ok(null) => {
            assert_eq!(
                (null.attr.mode, null.attr.rdev),
                (libc::S_IFCHR | 0o666, 0x103)
            );
            // A stand-in on the host, even if the server is root.
            let host = std::fs::symlink_metadata(guest.host("null")).unwrap();
            assert!(host.is_file() && host.len() == 0);
        }
        // The host's file system has no user xattrs.
        Err(error) => assert_eq!(error, libc::EPERM),
    }
    let host = std::fs::symlink_metadata(guest.host("fifo")).unwrap();
    assert!(host.file_type().is_fifo());
}

#[test]
fn directories_are_read_in_parts_of_any_size() {
    let mut guest = TestShare::new();
    let mut names: Vec<_> = (0..500).map(|i| format!("file-{i:03}")).collect();
    for name in &names {
        std::fs::write(guest.host(name), name).unwrap();
    }
    names.extend([String::from("."), String::from("..")]);
    names.sort();
    for (plus, size) in [(false, 512), (false, 65_536), (true, 512), (true, 65_536)] {
        let found = guest.list(ROOT, plus, size).unwrap();
        let mut seen: Vec<_> = found
            .iter()
            .map(|entry| String::from_utf8(entry.name.clone()).unwrap())
            .collect();
        seen.sort();
        assert_eq!(seen, names, "plus: {plus}, {size} bytes");
        for entry in found.iter().filter(|entry| entry.name.starts_with(b"file")) {
            assert_eq!(entry.kind, u32::from(libc::DT_REG));
            assert_eq!(entry.node != 0, plus);
        }
    }
    let fh = guest.opendir(ROOT).unwrap();
    guest.fsyncdir(ROOT, fh).unwrap();
    // Too small for one entry.
    let small = guest.readdir((ROOT, fh), 0, 8, false);
    assert_eq!(small.unwrap_err(), libc::EINVAL);
    guest.releasedir(ROOT, fh).unwrap();
    assert_eq!(guest.releasedir(ROOT, fh), Err(libc::EBADF));
}

#[test]
fn attributes_can_be_changed() {
    let mut guest = TestShare::new();
    let (entry, fh) = guest.create(ROOT, "f", 0o600).unwrap();
    let node = entry.nodeid;
    assert_eq!(
        guest.chmod(node, 0o755).unwrap().mode,
        libc::S_IFREG | 0o755
    );
    assert_eq!(guest.truncate(node, 12_345).unwrap().size, 12_345);
    let attr = guest.setattr(node, set_times(1, 1_000_000_000)).unwrap();
    assert_eq!((attr.atime, attr.mtime), (1, 1_000_000_000));
    let host = std::fs::metadata(guest.host("f")).unwrap();
    assert_eq!((host.len(), host.mtime()), (12_345, 1_000_000_000));
    assert_eq!(host.mode() & 0o777, 0o755);
    match guest.chown(node, 1000, 100) {
        Ok(attr) => {
            assert_eq!((attr.uid, attr.gid), (1000, 100));
            // Only for the guest, not on the host.
            let now = std::fs::metadata(guest.host("f")).unwrap();
            assert_eq!((now.uid(), now.gid()), (host.uid(), host.gid()));
            guest.uid = 1000;
            guest.access(node, libc::R_OK | libc::X_OK).unwrap();
            guest.uid = 1001;
            assert_eq!(guest.access(node, libc::W_OK), Err(libc::EACCES));
        }
        Err(error) => assert_eq!(error, libc::EPERM),
    }
    guest.release(node, fh).unwrap();
}

/// The server's cache does not hide changes by another server.
#[test]
fn changes_by_another_server_are_seen() {
    let mut guest = TestShare::new();
    let node = guest.create(ROOT, "f", 0o600).unwrap().0.nodeid;
    let share = share(&guest.dir);
    let (_server, stream) = ShareServer::start(share).unwrap();
    let mut other = Client::mount(stream);
    let same = other.lookup(ROOT, "f").unwrap().nodeid;
    for uid in [1000, 1001, 0, 1002] {
        // Old enough for the server to cache by the file's change time.
        std::thread::sleep(Duration::from_millis(150));
        let before = guest.getattr(node).unwrap().uid;
        assert_eq!(guest.getattr(node).unwrap().uid, before);
        match other.chown(same, uid, uid) {
            Ok(_) => assert_eq!(guest.getattr(node).unwrap().uid, uid),
            Err(error) => assert_eq!(error, libc::EPERM),
        }
    }
}

/// Removing a folder on NFS found files in it that the guest had given back already.
#[test]
fn what_is_given_back_goes_before_the_next_request() {
    const LOOKUPS: usize = 8;
    let guest = TestShare::new();
    std::fs::write(guest.host("f"), "").unwrap();
    let (_server, stream) = ShareServer::start(share(&guest.dir)).unwrap();
    let mut client = Client::connect(stream, 2).unwrap();
    client.init().unwrap();
    for _ in 1..LOOKUPS {
        client.lookup(ROOT, "f").unwrap();
    }
    let node = client.lookup(ROOT, "f").unwrap().nodeid;
    // The server has found its queues empty, and waits for a notification.
    std::thread::sleep(Duration::from_millis(100));
    let forget = ForgetIn { nlookup: 1 };
    let forget = Request {
        opcode: opcode::FORGET,
        node,
        body: &[forget.as_slice()],
        ..Request::default()
    };
    let arguments = GetattrIn::default();
    let getattr = Request {
        opcode: opcode::GETATTR,
        node,
        body: &[arguments.as_slice()],
        capacity: 4096,
        ..Request::default()
    };
    let result = client.call_after_urgent((&forget, LOOKUPS), &getattr);
    assert_eq!(result, Err(libc::ENOENT));
}

#[test]
fn extended_attributes_are_kept() {
    let mut guest = TestShare::new();
    let (entry, _) = guest.create(ROOT, "f", 0o600).unwrap();
    let node = entry.nodeid;
    if guest.setxattr(node, "user.color", b"blue") == Err(libc::EOPNOTSUPP) {
        skip("the directory for temporary files has no user xattrs");
        return;
    }
    guest.setxattr(node, "trusted.t", b"1").unwrap();
    guest
        .setxattr(node, "security.capability", &[7; 20])
        .unwrap();
    assert_eq!(guest.getxattr(node, "user.color").unwrap(), b"blue");
    assert_eq!(guest.getxattr(node, "trusted.t").unwrap(), b"1");
    let names = guest.listxattr(node).unwrap();
    let mut names: Vec<_> = names
        .split(|byte| *byte == 0)
        .filter(|n| !n.is_empty())
        .collect();
    names.sort_unstable();
    let expected: [&[u8]; 3] = [b"security.capability", b"trusted.t", b"user.color"];
    assert_eq!(names, expected);
    guest.removexattr(node, "user.color").unwrap();
    assert_eq!(guest.getxattr(node, "user.color"), Err(libc::ENODATA));
    assert_eq!(guest.removexattr(node, "user.color"), Err(libc::ENODATA));
}

#[test]
fn space_is_allocated_found_and_copied() {
    let mut guest = TestShare::new();
    let (entry, fh) = guest.create(ROOT, "f", 0o600).unwrap();
    let node = entry.nodeid;
    guest.fallocate((node, fh), 0, 0, 1 << 20).unwrap();
    assert_eq!(guest.getattr(node).unwrap().size, 1 << 20);
    guest.write(node, fh, 0, &[1; 8192]).unwrap();
    // Data is where something was written, wherever the host puts the first hole.
    assert_eq!(guest.lseek((node, fh), 0, libc::SEEK_DATA), Ok(0));
    assert!(guest.lseek((node, fh), 0, libc::SEEK_HOLE).unwrap() >= 8192);
    assert_eq!(
        guest.lseek((node, fh), 0, libc::SEEK_SET),
        Err(libc::EINVAL)
    );
    let (copy, copy_fh) = guest.create(ROOT, "copy", 0o600).unwrap();
    let (mut done, len) = (0, 8192);
    while done < len {
        let from = (node, fh, done);
        let to = (copy.nodeid, copy_fh, done);
        let count = guest.copy_file_range(from, to, len - done).unwrap();
        assert_ne!(count, 0);
        done += u64::from(count);
    }
    assert_eq!(std::fs::read(guest.host("copy")).unwrap(), [1; 8192]);
}

#[test]
fn a_file_without_a_name_can_get_one() {
    let mut guest = TestShare::new();
    match guest.tmpfile(ROOT, 0o600) {
        Ok((entry, fh)) => {
            assert_eq!(guest.write(entry.nodeid, fh, 0, b"here"), Ok(4));
            assert_eq!(std::fs::read_dir(guest.host("")).unwrap().count(), 0);
            guest.link(entry.nodeid, ROOT, "named").unwrap();
            assert_eq!(std::fs::read(guest.host("named")).unwrap(), b"here");
        }
        Err(error) => assert_eq!(error, libc::EOPNOTSUPP),
    }
}

#[test]
fn the_file_system_is_described() {
    let mut guest = TestShare::new();
    let stat = guest.statfs(ROOT).unwrap();
    assert_eq!(stat.namelen, 255);
    assert!(stat.blocks > 0 && stat.bfree <= stat.blocks);
}

#[test]
fn forgotten_inodes_are_unknown_and_a_session_can_start_again() {
    let mut guest = TestShare::new();
    for name in ["a", "b", "c"] {
        std::fs::write(guest.host(name), name).unwrap();
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| guest.lookup(ROOT, name).unwrap().nodeid);
    assert_eq!(guest.lookup(ROOT, "a").unwrap().nodeid, a);
    guest.forget(a, 1);
    guest.getattr(a).unwrap();
    guest.batch_forget(&[(a, 1), (b, 1)]);
    assert_eq!(guest.getattr(a).unwrap_err(), libc::ENOENT);
    assert_eq!(guest.getattr(b).unwrap_err(), libc::ENOENT);
    guest.getattr(c).unwrap();
    guest.forget(ROOT, u64::MAX);
    guest.getattr(ROOT).unwrap();
    guest.destroy().unwrap();
    guest.init().unwrap();
    assert_eq!(guest.getattr(c).unwrap_err(), libc::ENOENT);
    guest.lookup(ROOT, "c").unwrap();
}
