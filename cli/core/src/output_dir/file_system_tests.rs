//! Target folders on the file systems that people have. Mounting takes root.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxbuild_host::stop::StopCheck;

use super::*;

/// A mounted file system, and what is removed with it.
struct Mounted {
    point: PathBuf,
    _dir: tempfile::TempDir,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}

/// Mounts a file system by a script that runs in an empty folder and mounts on `m`; the reason if it
/// cannot be.
fn mount(script: &str) -> Result<Mounted, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err(String::from("mounting takes root"));
    }
    let dir = tempfile::tempdir().unwrap();
    let point = dir.path().join("m");
    fs::create_dir(&point).unwrap();
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir.path())
        .output()
        .unwrap();
    // Also if the script has only come half way.
    let mounted = Mounted { point, _dir: dir };
    if output.status.success() {
        Ok(mounted)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// The test harness would swallow `eprintln!`.
fn skip(test: &str, name: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {name}: {reason}");
}

/// Two builds into the folder: the second replaces the results of the first.
fn build_twice(target: &Path) {
    for number in ["1", "2"] {
        let held = TargetDir::acquire(target).unwrap();
        let again = TargetDir::acquire(target);
        assert!(matches!(again, Err(OutputDirError::InUse(_))), "{again:?}");
        let stop = StopCheck::default();
        let mut output = OutputDir::stage(&held, &stop).unwrap();
        let share = output.share().to_owned();
        fs::write(share.join("image.raw"), number).unwrap();
        fs::create_dir(share.join("folder")).unwrap();
        fs::write(share.join("folder/inside"), number).unwrap();
        fs::write(share.join("result.log"), "log").unwrap();
        fs::write(share.join("result.code"), "0\n").unwrap();
        let published = output.publish(None, &stop).unwrap();
        assert_eq!(published.files.len(), 2, "{:?}", published.notes);
        drop(held);
        for name in ["image.raw", "folder/inside"] {
            let text = fs::read_to_string(target.join(name)).unwrap();
            assert_eq!(text, number, "{name}");
        }
        assert!(target.join("result.log").exists());
        assert!(!target.join(".boxbuild.partial").exists());
    }
}

/// Each has something less than ext4: no modes, no flags of renameat2(2), no unnamed files, no owners.
#[test]
fn results_are_published_on_any_file_system() {
    for (name, script) in [
        (
            "tmpfs, noexec",
            "mount -t tmpfs -o noexec,nosuid,nodev,size=8m none m",
        ),
        (
            "overlayfs",
            "mkdir l u w; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m",
        ),
        (
            "btrfs with compression",
            "truncate -s 120M i; mkfs.btrfs -q i; mount -o loop,compress=zstd i m",
        ),
        (
            "exFAT",
            "truncate -s 32M i; mkfs.exfat i >/dev/null; d=$(losetup -f --show i); \
             trap 'losetup -d $d' EXIT; mount.exfat-fuse $d m >/dev/null",
        ),
        ("NTFS", "truncate -s 32M i; mkntfs -F -q i; ntfs-3g i m"),
        ("FUSE without flags", "mkdir s; bindfs s m"),
    ] {
        match mount(script) {
            Ok(mounted) => {
                println!("{name}");
                build_twice(&mounted.point.join("target"));
            }
            Err(reason) => skip("results_are_published_on_any_file_system", name, &reason),
        }
    }
}

/// What cannot take results is refused before anything starts, in one sentence, and nothing stays.
#[test]
fn a_folder_that_cannot_take_results_is_refused_at_once() {
    for (name, script, words) in [
        (
            "read-only",
            "mount -t tmpfs -o ro,size=1m none m",
            &["Read-only", "another --target-dir"][..],
        ),
        (
            "the files of another user",
            "mkdir s; bindfs --force-user=12345 s m",
            &["12345", "mount", "another --target-dir"][..],
        ),
    ] {
        let mounted = match mount(script) {
            Ok(mounted) => mounted,
            Err(reason) => {
                let test = "a_folder_that_cannot_take_results_is_refused_at_once";
                skip(test, name, &reason);
                continue;
            }
        };
        let error = TargetDir::acquire(&mounted.point).unwrap_err();
        let error: &dyn std::error::Error = &error;
        let mut text = error.to_string();
        if let Some(source) = error.source() {
            text = format!("{text}: {source}");
        }
        for word in words {
            assert!(text.contains(word), "{name}: {word}: {text}");
        }
        assert_eq!(fs::read_dir(&mounted.point).unwrap().count(), 0, "{name}");
    }
}
