//! Measures the guest's network: one TCP stream each way and short connections, through
//! boxbuild's NAT, passt and libslirp, with the same client in the same run.
//!
//! The guest is a network namespace with a TAP interface, so its TCP is Linux' own. Behind the TAP
//! is boxbuild's NAT in a process of its own, pasta (passt with a TAP), or slirp4netns (libslirp
//! with a TAP). Everything runs in new namespaces, without root (docs/benchmarks.md).

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

mod backend;
mod namespaces;
mod nat;
mod report;
mod tap;
mod traffic;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use backend::{Backend, Kind};
use namespaces::HostNetwork;
use report::{Report, Row};
use traffic::{Measurement, Server, Workload};

/// Measures the guest's network against passt and libslirp.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// How often each workload is measured.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a stream lasts, in milliseconds.
    #[arg(long, default_value_t = 1500)]
    millis: u64,
    /// Only workloads whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// File for the results.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the TAP that is the standard input (used by the measurement).
    #[command(hide = true)]
    Serve,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Command::Serve) = options.command {
        return nat::serve();
    }
    let report = measure(&options)?;
    for skipped in &report.skipped {
        println!("skipped: net: {}: {}", skipped.what, skipped.reason);
    }
    options
        .json
        .as_deref()
        .map_or(Ok(()), |path| write(&report, path))
}

fn write(report: &Report, path: &Path) -> Result<()> {
    let file =
        std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(serde_json::to_writer_pretty(file, report)?)
}

fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let host = match HostNetwork::enter() {
        Ok(host) => host,
        Err(error) => {
            report.skip("all", format!("no namespaces of its own: {error:#}"));
            return Ok(report);
        }
    };
    let mut kinds = Vec::new();
    for kind in Kind::ALL {
        match Backend::start(kind, &host).and_then(|backend| backend.version()) {
            Ok(version) => {
                println!("{}: {version}", kind.name());
                report.versions.insert(kind.name(), version);
                kinds.push(kind);
            }
            Err(error) => report.skip(kind.name(), format!("{error:#}")),
        }
    }
    if kinds.first() != Some(&Kind::Ours) {
        return Ok(report);
    }
    let server = Server::start(&host)?;
    for workload in Workload::all(options.millis) {
        if workload.name().contains(&options.only) {
            let row = rounds(
                &host,
                &server,
                workload,
                kinds.clone(),
                options.rounds,
                &mut report,
            )?;
            row.print();
            report.rows.push(row);
        }
    }
    Ok(report)
}

/// Runs all rounds of a workload. A peer that fails is left out, and the report says so.
fn rounds(
    host: &HostNetwork,
    server: &Server,
    workload: Workload,
    mut kinds: Vec<Kind>,
    rounds: usize,
    report: &mut Report,
) -> Result<Row> {
    'again: loop {
        let mut measured = Vec::new();
        // The first round warms up.
        for round in 0..=rounds {
            match one_round(host, server, workload, &kinds, round) {
                Ok(round) => measured.push(round),
                Err((Kind::Ours, error)) => return Err(error.context("boxbuild's NAT")),
                Err((kind, error)) => {
                    report.skip(kind.name(), format!("{}: {error:#}", workload.name()));
                    kinds.retain(|known| *known != kind);
                    continue 'again;
                }
            }
        }
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        let measured = measured.get(1..).unwrap_or_default();
        return Ok(Row::new(workload, &names, measured));
    }
}

/// Runs each kind in a guest of its own, beginning with another one in each round. Errors name
/// the kind.
fn one_round(
    host: &HostNetwork,
    server: &Server,
    workload: Workload,
    kinds: &[Kind],
    round: usize,
) -> Result<Vec<Measurement>, (Kind, anyhow::Error)> {
    let mut measured = vec![Measurement::default(); kinds.len()];
    for turn in 0..kinds.len() {
        let index = (turn + round) % kinds.len();
        let kind = kinds[index];
        let one = Backend::start(kind, host).and_then(|backend| workload.run(&backend, server));
        measured[index] = one.map_err(|error| (kind, error))?;
    }
    Ok(measured)
}
