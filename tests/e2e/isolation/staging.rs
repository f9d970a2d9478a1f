//! The folder that the guest's files arrive in, and what other users of the host make of it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use boxbuild_tests::sandbox::{copy_box, small_boxes};
use boxbuild_tests::{Running, Sandbox, scaled_timeout, skip};
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use super::guest::Guest;
use super::{IMAGE, find_below};
use crate::container::fixture::is_root;

crate::tests! {
    Engine:
        a_share_opened_to_all_stays_closed_to_other_users;
    Program:
        another_user_cannot_replace_a_result,
        another_users_link_does_not_change_the_mode_of_its_target,
        another_user_cannot_hold_a_build_by_locks;
}

/// The user `nobody`.
const STRANGER: u32 = 65534;

/// Opens everything to all users, and gives the host some seconds.
const OPEN: &str = "cd /bundle; chmod 0777 .; mkdir tree; chmod 0777 tree
    echo image >tree/image; chmod 0666 tree/image image.raw result.log result.code
    chmod 0777 .; echo opened >>result.log\n";

/// Runs `act` as the stranger, with the file system's eyes. Needs root.
fn as_stranger<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Of this thread alone: setfsuid(2). Capabilities over files go with it.
            setfsgid(Gid::from_raw(STRANGER));
            setfsuid(Uid::from_raw(STRANGER));
            act()
        });
        thread.join().expect("the stranger comes to an end")
    })
}

/// A guest in folders that every user can enter, as in a home folder with mode 0755. `None` if the
/// test can have no other user.
fn among_users(test: &str, guest: fn() -> Guest) -> Option<Guest> {
    if !is_root() {
        skip(test, "only root can act as another user");
        return None;
    }
    let guest = guest();
    fs::set_permissions(guest.path("."), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(guest.target()).unwrap();
    fs::set_permissions(guest.target(), Permissions::from_mode(0o755)).unwrap();
    let target = guest.target();
    if as_stranger(move || fs::read_dir(target)).is_err() {
        skip(
            test,
            "other users cannot enter the folder for temporary files",
        );
        return None;
    }
    Some(guest)
}

/// What another user can do below a folder: names to be seen, files to be read, folders to be written.
#[derive(Debug, Default, PartialEq)]
struct Reach {
    read: Vec<PathBuf>,
    written: Vec<PathBuf>,
}

/// Tries all that the stranger can reach below `folder`, but for the files `known`.
fn reach(folder: &Path, known: &[&str]) -> Reach {
    let mut reach = Reach::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let new = folder.join("of-a-stranger");
        if File::create(&new).is_ok() {
            let _ = fs::remove_file(new);
            reach.written.push(folder.clone());
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if known.iter().any(|name| path.ends_with(name)) {
            } else if File::options().write(true).open(&path).is_ok() {
                reach.written.push(path);
            } else if File::open(&path).is_ok() {
                reach.read.push(path);
            }
        }
    }
    reach
}

/// Whether permissions alone keep all other users out of what is below `folder`.
fn is_closed_by_modes(folder: &Path, name: &str) -> bool {
    let Some(found) = find_below(folder, name) else {
        panic!("{name} is not below {}", folder.display());
    };
    let mut parents = found.ancestors().skip(1);
    parents
        .by_ref()
        .take_while(|path| *path != folder)
        .any(|path| fs::metadata(path).unwrap().permissions().mode() & 0o077 == 0)
}

fn wait_until_open(build: &mut Running) {
    build.wait_for("opened");
}

pub(super) fn open_share(guest: &Guest) {
    guest.script(&format!("{IMAGE}{OPEN}sleep 3"));
    let mut build = guest.start(&["--verbose"]);
    wait_until_open(&mut build);
    let closed = is_closed_by_modes(&guest.target(), "image");
    build.finish().expect(0, &[]);
    assert!(closed, "others may enter the folder of the guest's files");
    guest.assert_nothing_left();
}

/// By modes, which any user of the tests can look at.
fn a_share_opened_to_all_stays_closed_to_other_users() {
    open_share(&Guest::machine());
}

pub(super) fn replaced_result(test: &str, make: fn() -> Guest) {
    let Some(guest) = among_users(test, make) else {
        return;
    };
    guest.script(&format!("{IMAGE}{OPEN}sleep 5"));
    let mut build = guest.start(&["--verbose"]);
    wait_until_open(&mut build);
    let target = guest.target();
    let evil = guest.path("evil");
    fs::write(&evil, "evil\n").unwrap();
    chown(&evil, Some(STRANGER), Some(STRANGER)).unwrap();
    let place = find_below(&target, "image.raw").expect("the guest's image");
    let (reach, swapped) = as_stranger(|| {
        let reach = reach(&target, &[]);
        let new = place.with_file_name("new");
        let swapped = fs::write(&new, "evil\n").and_then(|()| fs::rename(new, &place));
        (reach, swapped.is_ok())
    });
    let output = build.finish();
    assert!(!swapped, "another user replaced the image: {output:?}");
    assert_eq!(reach, Reach::default());
    output.expect(0, &[]);
    let image = target.join("image.raw");
    assert_eq!(fs::read_to_string(&image).unwrap(), "image\n");
    let metadata = fs::metadata(&image).unwrap();
    assert_eq!(metadata.uid(), nix::unistd::getuid().as_raw());
    guest.assert_nothing_left();
}

