//! The scratch file on the file systems that people have. Mounting takes root.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use vm_memory::VolatileSlice;

use super::*;
use crate::disk::KeptChanges;

const LEN: u64 = 64 << 20;

/// Mounted with this value, in a folder that goes with it.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn point(&self) -> PathBuf {
        self.0.path().join("m")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.point()).status();
    }
}

/// Mounts a file system on `m` by a script; `None`, with a word, where that is not possible.
fn mount(name: &str, script: &str) -> Option<Mounted> {
    let mounted = Mounted(tempfile::tempdir().unwrap());
    std::fs::create_dir(mounted.point()).unwrap();
    let mut command = Command::new("sh");
    let output = command
        .args(["-ec", script])
        .current_dir(mounted.0.path())
        .output()
        .unwrap();
    if nix::unistd::geteuid().is_root() && output.status.success() {
        return Some(mounted);
    }
    let _ = writeln!(
        std::io::stderr(),
        "skipped: a_disk_is_the_same_on_any_file_system: {name}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    None
}

/// A write of `bytes`, a hole over part of it, and what a reader and a later one find.
fn use_it(scratch: &Path) {
    let image = scratch.join("image");
    std::fs::write(&image, vec![7; 1 << 20]).unwrap();
    let disk = Overlay::new(Image::open(&image).unwrap(), Some(LEN), scratch).unwrap();
    // FUSE servers give a file without a name one of their own.
    let names = std::fs::read_dir(scratch).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    let ours = names.filter(|name| !name.to_string_lossy().starts_with(".fuse_hidden"));
    assert_eq!(ours.collect::<Vec<_>>(), ["image"]);
    let mut model = vec![7; 1 << 20];
    model.resize(LEN as usize, 0);
    let write = |at: usize, mut bytes: Vec<u8>| {
        let parts = [VolatileSlice::from(&mut bytes[..])];
        disk.write_at(at as u64, &mut Cursor::new(&parts)).unwrap();
    };
    for (at, len, byte) in [(0, 5000, 1), (900_000, 300_000, 2), (40 << 20, 1 << 20, 3)] {
        write(at, vec![byte; len]);
        model[at..at + len].fill(byte);
    }
    // Holes, or zeros where the file system has none.
    for (at, len) in [(4096, 8192), (40 << 20, 512 << 10), (60 << 20, 4096)] {
        disk.zero(at as u64, len as u64, false).unwrap();
        model[at..at + len].fill(0);
    }
    disk.flush().unwrap();
    let check = |disk: &Overlay| {
        let mut found = vec![0xee; LEN as usize];
        let parts = [VolatileSlice::from(&mut found[..])];
        disk.read_at(0, &mut Cursor::new(&parts)).unwrap();
        assert!(found == model);
    };
    check(&disk);
    let folder = scratch.join("kept");
    std::fs::create_dir(&folder).unwrap();
    disk.keep(&folder).unwrap();
    drop(disk);
    let kept = KeptChanges::open(&folder).unwrap();
    let image = Image::open(&image).unwrap().with_changes(kept).unwrap();
    check(&Overlay::new(image, None, scratch).unwrap());
}

#[test]
fn a_disk_is_the_same_on_any_file_system() {
    for (name, script) in [
        ("tmpfs", "mount -t tmpfs -o size=100m none m"),
        (
            "btrfs with compression",
            "truncate -s 200M i; mkfs.btrfs -q i; mount -o loop,compress-force=zstd i m",
        ),
        (
            "overlayfs",
            "mkdir l u w; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m",
        ),
        // Neither unnamed files nor holes.
        (
            "NTFS by FUSE",
            "truncate -s 200M i; mkntfs -F -q i; ntfs-3g i m",
        ),
    ] {
        if let Some(mounted) = mount(name, script) {
            let scratch = mounted.point().join("scratch");
            std::fs::create_dir(&scratch).unwrap();
            use_it(&scratch);
        }
    }
}
