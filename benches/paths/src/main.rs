//! Does paths, for something that counts meanwhile.
//!
//!     boxbuild-bench-paths                 the names
//!     boxbuild-bench-paths NAME ROUNDS     one path, for a profiler
//!     boxbuild-bench-paths --count         nanoseconds of one round, for all of them
//!
//! In the lab's counting mode a nanosecond is an instruction (docs/lab.md).

use std::time::Instant;

use anyhow::{Context, Result};
use boxbuild_bench_paths::{Path, find, paths};

/// Rounds that warm up, and rounds that count.
const WARM_UP: u32 = 20;
const COUNTED: u32 = 100;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => {
            for path in paths() {
                println!("{}", path.name);
            }
            Ok(())
        }
        Some("--count") => paths().into_iter().try_for_each(count),
        Some(name) => {
            let path = find(name).with_context(|| format!("no path {name:?}"))?;
            let rounds: u64 = arguments.next().context("how many rounds?")?.parse()?;
            let mut workload = (path.make)()?;
            (0..rounds).try_for_each(|_| workload.round())
        }
    }
}

/// Prints how long a round takes.
fn count(path: Path) -> Result<()> {
    let mut workload = (path.make)().context(path.name)?;
    for _ in 0..WARM_UP {
        workload.round().context(path.name)?;
    }
    let start = Instant::now();
    for _ in 0..COUNTED {
        workload.round().context(path.name)?;
    }
    let time = start.elapsed() / COUNTED;
    println!("{} {}", path.name, time.as_nanos());
    Ok(())
}
