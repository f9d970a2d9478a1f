//! Global options of kiwi-ng that name a file or folder: `--config`, `--temp-dir`, `--shared-cache-dir`.
//!
//! The configuration is copied into the box. Folders for temporary files are the box's own, and are made
//! there. A package cache that is there on the host is shared, as that is what it is for.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use boxbuild_engine::{MountTag, Share};
use boxbuild_host::input;
use boxbuild_protocol::share::host_tag;
use nix::unistd::{AccessFlags, access};

use crate::cache_folder::CacheFolder;
use crate::host_paths::{HostFile, HostPaths, is_taken_tree};
use crate::places::{in_box, in_description, normal};
use crate::request::KiwiOptions;

/// Where the box has a configuration whose own path is one of the box's files.
const CONFIG: &str = "/var/lib/boxbuild/kiwi.yml";

/// Largest configuration, in bytes: kiwi's own has some KiB.
const LARGEST_CONFIG: u64 = 1 << 20;

/// Folders that every box has.
const IN_EVERY_BOX: &[&str] = &[
    "/dev/shm", "/home", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var",
];

/// The option for the package cache.
const CACHE_OPTION: &str = "--shared-cache-dir";

/// What can be done in a box before kiwi runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Files are copied and folders made.
    All,
    /// Files are copied: the image of the container is a published one.
    Files,
    /// Nothing: the box's own init knows one shared folder.
    Nothing,
}

/// The words for the kiwi-ng in the box, and what the user should know.
#[derive(Debug, Default)]
pub(crate) struct KiwiPaths {
    pub(crate) words: Vec<OsString>,
    pub(crate) notes: Vec<String>,
}

/// Decides on the options in `options`; what the box needs for them is added to `host`.
///
/// # Errors
/// Fails, with a message for the user, if one leads to what cannot be used.
pub(crate) fn decide(
    options: &KiwiOptions,
    description: &Path,
    reach: Reach,
    host: &mut HostPaths,
) -> Result<KiwiPaths, String> {
    let mut paths = KiwiPaths::default();
    if let Some(path) = &options.config {
        paths.config(path, description, reach, host)?;
    }
    if let Some(path) = &options.temp_dir {
        paths.folder("--temp-dir", path, reach, host)?;
    }
    if let Some(path) = &options.shared_cache_dir {
        paths.cache(path, reach, host)?;
    }
    Ok(paths)
}

impl KiwiPaths {
    fn forward(&mut self, option: &str, value: &Path) {
        self.words
            .extend([option.into(), value.as_os_str().to_owned()]);
    }

