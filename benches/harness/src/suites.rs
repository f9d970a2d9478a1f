//! What is measured side by side. Most suites are programs of their own under `benches/`, which
//! take turns between the sides; this file starts them and reads their results.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::boot::{Options, TOGETHER};
use crate::environment::{find, output, peer};
use crate::report::{Absent, Row, Side};
use crate::whole_build::{self, VIRTIOFSD};

/// The results of a suite.
#[derive(Debug, Default)]
pub struct SuiteResult {
    /// What was measured.
    pub rows: Vec<Row>,
    /// What was not.
    pub absent: Vec<Absent>,
}

impl SuiteResult {
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
pub const NAMES: [&str; 6] = ["boot", "scale", "share", "block", "net", "build"];

/// Runs one of [`NAMES`].
///
/// # Errors
/// If what is there does not work; what is not there is in [`SuiteResult::absent`].
pub fn run(name: &str, settings: &Settings<'_>) -> Result<SuiteResult> {
    match name {
        "boot" => boot(settings),
        "scale" => scale(settings),
        "share" => share(settings),
        "block" => block(settings),
        "net" => net(settings),
        "build" => build(settings),
        _ => bail!("no suite {name:?} ({})", NAMES.join(", ")),
    }
}

/// What is booted, our row of [`crate::boot`], and the rows of peers on the same kernel file.
type Boot = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);
const BOOTS: [Boot; 3] = [
    (
        "vmlinux, exec to the guest's first line",
        "elf",
        &[
            (MICROVM, "microvm-elf"),
            (FIRECRACKER, "fc-elf"),
            (CLOUD_HYPERVISOR, "ch-elf"),
        ],
    ),
    (
        "bzImage, exec to the guest's first line",
        "bz",
        &[
            (MICROVM, "microvm-bz"),
            ("QEMU q35", "q35-bz"),
            (FIRECRACKER, "fc-bz"),
            (CLOUD_HYPERVISOR, "ch-bz"),
        ],
    ),
    (
        "vmlinux, no crypto self-tests, plain ramdisk, exec to the guest's first line",
        "levers",
        &[
            (MICROVM, "microvm-levers"),
            (FIRECRACKER, "fc-levers"),
            (CLOUD_HYPERVISOR, "ch-levers"),
        ],
    ),
];
const MICROVM: &str = "QEMU microvm";
const FIRECRACKER: &str = "firecracker";
const CLOUD_HYPERVISOR: &str = "cloud-hypervisor";

/// Peers that are not in distributions, and the variable that names each one's program.
pub const BY_VARIABLE: [(&str, &str); 2] = [
    (FIRECRACKER, "FIRECRACKER"),
    (CLOUD_HYPERVISOR, "CLOUD_HYPERVISOR"),
];

fn boot(settings: &Settings<'_>) -> Result<SuiteResult> {
    let mut found = SuiteResult::default();
    let lab = settings.repository.join("tests/lab/lab");
    if let Err(error) = output(Command::new(lab).arg("--check")) {
        found.without("boot", format!("the lab cannot be used here: {error}"));
        return Ok(found);
    }
    let mut missing = Vec::new();
    for (name, variable) in BY_VARIABLE {
        if peer(variable, name).is_none() {
            missing.push(name);
            let reason = format!("not installed: neither in PATH nor named by {variable}");
            found.without(name, reason);
        }
    }
    let here = |(who, _): &&(&str, &str)| !missing.contains(who);
    let (mut text, mut errors) = (String::new(), String::new());
    // A counted machine dies now and then (docs/lab.md, "Traps"): one for each kernel, and what has no
    // figure has another try.
    for (_, ours, peers) in BOOTS.iter().chain(&BOOTS) {
        let rows = peers.iter().filter(here).map(|(_, row)| row);
        let mut wanted: Vec<_> = std::iter::once(ours).chain(rows).collect();
        wanted.retain(|row| first_line(&text, row).is_none());
        if wanted.is_empty() {
            continue;
        }
        let mut lab = Options::times_of(wanted).prepare(settings.repository)?;
        // A row that does not come up ends with an error; the others are printed all the same.
        let result = lab.command.output().context("cannot start the lab")?;
        text += &String::from_utf8_lossy(&result.stdout);
        errors += &String::from_utf8_lossy(&result.stderr);
    }
    for (name, ours, peers) in BOOTS {
        let Some(own) = first_line(&text, ours) else {
            let reason = why(&errors, ours);
            found.without(&format!("boot: {name}"), format!("no figure: {reason}"));
            continue;
        };
        let mut sides = vec![Side::once("boxbuild", own)];
        for (who, row) in peers.iter().filter(here) {
            match first_line(&text, row) {
                Some(time) => sides.push(Side::once(who, time)),
                None => found.without(&format!("{who}, {name}"), "its guest printed nothing"),
            }
        }
        let unit = ("million instructions", false);
        found.rows.push(Row::new("boot", name, unit, &sides));
    }
    Ok(found)
}

