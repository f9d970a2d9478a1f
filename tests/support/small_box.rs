//! Small boxes: the real kernel of the host's distribution and busybox, with a stand-in for
//! kiwi-ng that runs the description's own script. They boot in seconds, and the description can make
//! anything happen in the guest. Needs no root.
//!
//! | box | |
//! |---|---|
//! | `small` | boots any way |
//! | `hidden` | its ramdisk has the disk's driver where only its own /init finds it |
//! | `mapped` | its root is a volume of the device mapper, as with LVM (made if there is a dmsetup of its architecture) |
//!
//! `root.tar` is the root tree of all of them, to be imported.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::command::{command, find, output};
use crate::debian::{self, Apt, Kernel};
use crate::interrupt::Unwind;
use crate::publish::{describe, sha256};
use crate::tree::Tree;

/// Bytes of the disk, and where its only partition begins.
const DISK: u64 = 256 << 20;
const PARTITION: u64 = 1 << 20;

/// Kernel modules in the initial ramdisk, with what they depend on. One that the kernel has built in,
/// or does not know, is left out.
const MODULES: [&str; 12] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "virtiofs",
    "ext4",
    "virtio_rng",
    "virtio_balloon",
    "virtio_scsi",
    "crc32c_generic",
    "crc32c_intel",
    "dm_mod",
];

const INIT: &[u8] = include_bytes!("../setup/small-box-files/init");
const BOX_INIT: &[u8] = include_bytes!("../setup/small-box-files/box-init");
const KIWI: &[u8] = include_bytes!("../setup/small-box-files/kiwi-ng");
const THIS: &[u8] = include_bytes!("small_box.rs");

/// Which boxes a store gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boxes {
    /// All.
    All,
    /// Only the first one, as `small.ARCH` (the kernel's name): a store has it beside the host's own.
    OneMore,
}

/// Makes small boxes of an architecture (the kernel's name) in a box store, where they are not there
/// yet. Their kernel is the one of `suite`, if that is given.
///
/// # Errors
/// If packages cannot be downloaded or a program is missing.
pub fn make(store: &Path, machine: &str, suite: Option<&str>, which: Boxes) -> Result<()> {
    let arch = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => bail!("no small box for {machine}"),
    };
    let foreign = machine != std::env::consts::ARCH;
    let mark = store.join(format!(".recipe-{arch}"));
    let recipe = sha256(&[THIS, INIT, BOX_INIT, KIWI].concat());
    if fs::read_to_string(&mark).is_ok_and(|made| made == recipe) {
        return Ok(());
    }
    fs::create_dir_all(store).with_context(|| format!("cannot make {}", store.display()))?;
    let _unwind = Unwind::begin()?;
    let work = tempfile::Builder::new()
        .prefix(".making.")
        .tempdir_in(store)?;
    let parts = Parts::fetch(work.path(), arch, foreign, suite)?;
    let maker = Maker {
        store,
        work: work.path(),
        machine,
        kernel: &parts.kernel,
        foreign,
        of_suite: suite.is_some(),
    };
    maker.disk(&parts.busybox, &parts.applets)?;
    if which == Boxes::OneMore {
        let name = format!("small.{machine}");
        maker.publish(
            &name,
            "fast",
            "/dev/vda1",
            &maker.initrd(&parts, Driver::Known)?,
        )?;
    } else {
        maker.boxes(&parts)?;
        fs::rename(work.path().join("root.tar"), store.join("root.tar"))?;
    }
    fs::write(mark, recipe)?;
    Ok(())
}

/// What the boxes are made of.
struct Parts {
    kernel: Kernel,
    busybox: PathBuf,
    applets: Vec<String>,
}

impl Parts {
    fn fetch(work: &Path, arch: &str, foreign: bool, suite: Option<&str>) -> Result<Parts> {
        let apt = if foreign {
            // The host's apt knows only the host's packages.
            let apt = Apt::separate(&work.join("apt"), arch)?
                .option("Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false");
            apt.update()?;
            apt
        } else {
            Apt::of_host()
        };
        let tree = work.join("kernel");
        let of_suite = match suite {
            Some(suite) => Some(of_suite(&work.join("apt-of-suite"), arch, suite)?),
            None => None,
        };
        let kernel_apt = of_suite.as_ref().unwrap_or(&apt);
        let meta = format!("linux-image-cloud-{arch}");
        for package in kernel_apt.download(&kernel_apt.kernel_packages(&meta)?, work)? {
            debian::unpack(&package, &tree)?;
        }

        let own = find("busybox")?;
        let applets = output(command(&own).arg("--list"))?;
        let busybox = if foreign {
            let packages = apt.download(&[String::from("busybox-static")], work)?;
            let tree = work.join("busybox");
            debian::unpack(&packages[0], &tree)?;
            let places = ["usr/bin/busybox", "bin/busybox"].map(|name| tree.join(name));
            let found = places.into_iter().find(|path| path.is_file());
            found.context("the package busybox-static has no busybox")?
        } else {
            own
        };
        Ok(Parts {
            kernel: Kernel::find(&tree)?,
            busybox,
            applets: applets.lines().map(str::to_owned).collect(),
        })
    }
}

