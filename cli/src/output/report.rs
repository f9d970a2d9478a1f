//! The report on a build that ran.

use std::path::Path;

use boxbuild_core::boot::RunsAs;
use boxbuild_core::output_dir;
use boxbuild_core::plan::Plan;
use boxbuild_core::run::{Failure, Outcome, Reason, Run};
use boxbuild_engine::podman::Mode;
use boxbuild_host::secret;

use super::event::{BuildOutcome, BuildResult, KeptBuild, Packages, PhaseTime, ResultFile};
use super::print::{print_line, print_text};
use super::text::result_lines;
use crate::exit_code::Result;

/// Returns the report on `run`.
pub(crate) fn report(run: &Run, plan: &Plan) -> BuildResult {
    let phases = run.phases.iter().map(|(phase, time)| PhaseTime {
        phase: phase.name().to_owned(),
        seconds: time.as_secs_f64(),
    });
    BuildResult {
        outcome: match &run.outcome {
            Outcome::Built(files) => BuildOutcome::Built {
                files: files.iter().map(result_file).collect(),
            },
            Outcome::Failed(failure) => failed(failure, plan),
        },
        seconds: run.total.as_secs_f64(),
        phases: phases.collect(),
        peak_memory_bytes: run.peak_memory,
        packages: run.packages.map(|packages| Packages {
            from_cache_bytes: packages.from_cache,
            from_network_bytes: packages.from_network,
        }),
        not_in_cache: run
            .absent
            .iter()
            .map(|address| secret::redact(address).into_owned())
            .collect(),
    }
}

/// Prints a report for people: results on standard output, a failure on standard error.
pub(crate) fn print_report(result: &BuildResult) -> Result<()> {
    let lines = result_lines(result);
    match &result.outcome {
        BuildOutcome::Built { .. } => print_text(&(lines.join("\n") + "\n")),
        BuildOutcome::Failed { .. } => {
            lines.iter().for_each(|line| print_line(line));
            Ok(())
        }
    }
}

fn result_file(file: &output_dir::ResultFile) -> ResultFile {
    ResultFile {
        path: lossy(&file.path),
        bytes: file.bytes,
        sha256: file.sha256.clone(),
    }
}

fn failed(failure: &Failure, plan: &Plan) -> BuildOutcome {
    let kept = failure.kept.as_ref().map(|kept| KeptBuild {
        id: kept.id.clone(),
        bytes: kept.bytes,
        resumable: kept.resumable,
    });
    BuildOutcome::Failed {
        reason: failure.reason.word().to_owned(),
        phase: failure.phase.map(|phase| phase.name().to_owned()),
        message: redacted(&failure.reason.to_string()),
        // kiwi logs the addresses of its repositories.
        last_lines: failure
            .last_lines
            .iter()
            .map(|line| redacted(line))
            .collect(),
        log: failure.log.as_deref().map(lossy),
        kept,
        hint: hint(&failure.reason, &failure.last_lines, plan),
    }
}

/// Returns what may help after a failure that kiwi did not explain.
fn hint(reason: &Reason, last_lines: &[String], plan: &Plan) -> Option<String> {
    match reason {
        Reason::Kiwi(_)
            if plan.runs_as == RunsAs::Container(Mode::Rootless)
                && last_lines.iter().any(|line| is_unknown_owner(line)) =>
        {
            Some(String::from(
                "a rootless container has only the user and group ids of /etc/subuid and /etc/subgid \
                 (mostly 0 to 65535): files of other owners can be made with --container alone, and in \
                 a virtual machine",
            ))
        }
        Reason::EarlyPowerOff
        | Reason::Hung(_)
        | Reason::Panic(_)
        | Reason::Reset
        | Reason::TripleFault(_) => Some(format!(
            "--verbose shows the whole console of the box; if the box ran out of memory, give it \
             more than {} MiB with --box-memory",
            plan.memory_mib
        )),
        _ => None,
    }
}

/// Whether a line tells that a file could not be given to an owner: the kernel's word for an id that is
/// not mapped (user_namespaces(7)) is EINVAL.
fn is_unknown_owner(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("invalid argument")
        && [
            "chown",
            "chgrp",
            "ownership",
            "changing owner",
            "changing group",
        ]
        .iter()
        .any(|word| line.contains(word))
}

fn redacted(text: &str) -> String {
    secret::redact(text).into_owned()
}

fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_a_rootless_container_lacks_is_recognised() {
        for line in [
            "tar: ./x: Cannot change ownership to uid 100000, gid 100000: Invalid argument",
            "chown: changing ownership of '/x': Invalid argument",
            "rsync: [generator] chown \"/x\" failed: Invalid argument (22)",
        ] {
            assert!(is_unknown_owner(line), "{line}");
        }
        assert!(!is_unknown_owner("chown: invalid user: 'tux'"));
        assert!(!is_unknown_owner("mount: Invalid argument"));
    }
}
