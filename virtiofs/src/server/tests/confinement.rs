//! Each of the two locks closes the share alone; without both, it is open.

use std::path::Path;

use super::driver::{Driver, skip};
use crate::confine::{Confinement, confine_thread};
use crate::fuse::abi::ROOT_ID;
use crate::server::Server;

/// A guest whose server does not check names.
fn unchecked() -> Driver {
    Driver::with(|_| {}, Server::with_unchecked_names)
}

/// Tries to leave the share; returns the errors of the attempts.
fn attack(guest: &Driver) -> Vec<Option<i32>> {
    vec![
        guest.mkdir(ROOT_ID, c"../made", 0o755).err(),
        guest.symlink(ROOT_ID, c"../link", c"x").err(),
        guest
            .mknod(ROOT_ID, c"../pipe", libc::S_IFIFO | 0o600, 0)
            .err(),
        guest.create(ROOT_ID, c"../file", 0o644, 0).err(),
        guest
            .rename((ROOT_ID, c"../victim"), (ROOT_ID, c"stolen"), 0)
            .err(),
        guest.unlink(ROOT_ID, c"../victim").err(),
    ]
}

/// Returns the names beside the share, sorted.
fn beside(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn checked_names_alone_keep_the_guest_in() {
    let guest = Driver::new();
    std::fs::write(guest.dir.path().join("victim"), "secret").unwrap();
    assert!(
        attack(&guest)
            .iter()
            .all(|error| *error == Some(libc::EINVAL))
    );
    assert_eq!(beside(guest.dir.path()), ["share", "victim"]);
}

#[test]
fn without_either_lock_the_guest_gets_out() {
    let guest = unchecked();
    std::fs::write(guest.dir.path().join("victim"), "secret").unwrap();
    attack(&guest);
    assert_ne!(
        beside(guest.dir.path()),
        ["share", "victim"],
        "the attack proves nothing"
    );
}

#[test]
fn landlock_alone_keeps_the_guest_in() {
    let confined = || {
        let guest = unchecked();
        std::fs::write(guest.dir.path().join("victim"), "secret").unwrap();
        if confine_thread(guest.file_system()).unwrap() != Confinement::Landlock {
            return None;
        }
        let errors = attack(&guest);
        assert!(errors.iter().all(Option::is_some), "{errors:?}");
        // Inside of the share everything works, also from one directory to another.
        let sub = guest.mkdir(ROOT_ID, c"sub", 0o755).unwrap().nodeid;
        let (file, fh) = guest.create(ROOT_ID, c"f", 0o644, 0).unwrap();
        assert_eq!(guest.write(file.nodeid, fh, 0, b"data", 0), Ok(4));
        guest.rename((ROOT_ID, c"f"), (sub, c"g"), 0).unwrap();
        let fh = guest
            .open(file.nodeid, libc::O_RDWR | libc::O_TRUNC)
            .unwrap();
        assert_eq!(guest.read(file.nodeid, fh, 0, 10).unwrap(), b"");
        assert_eq!(guest.list(sub, true, 4096).len(), 3);
        guest.unlink(sub, c"g").unwrap();
        // Checked and removed by a thread that is not confined.
        Some(guest.dir.keep())
    };
    let Some(dir) = std::thread::spawn(confined).join().unwrap() else {
        return skip("this kernel does not enforce Landlock");
    };
    assert_eq!(beside(&dir), ["share", "victim"]);
    std::fs::remove_dir_all(dir).unwrap();
}
