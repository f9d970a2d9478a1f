//! Compares instruction counts with the committed baseline: `make guard`, part of `make test`.
//!
//!     boxbuild-guard [paths] [boot] [machine]            compare
//!     boxbuild-guard --update [paths] [boot] [machine]   take what is counted now as the baseline

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use boxbuild_bench::environment::repository;
use boxbuild_bench::guard::{Baseline, Change, GuardedPart, LIMIT, judge};
use clap::Parser;

/// Compares instruction counts with the committed baseline.
#[derive(Debug, Parser)]
struct Options {
    /// Write the counts into the baseline instead of comparing
    #[arg(long)]
    update: bool,
    /// The baseline [default: benches/baseline.json]
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// What to count: paths, boot, machine [default: all]
    parts: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("guard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    let repository = repository()?;
    let file = match &options.baseline {
        Some(file) => file.clone(),
        None => repository.join("benches/baseline.json"),
    };
    for name in &options.parts {
        if !GuardedPart::ALL.iter().any(|part| part.name() == name) {
            bail!("no part {name:?} (paths, boot, machine)");
        }
    }
    let mut good = true;
    for part in GuardedPart::ALL {
        let wanted = options.parts.is_empty() || options.parts.iter().any(|n| n == part.name());
        if wanted {
            good &= if options.update {
                update(part, &repository, &file)?
            } else {
                compare(part, &repository, &file)?
            };
        }
    }
    Ok(good)
}

fn update(part: GuardedPart, repository: &Path, file: &Path) -> Result<bool> {
    let environment = match part.environment(repository) {
        Ok(environment) => environment,
        Err(reason) => bail!("the {} cannot be counted here: {reason}", part.name()),
    };
    let counts = part.count(repository)?;
    let mut baseline = Baseline::read(file)?;
    if let Some(before) = baseline.get(part.name()) {
        print(part, &judge(before, &environment, &counts).changes);
    }
    baseline.set(part.name(), environment, counts);
    baseline.write(file)?;
    println!("{}: written to {}", part.name(), file.display());
    Ok(true)
}

/// Returns whether nothing is worse.
fn compare(part: GuardedPart, repository: &Path, file: &Path) -> Result<bool> {
    let skipped = |reason: &str| {
        println!("skipped: regression guard, {}: {reason}", part.name());
        Ok(true)
    };
    let Some(baseline) = Baseline::read(file)?.get(part.name()).cloned() else {
        return skipped("there is no baseline; make baseline");
    };
    let environment = match part.environment(repository) {
        Ok(environment) => environment,
        Err(reason) => return skipped(&reason),
    };
    let judged = judge(&baseline, &environment, &part.count(repository)?);
    print(part, &judged.changes);
    if !judged.differences.is_empty() {
        return skipped(&format!(
            "counts do not compare, {}",
            judged.differences.join("; ")
        ));
    }
    if judged.fails() {
        println!(
            "FAILED: more than {LIMIT} % worse than the baseline, or not in it. What costs the \
             instructions: docs/benchmarks.md, \"The regression guard\". If it is worth them: \
             make baseline"
        );
    } else if judged.changes.iter().any(Change::gains) {
        println!("better than the baseline: make baseline, so that it stays so");
    }
    Ok(!judged.fails())
}

fn print(part: GuardedPart, changes: &[Change]) {
    println!("{}: {}", part.name(), part.unit());
    let width = changes.iter().map(|change| change.name.len()).max();
    let width = width.unwrap_or_default();
    println!("  {:width$} {:>12} {:>12}", "", "baseline", "now");
    for change in changes {
        let figure = |value: Option<u64>| value.map_or(String::from("-"), |v| v.to_string());
        let percent = change.percent();
        println!(
            "{} {:width$} {:>12} {:>12} {}",
            if change.fails() { "!" } else { " " },
            change.name,
            figure(change.before),
            figure(change.now),
            percent.map_or(String::new(), |percent| format!("{percent:+8.2} %")),
        );
    }
}
