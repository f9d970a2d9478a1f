//! Target folders, and publishing what hostile guests leave.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::umask::umask;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::manifest::NAME as MANIFEST;
use super::*;

struct Sandbox {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Sandbox {
    fn new() -> Sandbox {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        Sandbox { _dir: dir, root }
    }

    fn target(&self) -> TargetDir {
        TargetDir::acquire(&self.root).unwrap()
    }

    /// Publishes what `guest` leaves in its share.
    fn build(&self, guest: impl FnOnce(PathBuf)) -> Result<Published, PublishError> {
        let target = self.target();
        let mut output = stage(&target);
        guest(output.share().to_owned());
        output.publish(None, &StopCheck::default())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != MANIFEST)
            .collect();
        names.sort();
        names
    }

    fn mode(&self, name: &str) -> u32 {
        let metadata = fs::symlink_metadata(self.path(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    }
}

fn stage(target: &TargetDir) -> OutputDir<'_> {
    OutputDir::stage(target, &StopCheck::default()).unwrap()
}

fn set_mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn results_appear_whole_and_with_the_modes_of_the_user() {
    let sandbox = Sandbox::new();
    let target = sandbox.target();
    let mut output = stage(&target);
    let share = output.share().to_owned();
    for (name, mode) in [
        ("image.raw", 0o600),
        ("locked", 0),
        ("open", 0o6777),
        ("result.log", 0o400),
        ("result.code", 0o600),
    ] {
        fs::write(share.join(name), "0\n").unwrap();
        set_mode(&share.join(name), mode);
    }
    assert!(!sandbox.path("image.raw").exists());
    assert_eq!(output.result_code(), ResultCode::Code(0));
    let published = output.publish(None, &StopCheck::default()).unwrap();
    let names: Vec<_> = published.files.iter().map(|file| &file.path).collect();
    let expected = ["image.raw", "locked", "open"].map(|name| sandbox.path(name));
    assert_eq!(names, expected.each_ref());
    // SHA-256 of "0\n".
    let hash = "9a271f2a916b0b6ee6cecb2426f0b3206ef074578be55d9bc94f6f3fe3ab86aa";
    assert_eq!(published.files[0].sha256.as_deref(), Some(hash));
    assert!(published.log.is_some() && published.notes.is_empty());
    for name in ["image.raw", "locked", "open", "result.log", "result.code"] {
        assert_eq!(sandbox.mode(name), 0o666 & !umask(), "{name}");
    }
    drop(target);
    assert!(!sandbox.path(".boxbuild.partial").exists());
}

/// A raw disk with little in it takes little, before and after it is published.
#[test]
fn a_sparse_result_stays_sparse() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    const LEN: u64 = 64 << 20;
    let sandbox = Sandbox::new();
    sandbox
        .build(|share| {
            let disk = fs::File::create_new(share.join("disk.raw")).unwrap();
            disk.set_len(LEN).unwrap();
            disk.write_all_at(b"data", LEN / 2).unwrap();
        })
        .unwrap();
    let disk = fs::metadata(sandbox.path("disk.raw")).unwrap();
    assert_eq!(disk.len(), LEN);
    assert!(disk.blocks() * 512 <= 1 << 20, "{} blocks", disk.blocks());
}

/// Fault 31: folders kept 0777, the files in them 0666.
#[test]
fn folders_among_the_results_get_modes_and_lose_links() {
    let sandbox = Sandbox::new();
    let published = sandbox
        .build(|share| {
            fs::create_dir_all(share.join("tree/deep/locked")).unwrap();
            fs::write(share.join("tree/deep/file"), "x").unwrap();
            fs::write(share.join("tree/.hidden"), "x").unwrap();
            symlink("/etc/passwd", share.join("tree/deep/link")).unwrap();
            mkfifo(&share.join("tree/fifo"), Mode::S_IRWXU).unwrap();
            set_mode(&share.join("tree/deep/file"), 0o6666);
            set_mode(&share.join("tree/deep/locked"), 0);
            set_mode(&share.join("tree/deep"), 0o777);
            set_mode(&share.join("tree"), 0o1777);
        })
        .unwrap();
    assert_eq!(published.files[0].path, sandbox.path("tree"));
    assert_eq!(published.files[0].sha256, None);
    let notes = published.notes.join("\n");
    assert!(
        notes.contains("'tree'") && notes.contains("2 more"),
        "{notes}"
    );
    for name in ["tree", "tree/deep", "tree/deep/locked"] {
        assert_eq!(sandbox.mode(name), 0o777 & !umask(), "{name}");
    }
    assert_eq!(sandbox.mode("tree/deep/file"), 0o666 & !umask());
    for gone in ["tree/.hidden", "tree/deep/link", "tree/fifo"] {
        assert!(sandbox.path(gone).symlink_metadata().is_err(), "{gone}");
    }
}

