//! The hot paths under callgrind.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Counts;
use crate::environment::{self, Versions, output};

/// Rounds of the two runs; what both have in common (start, set-up, warming up) is not counted.
const FEW: u64 = 50;
const MANY: u64 = 250;

pub(super) fn environment() -> Result<Versions, String> {
    let valgrind = environment::first_line("valgrind", &["--version"])
        .ok_or("valgrind is not installed (package valgrind)")?;
    let rustc = environment::rustc().map_err(|error| error.to_string())?;
    Ok([
        ("rustc", rustc),
        ("valgrind", valgrind),
        ("libc", environment::libc()),
        // The emulated processor has what the host's has.
        ("processor", environment::cpu_level()),
    ]
    .map(|(name, version)| (name.to_owned(), version))
    .into())
}

pub(super) fn count(repository: &Path) -> Result<Counts> {
    let program = repository.join("target/release/boxbuild-bench-paths");
    let names = output(&mut Command::new(&program))?;
    let mut counts = Counts::new();
    for name in names.lines() {
        let few = instructions(&program, name, FEW)?;
        let many = instructions(&program, name, MANY)?;
        let count = many.saturating_sub(few) / (MANY - FEW);
        counts.insert(name.to_owned(), count);
    }
    Ok(counts)
}

/// Instructions of the whole process.
fn instructions(program: &Path, name: &str, rounds: u64) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("callgrind.out");
    output(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", file.display()))
            .arg(program)
            .args([name, &rounds.to_string()]),
    )
    .with_context(|| name.to_owned())?;
    let text = std::fs::read_to_string(&file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
    let total = total.context("callgrind wrote no total")?;
    Ok(total.trim().parse()?)
}
