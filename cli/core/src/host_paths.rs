//! Files and folders of the host that a build sees besides its description.
//!
//! They appear in the box under the path that they have on the host: the folder of
//! `--shared-path`, and read-only what the build arguments name (keys, certificates,
//! credentials, repositories). Small files travel with a machine's initial ramdisk, so that
//! nothing else of their folder is seen; folders are shared over virtio-fs. Into a container,
//! both are mounted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::boot::{Boot, RunsAs};
use crate::cache_folder::CacheFolder;
use crate::places::normal;
use boxbuild_engine::podman::{self, Mount};
use boxbuild_engine::{MountTag, Share};
use boxbuild_host::input;
use boxbuild_host::mounts::is_same;
use boxbuild_protocol::paths;
use boxbuild_protocol::share::{Access, CUSTOM_TAG, host_tag};

/// The tag of the folder of `--shared-path`.
const CUSTOM: MountTag = MountTag::constant(CUSTOM_TAG);

/// Largest total of the files that travel in the initial ramdisk, in bytes. Keys and
/// certificates have kilobytes; what is larger would cost guest memory.
const MOST_BYTES: u64 = 16 << 20;

/// Folders that make up a running system or the contract of a build: to lay something over
/// them would break the box.
const TAKEN: &[&str] = &[
    "/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run",
    "/sbin", "/sys", "/usr", "/var", "/var/lib", "/var/run",
];

/// Folders that a running system writes into: laid over, they must be writable.
const WRITTEN: &[&str] = &["/root", "/tmp", "/var/tmp"];

/// Trees of which nothing can be laid over.
const TAKEN_TREES: &[&str] = &[
    paths::BUNDLE,
    paths::DESCRIPTION,
    "/dev",
    "/proc",
    paths::TARGET,
    paths::RUN,
    "/sys",
];

/// A path of the host in a build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The option that names it.
    pub option: &'static str,
    /// The path, absolute.
    pub path: PathBuf,
}

/// A file of the host that the box has a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Its path, absolute.
    pub path: PathBuf,
    /// Its path in the box.
    pub place: PathBuf,
}

/// The files and folders of the host that the box sees.
#[derive(Debug, Clone, Default)]
pub struct HostPaths {
    /// Folders; their place in the box is their path.
    pub folders: Vec<Share>,
    /// Files.
    pub files: Vec<HostFile>,
    /// Folders that are made in the box, with nothing of the host's in them.
    pub made: Vec<PathBuf>,
    /// The package cache among the folders.
    pub cache: Option<CacheFolder>,
}

impl HostPaths {
    /// Decides how each path reaches a box that runs as `runs_as`.
    ///
    /// # Errors
    /// Fails, with a message for the user, if one does not exist or cannot be shared.
    pub fn new(
        shared: Option<&Path>,
        named: &[Named],
        runs_as: RunsAs,
    ) -> Result<HostPaths, String> {
        let mut paths = HostPaths::default();
        if let Some(shared) = shared {
            let path = std::path::absolute(shared)
                .map_err(|error| format!("--shared-path {}: {error}", shared.display()))?;
            // What lies below it is recognised by its path.
            let plain = normal(&path);
            let path = if is_same(&plain, &path) { plain } else { path };
            paths.add("--shared-path", &path, Access::ReadWrite)?;
        }
        // A file in a shared folder is there already: folders first.
        let (folders, files): (Vec<&Named>, Vec<&Named>) =
            named.iter().partition(|named| named.path.is_dir());
        for Named { option, path } in folders.into_iter().chain(files) {
            paths.add(option, path, Access::ReadOnly)?;
        }
        match runs_as {
            RunsAs::Container(_) => paths.fits_container()?,
            RunsAs::Machine(Boot::Compat) => paths.fits_compat(named)?,
            RunsAs::Machine(Boot::Fast) => {}
        }
        Ok(paths)
    }

    /// Whether the box sees `path` in a shared folder.
    pub(crate) fn shows(&self, path: &Path) -> bool {
        self.folders
            .iter()
            .any(|share| path.starts_with(&share.root))
    }

    /// Whether nothing can be laid over the folder `path` of the box.
    pub(crate) fn is_of_the_system(&self, path: &Path) -> bool {
        let path = normal(path);
        is_one_of(TAKEN, &path) || is_taken_tree(&path)
    }