/// Fault 7: links, FIFOs and names of the shell's and git's configuration were published.
#[test]
fn only_files_and_folders_with_plain_names_are_results() {
    let sandbox = Sandbox::new();
    let published = sandbox
        .build(|share| {
            fs::write(share.join("image"), "x").unwrap();
            fs::write(share.join(".bashrc"), "evil").unwrap();
            fs::create_dir(share.join(".git")).unwrap();
            fs::write(share.join("a\nb\u{202e}"), "x").unwrap();
            symlink("image", share.join("link")).unwrap();
            mkfifo(&share.join("fifo"), Mode::S_IRWXU).unwrap();
            symlink("/etc/passwd", share.join("result.log")).unwrap();
        })
        .unwrap();
    assert_eq!(published.files.len(), 1);
    assert!(published.log.is_none());
    assert_eq!(sandbox.names(), ["image", "result.code"]);
    let notes = published.notes.join("\n");
    for word in [
        ".bashrc",
        ".git",
        "a\\nb\\u{202e}",
        "'link'",
        "'fifo'",
        "result.log",
    ] {
        assert!(notes.contains(word), "{word}: {notes}");
    }
    assert_eq!(sandbox.read("result.code"), "0\n");
}

/// Fault 7: the user's folders and files of any name were replaced.
#[test]
fn what_no_build_made_is_never_replaced_and_the_results_are_saved() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path("src")).unwrap();
    fs::write(sandbox.path("src/main.c"), "mine").unwrap();
    fs::write(sandbox.path("Makefile"), "mine").unwrap();
    let guest = |share: PathBuf| {
        fs::create_dir(share.join("src")).unwrap();
        fs::write(share.join("Makefile"), "evil").unwrap();
        fs::write(share.join("image"), "image").unwrap();
    };
    for number in 1..=2 {
        let error = sandbox.build(guest).unwrap_err();
        let PublishError::Conflict { paths, rescued } = &error else {
            panic!("{error}");
        };
        assert_eq!(*paths, [sandbox.path("Makefile"), sandbox.path("src")]);
        let folder = sandbox.path(&format!("result.unpublished-{number}"));
        assert_eq!(rescued.as_ref(), Some(&folder));
        assert!(error.to_string().contains(folder.to_str().unwrap()));
        assert_eq!(fs::read_to_string(folder.join("image")).unwrap(), "image");
        assert!(!sandbox.path("image").exists());
        assert_eq!(
            sandbox.read("src/main.c") + &sandbox.read("Makefile"),
            "minemine"
        );
    }
}

