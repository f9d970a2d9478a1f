//! The hot paths in the lab's counting mode.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Counts;
use crate::environment::output;

pub(super) fn count(repository: &Path) -> Result<Counts> {
    let program = repository.join("target/release/boxbuild-workloads");
    // The network's paths connect to the machine itself.
    let script = format!("ip link set lo up && exec {} --count", program.display());
    let text = output(
        Command::new(repository.join("tests/lab/lab"))
            .args(["--count", "--timeout", "900", "--file"])
            .arg(&program)
            .args(["--", "/bin/sh", "-c", &script]),
    )?;
    parse(&text).with_context(|| format!("the lab printed {text:?}"))
}

/// Reads lines of a name and a count.
fn parse(text: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in text.lines() {
        let (name, count) = line.split_once(' ').context("no count")?;
        counts.insert(
            name.to_owned(),
            count.trim().parse().context(line.to_owned())?,
        );
    }
    ensure!(!counts.is_empty(), "nothing was counted");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let counts = parse("fuse/getattr 1234\nblock/read-4k 99\n").unwrap();
        assert_eq!(counts["fuse/getattr"], 1234);
        assert!(parse("").is_err() && parse("nonsense").is_err());
    }
}
