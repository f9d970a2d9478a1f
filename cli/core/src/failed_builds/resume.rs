//! Going on with a kept build after kiwi's `prepare`.

use std::path::Path;

use boxbuild_boxes::store::InstalledBox;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::text::shown;
use boxbuild_host::units::date;

use super::builds::FailedBuild;
use super::checkpoint::Checkpoint;
use super::error::FailedBuildError;
use crate::boot::Boot;
use crate::inputs::Changes;
use crate::plan::{Plan, Resumed, create_args};

/// Names of changes that a message has, at most.
const MOST_NAMED: usize = 10;

impl FailedBuild {
    /// What it takes to go on with the build.
    ///
    /// # Errors
    /// Fails with the reason if it cannot be gone on with, whatever has changed since.
    pub fn checkpoint(&self) -> Result<&Checkpoint, FailedBuildError> {
        let why = || match (&self.record.no_checkpoint, &self.record.disk) {
            (Some(reason), _) => reason.clone(),
            (None, None) => String::from(
                "it wrote into the box's own disk (--no-snapshot) and has none of its own",
            ),
            (None, Some(_)) => String::from(
                "it was kept by a boxbuild that could not resume, and has no checkpoint",
            ),
        };
        let checkpoint = self.record.checkpoint.as_ref();
        checkpoint.ok_or_else(|| self.not_resumable(&why()))
    }

    /// Has `plan`, which is of the same command line, go on with the build, whose box is `installed`.
    ///
    /// # Errors
    /// Fails with the reason if that cannot be.
    pub fn resume(
        &self,
        mut plan: Plan,
        installed: &InstalledBox,
        store: &Path,
        stop: &StopCheck,
    ) -> Result<Plan, FailedBuildError> {
        let checkpoint = self.checkpoint()?;
        if plan.boot() != Some(Boot::Fast) || create_args(&plan.kiwi_args).is_none() {
            return Err(
                self.not_resumable("its box would not be booted by boxbuild's own init now")
            );
        }
        let now = plan.inputs.look().map_err(|problem| {
            self.not_resumable(&format!(
                "the files of its description cannot be looked at: {problem}"
            ))
        })?;
        let changes = checkpoint.inputs.changes(&now, &plan.description, stop);
        // A file that was not read to its end counts as changed.
        stop.check()?;
        if !changes.prepare.is_empty() {
            return Err(self.not_resumable(&format!(
                "kiwi's prepare, which is not run again, read what has changed since: {}",
                named(changes.prepare.iter())
            )));
        }
        plan.notes.push(format!(
            "going on with {} after kiwi's prepare: the packages and scripts of the root tree are those of {}",
            self.record.id,
            date(checkpoint.time())
        ));
        plan.notes.extend(notes(&changes, checkpoint));
        plan.resumes = Some(Resumed {
            id: self.record.id.clone(),
            prepared: checkpoint.taken,
            store: store.to_owned(),
            image: self.record.disk_of(installed),
            disk: self.checkpoint_disk(),
            checkpoint: checkpoint.clone(),
        });
        Ok(plan)
    }

    fn not_resumable(&self, reason: &str) -> FailedBuildError {
        FailedBuildError::NotResumable {
            id: self.record.id.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// What the user should know of what is taken as it is now.
fn notes(changes: &Changes, checkpoint: &Checkpoint) -> Vec<String> {
    if changes.create.is_empty() {
        return Vec::new();
    }
    let mut notes = vec![format!(
        "taken as they are now: {}",
        named(changes.create.iter())
    )];
    let of_description = changes.create.iter().any(|name| is_of_description(name));
    if of_description && checkpoint.inputs.has_prepare_scripts() {
        notes.push(String::from(
            "config.sh or post_bootstrap.sh has run with the old values of the description, which kiwi gives \
             it as variables (kiwi_…): if it uses one that has changed, build again",
        ));
    }
    notes
}

/// Whether a name stands for a section of the description rather than for a file.
fn is_of_description(name: &str) -> bool {
    name == "version" || name.contains(": ") || name == "bootloader-theme"
}

fn named<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(|name| shown(name)).collect();
    let more = names.len().saturating_sub(MOST_NAMED);
    let mut text = names[..names.len() - more].join(", ");
    if more > 0 {
        text = format!("{text} and {more} more");
    }
    text
}
