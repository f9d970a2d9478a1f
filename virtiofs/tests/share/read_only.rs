//! A read-only share refuses every modifying request, and no other.

use boxbuild_virtiofs_client::set_times;

use crate::support::{ALL_LOCKS, ROOT, TestShare, directory};

#[test]
fn every_modifying_request_is_refused() {
    let dir = directory();
    let root = dir.path().join("share");
    std::fs::create_dir(root.join("dir")).unwrap();
    std::fs::write(root.join("file"), "data").unwrap();
    std::os::unix::fs::symlink("file", root.join("link")).unwrap();
    let before = std::fs::metadata(root.join("file")).unwrap();
    let mut guest = TestShare::in_dir(dir, |share| share.read_only = true, ALL_LOCKS);

    let [file, dir, link] =
        ["file", "dir", "link"].map(|name| guest.lookup(ROOT, name).unwrap().nodeid);
    let fh = guest.open(file, libc::O_RDONLY).unwrap();
    let rename = libc::RENAME_NOREPLACE;
    let answers = [
        guest.create(ROOT, "x", 0o600).map(drop),
        guest
            .create_with(ROOT, "file", 0o600, libc::O_CREAT)
            .map(drop),
        guest.tmpfile(ROOT, 0o600).map(drop),
        guest.mkdir(dir, "x", 0o700).map(drop),
        guest.mknod(ROOT, "x", libc::S_IFREG | 0o600, 0).map(drop),
        guest.mknod(ROOT, "x", libc::S_IFIFO | 0o600, 0).map(drop),
        guest.symlink(ROOT, "x", "y").map(drop),
        guest.link(file, ROOT, "x").map(drop),
        guest.unlink(ROOT, "file"),
        guest.rmdir(ROOT, "dir"),
        guest.rename((ROOT, "file"), (ROOT, "x")),
        guest.rename2((ROOT, "file"), (ROOT, "x"), rename),
        guest.open(file, libc::O_WRONLY).map(drop),
        guest.open(file, libc::O_RDWR).map(drop),
        guest.open(file, libc::O_RDONLY | libc::O_TRUNC).map(drop),
        guest.write(file, fh, 0, b"x").map(drop),
        guest.fallocate((file, fh), 0, 0, 4096),
        guest
            .copy_file_range((file, fh, 0), (file, fh, 10), 4)
            .map(drop),
        guest.chmod(file, 0o777).map(drop),
        guest.chown(file, 1000, 1000).map(drop),
        guest.chown(link, 1000, 1000).map(drop),
        guest.truncate(file, 0).map(drop),
        guest.setattr(dir, set_times(1, 1)).map(drop),
        guest.setxattr(file, "user.x", b"x"),
        guest.setxattr(file, "trusted.x", b"x"),
        guest.removexattr(file, "user.x"),
        guest.access(file, libc::W_OK),
    ];
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, Err(libc::EROFS), "attempt {number}");
    }

    assert_eq!(guest.read(file, fh, 0, 99).unwrap(), b"data");
    assert_eq!(guest.readlink(link).unwrap(), b"file");
    assert_eq!(guest.list(ROOT, true, 4096).unwrap().len(), 5);
    guest.access(file, libc::R_OK).unwrap();
    guest.statfs(ROOT).unwrap();
    guest.listxattr(file).unwrap();
    guest.release(file, fh).unwrap();
    guest.assert_unharmed();
    assert_eq!(std::fs::read(guest.host("file")).unwrap(), b"data");
    let after = std::fs::metadata(guest.host("file")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(before.permissions(), after.permissions());
    assert_eq!(std::fs::read_dir(guest.host("")).unwrap().count(), 3);
}
