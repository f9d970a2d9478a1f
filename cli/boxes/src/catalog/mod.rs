//! Which boxes are published, and where.
//!
//! The list is built in; a configuration file of kiwi's boxbuild (`kiwi_boxed_plugin.yml`) takes
//! its place. The first file found counts, nothing is merged:
//!
//! 1. `$KIWI_BOXED_PLUGIN_CFG`, which must exist if it is set;
//! 2. the working folder, with a note: whoever wrote it chooses the boxes;
//! 3. `~/.config/kiwi/`;
//! 4. `/etc/`;
//! 5. the [`builtin`] list.

mod builtin;
mod runtime;
mod schema;
mod source;

use boxbuild_host::error::{Classify, ErrorClass};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;

pub use source::{Location, Source, SourceError};

/// Name of the configuration file.
pub const FILE_NAME: &str = "kiwi_boxed_plugin.yml";

/// Names the configuration file, if it is set.
pub const VARIABLE: &str = "KIWI_BOXED_PLUGIN_CFG";

/// The published boxes.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// In the order of the list.
    pub boxes: Vec<PublishedBox>,
    /// Where the list comes from.
    pub origin: Origin,
    /// What `obs://` stands for.
    obs_base: String,
}

/// Where a catalog comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The list in this program.
    BuiltIn,
    /// A file that the user or the administrator put in place.
    File(PathBuf),
    /// A file in the working folder, which may have come with what is being built.
    WorkingFolder(PathBuf),
}

/// A published box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedBox {
    /// Name that users select it by.
    pub name: String,
    /// Default guest memory in MiB.
    pub memory_mib: u64,
    /// Default number of virtual CPUs.
    pub cpus: u32,
    /// Guest console, e.g. `hvc0`.
    pub console: String,
    /// Its builds, one for each architecture.
    pub variants: Vec<Variant>,
}

/// A published box for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Architecture.
    pub arch: Arch,
    /// Kernel command line items.
    pub cmdline: Vec<String>,
    /// Where it is published, as written, e.g. `obs://PROJECT/REPOSITORY`.
    pub source: String,
    /// Name of the archive with kernel and initial ramdisk (`.tar.xz`).
    pub kernel_file: String,
    /// Name of the root disk (`.qcow2`).
    pub disk_file: String,
    /// Name of the list of packages.
    pub packages_file: String,
    /// The container image's name with registry and tag; empty if there is none.
    pub container: String,
    /// The box boots with its initial ramdisk.
    pub use_initrd: bool,
}

/// The catalog cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// `$KIWI_BOXED_PLUGIN_CFG` names a file that is not there.
    #[error("{VARIABLE} names {0}, which does not exist: correct it, or unset it")]
    Missing(PathBuf),
    /// A configuration file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A configuration file says what it must not.
    #[error("{path} is wrong: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place.
        problem: String,
    },
}

impl Classify for CatalogError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

