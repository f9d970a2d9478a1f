//! Files, directories and names.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use vm_memory::ByteValued;

use super::driver::Driver;
use crate::fuse::abi::{self, ROOT_ID, fattr, opcode};

#[test]
fn a_file_is_created_written_read_and_renamed() {
    let guest = Driver::new();
    let (entry, fh) = guest.create(ROOT_ID, c"a", 0o644, 0).unwrap();
    assert_eq!((entry.attr.uid, entry.attr.gid), (0, 0));
    assert_eq!(entry.attr.mode, libc::S_IFREG | 0o644);
    assert_eq!(guest.write(entry.nodeid, fh, 0, b"hello", 0), Ok(5));
    assert_eq!(guest.write(entry.nodeid, fh, 10, b"world", 0), Ok(5));
    assert_eq!(
        guest.read(entry.nodeid, fh, 0, 4096).unwrap(),
        b"hello\0\0\0\0\0world"
    );
    assert_eq!(guest.read(entry.nodeid, fh, 12, 2).unwrap(), b"rl");
    assert_eq!(guest.read(entry.nodeid, fh, 99, 2).unwrap(), b"");
    assert_eq!(guest.getattr(entry.nodeid).unwrap().size, 15);

    guest.mkdir(ROOT_ID, c"sub", 0o755).unwrap();
    let sub = guest.lookup(ROOT_ID, c"sub").unwrap().nodeid;
    guest.rename((ROOT_ID, c"a"), (sub, c"b"), 0).unwrap();
    assert_eq!(guest.lookup(ROOT_ID, c"a").unwrap_err(), libc::ENOENT);
    assert_eq!(guest.lookup(sub, c"b").unwrap().nodeid, entry.nodeid);
    assert_eq!(std::fs::read(guest.host("sub/b")).unwrap().len(), 15);
}

#[test]
fn large_data_passes_whole() {
    let guest = Driver::new();
    let (entry, fh) = guest.create(ROOT_ID, c"big", 0o600, 0).unwrap();
    let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    assert_eq!(guest.write(entry.nodeid, fh, 0, &data, 0), Ok(1 << 20));
    assert_eq!(std::fs::read(guest.host("big")).unwrap(), data);
    assert!(guest.read(entry.nodeid, fh, 0, 1 << 20).unwrap() == data);
    // INIT has negotiated at most 1 MiB at once.
    assert_eq!(
        guest.read(entry.nodeid, fh, 0, u32::MAX).unwrap().len(),
        1 << 20
    );
}

#[test]
fn an_unlinked_file_stays_usable_while_open() {
    let guest = Driver::new();
    let (entry, fh) = guest.create(ROOT_ID, c"gone", 0o600, 0).unwrap();
    guest.unlink(ROOT_ID, c"gone").unwrap();
    assert_eq!(guest.lookup(ROOT_ID, c"gone").unwrap_err(), libc::ENOENT);
    assert_eq!(guest.write(entry.nodeid, fh, 0, b"still", 0), Ok(5));
    assert_eq!(guest.read(entry.nodeid, fh, 0, 10).unwrap(), b"still");
    let attr = guest.getattr(entry.nodeid).unwrap();
    assert_eq!((attr.nlink, attr.size), (0, 5));
    let truncate = abi::SetattrIn {
        valid: fattr::SIZE,
        size: 2,
        ..Default::default()
    };
    assert_eq!(guest.setattr(entry.nodeid, truncate).unwrap().size, 2);
    let release = abi::ReleaseIn {
        fh,
        ..Default::default()
    };
    guest
        .call(opcode::RELEASE, entry.nodeid, &[release.as_slice()])
        .unwrap();
    assert_eq!(guest.read(entry.nodeid, fh, 0, 10), Err(libc::EBADF));
}

