//! Where the settings files are.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use nix::unistd::geteuid;

use super::error::SettingsError;
use super::origin::Layer;

/// Name of a settings file.
pub(super) const NAME: &str = "boxbuild.toml";

/// What a repository has at its top: Git (also a worktree's file), Mercurial, Subversion, Jujutsu, Bazaar.
const TOPS: [&str; 5] = [".git", ".hg", ".svn", ".jj", ".bzr"];

/// Others may write.
const WORLD_WRITABLE: u32 = 0o002;

/// A settings file, or where one would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) layer: Layer,
    pub(crate) path: PathBuf,
    pub(crate) state: State,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It is read.
    Used,
    /// There is none.
    Missing,
    /// It is not, and why.
    LeftOut(&'static str),
}

/// Returns the user's file, and the project's if there is one for the folder `here`.
///
/// # Errors
/// Fails if the user's file may have been written by others.
pub(super) fn candidates(here: Option<&Path>) -> Result<Vec<Candidate>, SettingsError> {
    let mut found = Vec::new();
    if let Ok(base) = etcetera::choose_base_strategy() {
        let path = base.config_dir().join(NAME);
        let state = if own(&path)? {
            State::Used
        } else {
            State::Missing
        };
        let layer = Layer::User;
        found.push(Candidate { layer, path, state });
    }
    let project = here.and_then(project);
    if let Some(path) = project.filter(|path| !found.iter().any(|own| is_same(&own.path, path))) {
        let state = match strangers(&path) {
            false => State::Used,
            true => State::LeftOut(
                "it belongs neither to you nor to the owner of its folder, and is not read",
            ),
        };
        let layer = Layer::Project;
        found.push(Candidate { layer, path, state });
    }
    Ok(found)
}

/// Whether the user's file is there. What is in it counts as what the user says.
fn own(path: &Path) -> Result<bool, SettingsError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(false);
        }
        Err(source) => {
            let path = path.to_owned();
            return Err(SettingsError::Read { path, source });
        }
    };
    let problem = if ![0, geteuid().as_raw()].contains(&metadata.uid()) {
        "it belongs to another user, who would decide about your builds"
    } else if metadata.mode() & WORLD_WRITABLE != 0 {
        "every user of this host can write it: take that right away (chmod o-w)"
    } else {
        return Ok(true);
    };
    Err(SettingsError::Untrusted {
        path: path.to_owned(),
        problem: problem.to_owned(),
    })
}

/// Returns the file for `here`: there, or in the nearest folder above it within the same repository.
fn project(here: &Path) -> Option<PathBuf> {
    let mut found: Option<PathBuf> = None;
    for folder in here.ancestors() {
        let file = folder.join(NAME);
        if found.is_none() && fs::symlink_metadata(&file).is_ok() {
            found = Some(file);
        }
        if TOPS
            .iter()
            .any(|name| fs::symlink_metadata(folder.join(name)).is_ok())
        {
            return found;
        }
    }
    // Without a repository, nothing says where the project ends.
    found.filter(|file| file.parent() == Some(here))
}

/// Whether a file is of another user than its folder: in /tmp, each user can make one.
fn strangers(path: &Path) -> bool {
    let owner = |path: &Path| fs::symlink_metadata(path).ok().map(|found| found.uid());
    let (Some(file), Some(folder)) = (owner(path), path.parent().and_then(owner)) else {
        return false;
    };
    file != 0 && file != geteuid().as_raw() && file != folder
}

fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    one == other || id(one).is_some_and(|known| Some(known) == id(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_within_the_repository_is_the_projects() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::create_dir_all(top.join("clone/images/server")).unwrap();
        fs::write(top.join(NAME), "").unwrap();
        let inside = top.join("clone/images/server");
        // No repository: only the folder itself.
        assert_eq!(project(&inside), None);
        assert_eq!(project(top), Some(top.join(NAME)));
        fs::create_dir(top.join("clone/.git")).unwrap();
        // Beyond the top of the repository, it is another project's.
        assert_eq!(project(&inside), None);
        fs::write(top.join("clone").join(NAME), "").unwrap();
        assert_eq!(project(&inside), Some(top.join("clone").join(NAME)));
        fs::write(inside.join(NAME), "").unwrap();
        assert_eq!(project(&inside), Some(inside.join(NAME)));
    }
}
