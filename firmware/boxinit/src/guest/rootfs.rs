//! Finds the root file system, mounts it, and switches to it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use boxbuild_protocol::boot_options::{BootOptions, KeepDisk};
use boxbuild_protocol::kernel_args::value;
use boxinit::root::Root;
use boxinit::superblock::{self, Content};
use boxinit::{fstab, partition};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount as mount_call};
use nix::unistd::{chdir, chroot};

use super::error::{GuestError, unfit};
use super::load::{Loader, without_driver};
use super::{drivers, grow};

/// How long a disk may take to appear. Its driver is loaded by then and probes it at once.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which it is looked for.
const INTERVAL: Duration = Duration::from_millis(2);

/// Mount point of the root before the switch.
const NEW_ROOT: &str = "/newroot";

/// Mounts the root that the kernel parameters `root=`, `rootfstype=` and `rootflags=` name.
pub(super) fn mount(
    loader: &mut Loader,
    words: &[String],
    options: BootOptions,
) -> Result<(), GuestError> {
    let root = Root::parse(value(words, "root")).map_err(GuestError::Unfit)?;
    let device = wait_for(&root)?;
    let content = probe(&device);
    let kind = match (value(words, "rootfstype"), &content) {
        (_, Content::Container(description)) => {
            return Err(GuestError::Unfit(format!(
                "the root {} is {description}",
                device.display()
            )));
        }
        (Some(kind), _) if !kind.is_empty() && kind != "auto" => kind,
        (_, Content::FileSystem { kind, .. }) => kind,
        (_, Content::Unknown) => {
            return Err(GuestError::Unfit(format!(
                "the root {} has a file system that is not known to boxbuild's init",
                device.display()
            )));
        }
    };
    let grown = grow::partition(&device).is_some();
    fs::create_dir_all(NEW_ROOT).map_err(unfit("make a folder for the root"))?;
    let data = value(words, "rootflags").unwrap_or_default();
    mount_device(loader, &device, Path::new(NEW_ROOT), kind, data).map_err(unfit(format_args!(
        "mount the root {} ({kind})",
        device.display()
    )))?;
    // A disk that outlives the machine keeps the size that its partition table says.
    if grown && options.keep != KeepDisk::Always {
        grow::file_system(Path::new(NEW_ROOT), &device, kind);
    }
    if !Path::new(NEW_ROOT).join("usr").is_dir() && !Path::new(NEW_ROOT).join("bin").is_dir() {
        return Err(GuestError::Unfit(format!(
            "there is no system on the root {}",
            device.display()
        )));
    }
    Ok(())
}

/// Loads the modules for a file system of the type `kind` and mounts it.
fn mount_device(
    loader: &mut Loader,
    device: &Path,
    target: &Path,
    kind: &str,
    data: &str,
) -> nix::Result<()> {
    loader.load(kind);
    let attempt = |kind: &str| {
        mount_call(
            Some(device),
            target,
            Some(kind),
            MsFlags::MS_NOATIME,
            Some(data),
        )
    };
    match attempt(kind) {
        // A kernel whose ext4 driver does not handle ext2 and ext3 has a driver for ext2.
        Err(Errno::ENODEV | Errno::EINVAL) if kind == "ext4" => {
            loader.load("ext2");
            attempt("ext2")
        }
        result => result,
    }
}