impl Catalog {
    /// The catalog of this user in this working folder.
    ///
    /// # Errors
    /// If a configuration file is named but missing, cannot be read, or is wrong.
    pub fn of_user() -> Result<Catalog, CatalogError> {
        let home = std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from);
        let named = std::env::var_os(VARIABLE)
            .filter(|name| !name.is_empty())
            .map(PathBuf::from);
        let obs_base = runtime::obs_download_url(Path::new("/"), home.as_deref())?;
        Catalog::find(
            named,
            Path::new("."),
            home.as_deref(),
            Path::new("/etc"),
            obs_base,
        )
    }

    fn find(
        named: Option<PathBuf>,
        working_folder: &Path,
        home: Option<&Path>,
        etc: &Path,
        obs_base: Option<String>,
    ) -> Result<Catalog, CatalogError> {
        let obs_base = obs_base.unwrap_or_else(|| source::OBS_BASE.to_owned());
        let (origin, text) = if let Some(path) = named {
            match read(&path)? {
                Some(text) => (Origin::File(path), text),
                None => return Err(CatalogError::Missing(path)),
            }
        } else {
            let places = [
                Some(Origin::WorkingFolder(working_folder.join(FILE_NAME))),
                home.map(|home| Origin::File(home.join(".config/kiwi").join(FILE_NAME))),
                Some(Origin::File(etc.join(FILE_NAME))),
            ];
            let mut found = None;
            for origin in places.into_iter().flatten() {
                if let Some(text) = origin.path().map(read).transpose()?.flatten() {
                    found = Some((origin, text));
                    break;
                }
            }
            match found {
                Some(found) => found,
                None => {
                    return Ok(Catalog {
                        boxes: builtin::boxes(),
                        origin: Origin::BuiltIn,
                        obs_base,
                    });
                }
            }
        };
        let path = origin.path().unwrap_or(Path::new(FILE_NAME));
        let boxes = schema::parse(&text).map_err(|problem| CatalogError::Invalid {
            path: path.to_owned(),
            problem,
        })?;
        Ok(Catalog {
            boxes,
            origin,
            obs_base,
        })
    }

    /// The box `name` for `arch`, if it is published.
    pub fn get(&self, name: &str, arch: Arch) -> Option<(&PublishedBox, &Variant)> {
        let published = self.boxes.iter().find(|published| published.name == name)?;
        let variant = published
            .variants
            .iter()
            .find(|variant| variant.arch == arch)?;
        Some((published, variant))
    }

    /// The architectures for which the box `name` is published.
    pub fn arches(&self, name: &str) -> Vec<Arch> {
        self.boxes
            .iter()
            .filter(|published| published.name == name)
            .flat_map(|published| &published.variants)
            .map(|variant| variant.arch)
            .collect()
    }

    /// The names of all boxes.
    pub fn names(&self) -> Vec<String> {
        self.boxes
            .iter()
            .map(|published| published.name.clone())
            .collect()
    }

    /// Where the files of `variant` are.
    ///
    /// # Errors
    /// If its source is of a kind that boxes cannot be fetched from.
    pub fn source(&self, variant: &Variant) -> Result<Source, SourceError> {
        Source::parse(&variant.source, &self.obs_base)
    }

    /// What the user should know of where this list comes from.
    pub fn note(&self) -> Option<String> {
        match &self.origin {
            Origin::WorkingFolder(path) => Some(format!(
                "the list of boxes is {} of this folder: it decides where boxes come from (set \
                 {VARIABLE} to choose another one)",
                path.file_name().unwrap_or_default().to_string_lossy()
            )),
            _ => None,
        }
    }
}

impl Origin {
    fn path(&self) -> Option<&Path> {
        match self {
            Origin::BuiltIn => None,
            Origin::File(path) | Origin::WorkingFolder(path) => Some(path),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path() {
            None => f.write_str("built in"),
            Some(path) => path.display().fmt(f),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, CatalogError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CatalogError::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: &str = "box:\n  - name: other\n    mem_mb: 4096M\n    console: hvc0\n    arch:\n";

    fn find(dir: &Path, named: Option<&str>) -> Result<Catalog, CatalogError> {
        Catalog::find(
            named.map(|name| dir.join(name)),
            &dir.join("work"),
            Some(&dir.join("home")),
            &dir.join("etc"),
            None,
        )
    }

    fn put(path: &Path, name: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!(
            "{}      - name: x86_64\n        cmdline: [root=/dev/vda1]\n        \
             source: https://boxes.example/\n        packages_file: A.json\n        \
             boxfiles: [A.tar.xz, A.qcow2]\n        container: c\n        use_initrd: true\n",
            OTHER.replace("other", name)
        );
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_first_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let first = |named| find(dir, named).unwrap().boxes[0].name.clone();
        assert_eq!(first(None), "tumbleweed");
        put(&dir.join("etc").join(FILE_NAME), "etc");
        assert_eq!(first(None), "etc");
        put(&dir.join("home/.config/kiwi").join(FILE_NAME), "home");
        assert_eq!(first(None), "home");
        assert_eq!(find(dir, None).unwrap().note(), None);
        put(&dir.join("named.yml"), "named");
        assert_eq!(first(Some("named.yml")), "named");
    }

    #[test]
    fn a_file_in_the_working_folder_is_never_used_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("work").join(FILE_NAME), "hostile");
        let catalog = find(dir.path(), None).unwrap();
        assert!(matches!(catalog.origin, Origin::WorkingFolder(_)));
        assert!(catalog.note().unwrap().contains(FILE_NAME));
        put(&dir.path().join("mine.yml"), "mine");
        let catalog = find(dir.path(), Some("mine.yml")).unwrap();
        assert!(catalog.note().is_none());
    }

    #[test]
    fn a_named_file_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(dir.path(), Some("gone.yml")).unwrap_err().to_string();
        assert!(error.contains("gone.yml, which does not exist"), "{error}");
        fs::create_dir_all(dir.path().join("work").join(FILE_NAME)).unwrap();
        assert!(matches!(
            find(dir.path(), None),
            Err(CatalogError::Unreadable { .. })
        ));
    }
}
