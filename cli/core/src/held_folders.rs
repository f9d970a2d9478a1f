//! The folders and files of a build, as they are before a guest runs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::output_dir::{OutputDirError, TargetDir};
use crate::plan::Plan;

/// The folders of a build: the target folder, which is held, and where the others are. A guest that can
/// write into a folder of the host can put a link in the place of what is below it: another attempt
/// at the build, or `boxbuild shell`, must not share what that leads to.
#[derive(Debug)]
pub struct HeldFolders {
    target: TargetDir,
    places: Vec<Place>,
}

/// What a path leads to.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    real: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl Place {
    /// `None` if there is nothing: what shares it says so.
    fn find(path: &Path) -> Option<Place> {
        Some(Place {
            path: path.to_owned(),
            real: fs::canonicalize(path).ok()?,
            id: id(path)?,
        })
    }
}

fn id(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl HeldFolders {
    /// Takes the target folder of `plan`, and notes where all others are.
    ///
    /// # Errors
    /// Fails if the target folder cannot be had.
    pub fn take(plan: &Plan) -> Result<HeldFolders, OutputDirError> {
        let target = TargetDir::acquire(&plan.target_dir)?;
        let folders = plan.host_paths.folders.iter().map(|share| &share.root);
        let paths = folders
            .chain(plan.host_paths.files.iter().map(|file| &file.path))
            .chain([&plan.description, &plan.target_dir]);
        Ok(HeldFolders {
            places: paths.filter_map(|path| Place::find(path)).collect(),
            target,
        })
    }

    /// The target folder.
    pub fn target(&self) -> &TargetDir {
        &self.target
    }

    /// The path that no longer leads to where it led, if there is one.
    pub(crate) fn changed(&self) -> Option<&Path> {
        let mut places = self.places.iter();
        let changed = places.find(|place| id(&place.path) != Some(place.id))?;
        Some(&changed.path)
    }

    /// Where `path` led, without links.
    pub(crate) fn real(&self, path: &Path) -> Option<OsString> {
        let place = self.places.iter().find(|place| place.path == path)?;
        Some(place.real.clone().into())
    }
}

/// Whether the folder `path` still leads to `real`, through no other links than then.
pub fn is_still(path: &Path, real: &Path) -> bool {
    path.is_dir() && fs::canonicalize(path).is_ok_and(|now| now == real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::plan::tests::plan_in;

    #[test]
    fn a_link_in_the_place_of_a_folder_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for name in ["shared", "shared/description", "secrets", "small"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        symlink("shared", root.join("link")).unwrap();
        let mut plan = plan_in(root.join("small"), |_| {}).unwrap();
        plan.description = root.join("shared/description");
        plan.target_dir = root.join("shared/target");
        let held = HeldFolders::take(&plan).unwrap();
        assert_eq!(held.changed(), None);
        let real = held.real(&plan.description).unwrap();
        assert!(is_still(&plan.description, Path::new(&real)));
        assert!(is_still(&root.join("link"), &root.join("shared")));
        // What a guest with the folder `shared` can do.
        fs::rename(&plan.description, root.join("shared/away")).unwrap();
        symlink("../secrets", &plan.description).unwrap();
        assert_eq!(held.changed(), Some(&*plan.description));
        assert!(!is_still(&plan.description, Path::new(&real)));
    }
}
