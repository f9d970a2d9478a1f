//! Two locks keep a guest inside of its share: names are checked, and Landlock confines the
//! threads. Each one alone is enough. Without both the guest gets out: the last test asserts that
//! the same attack succeeds, so the others would notice if it did.

use std::fs::File;
use std::path::Path;
use std::time::UNIX_EPOCH;

use boxbuild_virtiofs::vhost_user::Locks;

use crate::support::{ALL_LOCKS, ROOT, TestShare};

const NAMES_ONLY: Locks = Locks {
    checked_names: true,
    confined: false,
};
const KERNEL_ONLY: Locks = Locks {
    checked_names: false,
    confined: true,
};
const NO_LOCKS: Locks = Locks {
    checked_names: false,
    confined: false,
};

/// A way out, which returns the server's reply.
type Attempt = (&'static str, fn(&mut TestShare) -> Result<(), i32>);

/// The names by which virtiofsd lets a guest out of its share (all but those of [`BENEATH`],
/// which openat2 stops in both servers), and similar ones.
const ATTEMPTS: [Attempt; 15] = [
    ("LOOKUP", |guest| guest.lookup(ROOT, "../victim").map(drop)),
    ("LOOKUP absolute", |guest| {
        guest.lookup(ROOT, "/etc/passwd").map(drop)
    }),
    ("LOOKUP of the parent", |guest| {
        guest.lookup(ROOT, "..").map(drop)
    }),
    ("CREATE", |guest| {
        guest.create(ROOT, "../created", 0o600).map(drop)
    }),
    ("CREATE of an existing file", |guest| {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
        guest.create_with(ROOT, "../victim", 0o600, flags).map(drop)
    }),
    ("MKDIR", |guest| {
        guest.mkdir(ROOT, "../made", 0o700).map(drop)
    }),
    ("SYMLINK", |guest| {
        guest.symlink(ROOT, "../symlink", "x").map(drop)
    }),
    ("MKNOD of a pipe", |guest| {
        guest
            .mknod(ROOT, "../pipe", libc::S_IFIFO | 0o600, 0)
            .map(drop)
    }),
    ("MKNOD of a file", |guest| {
        guest
            .mknod(ROOT, "../file", libc::S_IFREG | 0o600, 0)
            .map(drop)
    }),
    ("LINK", |guest| {
        let node = guest.lookup(ROOT, "inside").unwrap().nodeid;
        guest.link(node, ROOT, "../linked").map(drop)
    }),
    ("RENAME outwards", |guest| {
        guest.rename((ROOT, "inside"), (ROOT, "../moved"))
    }),
    ("RENAME inwards", |guest| {
        guest.rename((ROOT, "../second"), (ROOT, "stolen"))
    }),
    ("RENAME2 exchange", |guest| {
        let to = (ROOT, "../third");
        guest.rename2((ROOT, "other"), to, libc::RENAME_EXCHANGE)
    }),
    ("RMDIR", |guest| guest.rmdir(ROOT, "../empty")),
    ("UNLINK", |guest| guest.unlink(ROOT, "../victim")),
];

/// The attempts that openat2 alone stops, by `RESOLVE_BENEATH`.
const BENEATH: [&str; 6] = [
    "LOOKUP",
    "LOOKUP absolute",
    "LOOKUP of the parent",
    "CREATE",
    "CREATE of an existing file",
    "MKNOD of a file",
];

/// A share with only these locks, and files in it and beside it.
fn share(locks: Locks) -> TestShare {
    let guest = TestShare::with_locks(locks);
    for name in ["second", "third"] {
        std::fs::write(guest.dir.path().join(name), name).unwrap();
    }
    std::fs::create_dir(guest.dir.path().join("empty")).unwrap();
    for name in ["inside", "other"] {
        std::fs::write(guest.host(name), name).unwrap();
    }
    guest
}

/// Returns everything in a directory and below, with the contents of files.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        let name = path.to_str().unwrap().to_owned();
        if kind.is_dir() {
            all.extend(tree(&path));
        }
        let data = kind.is_file().then(|| std::fs::read(&path).unwrap());
        all.push((name, data.unwrap_or_default()));
    }
    all.sort();
    all
}

/// Makes all attempts; returns those that changed anything or succeeded. What is created outside
/// and removed again at once (as by a MKDIR that cannot open the directory) shows in the
/// directory's modification time.
fn attack(guest: &mut TestShare) -> Vec<&'static str> {
    let outside = File::open(guest.dir.path()).unwrap();
    let mut successes = Vec::new();
    for (name, attempt) in ATTEMPTS {
        let before = tree(guest.dir.path());
        outside.set_modified(UNIX_EPOCH).unwrap();
        let answer = attempt(guest);
        let touched = outside.metadata().unwrap().modified().unwrap() != UNIX_EPOCH;
        if answer.is_ok() || touched || tree(guest.dir.path()) != before {
            successes.push(name);
        }
    }
    successes
}

#[test]
fn both_locks_keep_the_guest_in() {
    assert_eq!(attack(&mut share(ALL_LOCKS)), [""; 0]);
}

#[test]
fn checked_names_alone_keep_the_guest_in() {
    let mut guest = share(NAMES_ONLY);
    assert_eq!(attack(&mut guest), [""; 0]);
    for (name, attempt) in ATTEMPTS {
        assert_eq!(attempt(&mut guest), Err(libc::EINVAL), "{name}");
    }
}

#[test]
fn the_kernel_alone_keeps_the_guest_in() {
    let mut guest = share(KERNEL_ONLY);
    if guest.is_confined() {
        assert_eq!(attack(&mut guest), [""; 0]);
    }
}

#[test]
fn without_both_the_guest_gets_out() {
    let mut guest = share(NO_LOCKS);
    let expected: Vec<_> = ATTEMPTS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !BENEATH.contains(name))
        .collect();
    assert_eq!(attack(&mut guest), expected);
    assert!(!guest.beside().contains(&String::from("victim")));
}
