//! Where paths of the host and of the box lead.

use std::fs;
use std::path::{Component, Path, PathBuf};

use boxbuild_protocol::paths::DESCRIPTION;

/// A path without `.`, `..` and doubled slashes, as kiwi reads it (`os.path.normpath`).
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            component => normal.push(component),
        }
    }
    normal
}

/// Whether a path is one that exists in the box: in the description, or of the box itself.
pub(crate) fn in_box(path: &Path) -> bool {
    [DESCRIPTION, "/usr", "/etc"]
        .iter()
        .any(|place| path.starts_with(place) && path != Path::new(place))
}

/// The path in the box of what is in the description folder, without a link that leads out of it.
pub(crate) fn in_description(path: &Path, description: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    let rest = real
        .strip_prefix(fs::canonicalize(description).ok()?)
        .ok()?;
    let place = Path::new(DESCRIPTION);
    Some(if rest == Path::new("") {
        place.to_owned()
    } else {
        place.join(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_description_is_known_by_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let description = dir.path().join("image");
        fs::create_dir(&description).unwrap();
        for file in ["outside", "image/inside"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("../outside", description.join("out")).unwrap();
        std::os::unix::fs::symlink("image", dir.path().join("link")).unwrap();
        let place = |path: &str| in_description(&dir.path().join(path), &description);
        assert_eq!(place("link/inside"), Some("/description/inside".into()));
        assert_eq!(place("link"), Some("/description".into()));
        assert_eq!(place("image/out"), None, "a link leads out");
        assert_eq!(place("image/none"), None);
        assert_eq!(normal(Path::new("/a/./b//../c/")), Path::new("/a/c"));
        assert!(in_box(Path::new("/etc/x")) && !in_box(Path::new("/etc")));
    }
}
