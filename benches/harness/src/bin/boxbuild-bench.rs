//! Measures boxbuild and its peers side by side, and writes a report: `make bench`.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use boxbuild_bench::environment::{Versions, cpu_level, first_line, libc, peer, repository, rustc};
use boxbuild_bench::report::{Absent, Report, compare, plot, table};
use boxbuild_bench::suites::{self, Settings};
use boxbuild_bench::{boot, fast_boot, package_cache, whole_build};
use clap::Parser;

/// Measures boxbuild and its peers side by side, in turn in one run.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    measure: Option<Measure>,
    /// Rounds of each workload
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Folder for report.md, report.json and report.svg [default: target/bench]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Build an image with this kiwi-ng, too (`system boxbuild`, KIWI 11 or newer)
    #[arg(long, value_name = "PROGRAM")]
    kiwi: Option<String>,
    /// The box for that
    #[arg(long = "box", default_value = "debian")]
    box_name: String,
    /// What to measure: boot, scale, share, block, net, build [default: all]
    suites: Vec<String>,
}

/// Only this, told line by line.
#[derive(Debug, clap::Subcommand)]
enum Measure {
    /// Count the boot of a stock kernel under boxbuild's machine and its peers
    CountBoot(boot::Options),
    /// Count a box's boot to kiwi's first line, by its own init and fast
    CountFastBoot(fast_boot::Options),
    /// Compare two reports of this program
    Compare {
        /// The earlier report.json
        before: PathBuf,
        /// The later one
        now: PathBuf,
    },
    /// Build from a mirror on a narrow line: from an empty cache of packages, and from a full one
    PackageCache(package_cache::Options),
    /// Time whole builds against kiwi's own `system boxbuild`
    WholeBuild(whole_build::Options),
}

impl Measure {
    fn run(&self, repository: &Path) -> Result<()> {
        match self {
            Measure::CountBoot(options) => {
                let mut lab = options.prepare(repository)?;
                let status = lab.command.status().context("cannot start the lab")?;
                if !status.success() {
                    bail!("the lab ended with {status}");
                }
                Ok(())
            }
            Measure::CountFastBoot(options) => fast_boot::run(repository, options),
            Measure::Compare { before, now } => {
                let read = |path: &PathBuf| {
                    let text = fs::read(path)
                        .with_context(|| format!("cannot read {}", path.display()))?;
                    serde_json::from_slice::<Report>(&text)
                        .with_context(|| format!("{} is not a report", path.display()))
                };
                print!("{}", compare(&read(before)?, &read(now)?));
                Ok(())
            }
            Measure::PackageCache(options) => package_cache::run(repository, options),
            Measure::WholeBuild(options) => whole_build::run(repository, options).map(|_| ()),
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(measure) = &options.measure {
        return measure.run(&repository()?);
    }
    if let Some(name) = options
        .suites
        .iter()
        .find(|name| !suites::NAMES.contains(&name.as_str()))
    {
        bail!("no suite {name:?} ({})", suites::NAMES.join(", "));
    }
    let repository = repository()?;
    let settings = Settings {
        repository: &repository,
        rounds: options.rounds.max(1),
        kiwi: options.kiwi.clone(),
        box_name: options.box_name.clone(),
    };
    let before = load();
    let mut report = Report {
        environment: environment(&repository),
        ..Report::default()
    };
    for name in suites::NAMES {
        if !options.suites.is_empty() && !options.suites.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("== {name}");
        // One suite that fails must not take the figures of the others away.
        match suites::run(name, &settings) {
            Ok(found) => {
                report.rows.extend(found.rows);
                report.absent.extend(found.absent);
            }
            Err(error) => report.absent.push(Absent {
                what: name.to_owned(),
                reason: format!("failed: {error:#}"),
            }),
        }
    }
    report.load = [before, load()];
    report.time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let out = options
        .out
        .unwrap_or_else(|| repository.join("target/bench"));
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let markdown = table(&report);
    let json = serde_json::to_string_pretty(&report)?;
    for (name, text) in [
        ("report.md", &markdown),
        ("report.json", &json),
        ("report.svg", &plot(&report)),
    ] {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print!("{markdown}");
    eprintln!("written: {}/report.{{md,json,svg}}", out.display());
    let failed = report
        .absent
        .iter()
        .find(|a| a.reason.starts_with("failed"));
    if let Some(failed) = failed {
        bail!("{}: {}", failed.what, failed.reason);
    }
    Ok(())
}

/// How many processes want a processor (proc_loadavg(5)).
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let word = text.split(' ').next().unwrap_or_default();
    word.parse().unwrap_or(0.0)
}

fn environment(repository: &Path) -> Versions {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let version = |program: &str| {
        first_line(program, &["--version"]).unwrap_or_else(|| String::from("not installed"))
    };
    let virtiofsd = suites::virtiofsd(repository)
        .and_then(|path| first_line(path, &["--version"]))
        .unwrap_or_else(|| String::from("not installed"));
    let named = |program: &str| {
        let peers = suites::BY_VARIABLE
            .iter()
            .find(|(name, _)| *name == program);
        let path = peers.and_then(|(name, variable)| peer(variable, name));
        path.and_then(|path| first_line(path, &["--version"]))
            .unwrap_or_else(|| String::from("not installed"))
    };
    let test_bed = if fs::metadata("/dev/kvm").is_ok() {
        "the lab (emulated; counts instructions) for the boot, this host for the rest; this host \
         has a /dev/kvm, which is not used"
    } else {
        "the lab (emulated; counts instructions) for the boot, this host for the rest; this host \
         has no /dev/kvm"
    };
    [
        (
            "processor",
            format!(
                "{} x {} ({})",
                processors,
                model.unwrap_or_else(|| String::from("unknown")),
                cpu_level()
            ),
        ),
        (
            "host kernel",
            first_line("uname", &["-srm"]).unwrap_or_default(),
        ),
        ("test bed", test_bed.to_owned()),
        ("boxbuild", env!("CARGO_PKG_VERSION").to_owned()),
        ("rustc", rustc().unwrap_or_default()),
        ("libc", libc()),
        ("qemu", version("qemu-system-x86_64")),
        ("qemu-storage-daemon", version("qemu-storage-daemon")),
        ("virtiofsd", virtiofsd),
        ("firecracker", named("firecracker")),
        ("cloud-hypervisor", named("cloud-hypervisor")),
        ("passt", version("passt")),
        ("slirp4netns", version("slirp4netns")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
