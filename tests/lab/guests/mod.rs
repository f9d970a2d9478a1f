//! Guests of a Debian release's own packages: kernel, initrd, systemd, a disk. Made once for each
//! state of these files and of `guest-files`.

mod bootstrap;
mod disk;
mod owner;
mod spec;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use boxbuild_tests::command::require;
use boxbuild_tests::debian::{self, KEYRING};
use boxbuild_tests::interrupt::Unwind;
use boxbuild_tests::publish::{lock, publish, sha256};

use bootstrap::{bootstrap, guest_files};
use disk::{describe_box, disk};
use owner::{Folder, Owner};
pub(crate) use spec::Options;

/// What makes a guest.
const SOURCES: [&[u8]; 4] = [
    include_bytes!("bootstrap.rs"),
    include_bytes!("disk.rs"),
    include_bytes!("owner.rs"),
    include_bytes!("spec.rs"),
];

/// The folder of a guest: `kernel`, `initrd` (both as their packages made them), `disk.qcow2`
/// (compressed; a GPT), `release` (of the kernel), `root` (its device), `box.json` (which makes the
/// folder the box `published` of a box store). Made where it is not there.
pub(crate) fn run(options: &Options) -> Result<PathBuf> {
    let cache = debian::cache()?.join("guest");
    let name = options.name();
    let guest = cache.join(&name).join(recipe()?);
    let found = || !options.refresh && guest.join("release").exists();
    if found() {
        return Ok(guest);
    }
    ensure!(
        Path::new(KEYRING).exists(),
        "no {KEYRING}: install the package debian-archive-keyring"
    );
    let owner = Owner::new();
    let mut tools = vec![
        ("mmdebstrap", "mmdebstrap"),
        ("sfdisk", "fdisk"),
        ("qemu-img", "qemu-utils"),
        options.fs.tool(),
    ];
    if owner == Owner::Namespace {
        tools.push(("newuidmap", "uidmap"));
    }
    require(tools)?;

    let versions = cache.join(&name);
    fs::create_dir_all(&versions).with_context(|| format!("cannot make {}", versions.display()))?;
    // One at a time: the others find its result. A signal ends those that wait at once.
    let _lock = lock(&cache.join(format!("{name}.lock")))?;
    let _unwind = Unwind::begin()?;
    if found() {
        return Ok(guest);
    }
    for entry in fs::read_dir(&versions)?.flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(b".making.")
        {
            owner.remove(&entry.path());
        }
    }
    let work = Folder::new(owner, ".making.", &versions)?;
    eprintln!("making the guest {name} (once)");
    let made =
        bootstrap(options, owner, &work.path).and_then(|()| disk(options.fs, owner, &work.path));
    made.with_context(|| format!("the guest {name} could not be made"))?;
    describe_box(options, &work.path.join("new"))?;
    publish(&work.path.join("new"), &guest)?;
    Ok(guest)
}

/// What the guest is made by is part of its name: a change here makes another one.
fn recipe() -> Result<String> {
    let mut files = Vec::new();
    list(&guest_files(), &mut files)?;
    files.sort();
    let mut bytes = SOURCES.concat();
    for file in files {
        let name = file.strip_prefix(guest_files())?;
        bytes.extend_from_slice(name.as_os_str().as_encoded_bytes());
        bytes.extend(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let mut sum = sha256(&bytes);
    sum.truncate(12);
    Ok(sum)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
