//! Does a path ROUNDS times, for something that counts meanwhile.
//!
//!     boxbuild-bench-paths                 the names
//!     boxbuild-bench-paths NAME ROUNDS

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        for path in boxbuild_bench_paths::paths() {
            println!("{}", path.name);
        }
        return Ok(());
    };
    let path = boxbuild_bench_paths::find(&name).with_context(|| format!("no path {name:?}"))?;
    let rounds: u64 = arguments.next().context("how many rounds?")?.parse()?;
    let mut workload = (path.make)()?;
    for _ in 0..rounds {
        workload.round()?;
    }
    Ok(())
}