    fn config(
        &mut self,
        typed: &Path,
        description: &Path,
        reach: Reach,
        host: &mut HostPaths,
    ) -> Result<(), String> {
        const OPTION: &str = "--config";
        let problem = |problem: &str| Err(format!("{OPTION} {}: {problem}", typed.display()));
        let path = absolute(OPTION, typed)?;
        match input::read(&path, LARGEST_CONFIG) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let there = match path.strip_prefix(boxbuild_protocol::paths::DESCRIPTION) {
                    Ok(rest) => description.join(rest).is_file(),
                    Err(_) => in_box(&path),
                };
                if !there {
                    return problem("does not exist, neither on this host nor in the description");
                }
                self.forward(OPTION, &path);
                return Ok(());
            }
            Err(error) => return problem(&error.to_string()),
        }
        if let Some(place) = in_description(&path, description) {
            self.forward(OPTION, &place);
        } else if host.shows(&path) {
            self.forward(OPTION, &path);
        } else if reach == Reach::Nothing {
            self.notes.push(format!(
                "{OPTION} {}: a box that is booted by its own init does not see this file, and kiwi has \
                 its own configuration: put it into the description",
                typed.display()
            ));
        } else {
            let place = if in_box(&path) || is_taken_tree(&path) {
                PathBuf::from(CONFIG)
            } else {
                path.clone()
            };
            self.forward(OPTION, &place);
            host.files.push(HostFile { path, place });
        }
        Ok(())
    }

    /// A folder of the box's own.
    fn folder(
        &mut self,
        option: &str,
        typed: &Path,
        reach: Reach,
        host: &mut HostPaths,
    ) -> Result<(), String> {
        let problem = |problem: &str| Err(format!("{option} {}: {problem}", typed.display()));
        let path = absolute(option, typed)?;
        if path == Path::new("/") || (is_taken_tree(&path) && !path.starts_with("/dev/shm")) {
            return problem("the box cannot have it there: choose a folder like /var/tmp/kiwi");
        }
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_dir()) && !in_box(&path) {
            return problem("is not a folder");
        }
        let shared = host
            .folders
            .iter()
            .find(|share| path.starts_with(&share.root));
        if let Some(share) = shared {
            if share.read_only {
                return problem("is in a folder that the box only reads: choose another one");
            }
            if !path.is_dir() {
                if reach != Reach::All {
                    return problem("does not exist: make it first");
                }
                host.made.push(path.clone());
            }
            self.forward(option, &path);
            return Ok(());
        }
        let is_there = IN_EVERY_BOX.iter().any(|known| path == Path::new(known));
        // kiwi makes the one for its cache.
        let is_there = is_there || path == Path::new("/var/tmp") || option == CACHE_OPTION;
        if reach != Reach::All && !is_there {
            self.notes.push(format!(
                "{option} {}: has no effect in this box, in which no folder can be made before the \
                 build: kiwi uses its own",
                typed.display()
            ));
            return Ok(());
        }
        if reach == Reach::All {
            host.made.push(path.clone());
        }
        self.forward(option, &path);
        Ok(())
    }

    fn cache(&mut self, typed: &Path, reach: Reach, host: &mut HostPaths) -> Result<(), String> {
        const OPTION: &str = CACHE_OPTION;
        let path = absolute(OPTION, typed)?;
        let mut note = |text: &str| {
            self.notes
                .push(format!("{OPTION} {}: {text}", typed.display()));
        };
        let system = host.is_of_the_system(&path);
        let usable = path.is_dir() && !system && !host.shows(&path);
        if usable && reach == Reach::Nothing {
            note("a box that is booted by its own init does not share it, and has its own cache");
        } else if usable && access(&path, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
            note("no permission to write there: the box has its own cache");
        } else if usable {
            match CacheFolder::take(&path) {
                Ok(Some(cache)) => {
                    let tag = MountTag::new(host_tag(host.folders.len()));
                    let tag = tag.map_err(|error| error.to_string())?;
                    host.folders.push(Share::new(tag, &path));
                    host.cache = Some(cache);
                    self.forward(OPTION, &path);
                    return Ok(());
                }
                Ok(None) => note("another build uses it: this box has its own cache"),
                Err(error) => note(&format!("{error}: the box has its own cache")),
            }
        } else if !path.exists() && !system {
            note("is not there: the box has its own cache; make the folder to keep packages in it");
        }
        self.folder(OPTION, typed, reach, host)
    }
}