#[test]
fn results_of_earlier_builds_are_replaced_by_any_kind() {
    let sandbox = Sandbox::new();
    let file = |name: &'static str, text: &'static str| {
        move |share: PathBuf| fs::write(share.join(name), text).unwrap()
    };
    sandbox.build(file("image", "first")).unwrap();
    sandbox.build(file("other", "other")).unwrap();
    sandbox.build(file("image", "second")).unwrap();
    assert_eq!(
        sandbox.read("image") + &sandbox.read("other"),
        "secondother"
    );
    // A folder in place of a file, and a file in place of a folder with something in it.
    sandbox
        .build(|share| {
            fs::create_dir(share.join("image")).unwrap();
            fs::write(share.join("image/inside"), "x").unwrap();
        })
        .unwrap();
    assert_eq!(sandbox.read("image/inside"), "x");
    // One in which the user put something is the user's.
    fs::write(sandbox.path("image/mine"), "mine").unwrap();
    assert!(sandbox.build(file("image", "third")).is_err());
    assert_eq!(sandbox.read("image/mine"), "mine");
    fs::remove_file(sandbox.path("image/mine")).unwrap();
    sandbox.build(file("image", "third")).unwrap();
    assert_eq!(sandbox.read("image"), "third");
    assert_eq!(sandbox.mode(MANIFEST), 0o600);
    // What the user put there in its place is the user's.
    fs::remove_file(sandbox.path("image")).unwrap();
    fs::write(sandbox.path("image"), "my own image").unwrap();
    assert!(sandbox.build(file("image", "fourth")).is_err());
    assert_eq!(sandbox.read("image"), "my own image");
    // A copy of the target folder, as from a backup, is still known.
    let copy = Sandbox::new();
    fs::create_dir_all(&copy.root).unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-a", "--"])
        .args([sandbox.path("other"), sandbox.path(MANIFEST)])
        .arg(&copy.root)
        .status();
    assert!(copied.unwrap().success());
    copy.build(file("other", "new")).unwrap();
    assert_eq!(copy.read("other"), "new");
}

/// A boxbuild that kept no manifest left a verdict, and files that kiwi had named.
#[test]
fn results_of_an_older_boxbuild_are_replaced_if_kiwi_named_them() {
    let sandbox = Sandbox::new();
    let image = "mini.x86_64-1.0.0-0.tar.xz";
    let guest = |share: PathBuf| fs::write(share.join(image), "new").unwrap();
    fs::create_dir_all(&sandbox.root).unwrap();
    fs::write(sandbox.path(image), "old").unwrap();
    assert!(sandbox.build(guest).is_err(), "there was no build");
    fs::write(sandbox.path("notes"), "mine").unwrap();
    fs::write(sandbox.path("result.code"), "0\n").unwrap();
    sandbox.build(guest).unwrap();
    assert_eq!(sandbox.read(image), "new");
    // From now on, there is a manifest.
    let error = sandbox.build(|share| fs::write(share.join("notes"), "evil").unwrap());
    assert!(error.is_err() && sandbox.read("notes") == "mine");
}

#[test]
fn a_manifest_is_not_believed_blindly() {
    let sandbox = Sandbox::new();
    let guest = |share: PathBuf| fs::write(share.join("image"), "x").unwrap();
    sandbox.build(guest).unwrap();
    let path = sandbox.path(MANIFEST);
    let good = fs::read_to_string(&path).unwrap();
    let outside = good.replace("\"image\"", "\"../../precious\"");
    for bad in ["{", "[]", "", &outside] {
        fs::write(&path, bad).unwrap();
        assert!(sandbox.build(guest).is_err(), "{bad}");
        assert!(sandbox.path("image").exists());
    }
    // Through a link, it is none.
    fs::remove_file(&path).unwrap();
    fs::write(sandbox.path("elsewhere"), &good).unwrap();
    symlink("elsewhere", &path).unwrap();
    assert!(sandbox.build(guest).is_err());
    assert_eq!(sandbox.read("elsewhere"), good);
}

/// Fault 3: another user of the host reached the share when the guest had made it 0777.
#[test]
fn no_other_user_reaches_the_share() {
    let sandbox = Sandbox::new();
    let target = sandbox.target();
    let output = stage(&target);
    set_mode(output.share(), 0o777);
    // The folder of an older boxbuild was open for all.
    assert_eq!(sandbox.mode(".boxbuild.partial"), 0o700);
    assert!(
        output
            .share()
            .starts_with(sandbox.path(".boxbuild.partial"))
    );
}