/// Who is run several times at once, and its row of [`crate::boot`]: all on the same bzImage.
const AT_ONCE: [(&str, &str); 4] = [
    ("boxbuild", "bz"),
    (MICROVM, "microvm-bz"),
    (FIRECRACKER, "fc-bz"),
    (CLOUD_HYPERVISOR, "ch-bz"),
];

/// Figures of several machines at once: what, its unit, and what stands before the number in a line.
const OF_SCALE: [(&str, &str, &str); 3] = [
    (
        "to the last one's first line",
        "million instructions",
        "init ",
    ),
    ("private memory beside the guests", "KiB", "private dirty "),
    ("growth of the page cache", "KiB", "page cache grew by "),
];

fn scale(settings: &Settings<'_>) -> Result<SuiteResult> {
    let mut found = SuiteResult::default();
    let lab = settings.repository.join("tests/lab/lab");
    if let Err(error) = output(Command::new(lab).arg("--check")) {
        found.without("scale", format!("the lab cannot be used here: {error}"));
        return Ok(found);
    }
    let mut texts = Vec::new();
    for (who, row) in AT_ONCE {
        let variable = BY_VARIABLE.iter().find(|(name, _)| *name == who);
        if let Some((name, variable)) = variable
            && peer(variable, name).is_none()
        {
            let reason = format!("not installed: neither in PATH nor named by {variable}");
            found.without(&format!("scale: {who}"), reason);
            continue;
        }
        let mut lab = Options::together_of([row]).prepare(settings.repository)?;
        let result = lab.command.output().context("cannot start the lab")?;
        let text = String::from_utf8_lossy(&result.stdout).into_owned();
        if at_once(&text, row, 1, OF_SCALE[0].2).is_none() {
            let errors = String::from_utf8_lossy(&result.stderr);
            let reason = format!("no figure: {}", why(&errors, row));
            found.without(&format!("scale: {who}"), reason);
            continue;
        }
        texts.push((who, row, text));
    }
    for (what, unit, before) in OF_SCALE {
        for count in TOGETHER {
            let sides: Vec<_> = texts
                .iter()
                .filter_map(|(who, row, text)| {
                    Some(Side::once(who, at_once(text, row, count, before)?))
                })
                .collect();
            if sides.first().is_some_and(|side| side.who == "boxbuild") {
                let name = format!("{count} at once, {what}");
                let row = Row::new("scale", &name, (unit, false), &sides);
                found.rows.push(row);
            }
        }
    }
    Ok(found)
}

/// The number behind `before` in the line of `count` machines of `row`.
fn at_once(text: &str, row: &str, count: usize, before: &str) -> Option<f64> {
    let start = format!("{row}: {count} at once: ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start))?;
    let (_, rest) = line.split_once(before)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    rest[..end].parse().ok()
}

/// Returns the last error of `row`, or else the last one of all.
fn why<'a>(errors: &'a str, row: &str) -> &'a str {
    let start = format!("{row}: ");
    let mut of_it = errors.lines().filter(|line| line.starts_with(&start));
    of_it
        .next_back()
        .or(errors.lines().next_back())
        .unwrap_or_default()
}

/// `init` of the line of `row`, in virtual milliseconds.
fn first_line(text: &str, row: &str) -> Option<f64> {
    let start = format!("{row}: ");
    let of_it = text.lines().filter_map(|line| line.strip_prefix(&start));
    let mut values = of_it.filter_map(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| *word == "init")?;
        words.next()?.parse::<f64>().ok()
    });
    values.find(|value| *value > 0.0)
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

/// The Rust virtiofsd, where docs/benchmarks.md has it installed or in `PATH`.
pub fn virtiofsd(repository: &Path) -> Option<PathBuf> {
    let tool = repository.join("target/tools/bin/virtiofsd");
    Some(tool)
        .filter(|path| path.exists())
        .or_else(|| find("virtiofsd"))
}

fn share(settings: &Settings<'_>) -> Result<SuiteResult> {
    let mut found = SuiteResult::default();
    let peer = virtiofsd(settings.repository);
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
        let sides: Result<Vec<_>> = entries.iter().map(side).collect();
        let name = row["workload"].as_str().context("workload")?;
        let unit = format!("{}/s", row["unit"].as_str().context("unit")?);
        found
            .rows
            .push(Row::new("share", name, (&unit, true), &sides?));
    }
    Ok(found)
}

/// One server of a row, as benches/virtiofs and benches/net tell it.
fn side(entry: &Value) -> Result<Side<'_>> {
    let number = |value: &Value| value.as_f64();
    let range = &entry["ratio_range"];
    let ratios = || {
        Some([
            number(&entry["ratio_rate"])?,
            number(&range[0])?,
            number(&range[1])?,
        ])
    };
    Ok(Side {
        who: entry["server"].as_str().context("server")?,
        median: number(&entry["rate"]["median"]).context("median")?,
        spread_percent: number(&entry["rate"]["spread_percent"]),
        ratios: ratios(),
    })
}

