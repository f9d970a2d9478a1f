//! The box store: installed boxes below one directory.
//!
//! Layout: `ROOT/NAME/` holds `box.json` ([`BoxInfo`]) and the files it names. A box appears
//! and changes as a whole (staged beside its place, verified, renamed).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::arch::Arch;

/// Name of the file that describes a box.
const DESCRIPTION: &str = "box.json";

/// Beginning of the names of folders in the making.
const STAGING_PREFIX: &str = ".staging-";

/// What `box.json` says about one box. All file names are relative to the box's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxInfo {
    /// Version of this description, [`BoxInfo::FORMAT`].
    pub format: u32,
    /// Name that users select the box by.
    pub name: String,
    /// Where it comes from, e.g. `debian:trixie`.
    pub origin: String,
    /// Architecture of the guest.
    pub arch: Arch,
    /// Creation time, seconds since the epoch.
    pub created: u64,
    /// Kernel image.
    pub kernel: BoxFile,
    /// Initial ramdisk.
    pub initrd: BoxFile,
    /// Root disk (qcow2).
    pub disk: BoxFile,
    /// Virtual size of the root disk in bytes.
    pub disk_size: u64,
    /// Kernel command line items, e.g. `root=/dev/vda1`.
    pub cmdline: Vec<String>,
    /// Guest console, e.g. `hvc0`.
    pub console: String,
    /// What the guest side can do.
    pub guest: Guest,
    /// Version of KIWI in the box, if known.
    pub kiwi: Option<String>,
    /// Default guest memory in MiB.
    pub memory_mib: u64,
    /// Default number of virtual CPUs.
    pub cpus: u32,
    /// The same root tree as a container image, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerImage>,
}

/// Where a box's container image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ContainerImage {
    /// A root tree as a tar archive (compressed or not), for `podman import`.
    Archive(BoxFile),
    /// An image in a registry. Its entry point follows the contract of the published boxes.
    Registry {
        /// Name with registry and tag.
        registry: String,
    },
}

/// The protocol that the box's guest side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guest {
    /// The published boxes' contract: arguments on the kernel command line, systemd boot.
    Compat,
    /// In addition to `Compat`: the initrd has busybox and modprobe with all virtio modules,
    /// so that boxbuild's own `/init` can bring the box up without the box's init system.
    Fast,
}

/// One file of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxFile {
    /// File name within the box's directory: no separators.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

impl BoxInfo {
    /// The `format` this program writes and reads.
    pub const FORMAT: u32 = 1;

    /// All files of the box.
    pub fn files(&self) -> Vec<&BoxFile> {
        let mut files = vec![&self.kernel, &self.initrd, &self.disk];
        if let Some(ContainerImage::Archive(file)) = &self.container {
            files.push(file);
        }
        files
    }
}

/// A box in the store, ready to be used.
#[derive(Debug, Clone)]
pub struct InstalledBox {
    /// Directory of the box.
    pub dir: PathBuf,
    /// Its description.
    pub info: BoxInfo,
}

impl InstalledBox {
    /// Path of one of the box's files.
    pub fn path(&self, file: &BoxFile) -> PathBuf {
        self.dir.join(&file.name)
    }
}

/// The directory that holds all boxes of a user.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// Something is wrong with the store or a box in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither variable says where boxes are.
    #[error("cannot tell where the boxes are: set HOME, or KIWI_BOXED_CACHE_DIR")]
    NoHome,
    /// Not a name for a box.
    #[error(
        "'{0}' is no name for a box: use lower-case letters, digits, '.', '_' and '-', beginning \
         with a letter or digit"
    )]
    BadName(String),
    /// No such box.
    #[error("there is no box '{name}' on this machine{}", known(.boxes, .nearest))]
    Unknown {
        /// As typed.
        name: String,
        /// The boxes there are.
        boxes: Vec<String>,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// A box that cannot be used.
    #[error(
        "the box '{name}' is damaged ({problem}): remove it with 'boxbuild box rm {name}' and make it again"
    )]
    Damaged {
        /// Name of the box.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The box exists already.
    #[error("there is a box '{0}' already: use --force to replace it, or another name")]
    Exists(String),
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

fn known(boxes: &[String], nearest: &Option<String>) -> String {
    match (nearest, boxes) {
        (Some(nearest), _) => format!("; did you mean '{nearest}'?"),
        (None, []) => {
            String::from("; make one with 'boxbuild box create NAME --from debian:trixie'")
        }
        (None, boxes) => format!("; there are: {}", boxes.join(", ")),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}

/// Length in bytes and SHA-256, in lower-case hex, of what is left to read.
pub fn sha256(file: &mut impl Read) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
    Ok((
        size,
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    ))
}

/// Refuses what cannot name a box.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let good = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if good {
        Ok(())
    } else {
        Err(StoreError::BadName(name.to_owned()))
    }
}

