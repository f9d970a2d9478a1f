//! The list of published boxes that applies to a user.

use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;

use super::config::{FILE_NAME, read};
use super::error::{CatalogError, VARIABLE};
use super::published_box::{PublishedBox, Variant};
use super::repository::{Repository, RepositoryError};
use super::{builtin, repository, runtime, schema};

/// A list of published boxes.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// In the order of the list.
    pub boxes: Vec<PublishedBox>,
    /// Where the list comes from.
    pub origin: Origin,
    /// The address that `obs://` stands for.
    obs_base: String,
}

/// Where a list of published boxes comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The list in this program.
    BuiltIn,
    /// A file that the user or the administrator put in place.
    File(PathBuf),
    /// A file in the working folder, which may have come with the description that is built.
    WorkingFolder(PathBuf),
}

impl Catalog {
    /// Reads the list that applies to this user in this working folder. `config` is a runtime
    /// configuration of kiwi that was asked for.
    ///
    /// # Errors
    /// Fails if a configuration file is named but missing, cannot be read, or is invalid.
    pub fn of_user(config: Option<&Path>) -> Result<Catalog, CatalogError> {
        let home = std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from);
        let named = std::env::var_os(VARIABLE)
            .filter(|name| !name.is_empty())
            .map(PathBuf::from);
        let obs_base = runtime::obs_download_url(Path::new("/"), home.as_deref(), config)?;
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
        let obs_base = obs_base.unwrap_or_else(|| repository::OBS_BASE.to_owned());
        let file = match named {
            Some(path) => match read(&path)? {
                Some(text) => Some((Origin::File(path), text)),
                None => return Err(CatalogError::Missing(path)),
            },
            None => first_file(working_folder, home, etc)?,
        };
        let Some((origin, text)) = file else {
            return Ok(Catalog {
                boxes: builtin::boxes(),
                origin: Origin::BuiltIn,
                obs_base,
            });
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

    /// Returns the box `name` for `arch`, if it is published.
    pub fn get(&self, name: &str, arch: Arch) -> Option<(&PublishedBox, &Variant)> {
        let published = self.boxes.iter().find(|published| published.name == name)?;
        let variant = published
            .variants
            .iter()
            .find(|variant| variant.arch == arch)?;
        Some((published, variant))
    }

    /// Returns the architectures for which the box `name` is published.
    pub fn arches(&self, name: &str) -> Vec<Arch> {
        self.boxes
            .iter()
            .filter(|published| published.name == name)
            .flat_map(|published| &published.variants)
            .map(|variant| variant.arch)
            .collect()
    }

    /// Returns the names of all published boxes.
    pub fn names(&self) -> Vec<String> {
        self.boxes
            .iter()
            .map(|published| published.name.clone())
            .collect()
    }

    /// Returns the repository with the files of `variant`.
    ///
    /// # Errors
    /// Fails if boxes cannot be fetched from addresses of its kind.
    pub fn repository(&self, variant: &Variant) -> Result<Repository, RepositoryError> {
        Repository::parse(&variant.source, &self.obs_base)
    }

    /// Returns a warning for the user about where the list comes from, if there is one.
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

/// Reads the configuration file that applies where none is named.
fn first_file(
    working_folder: &Path,
    home: Option<&Path>,
    etc: &Path,
) -> Result<Option<(Origin, String)>, CatalogError> {
    let places = [
        Some(Origin::WorkingFolder(working_folder.join(FILE_NAME))),
        home.map(|home| Origin::File(home.join(".config/kiwi").join(FILE_NAME))),
        Some(Origin::File(etc.join(FILE_NAME))),
    ];
    for origin in places.into_iter().flatten() {
        if let Some(text) = origin.path().map(read).transpose()?.flatten() {
            return Ok(Some((origin, text)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        assert!(matches!(find(dir.path(), None), Err(CatalogError::Io(_))));
    }
}