/// Faults 3 and 4: what another user put in the place of a result stayed theirs, and a file of the
/// user's that was linked there became readable for all.
#[test]
fn a_result_that_belongs_to_another_user_is_none() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a_result_that_belongs_to_another_user_is_none: only root can make one");
        return;
    }
    let sandbox = Sandbox::new();
    let published = sandbox
        .build(|share| {
            let theirs = Some(nix::unistd::Uid::from_raw(12345));
            for name in ["image", "result.log", "good"] {
                fs::write(share.join(name), "x").unwrap();
            }
            fs::create_dir(share.join("tree")).unwrap();
            fs::write(share.join("tree/theirs"), "x").unwrap();
            for name in ["image", "result.log", "tree/theirs"] {
                nix::unistd::chown(&share.join(name), theirs, None).unwrap();
            }
        })
        .unwrap();
    assert_eq!(sandbox.names(), ["good", "result.code", "tree"]);
    assert!(!sandbox.path("tree/theirs").exists());
    assert!(published.notes.join("\n").contains("another user"));
}

#[test]
fn a_failed_build_leaves_log_and_code_and_nothing_else() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(&sandbox.root).unwrap();
    fs::write(sandbox.path("precious"), "mine").unwrap();
    fs::write(sandbox.path("result.code"), "0\n").unwrap();
    let target = sandbox.target();
    let mut output = stage(&target);
    assert!(
        !sandbox.path("result.code").exists(),
        "a stale verdict must go at once"
    );
    assert_eq!(output.result_code(), ResultCode::Missing);
    fs::write(output.share().join("half-an-image"), "x").unwrap();
    fs::write(output.share().join("result.log"), "why").unwrap();
    let published = output.publish_failure(1).unwrap();
    assert!(published.log.is_some());
    drop(target);
    assert_eq!(sandbox.names(), ["precious", "result.code", "result.log"]);
    assert_eq!(sandbox.read("precious"), "mine");
    assert_eq!(sandbox.read("result.code"), "1\n");
}

#[test]
fn two_builds_cannot_share_a_target() {
    let sandbox = Sandbox::new();
    let first = sandbox.target();
    assert!(matches!(
        TargetDir::acquire(&sandbox.root),
        Err(OutputDirError::InUse(_))
    ));
    drop(stage(&first));
    drop(first);
    assert!(
        !sandbox.root.exists(),
        "a folder made for a build that never ran must go"
    );
    sandbox.target();
}

/// Fault 28, for target folders: any user who can read one could lock it.
#[test]
fn a_lock_of_another_user_does_not_hold_a_target() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(&sandbox.root).unwrap();
    let theirs = fs::File::open(&sandbox.root).unwrap();
    let lock = nix::fcntl::Flock::lock(theirs, nix::fcntl::FlockArg::LockExclusiveNonblock);
    let _lock = lock.unwrap();
    sandbox.target();
}

#[test]
fn leftovers_of_a_killed_build_are_removed() {
    let sandbox = Sandbox::new();
    let locked = sandbox.path(".boxbuild.partial").join("deep");
    fs::create_dir_all(&locked).unwrap();
    fs::write(locked.join("file"), "").unwrap();
    set_mode(&locked, 0);
    let target = sandbox.target();
    let output = stage(&target);
    assert_eq!(fs::read_dir(output.share()).unwrap().count(), 0);
}

#[test]
fn only_a_number_in_a_regular_file_is_a_code() {
    let sandbox = Sandbox::new();
    let target = sandbox.target();
    let output = stage(&target);
    let code = output.share().join("result.code");
    for (text, expected) in [("", false), ("0x", false), (" 7 \n", true)] {
        fs::write(&code, text).unwrap();
        let is_seven = output.result_code() == ResultCode::Code(7);
        assert_eq!(is_seven, expected, "{text:?}");
    }
    fs::write(&code, "\x1b[2J\u{202e}7").unwrap();
    let ResultCode::Unreadable(why) = output.result_code() else {
        panic!("a code");
    };
    assert_eq!(why, "it contains '7'");
    fs::remove_file(&code).unwrap();
    fs::write(sandbox.path("zero"), "0").unwrap();
    symlink(sandbox.path("zero"), &code).unwrap();
    assert!(matches!(output.result_code(), ResultCode::Unreadable(_)));
    fs::remove_file(&code).unwrap();
    mkfifo(&code, Mode::S_IRWXU).unwrap();
    assert!(matches!(output.result_code(), ResultCode::Unreadable(_)));
}

