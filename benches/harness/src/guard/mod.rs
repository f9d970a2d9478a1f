//! Instruction counts, made in the lab's counting mode (docs/lab.md), against a committed baseline.
//!
//! A count repeats to a fraction of a percent where the programs around it are the same, on a
//! busy machine as on an idle one. Where they differ, counts do not compare: the figures are shown
//! and the result is *skipped*.

mod baseline;
mod boot;
mod machine;
mod paths;

use std::path::Path;

use anyhow::{Context, Result};

pub use baseline::{Baseline, Change, Counts, Judgement, LIMIT, judge};

use crate::environment::Versions;

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardedPart {
    /// The devices' hot paths.
    Paths,
    /// The boot.
    Boot,
    /// What a machine costs its host.
    Machine,
}

impl GuardedPart {
    /// All.
    pub const ALL: [GuardedPart; 3] = [GuardedPart::Paths, GuardedPart::Boot, GuardedPart::Machine];

    /// Its name in the baseline.
    pub fn name(self) -> &'static str {
        match self {
            GuardedPart::Paths => "paths",
            GuardedPart::Boot => "boot",
            GuardedPart::Machine => "machine",
        }
    }

    /// What one count is.
    pub fn unit(self) -> &'static str {
        match self {
            GuardedPart::Paths => "instructions of program and kernel in one round",
            GuardedPart::Boot => "thousand instructions of monitor, host kernel and guest",
            GuardedPart::Machine => "system calls, exits, KiB",
        }
    }

    /// What the counts depend on, as it is here; or why nothing can be counted here.
    pub fn environment(self, repository: &Path) -> Result<Versions, String> {
        // All are counted in the lab.
        boot::environment(repository)
    }

    /// Counts.
    ///
    /// # Errors
    /// If what is measured fails.
    pub fn count(self, repository: &Path) -> Result<Counts> {
        match self {
            GuardedPart::Paths => paths::count(repository),
            GuardedPart::Boot => boot::count(repository),
            GuardedPart::Machine => machine::count(repository),
        }
        .with_context(|| format!("cannot count the {}", self.name()))
    }
}
