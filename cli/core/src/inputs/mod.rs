//! What goes into a build from its description folder, and what has changed of it since kiwi's `prepare` read
//! it: a build goes on after `prepare` only if nothing has changed that `prepare` reads.
//!
//! The description file and what it includes count by their sections
//! ([`Halves`](boxbuild_description::Halves)), other files by their names. What is not known to be read by
//! `create` alone counts as read by `prepare`.

mod compare;
mod files;
#[cfg(test)]
mod tests;

pub use compare::Changes;
pub use files::{FileMark, Kind};

use std::path::{Path, PathBuf};

use boxbuild_description::{Halves, Section};
use boxbuild_host::stop::StopCheck;
use serde::{Deserialize, Serialize};

/// Where the inputs of a build are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The description folder.
    pub description: PathBuf,
    /// The target folder, which may lie in it.
    pub target: PathBuf,
    /// The description taken apart, if all of it could be read; relative to the folder.
    pub halves: Option<Halves>,
}

/// What goes into a build from its description folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The sections of the description; empty if it counts as any other file.
    sections: Vec<Section>,
    /// Scripts that it names for `create`.
    scripts: Vec<PathBuf>,
    /// Files and folders, sorted.
    files: Vec<FileMark>,
    /// The files that the sections stand in.
    #[serde(default)]
    described: Vec<FileMark>,
}

impl Places {
    /// Looks at everything, without reading it.
    ///
    /// # Errors
    /// Fails, in words, if a folder cannot be read or there is too much.
    pub fn look(&self) -> Result<Inputs, String> {
        let halves = self.halves.clone().unwrap_or_default();
        let described: Vec<PathBuf> = halves.files.iter().map(PathBuf::from).collect();
        let found = files::walk(&self.description, |path| self.counts(path))?;
        let is_described = |file: &FileMark| described.iter().any(|path| path == file.path());
        let (described, files) = found.into_iter().partition(is_described);
        Ok(Inputs {
            sections: halves.sections,
            scripts: halves.scripts,
            files,
            described,
        })
    }

    /// Whether a file or folder, relative to the description folder, may be an input by its name.
    fn counts(&self, path: &Path) -> bool {
        let is_target =
            self.target != self.description && self.description.join(path) == self.target;
        !is_target && !files::is_for_people(path)
    }
}

impl Inputs {
    /// Adds hashes of the files below `folder`, until `stop`: a file that is as it was counts as unchanged then,
    /// whatever its times are.
    pub fn hash(&mut self, folder: &Path, stop: &StopCheck) {
        for file in &mut self.files {
            file.hash(folder, stop);
        }
    }

    /// Whether this is the same as `later`, with the same times.
    pub fn is_still(&self, later: &Inputs) -> bool {
        self == later
    }

    /// Returns what has changed up to `now`, whose files are below `folder`.
    pub fn changes(&self, now: &Inputs, folder: &Path, stop: &StopCheck) -> Changes {
        compare::compare(self, now, folder, stop)
    }

    /// Whether the description has a script that runs in `prepare` and may look at values of the description.
    pub fn has_prepare_scripts(&self) -> bool {
        let names = ["config.sh", "post_bootstrap.sh"];
        self.files
            .iter()
            .any(|file| names.iter().any(|name| file.path() == Path::new(name)))
    }
}