/// Waits for the root's device.
fn wait_for(root: &Root) -> Result<PathBuf, GuestError> {
    let start = Instant::now();
    loop {
        if let Some(device) = find(root) {
            return Ok(device);
        }
        if let Some(driver) = drivers::missing_for_disks() {
            return Err(GuestError::Unfit(format!(
                "in its initial ramdisk, {}",
                without_driver(driver)
            )));
        }
        if start.elapsed() > TIMEOUT {
            return Err(GuestError::Unfit(format!(
                "the root {root} is on none of its disks ({})",
                disks().join(", ")
            )));
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Names of all block devices but loop devices and RAM disks, in order.
fn disks() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/block")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with("loop") && !name.starts_with("ram"))
        .collect();
    names.sort();
    names
}

/// The block device that `root` names.
fn find(root: &Root) -> Option<PathBuf> {
    let dev = |name: &str| Path::new("/dev").join(name);
    if let Root::Device(name) = root {
        return Some(dev(name)).filter(|device| device.exists());
    }
    let is_root = |name: &String| match root {
        Root::Label(wanted) => matches!(probe(&dev(name)),
            Content::FileSystem { label, .. } if label == *wanted),
        Root::Uuid(wanted) => matches!(probe(&dev(name)),
            Content::FileSystem { uuid, .. } if uuid == *wanted),
        Root::PartUuid(wanted) => entry(name).is_some_and(|entry| entry.uuid == *wanted),
        Root::PartLabel(wanted) => entry(name).is_some_and(|entry| entry.label == *wanted),
        Root::Device(_) => false,
    };
    disks()
        .iter()
        .find(|name| is_root(name))
        .map(|name| dev(name))
}

/// The entry of a partition in its disk's partition table.
fn entry(name: &str) -> Option<partition::Partition> {
    let device = Path::new("/sys/class/block").join(name);
    let number = fs::read_to_string(device.join("partition")).ok()?;
    // The link leads to …/DISK/PARTITION.
    let real = fs::canonicalize(&device).ok()?;
    let disk = real.parent()?.file_name()?;
    let table = read_start(&Path::new("/dev").join(disk), partition::PROBE_LENGTH);
    partition::entry(&table, number.trim_end().parse().ok()?)
}

/// What a device holds.
fn probe(device: &Path) -> Content {
    superblock::probe(&read_start(device, superblock::PROBE_LENGTH))
}

/// The first `count` bytes of a device; fewer if it is shorter or cannot be read.
fn read_start(device: &Path, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(device) {
        // What was read before an error is kept.
        let _ = file.take(count as u64).read_to_end(&mut bytes);
    }
    bytes
}

/// Makes the mounted root the root of this process and of the kernel's helpers, which share it, and
/// frees the memory of the ramdisk.
pub(super) fn switch_root() -> Result<(), GuestError> {
    for folder in ["proc", "sys", "dev", "run"] {
        let old = Path::new("/").join(folder);
        let new = Path::new(NEW_ROOT).join(folder);
        fs::create_dir_all(&new).map_err(unfit(format_args!("make {}", new.display())))?;
        mount_call(
            Some(&old),
            &new,
            None::<&str>,
            MsFlags::MS_MOVE,
            None::<&str>,
        )
        .map_err(unfit(format_args!("move {} to the root", old.display())))?;
    }
    remove_contents(Path::new("/"));
    let step = || -> nix::Result<()> {
        chdir(NEW_ROOT)?;
        mount_call(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
        chroot(".")?;
        chdir("/")
    };
    step().map_err(unfit("switch to the root"))
}

/// Removes everything in a folder that is on the same file system.
fn remove_contents(folder: &Path) {
    let Ok(device) = fs::symlink_metadata(folder).map(|metadata| metadata.dev()) else {
        return;
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // What cannot be removed only costs memory.
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.dev() != device => {}
            Ok(metadata) if metadata.is_dir() => {
                remove_contents(&path);
                let _ = fs::remove_dir(&path);
            }
            Ok(_) => {
                let _ = fs::remove_file(&path);
            }
            Err(_) => {}
        }
    }
}

/// Mounts the other file systems of the box's fstab. One that fails is reported on the console and
/// skipped.
pub(super) fn mount_fstab() {
    let table = fs::read_to_string("/etc/fstab").unwrap_or_default();
    let mut loader = Loader::at("/");
    for part in fstab::mounts(&table) {
        let result = Root::parse(Some(&part.source)).and_then(|root| {
            let device = find(&root).ok_or_else(|| String::from("there is no such disk"))?;
            let Content::FileSystem { kind, .. } = probe(&device) else {
                return Err(String::from("it has no file system"));
            };
            // Exists in most boxes; else the mount fails.
            let _ = fs::create_dir_all(&part.target);
            mount_device(
                &mut loader,
                &device,
                Path::new(&part.target),
                kind,
                &part.data,
            )
            .map_err(|error| error.to_string())
        });
        if let Err(error) = result {
            eprintln!(
                "boxbuild: cannot mount {} at {}: {error}",
                part.source, part.target
            );
        }
    }
}
