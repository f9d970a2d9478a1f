//! What a machine costs its host, in the lab's counting mode: system calls, exits, memory beside the
//! guest's (docs/SPECIFICATION.md).

use std::path::Path;

use anyhow::{Context, Result};

use super::Counts;
use crate::boot::Options;
use crate::environment::output;

/// Rows of [`crate::boot`]: console, random numbers and balloon; with a disk, two shares and a network.
const ROWS: [&str; 2] = ["elf", "box-elf"];

/// A figure: its name, how its line begins, and what stands before the number in the rest of it.
const FIGURES: [(&str, &str, &str); 5] = [
    ("system calls to the first entry", "elf: ", ""),
    (
        "system calls to the first entry, all devices",
        "box-elf: ",
        "",
    ),
    ("exits of a boot", "elf: kvm_exit ", ""),
    (
        "exits of a boot to user space",
        "elf: kvm_userspace_exit ",
        "",
    ),
    (
        "private memory beside an idle guest in KiB, all devices",
        "box-elf-memory: memory beyond the guest: ",
        "private dirty ",
    ),
];

/// Ends the lines of the first two.
const SYSTEM_CALLS: &str = " system calls from exec to the first entry";

pub(super) fn count(repository: &Path) -> Result<Counts> {
    let mut lab = Options::all_of(ROWS).prepare(repository)?;
    let text = output(&mut lab.command)?;
    parse(&text).with_context(|| format!("the lab printed {text:?}"))
}

fn parse(text: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for (name, start, before) in FIGURES {
        let number = text.lines().find_map(|line| {
            let rest = line.strip_prefix(start)?;
            let (_, rest) = rest.split_once(before)?;
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (number, rest) = rest.split_at(end);
            // Rows have other lines that begin like these.
            let fits = !start.ends_with("elf: ") || rest == SYSTEM_CALLS;
            fits.then(|| number.parse::<u64>().ok()).flatten()
        });
        counts.insert(
            name.to_owned(),
            number.with_context(|| format!("no {name}"))?,
        );
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read() {
        let text = "elf: entry 42.5 init 1376.0 guest-uptime 1261.7 exit 1401.1\n\
                    elf: kvm_exit 2754: 30 x 900, 48 x 800\n\
                    elf: kvm_userspace_exit 413: 2 x 400\n\
                    elf: 126 system calls from exec to the first entry\n   1.0 ms at 2: NR 1\n\
                    box-elf: entry 42.5 init 1376.0 guest-uptime 1261.7 exit 1401.1\n\
                    box-elf: 143 system calls from exec to the first entry\n\
                    box-elf-memory: memory beyond the guest: rss 9000 KiB, private dirty 1972 KiB; guest 5 KiB\n";
        let counts = parse(text).unwrap();
        let values: Vec<u64> = FIGURES.iter().map(|(name, ..)| counts[*name]).collect();
        assert_eq!(values, [126, 143, 2754, 413, 1972]);
        assert!(parse("elf: entry 42.5\n").is_err());
    }
}
