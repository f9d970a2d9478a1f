//! What builds made in the target folder, as far as the next box must not see it: the target folder may
//! lie in the description, or be the same folder.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;

use boxbuild_engine::{DirectoryId, Hidden, HiddenNames};
use boxbuild_host::error::IoError;
use boxbuild_host::untrusted::{Dir, FileKind};
use boxbuild_protocol::paths::{CODE_NAME, LOG_NAME};
use nix::unistd::geteuid;

use super::TIMINGS_PAGE;
use super::manifest::{self, Manifest};
use super::names::is_of_kiwi;
use super::publish::RESCUED;
use super::staging::OutputDir;
use super::target_dir::STAGING;

/// Bytes of names up to which each name is hidden by itself: the list goes to the process that serves
/// the share in one message. Of more, everything in the folder is hidden.
const LONGEST_LIST: usize = 16 << 10;

/// An entry of the target folder that a box may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibleEntry {
    /// Its name.
    pub name: OsString,
    /// What it is.
    pub kind: FileKind,
}

/// What is hidden from a box where nothing of this build's target folder is seen: the folders of other
/// builds under way.
pub fn hidden_everywhere() -> Hidden {
    Hidden {
        everywhere: vec![STAGING.into()],
        inside: None,
    }
}

impl OutputDir<'_> {
    /// What the box does not see of the target folder, by whatever way it reaches that: what this build
    /// and earlier ones made there.
    ///
    /// # Errors
    /// Fails if the folder cannot be read.
    pub fn hidden(&self) -> Result<Hidden, IoError> {
        let dir = self.target.dir();
        let hidden = || -> io::Result<Hidden> {
            let (names, _) = self.sort(None)?;
            let bytes: usize = names.iter().map(|name| name.len()).sum();
            let names = if bytes > LONGEST_LIST {
                HiddenNames::All
            } else {
                HiddenNames::These(names)
            };
            Ok(Hidden {
                inside: Some((DirectoryId::of(dir)?, names)),
                ..hidden_everywhere()
            })
        };
        hidden().map_err(IoError::on("read the folder", self.target.path()))
    }

    /// The target folder.
    pub(crate) fn target_dir(&self) -> &Dir {
        self.target.dir()
    }

    /// What the box sees of the target folder, where it sees that at all; `None` if there are more than
    /// `most` entries.
    ///
    /// # Errors
    /// Fails if the folder cannot be read.
    pub fn visible(&self, most: usize) -> Result<Option<Vec<VisibleEntry>>, IoError> {
        let visible = || -> io::Result<Option<Vec<VisibleEntry>>> {
            let (_, rest) = self.sort(Some(most))?;
            if rest.len() > most {
                return Ok(None);
            }
            let dir = self.target.dir();
            let entry = |name: OsString| {
                let kind = dir.find(&name)?.map(|status| status.kind);
                Ok(kind.map(|kind| VisibleEntry { name, kind }))
            };
            let entries = rest.into_iter().map(entry);
            Ok(Some(
                entries
                    .filter_map(io::Result::transpose)
                    .collect::<io::Result<_>>()?,
            ))
        };
        visible().map_err(IoError::on("read the folder", self.target.path()))
    }

    /// The names in the target folder that a box does not see, and the others, in their order and as far
    /// as there are not more than `most`.
    fn sort(&self, most: Option<usize>) -> io::Result<(BTreeSet<OsString>, BTreeSet<OsString>)> {
        let dir = self.target.dir();
        let results = Manifest::read(dir).unwrap_or_default();
        let mut hidden: BTreeSet<OsString> =
            [STAGING, manifest::NAME, CODE_NAME, LOG_NAME, TIMINGS_PAGE]
                .map(OsString::from)
                .into();
        let mut rest = BTreeSet::new();
        for name in dir.names()? {
            let name = name?;
            if hidden.contains(&name) {
                continue;
            }
            if self.is_result(dir, &results, &name)? {
                hidden.insert(name);
            } else if most.is_some_and(|most| rest.len() <= most) {
                rest.insert(name);
            }
        }
        Ok((hidden, rest))
    }

    /// Whether an earlier build made what the target folder has as `name`.
    fn is_result(&self, dir: &Dir, results: &Manifest, name: &OsStr) -> io::Result<bool> {
        let Some(text) = name.to_str() else {
            return Ok(false);
        };
        let may_be = results.names(text)
            || text.starts_with(RESCUED)
            || (self.is_of_old && is_of_kiwi(text));
        if !may_be {
            return Ok(false);
        }
        let Some(status) = dir.find(name)? else {
            return Ok(false);
        };
        let own = status.owner == geteuid().as_raw();
        let rescued = own && status.kind == FileKind::Folder && text.starts_with(RESCUED);
        let old = own && status.kind == FileKind::Regular && self.is_of_old && is_of_kiwi(text);
        Ok(rescued || old || results.has(dir, text, &status))
    }
}
