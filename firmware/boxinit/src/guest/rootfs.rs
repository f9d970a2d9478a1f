//! The root file system: found, mounted, and made the root.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use boxinit::cmdline::value;
use boxinit::root::Root;
use boxinit::superblock::{self, Content};
use boxinit::wishes::{Keep, Wishes};
use boxinit::{fstab, partition};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount as mount_call};
use nix::unistd::{chdir, chroot};

use super::load::Loader;
use super::{Stop, drivers, grow, unfit};

/// How long a disk may take to appear. Its driver is loaded by then and looks for it at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(2);

/// Where the root is mounted before it is the root.
const NEW_ROOT: &str = "/newroot";

/// Mounts what `root=`, `rootfstype=` and `rootflags=` say.
pub(super) fn mount(loader: &mut Loader, words: &[String], wishes: Wishes) -> Result<(), Stop> {
    let root = Root::parse(value(words, "root")).map_err(Stop::Unfit)?;
    let device = wait_for(&root)?;
    let content = superblock::probe(&start(&device, superblock::WANTED));
    let kind = match (value(words, "rootfstype"), &content) {
        (_, Content::Container(what)) => {
            return Err(Stop::Unfit(format!(
                "the root {} is {what}",
                device.display()
            )));
        }
        (Some(kind), _) if !kind.is_empty() && kind != "auto" => kind,
        (_, Content::FileSystem { kind, .. }) => kind,
        (_, Content::Unknown) => {
            return Err(Stop::Unfit(format!(
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
    // A box's own disk stays as its partition table says.
    if grown && wishes.keep != Keep::Always {
        grow::file_system(Path::new(NEW_ROOT), &device, kind);
    }
    if !Path::new(NEW_ROOT).join("usr").is_dir() && !Path::new(NEW_ROOT).join("bin").is_dir() {
        return Err(Stop::Unfit(format!(
            "there is no system on the root {}",
            device.display()
        )));
    }
    Ok(())
}

/// Mounts a file system, and loads what the kernel needs for it.
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
        // A kernel whose ext4 driver does not do the older ones has one for ext2.
        Err(Errno::ENODEV | Errno::EINVAL) if kind == "ext4" => {
            loader.load("ext2");
            attempt("ext2")
        }
        result => result,
    }
}

/// The device, when it is there.
fn wait_for(root: &Root) -> Result<PathBuf, Stop> {
    let start = Instant::now();
    loop {
        if let Some(device) = find(root) {
            return Ok(device);
        }
        if let Some(driver) = drivers::missing_for_disks() {
            return Err(Stop::Unfit(format!(
                "its initial ramdisk has no driver {driver} where boxbuild's init looks for one"
            )));
        }
        if start.elapsed() > PATIENCE {
            return Err(Stop::Unfit(format!(
                "the root {root:?} is on none of its disks ({})",
                disks().join(", ")
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Names of all block devices.
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

fn find(root: &Root) -> Option<PathBuf> {
    let dev = |name: &str| Path::new("/dev").join(name);
    if let Root::Device(name) = root {
        return Some(dev(name)).filter(|device| device.exists());
    }
    let named = |name: &String| match root {
        Root::Label(wanted) => {
            matches!(superblock::probe(&start(&dev(name), superblock::WANTED)),
                Content::FileSystem { label, .. } if label == *wanted)
        }
        Root::Uuid(wanted) => {
            matches!(superblock::probe(&start(&dev(name), superblock::WANTED)),
                Content::FileSystem { uuid, .. } if uuid == *wanted)
        }
        Root::PartUuid(wanted) => entry(name).is_some_and(|entry| entry.uuid == *wanted),
        Root::PartLabel(wanted) => entry(name).is_some_and(|entry| entry.label == *wanted),
        Root::Device(_) => false,
    };
    disks()
        .iter()
        .find(|name| named(name))
        .map(|name| dev(name))
}

/// What the partition table says of a partition.
fn entry(name: &str) -> Option<partition::Partition> {
    let device = Path::new("/sys/class/block").join(name);
    let number = fs::read_to_string(device.join("partition")).ok()?;
    // The link leads to …/DISK/PARTITION.
    let real = fs::canonicalize(&device).ok()?;
    let disk = real.parent()?.file_name()?;
    let table = start(&Path::new("/dev").join(disk), partition::WANTED);
    partition::entry(&table, number.trim_end().parse().ok()?)
}

/// The first bytes of a device, as many as can be had.
fn start(device: &Path, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(device) {
        // What was read until an error is what there is.
        let _ = file.take(count as u64).read_to_end(&mut bytes);
    }
    bytes
}

/// Makes the mounted root the root, for this process and for the kernel's helpers, which share
/// its root; and frees the memory of the ramdisk.
pub(super) fn switch() -> Result<(), Stop> {
    for place in ["proc", "sys", "dev", "run"] {
        let old = Path::new("/").join(place);
        let new = Path::new(NEW_ROOT).join(place);
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
    empty(Path::new("/"));
    let step = || -> nix::Result<()> {
        chdir(NEW_ROOT)?;
        mount_call(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
        chroot(".")?;
        chdir("/")
    };
    step().map_err(unfit("switch to the root"))
}

/// Removes what is in a folder and on the same file system.
fn empty(folder: &Path) {
    let Ok(device) = fs::symlink_metadata(folder).map(|metadata| metadata.dev()) else {
        return;
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // What cannot be removed stays; it costs memory and nothing else.
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.dev() != device => {}
            Ok(metadata) if metadata.is_dir() => {
                empty(&path);
                let _ = fs::remove_dir(&path);
            }
            Ok(_) => {
                let _ = fs::remove_file(&path);
            }
            Err(_) => {}
        }
    }
}

/// Mounts the other parts of the system that the box's fstab names.
pub(super) fn mount_rest() {
    let table = fs::read_to_string("/etc/fstab").unwrap_or_default();
    let mut loader = Loader::at("/");
    for part in fstab::mounts(&table) {
        let result = Root::parse(Some(&part.source)).and_then(|root| {
            let device = find(&root).ok_or_else(|| String::from("there is no such disk"))?;
            let Content::FileSystem { kind, .. } =
                superblock::probe(&start(&device, superblock::WANTED))
            else {
                return Err(String::from("it has no file system"));
            };
            // A distribution's tree has the folder.
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
