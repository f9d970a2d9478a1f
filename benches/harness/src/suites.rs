//! What is measured side by side. Each suite is a program of its own under `benches/`, which
//! takes turns between the sides; here they are started, and their results read.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::environment::{find, output};
use crate::report::{Absent, Row};

/// What a suite found.
#[derive(Debug, Default)]
pub struct Found {
    /// What was measured.
    pub rows: Vec<Row>,
    /// What was not.
    pub absent: Vec<Absent>,
}

impl Found {
    fn without(&mut self, what: &str, reason: impl Into<String>) {
        self.absent.push(Absent {
            what: what.to_owned(),
            reason: reason.into(),
        });
    }
}

/// How a suite is run.
#[derive(Debug, Clone)]
pub struct Settings<'a> {
    /// Where the programs are.
    pub repository: &'a Path,
    /// Rounds of each workload.
    pub rounds: usize,
    /// kiwi's own program, for whole builds.
    pub kiwi: Option<String>,
    /// The box to build in.
    pub box_name: String,
}

/// Names of the suites, in the order in which they run.
pub const NAMES: [&str; 4] = ["boot", "share", "block", "build"];

/// Runs one of [`NAMES`].
///
/// # Errors
/// If what is there does not work; what is not there is in [`Found::absent`].
pub fn run(name: &str, settings: &Settings<'_>) -> Result<Found> {
    match name {
        "boot" => boot(settings),
        "share" => share(settings),
        "block" => block(settings),
        "build" => build(settings),
        _ => bail!("no suite {name:?} ({})", NAMES.join(", ")),
    }
}

/// What is booted, our row of benches/boot/run, and the rows of peers on the same kernel file.
type Boot = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);
const BOOTS: [Boot; 2] = [
    (
        "vmlinux, exec to the guest's first line",
        "elf",
        &[("QEMU microvm", "microvm-elf")],
    ),
    (
        "bzImage, exec to the guest's first line",
        "bz",
        &[("QEMU microvm", "microvm-bz"), ("QEMU q35", "q35-bz")],
    ),
];

fn boot(settings: &Settings<'_>) -> Result<Found> {
    let mut found = Found::default();
    let lab = settings.repository.join("tests/lab/lab");
    if let Err(error) = output(Command::new(lab).arg("--check")) {
        found.without("boot", format!("the lab cannot be used here: {error}"));
        return Ok(found);
    }
    for peer in ["firecracker", "cloud-hypervisor"] {
        let reason = match find(peer) {
            None => "not installed",
            Some(_) => "benches/boot/run has no row for it",
        };
        found.without(peer, reason);
    }
    let mut wanted = Vec::new();
    for (_, ours, peers) in BOOTS {
        wanted.push(ours);
        wanted.extend(peers.iter().map(|(_, row)| *row));
    }
    let mut command = Command::new(settings.repository.join("benches/boot/run"));
    // A row that does not come up ends with an error; the others are told all the same.
    let result = command
        .args(wanted)
        .env("TIMES_ONLY", "1")
        .output()
        .context("cannot start benches/boot/run")?;
    let text = String::from_utf8_lossy(&result.stdout);
    for (name, ours, peers) in BOOTS {
        let Some(own) = first_line(&text, ours) else {
            let said = String::from_utf8_lossy(&result.stderr);
            let said = said.lines().last().unwrap_or_default();
            found.without(&format!("boot: {name}"), format!("no figure: {said}"));
            continue;
        };
        let mut figures = vec![("boxbuild", own, None)];
        for (peer, row) in peers {
            match first_line(&text, row) {
                Some(time) => figures.push((*peer, time, None)),
                None => found.without(&format!("{peer}, {name}"), "its guest said nothing"),
            }
        }
        let unit = ("million instructions", false);
        found.rows.push(Row::new("boot", name, unit, &figures));
    }
    Ok(found)
}

/// `init` of the line of `row`, in virtual milliseconds.
fn first_line(text: &str, row: &str) -> Option<f64> {
    let start = format!("{row}: ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "init")?;
    let value: f64 = words.next()?.parse().ok()?;
    Some(value).filter(|value| *value > 0.0)
}

/// Runs a program that writes its results into the file that `--json` names.
fn with_json(program: &Path, arguments: &[&str]) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("result.json");
    let mut command = Command::new(program);
    let status = command.args(arguments).arg("--json").arg(&file).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    Ok(serde_json::from_slice(&std::fs::read(&file)?)?)
}