fn net(settings: &Settings<'_>) -> Result<SuiteResult> {
    let mut found = SuiteResult::default();
    let program = settings
        .repository
        .join("target/release/boxbuild-bench-net");
    let rounds = settings.rounds.to_string();
    let result = with_json(&program, &["--rounds", &rounds])?;
    for skipped in result["skipped"].as_array().context("no list of skipped")? {
        let text = |name: &str| skipped[name].as_str().unwrap_or_default();
        found.without(&format!("net: {}", text("what")), text("reason"));
    }
    for row in result["rows"].as_array().context("no rows")? {
        let entries = row["entries"].as_array().context("no entries")?;
        let sides: Result<Vec<_>> = entries.iter().map(side).collect();
        let name = row["workload"].as_str().context("workload")?;
        let unit = row["unit"].as_str().context("unit")?;
        found
            .rows
            .push(Row::new("net", name, (unit, true), &sides?));
    }
    Ok(found)
}

fn block(settings: &Settings<'_>) -> Result<SuiteResult> {
    let mut found = SuiteResult::default();
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
        let side = |key: &str, who: &'static str| -> Result<Side<'_>> {
            Ok(Side {
                spread_percent: row[key]["spread_percent"].as_f64(),
                ..Side::once(who, row[key]["median"].as_f64().context("median")?)
            })
        };
        let range = &row["ratio_range"];
        let ratios = [&row["ratio"], &range[0], &range[1]];
        let sides = [
            side("boxbuild", "boxbuild")?,
            Side {
                ratios: Some(ratios.map(|ratio| ratio.as_f64().unwrap_or(f64::NAN))),
                ..side("qemu", "qemu-storage-daemon")?
            },
        ];
        let name = row["workload"].as_str().context("workload")?;
        found
            .rows
            .push(Row::new("block", name, ("MB/s", true), &sides));
    }
    Ok(found)
}

fn build(settings: &Settings<'_>) -> Result<SuiteResult> {
    let mut found = SuiteResult::default();
    let Some(kiwi) = settings.kiwi.as_deref().and_then(find) else {
        found.without(
            "kiwi-ng system boxbuild",
            "whole builds take half an hour under emulation: --kiwi PROGRAM asks for them",
        );
        return Ok(found);
    };
    if !Path::new(VIRTIOFSD).exists() {
        let reason = format!("it finds no {VIRTIOFSD} (cargo install virtiofsd)");
        found.without("kiwi-ng system boxbuild", reason);
        return Ok(found);
    }
    let options = whole_build::Options::once(&kiwi, &settings.box_name);
    let times = whole_build::run(settings.repository, &options)?;
    let sides = [
        Side::once("boxbuild", times.boxbuild[0]),
        Side::once("kiwi-ng system boxbuild", times.peer[0]),
    ];
    let row = Row::new("build", "tests/descriptions/mini", ("s", false), &sides);
    found.rows.push(row);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_and_without_ratios_of_rounds() -> Result<()> {
        let mut entry = serde_json::json!({
            "server": "pasta",
            "rate": { "median": 3.5, "spread_percent": 20.0 },
            "ratio_rate": 1.5,
        });
        assert_eq!(side(&entry)?.ratios, None);
        entry["ratio_range"] = serde_json::json!([0.5, 2.5]);
        assert_eq!(side(&entry)?.ratios, Some([1.5, 0.5, 2.5]));
        entry["rate"]["median"] = Value::Null;
        assert!(side(&entry).is_err());
        Ok(())
    }

    #[test]
    fn figures_of_several_at_once_are_found() {
        let text = "bz: 4 at once: init 5600.5; memory beyond the guests: private dirty 7888 KiB; \
                    guests 90000 KiB; page cache grew by 12 KiB\n";
        let figures = OF_SCALE.map(|(.., before)| at_once(text, "bz", 4, before));
        assert_eq!(figures, [Some(5600.5), Some(7888.0), Some(12.0)]);
        assert_eq!(at_once(text, "bz", 8, "init "), None);
    }

    #[test]
    fn the_first_line_of_a_row_is_found() {
        let text = "elf: entry 52.5 init 1386.0 guest-uptime 1269.8 exit 1413.1\n\
                    microvm-elf: entry 3.0 init -1.0 guest-uptime  exit 264.0\n";
        assert_eq!(first_line(text, "elf"), Some(1386.0));
        assert_eq!(first_line(text, "microvm-elf"), None);
        assert_eq!(first_line(text, "bz"), None);
        let again =
            format!("{text}microvm-elf: entry 3.0 init 1464.0 guest-uptime 1267.3 exit 1528.0\n");
        assert_eq!(first_line(&again, "microvm-elf"), Some(1464.0));
        let errors = "bz: no end\nqemu: something\n";
        assert_eq!(
            (why(errors, "bz"), why(errors, "elf")),
            ("bz: no end", "qemu: something")
        );
    }
}