fn absolute(option: &str, path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path)
        .map(|path| normal(&path))
        .map_err(|error| format!("{option} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        dir: tempfile::TempDir,
        paths: HostPaths,
    }

    impl Host {
        fn new() -> Host {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["image", "cache", "shared"] {
                fs::create_dir(dir.path().join(folder)).unwrap();
            }
            fs::write(dir.path().join("kiwi.yml"), "xz:\n").unwrap();
            fs::write(dir.path().join("image/kiwi.yml"), "xz:\n").unwrap();
            Host {
                dir,
                paths: HostPaths::default(),
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// What is decided on one option, and its words.
        fn decide(&mut self, reach: Reach, option: &str, path: &Path) -> Result<KiwiPaths, String> {
            let path = Some(path.to_owned());
            let mut options = KiwiOptions::default();
            match option {
                "--config" => options.config = path,
                "--temp-dir" => options.temp_dir = path,
                _ => options.shared_cache_dir = path,
            }
            let description = self.path("image");
            decide(&options, &description, reach, &mut self.paths)
        }

        fn value(&mut self, option: &str, path: &Path) -> PathBuf {
            let decided = self.decide(Reach::All, option, path).unwrap();
            assert_eq!(decided.words[0], option);
            PathBuf::from(&decided.words[1])
        }
    }

    /// Case A4.
    #[test]
    fn a_configuration_of_the_host_is_copied() {
        let mut host = Host::new();
        let file = host.path("kiwi.yml");
        assert_eq!(host.value("--config", &file), file);
        assert_eq!(host.paths.files.pop().unwrap().path, file);
        // What is in the description is there.
        let inside = host.path("image/kiwi.yml");
        let place = Path::new("/description/kiwi.yml");
        assert_eq!(host.value("--config", &inside), place);
        assert_eq!(host.value("--config", place), place);
        assert!(host.paths.files.is_empty());
        // A file of the host never takes the place of one of the box's.
        assert_eq!(
            host.value("--config", Path::new("/etc/passwd")),
            Path::new(CONFIG)
        );
        assert_eq!(
            host.value("--config", Path::new("/etc/none.yml")),
            Path::new("/etc/none.yml")
        );
        let missing = host.path("missing.yml");
        let error = host.decide(Reach::All, "--config", &missing).unwrap_err();
        assert!(error.contains("does not exist"), "{error}");
        let error = host
            .decide(Reach::All, "--config", Path::new("/dev/zero"))
            .unwrap_err();
        assert!(error.contains("not a regular file"), "{error}");
        let unseen = host.decide(Reach::Nothing, "--config", &file).unwrap();
        assert!(unseen.words.is_empty() && unseen.notes[0].contains("description"));
    }

    /// Case A5: kiwi failed after the boot, as the folders were not there.
    #[test]
    fn folders_for_temporary_files_are_made_in_the_box() {
        let mut host = Host::new();
        let folder = host.path("tmp/deep");
        assert_eq!(host.value("--temp-dir", &folder), folder);
        assert_eq!(host.paths.made, std::slice::from_ref(&folder));
        assert!(!folder.exists());
        for bad in ["/", "/proc/x", "/description/tmp", "/bundle"] {
            let error = host
                .decide(Reach::All, "--temp-dir", Path::new(bad))
                .unwrap_err();
            assert!(error.contains("choose a folder"), "{error}");
        }
        let file = host.path("kiwi.yml");
        let error = host.decide(Reach::All, "--temp-dir", &file).unwrap_err();
        assert!(error.contains("not a folder"), "{error}");
        let none = host.decide(Reach::Nothing, "--temp-dir", &folder).unwrap();
        assert!(none.words.is_empty() && none.notes[0].contains("no effect"));
        let var_tmp = host
            .decide(Reach::Nothing, "--temp-dir", Path::new("/var/tmp"))
            .unwrap();
        assert_eq!(var_tmp.words, ["--temp-dir", "/var/tmp"]);
    }

    #[test]
    fn a_cache_of_the_host_is_shared_with_one_build() {
        let mut host = Host::new();
        let cache = host.path("cache");
        assert_eq!(host.value("--shared-cache-dir", &cache), cache);
        assert_eq!(host.paths.folders[0].root, cache);
        assert!(!host.paths.folders[0].read_only && host.paths.made.is_empty());
        // One that is not there is the box's own.
        let mut host = Host::new();
        let missing = host.path("missing");
        let decided = host
            .decide(Reach::All, "--shared-cache-dir", &missing)
            .unwrap();
        assert_eq!(decided.words[1], missing);
        assert!(
            decided.notes[0].contains("make the folder"),
            "{:?}",
            decided.notes
        );
        assert_eq!(host.paths.made, [missing]);
        assert!(host.paths.folders.is_empty());
    }
}