#[test]
fn rename_flags_are_obeyed() {
    let guest = Driver::new();
    std::fs::write(guest.host("a"), "a").unwrap();
    std::fs::write(guest.host("b"), "b").unwrap();
    let rename = |flags| guest.rename((ROOT_ID, c"a"), (ROOT_ID, c"b"), flags);
    assert_eq!(rename(libc::RENAME_NOREPLACE), Err(libc::EEXIST));
    for wrong in [
        libc::RENAME_WHITEOUT | libc::RENAME_EXCHANGE,
        libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE,
        1 << 3,
        u32::MAX,
    ] {
        assert_eq!(rename(wrong), Err(libc::EINVAL), "{wrong:#x}");
    }
    let both = libc::RENAME_WHITEOUT | libc::RENAME_NOREPLACE;
    assert_eq!(rename(both), Err(libc::EEXIST));
    assert_eq!(std::fs::read(guest.host("a")).unwrap(), b"a");
    rename(libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(std::fs::read(guest.host("a")).unwrap(), b"b");
    rename(0).unwrap();
    assert_eq!(std::fs::read(guest.host("b")).unwrap(), b"b");
    assert!(!guest.host("a").exists());
}

#[test]
fn links_are_made_and_read() {
    let guest = Driver::new();
    let (file, _) = guest.create(ROOT_ID, c"file", 0o644, 0).unwrap();
    let link = abi::LinkIn {
        oldnodeid: file.nodeid,
    };
    let body = [link.as_slice(), b"hard\0"];
    let hard: abi::EntryOut = guest.typed(opcode::LINK, ROOT_ID, &body).unwrap();
    assert_eq!((hard.nodeid, hard.attr.nlink), (file.nodeid, 2));

    let soft = guest.symlink(ROOT_ID, c"soft", c"/etc/passwd").unwrap();
    assert_eq!(soft.attr.mode & libc::S_IFMT, libc::S_IFLNK);
    assert_eq!(
        guest.call(opcode::READLINK, soft.nodeid, &[]).unwrap(),
        b"/etc/passwd"
    );
    let link = abi::LinkIn {
        oldnodeid: soft.nodeid,
    };
    let body = [link.as_slice(), b"soft2\0"];
    let soft2: abi::EntryOut = guest.typed(opcode::LINK, ROOT_ID, &body).unwrap();
    assert_eq!((soft2.nodeid, soft2.attr.nlink), (soft.nodeid, 2));
    assert_eq!(
        std::fs::read_link(guest.host("soft2")).unwrap().to_str(),
        Some("/etc/passwd")
    );
}

#[test]
fn directories_are_read_whole_with_any_buffer() {
    let guest = Driver::new();
    let mut expected = vec![".".to_owned(), "..".to_owned()];
    for i in 0..300 {
        let name = format!("file-{i}-{}", "x".repeat(i % 90));
        std::fs::write(guest.host(&name), "").unwrap();
        expected.push(name);
    }
    expected.sort();
    for (plus, size) in [(false, 4096), (true, 4096), (false, 512), (true, 1 << 20)] {
        let found = guest.list(ROOT_ID, plus, size);
        let mut names: Vec<_> = found.iter().map(|(name, ..)| name.clone()).collect();
        names.sort();
        assert_eq!(names, expected, "plus {plus}, {size} bytes");
        for (name, node, kind) in found {
            let dots = name.starts_with('.');
            assert_eq!(node == 0, !plus || dots, "{name}");
            let expected = if dots { libc::DT_DIR } else { libc::DT_REG };
            assert_eq!(kind, u32::from(expected), "{name}");
        }
    }
}

#[test]
fn holes_and_copies_work() {
    let guest = Driver::new();
    let (a, fa) = guest.create(ROOT_ID, c"a", 0o644, 0).unwrap();
    let (b, fb) = guest.create(ROOT_ID, c"b", 0o644, 0).unwrap();
    guest.write(a.nodeid, fa, 1 << 20, b"data", 0).unwrap();
    let seek = abi::LseekIn {
        fh: fa,
        whence: libc::SEEK_DATA as u32,
        ..Default::default()
    };
    let out: abi::LseekOut = guest
        .typed(opcode::LSEEK, a.nodeid, &[seek.as_slice()])
        .unwrap();
    assert!(out.offset == 0 || out.offset == 1 << 20);
    let seek = abi::LseekIn {
        fh: fa,
        whence: libc::SEEK_END as u32,
        ..Default::default()
    };
    assert_eq!(
        guest.call(opcode::LSEEK, a.nodeid, &[seek.as_slice()]),
        Err(libc::EINVAL)
    );

    let copy = abi::CopyFileRangeIn {
        fh_in: fa,
        off_in: 1 << 20,
        nodeid_out: b.nodeid,
        fh_out: fb,
        len: 100,
        ..Default::default()
    };
    let body = [copy.as_slice()];
    let out: abi::WriteOut = guest
        .typed(opcode::COPY_FILE_RANGE, a.nodeid, &body)
        .unwrap();
    assert_eq!(out.size, 4);
    assert_eq!(std::fs::read(guest.host("b")).unwrap(), b"data");

    let allocate = abi::FallocateIn {
        fh: fb,
        length: 8192,
        ..Default::default()
    };
    guest
        .call(opcode::FALLOCATE, b.nodeid, &[allocate.as_slice()])
        .unwrap();
    assert_eq!(guest.getattr(b.nodeid).unwrap().size, 8192);
}

#[test]
fn a_file_without_a_name_gets_one_later() {
    let guest = Driver::new();
    let flags = libc::O_RDWR as u32;
    let create = abi::CreateIn {
        flags,
        mode: 0o640,
        umask: 0,
        open_flags: 0,
    };
    let entry: abi::EntryOut = guest
        .typed(opcode::TMPFILE, ROOT_ID, &[create.as_slice(), b"/\0"])
        .unwrap();
    let link = abi::LinkIn {
        oldnodeid: entry.nodeid,
    };
    let body = [link.as_slice(), b"named\0"];
    let named: abi::EntryOut = guest.typed(opcode::LINK, ROOT_ID, &body).unwrap();
    assert_eq!((named.nodeid, named.attr.nlink), (entry.nodeid, 1));
    let mode = std::fs::metadata(guest.host("named"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn times_are_set() {
    let guest = Driver::new();
    let (entry, _) = guest.create(ROOT_ID, c"a", 0o644, 0).unwrap();
    let valid = fattr::ATIME | fattr::MTIME;
    let set = abi::SetattrIn {
        valid,
        atime: 5,
        mtime: 7,
        mtimensec: 9,
        ..Default::default()
    };
    let attr = guest.setattr(entry.nodeid, set).unwrap();
    assert_eq!((attr.atime, attr.mtime, attr.mtimensec), (5, 7, 9));
    let link = guest.symlink(ROOT_ID, c"l", c"nowhere").unwrap();
    assert_eq!(guest.setattr(link.nodeid, set).unwrap().mtime, 7);
}

#[test]
fn a_read_only_share_refuses_every_change() {
    let guest = Driver::read_only();
    std::fs::write(guest.host("a"), "text").unwrap();
    let a = guest.lookup(ROOT_ID, c"a").unwrap().nodeid;
    let fh = guest.open(a, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(a, fh, 0, 10).unwrap(), b"text");
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY | libc::O_TRUNC] {
        assert_eq!(guest.open(a, flags), Err(libc::EROFS));
    }
    assert_eq!(guest.write(a, fh, 0, b"x", 0), Err(libc::EROFS));
    assert_eq!(
        guest.create(ROOT_ID, c"b", 0o644, 0).unwrap_err(),
        libc::EROFS
    );
    assert_eq!(guest.mkdir(ROOT_ID, c"b", 0o755).unwrap_err(), libc::EROFS);
    assert_eq!(
        guest.mknod(ROOT_ID, c"b", libc::S_IFIFO, 0).unwrap_err(),
        libc::EROFS
    );
    assert_eq!(guest.symlink(ROOT_ID, c"b", c"a").unwrap_err(), libc::EROFS);
    assert_eq!(guest.unlink(ROOT_ID, c"a"), Err(libc::EROFS));
    assert_eq!(
        guest.rename((ROOT_ID, c"a"), (ROOT_ID, c"b"), 0),
        Err(libc::EROFS)
    );
    assert_eq!(guest.chmod(a, 0o777).unwrap_err(), libc::EROFS);
    assert_eq!(guest.setxattr(a, c"user.a", b"b"), Err(libc::EROFS));
    let remove = guest.call(opcode::REMOVEXATTR, a, &[b"user.a\0"]);
    assert_eq!(remove, Err(libc::EROFS));
    let allocate = abi::FallocateIn {
        fh,
        length: 1,
        ..Default::default()
    };
    assert_eq!(
        guest.call(opcode::FALLOCATE, a, &[allocate.as_slice()]),
        Err(libc::EROFS)
    );
}

#[test]
fn pipes_and_sockets_are_never_opened_on_the_host() {
    let guest = Driver::new();
    let pipe = guest
        .mknod(ROOT_ID, c"pipe", libc::S_IFIFO | 0o666, 0)
        .unwrap();
    assert_eq!(pipe.attr.mode, libc::S_IFIFO | 0o666);
    let socket = guest
        .mknod(ROOT_ID, c"socket", libc::S_IFSOCK | 0o755, 0)
        .unwrap();
    assert_eq!(socket.attr.mode, libc::S_IFSOCK | 0o755);
    // Those that need no override are real FIFOs and sockets on the host.
    assert!(
        std::fs::metadata(guest.host("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert!(
        std::fs::metadata(guest.host("socket"))
            .unwrap()
            .file_type()
            .is_socket()
    );
    // The host's open would wait for a writer.
    assert_eq!(guest.open(pipe.nodeid, libc::O_RDONLY), Err(libc::ENXIO));
    assert_eq!(guest.open(socket.nodeid, libc::O_RDONLY), Err(libc::ENXIO));
    let link = guest.symlink(ROOT_ID, c"link", c"pipe").unwrap();
    assert_eq!(guest.open(link.nodeid, libc::O_RDONLY), Err(libc::ELOOP));
    assert_eq!(guest.open(ROOT_ID, libc::O_RDONLY), Err(libc::EISDIR));
}

#[test]
fn forgotten_inodes_are_unknown() {
    let guest = Driver::new();
    let (entry, _) = guest.create(ROOT_ID, c"a", 0o644, 0).unwrap();
    guest.lookup(ROOT_ID, c"a").unwrap();
    let forget = |count: u64| {
        let one = abi::ForgetIn { nlookup: count };
        let header = guest.header(opcode::FORGET, entry.nodeid, 8);
        assert_eq!(
            guest
                .raw(&[header.as_slice(), one.as_slice()], &[])
                .unwrap(),
            0
        );
    };
    forget(1);
    assert!(guest.getattr(entry.nodeid).is_ok());
    forget(1);
    assert_eq!(guest.getattr(entry.nodeid).unwrap_err(), libc::ENOENT);
    // The node id is not used again.
    assert_ne!(guest.lookup(ROOT_ID, c"a").unwrap().nodeid, entry.nodeid);
    // The root is never removed.
    let one = abi::ForgetIn { nlookup: u64::MAX };
    let header = guest.header(opcode::FORGET, ROOT_ID, 8);
    guest
        .raw(&[header.as_slice(), one.as_slice()], &[])
        .unwrap();
    assert!(guest.getattr(ROOT_ID).is_ok());
}

#[test]
fn the_file_system_has_room() {
    let guest = Driver::new();
    let out: abi::StatfsOut = guest.typed(opcode::STATFS, ROOT_ID, &[]).unwrap();
    assert!(out.blocks > 0 && out.bsize >= 512 && out.namelen >= 100);
}
