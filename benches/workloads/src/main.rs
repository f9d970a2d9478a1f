//! Runs workloads, for a program that counts or profiles meanwhile.
//!
//!     boxbuild-workloads                 the names
//!     boxbuild-workloads NAME ROUNDS     one workload, for a profiler
//!     boxbuild-workloads --count         nanoseconds of one round, for all of them
//!
//! In the lab's counting mode a nanosecond is an instruction (docs/lab.md).

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use std::time::Instant;

use anyhow::{Context, Result};
use boxbuild_workloads::{Workload, find, workloads};

/// Rounds that warm up, and rounds that count.
const WARM_UP: u32 = 20;
const COUNTED: u32 = 100;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => {
            for workload in workloads() {
                println!("{}", workload.name);
            }
            Ok(())
        }
        Some("--count") => workloads().into_iter().try_for_each(count),
        Some(name) => {
            let workload = find(name).with_context(|| format!("no workload {name:?}"))?;
            let rounds: u64 = arguments.next().context("how many rounds?")?.parse()?;
            let mut running = (workload.make)()?;
            (0..rounds).try_for_each(|_| running.round())
        }
    }
}

/// Prints how long a round takes.
fn count(workload: Workload) -> Result<()> {
    let name = workload.name;
    let mut running = (workload.make)().context(name)?;
    for _ in 0..WARM_UP {
        running.round().context(name)?;
    }
    let start = Instant::now();
    for _ in 0..COUNTED {
        running.round().context(name)?;
    }
    let time = start.elapsed() / COUNTED;
    println!("{name} {}", time.as_nanos());
    Ok(())
}