/// The name under which a box `name` for `arch` is stored: boxes for foreign architectures have
/// theirs in the name, so that one name stands for the box of each architecture.
pub fn name_for(name: &str, arch: Arch) -> String {
    if arch == Arch::host() {
        name.to_owned()
    } else {
        format!("{name}.{arch}")
    }
}

impl Store {
    /// The store at `root`, which need not exist yet.
    pub fn at(root: PathBuf) -> Store {
        Store { root }
    }

    /// The user's store: `$KIWI_BOXED_CACHE_DIR`, or `~/.kiwi_boxes`.
    pub fn of_user() -> Result<Store, StoreError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        set("KIWI_BOXED_CACHE_DIR")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".kiwi_boxes")))
            .map(Store::at)
            .ok_or(StoreError::NoHome)
    }

    /// Where the boxes are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of all boxes, sorted.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("read the box store", &self.root)(error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().join(DESCRIPTION).is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// A box by its name, or by its name without the architecture that is asked for.
    pub fn get_for(&self, name: &str, arch: Option<Arch>) -> Result<InstalledBox, StoreError> {
        if let Some(arch) = arch {
            let full = name_for(name, arch);
            if self.names()?.contains(&full) {
                return self.get(&full);
            }
        }
        self.get(name)
    }

    /// A box by its name, with its files in place and complete.
    pub fn get(&self, name: &str) -> Result<InstalledBox, StoreError> {
        let dir = self.root.join(name);
        let path = dir.join(DESCRIPTION);
        let text = match check_name(name).map(|()| fs::read_to_string(&path)) {
            Ok(Ok(text)) => text,
            Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("read", &path)(error));
            }
            _ => {
                let boxes = self.names()?;
                let nearest = boxes
                    .iter()
                    .map(|known| (strsim::damerau_levenshtein(known, name), known))
                    .min()
                    .filter(|(distance, _)| *distance <= 2)
                    .map(|(_, known)| known.clone());
                return Err(StoreError::Unknown {
                    name: name.to_owned(),
                    boxes,
                    nearest,
                });
            }
        };
        let damaged = |problem| StoreError::Damaged {
            name: name.to_owned(),
            problem,
        };
        let info: BoxInfo =
            serde_json::from_str(&text).map_err(|error| damaged(format!("box.json: {error}")))?;
        if info.format != BoxInfo::FORMAT {
            return Err(damaged(format!("box.json has format {}", info.format)));
        }
        let installed = InstalledBox { dir, info };
        for file in installed.info.files() {
            if file.name.contains('/') || file.name.starts_with('.') {
                return Err(damaged(format!("box.json names the file '{}'", file.name)));
            }
            match fs::metadata(installed.path(file)) {
                Ok(metadata) if metadata.len() == file.size => {}
                Ok(metadata) => {
                    return Err(damaged(format!(
                        "{} has {} bytes instead of {}",
                        file.name,
                        metadata.len(),
                        file.size
                    )));
                }
                Err(error) => return Err(damaged(format!("{}: {error}", file.name))),
            }
        }
        Ok(installed)
    }

    /// Removes a box. Builds that use it go on: they hold its files open.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        let dir = self.root.join(name);
        if !dir.join(DESCRIPTION).is_file() {
            // Says what there is.
            self.get(name)?;
        }
        // Out of sight at once, and as a whole.
        let staging = self.stage()?;
        let grave = staging.path().join("removed");
        fs::rename(&dir, &grave).map_err(io_error("remove", &dir))
    }

    /// A private folder in the store's file system, gone when it is dropped unless it is
    /// published. Leftovers of killed processes are removed.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.root)
            .map_err(io_error("create the box store", &self.root))?;
        self.sweep();
        let dir = tempfile::Builder::new()
            .prefix(STAGING_PREFIX)
            .tempdir_in(&self.root)
            .map_err(io_error("create a folder in", &self.root))?;
        let lock = File::open(dir.path()).map_err(io_error("open", dir.path()))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io_error("lock", dir.path())(errno.into()))?;
        Ok(Staging { dir, _lock: lock })
    }

    /// Removes staging folders that nobody holds any more.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            let ours = entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(STAGING_PREFIX.as_bytes());
            // A folder that was made this instant is not locked yet.
            let settled = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 10));
            if ours
                && settled
                && let Ok(handle) = File::open(&path)
                && let Ok(_lock) = Flock::lock(handle, FlockArg::LockExclusiveNonblock)
            {
                // What cannot be removed now is tried again next time.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// A box in the making.
#[derive(Debug)]
pub struct Staging {
    dir: tempfile::TempDir,
    _lock: Flock<File>,
}

impl Staging {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Size and hash of a finished file in the folder, which is flushed to the disk.
    pub fn describe(&self, name: &str) -> Result<BoxFile, StoreError> {
        let path = self.path().join(name);
        let mut file = File::open(&path).map_err(io_error("open", &path))?;
        file.sync_all().map_err(io_error("write", &path))?;
        let (size, sha256) = sha256(&mut file).map_err(io_error("read", &path))?;
        Ok(BoxFile {
            name: name.to_owned(),
            size,
            sha256,
        })
    }

    /// Makes the folder the box `info.name`, at once and as a whole.
    pub fn publish(
        self,
        store: &Store,
        info: BoxInfo,
        replace: bool,
    ) -> Result<InstalledBox, StoreError> {
        check_name(&info.name)?;
        let path = self.path().join(DESCRIPTION);
        let text = serde_json::to_string_pretty(&info)
            .map_err(|error| io_error("write", &path)(error.into()))?;
        File::create(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(io_error("write", &path))?;
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755))
            .map_err(io_error("change the mode of", self.path()))?;
        let place = store.root.join(&info.name);
        let rename = |flags| nix::fcntl::renameat2(AT_FDCWD, self.path(), AT_FDCWD, &place, flags);
        match rename(RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EEXIST) if replace => {
                // The old box is now in the staging folder's place and goes with it.
                rename(RenameFlags::RENAME_EXCHANGE)
                    .map_err(|errno| io_error("replace", &place)(errno.into()))?;
            }
            Err(Errno::EEXIST) => return Err(StoreError::Exists(info.name)),
            Err(errno) => return Err(io_error("create", &place)(errno.into())),
        }
        if let Ok(root) = File::open(&store.root) {
            root.sync_all().map_err(io_error("write", &store.root))?;
        }
        store.get(&info.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, staging: &Staging) -> BoxInfo {
        for file in ["kernel", "initrd", "disk"] {
            fs::write(staging.path().join(file), file).unwrap();
        }
        BoxInfo {
            format: BoxInfo::FORMAT,
            name: name.to_owned(),
            origin: "debian:trixie".to_owned(),
            arch: Arch::X86_64,
            created: 0,
            kernel: staging.describe("kernel").unwrap(),
            initrd: staging.describe("initrd").unwrap(),
            disk: staging.describe("disk").unwrap(),
            disk_size: 1 << 30,
            cmdline: vec!["root=/dev/vda1".to_owned()],
            console: "hvc0".to_owned(),
            guest: Guest::Fast,
            kiwi: None,
            memory_mib: 4096,
            cpus: 4,
            container: None,
        }
    }

    fn publish(store: &Store, name: &str, replace: bool) -> Result<InstalledBox, StoreError> {
        let staging = store.stage().unwrap();
        let info = info(name, &staging);
        staging.publish(store, info, replace)
    }

    fn entries(store: &Store) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(store.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_box_appears_is_replaced_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("boxes"));
        assert_eq!(store.names().unwrap(), [] as [&str; 0]);
        publish(&store, "one", false).unwrap();
        assert!(matches!(
            publish(&store, "one", false),
            Err(StoreError::Exists(_))
        ));
        publish(&store, "one", true).unwrap();
        publish(&store, "two", false).unwrap();
        assert_eq!(entries(&store), ["one", "two"]);
        let error = store.get("tvo").unwrap_err().to_string();
        assert!(error.contains("did you mean 'two'?"), "{error}");
        let error = store.get("../one").unwrap_err().to_string();
        assert!(error.contains("there are: one, two"), "{error}");
        store.remove("one").unwrap();
        assert!(store.remove("one").is_err());
        assert_eq!(entries(&store), ["two"]);
    }

    #[test]
    fn a_damaged_box_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().to_owned());
        let installed = publish(&store, "one", false).unwrap();
        fs::write(installed.dir.join("disk"), "shorter or longer").unwrap();
        assert!(matches!(store.get("one"), Err(StoreError::Damaged { .. })));
        fs::write(installed.dir.join("box.json"), "{").unwrap();
        assert!(matches!(store.get("one"), Err(StoreError::Damaged { .. })));
        store.remove("one").unwrap();
    }

    #[test]
    fn leftovers_are_swept_and_running_work_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().to_owned());
        let running = store.stage().unwrap();
        let leftover = dir.path().join(format!("{STAGING_PREFIX}old"));
        fs::create_dir(&leftover).unwrap();
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        for path in [&leftover, running.path()] {
            File::open(path).unwrap().set_modified(old).unwrap();
        }
        drop(store.stage().unwrap());
        assert!(!leftover.exists());
        assert!(running.path().exists());
    }

    #[test]
    fn names() {
        for bad in ["", ".x", "../x", "a b", "A", "-x", "a/b", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name("debian-13.1_x").is_ok());
    }
}
