//! The description as the box sees it: links are followed there, not on the host.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Where the box has the description (docs/guest-contract.md).
const DESCRIPTION: &str = "/description";

/// Most links that one path may lead through (`ELOOP`, path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Trees that a box has of its own. What a link leads to there cannot be seen from the host.
const OF_THE_BOX: &[&str] = &[
    "/bin", "/boot", "/etc", "/lib", "/lib64", "/opt", "/root", "/run", "/sbin", "/srv", "/usr",
    "/var",
];

/// Which files of the host a box sees, and where.
#[derive(Debug, Clone)]
pub struct BoxView {
    /// The folder on the host.
    description: PathBuf,
    /// The same as the user typed it.
    typed: PathBuf,
    /// Files and folders that the box has under the path that they have on the host.
    shared: Vec<PathBuf>,
}

/// What a path of the box leads to.
#[derive(Debug)]
pub enum Resolved {
    /// This file or folder of the host. No component of the path is a link.
    Host(PathBuf),
    /// Nothing.
    Nothing {
        /// The path in the box that is not there.
        path: PathBuf,
        /// A link led to it.
        linked: bool,
    },
    /// This path among the box's own files, which cannot be seen from the host.
    InBox(PathBuf),
    /// The host's file system refuses to answer.
    Unknown(io::Error),
}

impl BoxView {
    /// A view of the folder `description`, which the user typed as `typed`. The box also has
    /// `shared`, absolute paths of the host.
    pub fn new(description: &Path, typed: &Path, shared: Vec<PathBuf>) -> BoxView {
        BoxView {
            description: description.to_owned(),
            typed: typed.to_owned(),
            shared,
        }
    }

    /// Returns the folder on the host.
    pub fn folder(&self) -> &Path {
        &self.description
    }

    /// Returns the path in the box of `name` in the description folder. kiwi takes one that begins
    /// with a slash as relative.
    pub(crate) fn path(name: &Path) -> PathBuf {
        let mut path = PathBuf::from(DESCRIPTION);
        path.extend(
            name.components()
                .filter(|part| !matches!(part, Component::RootDir)),
        );
        path
    }

    /// Returns the name that the user knows a path of the box by.
    pub(crate) fn shown(&self, path: &Path) -> String {
        match path.strip_prefix(DESCRIPTION) {
            Ok(name) => self.typed.join(name).to_string_lossy().into_owned(),
            Err(_) => path.to_string_lossy().into_owned(),
        }
    }

    /// Follows a path of the box, through its links, as the box's kernel would.
    pub fn resolve(&self, path: &Path) -> Resolved {
        let mut here = PathBuf::from("/");
        let mut rest: Vec<OsString> = parts(path);
        let mut links = 0;
        let nothing = |path: PathBuf, links: usize| Resolved::Nothing {
            path,
            linked: links > 0,
        };
        while let Some(part) = rest.pop() {
            if part == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&part);
            let Some(host) = self.on_host(&next) else {
                here = next;
                continue;
            };
            let metadata = match fs::symlink_metadata(&host) {
                Ok(metadata) => metadata,
                Err(error) if is_absence(&error) => return nothing(next, links),
                Err(error) => return Resolved::Unknown(error),
            };
            if !metadata.is_symlink() {
                here = next;
                continue;
            }
            links += 1;
            let target = match fs::read_link(&host) {
                Ok(target) if links <= MOST_LINKS => target,
                Ok(_) => return nothing(next, links),
                Err(error) => return Resolved::Unknown(error),
            };
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        }
        match self.on_host(&here) {
            Some(host) => Resolved::Host(host),
            None if OF_THE_BOX.iter().any(|tree| here.starts_with(tree)) => Resolved::InBox(here),
            None => nothing(here, links),
        }
    }

    /// Returns what a path of the box, without links, is on the host: of the description, of what is
    /// shared, or of the folder boxroot, which is copied over the box before the build.
    fn on_host(&self, path: &Path) -> Option<PathBuf> {
        if let Ok(name) = path.strip_prefix(DESCRIPTION) {
            return Some(self.description.join(name));
        }
        if self.shared.iter().any(|shared| path.starts_with(shared)) {
            return Some(path.to_owned());
        }
        let name = path.strip_prefix("/").ok()?;
        let copied = self.boxroot()?.join(name);
        // Folders on the way are the box's: only what the box gets from there is looked at.
        let is_leaf = fs::symlink_metadata(&copied).is_ok_and(|metadata| !metadata.is_dir());
        is_leaf.then_some(copied)
    }

    /// Returns the folder boxroot, unless it is a link that leads out of the description.
    fn boxroot(&self) -> Option<PathBuf> {
        let boxroot = fs::canonicalize(self.description.join("boxroot")).ok()?;
        let description = fs::canonicalize(&self.description).ok()?;
        boxroot.starts_with(description).then_some(boxroot)
    }
}

/// Returns the components of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let mut parts: Vec<OsString> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::new("..").to_owned()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    parts.reverse();
    parts
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_as_in_the_box() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("d");
        let shared = dir.path().join("shared");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::create_dir_all(folder.join("boxroot/srv")).unwrap();
        fs::create_dir_all(&shared).unwrap();
        for file in ["d/file", "shared/file", "outside", "d/boxroot/srv/file"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let link = |target: &Path, name: &str| symlink(target, folder.join(name)).unwrap();
        link(Path::new("file"), "near");
        link(Path::new("../file"), "sub/up");
        link(Path::new("/description/file"), "absolute");
        link(&shared.join("file"), "shared");
        link(&dir.path().join("outside"), "outside");
        link(Path::new("../outside"), "above");
        link(Path::new("loop"), "loop");
        link(Path::new("/usr/share/x"), "system");
        link(Path::new("/srv/file"), "boxroot-file");
        let view = BoxView::new(&folder, Path::new("d"), vec![shared.clone()]);
        let resolve = |name: &str| view.resolve(&BoxView::path(Path::new(name)));
        for name in ["file", "near", "sub/up", "absolute", "/file", "sub/../file"] {
            let Resolved::Host(path) = resolve(name) else {
                panic!("{name}: {:?}", resolve(name));
            };
            assert_eq!(path, folder.join("file"), "{name}");
        }
        assert!(matches!(resolve("shared"), Resolved::Host(path) if path == shared.join("file")));
        assert!(matches!(resolve("boxroot-file"), Resolved::Host(_)));
        for name in [
            "outside",
            "above",
            "loop",
            "missing",
            "file/below",
            "../d/file",
        ] {
            assert!(
                matches!(resolve(name), Resolved::Nothing { .. }),
                "{name}: {:?}",
                resolve(name)
            );
        }
        assert!(
            matches!(resolve("system"), Resolved::InBox(path) if path == Path::new("/usr/share/x"))
        );
    }

    /// `boxroot -> /` made every file of the host one of the description.
    #[test]
    fn a_boxroot_that_is_a_link_shows_no_file_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("d");
        fs::create_dir(&folder).unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "").unwrap();
        symlink("/", folder.join("boxroot")).unwrap();
        let view = BoxView::new(&folder, Path::new("d"), Vec::new());
        let resolved = view.resolve(&outside);
        assert!(matches!(resolved, Resolved::Nothing { .. }), "{resolved:?}");
    }
}