fn share(settings: &Settings<'_>) -> Result<Found> {
    let mut found = Found::default();
    let tool = settings.repository.join("target/tools/bin/virtiofsd");
    let peer = Some(tool)
        .filter(|path| path.exists())
        .or_else(|| find("virtiofsd"));
    let rounds = settings.rounds.to_string();
    let mut arguments = vec!["--rounds", &rounds];
    let path = peer.as_ref().map(|path| path.display().to_string());
    match &path {
        Some(path) => arguments.extend(["--virtiofsd", path]),
        None => found.without("virtiofsd", "not installed (docs/benchmarks.md says how)"),
    }
    let program = settings
        .repository
        .join("target/release/boxbuild-bench-virtiofs");
    let result = with_json(&program, &arguments)?;
    for row in result["rows"].as_array().context("no rows")? {
        let entries = row["entries"].as_array().context("no entries")?;
        let mut figures = Vec::new();
        for entry in entries {
            figures.push((
                entry["server"].as_str().context("server")?,
                entry["rate"]["median"].as_f64().context("median")?,
                entry["rate"]["spread_percent"].as_f64(),
            ));
        }
        let name = row["workload"].as_str().context("workload")?;
        let unit = format!("{}/s", row["unit"].as_str().context("unit")?);
        found
            .rows
            .push(Row::new("share", name, (&unit, true), &figures));
    }
    Ok(found)
}

fn block(settings: &Settings<'_>) -> Result<Found> {
    let mut found = Found::default();
    for program in ["qemu-img", "qemu-storage-daemon"] {
        if find(program).is_none() {
            found.without("block", format!("{program} is not installed"));
            return Ok(found);
        }
    }
    let program = settings
        .repository
        .join("target/release/boxbuild-bench-block");
    let rounds = settings.rounds.to_string();
    let result = with_json(&program, &["--rounds", &rounds, "--mib", "128"])?;
    for row in result.as_array().context("no rows")? {
        let figure = |side: &str| -> Result<(f64, Option<f64>)> {
            let median = row[side]["median"].as_f64().context("median")?;
            Ok((median, row[side]["spread_percent"].as_f64()))
        };
        let (ours, peer) = (figure("boxbuild")?, figure("qemu")?);
        let name = row["workload"].as_str().context("workload")?;
        let figures = [
            ("boxbuild", ours.0, ours.1),
            ("qemu-storage-daemon", peer.0, peer.1),
        ];
        found
            .rows
            .push(Row::new("block", name, ("MB/s", true), &figures));
    }
    Ok(found)
}

fn build(settings: &Settings<'_>) -> Result<Found> {
    let mut found = Found::default();
    let Some(kiwi) = settings.kiwi.as_deref().and_then(find) else {
        found.without(
            "kiwi-ng system boxbuild",
            "whole builds take half an hour under emulation: --kiwi PROGRAM asks for them",
        );
        return Ok(found);
    };
    let boxbuild = settings.repository.join("target/release/boxbuild");
    let mut command = Command::new(settings.repository.join("benches/whole-build"));
    let text = output(
        command
            .arg(&boxbuild)
            .arg(&kiwi)
            .args([&settings.box_name, "1"]),
    )?;
    let time = |who: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(who));
        let line = line.with_context(|| format!("{who} has no time in {text:?}"))?;
        Ok(line.trim().trim_end_matches('s').trim().parse()?)
    };
    let figures = [
        ("boxbuild", time("boxbuild ")?, None),
        ("kiwi-ng system boxbuild", time("peer ")?, None),
    ];
    let row = Row::new("build", "tests/descriptions/mini", ("s", false), &figures);
    found.rows.push(row);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_row_is_found() {
        let text = "elf: entry 52.5 init 1386.0 guest-uptime 1269.8 exit 1413.1\n\
                    microvm-elf: entry 3.0 init -1.0 guest-uptime  exit 264.0\n";
        assert_eq!(first_line(text, "elf"), Some(1386.0));
        assert_eq!(first_line(text, "microvm-elf"), None);
        assert_eq!(first_line(text, "bz"), None);
    }
}
