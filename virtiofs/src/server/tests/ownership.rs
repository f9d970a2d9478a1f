//! Owners, modes, devices and attributes that the host user cannot set.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use vm_memory::ByteValued;

use super::driver::{Driver, skip};
use crate::fuse::abi::{self, ROOT_ID, WRITE_KILL_SUIDGID, opcode};

/// Returns a guest whose share keeps owners; `None` if the file system of TMPDIR cannot.
fn keeping() -> Option<Driver> {
    let guest = Driver::new();
    if guest.keeps_owners() {
        return Some(guest);
    }
    skip("the file system of TMPDIR has no user attributes");
    None
}

fn override_of(guest: &Driver, name: &str) -> Option<String> {
    let mut value = [0_u8; 128];
    let attribute = c"user.containers.override_stat";
    let len = rustix::fs::lgetxattr(guest.host(name), attribute, &mut value[..]).ok()?;
    Some(String::from_utf8(value[..len].to_vec()).unwrap())
}

fn host_mode(guest: &Driver, name: &str) -> u32 {
    std::fs::symlink_metadata(guest.host(name))
        .unwrap()
        .permissions()
        .mode()
        & 0o7777
}

#[test]
fn plain_results_are_plain_files() {
    let guest = Driver::new();
    guest.create(ROOT_ID, c"file", 0o666, 0o022).unwrap();
    guest.mkdir(ROOT_ID, c"dir", 0o755).unwrap();
    guest.create(ROOT_ID, c"wide", 0o666, 0).unwrap();
    assert_eq!(
        (host_mode(&guest, "file"), override_of(&guest, "file")),
        (0o644, None)
    );
    assert_eq!(
        (host_mode(&guest, "dir"), override_of(&guest, "dir")),
        (0o755, None)
    );
    assert_eq!(
        (host_mode(&guest, "wide"), override_of(&guest, "wide")),
        (0o666, None)
    );
}

#[test]
fn owners_are_kept_and_taken_back() {
    let Some(guest) = keeping() else { return };
    let (file, _) = guest.create(ROOT_ID, c"f", 0o644, 0).unwrap();
    let attr = guest.chown(file.nodeid, 1000, 100).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.mode & 0o7777), (1000, 100, 0o644));
    assert_eq!(
        override_of(&guest, "f").as_deref(),
        Some("1000:100:0644:file")
    );
    let host = std::fs::metadata(guest.host("f")).unwrap();
    assert_eq!(host.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(guest.lookup(ROOT_ID, c"f").unwrap().attr.uid, 1000);
    guest.chown(file.nodeid, 0, 0).unwrap();
    assert_eq!(override_of(&guest, "f"), None);
}