    fn add(&mut self, option: &str, path: &Path, access: Access) -> Result<(), String> {
        let problem = |problem: &str| Err(format!("{option} {}: {problem}", path.display()));
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return problem(
                    "does not exist on this host (in the box, files of the description are below \
                     /description)",
                );
            }
            Err(error) => return problem(&error.to_string()),
        };
        if self.is_of_the_system(path)
            || (access == Access::ReadOnly && is_one_of(WRITTEN, &normal(path)))
        {
            return problem("a folder of the system cannot be shared: choose one below it");
        }
        if self.shows(path) {
            return Ok(());
        }
        if metadata.is_dir() {
            self.folders.push(match access {
                Access::ReadWrite => Share::new(CUSTOM, path),
                Access::ReadOnly => {
                    let tag = MountTag::new(host_tag(self.folders.len()))
                        .map_err(|error| format!("{option} {}: {error}", path.display()))?;
                    Share::new(tag, path).read_only()
                }
            });
        } else if access == Access::ReadWrite {
            return problem("is not a folder");
        } else if !metadata.is_file() {
            return problem("is neither a file nor a folder");
        } else if !self.files.iter().any(|known| known.path == path) {
            if let Err(error) = input::open(path) {
                return problem(&error.to_string());
            }
            self.files.push(HostFile {
                path: path.to_owned(),
                place: path.to_owned(),
            });
            let total: u64 = self
                .files
                .iter()
                .filter_map(|file| file.path.metadata().ok())
                .map(|metadata| metadata.len())
                .sum();
            if total > MOST_BYTES {
                return problem(
                    "files larger than 16 MiB are not copied into the box: share their folder \
                     with --shared-path",
                );
            }
        }
        Ok(())
    }

    /// Podman must be able to say all paths.
    ///
    /// # Errors
    /// Fails, with a message for the user, if it cannot say one.
    pub(crate) fn fits_container(&self) -> Result<(), String> {
        let folders = self.folders.iter().map(|share| share.root.as_path());
        folders
            .chain(self.files.iter().map(|file| &*file.place))
            .try_for_each(podman::check_place)
    }

    /// A published box mounts one folder besides its own.
    fn fits_compat(&mut self, named: &[Named]) -> Result<(), String> {
        let option_of = |path: &Path| {
            named
                .iter()
                .find(|named| named.path == path)
                .map_or("--shared-path", |named| named.option)
        };
        let left_over = self
            .files
            .first()
            .map(|file| &*file.path)
            .or_else(|| self.folders.get(1).map(|share| share.root.as_path()));
        if let Some(path) = left_over {
            return Err(format!(
                "{} {}: a box that is booted by its own init sees only one folder besides the \
                 description: share one that holds all such files with --shared-path",
                option_of(path),
                path.display()
            ));
        }
        let Some(share) = self.folders.first_mut() else {
            return Ok(());
        };
        share.tag = CUSTOM;
        // The guest side evaluates the path in a shell.
        let plain = share.root.to_str().is_some_and(|path| {
            path.chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c))
        });
        if plain {
            Ok(())
        } else {
            Err(format!(
                "{} {}: such a path cannot reach a box that is booted by its own init: use one \
                 with only letters, digits, '/', '.', '_', '-' and '+'",
                option_of(&share.root),
                share.root.display()
            ))
        }
    }

    /// All of them, as a container sees them.
    pub fn mounts(&self) -> Vec<Mount> {
        let folders = self.folders.iter().map(|share| Mount {
            path: share.root.clone(),
            place: share.root.clone(),
            read_only: share.read_only,
        });
        let files = self.files.iter().map(|file| Mount {
            path: file.path.clone(),
            place: file.place.clone(),
            read_only: true,
        });
        folders.chain(files).collect()
    }

    /// Where a published box mounts the folder.
    pub fn custom_mount(&self) -> Option<&Path> {
        self.folders
            .iter()
            .find(|share| share.tag == CUSTOM)
            .map(|share| share.root.as_path())
    }
}

fn is_one_of(folders: &[&str], path: &Path) -> bool {
    folders.iter().any(|folder| path == Path::new(folder))
}