/// Fault 10: a sparse result was hashed for hours without a look at signals.
#[test]
fn a_result_with_a_hole_of_terabytes_does_not_hold_the_build() {
    let sandbox = Sandbox::new();
    let target = sandbox.target();
    let interrupt = Interrupt::default();
    {
        let mut output = stage(&target);
        let file = fs::File::create(output.share().join("image")).unwrap();
        file.set_len(1 << 40).unwrap();
        let late = interrupt.clone();
        let signal = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            late.request();
        });
        let error = output
            .publish(None, &StopCheck::new(&interrupt, None))
            .unwrap_err();
        signal.join().unwrap();
        assert!(matches!(error, PublishError::Stopped(Stopped::Interrupted)));
        assert!(!sandbox.path("image").exists() && !sandbox.path("result.code").exists());
        output.publish_failure(1).unwrap();
    }
    // Without a signal, there is an end as well.
    let mut output = stage(&target);
    for (name, length) in [("long", (1 << 20) + 1), ("short", 1 << 20)] {
        let file = fs::File::create(output.share().join(name)).unwrap();
        file.set_len(length).unwrap();
    }
    let published = output
        .publish_within(None, &StopCheck::default(), 1 << 20)
        .unwrap();
    let hashed: Vec<bool> = published
        .files
        .iter()
        .map(|file| file.sha256.is_some())
        .collect();
    assert_eq!(hashed, [false, true]);
    assert!(published.notes[0].contains("'long' gets no checksum"));
}

/// Fault 27: with a tree of 25,000 levels, the verdict was lost, or the stack ended.
#[test]
fn a_tree_of_25000_levels_changes_nothing_about_the_verdict() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.unwrap();
    let sandbox = Sandbox {
        root: dir.path().join("target"),
        _dir: dir,
    };
    for succeeds in [false, true] {
        let target = sandbox.target();
        let mut output = stage(&target);
        let mut deepest = output.share_dir().try_clone().unwrap();
        for _ in 0..25_000 {
            deepest = deepest.make_folder("d".as_ref(), 0o755).unwrap();
        }
        fs::write(output.share().join("image"), "x").unwrap();
        if succeeds {
            let published = output.publish(None, &StopCheck::default()).unwrap();
            assert!(published.notes[0].contains("too deep"), "{published:?}");
            assert_eq!(sandbox.read("result.code"), "0\n");
        } else {
            output.publish_failure(1).unwrap();
            assert_eq!(sandbox.read("result.code"), "1\n");
        }
        drop(target);
        assert!(!sandbox.path(".boxbuild.partial").exists());
    }
}

#[test]
fn more_results_than_any_build_has_are_refused() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(&sandbox.root).unwrap();
    let error = sandbox
        .build(|share| {
            for number in 0..1500 {
                fs::write(share.join(number.to_string()), "").unwrap();
            }
        })
        .unwrap_err();
    assert!(matches!(error, PublishError::TooMany { .. }), "{error}");
    assert_eq!(sandbox.names(), [] as [&str; 0]);
}

/// Holes cost a guest nothing, and it may leave a thousand lists.
#[test]
fn all_lists_of_packages_have_the_room_of_one() {
    use boxbuild_provenance::packages::LONGEST;

    struct Lists(u64);
    impl Recorder for Lists {
        fn record(&mut self, delivered: &Delivered) -> Result<Vec<RecordFile>, RecordError> {
            self.0 = delivered
                .packages
                .iter()
                .map(|list| list.len() as u64)
                .sum();
            Ok(Vec::new())
        }
    }
    let sandbox = Sandbox::new();
    let target = sandbox.target();
    let mut output = stage(&target);
    for name in ["a.packages", "b.packages"] {
        let list = fs::File::create(output.share().join(name)).unwrap();
        list.set_len(LONGEST).unwrap();
    }
    let mut lists = Lists(0);
    output
        .publish(Some(&mut lists), &StopCheck::default())
        .unwrap();
    assert_eq!(lists.0, LONGEST);
}