fn another_user_cannot_replace_a_result() {
    replaced_result("another_user_cannot_replace_a_result", Guest::machine);
}

/// Results whose names another user exchanges with links while they are published.
const RESULTS: usize = 300;

fn another_users_link_does_not_change_the_mode_of_its_target() {
    let test = "another_users_link_does_not_change_the_mode_of_its_target";
    let Some(guest) = among_users(test, Guest::machine) else {
        return;
    };
    let secret = guest.secret();
    fs::set_permissions(guest.path("private"), Permissions::from_mode(0o711)).unwrap();
    guest.script(&format!(
        "{IMAGE}cd /bundle; for i in $(seq {RESULTS}); do echo x >r$i; done; cd /; {OPEN}sleep 3"
    ));
    let mut build = guest.start(&["--verbose"]);
    wait_until_open(&mut build);
    let target = guest.target();
    let folder = find_below(&target, "image.raw").expect("the guest's image");
    let folder = folder.parent().unwrap();
    let end = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            as_stranger(|| {
                for name in in_order() {
                    exchange(folder, &name, &secret, &end);
                }
            });
        });
        let output = build.finish();
        end.store(true, Ordering::Relaxed);
        output
    });
    let mode = fs::metadata(&secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "of the user's own file");
    guest.assert_secret_kept(&[&output]);
    output.expect(0, &[]);
    // The race is won once in some builds; that it can be run at all is the fault.
    let is_link = |name: &String| {
        fs::symlink_metadata(target.join(name))
            .unwrap()
            .is_symlink()
    };
    let links = in_order().iter().filter(|name| is_link(name)).count();
    assert_eq!(links, 0, "results that another user made links");
}

/// The names of results in the order in which they are published.
fn in_order() -> Vec<String> {
    let mut names: Vec<_> = (1..=RESULTS).map(|number| format!("r{number}")).collect();
    names.sort();
    names
}

/// Makes `name` in turn a file and a link to `victim` until it has been published.
fn exchange(folder: &Path, name: &str, victim: &Path, end: &AtomicBool) {
    let (name, link) = (folder.join(name), folder.join(format!("link-{name}")));
    if symlink(victim, &link).is_err() {
        return;
    }
    let flags = RenameFlags::RENAME_EXCHANGE;
    while !end.load(Ordering::Relaxed) && renameat2(AT_FDCWD, &link, AT_FDCWD, &name, flags).is_ok()
    {
    }
}

/// Any user may lock any file that they can read.
fn another_user_cannot_hold_a_build_by_locks() {
    let test = "another_user_cannot_hold_a_build_by_locks";
    if among_users(test, Guest::machine).is_none() {
        return;
    }
    // Files of its own, since a lock is of the file and not of its name.
    let sandbox = Sandbox::without_box("small");
    copy_box(&small_boxes().join("small"), &sandbox.store().join("small"));
    sandbox.script(IMAGE);
    fs::set_permissions(sandbox.path("."), Permissions::from_mode(0o755)).unwrap();
    let cache = sandbox.path("cache");
    let build = || {
        let mut command = sandbox.build_command(&["--keep-failed=yes"], &[]);
        command.env("XDG_CACHE_HOME", &cache);
        let limit = scaled_timeout(60);
        Running::start(&mut command).limit(limit).finish()
    };
    // What a build makes to lock it is there after the first one.
    sandbox.script("exit 7");
    build().expect(1, &["it is kept"]);
    sandbox.script(IMAGE);
    let locks = as_stranger(|| lock_all(&sandbox.path(".")));
    assert!(locks.len() > 3, "{locks:?}");
    build().expect(0, &[]);
    for words in [
        &["logs", "small-1"][..],
        &["prune", "--builds"],
        &["box", "rm", "small"],
    ] {
        sandbox.run(words).expect(0, &[]);
    }
    drop(locks);
}

/// Locks every file and folder below `folder` that the caller can open.
fn lock_all(folder: &Path) -> Vec<Flock<File>> {
    let mut locks = Vec::new();
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            paths.extend(entries.map(|entry| entry.path()));
        }
        if (kind.is_dir() || kind.is_file())
            && let Ok(file) = File::open(&path)
        {
            locks.extend(Flock::lock(file, FlockArg::LockExclusiveNonblock));
        }
    }
    locks
}
