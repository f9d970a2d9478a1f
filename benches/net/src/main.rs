//! Measures the guest's network: one TCP stream each way and short connections, through
//! boxbuild's NAT, passt and libslirp, with the same client in the same run.
//!
//! The guest is a network namespace with a TAP interface, so its TCP is Linux' own. Behind the TAP
//! is our NAT in a process of its own, pasta (passt with a TAP), or slirp4netns (libslirp with a
//! TAP). All of it happens in namespaces of its own, without root (docs/benchmarks.md).

mod backend;
mod ours;
mod tap;
mod traffic;
mod world;

use anyhow::Result;
use clap::{Parser, Subcommand};

use backend::{Backend, Kind};
use traffic::{Measured, Server, Workload};
use world::World;

/// Measures the guest's network against passt and libslirp.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// How often each workload is measured.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a stream flows, in milliseconds.
    #[arg(long, default_value_t = 1500)]
    millis: u64,
    /// Only workloads whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves a TAP: what the bench starts by itself.
    #[command(hide = true)]
    Serve {
        /// Descriptor of the TAP.
        tap: i32,
    },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Command::Serve { tap }) = options.command {
        return ours::serve(tap);
    }
    let world = match World::enter() {
        Ok(world) => world,
        Err(error) => {
            println!("skipped: net: no namespaces of its own: {error:#}");
            return Ok(());
        }
    };
    let mut kinds = Vec::new();
    for kind in Kind::ALL {
        match Backend::start(kind, &world).and_then(|backend| backend.version()) {
            Ok(version) => {
                println!("{}: {version}", kind.name());
                kinds.push(kind);
            }
            Err(error) => println!("skipped: net: {}: {error:#}", kind.name()),
        }
    }
    let Some((&ours, peers)) = kinds
        .split_first()
        .filter(|(first, _)| **first == Kind::Ours)
    else {
        println!("skipped: net: boxbuild's own NAT does not work here");
        return Ok(());
    };
    let server = Server::start(&world)?;
    for workload in Workload::all(options.millis) {
        if workload.name().contains(&options.only) {
            let mut rounds = Vec::new();
            // The first round warms up.
            for round in 0..=options.rounds {
                rounds.push(one_round(&world, &server, workload, &kinds, round)?);
            }
            report(workload, ours, peers, rounds.get(1..).unwrap_or_default());
        }
    }
    Ok(())
}

/// Each kind in a guest of its own, beginning with another one each time.
fn one_round(
    world: &World,
    server: &Server,
    workload: Workload,
    kinds: &[Kind],
    round: usize,
) -> Result<Vec<Measured>> {
    let mut measured = vec![Measured::default(); kinds.len()];
    for turn in 0..kinds.len() {
        let index = (turn + round) % kinds.len();
        let backend = Backend::start(kinds[index], world)?;
        measured[index] = workload.run(&backend, server)?;
    }
    Ok(measured)
}

fn report(workload: Workload, ours: Kind, peers: &[Kind], rounds: &[Vec<Measured>]) {
    let unit = workload.unit();
    let rates = |index: usize| rounds.iter().map(move |round| round[index].rate);
    let costs = |index: usize| rounds.iter().map(move |round| round[index].cost());
    println!("\n{}", workload.name());
    println!(
        "  {:<18} {:>9.2} {unit}, processor {:>6.0} us a {}",
        ours.name(),
        median(rates(0)),
        median(costs(0)),
        workload.piece()
    );
    for (index, peer) in (1..).zip(peers) {
        let mut ratios: Vec<f64> = rates(0).zip(rates(index)).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "  {:<18} {:>9.2} {unit}, processor {:>6.0} us a {}; boxbuild is {:.2} times as fast \
             ({:.2}-{:.2}), and takes {:.2} times the processor",
            peer.name(),
            median(rates(index)),
            median(costs(index)),
            workload.piece(),
            median(ratios.iter().copied()),
            ratios.first().unwrap_or(&f64::NAN),
            ratios.last().unwrap_or(&f64::NAN),
            median(costs(0)) / median(costs(index)),
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