/// Whether nothing can be laid over the path, nor over anything around it.
pub(crate) fn is_taken_tree(path: &Path) -> bool {
    TAKEN_TREES.iter().any(|tree| path.starts_with(tree))
}

/// Reads a file of [`HostPaths::files`].
///
/// # Errors
/// Fails if it cannot be read, or has grown beyond all bounds since it was looked at.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    input::read(path, MOST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxbuild_engine::podman::Mode;

    const FAST: RunsAs = RunsAs::Machine(Boot::Fast);
    const COMPAT: RunsAs = RunsAs::Machine(Boot::Compat);

    fn named(path: &Path) -> Vec<Named> {
        vec![Named {
            option: "--signing-key",
            path: path.to_owned(),
        }]
    }

    #[test]
    fn files_travel_and_folders_are_shared() {
        let dir = tempfile::tempdir().unwrap();
        let (key, repo) = (dir.path().join("key"), dir.path().join("repo"));
        fs::write(&key, "secret").unwrap();
        fs::create_dir_all(repo.join("sub")).unwrap();
        let several = [
            named(&key),
            named(&key),
            named(&repo),
            named(&repo.join("sub")),
        ]
        .concat();
        let paths = HostPaths::new(None, &several, FAST).unwrap();
        assert_eq!(paths.files.len(), 1);
        assert_eq!((&paths.files[0].path, &paths.files[0].place), (&key, &key));
        assert_eq!(paths.folders.len(), 1);
        assert!(paths.folders[0].read_only);
        assert_eq!(read(&key).unwrap(), b"secret");
        // What lies below the shared folder is seen there.
        let paths = HostPaths::new(Some(dir.path()), &several, COMPAT).unwrap();
        assert!(paths.files.is_empty());
        assert_eq!(paths.custom_mount(), Some(dir.path()));
        assert!(!paths.folders[0].read_only);
    }

    /// Case A10: these are where people have their files.
    #[test]
    fn folders_of_users_and_data_are_shared() {
        for folder in ["/srv", "/opt", "/home", "/root", "/tmp", "/mnt"] {
            let folder = Path::new(folder);
            if folder.is_dir() {
                let paths = HostPaths::new(Some(folder), &[], FAST).unwrap();
                assert_eq!(paths.folders[0].root, folder);
            }
        }
        assert!(HostPaths::new(None, &named(Path::new("/srv")), FAST).is_ok());
    }

    /// The file was to be written into a folder that is read-only in the box.
    #[test]
    fn a_file_in_a_named_folder_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        fs::write(&key, "").unwrap();
        let several = [named(&key), named(dir.path())].concat();
        let paths = HostPaths::new(None, &several, FAST).unwrap();
        assert!(paths.files.is_empty() && paths.folders.len() == 1);
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        let refused = |shared: Option<&Path>, named: &[Named], runs_as, text: &str| {
            let error = HostPaths::new(shared, named, runs_as).unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        refused(None, &named(&key), FAST, "does not exist");
        fs::write(&key, "").unwrap();
        refused(None, &named(&key), COMPAT, "--signing-key");
        assert!(HostPaths::new(None, &named(&key), RunsAs::Container(Mode::Rootless)).is_ok());
        let unspeakable = dir.path().join("a:,");
        fs::write(&unspeakable, "").unwrap();
        refused(
            None,
            &named(&unspeakable),
            RunsAs::Container(Mode::Rootless),
            "podman",
        );
        refused(Some(&key), &[], FAST, "not a folder");
        for system in ["/", "/usr", "/proc/self", "/dev"] {
            refused(Some(Path::new(system)), &[], FAST, "of the system");
        }
        refused(Some(Path::new("/srv/../usr")), &[], FAST, "of the system");
        refused(None, &named(Path::new("/tmp")), FAST, "of the system");
        let odd = dir.path().join("a b");
        fs::create_dir(&odd).unwrap();
        refused(Some(&odd), &[], COMPAT, "cannot reach");
        assert!(HostPaths::new(Some(&odd), &[], FAST).is_ok());
        fs::File::create(&key)
            .unwrap()
            .set_len(MOST_BYTES + 1)
            .unwrap();
        refused(None, &named(&key), FAST, "16 MiB");
        assert!(read(&key).is_err());
    }
}
