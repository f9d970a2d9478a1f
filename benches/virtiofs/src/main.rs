//! Measures how fast shares are, against virtiofsd, with the same client in the same run.
//!
//! Each server is a process of its own and serves its own directory on the same file system; the
//! client is the test client, which drives them over vhost-user. For each workload the servers
//! take turns, round by round and in alternating order, so that other load affects all of them.
//! Measured are operations per second as the client sees them, and the server process's processor
//! time per operation, which other load affects less.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

mod report;
mod servers;
mod workloads;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use report::{Report, Sample};
use servers::{Kind, Running};
use workloads::WORKLOADS;

/// Measures shares against virtiofsd.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves a directory to the listener that is the standard input (used by the measurement).
    #[command(hide = true)]
    Serve {
        /// The directory.
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// virtiofsd to compare with; without it, only boxbuild's server is measured.
    #[arg(long, value_name = "PROGRAM")]
    virtiofsd: Option<PathBuf>,
    /// How often each workload is measured.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Where to create the shared directories, about 200 MiB [default: /dev/shm, because the cost
    /// of a disk's file system would hide that of the servers].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// User to run all servers as (needs root) [default: the calling user].
    #[arg(long)]
    uid: Option<u32>,
    /// Only workloads whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// File for the results.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Command::Serve { dir }) = options.command {
        return servers::serve(&dir);
    }
    measure(&options.run)
}

fn measure(run: &Run) -> Result<()> {
    let base = run.dir.clone().unwrap_or_else(|| PathBuf::from("/dev/shm"));
    let work = tempfile::Builder::new()
        .prefix("boxbuild-bench-")
        .tempdir_in(&base)
        .with_context(|| format!("cannot create a directory in {}", base.display()))?;
    let mut running = Vec::new();
    for kind in Kind::ALL {
        if kind == Kind::Ours || run.virtiofsd.is_some() {
            match Running::start(kind, run.virtiofsd.as_deref(), work.path(), run.uid) {
                Ok(server) => running.push(server),
                // A sandbox that this machine does not allow must not end the comparison.
                Err(error) if kind == Kind::Sandboxed => {
                    eprintln!("skipped: {}: {error:#}", kind.name());
                }
                Err(error) => return Err(error),
            }
        }
    }
    let mut report = Report::new(running.iter().map(|server| server.kind.name()));
    for workload in WORKLOADS {
        if run
            .only
            .as_ref()
            .is_some_and(|only| !workload.name.contains(only))
        {
            continue;
        }
        let mut samples = vec![Vec::new(); running.len()];
        // The first round warms up and does not count.
        for round in 0..=run.rounds {
            let mut order: Vec<_> = (0..running.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let sample = Sample::take(&mut running[index], workload)?;
                if round > 0 {
                    samples[index].push(sample);
                }
            }
        }
        report.add(workload, &samples);
        report.print_last();
    }
    if let Some(path) = &run.json {
        let file = std::fs::File::create(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &report)?;
    }
    Ok(())
}
