//! How long the phases of the last build of a description took, for an estimate of the next one.
//!
//! One small file for each description with its profile and type, box and engine, in the user's cache.

use std::time::Duration;

use boxbuild_host::digest::sha256;

use crate::cache_file::CacheFile;
use crate::kiwi_log::Phase;
use crate::plan::Plan;

/// Builds that are remembered at most.
const MOST: usize = 100;

/// Phases that are read of a record at most.
const MOST_PHASES: usize = 16;

/// The record of the last build of the same.
#[derive(Debug)]
pub struct BuildTimes {
    file: CacheFile,
}

impl BuildTimes {
    /// Of builds by `plan` with what runs it, `runner`.
    pub fn of(plan: &Plan, runner: &str) -> BuildTimes {
        BuildTimes {
            file: CacheFile::of_user("times", key(plan, runner), MOST),
        }
    }

    /// Returns how long each phase took, in order; nothing if that is not known.
    pub fn recall(&self) -> Vec<(String, Duration)> {
        let text = self.file.read().unwrap_or_default();
        let phase = |line: &str| {
            let (milliseconds, name) = line.split_once(' ')?;
            let time = Duration::from_millis(milliseconds.parse().ok()?);
            // A record that was tampered with says nothing of years.
            let fine = time < Duration::from_secs(365 * 24 * 3600);
            fine.then(|| (name.to_owned(), time))
        };
        let phases: Option<Vec<_>> = text.lines().take(MOST_PHASES).map(phase).collect();
        phases.unwrap_or_default()
    }

    /// Keeps the times of a build that succeeded.
    pub fn keep(&self, phases: &[(Phase, Duration)]) {
        let of_build = phases.iter().filter(|(phase, _)| *phase != Phase::Shell);
        let lines: String = of_build
            .map(|(phase, time)| format!("{} {}\n", time.as_millis(), phase.name()))
            .collect();
        self.file.write(&lines);
    }
}

/// What makes two builds the same: another one takes another time.
fn key(plan: &Plan, runner: &str) -> Option<String> {
    let info = &plan.installed.info;
    let mut text =
        format!("{} {} {runner} {:?}\0", info.name, info.arch, plan.runs_as).into_bytes();
    text.extend(plan.description.as_os_str().as_encoded_bytes());
    // Global options: profiles, type, description file. Repositories change little.
    let options = plan.kiwi_args.iter().take_while(|word| *word != "system");
    for word in options {
        text.push(0);
        text.extend(word.as_encoded_bytes());
    }
    sha256(&mut text.as_slice()).ok().map(|(_, hash)| hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan_in;

    #[test]
    fn what_was_kept_is_recalled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("times").join("x");
        let times = BuildTimes {
            file: CacheFile::at(Some(path.clone()), MOST),
        };
        assert_eq!(times.recall(), []);
        let second = Duration::from_secs(1);
        times.keep(&[
            (Phase::Boot, second),
            (Phase::Shell, 100 * second),
            (Phase::PowerOff, 2 * second),
        ]);
        let expected = [("boot", second), ("power off", 2 * second)];
        assert_eq!(
            times.recall(),
            expected.map(|(name, time)| (name.to_owned(), time))
        );
        for damaged in ["1000", "x boot", "18446744073709551615 boot", "1 boot\n\n"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(times.recall(), [], "{damaged}");
        }
    }

    #[test]
    fn profiles_boxes_and_engines_have_times_of_their_own() {
        let plan = |change: &dyn Fn(&mut crate::request::BuildRequest)| {
            let mut plan = plan_in("/nowhere/small".into(), |request| change(request)).unwrap();
            plan.description = "/nowhere/description".into();
            plan
        };
        let same = key(&plan(&|_| {}), "kvm");
        assert!(same.is_some());
        let repository = plan(&|request| request.build.rest = vec!["--set-repo=x".into()]);
        assert_eq!(same, key(&repository, "kvm"));
        assert_ne!(same, key(&repository, "qemu"));
        let profile = plan(&|request| request.kiwi.forwarded = vec!["--profile=P".into()]);
        assert_ne!(same, key(&profile, "kvm"));
    }
}