#[test]
fn modes_that_lock_the_host_user_out_do_not_stop_the_guests_root() {
    let Some(guest) = keeping() else { return };
    let locked = |name: &str, mode| {
        std::fs::set_permissions(guest.host(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(guest.host("d")).unwrap();
    std::fs::write(guest.host("d/f"), "text").unwrap();
    locked("d/f", 0o444);
    locked("d", 0o555);
    let dir = guest.lookup(ROOT_ID, c"d").unwrap();
    guest.create(dir.nodeid, c"new", 0o644, 0).unwrap();
    let file = guest.lookup(dir.nodeid, c"f").unwrap();
    let fh = guest.open(file.nodeid, libc::O_WRONLY).unwrap();
    assert_eq!(guest.write(file.nodeid, fh, 0, b"T", 0), Ok(1));
    // The guest sees no difference.
    assert_eq!(guest.getattr(dir.nodeid).unwrap().mode & 0o7777, 0o555);
    assert_eq!(guest.getattr(file.nodeid).unwrap().mode & 0o7777, 0o444);
    assert_eq!(std::fs::read(guest.host("d/f")).unwrap(), b"Text");
    locked("d", 0o755);
}

#[test]
fn new_files_belong_to_who_makes_them() {
    let Some(mut guest) = keeping() else { return };
    (guest.uid, guest.gid) = (1000, 100);
    let (file, _) = guest.create(ROOT_ID, c"f", 0o666, 0o027).unwrap();
    assert_eq!(
        (file.attr.uid, file.attr.gid, file.attr.mode & 0o7777),
        (1000, 100, 0o640)
    );
    let dir = guest.mkdir(ROOT_ID, c"d", 0o750).unwrap();
    assert_eq!(
        override_of(&guest, "d").as_deref(),
        Some("1000:100:0750:dir")
    );
    // A directory with the set-group-id bit passes on its group, and the bit to directories.
    guest.chown(dir.nodeid, 1000, 77).unwrap();
    guest.chmod(dir.nodeid, 0o2775).unwrap();
    let (inner, _) = guest.create(dir.nodeid, c"f", 0o644, 0).unwrap();
    assert_eq!((inner.attr.uid, inner.attr.gid), (1000, 77));
    let inner = guest.mkdir(dir.nodeid, c"d", 0o755).unwrap();
    assert_eq!((inner.attr.gid, inner.attr.mode & 0o7777), (77, 0o2755));
    let link = guest.symlink(ROOT_ID, c"l", c"f").unwrap();
    assert_eq!((link.attr.uid, link.attr.gid), (1000, 100));
}

#[test]
fn special_modes_never_reach_the_host() {
    let Some(guest) = keeping() else { return };
    let (file, _) = guest.create(ROOT_ID, c"f", 0o755, 0).unwrap();
    for mode in [0o4755, 0o2755, 0o1644, 0o7777, 0, 0o400, 0o077] {
        let attr = guest.chmod(file.nodeid, mode).unwrap();
        assert_eq!(attr.mode, libc::S_IFREG | mode);
        assert_eq!(host_mode(&guest, "f"), mode & 0o777 | 0o600, "{mode:o}");
        assert!(override_of(&guest, "f").is_some());
    }
    let dir = guest.mkdir(ROOT_ID, c"tmp", 0o1777).unwrap();
    assert_eq!(dir.attr.mode, libc::S_IFDIR | 0o1777);
    assert_eq!(host_mode(&guest, "tmp"), 0o777);
    guest.chmod(dir.nodeid, 0).unwrap();
    assert_eq!(host_mode(&guest, "tmp"), 0o700);
    guest.chmod(dir.nodeid, 0o755).unwrap();
    assert_eq!(override_of(&guest, "tmp"), None);
}

#[test]
fn set_id_bits_go_with_chown_and_foreign_writes() {
    let Some(guest) = keeping() else { return };
    let (file, fh) = guest.create(ROOT_ID, c"f", 0o755, 0).unwrap();
    guest.chmod(file.nodeid, 0o6755).unwrap();
    assert_eq!(guest.chown(file.nodeid, 5, 5).unwrap().mode & 0o7777, 0o755);
    guest.chmod(file.nodeid, 0o6755).unwrap();
    guest.write(file.nodeid, fh, 0, b"root", 0).unwrap();
    assert_eq!(guest.getattr(file.nodeid).unwrap().mode & 0o7777, 0o6755);
    guest
        .write(file.nodeid, fh, 0, b"user", WRITE_KILL_SUIDGID)
        .unwrap();
    assert_eq!(guest.getattr(file.nodeid).unwrap().mode & 0o7777, 0o755);
    // A chmod clears the facts about the file.
    guest.chmod(file.nodeid, 0o4755).unwrap();
    guest
        .write(file.nodeid, fh, 0, b"user", WRITE_KILL_SUIDGID)
        .unwrap();
    assert_eq!(guest.getattr(file.nodeid).unwrap().mode & 0o7777, 0o755);
}

#[test]
fn capabilities_go_with_every_write() {
    let Some(guest) = keeping() else { return };
    let (file, fh) = guest.create(ROOT_ID, c"f", 0o755, 0).unwrap();
    for _ in 0..2 {
        guest
            .setxattr(file.nodeid, c"security.capability", b"caps")
            .unwrap();
        assert_eq!(
            guest.getxattr(file.nodeid, c"security.capability").unwrap(),
            b"caps"
        );
        guest.write(file.nodeid, fh, 0, b"x", 0).unwrap();
        let gone = guest.getxattr(file.nodeid, c"security.capability");
        assert_eq!(gone, Err(libc::ENODATA));
    }
}

#[test]
fn devices_are_stand_ins() {
    let Some(guest) = keeping() else { return };
    // 259:1234567 does not fit into 16 bits.
    let rdev = (259 << 8) | (1_034_567 & 0xff) | ((1_034_567 & 0xf_ff00) << 12);
    let made = guest
        .mknod(ROOT_ID, c"disk", libc::S_IFBLK | 0o660, rdev)
        .unwrap();
    assert_eq!(
        (made.attr.mode, made.attr.rdev),
        (libc::S_IFBLK | 0o660, rdev)
    );
    assert_eq!(
        override_of(&guest, "disk").as_deref(),
        Some("0:0:0660:block-259-1034567")
    );
    assert!(std::fs::metadata(guest.host("disk")).unwrap().is_file());
    let null = guest
        .mknod(ROOT_ID, c"null", libc::S_IFCHR | 0o666, 0x103)
        .unwrap();
    assert_eq!(
        (null.attr.mode, null.attr.rdev),
        (libc::S_IFCHR | 0o666, 0x103)
    );
    // It is still a device after chown and chmod.
    let attr = guest.chown(null.nodeid, 3, 4).unwrap();
    assert_eq!(
        (attr.mode, attr.rdev, attr.uid),
        (libc::S_IFCHR | 0o666, 0x103, 3)
    );
    guest.chown(null.nodeid, 0, 0).unwrap();
    assert_eq!(
        guest.chmod(null.nodeid, 0o600).unwrap().mode,
        libc::S_IFCHR | 0o600
    );
    for plus in [false, true] {
        for (name, _, kind) in guest.list(ROOT_ID, plus, 4096) {
            let expected = match name.as_str() {
                "disk" => &[libc::DT_BLK, libc::DT_UNKNOWN][..],
                "null" => &[libc::DT_CHR, libc::DT_UNKNOWN],
                _ => &[libc::DT_DIR],
            };
            assert!(
                expected.iter().any(|e| u32::from(*e) == kind),
                "{name} {kind}"
            );
        }
    }
}

#[test]
fn a_pipe_of_another_owner_is_a_stand_in() {
    let Some(mut guest) = keeping() else { return };
    let real = guest
        .mknod(ROOT_ID, c"real", libc::S_IFIFO | 0o600, 0)
        .unwrap();
    assert_eq!(guest.chown(real.nodeid, 9, 9).unwrap().uid, 9);
    guest.uid = 1000;
    let pipe = guest
        .mknod(ROOT_ID, c"pipe", libc::S_IFIFO | 0o600, 0)
        .unwrap();
    assert_eq!(
        (pipe.attr.mode, pipe.attr.uid),
        (libc::S_IFIFO | 0o600, 1000)
    );
    assert_eq!(
        override_of(&guest, "pipe").as_deref(),
        Some("1000:0:0600:pipe")
    );
}

#[test]
fn symbolic_links_have_owners_for_a_while() {
    let guest = Driver::new();
    let link = guest.symlink(ROOT_ID, c"l", c"x").unwrap();
    assert_eq!(guest.chown(link.nodeid, 7, 8).unwrap().uid, 7);
    let header = guest.header(opcode::FORGET, link.nodeid, 8);
    let one = abi::ForgetIn { nlookup: 1 };
    guest
        .raw(&[header.as_slice(), one.as_slice()], &[])
        .unwrap();
    let again = guest.lookup(ROOT_ID, c"l").unwrap();
    assert_eq!((again.attr.uid, again.attr.gid), (7, 8));
    // A new link with the same inode number does not get the old one's owner.
    guest.unlink(ROOT_ID, c"l").unwrap();
    let header = guest.header(opcode::FORGET, again.nodeid, 8);
    guest
        .raw(&[header.as_slice(), one.as_slice()], &[])
        .unwrap();
    assert_eq!(guest.symlink(ROOT_ID, c"m", c"x").unwrap().attr.uid, 0);
}

#[test]
fn attributes_have_their_classes() {
    let Some(guest) = keeping() else { return };
    let (file, _) = guest.create(ROOT_ID, c"f", 0o644, 0).unwrap();
    let node = file.nodeid;
    for name in [c"user.note", c"trusted.overlay.opaque", c"security.selinux"] {
        guest.setxattr(node, name, b"value").unwrap();
        assert_eq!(guest.getxattr(node, name).unwrap(), b"value");
    }
    guest.chown(node, 5, 5).unwrap();
    let list = guest.listxattr(node).unwrap();
    let mut names: Vec<_> = list
        .split(|byte| *byte == 0)
        .filter(|n| !n.is_empty())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            &b"security.selinux"[..],
            b"trusted.overlay.opaque",
            b"user.note"
        ]
    );
    let own = c"user.containers.override_stat";
    assert_eq!(guest.setxattr(node, own, b"0:0:04755"), Err(libc::EPERM));
    assert_eq!(guest.getxattr(node, own), Err(libc::ENODATA));
    assert_eq!(
        guest.call(opcode::REMOVEXATTR, node, &[own.to_bytes_with_nul()]),
        Err(libc::EPERM)
    );
    assert_eq!(
        guest.setxattr(node, c"system.other", b"x"),
        Err(libc::EOPNOTSUPP)
    );
    let get = abi::GetxattrIn {
        size: 2,
        padding: 0,
    };
    let body = [get.as_slice(), b"user.note\0"];
    assert_eq!(guest.call(opcode::GETXATTR, node, &body), Err(libc::ERANGE));
    let get = abi::GetxattrIn {
        size: 0,
        padding: 0,
    };
    let out: abi::GetxattrOut = guest
        .typed(opcode::GETXATTR, node, &[get.as_slice(), b"user.note\0"])
        .unwrap();
    assert_eq!(out.size, 5);
    let link = guest.symlink(ROOT_ID, c"l", c"f").unwrap();
    assert_eq!(
        guest.setxattr(link.nodeid, c"user.note", b"x"),
        Err(libc::EPERM)
    );
    assert_eq!(guest.listxattr(link.nodeid).unwrap(), b"");
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&perm.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

#[test]
fn access_lists_and_modes_move_together() {
    let Some(guest) = keeping() else { return };
    let access = c"system.posix_acl_access";
    let (file, _) = guest.create(ROOT_ID, c"f", 0o644, 0).unwrap();
    let list = acl(&[
        (1, 6, !0),
        (2, 7, 1000),
        (4, 4, !0),
        (16, 7, !0),
        (32, 0, !0),
    ]);
    guest.setxattr(file.nodeid, access, &list).unwrap();
    assert_eq!(guest.getattr(file.nodeid).unwrap().mode & 0o777, 0o670);
    assert_eq!(guest.getxattr(file.nodeid, access).unwrap(), list);
    guest.chmod(file.nodeid, 0o604).unwrap();
    let masked = acl(&[
        (1, 6, !0),
        (2, 7, 1000),
        (4, 4, !0),
        (16, 0, !0),
        (32, 4, !0),
    ]);
    assert_eq!(guest.getxattr(file.nodeid, access).unwrap(), masked);
    // A list that says no more than a mode is not stored.
    let plain = acl(&[(1, 7, !0), (4, 5, !0), (32, 5, !0)]);
    guest.setxattr(file.nodeid, access, &plain).unwrap();
    assert_eq!(guest.getattr(file.nodeid).unwrap().mode & 0o777, 0o755);
    assert_eq!(guest.getxattr(file.nodeid, access), Err(libc::ENODATA));
    assert_eq!(
        guest.setxattr(file.nodeid, access, b"broken"),
        Err(libc::EOPNOTSUPP)
    );
}

#[test]
fn default_lists_are_inherited_instead_of_the_umask() {
    let Some(guest) = keeping() else { return };
    let default = c"system.posix_acl_default";
    let dir = guest.mkdir(ROOT_ID, c"d", 0o755).unwrap();
    let list = acl(&[
        (1, 7, !0),
        (2, 7, 1000),
        (4, 5, !0),
        (16, 7, !0),
        (32, 5, !0),
    ]);
    guest.setxattr(dir.nodeid, default, &list).unwrap();
    let (file, _) = guest.create(dir.nodeid, c"f", 0o666, 0o077).unwrap();
    assert_eq!(file.attr.mode & 0o777, 0o664);
    let expected = acl(&[
        (1, 6, !0),
        (2, 7, 1000),
        (4, 5, !0),
        (16, 6, !0),
        (32, 4, !0),
    ]);
    let got = guest
        .getxattr(file.nodeid, c"system.posix_acl_access")
        .unwrap();
    assert_eq!(got, expected);
    let inner = guest.mkdir(dir.nodeid, c"d", 0o777).unwrap();
    assert_eq!(guest.getxattr(inner.nodeid, default).unwrap(), list);
    assert_eq!(
        guest.setxattr(file.nodeid, default, &list),
        Err(libc::EACCES)
    );
}

#[test]
fn access_asks_for_the_guests_modes() {
    let Some(mut guest) = keeping() else { return };
    let (file, _) = guest.create(ROOT_ID, c"f", 0o640, 0).unwrap();
    guest.chown(file.nodeid, 1000, 100).unwrap();
    let access = |guest: &Driver, mask: i32| {
        let ask = abi::AccessIn {
            mask: mask as u32,
            padding: 0,
        };
        guest
            .call(opcode::ACCESS, file.nodeid, &[ask.as_slice()])
            .map(|_| ())
    };
    assert_eq!(access(&guest, libc::R_OK | libc::W_OK), Ok(()));
    assert_eq!(access(&guest, libc::X_OK), Err(libc::EACCES));
    guest.uid = 1000;
    assert_eq!(access(&guest, libc::R_OK | libc::W_OK), Ok(()));
    (guest.uid, guest.gid) = (1, 100);
    assert_eq!(access(&guest, libc::R_OK), Ok(()));
    assert_eq!(access(&guest, libc::W_OK), Err(libc::EACCES));
    guest.gid = 1;
    assert_eq!(access(&guest, libc::R_OK), Err(libc::EACCES));
}
