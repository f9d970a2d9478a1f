//! What a kept build needs to be gone on with after kiwi's `prepare`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use boxbuild_engine::Running;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::Dir;
use serde::{Deserialize, Serialize};

use crate::inputs::Inputs;
use crate::plan::Plan;

/// Name of the folder with the disk as it was then, in the folder of a kept build.
pub(super) const FOLDER: &str = "checkpoint";

/// What a kept build needs besides its disk to be gone on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// When kiwi's `prepare` was done, in seconds since the epoch.
    pub taken: u64,
    /// The folder in which the command line was typed.
    pub folder: OsString,
    /// Its words.
    pub words: Vec<OsString>,
    /// Packages that later attempts have installed in the box besides.
    pub box_packages: Vec<String>,
    /// What `prepare` read.
    pub inputs: Inputs,
}

impl Checkpoint {
    /// When kiwi's `prepare` was done.
    pub fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.taken)
    }
}

/// What came of the checkpoint of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// kiwi has not come to the end of `prepare`, as far as its box says that.
    No,
    /// There is one, taken then.
    Yes(SystemTime),
    /// The host has none to give; in words.
    Failed(String),
}

/// Keeps the disk as it was at the checkpoint in `own`, which is `folder`. Returns whether there was one: what was
/// written later lies over it, whether the build can be gone on with or not.
///
/// # Errors
/// Fails if it cannot be kept.
pub(super) fn keep_disk(
    plan: &Plan,
    running: &dyn Running,
    folder: &Path,
    own: &Dir,
) -> io::Result<bool> {
    let name = OsStr::new(FOLDER);
    let place = folder.join(FOLDER);
    own.make_folder(name, 0o700)?;
    let kept = match &plan.resumes {
        Some(resumed) => link(&resumed.disk, &place).map(|()| true)?,
        None => running.keep_checkpoint(&place)?.is_some(),
    };
    if !kept {
        own.remove_folder(name)?;
    }
    Ok(kept)
}

/// What it takes to go on with a build by `plan`, into which `inputs` went when it started.
///
/// # Errors
/// Fails, in words that complete "it cannot be resumed: ", if that cannot be.
pub(super) fn describe(
    plan: &Plan,
    taken: &Taken,
    inputs: Option<&Inputs>,
    stop: &StopCheck,
) -> Result<Checkpoint, String> {
    if let Some(resumed) = &plan.resumes {
        let mut checkpoint = resumed.checkpoint.clone();
        checkpoint.box_packages = plan.box_packages.clone();
        return Ok(checkpoint);
    }
    let taken = match taken {
        Taken::Yes(time) => time,
        Taken::Failed(problem) => return Err(problem.clone()),
        Taken::No => return Err(no_checkpoint(plan)),
    };
    let command_line = plan
        .command_line
        .as_ref()
        .ok_or("its command line is not known")?;
    let words = command_line.without_secrets().ok_or(
        "its command line has a secret, which is not kept, and which kiwi's create may need",
    )?;
    let mut inputs = inputs
        .ok_or("the files of its description could not be looked at")?
        .clone();
    if !inputs.is_still(&plan.inputs.look()?) {
        return Err(String::from(
            "files of its description were changed while it ran",
        ));
    }
    inputs.hash(&plan.description, stop);
    let since = taken.duration_since(SystemTime::UNIX_EPOCH);
    Ok(Checkpoint {
        taken: since.map_or(0, |time| time.as_secs()),
        folder: command_line.folder.clone().into(),
        words,
        box_packages: Vec::new(),
        inputs,
    })
}

/// Why there is no checkpoint although the machine could have one.
fn no_checkpoint(plan: &Plan) -> String {
    if plan.takes_checkpoints() {
        String::from("it failed before kiwi's prepare was done")
    } else {
        String::from(
            "its box was booted by its own init (--boot compat), which does not say when kiwi's prepare is done",
        )
    }
}

/// Gives the files of another checkpoint names in `to` as well.
#[expect(clippy::disallowed_methods, reason = "files of a kept build")]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::hard_link(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