/// An apt that knows the packages of one suite of Debian only.
fn of_suite(folder: &Path, arch: &str, suite: &str) -> Result<Apt> {
    fs::create_dir_all(folder.join("parts"))?;
    let list = folder.join("sources.list");
    let source = format!(
        "deb [signed-by={}] {} {suite} main\n",
        debian::KEYRING,
        debian::mirror()?
    );
    fs::write(&list, source)?;
    let apt = Apt::separate(folder, arch)?
        .option(&format!("Dir::Etc::SourceList={}", list.display()))
        .option(&format!(
            "Dir::Etc::SourceParts={}",
            folder.join("parts").display()
        ));
    apt.update()?;
    Ok(apt)
}

/// Where the ramdisk has the disk's driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    Known,
    /// Where only the ramdisk's own /init looks for it.
    Hidden,
}

struct Maker<'a> {
    store: &'a Path,
    work: &'a Path,
    machine: &'a str,
    kernel: &'a Kernel,
    /// Their architecture is not the host's.
    foreign: bool,
    /// The kernel is another one than the host's distribution has.
    of_suite: bool,
}

impl Maker<'_> {
    /// Makes all boxes.
    fn boxes(&self, parts: &Parts) -> Result<()> {
        let mut initrd = self.initrd(parts, Driver::Known)?;
        self.publish("small", "fast", "/dev/vda1", &initrd)?;
        if let (false, Ok(dmsetup)) = (self.foreign, find("dmsetup")) {
            initrd.put(&dmsetup, "/bin/dmsetup")?;
            self.publish("mapped", "compat", "/dev/mapper/system-root", &initrd)?;
        }
        if self.of_suite {
            // Its modules may be compressed, which the /init of that box cannot undo.
            return Ok(());
        }
        let initrd = self.initrd(parts, Driver::Hidden)?;
        self.publish("hidden", "compat", "/dev/vda1", &initrd)
    }

    /// The initial ramdisk.
    fn initrd(&self, parts: &Parts, driver: Driver) -> Result<Tree> {
        let mut tree = Tree::default();
        tree.busybox(&parts.busybox, &parts.applets);
        tree.link("/sbin", "bin");
        tree.link("/usr/bin", "../bin");
        tree.link("/usr/sbin", "../bin");
        tree.file("/init", 0o755, INIT);
        let folder = self.work.join(match driver {
            Driver::Known => "modules",
            Driver::Hidden => "modules-hidden",
        });
        let hidden = self.modules(&folder, driver)?;
        tree.put(&folder.join("lib/modules"), "/lib/modules")?;
        if let Some(driver) = hidden {
            tree.file("/hidden/virtio_blk.ko", 0o644, driver);
        }
        Ok(tree)
    }

    /// Makes `folder/lib/modules`. Returns a driver that is not in it.
    fn modules(&self, folder: &Path, driver: Driver) -> Result<Option<Vec<u8>>> {
        let Kernel {
            release, modules, ..
        } = self.kernel;
        // An index of everything tells what the wanted modules need.
        let all = self.work.join("tree");
        if !all.exists() {
            fs::create_dir_all(all.join("lib/modules"))?;
            let all = all.join("lib/modules");
            output(command("cp").arg("-a").arg(modules).arg(all))?;
            debian::index_modules(&self.work.join("tree"), release)?;
        }
        let below = format!("lib/modules/{release}");
        fs::create_dir_all(folder.join(&below))?;
        for name in [
            "modules.builtin",
            "modules.builtin.modinfo",
            "modules.order",
        ] {
            fs::copy(modules.join(name), folder.join(&below).join(name))?;
        }
        let mut hidden = None;
        for module in MODULES {
            for file in debian::module_files(&all, release, module).unwrap_or_default() {
                if driver == Driver::Hidden && file.ends_with("virtio_blk.ko") {
                    hidden = Some(fs::read(&file)?);
                    continue;
                }
                let to = folder.join(file.strip_prefix(&all)?);
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::copy(&file, to)?;
            }
        }
        ensure!(
            driver == Driver::Known || hidden.is_some(),
            "the kernel {release} has no module virtio_blk.ko to hide"
        );
        debian::index_modules(folder, release)?;
        Ok(hidden)
    }

    /// Makes `root.tar` and `disk.qcow2`.
    fn disk(&self, busybox: &Path, applets: &[String]) -> Result<()> {
        let mut tree = Tree::default();
        tree.busybox(busybox, applets);
        tree.link("/sbin", "bin");
        tree.link("/usr/bin", "../bin");
        tree.directories(&[
            "/dev", "/proc", "/sys", "/run", "/tmp", "/etc", "/root", "/var",
        ]);
        tree.directories(&["/description", "/bundle"]);
        tree.file("/usr/local/bin/kiwi-ng", 0o755, KIWI);
        tree.file("/usr/local/bin/box-init", 0o755, BOX_INIT);
        let root = self.work.join("root");
        tree.make(&root)?;
        let mut tar = command("tar");
        tar.args(["--owner=0", "--group=0", "--sort=name", "-C"])
            .arg(&root);
        output(tar.arg("-cf").arg(self.work.join("root.tar")).arg("."))?;

        let raw = self.work.join("disk.raw");
        let mut disk = fs::File::create(&raw)?;
        disk.set_len(DISK)?;
        disk.write_all(&partition_table())?;
        drop(disk);
        let mut mke2fs = command("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root);
        mke2fs.args(["-m", "0", "-O", "^has_journal", "-E"]);
        mke2fs.arg(format!("offset={PARTITION},root_owner=0:0"));
        output(
            mke2fs
                .arg(&raw)
                .arg(format!("{}k", (DISK - PARTITION) / 1024)),
        )?;
        let mut convert = command("qemu-img");
        convert.args(["convert", "-O", "qcow2"]).arg(&raw);
        output(convert.arg(self.work.join("disk.qcow2"))).map(|_| ())
    }

    /// Gives the store a box with this ramdisk.
    fn publish(&self, name: &str, guest: &str, root: &str, initrd: &Tree) -> Result<()> {
        let made = self.work.join(format!("{name}.box"));
        fs::create_dir(&made)?;
        fs::copy(&self.kernel.image, made.join("kernel"))?;
        let file = fs::File::create(made.join("initrd"))?;
        let mut packed = GzEncoder::new(std::io::BufWriter::new(file), Compression::fast());
        initrd.write(&mut packed)?;
        packed.finish()?.flush()?;
        fs::copy(self.work.join("disk.qcow2"), made.join("disk.qcow2"))?;
        let description = serde_json::json!({
            "format": 1,
            "name": name,
            "origin": "test",
            "arch": self.machine,
            "created": 0,
            "kernel": describe(&made, "kernel")?,
            "initrd": describe(&made, "initrd")?,
            "disk": describe(&made, "disk.qcow2")?,
            "disk_size": DISK,
            "cmdline": [format!("root={root}")],
            "console": "hvc0",
            "guest": guest,
            "kiwi": null,
            "memory_mib": 256,
            "cpus": 1,
        });
        fs::write(made.join("box.json"), format!("{description:#}\n"))?;
        let place = self.store.join(name);
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::rename(made, place).with_context(|| format!("cannot publish the box {name}"))
    }
}

/// A DOS partition table with one partition of type Linux (0x83) up to the disk's end.
fn partition_table() -> [u8; 512] {
    const SECTOR: u64 = 512;
    /// Where the first entry and its fields are, and the signature.
    const ENTRY: usize = 446;
    const SIGNATURE: usize = 510;
    let mut table = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| table[at..at + bytes.len()].copy_from_slice(bytes);
    put(ENTRY + 4, &[0x83]);
    let sectors = |bytes: u64| {
        u32::try_from(bytes / SECTOR)
            .unwrap_or(u32::MAX)
            .to_le_bytes()
    };
    put(ENTRY + 8, &sectors(PARTITION));
    put(ENTRY + 12, &sectors(DISK - PARTITION));
    put(SIGNATURE, &[0x55, 0xaa]);
    table
}
