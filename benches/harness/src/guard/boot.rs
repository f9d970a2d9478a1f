//! The boot in the lab's counting mode: the row "elf" of [`crate::boot`].

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Counts;
use crate::boot::Options;
use crate::environment::{self, Versions, output};

/// The row, and what is counted of it: how its line calls it, and how we do.
const ROW: &str = "elf";
const FIGURES: [(&str, &str); 3] = [
    ("entry", "exec to the first entry into the guest"),
    ("init", "exec to the guest's first line"),
    ("exit", "exec to the end"),
];

pub(super) fn environment(repository: &Path) -> Result<Versions, String> {
    let lab = output(Command::new(repository.join("tests/lab/lab")).arg("--check"));
    lab.map_err(|error| format!("the lab cannot be used here: {error}"))?;
    let kernel = kernel(repository).map_err(|error| format!("{error:#}"))?;
    let version = |program: &str, argument: &str| {
        environment::first_line(program, &[argument])
            .ok_or_else(|| format!("{program} cannot be run"))
    };
    Ok([
        ("kernel", kernel),
        ("qemu", version("qemu-system-x86_64", "--version")?),
        (
            "rustc",
            environment::rustc().map_err(|error| error.to_string())?,
        ),
        ("busybox", version("busybox", "--help")?),
        ("libc", environment::libc()),
    ]
    .map(|(name, version)| (name.to_owned(), version))
    .into())
}

/// Version of the kernel package that is both the lab's and the guest's.
fn kernel(repository: &Path) -> Result<String> {
    let mut command = Command::new(repository.join("tests/lab/lab"));
    let folder = output(command.args(["kernel", "bookworm", "cloud-amd64"]))?;
    let file = Path::new(folder.trim()).join("version");
    let version = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(version.trim().to_owned())
}

pub(super) fn count(repository: &Path) -> Result<Counts> {
    let mut lab = Options::times_of([ROW]).prepare(repository)?;
    let text = output(&mut lab.command)?;
    parse(&text).with_context(|| format!("the lab printed {text:?}"))
}

/// Reads `elf: entry 38.5 init 1363.9 guest-uptime 1261.7 exit 1389.1`: virtual milliseconds,
/// each a million instructions.
fn parse(text: &str) -> Result<Counts> {
    let start = format!("{ROW}: ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    let words: Vec<&str> = line.context("no such row")?.split_whitespace().collect();
    let mut counts = Counts::new();
    for (word, name) in FIGURES {
        let at = words.iter().position(|known| *known == word);
        let value = at.and_then(|at| words.get(at + 1)).context(word)?;
        let thousands = value.parse::<f64>()? * 1e3;
        anyhow::ensure!(thousands > 0.0, "{name} was not reached");
        counts.insert(name.to_owned(), thousands as u64);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read() {
        let text = "bz: entry 1\nelf: entry 38.5 init 1363.9 guest-uptime 1261.7 exit 1389.1\n";
        let counts = parse(text).unwrap();
        assert_eq!(counts["exec to the guest's first line"], 1_363_900);
        assert!(parse("elf: entry 38.5 init -1.0 guest-uptime  exit 30").is_err());
        assert!(parse("nothing").is_err());
    }
}
